"""What runs have found: a minimal case for every finding, and a ledger of when it was seen.

    WORKDIR/findings/BUCKET.case       the database: one text file for each finding (see `bucket`)
    WORKDIR/findings/BUCKET.harm.case  what it leads to, if that is harm and its case shows none
    WORKDIR/ledger.sqlite              statistics only: counts, first and last sightings

Losing the ledger loses no finding.  What cannot be read is never deleted or replaced: `Ledger.open`
says what to do, a run puts it aside (`Ledger.renewed`, `CaseStore.put_aside`) and begins anew.
"""

import contextlib
import fcntl
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from fuzz.case import Case, CaseError
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import dump, load
from fuzz.lib.files import WriteError, write_atomic
from fuzz.minimize.simplicity import simplicity

LEDGER = "ledger.sqlite"
FINDINGS = "findings"
CASE, HARM = ".case", ".harm"  # how the names of files end; those of harm with both

_APPLICATION = 0x706D6466  # "pmdf", in the header of the file
_VERSION = 2  # of the tables
_SCHEMA = """
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
) WITHOUT ROWID
"""
# Added up in the database, so that processes that write at the same time all count.
_RECORD = """
INSERT INTO sightings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (rule, call, defect, kernel) DO UPDATE SET
    count = count + excluded.count,
    last_at = excluded.last_at,
    last_run = excluded.last_run,
    last_executions = excluded.last_executions
"""

_EXECUTIONS = re.compile(r"\bexecutions=(\d+)")  # in an @found of ours

NOT_MINIMIZED = "not minimized"  # a note in `found`, as long as that is so

_BATCH_SECONDS = 1.0  # what a killed run may lose
_BUSY_SECONDS = 5.0  # how long to wait for another process that writes


class LedgerError(Exception):
    """The ledger cannot be used: which, why, and what to do.  The file is left as it is."""

    def __init__(self, path: Path, why: str, advice: str) -> None:
        super().__init__(f"{path}: {why}\n  {advice}")
        self.path = path
        self.why = why
        self.advice = advice


class LedgerDamaged(LedgerError):
    """What is there was a ledger, or stands where ours should be, and nobody can read it."""


class LedgerBusy(LedgerError):
    """Another process kept the ledger locked; what was to be recorded is kept for the next try."""


