"""The case files and the ledger: counts that add up, and nothing lost when things go wrong."""

import contextlib
import errno
import fcntl
import os
import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.findings.store import (
    CaseStore,
    Ledger,
    LedgerBusy,
    LedgerError,
    Sighting,
    load_all,
)
from fuzz.forms.text import dump, load
from fuzz.lib.files import WriteError
from fuzz.minimize.simplicity import simplicity
from tests.lib.constants import ROOT

STACK = Bucket("dest-entry-none", "execve_stack")
MOVE = Bucket("page-count", "mremap")
LONG = Case((call("touch", 0, 0x5000), call("peek", 0, 0x5000)), kernel="linux-6.1")
SHORT = Case((call("touch", 0, 0x1000),), kernel="linux-6.12")


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


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


def _disk_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)


# --- Buckets --------------------------------------------------------------------------------------


def test_bucket_names() -> None:
    assert STACK.name == "dest-entry-none--execve_stack"
    assert Bucket.named(STACK.name) == STACK
    known = STACK._replace(defect="B-01")
    assert known.name == "dest-entry-none--execve_stack--B-01"
    assert Bucket.named(known.name) == known


@pytest.mark.parametrize(
    "name",
    ["", "rule", "--call", "rule--", "../rule--call", "rule--call/..", "Rule--call", "a--b--"],
)
def test_impossible_buckets(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="RULE--CALL"):
        Bucket.named(name)
    rule, _, last = name.partition("--")
    with pytest.raises(ValueError, match="RULE--CALL"):
        CaseStore(tmp_path).save(Bucket(rule, last), SHORT)
    assert os.listdir(tmp_path) == []


# --- Case files -----------------------------------------------------------------------------------


def test_keeps_the_simplest_case(tmp_path: Path) -> None:
    store = CaseStore(tmp_path / "new" / "work")
    path = tmp_path / "new" / "work" / "findings" / "dest-entry-none--execve_stack.case"
    assert store.path(STACK) == path
    assert store.load(STACK) is None
    assert store.load_all() == ({}, [])
    assert store.save(STACK, LONG)
    assert load(path) == LONG
    assert store.save(STACK, SHORT)
    assert not store.save(STACK, LONG)
    assert not store.save(STACK, SHORT)
    assert store.load(STACK) == SHORT
    assert store.save(MOVE, LONG)
    assert store.load_all().cases == {path: SHORT, store.path(MOVE): LONG}
    assert not store.unsaved
    assert sorted(os.listdir(path.parent)) == [path.name, store.path(MOVE).name]


def test_what_a_finding_leads_to_lies_beside_it_and_is_no_finding(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, SHORT)
    assert store.load_harm(STACK) is None
    for case in (LONG, SHORT, LONG):
        store.save_harm(STACK, case)
    assert store.load_harm(STACK) == SHORT
    assert store.harm_path(STACK).name == "dest-entry-none--execve_stack.harm.case"
    assert list(store.load_all().cases) == [store.path(STACK)]
    with Ledger.open(tmp_path) as ledger:
        assert [finding.bucket for finding in ledger.list()] == [STACK]
    store.harm_path(STACK).write_text("touch(0x0,\n")
    with pytest.raises(WriteError, match="not a case"):
        store.save_harm(STACK, LONG)
    (error,) = store.load_all().errors
    assert error.file == str(store.harm_path(STACK))


def test_a_case_takes_the_place_of_ours_before_but_of_no_other_simpler_one(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, SHORT)
    assert store.save(STACK, LONG, instead_of=SHORT)
    assert store.load(STACK) == LONG
    assert store.save(STACK, replace(LONG, found=("later",)), instead_of=LONG)
    CaseStore(tmp_path).save(STACK, SHORT)
    assert not store.save(STACK, LONG, instead_of=LONG)
    assert store.load(STACK) == SHORT


def test_disk_full_keeps_the_case_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, LONG)
    with monkeypatch.context() as full:
        _disk_full(full)
        with pytest.raises(WriteError) as caught:
            store.save(STACK, SHORT)
        assert caught.value.path == store.path(STACK)
        assert caught.value.reason == "No space left on device"
    assert store.unsaved == {STACK: SHORT}
    assert store.load(STACK) == LONG
    assert os.listdir(store.directory) == [store.path(STACK).name]
    # There is room again, and the next sighting has a longer case: the better one is not lost.
    assert store.save(STACK, LONG)
    assert store.load(STACK) == SHORT
    assert not store.unsaved


def test_no_directory_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    store = CaseStore(tmp_path / "file" / "work")
    with pytest.raises(WriteError, match="Not a directory"):
        store.save(STACK, SHORT)
    assert store.unsaved == {STACK: SHORT}


