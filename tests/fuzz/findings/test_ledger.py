"""The ledger: counts that add up, and nothing lost when things go wrong."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.findings.database import LedgerBusy, LedgerError
from fuzz.findings.ledger import Ledger, Sighting
from fuzz.findings.states import Change
from fuzz.forms.text import dump
from fuzz.minimize.simplicity import simplicity
from tests.lib.clock import Clock
from tests.lib.constants import ROOT

STACK = Bucket("dest-entry-none", "execve_stack")
MOVE = Bucket("page-count", "mremap")
LONG = Case((call("touch", 0, 0x5000), call("peek", 0, 0x5000)), kernel="linux-6.1")
SHORT = Case((call("touch", 0, 0x1000),), kernel="linux-6.12")


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger.open(tmp_path, clock) as ledger:
        yield ledger


def _count(path: Path) -> int:
    """Sightings in the database, seen by somebody else."""
    connection = sqlite3.connect(path)
    (total,) = connection.execute("SELECT coalesce(sum(count), 0) FROM sightings").fetchone()
    connection.close()
    assert isinstance(total, int)
    return total


def test_counts_and_sightings(ledger: Ledger, clock: Clock) -> None:
    ledger.cases.save(STACK, SHORT)
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=10)
    clock.now += 5
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=90, count=7)
    clock.now += 5
    ledger.record(STACK, "linux-6.12", run_id="r2", executions=3)
    ledger.record(MOVE, "linux-6.18", run_id="r2", executions=4)
    ledger.cases.save(Bucket("zz", "touch"), SHORT)  # never recorded
    stack, move, other = ledger.list()
    assert (stack.bucket, stack.case, stack.count) == (STACK, SHORT, 9)
    assert stack.kernels == {"linux-6.1": 8, "linux-6.12": 1}
    assert stack.first == Sighting(1000.0, "r1", 10, "linux-6.1")
    assert stack.last == Sighting(1010.0, "r2", 3, "linux-6.12")
    assert (move.bucket, move.case, move.count) == (MOVE, None, 1)
    assert (other.bucket.rule, other.case, other.count) == ("zz", SHORT, 0)
    assert other.first is None and other.last is None


def test_machines_that_have_shown_a_finding_are_counted_by_name(
    tmp_path: Path, clock: Clock
) -> None:
    for machine, count in (("Linux 7.3.4", 2), ("", 5), ("Linux 6.1.0", 1), ("Linux 7.3.4", 4)):
        with Ledger.open(tmp_path, clock) as ledger:
            ledger.record(MOVE, "linux-7.3", run_id="r", executions=1, count=count, machine=machine)
    with Ledger.open(tmp_path, clock) as ledger:
        ledger.record(STACK, "linux-6.1", run_id="r", executions=1)
        stack, move = ledger.list()
    assert move.machines == {"Linux 6.1.0": 1, "Linux 7.3.4": 6}
    assert move.count == 12
    assert stack.machines == {}


def test_an_unknown_defect_does_not_hide_behind_a_known_one(ledger: Ledger) -> None:
    known = STACK._replace(defect="B-01")
    ledger.cases.save(known, SHORT)
    ledger.record(known, "linux-6.1", run_id="r1", executions=1, count=7)
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=2)
    unknown, explained = ledger.list()
    assert (unknown.bucket, unknown.case, unknown.count) == (STACK, None, 1)
    assert (explained.bucket, explained.case, explained.count) == (known, SHORT, 7)


def test_the_next_run_goes_on_counting(tmp_path: Path, clock: Clock) -> None:
    for run_id in ("r1", "r2", "r3"):
        with Ledger.open(tmp_path, clock) as ledger:
            ledger.record(STACK, "linux-6.1", run_id=run_id, executions=1)
            clock.now += 1
    with Ledger.open(tmp_path, clock) as ledger:
        (finding,) = ledger.list()
    assert finding.count == 3
    assert finding.first and finding.first.run_id == "r1"
    assert finding.last and finding.last.run_id == "r3"


def test_new_ones_at_once_the_others_every_second(ledger: Ledger, clock: Clock) -> None:
    for _ in range(50):
        ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
    assert _count(ledger.path) == 1
    ledger.record(STACK, "linux-6.12", run_id="r1", executions=1)
    assert _count(ledger.path) == 51
    ledger.record(STACK, "linux-6.12", run_id="r1", executions=1)
    assert _count(ledger.path) == 51
    clock.now += 2
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
    assert _count(ledger.path) == 53


def test_ctrl_c_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt), Ledger.open(tmp_path, clock) as ledger:
        for _ in range(10):
            ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
        raise KeyboardInterrupt
    assert _count(tmp_path / "ledger.sqlite") == 10


def test_ctrl_c_while_writing_neither_loses_nor_counts_twice(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(sqlite3.Connection):
        """Ctrl-C when the first batch is written but not committed."""

        strokes = 1

        def executemany(self, *args: Any) -> sqlite3.Cursor:
            cursor = super().executemany(*args)
            if self.strokes:
                self.strokes -= 1
                raise KeyboardInterrupt
            return cursor

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Interrupted))
    with pytest.raises(KeyboardInterrupt), Ledger.open(tmp_path, clock) as ledger:
        ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
    assert _count(tmp_path / "ledger.sqlite") == 1


def test_a_killed_process_loses_only_the_last_batch(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from fuzz.findings.bucket import Bucket
from fuzz.findings.ledger import Ledger
ledger = Ledger.open(Path({str(tmp_path)!r}))
for kernel in ("linux-6.1", "linux-6.12"):
    ledger.record(Bucket("a", "touch"), kernel, run_id="r", executions=1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert _count(tmp_path / "ledger.sqlite") == 2
    Ledger.open(tmp_path).close()


def test_nonsense_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="count 0"):
        ledger.record(STACK, "linux-6.1", run_id="r1", executions=1, count=0)
    with pytest.raises(ValueError, match="RULE--CALL"):
        ledger.record(Bucket("", "x"), "linux-6.1", run_id="r1", executions=1)
    assert ledger.list() == []


def test_two_processes_at_a_time(tmp_path: Path) -> None:
    """Both open a new ledger at once and record and save in turns; every count arrives."""
    program = f"""