class Sighting(NamedTuple):
    """One time that a finding was seen."""

    at: float  # seconds since 1970, UTC
    run_id: str
    executions: int  # of that run, until then
    kernel: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A bucket and all that is known of it.

    `case` is None if its file is missing or not a case; `kernels` counts the sightings by kernel,
    in the order of the names; `first` and `last` are None if the ledger knows of none.
    """

    bucket: Bucket
    case: Case | None
    kernels: dict[str, int]
    first: Sighting | None
    last: Sighting | None

    @property
    def count(self) -> int:
        """Sightings on all kernels."""
        return sum(self.kernels.values())


# --- Case files -----------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """The cases of a directory by path, and what was wrong with the files that are none."""

    cases: dict[Path, Case]
    errors: list[CaseError]


def load_all(directory: Path) -> Loaded:
    """All `*.case` files below a directory, in the order of their paths.

    A file that is not a case does not keep the others from being read.
    """
    loaded = Loaded({}, [])
    if not directory.is_dir():
        loaded.errors.append(CaseError("not a directory", file=str(directory)))
    for path in sorted(directory.rglob(f"*{CASE}")):
        try:
            loaded.cases[path] = load(path)
        except CaseError as error:
            loaded.errors.append(error)
    return loaded


def minimal(case: Case) -> Case:
    """The case without the note that it is not."""
    return replace(case, found=tuple(note for note in case.found if note != NOT_MINIMIZED))


class CaseStore:
    """The case files of a working directory.  Beside that of a finding may lie one of its harm.

    `unsaved` holds the cases that could not be written, by bucket: the caller can still print
    them, and every `save` of the same bucket tries again.
    """

    def __init__(self, workdir: Path) -> None:
        self.directory = workdir / FINDINGS
        self.unsaved: dict[Bucket, Case] = {}

    def path(self, bucket: Bucket) -> Path:
        """The file of a finding, which need not exist."""
        return self.directory / f"{Bucket.named(bucket.name).name}{CASE}"

    def harm_path(self, bucket: Bucket) -> Path:
        """The file of the harm that a finding leads to, which need not exist."""
        return self.path(bucket).with_suffix(HARM + CASE)

    def load(self, bucket: Bucket) -> Case | None:
        """The case of a finding; None without one.  Errors raised: CaseError."""
        path = self.path(bucket)
        return load(path) if path.exists() else None

    def load_harm(self, bucket: Bucket) -> Case | None:
        """The harm that a finding leads to; None if none is known.  Errors raised: CaseError."""
        path = self.harm_path(bucket)
        return load(path) if path.exists() else None

    def load_all(self) -> Loaded:
        """The cases of all findings; empty before the first one."""
        found = load_all(self.directory) if self.directory.exists() else Loaded({}, [])
        own = {path: case for path, case in found.cases.items() if not _is_harm(path)}
        return Loaded(own, found.errors)

    def save_harm(self, bucket: Bucket, case: Case) -> None:
        """Keep the harm that a finding leads to, unless a simpler case of it is there.

        Errors raised: WriteError; the file is then what it was.
        """
        path = self.harm_path(bucket)
        with self._locked():
            if path.exists() and simplicity(self._present(path)) <= simplicity(case):
                return
            write_atomic(path, dump(case))

    def save(self, bucket: Bucket, case: Case, *, instead_of: Case | None = None) -> bool:
        """Keep `case` if it is the first of its bucket or simpler than the one there is.

        Arguments: `instead_of` is a case that the caller has saved before: as long as nobody else
        has replaced that, the new one takes its place in any case.
        Returns: True if the file was written.
        Errors raised: WriteError; the file is then what it was, and the case is in `unsaved`.
        ValueError for a bucket or case that cannot be written as text.
        """
        path = self.path(bucket)
        text = dump(case)
        waiting = self.unsaved.get(bucket)
        if waiting not in (None, instead_of) and simplicity(waiting) <= simplicity(case):
            case, text = waiting, dump(waiting)
        self.unsaved[bucket] = case  # unless all goes well
        with self._locked():
            present = self._present(path) if path.exists() else None
            better = present in (None, instead_of) or simplicity(case) < simplicity(present)
            if better:
                write_atomic(path, text)
        del self.unsaved[bucket]
        return better

    def _present(self, path: Path) -> Case:
        """The case that is there.  Errors raised: WriteError if it is none."""
        try:
            return load(path)
        except CaseError as error:
            # Perhaps somebody is editing it: theirs to repair or remove, not ours.
            raise WriteError(path, f"the file there is not a case ({error.why})") from error

    def put_aside(self) -> list[tuple[Bucket, str]]:
        """Rename the files of findings that are no cases, so that they can be found anew.

        Returns: each with what was wrong, and where the file is now.
        Errors raised: WriteError if one cannot be renamed.
        """
        aside = []
        with self._locked():
            for error in self.load_all().errors:
                path = Path(error.file)
                with contextlib.suppress(ValueError):  # one that we did not name is not ours
                    bucket = Bucket.named(path.stem)
                    (target,) = _renamed([path])
                    aside.append((bucket, f"{error}\nMoved to {target}"))
        return aside

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from saving between our look at a file and our rename.

        Errors raised: WriteError if there cannot be a directory.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.directory, os.O_RDONLY)
        except OSError as error:
            raise WriteError(self.directory, error.strerror or str(error)) from error
        try:
            # Some network file systems cannot lock a directory.  Then the last writer wins, which
            # may not be the one with the simplest case; files are whole all the same.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_harm(path: Path) -> bool:
    return path.name.endswith(HARM + CASE)


# --- Ledger ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Batch:
    """Sightings of a finding on one kernel that are not in the database yet."""

    count: int
    first: Sighting
    last: Sighting


class Ledger:
    """The statistics of a working directory; `with Ledger.open(workdir) as ledger:`.

    Sightings are written in batches, one second's worth at a time, and at once when a finding is
    seen on a kernel for the first time.  Any number of processes may have a ledger open.

    The journal is SQLite's default, not WAL: with one small transaction a second WAL would gain
    nothing, while the default works on network file systems and leaves a single file to copy.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, clock: Callable[[], float]
    ) -> None:
        """For `open`, which checks the file first."""
        self.path = path
        self.cases = CaseStore(path.parent)
        self._connection = connection
        self._clock = clock
        self._pending: dict[tuple[Bucket, str], _Batch] = {}
        self._known = {(bucket, sighting.kernel) for bucket, _, sighting, _ in self._rows()}
        self._due = clock() + _BATCH_SECONDS

    @classmethod
    def open(cls, workdir: Path, clock: Callable[[], float] = time.time) -> Self:
        """The ledger of a working directory; both are made if they are not there.

        `clock` tells the time in seconds since 1970, UTC.
        Errors raised: LedgerError for a file that is not a ledger, is damaged, was written by a
        newer version, or cannot be read or made; LedgerBusy.
        """
        path = workdir / LEDGER
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            _refuse_foreign(path)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        with _explained(path):
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                _check(connection, path)
                return cls(path, connection, clock)
            except BaseException:
                connection.close()
                raise

    @classmethod
    def renewed(
        cls, workdir: Path, clock: Callable[[], float] = time.time
    ) -> "tuple[Ledger, LedgerDamaged | None, Path | None]":
        """As `open`, but a damaged ledger is put aside, and one begun that counts the cases once.

        Returns: the ledger; if that has happened, what was wrong and where the old one is now.
        Errors raised: LedgerError.
        """
        with contextlib.suppress(LedgerDamaged):
            return cls.open(workdir, clock), None, None
        with _explained(workdir / LEDGER), CaseStore(workdir)._locked():
            try:
                return cls.open(workdir, clock), None, None  # another run was faster
            except LedgerDamaged as error:
                target, *_ = _renamed(_with_journals(error.path))
                ledger = cls.open(workdir, clock)
                ledger._count_cases()
                return ledger, error, target

    def _count_cases(self) -> None:
        """Count each finding that has a case as seen once, when and as its file says."""
        rows = []
        for path, case in self.cases.load_all().cases.items():
            with contextlib.suppress(ValueError, OSError):  # not one that we named; gone
                bucket, at = Bucket.named(path.stem), path.stat().st_mtime
                executions = max(
                    (int(n) for n in _EXECUTIONS.findall("\n".join(case.found))), default=0
                )
                sighting = (at, "before this ledger", executions)
                rows.append((*bucket, case.kernel or "", 1, *sighting, *sighting))
        with _explained(self.path), _transaction(self._connection):
            self._connection.executemany(_RECORD, rows)
        self._known |= {(Bucket(*row[:3]), row[3]) for row in rows}

    def record(
        self, bucket: Bucket, kernel: str, *, run_id: str, executions: int, count: int = 1
    ) -> None:
        """Count a finding as seen, `count` times since the last record.

        `executions` is how many the run `run_id` has done so far.
        Errors raised: ValueError for a count below 1 or an impossible bucket; LedgerError if the
        batch cannot be written, which is kept for the next try.
        """
        if count < 1:
            raise ValueError(f"count {count} is not positive")
        Bucket.named(bucket.name)
        key = (bucket, kernel)
        sighting = Sighting(self._clock(), run_id, executions, kernel)
        batch = self._pending.setdefault(key, _Batch(0, sighting, sighting))
        batch.count += count
        batch.last = sighting
        if key not in self._known or sighting.at >= self._due:
            self._known.add(key)
            with contextlib.suppress(LedgerBusy):  # the next batch takes it along
                self.flush()

    def flush(self) -> None:
        """Write what is pending.  Errors raised: LedgerError; it is then still pending."""
        self._due = self._clock() + _BATCH_SECONDS
        if not self._pending:
            return
        rows = [
            (*bucket, kernel, batch.count, *batch.first[:3], *batch.last[:3])
            for (bucket, kernel), batch in self._pending.items()
        ]
        with _explained(self.path), _transaction(self._connection):
            self._connection.executemany(_RECORD, rows)
        self._pending.clear()

    def list(self) -> list[Finding]:
        """All findings, those of the case files and those only sighted, by name.

        Files that are not cases are left out here; `cases.load_all` reports them.
        Errors raised: LedgerError.
        """
        self.flush()
        found: dict[Bucket, Case | None] = {}
        for path, case in self.cases.load_all().cases.items():
            with contextlib.suppress(ValueError):  # a case, but not one that we named
                found[Bucket.named(path.stem)] = case
        counts: dict[Bucket, dict[str, int]] = {}
        sightings: dict[Bucket, list[Sighting]] = {}
        for bucket, count, first, last in self._rows():
            found.setdefault(bucket, None)
            counts.setdefault(bucket, {})[first.kernel] = count
            sightings.setdefault(bucket, []).extend((first, last))
        return [
            Finding(
                bucket,
                found[bucket],
                counts.get(bucket, {}),
                min(sightings.get(bucket, ()), default=None),
                max(sightings.get(bucket, ()), default=None),
            )
            for bucket in sorted(found)
        ]

    def close(self) -> None:
        """Write what is pending and let go of the file.  Errors raised: LedgerError."""
        try:
            self.flush()
        finally:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Also after Ctrl-C: nothing that was recorded is lost."""
        self.close()

    def _rows(self) -> Iterator[tuple[Bucket, int, Sighting, Sighting]]:
        with _explained(self.path):
            rows = self._connection.execute("SELECT * FROM sightings").fetchall()
        for rule, call, defect, kernel, count, at, run_id, executions, *last in rows:
            first = Sighting(at, run_id, executions, kernel)
            at, run_id, executions = last
            yield Bucket(rule, call, defect), count, first, Sighting(at, run_id, executions, kernel)


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
        raise LedgerDamaged(path, "not an SQLite database", _aside(path))
    if int.from_bytes(header[68:72]) != _APPLICATION:
        raise LedgerError(path, "an SQLite database, but not a ledger of pmdfuzz", _aside(path))


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Make the table in an empty database; refuse what is not a sound ledger of this version.

    Errors raised: LedgerError, sqlite3.Error.
    """
    if _is_empty(connection):
        with _transaction(connection):
            if _is_empty(connection):  # still: another process may have been faster
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
    version = _pragma(connection, "user_version")
    if version != _VERSION:
        raise LedgerError(
            path,
            f"made by another version of pmdfuzz (format {version}, this one reads {_VERSION})",
            f"Use that version. {_aside(path)}",
        )
    problem = _pragma(connection, "quick_check")
    if problem != "ok":
        raise LedgerDamaged(path, f"damaged: {problem}", _aside(path))


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and _pragma(connection, "application_id") == 0


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    value: object = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, Ctrl-C included; the write lock is taken at the start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()  # nothing to do where SQLite has, as when the disk is full
        raise


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
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
            raise LedgerDamaged(path, f"not a sound ledger: {error}", _aside(path)) from error
        raise _unusable(path, str(error)) from error


