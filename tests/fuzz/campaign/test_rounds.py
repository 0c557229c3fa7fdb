"""What a run lets be done, and that what comes back counts once."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.campaign.crashes import Crashes
from fuzz.campaign.executor import parted
from fuzz.campaign.meter import Meter
from fuzz.campaign.round import Cells, End
from fuzz.campaign.rounds import MOST_FRUITLESS, Rounds
from fuzz.campaign.session import RunOptions, Session
from tests.lib.rounds import Planned

KILLED = End("killed by SIGKILL", "", outside=True)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(RunOptions(tmp_path, seed=7, runs=50, kernels=("linux-6.1", "linux-6.18")))


def begun(session: Session, executor: Planned) -> Rounds:
    return Rounds(session, Crashes(session), executor, 4)


def hear(rounds: Rounds, executor: Planned) -> list[int]:
    """Listen.  Returns: the executions of each report that counts."""
    reports, _ = parted(executor.heard(0.0))
    return [report.execs for _, report in rounds.take(reports)]


def test_rounds_share_seeds_executions_and_kernels_out(session: Session) -> None:
    executor = Planned(3)
    with session:
        begun(session, executor)
    assert [task.seed for task in executor.begun] == [7, 8, 9]
    assert [task.runs for task in executor.begun] == [17, 17, 16]
    assert [task.kernels for task in executor.begun[:2]] == [("linux-6.1",), ("linux-6.18",)]
    assert len({task.id for task in executor.begun}) == 3


def test_seeds_are_seeds_of_libfuzzer_behind_the_greatest(session: Session) -> None:
    session.seed = (1 << 32) - 1
    executor = Planned(2)
    with session:
        begun(session, executor)
    assert [task.seed for task in executor.begun] == [(1 << 32) - 1, 1]


def test_the_executions_of_all_rounds_add_up(session: Session) -> None:
    executor = Planned(2)
    with session:
        rounds = begun(session, executor)
        executor.tell(0, execs=10, cells=(Cells("linux-6.1", 5),))
        executor.tell(1, execs=20, cells=(Cells("linux-6.1", 4), Cells("linux-6.18", 9)))
        executor.tell(0, execs=11, cells=(Cells("linux-6.1", 6),))
        assert hear(rounds, executor) == [10, 20, 11]
        Meter(session).read(rounds, [])
    assert (session.progress.execs, session.progress.cells) == (31, 15)


def test_what_comes_twice_counts_once(session: Session) -> None:
    executor = Planned(1)
    with session:
        rounds = begun(session, executor)
        said = executor.tell(0, execs=20)
        executor.told.append(said)
        assert hear(rounds, executor) == [20]
        executor.tell(0, execs=50, end=End())
        executor.tell(0, execs=50, end=End())  # another has done it as well
        assert hear(rounds, executor) == [50]
        assert rounds.execs == 50 and not rounds.talking


def test_what_nobody_has_asked_for_does_not_count(session: Session) -> None:
    executor = Planned(1)
    with session:
        rounds = begun(session, executor)
        executor.told.append(replace(executor.tell(0, execs=20), round="another"))
        assert hear(rounds, executor) == [20]


def test_a_round_that_dies_is_followed_by_one_that_does_the_rest(session: Session) -> None:
    executor = Planned(1)
    with session:
        rounds = begun(session, executor)
        for number, done in enumerate((20, 30)):
            assert hear(rounds, executor) == []
            executor.tell(number, execs=done, end=KILLED)
            assert hear(rounds, executor) == [done]
        assert hear(rounds, executor) == []
    assert [(task.seed, task.runs) for task in executor.begun] == [(7, 50), (8, 30)]
    assert not rounds.talking


def test_executions_that_a_round_had_no_time_for_are_done_by_another(session: Session) -> None:
    executor = Planned(1)
    with session:
        rounds = begun(session, executor)
        executor.tell(0, execs=20, end=End())
        hear(rounds, executor)
        executor.tell(1, execs=30, end=End())
        hear(rounds, executor)
    assert [task.runs for task in executor.begun] == [50, 30]
    assert not rounds.talking


@pytest.mark.parametrize("end", [KILLED, End()])
def test_rounds_that_do_nothing_but_end_end_the_run(
    end: End, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = Planned(1)
    with session:
        crashes = Crashes(session)
        rounds = Rounds(session, crashes, executor, 4)
        for number in range(8):
            if number < len(executor.begun):
                executor.tell(number, execs=number == 1, end=end)
            hear(rounds, executor)
    assert len(executor.begun) == 2 + MOST_FRUITLESS
    assert crashes.any
    assert "5 fuzzing processes in a row have died" in capsys.readouterr().out


def test_a_round_that_was_asked_to_end_is_not_followed(session: Session) -> None:
    executor = Planned(1)
    with session:
        rounds = begun(session, executor)
        rounds.stop()
        assert executor.stopped
        executor.tell(0, execs=3, end=End())
        assert hear(rounds, executor) == [3]
    assert len(executor.begun) == 1


def test_rounds_follow_each_other_until_the_time_is_over(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of a clock that nobody sets."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    session.options = replace(session.options, seconds=90, runs=None)
    executor = Planned(1)
    with session:
        rounds = begun(session, executor)
        now += 60
        executor.tell(0, execs=3, end=End())
        assert hear(rounds, executor) == [3] and not executor.stopped
        assert [task.seconds for task in executor.begun] == [60.0, 30.0]
        now += 30
        executor.tell(1, execs=3, end=KILLED)
        assert hear(rounds, executor) == [3] and executor.stopped
    assert len(executor.begun) == 2


def test_who_does_not_see_the_corpus_gets_a_sample_and_reports_what_is_new(
    session: Session,
) -> None:
    executor = Planned(1, remote=True)
    (session.corpus / "old").write_bytes(b"old")
    (session.seeds / "seed").write_bytes(b"seed")
    with session:
        rounds = begun(session, executor)
        executor.tell(0, execs=3, inputs=(b"new", b"old"), end=End("killed by SIGKILL"))
        hear(rounds, executor)
    assert [task.sample for task in executor.begun] == [
        (b"seed", b"old"),
        (b"seed", b"old", b"new"),
    ]
    kept = [path.read_bytes() for path in session.corpus.iterdir()]
    assert sorted(kept) == [b"new", b"old"]