import sys
from pathlib import Path
from fuzz.findings.bucket import Bucket
from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.findings.ledger import Ledger
me = int(sys.argv[1])
with Ledger.open(Path({str(tmp_path)!r})) as ledger:
    for round in range(60):
        ledger.record(Bucket("a", "touch"), "linux-6.1", run_id=f"r{{me}}", executions=round)
        ledger.flush()
        size = 0x1000 * (200 - 2 * round - me)
        ledger.cases.save(Bucket("a", "touch"), Case((call("touch", 0, size),)))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(me)], cwd=ROOT) for me in (0, 1)
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    with Ledger.open(tmp_path) as ledger:
        (finding,) = ledger.list()
    assert finding.count == 120
    saved = [Case((call("touch", 0, 0x1000 * (200 - size)),)) for size in range(120)]
    assert finding.case == min(saved, key=simplicity)
    assert not list((tmp_path / "findings").glob(".*"))


def test_a_locked_ledger_is_waited_for_and_nothing_is_lost(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.findings.database._BUSY_SECONDS", 0.01)
    ledger = Ledger.open(tmp_path, clock)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)  # does not stop the run
    with pytest.raises(LedgerBusy, match="another process"):
        ledger.flush()
    Ledger.open(tmp_path, clock).close()  # who reads has nothing to wait for
    other.execute("COMMIT")
    other.close()
    ledger.close()
    assert _count(ledger.path) == 1


def test_waits_for_a_short_lock(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    other = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.2, lambda: other.execute("COMMIT"))
    release.start()
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
    release.join()
    other.close()
    assert _count(ledger.path) == 1
    ledger.close()


def test_disk_full_keeps_what_is_pending(tmp_path: Path, clock: Clock) -> None:
    ledger = Ledger.open(tmp_path, clock)
    connection = ledger._database.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk full"
    with pytest.raises(LedgerError, match="full"):
        for number in range(2000):
            ledger.record(Bucket(f"rule-{number}", "touch"), "k", run_id="r" * 50, executions=1)
    reached = number + 1
    connection.execute("PRAGMA max_page_count = 100000")
    ledger.close()
    assert _count(ledger.path) == reached


def test_a_damaged_case_does_not_hide_the_others(ledger: Ledger) -> None:
    ledger.cases.save(STACK, SHORT)
    ledger.cases.save(MOVE, LONG)
    ledger.cases.path(STACK).write_text("nonsense(")
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
    (ledger.cases.directory / "a copy of mine.case").write_text(dump(LONG))
    assert [(finding.bucket, finding.case) for finding in ledger.list()] == [
        (STACK, None),
        (MOVE, LONG),
    ]


# --- States ---------------------------------------------------------------------------------------


def test_a_finding_is_new_until_another_run_meets_it(ledger: Ledger) -> None:
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=1, count=2)
    ledger.record(STACK, "linux-6.12", run_id="r1", executions=9)
    assert [finding.state for finding in ledger.list()] == ["new"]
    ledger.record(STACK, "linux-6.1", run_id="r2", executions=1)
    assert [finding.state for finding in ledger.list()] == ["open"]
    ledger.cases.save(MOVE, SHORT)  # of which the ledger knows nothing
    assert [finding.state for finding in ledger.list()] == ["open", "open"]


def test_the_last_change_of_a_state_holds_and_all_are_kept(ledger: Ledger, clock: Clock) -> None:
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
    ledger.record(MOVE, "linux-6.1", run_id="r1", executions=1)
    for state, why in (("accepted", "upstream says no"), ("fixed", ""), ("reopened", "")):
        clock.now += 5
        ledger.states.change(STACK, state, why)
    stack, move = ledger.list()
    assert (stack.state, stack.change) == ("reopened", Change("reopened", 1015.0, ""))
    assert (move.state, move.change) == ("new", None)
    assert ledger.states.history(STACK) == [
        Change("accepted", 1005.0, "upstream says no"),
        Change("fixed", 1010.0, ""),
        Change("reopened", 1015.0, ""),
    ]
    assert ledger.states.history(MOVE) == []


def test_who_retested_last_is_known(ledger: Ledger) -> None:
    assert ledger.states.last_retest() is None
    for program in ("one", "other", "one"):
        ledger.states.retested(program)
        assert ledger.states.last_retest() == program
