"""What runs know, and what they leave to each other in one working directory."""

from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.calls.registry import call
from fuzz.campaign.session import RunOptions, Session
from fuzz.campaign.verdict import any_counts
from fuzz.case import Case, Expectation
from fuzz.findings import cases, states
from fuzz.findings.bucket import Bucket
from fuzz.lib.files import WriteError

KERNEL = kernel_named("linux-6.18")
BUCKET = Bucket("page-count", "mremap")
LONG = Case((call("touch", 0, 0x5000), call("peek", 0, 0x5000)), kernel=KERNEL.name)
MIDDLE = Case((call("touch", 0, 0x5000),), kernel=KERNEL.name)
SHORT = Case((call("touch", 0, 0x1000),), kernel=KERNEL.name)


def opened(tmp_path: Path) -> Session:
    """A session in the one working directory, with no seed to be told."""
    return Session(RunOptions(tmp_path, seed=1))


def test_of_two_runs_the_simpler_case_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        first.met(BUCKET, LONG, KERNEL)
        first.path(BUCKET).unlink()  # the second has looked just before
        second.met(BUCKET, LONG, KERNEL)
        (mine,), (theirs,) = first.queue, second.queue
        first.minimized(mine, SHORT)
        second.minimized(theirs, MIDDLE)
        assert first.ledger.cases.load(BUCKET) == SHORT
        assert theirs.case == MIDDLE


def test_the_minimal_case_takes_the_place_of_the_one_that_was_met(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.met(BUCKET, SHORT, KERNEL)
        (seen,) = session.queue
        session.minimized(seen, MIDDLE)  # told for larger tables
        assert session.ledger.cases.load(BUCKET) == MIDDLE


def test_what_is_not_minimal_expects_the_worst_that_it_shows(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.found(BUCKET, LONG, KERNEL, "run", worst="others-untouched")
        case = session.ledger.cases.load(BUCKET)
        assert case is not None
        assert case.expects == (Expectation(KERNEL.name, "others-untouched"),)


def kept(session: Session) -> Case:
    """The case of the finding, without the mark that it is not minimal."""
    case = session.ledger.cases.load(BUCKET)
    assert case is not None
    return cases.minimal(case)


def test_what_another_run_has_found_is_old(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        first.met(BUCKET, MIDDLE, KERNEL)
        second.met(BUCKET, SHORT, KERNEL)
        assert second.findings[BUCKET].old
        assert not second.queue
        assert kept(first) == MIDDLE


def test_a_program_of_fewer_calls_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.met(BUCKET, LONG, KERNEL)
        session.minimized(session.queue[0], LONG)
    with opened(tmp_path) as session:
        session.met(BUCKET, LONG, KERNEL)
        assert not session.queue
        session.met(BUCKET, MIDDLE, KERNEL)
        (seen,) = session.queue
        assert seen.old and kept(session) == MIDDLE
        session.minimized(seen, SHORT)
        assert session.ledger.cases.load(BUCKET) == SHORT


def test_what_a_stopped_run_has_not_minimized_the_next_one_does(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.met(BUCKET, LONG, KERNEL)
        assert cases.NOT_MINIMIZED in session.path(BUCKET).read_text()
    with opened(tmp_path) as session:
        (seen,) = session.queue
        assert seen.old and seen.left and not session.findings
        session.met(BUCKET, LONG, KERNEL)
        assert session.findings[BUCKET] is seen and list(session.queue) == [seen]
        session.minimized(seen, SHORT)
        assert session.ledger.cases.load(BUCKET) == SHORT
    with opened(tmp_path) as session:
        assert not session.queue


def test_hits_are_counted_once_for_each_round(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.met(BUCKET, LONG, KERNEL)
        for by, hits in (("1", 1), ("2", 1), ("1", 4), ("1", 4), ("2", 3)):
            session.record(BUCKET, KERNEL.name, hits, by=by, execs=hits)
        assert session.findings[BUCKET].hits[KERNEL.name] == 7
        (found,) = session.ledger.list()
        assert found.count == 7


def test_unknown_findings_are_minimized_first(tmp_path: Path) -> None:
    known = BUCKET._replace(defect="B-01")
    with opened(tmp_path) as session:
        for bucket in (known, BUCKET, BUCKET._replace(call="munmap")):
            session.met(bucket, LONG, KERNEL)
        assert [seen.bucket.call for seen in session.queue] == ["mremap", "munmap", "mremap"]
        assert session.queue[-1].bucket == known


def test_a_damaged_finding_is_told_and_kept_anew_but_not_new(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.met(BUCKET, LONG, KERNEL)
        path = session.path(BUCKET)
    path.write_text("touch(0x0,\n")
    (tmp_path / "ledger.sqlite").write_text("nonsense")
    with opened(tmp_path) as session:
        case, ledger = session.repairs
        assert str(path) in case and "Moved to" in case
        assert "ledger.sqlite" in ledger and "Moved to" in ledger
        session.met(BUCKET, MIDDLE, KERNEL)
        (seen,) = session.queue
        assert seen.old
        assert kept(session) == MIDDLE
    with opened(tmp_path) as session:
        assert not session.repairs


def test_what_could_not_be_kept_is_tried_again_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: str | bytes) -> None:
        raise WriteError(path, "No space left on device")

    with opened(tmp_path) as session:
        with monkeypatch.context() as patch:
            patch.setattr(cases, "write_atomic", full)
            session.met(BUCKET, LONG, KERNEL)
            assert "touch(0x0, 0x5000)" in capsys.readouterr().out  # so it is not lost
            (problem,) = session.keep_rest()
            assert BUCKET.name in problem and "No space left on device" in problem
        assert session.keep_rest() == []
        assert kept(session) == LONG


@pytest.mark.parametrize(
    ("state", "becomes", "counted"),
    [
        (None, states.OPEN, False),
        (states.ACCEPTED, states.ACCEPTED, False),
        (states.FIXED, states.REOPENED, True),
        (states.REOPENED, states.REOPENED, True),
    ],
)
def test_what_is_met_again_counts_if_it_had_been_fixed(
    tmp_path: Path,
    state: str | None,
    becomes: str,
    counted: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with opened(tmp_path) as session:
        session.met(BUCKET, SHORT, KERNEL)
        assert session.findings[BUCKET].state == states.NEW and any_counts(session)
        session.record(BUCKET, KERNEL.name, 1, by="a round", execs=1)
    with opened(tmp_path) as session:
        if state is not None:
            session.ledger.states.change(BUCKET, state)
        for _ in range(2):
            session.met(BUCKET, SHORT, KERNEL)
        session.record(BUCKET, KERNEL.name, 1, by="a round", execs=1)
        assert session.findings[BUCKET].state == becomes
        assert [found.state for found in session.ledger.list()] == [becomes if state else "new"]
        assert any_counts(session) is counted
    loud = capsys.readouterr().out.count(f"REOPENED {BUCKET.name}, fixed since")
    assert loud == (state == states.FIXED)


def test_an_accepted_finding_does_not_count_even_if_old_ones_do(tmp_path: Path) -> None:
    with Session(RunOptions(tmp_path, seed=1, count_old=True)) as session:
        session.ledger.states.change(BUCKET, states.ACCEPTED)
        session.met(BUCKET, SHORT, KERNEL)
        assert not any_counts(session)