def _unusable(path: Path, why: str) -> LedgerError:
    """For a file that may be sound, in a place that is not."""
    return LedgerError(
        path,
        f"cannot be used: {why}",
        "It must be a file, in a directory that can be written, on a disk with room. "
        f"The cases of the findings are in {path.parent / FINDINGS} and need no ledger.",
    )


def _with_journals(path: Path) -> list[Path]:
    """A database and its journals: one left behind would be taken for the next one's."""
    journals = (path.with_name(path.name + suffix) for suffix in ("-journal", "-wal"))
    return [path, *(journal for journal in journals if journal.exists())]


def _targets(paths: Sequence[Path]) -> list[Path]:
    """Names that are free, for a file and those whose names begin with its name."""
    number = 1
    while (target := paths[0].with_name(f"{paths[0].name}.old-{number}")).exists():
        number += 1
    return [target.with_name(target.name + path.name[len(paths[0].name) :]) for path in paths]


def _renamed(paths: Sequence[Path]) -> list[Path]:
    """Put files out of the way.  Returns: their new names.  Errors raised: WriteError."""
    targets = _targets(paths)
    for path, target in zip(paths, targets, strict=True):
        try:
            path.rename(target)
        except OSError as error:
            raise WriteError(path, error.strerror or str(error)) from error
    return targets


def _aside(path: Path) -> str:
    """How to put a file out of the way without losing it."""
    paths = _with_journals(path)
    pairs = zip(paths, _targets(paths), strict=True)
    commands = " && ".join(shlex.join(["mv", "--", *map(str, pair)]) for pair in pairs)
    return (
        "It is left as it is; only statistics are in it, "
        f"the cases of the findings are in {path.parent / FINDINGS}.\n"
        f"  To begin a new one: {commands}"
    )
