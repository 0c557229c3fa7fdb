"""What has been tried so far, in one SQLite file: a task is there as a whole, or not at all.

It holds for one state of the code, one bound and the same kernels; another file is put aside.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from fuzz.exhaust.trial import Broken, Task, Tried
from fuzz.findings.bucket import Bucket
from fuzz.findings.database import with_journals
from fuzz.forms import text
from fuzz.lib.files import WriteError, put_aside

_LAYOUT = """
CREATE TABLE about (what TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tried (task TEXT PRIMARY KEY, programs INTEGER, runs INTEGER, seconds REAL);
CREATE TABLE states (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE broken (
    kernel TEXT, bucket TEXT, times INTEGER, calls INTEGER, program TEXT,
    PRIMARY KEY (kernel, bucket)
);
"""


class StoreError(Exception):
    """The file there cannot be used; the message says why."""


class Totals(NamedTuple):
    """Of all tasks that are done: `programs` with failures, `seconds` of CPU time."""

    tasks: int
    programs: int
    runs: int
    states: int
    seconds: float


class Store:
    """The file of a directory.  `notice` is what the user should know of it."""

    def __init__(self, directory: Path, about: str, *, fresh: bool = False) -> None:
        """Arguments: `about` says what it holds for; `fresh` begins a new one.

        Errors raised: StoreError; WriteError.
        """
        self.path = directory / "exhaust.sqlite"
        self.notice = ""
        try:
            if self.path.exists() and (why := self._useless(about, fresh)):
                old, *_ = put_aside(with_journals(self.path))
                self.notice = f"{why}; beginning anew, {old} has the old results"
            self._file = sqlite3.connect(self.path, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            if not _has_tables(self._file):
                self._file.executescript(f"BEGIN; {_LAYOUT}")
                self._file.execute("INSERT INTO about VALUES ('about', ?)", (about,))
                self._file.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise WriteError(self.path, str(error)) from error

    def _useless(self, about: str, fresh: bool) -> str:
        """Why what is there cannot be gone on with; "" if it can.  Errors raised: StoreError."""
        if fresh:
            return "--fresh"
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as file:
                if not _has_tables(file):
                    return ""  # whoever made it was killed before there was anything in it
                row = file.execute("SELECT value FROM about WHERE what = 'about'").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}; move it away, or give --fresh") from None
        return (
            "" if row == (about,) else "what is there was done with other code, or for another end"
        )

    def done(self, task: Task) -> bool:
        """Is it there?"""
        found = self._file.execute("SELECT 1 FROM tried WHERE task = ?", (_name(task),))
        return found.fetchone() is not None

    def put(self, task: Task, tried: Tried, seconds: float) -> None:
        """Keep what came of a task.  Errors raised: WriteError."""
        try:
            self._file.execute("BEGIN")
            self._file.execute(
                "INSERT INTO tried VALUES (?, ?, ?, ?)",
                (_name(task), tried.programs, tried.runs, seconds),
            )
            self._file.executemany(
                "INSERT OR IGNORE INTO states VALUES (?)", ((one,) for one in tried.states)
            )
            for (kernel, bucket), broken in tried.broken.items():
                self._file.execute(
                    "INSERT INTO broken VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " times = times + excluded.times,"
                    " program = CASE WHEN excluded.calls < calls"
                    "  THEN excluded.program ELSE program END,"
                    " calls = MIN(calls, excluded.calls)",
                    (kernel, bucket.name, *_kept(broken)),
                )
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise WriteError(self.path, str(error)) from error

    def totals(self) -> Totals:
        """What all that is done comes to."""
        tasks, programs, runs, seconds = self._file.execute(
            "SELECT COUNT(*), TOTAL(programs), TOTAL(runs), TOTAL(seconds) FROM tried"
        ).fetchone()
        (states,) = self._file.execute("SELECT COUNT(*) FROM states").fetchone()
        return Totals(tasks, int(programs), int(runs), states, seconds)

    def findings(self) -> int:
        """How many findings there are, each on as many kernels as show it."""
        (count,) = self._file.execute("SELECT COUNT(*) FROM broken").fetchone()
        return int(count)

    def broken(self) -> dict[tuple[str, Bucket], Broken]:
        """What programs have shown, by kernel and finding; of each one with the fewest calls."""
        rows: Iterable[tuple[str, str, int, str]] = self._file.execute(
            "SELECT kernel, bucket, times, program FROM broken ORDER BY bucket, kernel"
        )
        return {
            (kernel, Bucket.named(name)): Broken(times, text.parse(program))
            for kernel, name, times, program in rows
        }

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _has_tables(file: sqlite3.Connection) -> bool:
    return file.execute("SELECT 1 FROM sqlite_master").fetchone() is not None


def _name(task: Task) -> str:
    """What a task is called in the file."""
    return json.dumps((task.layout, task.part, task.of))


def _kept(broken: Broken) -> tuple[int, int, str]:
    return broken.times, len(broken.case.calls), text.dump(broken.case)
