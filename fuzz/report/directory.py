"""A working directory as a report sees it: read once, and plain data from then on."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fuzz.case import CaseError
from fuzz.findings.cases import CASE, HARM, CaseStore
from fuzz.findings.database import LedgerError
from fuzz.findings.history import Minute, Run
from fuzz.findings.kept import kept
from fuzz.findings.ledger import Finding, Ledger
from fuzz.findings.states import Change
from fuzz.report.studies import Subject


@dataclass(frozen=True, slots=True)
class Entry:
    """A finding: what it is called, its case and that of the harm that it leads to, as files, too.

    `own` is None if there is no sound case, `harm` if none is known; `changes` are those of its
    state.
    """

    name: str
    finding: Finding
    path: Path
    own: Subject | None
    harm_path: Path
    harm: Subject | None
    changes: tuple[Change, ...]

    @property
    def subjects(self) -> Iterator[Subject]:
        """The cases to be studied."""
        return (one for one in (self.own, self.harm) if one is not None)


@dataclass(frozen=True, slots=True)
class Directory:
    """What a working directory holds `at` a time, in seconds since 1970.

    `errors` say what could not be read.
    """

    workdir: Path
    at: float
    entries: Mapping[str, Entry]
    runs: tuple[Run, ...]
    minutes: tuple[Minute, ...]
    errors: tuple[str, ...]

    @property
    def subjects(self) -> list[Subject]:
        """All cases to be studied."""
        return [subject for entry in self.entries.values() for subject in entry.subjects]

    @property
    def in_progress(self) -> bool:
        """Is a run under way?"""
        return bool(self.runs) and self.runs[-1].in_progress(self.at)

    @classmethod
    def read(cls, workdir: Path, clock: Callable[[], float] = time.time) -> Self:
        """That of a path; it is not written, and a run may go on meanwhile."""
        workdir = workdir.resolve()
        try:
            with Ledger.reading(workdir) or nullcontext() as ledger:
                return cls._of(workdir, ledger, clock())
        except LedgerError as error:
            return cls._of(workdir, None, clock(), str(error))

    @classmethod
    def _of(cls, workdir: Path, ledger: Ledger | None, at: float, *errors: str) -> Self:
        found, unread = kept(workdir, ledger)
        told = [*errors, *unread]
        entries = [_entry(CaseStore(workdir), name, one, ledger) for name, one in found.items()]
        entries.sort(key=lambda one: (bool(one.finding.bucket.defect), one.name))
        runs, minutes = (ledger.history.runs(), ledger.history.minutes()) if ledger else ((), ())
        return cls(
            workdir,
            at,
            {entry.name: entry for entry in entries},
            tuple(runs),
            tuple(minutes),
            tuple(told),
        )


def _entry(store: CaseStore, name: str, finding: Finding, ledger: Ledger | None) -> Entry:
    """All that there is of a finding.  Errors raised: LedgerError."""
    changes = ledger.states.history(finding.bucket) if ledger and finding.change else ()
    harm = None
    with suppress(ValueError, CaseError):  # no name of ours; what is no case is told by `kept`
        harm = store.load_harm(finding.bucket)
    path = store.directory / f"{name}{CASE}"
    return Entry(
        name,
        finding,
        path,
        Subject(name, finding.case) if finding.case is not None else None,
        path.with_suffix(HARM + CASE),
        Subject(f"{name}{HARM}", harm) if harm is not None else None,
        tuple(changes),
    )
