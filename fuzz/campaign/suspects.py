"""Inputs that took long, or much memory, in a fuzzing process: are they findings?

The fuzzing process only suspects them, after some time; the verdict counts steps (`fuzz.bounded`),
and takes some ten seconds.  So of each kind only one input is looked at.
"""

import traceback
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.base.kernel import Kernel, kernel_named
from fuzz.campaign.crashes import Crashes
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
        self.waiting: dict[_Kind, tuple[int, Mapping[str, Any]]] = {}
        self._session = session
        self._crashes = crashes
        self._judged: dict[_Kind, list[Bucket]] = {}
        self._refuted: Counter[_Kind] = Counter()
        self._hits: Counter[tuple[int, Bucket, str]] = Counter()

    def add(self, seed: int, event: Mapping[str, Any]) -> None:
        """A fuzzing process, which has that seed, suspects an input."""
        kind = _Kind(event["doubt"], event["kernel"], event["geometry"])
        if kind in self._judged:
            self._count(kind, event)
        elif self._refuted[kind] < _MOST_REFUTED:
            self.waiting.setdefault(kind, (seed, event))

    def judge(self) -> None:
        """Judge the first of those that wait.  Errors raised: what `bounded.ticking` says."""
        kind, (seed, event) = next(iter(self.waiting.items()))
        session = self._session
        case = session.decode(bytes.fromhex(event["input"]))
        kernel = kernel_named(kind.kernel, kind.geometry)
        try:
            buckets = self._buckets(case, kernel)
        except Exception as error:
            buckets = []
            lines = "".join(traceback.format_exception(error))
            why = f"{type(error).__name__}: {error}"
            self._crashes.of_input({**event, "error": why, "traceback": lines})
        del self.waiting[kind]
        if not buckets:
            self._refuted[kind] += 1
            return
        self._judged[kind] = buckets
        note = f"run seed={seed} executions={event['execs']}"
        for bucket in buckets:
            session.found(bucket, case, kernel, note, worst=buckets[0].rule)
        self._count(kind, event)

    def _buckets(self, case: Case, kernel: Kernel) -> list[Bucket]:
        """What the program is found to show."""
        session = self._session
        if session.like is not None:
            bucket = session.pair(kernel).bucket(case)
            return [] if bucket is None else [bucket]
        shown = showing(case, kernel, session.options.rules_after)
        return [found.bucket for found in shown.findings]

    def _count(self, kind: _Kind, event: Mapping[str, Any]) -> None:
        for bucket in self._judged[kind]:
            # The process counts what else it finds by itself.
            key = (-event["pid"], bucket, kind.kernel)
            self._hits[key] += 1
            self._session.record(
                bucket, kind.kernel, self._hits[key], process=-event["pid"], execs=event["execs"]
            )