def test_a_file_that_is_no_case_is_not_replaced(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, LONG)
    store.path(STACK).write_text("touch(0x0,\n")
    with pytest.raises(WriteError, match="not a case"):
        store.save(STACK, SHORT)
    assert store.path(STACK).read_text() == "touch(0x0,\n"
    assert store.unsaved == {STACK: SHORT}


def test_a_case_saved_meanwhile_is_seen(tmp_path: Path) -> None:
    """Looking at the file and replacing it is one step; other processes wait."""
    store = CaseStore(tmp_path)
    store.save(STACK, LONG)
    other = os.open(store.directory, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    longer = Case((*LONG.calls, *LONG.calls))
    store.path(STACK).write_text(dump(longer))
    written: list[bool] = []
    saver = threading.Thread(target=lambda: written.append(store.save(STACK, LONG)))
    saver.start()
    saver.join(0.3)
    assert saver.is_alive(), "does not wait"
    store.path(STACK).write_text(dump(SHORT))
    os.close(other)
    saver.join()
    assert written == [False]
    assert store.load(STACK) == SHORT


def test_load_all_goes_on_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    good = [tmp_path / "b.case", tmp_path / "deep" / "a.case"]
    for path in good:
        path.write_text(dump(SHORT))
    (tmp_path / "a.case").write_text("touch(0x0, 0x1000)\nnonsense(\n")
    (tmp_path / "c.case").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "d.case").mkdir()
    (tmp_path / "README.md").write_text("no case, and none expected")
    cases, errors = load_all(tmp_path)
    assert cases == dict.fromkeys(good, SHORT)
    assert [Path(error.file).name for error in errors] == ["a.case", "c.case", "d.case"]
    assert errors[0].line == 2


def test_load_all_of_nothing(tmp_path: Path) -> None:
    cases, errors = load_all(tmp_path / "missing")
    assert not cases
    assert "not a directory" in str(errors[0])


# --- Ledger ---------------------------------------------------------------------------------------


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
from fuzz.findings.store import Ledger
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
from fuzz.findings.store import Ledger
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
    monkeypatch.setattr("fuzz.findings.store._BUSY_SECONDS", 0.01)
    ledger = Ledger.open(tmp_path, clock)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)  # does not stop the run
    with pytest.raises(LedgerBusy, match="another process"):
        ledger.flush()
    with pytest.raises(LedgerBusy):
        Ledger.open(tmp_path, clock)
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
    connection = ledger._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk full"
    with pytest.raises(LedgerError, match="full"):
        for number in range(2000):
            ledger.record(Bucket(f"rule-{number}", "touch"), "k", run_id="r" * 50, executions=1)
    reached = number + 1
    connection.execute("PRAGMA max_page_count = 100000")
    ledger.close()
    assert _count(ledger.path) == reached


# --- Files that are not a ledger ------------------------------------------------------------------


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE addresses (name TEXT)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    Ledger.open(path.parent).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _without_table(path: Path) -> None:
    Ledger.open(path.parent).close()
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE sightings")
    connection.close()


def _filled(path: Path) -> bytes:
    with Ledger.open(path.parent) as ledger:
        for number in range(500):
            ledger.record(Bucket(f"rule-{number}", "touch"), "k", run_id="r", executions=1)
            ledger._known.add((Bucket(f"rule-{number + 1}", "touch"), "k"))  # one batch
    return path.read_bytes()


def _truncated(path: Path) -> None:
    path.write_bytes(_filled(path)[:9000])


