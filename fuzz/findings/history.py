"""The history of a working directory: its runs, and where it stood, minute by minute.

A run tells where it stands about once a second, in its own row; whoever reads that from elsewhere
(`pmdfuzz status`) sees what it does now, and of a run that is over what it said last.  Every minute
a row is added with the counts of all the time that the directory is fuzzed in: executions add up
over runs, the rest is what there was.  Rows are thinned out with age: one a minute for a day, one
in ten minutes for a week, one an hour for ever.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from fuzz.findings.database import Database
from fuzz.lib.processes import born

_TELL_SECONDS = 1.0  # between two writes
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# From which age on there is one row in how many seconds.
_THINNED = ((_DAY, 10 * _MINUTE), (7 * _DAY, _HOUR))
_MOST_RUNS = 1000  # that are remembered; what they add up to stays
_SILENT_SECONDS = 60.0  # after which a run on another machine is taken for dead


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands.

    `seconds` since it began; `executions` and how many of them a second now; `inputs` in its
    corpus; `cells` that it has seen; distinct findings that it has met, `unknown` and `known`;
    `last_new` when it met the last unknown one that nobody had (seconds since 1970), and `doing`
    what it is busy with besides fuzzing.
    """

    seconds: float = 0.0
    executions: int = 0
    per_second: float = 0.0
    inputs: int = 0
    cells: int = 0
    unknown: int = 0
    known: int = 0
    last_new: float | None = None
    doing: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What a run is: `name` as in sightings; `kernels`, `geometries`, the `program` that runs."""

    name: str
    kernels: tuple[str, ...]
    geometries: tuple[str, ...]
    program: str


class Life(NamedTuple):
    """What runs add up to."""

    runs: int
    seconds: float
    executions: int


class Run(NamedTuple):
    """A run as the ledger knows it; times are seconds since 1970.

    `born` tells its process from later ones with the same `pid`; `at` is when it told its
    `standing`; `ended` and `status`, its exit status, are None until it is over, and for ever if it
    was killed; `before` is what runs had added up to as it began.
    """

    number: int
    about: About
    host: str
    pid: int
    born: str
    began: float
    at: float
    ended: float | None
    status: int | None
    standing: Standing
    before: Life

    @property
    def life(self) -> Life:
        """What all runs up to this one add up to."""
        before, standing = self.before, self.standing
        return Life(
            before.runs + 1,
            before.seconds + standing.seconds,
            before.executions + standing.executions,
        )

    def in_progress(self, now: float) -> bool:
        """Is it running?  Of one on another machine only what it says is known."""
        if self.ended is not None:
            return False
        if self.host != socket.gethostname():
            return now - self.at < _SILENT_SECONDS
        return born(self.pid) == self.born != ""

    @classmethod
    def of_row(cls, row: tuple[Any, ...]) -> Self:
        """That of a row of the table."""
        number, about, host, pid, start, began, at, ended, status, standing, *before = row
        told = json.loads(about)
        kernels, geometries = tuple(told.pop("kernels")), tuple(told.pop("geometries"))
        return cls(
            number,
            About(**told, kernels=kernels, geometries=geometries),
            *(host, pid, start, began, at, ended, status),
            Standing(**json.loads(standing)),
            Life(*before),
        )


class Minute(NamedTuple):
    """Where the directory stood at the end of a minute that began `at`, seconds since 1970.

    `seconds` and `executions` are those of all its runs.
    """

    at: int
    seconds: float
    executions: int
    inputs: int
    cells: int
    unknown: int
    known: int


class History:
    """The runs and minutes that a ledger knows of."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._run: Run | None = None  # that writes here
        self._next = 0.0
        self._thinned = 0.0

    def begin(self, about: About) -> Life:
        """A run begins in this process.

        Returns: what those before it add up to.
        Errors raised: LedgerError.
        """
        now, pid, last = self._clock(), os.getpid(), self.last_run()
        before = last.life if last else Life(0, 0.0, 0)
        values = (json.dumps(asdict(about)), socket.gethostname(), pid, born(pid), now, now)
        self._database.write(
            "INSERT INTO runs (about, host, pid, born, began, at, standing, "
            "before_runs, before_seconds, before_executions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*values, json.dumps(asdict(Standing())), *before)],
        )
        self._run = self.last_run()
        self._database.write(
            "DELETE FROM runs WHERE number <= (SELECT max(number) FROM runs) - ?", [(_MOST_RUNS,)]
        )
        return before

    def tell(self, standing: Standing, *, now: bool = False) -> None:
        """The run stands there; it is written if the last time is a while ago, or `now`.

        Errors raised: LedgerError.
        """
        at = self._clock()
        if self._run is None or (at < self._next and not now):
            return
        self._next = at + _TELL_SECONDS
        self._run = self._run._replace(standing=standing)
        self._database.write(
            "UPDATE runs SET at = ?, standing = ? WHERE number = ?",
            [(at, json.dumps(asdict(standing)), self._run.number)],
        )
        life = self._run.life
        counts = (standing.inputs, standing.cells, standing.unknown, standing.known)
        minute = (int(at) // _MINUTE * _MINUTE, life.seconds, life.executions, *counts)
        self._database.write(
            "INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?)", [minute]
        )
        if at >= self._thinned + _HOUR:
            self._thinned = at
            self._thin(int(at))

    def end(self, status: int) -> None:
        """The run is over, with that exit status.  Errors raised: LedgerError."""
        if self._run is not None:
            self._database.write(
                "UPDATE runs SET ended = ?, status = ? WHERE number = ?",
                [(self._clock(), status, self._run.number)],
            )
            self._run = None

    def last_run(self) -> Run | None:
        """The run that began last; None before the first one.  Errors raised: LedgerError."""
        rows = self._database.rows("SELECT * FROM runs ORDER BY number DESC LIMIT 1")
        return Run.of_row(rows[0]) if rows else None

    def runs(self) -> list[Run]:
        """All that are remembered, the first one first.  Errors raised: LedgerError."""
        rows = self._database.rows("SELECT * FROM runs ORDER BY number")
        return [Run.of_row(row) for row in rows]

    def minutes(self) -> list[Minute]:
        """All that there are, the first one first.  Errors raised: LedgerError."""
        rows = self._database.rows("SELECT * FROM minutes ORDER BY at")
        return [Minute(*row) for row in rows]

    def minute_before(self, at: float) -> Minute | None:
        """The last one that had ended by then, as far as there is one.

        Errors raised: LedgerError.
        """
        rows = self._database.rows(
            "SELECT * FROM minutes WHERE at <= ? ORDER BY at DESC LIMIT 1", at - _MINUTE
        )
        return Minute(*rows[0]) if rows else None

    def _thin(self, now: int) -> None:
        """Of old rows, let only the last one in each stretch of time stay."""
        for age, stretch in _THINNED:
            self._database.write(
                "DELETE FROM minutes WHERE at < ? "
                "AND at NOT IN (SELECT max(at) FROM minutes GROUP BY at / ?)",
                [((now - age) // stretch * stretch, stretch)],
            )
