"""Fuzzing processes as their run sees them: what they counted, what they died of."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fuzz.campaign import worker as worker_module
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.meter import Meter
from fuzz.campaign.session import RunOptions, Session
from fuzz.campaign.worker import Failure, Worker
from fuzz.campaign.workers import MOST_FRUITLESS, Workers
from fuzz.forms.text import load


class Told:
    """A child that says what it is told to."""

    def __init__(self, setting: object, flags: list[str], log: Path) -> None:
        self.flags, self.log = flags, log
        self.said: list[dict[str, Any]] = []
        self.talking, self.killed, self.status = True, False, 0

    def close(self) -> int:
        return self.status

    def events(self) -> list[dict[str, Any]]:
        said, self.said = self.said, []
        return said


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session whose workers are no processes."""
    monkeypatch.setattr(worker_module, "Child", Told)
    return Session(RunOptions(tmp_path, seed=7, runs=50, libfuzzer=("-timeout=1",)))


def stats(process: int, execs: int, cells: int) -> dict[str, Any]:
    """An event."""
    return {"event": "stats", "pid": process, "execs": execs, "cells": cells, "hits": []}


def say(worker: Worker, *events: dict[str, Any]) -> None:
    """Let it say this, and listen."""
    assert isinstance(worker.child, Told)
    worker.child.said += events
    assert worker.events() == list(events)


def end(worker: Worker, status: int) -> None:
    """Let it end."""
    assert isinstance(worker.child, Told)
    worker.child.talking, worker.child.status = False, status


def test_each_worker_has_a_seed_and_a_log_of_its_own(session: Session) -> None:
    with session:
        first, second = (Worker(session, 4, number) for number in range(2))
    assert first.child.flags[0] == "-seed=7" and second.child.flags[0] == "-seed=8"  # type: ignore[attr-defined]
    assert [one.log.name for one in (first, second)] == ["libfuzzer.log", "libfuzzer-1.log"]
    # libFuzzer heeds the last one of equal flags.
    flags: list[str] = first.child.flags  # type: ignore[attr-defined]
    assert [flag for flag in flags if flag.startswith("-timeout")] == ["-timeout=30", "-timeout=1"]


def test_the_executions_of_all_workers_and_of_their_copies_add_up(session: Session) -> None:
    with session:
        workers = [Worker(session, 4, number) for number in range(2)]
        say(workers[0], stats(1, 10, 5), stats(2, 20, 9), stats(1, 11, 6))
        say(workers[1], stats(3, 100, 7))
        Meter(session).read(workers, None)
    assert (workers[0].execs, workers[0].cells) == (31, 9)
    assert (session.progress.execs, session.progress.cells) == (131, 9)
    workers[1].log.write_text("stat::number_of_executed_units: 123\nDONE\n")
    assert [one.all_execs() for one in workers] == [31, 123]


def test_what_a_worker_died_of(session: Session) -> None:
    with session:
        worker = Worker(session, 4)
    worker.log.write_text("out of memory (used: 2049Mb)\n")
    assert worker.failure(0, asked=False) is None
    assert worker.failure(-9, asked=True) is None
    for status, why in (
        (71, "it ran out of memory"),
        (3, "exit status 3"),
        (-11, "killed by SIGSEGV"),
    ):
        failure = worker.failure(status, asked=False)
        assert failure is not None
        assert failure.why == why
        assert failure.details.endswith("libfuzzer.log:\n  out of memory (used: 2049Mb)")


def test_crashes_are_kept_once_and_told(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with session:
        (session.crashes / "crash-earlier").write_bytes(b"1")
        crashes = Crashes(session)
        assert not crashes.any
        (session.crashes / "slow-unit-1").write_bytes(b"2")
        (session.crashes / "oom-1").write_bytes(b"3" * 16)
        crashes.of_worker(Failure("it ran out of memory", "x"), goes_on=True)
        crashes.of_worker(Failure("exit status 3", "y"), goes_on=False)
    assert crashes.any
    shown = capsys.readouterr().out
    assert shown.count("The fuzzing process failed, which is a defect of pmdfuzz: ") == 2
    assert "it ran out of memory; another one goes on\n" in shown
    assert "exit status 3; the run ends\n" in shown
    (kept,) = session.crashes.glob("*.case")
    assert shown.count(f"pmdfuzz replay {kept}") == 1
    assert load(kept).comments == ("it ran out of memory",)


def test_who_is_killed_from_outside_is_no_defect(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with session:
        worker, crashes = Worker(session, 4), Crashes(session)
        failure = worker.failure(-9, asked=False)
        assert failure is not None and failure.outside
        crashes.of_worker(failure, goes_on=True)
        assert not crashes.any
        shown = capsys.readouterr().out
        assert shown == (
            "The fuzzing process was ended from outside (killed by SIGKILL); another one goes on\n"
        )
        worker.child.killed = True  # by us, as it took too long to end
        assert worker.failure(-9, asked=False) is None


def started(workers: Workers) -> list[tuple[str, str]]:
    """Seed and number of executions of each fuzzing process, as libFuzzer is told."""
    return [
        (worker.child.flags[0], next(flag for flag in worker.child.flags if "-runs=" in flag))  # type: ignore[attr-defined]
        for worker in workers.all
    ]


def test_a_process_that_dies_is_followed_by_another(session: Session) -> None:
    with session:
        workers = Workers(session, Crashes(session), 4)
        for done in (20, 30):
            workers.replace(asked=False)  # it is still there
            say(workers.all[-1], stats(len(workers.all), done, 5))
            end(workers.all[-1], -9)
            workers.replace(asked=False)
        workers.replace(asked=False)  # no executions are left
    assert started(workers) == [("-seed=7", "-runs=50"), ("-seed=8", "-runs=30")]


def test_processes_that_do_nothing_but_die_end_the_run(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with session:
        crashes = Crashes(session)
        workers = Workers(session, crashes, 4)
        for number in range(8):
            if number == 1:
                say(workers.all[-1], stats(2, 1, 1))
            end(workers.all[-1], -9)
            workers.replace(asked=False)
    assert len(workers.all) == 2 + MOST_FRUITLESS
    assert crashes.any
    assert "5 fuzzing processes in a row have died" in capsys.readouterr().out


def test_a_process_that_was_asked_to_end_is_not_followed(session: Session) -> None:
    with session:
        workers = Workers(session, Crashes(session), 4)
        end(workers.all[-1], 0)
        workers.replace(asked=True)
    assert len(workers.all) == 1


def test_the_time_of_a_run_is_that_of_a_clock_that_nobody_sets(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    session.options = replace(session.options, seconds=60)
    with session:
        workers = Workers(session, Crashes(session), 4)
        assert not any("max_total_time" in flag for flag in workers.all[0].child.flags)  # type: ignore[attr-defined]
        monkeypatch.setattr(time, "time", lambda: 1e12)
        assert not workers.over
        now += 60
        assert workers.over
        end(workers.all[-1], 0)
        workers.replace(asked=False)
    assert len(workers.all) == 1
