"""The ledger of a working directory: when findings were seen, and the state that each is in.

Losing it loses no finding, for these are the case files (`cases`), and it can count them anew; what
it alone knows are counts, times, and why a finding was accepted.  A run puts a damaged one aside
(`Ledger.renewed`) and begins anew.
"""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore, Loaded
from fuzz.findings.database import (
    LEDGER,
    Database,
    LedgerBusy,
    LedgerDamaged,
    explained,
    with_journals,
)
from fuzz.findings.history import History
from fuzz.findings.states import NEW, OPEN, Change, States
from fuzz.lib.files import put_aside

# Added up in the database, so that processes that write at the same time all count.
_RECORD = """
INSERT INTO sightings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (rule, call, defect, kernel) DO UPDATE SET
    count = count + excluded.count,
    last_at = excluded.last_at,
    last_run = excluded.last_run,
    last_executions = excluded.last_executions
"""
_COUNT_MACHINE = """
INSERT INTO machines VALUES (?, ?, ?, ?, ?)
ON CONFLICT (rule, call, defect, machine) DO UPDATE SET count = count + excluded.count
"""
_EXECUTIONS = re.compile(r"\bexecutions=(\d+)")  # in an @found of ours
_EARLIER = "before this ledger"  # in place of the name of a run

_BATCH_SECONDS = 1.0  # what a killed run may lose


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
    in the order of the names; `first` and `last` are None if the ledger knows of none; `change` is
    the last one of its state, None if there was none; `machines` counts those sightings that were
    of a machine and not of its model, by its name.
    """

    bucket: Bucket
    case: Case | None
    kernels: dict[str, int]
    first: Sighting | None
    last: Sighting | None
    change: Change | None = None
    machines: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Sightings on all kernels."""
        return sum(self.kernels.values())

    @property
    def state(self) -> str:
        """See `fuzz.findings.states`."""
        if self.change is not None:
            return self.change.state
        first, last = self.first, self.last
        if first is None or last is None or first.run_id == _EARLIER:
            return OPEN
        return NEW if first.run_id == last.run_id else OPEN


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

    `states` are those of the findings, `history` that of the directory.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """For `open`."""
        self.path = database.path
        self.cases = CaseStore(database.path.parent)
        self.states = States(database, clock)
        self.history = History(database, clock)
        self._database = database
        self._clock = clock
        self._pending: dict[tuple[Bucket, str], _Batch] = {}
        self._of_machines: Counter[tuple[Bucket, str]] = Counter()  # pending, too
        self._known = {(bucket, sighting.kernel) for bucket, _, sighting, _ in self._rows()}
        self._due = clock() + _BATCH_SECONDS

    @classmethod
    def open(cls, workdir: Path, clock: Callable[[], float] = time.time) -> Self:
        """The ledger of a working directory; both are made if they are not there.

        `clock` tells the time in seconds since 1970, UTC.
        Errors raised: LedgerError for a file that is not a ledger, is damaged, was written by a
        newer version, or cannot be read or made; LedgerBusy.
        """
        database = Database.open(workdir)
        try:
            return cls(database, clock)
        except BaseException:
            database.close()
            raise

    @classmethod
    def reading(cls, workdir: Path, clock: Callable[[], float] = time.time) -> "Ledger | None":
        """The same, to be read only, while others may write it; None if there is none.

        Errors raised: LedgerError.
        """
        database = Database.reading(workdir)
        return None if database is None else cls(database, clock)

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
        with explained(workdir / LEDGER), CaseStore(workdir).locked():
            try:
                return cls.open(workdir, clock), None, None  # another run was faster
            except LedgerDamaged as error:
                target, *_ = put_aside(with_journals(error.path))
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
                sighting = (at, _EARLIER, executions)
                rows.append((*bucket, case.kernel or "", 1, *sighting, *sighting))
        self._database.write(_RECORD, rows)
        self._known |= {(Bucket(*row[:3]), row[3]) for row in rows}

    def record(
        self,
        bucket: Bucket,
        kernel: str,
        *,
        run_id: str,
        executions: int,
        count: int = 1,
        machine: str = "",
    ) -> None:
        """Count a finding as seen, `count` times since the last record.

        `executions` is how many the run `run_id` has done so far; `machine` is what has shown it
        beside the model of `kernel`, "" if that model did.
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
        if machine:
            self._of_machines[bucket, machine] += count
        if key not in self._known or sighting.at >= self._due:
            self._known.add(key)
            with contextlib.suppress(LedgerBusy):  # the next batch takes it along
                self.flush()

    def flush(self) -> None:
        """Write what is pending.  Errors raised: LedgerError; it is then still pending."""
        self._due = self._clock() + _BATCH_SECONDS
        if not self._pending and not self._of_machines:
            return
        rows = [
            (*bucket, kernel, batch.count, *batch.first[:3], *batch.last[:3])
            for (bucket, kernel), batch in self._pending.items()
        ]
        self._database.write(_RECORD, rows)
        self._pending.clear()
        self._database.write(
            _COUNT_MACHINE,
            [(*bucket, machine, count) for (bucket, machine), count in self._of_machines.items()],
        )
        self._of_machines.clear()

    def list(self, loaded: Loaded | None = None) -> list[Finding]:
        """All findings, those of the case files and those only sighted, by name.

        Files that are not cases are left out here; `cases.load_all` reports them, and what it has
        just `loaded` is not read again.
        Errors raised: LedgerError.
        """
        self.flush()
        found: dict[Bucket, Case | None] = {}
        for path, case in (loaded or self.cases.load_all()).cases.items():
            with contextlib.suppress(ValueError):  # a case, but not one that we named
                found[Bucket.named(path.stem)] = case
        counts: dict[Bucket, dict[str, int]] = {}
        sightings: dict[Bucket, list[Sighting]] = {}
        for bucket, count, first, last in self._rows():
            found.setdefault(bucket, None)
            counts.setdefault(bucket, {})[first.kernel] = count
            sightings.setdefault(bucket, []).extend((first, last))
        machines: dict[Bucket, dict[str, int]] = {}
        for *bucket_row, machine, count in self._database.rows("SELECT * FROM machines"):
            machines.setdefault(Bucket(*bucket_row), {})[machine] = count
        changes = self.states.last()
        return [
            Finding(
                bucket,
                found[bucket],
                counts.get(bucket, {}),
                min(sightings.get(bucket, ()), default=None),
                max(sightings.get(bucket, ()), default=None),
                changes.get(bucket),
                machines.get(bucket, {}),
            )
            for bucket in sorted(found)
        ]

    def close(self) -> None:
        """Write what is pending and let go of the file.  Errors raised: LedgerError."""
        try:
            self.flush()
        finally:
            self._database.close()

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
        rows = self._database.rows("SELECT * FROM sightings")
        for rule, call, defect, kernel, count, at, run_id, executions, *last in rows:
            first = Sighting(at, run_id, executions, kernel)
            at, run_id, executions = last
            yield Bucket(rule, call, defect), count, first, Sighting(at, run_id, executions, kernel)
