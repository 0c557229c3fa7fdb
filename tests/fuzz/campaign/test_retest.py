"""Findings are asked again whether they show: what is fixed, reopened, still there, unjudged."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.campaign.retest import GONE, SHOWN, UNJUDGED, Retest, counted, retest_all, summed_up
from fuzz.campaign.session import RunOptions, Session
from fuzz.campaign.verdict import any_counts
from fuzz.findings.bucket import Bucket
from fuzz.findings.ledger import Ledger
from fuzz.findings.states import ACCEPTED, FIXED, OPEN, REOPENED
from fuzz.forms.text import parse

CASE = parse("@kernel linux-6.1\nexecve_stack(0xbfb00000, 0xc0000000, 0x400000)\n")
KNOWN = Bucket("dest-entry-none", "execve_stack", "B-01")
UNKNOWN = KNOWN._replace(defect="")
FIXED_IN = "linux-6.12"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, lambda: 1000.0) as ledger:
        yield ledger


def retested(ledger: Ledger) -> list[Retest]:
    return list(retest_all(ledger, "program"))


def states(ledger: Ledger) -> list[str]:
    return [finding.state for finding in ledger.list()]


def test_what_shows_stays_what_it_is(ledger: Ledger) -> None:
    ledger.cases.save(KNOWN, CASE)
    assert retested(ledger) == [Retest(KNOWN, SHOWN)]
    assert states(ledger) == [OPEN]
    ledger.states.change(KNOWN, ACCEPTED, "it is old")
    assert retested(ledger) == [Retest(KNOWN, SHOWN)]
    assert states(ledger) == [ACCEPTED]


@pytest.mark.parametrize("before", [OPEN, ACCEPTED, REOPENED])
def test_what_does_not_show_is_fixed_once(ledger: Ledger, before: str) -> None:
    ledger.cases.save(KNOWN, replace(CASE, kernel=FIXED_IN))
    ledger.states.change(KNOWN, before)
    (fixed,) = retested(ledger)
    assert fixed == Retest(KNOWN, GONE, change=FIXED)
    assert str(fixed) == f"fixed       {KNOWN.name}"
    assert retested(ledger) == [Retest(KNOWN, GONE)]
    assert states(ledger) == [FIXED]


def test_what_was_fixed_and_shows_is_reopened(ledger: Ledger) -> None:
    ledger.cases.save(KNOWN, CASE)
    ledger.states.change(KNOWN, FIXED)
    (reopened,) = retested(ledger)
    assert str(reopened) == f"REOPENED    {KNOWN.name}"
    assert states(ledger) == [REOPENED]
    assert retested(ledger) == [Retest(KNOWN, SHOWN)]


def test_another_kernel_that_met_it_is_asked_too(ledger: Ledger) -> None:
    ledger.cases.save(KNOWN, replace(CASE, kernel=FIXED_IN))
    ledger.record(KNOWN, "linux-no-more", run_id="r", executions=1)
    assert [one.outcome for one in retested(ledger)] == [GONE]
    ledger.record(KNOWN, "linux-6.1", run_id="r", executions=1)
    assert [one.change for one in retested(ledger)] == [REOPENED]


def test_what_is_another_finding_now_says_which(ledger: Ledger) -> None:
    ledger.cases.save(UNKNOWN, CASE)
    (one,) = retested(ledger)
    assert (one.change, one.why) == (FIXED, f"its case shows {KNOWN.name} now")
    assert ledger.list()[0].change is not None
    assert ledger.list()[0].change.why == one.why


def test_what_differs_from_another_kernel_is_compared(ledger: Ledger) -> None:
    own = "linux-6.18-realign-realign_stack"
    bucket = Bucket("differs-dest-entry-none-realign-realign_stack", "execve_stack")
    ledger.cases.save(bucket, replace(CASE, kernel=own, like="linux-6.18"))
    other = bucket._replace(rule="differs-result-realign-realign_stack")
    ledger.cases.save(other, replace(CASE, kernel=own, like="linux-6.18"))
    assert [one.outcome for one in retested(ledger)] == [SHOWN, GONE]


def test_what_cannot_be_judged_keeps_its_state(ledger: Ledger) -> None:
    machine = Bucket("machine-differs", "mremap")
    ledger.cases.save(machine, CASE)
    ledger.states.change(machine, FIXED)
    assert retested(ledger) == [Retest(machine, UNJUDGED, "only a machine shows it")]
    assert states(ledger) == [FIXED]


def test_they_are_summed_up(ledger: Ledger) -> None:
    done = [Retest(KNOWN, SHOWN, change=REOPENED), Retest(KNOWN, GONE), Retest(KNOWN, SHOWN)]
    told = "findings retested: 2 shown, 1 gone; of these 1 reopened"
    assert summed_up(counted(done)) == told
    assert summed_up(counted([])) == "findings retested: none"


def test_only_all_of_them_count_as_a_retest(ledger: Ledger) -> None:
    ledger.cases.save(KNOWN, CASE)
    ledger.cases.save(UNKNOWN, CASE)
    next(retest_all(ledger, "program"))  # Ctrl-C
    assert ledger.states.last_retest() is None
    retested(ledger)
    assert ledger.states.last_retest() == "program"


# --- As a run starts ------------------------------------------------------------------------------


def opened(tmp_path: Path, **more: bool) -> Session:
    return Session(RunOptions(tmp_path, seed=1, **more))


def test_a_changed_program_retests_as_it_starts(
    tmp_path: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.cases.save(KNOWN, CASE)
    ledger.states.change(KNOWN, FIXED)
    for told in (
        f"REOPENED    {KNOWN.name}\nfindings retested: 1 shown; of these 1 reopened\n",
        "",
    ):
        with opened(tmp_path, count_known=True) as session:
            session.retest()
            assert capsys.readouterr().out == told
            assert any_counts(session) is bool(told)


def test_a_known_defect_that_is_reopened_counts_if_asked(tmp_path: Path, ledger: Ledger) -> None:
    ledger.cases.save(KNOWN, CASE)
    ledger.states.change(KNOWN, FIXED)
    with opened(tmp_path) as session:
        session.retest()
        assert session.reopened == [KNOWN]
        assert not any_counts(session)
