"""Inputs that took long, or much memory, in a fuzzing process: are they findings?

The fuzzing process only suspects them, after some time; the verdict counts steps (`fuzz.bounded`),
and takes some ten seconds.  So of each kind only one input is looked at.
"""

import traceback
from collections import Counter
from typing import NamedTuple

from engine.base.kernel import Kernel, kernel_named
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.round import Crash, Round, Suspect
from fuzz.campaign.session import Session
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.showing import showing

_MOST_REFUTED = 3  # of a kind turn out to end: then others of it are left alone


class _Kind(NamedTuple):
    doubt: str  # what the fuzzing process took it for
    kernel: str
    geometry: str


class Suspects:
    """Those of a run.  `waiting` has one of each kind that is still to be judged, by kind."""

    def __init__(self, session: Session, crashes: Crashes) -> None:
        self.waiting: dict[_Kind, tuple[Round, Suspect]] = {}
        self._session = session
        self._crashes = crashes
        self._judged: dict[_Kind, list[Bucket]] = {}
        self._refuted: Counter[_Kind] = Counter()
        self._hits: Counter[tuple[Bucket, str]] = Counter()

    def add(self, task: Round, suspect: Suspect) -> None:
        """A round suspects an input."""
        kind = _Kind(suspect.doubt, suspect.kernel, suspect.geometry)
        if kind in self._judged:
            self._count(kind, suspect)
        elif self._refuted[kind] < _MOST_REFUTED:
            self.waiting.setdefault(kind, (task, suspect))

    def judge(self) -> None:
        """Judge the first of those that wait.  Errors raised: what `bounded.ticking` says."""
        kind, (task, suspect) = next(iter(self.waiting.items()))
        session = self._session
        case = session.decode(suspect.input)
        kernel = kernel_named(kind.kernel, kind.geometry)
        try:
            buckets = self._buckets(case, kernel)
        except Exception as error:
            buckets = []
            lines = "".join(traceback.format_exception(error))
            why = f"{type(error).__name__}: {error}"
            self._crashes.of_input(Crash(suspect.input, suspect.kernel, why, lines))
        del self.waiting[kind]
        if not buckets:
            self._refuted[kind] += 1
            return
        self._judged[kind] = buckets
        note = f"run seed={task.seed} executions={suspect.execs}"
        for bucket in buckets:
            session.found(bucket, case, kernel, note, worst=buckets[0].rule)
        self._count(kind, suspect)

    def _buckets(self, case: Case, kernel: Kernel) -> list[Bucket]:
        """What the program is found to show."""
        session = self._session
        if session.like is not None:
            bucket = session.pair(kernel).bucket(case)
            return [] if bucket is None else [bucket]
        shown = showing(case, kernel, session.options.rules_after)
        return [found.bucket for found in shown.findings]

    def _count(self, kind: _Kind, suspect: Suspect) -> None:
        for bucket in self._judged[kind]:
            # The rounds count what else they find by themselves.
            self._hits[bucket, kind.kernel] += 1
            hits = self._hits[bucket, kind.kernel]
            self._session.record(bucket, kind.kernel, hits, by="suspects", execs=suspect.execs)
