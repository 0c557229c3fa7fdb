"""Fuzzing processes as their round sees them: what they told, what they died of."""

from pathlib import Path
from typing import Any

import pytest

from fuzz.campaign import worker as worker_module
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.round import Artifact, Crash, End, Report
from fuzz.campaign.session import RunOptions, Session
from fuzz.campaign.worker import Place, Worker, died_of
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import load
from tests.lib.rounds import ROUND


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
def session(tmp_path: Path) -> Session:
    return Session(RunOptions(tmp_path, seed=7, runs=50))


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """One whose process is none."""
    monkeypatch.setattr(worker_module, "Child", Told)
    return Worker(ROUND, Place(tmp_path, tmp_path, tmp_path, tmp_path / "libfuzzer.log", True))


def child(worker: Worker) -> Told:
    """Its process."""
    assert isinstance(worker.child, Told)
    return worker.child


def test_the_flags_of_the_user_win(worker: Worker) -> None:
    flags = child(worker).flags
    assert "-seed=7" in flags and "-runs=50" in flags and "-max_len=65" in flags
    # libFuzzer heeds the last one of equal flags.
    last = {flag.partition("=")[0]: flag.partition("=")[2] for flag in flags}
    assert (last["-timeout"], last["-reload"]) == ("1", "3")


def test_what_a_process_tells_is_a_report(worker: Worker) -> None:
    assert worker.report() is None
    bucket = ["page-count", "mremap", ""]
    child(worker).said += [
        {"event": "start", "fixed_addresses": False},
        {
            "event": "stats",
            **{"execs": 10, "cpu_seconds": 1.5, "cells": {"linux-6.1": 3}},
            "hits": [[bucket, "linux-6.1", 2]],
        },
        {
            **{"event": "finding", "bucket": bucket, "worst": "page-count", "execs": 9},
            **{"kernels": ["linux-6.1", "linux-6.18"], "geometry": "small"},
            **{"input": "00ff", "cpu_seconds": 1.0},
        },
        {"event": "new", "input": "0102"},
    ]
    told = worker.report()
    assert told is not None and told.end is None
    assert (told.round, told.execs, told.random_addresses) == (ROUND.id, 10, True)
    assert told.cells == (("linux-6.1", 3),)
    assert told.hits == ((Bucket("page-count", "mremap"), "linux-6.1", 2),)
    assert [(met.kernel, met.input) for met in told.findings] == [
        ("linux-6.1", b"\x00\xff"),
        ("linux-6.18", b"\x00\xff"),
    ]
    assert told.new == (b"\x01\x02",)
    assert Report.parsed(told.plain(), ROUND) == told
    worker.place.log.write_text("stat::number_of_executed_units: 12\nDONE\n")
    child(worker).talking = False
    last = worker.report()
    assert last is not None and last.end == End()
    assert (last.execs, last.findings) == (12, ())
    assert worker.ended and worker.report() is None


def test_what_a_process_died_of(tmp_path: Path) -> None:
    log = tmp_path / "libfuzzer.log"
    log.write_text("out of memory (used: 2049Mb)\n")
    assert died_of(0, log, asked=False) == End()
    assert died_of(-9, log, asked=True) == End()
    for status, why in (
        (71, "it ran out of memory"),
        (3, "exit status 3"),
        (-11, "killed by SIGSEGV"),
    ):
        end = died_of(status, log, asked=False)
        assert (end.why, end.outside) == (why, False)
        assert end.details.endswith("libfuzzer.log:\n  out of memory (used: 2049Mb)")
    assert died_of(-9, log, asked=False).outside


def test_crashes_are_kept_once_and_told(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with session:
        (session.crashes / "crash-earlier").write_bytes(b"1")
        crashes = Crashes(session)
        assert not crashes.any
        (session.crashes / "slow-unit-1").write_bytes(b"2")
        (session.crashes / "oom-1").write_bytes(b"3" * 16)
        crashes.of_round(End("it ran out of memory", "x"), goes_on=True)
        crashes.of_round(End("exit status 3", "y"), goes_on=False)
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
        crashes = Crashes(session)
        crashes.of_round(End("killed by SIGKILL", "", outside=True), goes_on=True)
        assert not crashes.any
        shown = capsys.readouterr().out
        assert shown == (
            "The fuzzing process was ended from outside (killed by SIGKILL); another one goes on\n"
        )


def test_what_an_empty_artifact_stands_for_is_not_replayed(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with session:
        crashes = Crashes(session)
        crashes.of_round(
            End("exit status 3", "", artifacts=(Artifact("crash", b""),)), goes_on=True
        )
        crashes.of_input(Crash(b"", "", "KeyError: 1", "Traceback"))
    shown = capsys.readouterr().out
    assert "exit status 3" in shown and "KeyError: 1" in shown
    assert "replay" not in shown


def test_a_crash_that_every_round_meets_is_told_once(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with session:
        crashes = Crashes(session)
        for data in (b"1", b"2"):
            crashes.of_input(Crash(data, "linux-6.18", "KeyError: 1", "Traceback"))
    assert capsys.readouterr().out.count("KeyError: 1") == 1
