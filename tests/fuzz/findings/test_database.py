"""The file of a ledger: what is none, or damaged, or of another version."""

import contextlib
import os
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.findings import database
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore
from fuzz.findings.database import Database, LedgerError
from fuzz.findings.ledger import Ledger, Sighting

STACK = Bucket("dest-entry-none", "execve_stack")
MOVE = Bucket("page-count", "mremap")
LONG = Case((call("touch", 0, 0x5000), call("peek", 0, 0x5000)), kernel="linux-6.1")
SHORT = Case((call("touch", 0, 0x1000),), kernel="linux-6.12")


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
    locked = CaseStore.locked

    @contextlib.contextmanager
    def late(self: CaseStore) -> Iterator[None]:
        monkeypatch.setattr(CaseStore, "locked", locked)
        Ledger.renewed(tmp_path)[0].close()
        with locked(self):
            yield

    monkeypatch.setattr(CaseStore, "locked", late)
    ledger, why, target = Ledger.renewed(tmp_path)
    ledger.close()
    assert (why, target) == (None, None)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"findings", "ledger.sqlite", "ledger.sqlite.old-1"}


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


# --- Older layouts --------------------------------------------------------------------------------

_SEEN = (1000.0, "r1", 7, 2000.0, "r2", 9)


def _older(path: Path, version: int) -> None:
    """A ledger as that version made it, with two findings."""
    connection = sqlite3.connect(path, isolation_level=None)
    for layout in database._LAYOUTS[:version]:
        connection.executescript(layout)
    defect = ("",) if version > 1 else ()
    for bucket, count in ((STACK, 3), (MOVE, 5)):
        row = (*bucket[:2], *defect, "linux-6.1", count, *_SEEN)
        connection.execute(f"INSERT INTO sightings VALUES ({', '.join('?' * len(row))})", row)
    connection.execute(f"PRAGMA application_id = {database._APPLICATION}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


OLDER = range(1, database.VERSION)


@pytest.mark.parametrize("version", OLDER)
def test_an_older_layout_is_brought_up_to_date_and_nothing_lost(
    tmp_path: Path, version: int
) -> None:
    _older(tmp_path / "ledger.sqlite", version)
    with pytest.raises(LedgerError, match=f"older layout .{version}, now {database.VERSION}"):
        Database.reading(tmp_path)
    with pytest.raises(LedgerError, match=f"\n  pmdfuzz findings list --workdir {tmp_path}"):
        Database.reading(tmp_path)
    for _ in range(2):
        with Ledger.open(tmp_path) as ledger:
            stack, move = ledger.list()
            assert (stack.bucket, stack.count, move.bucket, move.count) == (STACK, 3, MOVE, 5)
            assert stack.first == Sighting(1000.0, "r1", 7, "linux-6.1")
            assert stack.last == Sighting(2000.0, "r2", 9, "linux-6.1")
            assert stack.state == "open"
    assert sorted(os.listdir(tmp_path)) == ["ledger.sqlite"]


@pytest.mark.parametrize("version", OLDER)
def test_a_change_of_layout_that_is_cut_short_changes_nothing(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tables() -> list[tuple[str]]:
        names = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        return connection.execute(names).fetchall()

    path = tmp_path / "ledger.sqlite"
    _older(path, version)
    connection = sqlite3.connect(path)
    before = tables()
    with monkeypatch.context() as patch:
        patch.setattr(database, "_LAYOUTS", (*database._LAYOUTS, "CREATE nonsense"))
        with pytest.raises(LedgerError):
            Ledger.open(tmp_path)
    assert connection.execute("PRAGMA user_version").fetchone() == (version,)
    assert connection.execute("SELECT sum(count) FROM sightings").fetchone() == (8,)
    assert tables() == before
    connection.close()


# --- Readers --------------------------------------------------------------------------------------


def test_who_reads_leaves_nothing_behind_and_sees_nothing_of_a_ledger_that_is_none(
    tmp_path: Path,
) -> None:
    assert Database.reading(tmp_path) is None
    (tmp_path / "ledger.sqlite").touch()
    assert Database.reading(tmp_path) is None
    before = _filled(tmp_path / "ledger.sqlite")
    reader = Database.reading(tmp_path)
    assert reader is not None
    assert reader.rows("SELECT count(*) FROM sightings") == [(500,)]
    with pytest.raises(LedgerError, match="readonly"):
        reader.write("DELETE FROM sightings WHERE rule = ?", [("a",)])
    reader.close()
    assert os.listdir(tmp_path) == ["ledger.sqlite"]
    assert (tmp_path / "ledger.sqlite").read_bytes() == before


def test_reader_and_writer_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0)
    with Ledger.open(tmp_path) as ledger:
        ledger.record(STACK, "linux-6.1", run_id="r1", executions=1)
        reader = Database.reading(tmp_path)
        assert reader is not None
        count = "SELECT sum(count) FROM sightings"
        reader.connection.execute("BEGIN")
        assert reader.rows(count) == [(1,)]
        ledger.record(STACK, "linux-6.1", run_id="r1", executions=2, count=4)
        ledger.flush()
        assert reader.rows(count) == [(1,)]  # what was when it began to read
        reader.connection.execute("COMMIT")
        assert reader.rows(count) == [(5,)]
        with database.transaction(ledger._database.connection):
            assert reader.rows(count) == [(5,)]
        reader.close()
