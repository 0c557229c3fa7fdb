"""The file of a ledger: opened, checked, brought up to date; what is wrong with it in words.

What cannot be read is never deleted or replaced: errors say what to do.  Any number of processes
may have it open.  The journal is a write-ahead log: who reads, as `pmdfuzz status` does, never
keeps a run from writing, nor the run him from reading, and a commit need not wait for the disk.  A
power cut may take the last seconds; a killed process loses nothing that it has written.
"""

import contextlib
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from fuzz.findings.cases import FINDINGS
from fuzz.lib.command import command
from fuzz.lib.files import names_aside

LEDGER = "ledger.sqlite"

_APPLICATION = 0x706D6466  # "pmdf", in the header of the file
# What makes each layout out of the one before; the number of them is the version.
_LAYOUTS = (
    """
    CREATE TABLE sightings (
        rule TEXT NOT NULL,
        call TEXT NOT NULL,
        kernel TEXT NOT NULL,
        count INTEGER NOT NULL,
        first_at REAL NOT NULL,
        first_run TEXT NOT NULL,
        first_executions INTEGER NOT NULL,
        last_at REAL NOT NULL,
        last_run TEXT NOT NULL,
        last_executions INTEGER NOT NULL,
        PRIMARY KEY (rule, call, kernel)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE sightings RENAME TO sightings_of_rules;
    CREATE TABLE sightings (
        rule TEXT NOT NULL,
        call TEXT NOT NULL,
        defect TEXT NOT NULL,               -- empty: unknown
        kernel TEXT NOT NULL,
        count INTEGER NOT NULL,
        first_at REAL NOT NULL,             -- seconds since 1970, UTC
        first_run TEXT NOT NULL,
        first_executions INTEGER NOT NULL,  -- of that run, until then
        last_at REAL NOT NULL,
        last_run TEXT NOT NULL,
        last_executions INTEGER NOT NULL,
        PRIMARY KEY (rule, call, defect, kernel)
    ) WITHOUT ROWID;
    INSERT INTO sightings
        SELECT rule, call, '', kernel, count, first_at, first_run, first_executions,
            last_at, last_run, last_executions
        FROM sightings_of_rules;
    DROP TABLE sightings_of_rules;
    """,
    """
    CREATE TABLE changes (                  -- of states: of each finding the last one holds
        number INTEGER PRIMARY KEY,
        rule TEXT NOT NULL,
        call TEXT NOT NULL,
        defect TEXT NOT NULL,
        at REAL NOT NULL,
        state TEXT NOT NULL,
        why TEXT NOT NULL
    );
    CREATE TABLE retests (                  -- of all findings
        at REAL NOT NULL,
        program TEXT NOT NULL               -- the fingerprint of this project then
    );
    """,
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        about TEXT NOT NULL,                -- JSON, as the standing
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        born TEXT NOT NULL,
        began REAL NOT NULL,
        at REAL NOT NULL,
        ended REAL,
        status INTEGER,
        standing TEXT NOT NULL,
        before_runs INTEGER NOT NULL,
        before_seconds REAL NOT NULL,
        before_executions INTEGER NOT NULL
    );
    CREATE TABLE minutes (
        at INTEGER PRIMARY KEY,             -- its start
        seconds REAL NOT NULL,
        executions INTEGER NOT NULL,
        inputs INTEGER NOT NULL,
        cells INTEGER NOT NULL,
        unknown INTEGER NOT NULL,
        known INTEGER NOT NULL
    );
    """,
    """
    CREATE TABLE machines (                 -- that have shown a finding, counted in sightings, too
        rule TEXT NOT NULL,
        call TEXT NOT NULL,
        defect TEXT NOT NULL,
        machine TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (rule, call, defect, machine)
    ) WITHOUT ROWID;
    """,
)
VERSION = len(_LAYOUTS)

_BUSY_SECONDS = 5.0  # how long to wait for another process that writes


class LedgerError(Exception):
    """The ledger cannot be used: which, why, and what to do.  The file is left as it is.

    With `aside`, part of the advice is how to put it out of the way; by what names its files have
    when that is read, for SQLite clears some away as it closes a database.
    """

    def __init__(self, path: Path, why: str, advice: str = "", *, aside: bool = False) -> None:
        super().__init__(path, why, advice)
        self.path = path
        self.why = why
        self._advice = advice
        self._aside = aside

    @property
    def advice(self) -> str:
        """What to do."""
        return " ".join(filter(None, [self._advice, _aside(self.path) if self._aside else ""]))

    def __str__(self) -> str:
        return f"{self.path}: {self.why}\n  {self.advice}"


class LedgerDamaged(LedgerError):
    """What is there was a ledger, or stands where ours should be, and nobody can read it."""


class LedgerBusy(LedgerError):
    """Another process kept the ledger locked; what was to be recorded is kept for the next try."""


class Database:
    """The open file of a ledger."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """For `open` and `reading`, which check the file first."""
        self.path = path
        self.connection = connection

    @classmethod
    def open(cls, workdir: Path) -> Self:
        """That of a working directory; both are made if they are not there.

        One of an older layout is brought up to date: as a whole or not at all.
        Errors raised: LedgerError for a file that is not a ledger, is damaged, was written by a
        newer version, or cannot be read or made; LedgerBusy.
        """
        path = workdir / LEDGER
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(path)
        except OSError as error:
            raise unusable(path, error.strerror or str(error)) from error
        with explained(path):
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                _bring_up_to_date(connection, path)
                # Not before the tables: until then the header, which says whose file this is,
                # would be in the log alone.  Where there is no shared memory it stays as it was.
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                return cls(path, connection)
            except BaseException:
                connection.close()
                raise

    @classmethod
    def reading(cls, workdir: Path) -> Self | None:
        """The same, to be read only, and the file never touched; None if there is none.

        Errors raised: LedgerError; also for an older layout.
        """
        path = workdir / LEDGER
        try:
            if not path.exists() or not path.stat().st_size:
                return None
            _refuse_foreign(path)
        except OSError as error:
            raise unusable(path, error.strerror or str(error)) from error
        # Without a log nobody writes.  Whoever then opens it in the usual way leaves one behind.
        in_use = path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.absolute().as_uri()}?mode=ro{'' if in_use else '&immutable=1'}"
        with explained(path):
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                _refuse_version(_pragma(connection, "user_version"), path, older=True)
                return cls(path, connection)
            except BaseException:
                connection.close()
                raise

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds.  Errors raised: LedgerError."""
        with explained(self.path):
            return self.connection.execute(query, values).fetchall()

    def write(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute a statement for each of the rows, all of them or none.

        Errors raised: LedgerError.
        """
        with explained(self.path), transaction(self.connection):
            self.connection.executemany(statement, rows)

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, Ctrl-C included; the write lock is taken at the start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()  # nothing to do where SQLite has, as when the disk is full
        raise


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into errors that say what to do.  Errors raised: LedgerError."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a defect of ours, such as the use of a closed ledger
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            why = f"another process has kept it locked for {_BUSY_SECONDS:g} seconds"
            raise LedgerBusy(path, why, "Try again when that process is done.") from error
        # SQLITE_ERROR: our own statements, so a table is not as we made it.
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise LedgerDamaged(path, f"not a sound ledger: {error}", aside=True) from error
        raise unusable(path, str(error)) from error


def unusable(path: Path, why: str) -> LedgerError:
    """For a file that may be sound, in a place that is not."""
    return LedgerError(
        path,
        f"cannot be used: {why}",
        "It must be a file, in a directory that can be written, on a disk with room. "
        f"The cases of the findings are in {path.parent / FINDINGS} and need no ledger.",
    )


def with_journals(path: Path) -> list[Path]:
    """A database and its journals: one left behind would be taken for the next one's."""
    journals = (path.with_name(path.name + suffix) for suffix in ("-journal", "-wal", "-shm"))
    return [path, *(journal for journal in journals if journal.exists())]


def _refuse_foreign(path: Path) -> None:
    """Look at the header of the file, so that SQLite never touches one that is not ours.

    It would write to it at times: it takes up or clears away journals that lie beside the file.
    Errors raised: LedgerError, OSError.
    Source: https://sqlite.org/fileformat2.html, "The Database Header".
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(100)
    except FileNotFoundError:
        return
    if not header:
        return  # not more than made yet, perhaps by another process just now
    if not header.startswith(b"SQLite format 3\0"):
        raise LedgerDamaged(path, "not an SQLite database", aside=True)
    if int.from_bytes(header[68:72]) != _APPLICATION:
        raise LedgerError(path, "an SQLite database, but not a ledger of pmdfuzz", aside=True)


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in an empty database or an older one; refuse what is not a sound ledger.

    Errors raised: LedgerError, sqlite3.Error.
    """
    if not _is_empty(connection):
        _refuse_version(_pragma(connection, "user_version"), path)
        problem = _pragma(connection, "quick_check")
        if problem != "ok":
            raise LedgerDamaged(path, f"damaged: {problem}", aside=True)
    if _pragma(connection, "user_version") != VERSION:
        with transaction(connection):
            # Now that others have to wait: one may have been faster.
            version = _pragma(connection, "user_version")
            for layout in _LAYOUTS[version:]:
                for statement in layout.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("SELECT 1 FROM sightings, changes, retests, runs, minutes, machines LIMIT 1")


def _refuse_version(version: int, path: Path, *, older: bool = False) -> None:
    """Refuse what another version has made; an `older` one only if that is asked for.

    Errors raised: LedgerError.
    """
    if older and version < VERSION:
        renew = command("findings", "list", "--workdir", path.parent)
        raise LedgerError(
            path,
            f"of an older layout ({version}, now {VERSION})",
            f"The next run renews it; at once does it\n  {renew}",
        )
    if not 0 < version <= VERSION:
        raise LedgerError(
            path,
            f"made by another version of pmdfuzz (format {version}, this one reads {VERSION})",
            "Use that version.",
            aside=True,
        )


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and _pragma(connection, "application_id") == 0


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _aside(path: Path) -> str:
    """How to put a file out of the way without losing it."""
    paths = with_journals(path)
    pairs = zip(paths, names_aside(paths), strict=True)
    commands = " && ".join(shlex.join(["mv", "--", *map(str, pair)]) for pair in pairs)
    return (
        "It is left as it is; what is in it are counts, states and history, "
        f"the cases of the findings are in {path.parent / FINDINGS}.\n"
        f"  To begin a new one: {commands}"
    )
