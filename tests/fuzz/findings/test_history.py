"""Runs and minutes in the ledger: what they add up to, how they are thinned out, who is alive."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fuzz.findings import history
from fuzz.findings.history import About, Life, Minute, Standing
from fuzz.findings.ledger import Ledger
from fuzz.lib.processes import born
from tests.lib.clock import Clock
from tests.lib.constants import ROOT

ABOUT = About("2026 seed 1", ("linux-6.1", "linux-7.3"), ("x86-64", "small"), "fingerprint")
STANDING = Standing(10.0, 5000, 500.0, 40, 700, 2, 3, 990.5, "minimizing")
DAY = 86400


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0 * DAY)


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, clock) as ledger:
        yield ledger


def minutes(ledger: Ledger) -> list[Minute]:
    return [Minute(*row) for row in ledger._database.rows("SELECT * FROM minutes ORDER BY at")]


# --- Runs -----------------------------------------------------------------------------------------


def test_a_run_tells_where_it_stands(ledger: Ledger, clock: Clock) -> None:
    assert ledger.history.last_run() is None
    assert ledger.history.begin(ABOUT) == Life(0, 0.0, 0)
    run = ledger.history.last_run()
    assert run is not None
    assert (run.about, run.standing, run.pid) == (ABOUT, Standing(), os.getpid())
    clock.now += 10
    ledger.history.tell(STANDING)
    run = ledger.history.last_run()
    assert run is not None
    assert (run.began, run.at, run.ended) == (100.0 * DAY, 100.0 * DAY + 10, None)
    assert run.standing == STANDING
    assert run.in_progress(clock.now)
    clock.now += 1
    ledger.history.end(1)
    run = ledger.history.last_run()
    assert run is not None
    assert (run.ended, run.status) == (clock.now, 1)
    assert not run.in_progress(clock.now)


def test_it_tells_once_a_second_or_when_asked_to(ledger: Ledger, clock: Clock) -> None:
    def told() -> int:
        run = ledger.history.last_run()
        assert run is not None
        return run.standing.executions

    ledger.history.tell(STANDING)  # of no run
    ledger.history.begin(ABOUT)
    ledger.history.tell(replace(STANDING, executions=1))
    clock.now += 0.5
    ledger.history.tell(replace(STANDING, executions=2))
    assert told() == 1
    ledger.history.tell(replace(STANDING, executions=3), now=True)
    assert told() == 3
    clock.now += 1
    ledger.history.tell(replace(STANDING, executions=4))
    assert told() == 4


def test_runs_add_up_also_those_that_were_killed(tmp_path: Path, clock: Clock) -> None:
    for number in range(3):
        with Ledger.open(tmp_path, clock) as ledger:
            before = Life(number, 10.0 * number, 5000 * number)
            assert ledger.history.begin(ABOUT) == before
            ledger.history.tell(STANDING, now=True)
            run = ledger.history.last_run()
            assert run is not None and run.life == Life(
                number + 1, *(n + d for n, d in zip(before[1:], (10.0, 5000), strict=True))
            )
            if number == 1:
                ledger.history.end(0)


def test_many_runs_are_forgotten_but_not_what_they_add_up_to(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_MOST_RUNS", 3)
    for _ in range(8):
        ledger.history.begin(ABOUT)
        ledger.history.tell(STANDING, now=True)
    assert ledger._database.rows("SELECT count(*) FROM runs") == [(3,)]
    run = ledger.history.last_run()
    assert run is not None and run.life == Life(8, 80.0, 40000)


def test_a_killed_run_is_not_in_progress(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from fuzz.findings.history import About, Standing
from fuzz.findings.ledger import Ledger
history = Ledger.open(Path({str(tmp_path)!r})).history
history.begin(About("r", ("k",), ("g",), "p"))
history.tell(Standing(executions=7), now=True)
print("told", flush=True)
input()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "told\n"
        for alive in (True, False):
            reader = Ledger.reading(tmp_path)
            assert reader is not None
            run = reader.history.last_run()
            reader.close()
            assert run is not None and run.standing.executions == 7
            assert run.in_progress(run.at + 1e6) is alive
            if alive:
                process.communicate("die\n")


def test_another_process_of_the_same_number_is_another_one(ledger: Ledger) -> None:
    ledger.history.begin(ABOUT)
    run = ledger.history.last_run()
    assert run is not None and run.born == born(os.getpid()) != ""
    assert run.in_progress(run.at)
    assert not run._replace(born="7 of another boot").in_progress(run.at)
    assert not run._replace(born="").in_progress(run.at)
    assert not run._replace(pid=1 << 30, born="").in_progress(run.at)


def test_of_another_machine_only_what_it_says_is_known(ledger: Ledger) -> None:
    ledger.history.begin(ABOUT)
    run = ledger.history.last_run()
    assert run is not None
    elsewhere = run._replace(host="elsewhere", born="")
    assert elsewhere.in_progress(run.at + 50)
    assert not elsewhere.in_progress(run.at + 70)


# --- Minutes --------------------------------------------------------------------------------------


def test_every_minute_has_a_row_with_its_last_counts(ledger: Ledger, clock: Clock) -> None:
    ledger.history.begin(ABOUT)
    for second in range(0, 150, 10):
        clock.now = 100.0 * DAY + second
        ledger.history.tell(replace(STANDING, seconds=float(second), executions=second))
    start = 100 * DAY
    assert minutes(ledger) == [
        Minute(start + 60 * n, float(last), last, 40, 700, 2, 3)
        for n, last in enumerate((50, 110, 140))
    ]
    assert ledger.history.minute_before(start + 30) is None
    assert ledger.history.minute_before(start + 60) == minutes(ledger)[0]
    assert ledger.history.minute_before(start + 179) == minutes(ledger)[1]


def test_executions_of_minutes_are_those_of_all_runs(ledger: Ledger, clock: Clock) -> None:
    for _ in range(3):
        ledger.history.begin(ABOUT)
        ledger.history.tell(STANDING, now=True)
        clock.now += 60
    assert [minute.executions for minute in minutes(ledger)] == [5000, 10000, 15000]


def test_minutes_are_thinned_out_with_age(ledger: Ledger, clock: Clock) -> None:
    first, days = int(clock.now), 20
    rows = [(first + 60 * n, 0.0, n, 0, 0, 0, 0) for n in range(days * 1440)]
    ledger._database.write("INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    clock.now = first + 60.0 * len(rows)
    ledger.history.begin(ABOUT)
    ledger.history.tell(STANDING)
    left = minutes(ledger)[:-1]
    apart: dict[int, list[int]] = {60: [], 600: [], 3600: []}
    for one, other in pairwise(left):
        apart[other.at - one.at].append(int(clock.now) - one.at)
    assert min(apart[3600]) > 7 * DAY >= max(apart[600]) - 3600
    assert min(apart[600]) > DAY >= max(apart[60]) - 3600
    assert len(left) < 1440 + 6 * 144 + (days - 7) * 24 + 100
    assert all(minute.at % 3600 == 3540 for minute in left if minute.at < clock.now - 8 * DAY)
    before = minutes(ledger)
    clock.now += 7200
    ledger.history.tell(STANDING)
    assert set(minutes(ledger)[:-1]) < set(before)