def _scribbled(path: Path) -> None:
    data = bytearray(_filled(path))
    data[4096:8192] = b"\xa5" * 4096
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(b"\x00garbage" * 1000), "not an SQLite"),
        (lambda path: path.write_text("a text file"), "not an SQLite"),
        (_foreign, "not a ledger of pmdfuzz"),
        (_newer, "another version of pmdfuzz"),
        (_without_table, "not a sound ledger"),
        (_truncated, "damaged|not a sound ledger"),
        (_scribbled, "damaged|not a sound ledger"),
    ],
    ids=["garbage", "text", "foreign", "newer", "no-table", "truncated", "scribbled"],
)
def test_is_left_alone_and_the_advice_works(tmp_path: Path, damage: object, why: str) -> None:
    work = tmp_path / "a work dir"  # with blanks, which the advice must quote
    store = CaseStore(work)
    store.save(STACK, SHORT)
    path = work / "ledger.sqlite"
    assert callable(damage)
    damage(path)
    before = path.read_bytes()
    (work / "ledger.sqlite.old-1").write_text("an earlier one")
    with pytest.raises(LedgerError, match=why) as caught:
        Ledger.open(work)
    assert path.read_bytes() == before
    assert sorted(os.listdir(work)) == ["findings", "ledger.sqlite", "ledger.sqlite.old-1"]
    assert str(work / "findings") in str(caught.value)
    assert store.load(STACK) == SHORT
    command = caught.value.advice.rpartition("To begin a new one: ")[2]
    subprocess.run(shlex.split(command), check=True)
    assert (work / "ledger.sqlite.old-2").read_bytes() == before
    assert (work / "ledger.sqlite.old-1").read_text() == "an earlier one"
    with Ledger.open(work) as ledger:
        assert [finding.bucket for finding in ledger.list()] == [STACK]


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(b"\x00garbage" * 1000), _without_table, _truncated, _scribbled],
    ids=["garbage", "no-table", "truncated", "scribbled"],
)
def test_a_run_puts_a_damaged_one_aside_and_counts_the_cases(
    tmp_path: Path, damage: object
) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, replace(SHORT, kernel="linux-6.1", found=("run seed=1 executions=7",)))
    os.utime(store.path(STACK), (1000.0, 1000.0))
    path = tmp_path / "ledger.sqlite"
    assert callable(damage)
    damage(path)
    before = path.read_bytes()
    ledger, why, target = Ledger.renewed(tmp_path)
    assert why is not None and target == tmp_path / "ledger.sqlite.old-1"
    assert target.read_bytes() == before
    with ledger:
        (finding,) = ledger.list()
        assert (finding.bucket, finding.kernels) == (STACK, {"linux-6.1": 1})
        assert finding.first == finding.last
        assert finding.first == Sighting(1000.0, "before this ledger", 7, "linux-6.1")
        ledger.record(STACK, "linux-6.1", run_id="r", executions=9)
        assert ledger.list()[0].count == 2
    again, why, target = Ledger.renewed(tmp_path)
    assert (why, target) == (None, None)
    again.close()


@pytest.mark.parametrize("damage", [_foreign, _newer], ids=["foreign", "newer"])
def test_a_run_leaves_alone_what_others_can_read(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "ledger.sqlite"
    assert callable(damage)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError):
        Ledger.renewed(tmp_path)
    assert path.read_bytes() == before


def test_of_two_runs_one_puts_it_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has renewed it between our look and our lock."""
    (tmp_path / "ledger.sqlite").write_bytes(b"\x00garbage" * 1000)
    locked = CaseStore._locked

    @contextlib.contextmanager
    def late(self: CaseStore) -> Iterator[None]:
        monkeypatch.setattr(CaseStore, "_locked", locked)
        Ledger.renewed(tmp_path)[0].close()
        with locked(self):
            yield

    monkeypatch.setattr(CaseStore, "_locked", late)
    ledger, why, target = Ledger.renewed(tmp_path)
    ledger.close()
    assert (why, target) == (None, None)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"findings", "ledger.sqlite", "ledger.sqlite.old-1"}


def test_damaged_cases_are_put_aside(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(MOVE, SHORT)
    store.path(STACK).write_text("touch(0x0,\n")
    other = store.directory / "no name of ours.case"
    other.write_text("nonsense(")
    ((bucket, why),) = store.put_aside()
    assert bucket == STACK
    target = store.path(STACK).with_name(f"{STACK.name}.case.old-1")
    assert str(store.path(STACK)) in why and why.endswith(f"Moved to {target}")
    assert target.read_text() == "touch(0x0,\n"
    assert other.read_text() == "nonsense("
    assert store.load(STACK) is None and store.load(MOVE) == SHORT
    store.save(STACK, LONG)
    assert store.put_aside() == []


def test_a_foreign_log_is_left_alone_and_moved_along(tmp_path: Path) -> None:
    """A database with a write-ahead log, as its owner leaves it when killed."""
    elsewhere, path = tmp_path / "db", tmp_path / "ledger.sqlite"
    owner = sqlite3.connect(elsewhere, isolation_level=None)
    owner.execute("PRAGMA journal_mode = WAL")
    owner.execute("CREATE TABLE addresses (name TEXT)")
    path.write_bytes(elsewhere.read_bytes())
    log = tmp_path / "ledger.sqlite-wal"
    log.write_bytes((tmp_path / "db-wal").read_bytes())
    owner.close()
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(LedgerError, match="not a ledger of pmdfuzz") as caught:
        Ledger.open(tmp_path)
    assert (path.read_bytes(), log.read_bytes()) == before
    command = caught.value.advice.rpartition("To begin a new one: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert not path.exists() and not log.exists()
    assert (tmp_path / "ledger.sqlite.old-1-wal").read_bytes() == before[1]


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    with Ledger.open(tmp_path) as ledger:
        assert ledger.list() == []


def test_no_place_for_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(LedgerError, match="Not a directory"):
        Ledger.open(tmp_path / "file" / "work")
    (tmp_path / "ledger.sqlite").mkdir()
    with pytest.raises(LedgerError, match="Is a directory"):
        Ledger.open(tmp_path)


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
