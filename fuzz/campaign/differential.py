"""Inputs that are new to the model, run on subjects as well: where the two part is a finding."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fuzz.campaign.investigate import Breathe, doing
from fuzz.campaign.report import told_divergence
from fuzz.campaign.session import Seen, Session
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.lib.lines import short
from fuzz.subjects.against import Against, Divergence
from fuzz.subjects.subject import Observation, SubjectError

_BATCH = 8  # programs that are under way at a time

Observed = tuple[Case, Observation]


class _Batch(NamedTuple):
    """Programs that a subject has begun to run."""

    cases: Sequence[Case]
    observed: Iterator[Observed]


@dataclass(slots=True)
class Differential:
    """A subject of a run, beside the model of its kernel.

    `waiting` are inputs that it has yet to run, `begun` the programs that it is about to, `done`
    how many it has run, `missed` how many it will not get to; `left_out` counts what others needed
    that it does not have, by name; `finished` is true when all is known of them, and no more will
    come; `lost` says why it is not used any more, if so; `found` are the findings that it was the
    first to make, `hits` counts all that it has met.
    """

    session: Session
    against: Against
    waiting: deque[bytes] = field(default_factory=deque)
    begun: deque[_Batch] = field(default_factory=deque)
    done: int = 0
    missed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    finished: bool = False
    lost: str = ""
    found: set[Bucket] = field(default_factory=set)
    hits: Counter[Bucket] = field(default_factory=Counter)

    def add(self, data: bytes) -> None:
        """Let it run an input, when there is time."""
        if not self.lost:
            self.waiting.append(data)
        else:
            self.missed += 1

    def behind(self, *, last: bool) -> bool:
        """Is there something left to do?  `last` true: no more inputs will come."""
        return bool(self.waiting or self.begun) or (last and not self.finished)

    @property
    def ready(self) -> bool:
        """Is there something to do that nobody has to be waited for?"""
        subject = self.against.subject
        able = self.waiting and len(self.begun) < subject.at_once
        return bool(able or (self.begun and subject.ready))

    def batch(self) -> list[Case]:
        """The next programs of those that wait, without those that it cannot run."""
        able = self.against.subject.able
        cases: list[Case] = []
        while self.waiting and len(cases) < _BATCH:
            program = self.session.decode(self.waiting.popleft()).program()
            case = self.against.runnable(program)
            if case.calls:
                cases.append(case)
            else:
                self.left_out.update(able.missing(program))
        return cases

    def begin(self) -> None:
        """Begin to run programs that wait, as many as can be under way."""
        while not self.lost and len(self.begun) < self.against.subject.at_once:
            if not (cases := self.batch()):
                return
            try:
                seen = self.against.subject.begin(cases)
            except SubjectError as error:
                self.lost = str(error)
                self._lose()
                return
            self.begun.append(_Batch(cases, self._taken(cases, seen)))

    def take(self) -> bool:
        """Judge what has been run.  Returns: whether anything has."""
        taken = False
        while self.begun and self.against.subject.ready:
            self.judge(list(self.begun.popleft().observed))
            taken = True
        return taken

    def _taken(self, cases: Sequence[Case], seen: Iterator[Observation]) -> Iterator[Observed]:
        try:
            yield from zip(cases, seen, strict=True)
        except SubjectError as error:
            self.lost = str(error)

    def judge(self, observed: Iterable[Observed]) -> None:
        """Compare what was observed with the model."""
        try:
            for case, seen in observed:
                self.done += 1
                found = self.against.judge(case, seen)
                if found is None and self.against.not_compared:
                    self.left_out[self.against.not_compared] += 1
                if found is not None and not self.lost:
                    self._diverged(self.against.earliest(found))
            if not self.lost:
                self._late()
        except SubjectError as error:
            self.lost = str(error)
        if self.lost:
            self._lose()

    def give_up(self) -> None:
        """Do without those that wait: the time is up."""
        self.missed += len(self.waiting) + sum(len(batch.cases) for batch in self.begun)
        self.waiting.clear()
        self.begun.clear()

    def finish(self) -> None:
        """See to what is found out at the very end: no more inputs will come."""
        self.finished = True
        try:
            self._late(last=True)
        except SubjectError as error:
            self.lost = str(error)
            self._lose()

    def investigate(self, seen: Seen, found: Divergence, breathe: Breathe) -> None:
        """Minimize a new divergence on the subject, keep it and tell it.

        Errors raised: what `breathe` raises.
        """
        session = self.session
        try:
            with doing(session, f"minimizing {seen.bucket.name}"):
                budget = session.options.minimize_budget
                small = self.against.minimized(found, budget, breathe)
        except SubjectError as error:
            self.lost = str(error)
            self._lose()
            return
        if small is None:
            where = short(session.path(seen.bucket))
            session.say(f"{seen.bucket.name} did not happen again on the machine; see {where}")
            return
        session.minimized(seen, self.against.as_case(small, *seen.case.found))
        session.say(told_divergence(session, seen, small, self.against))

    def _late(self, *, last: bool = False) -> None:
        """What was found out of earlier inputs."""
        for case, observed in self.against.subject.late(last=last):
            found = self.against.judge(case, observed)
            if found is not None:
                self._diverged(found)

    def _diverged(self, found: Divergence) -> None:
        """Subject and model part on an input."""
        session, execs = self.session, self.session.progress.execs
        kernel = self.against.model.kernel
        note = f"run seed={session.seed} executions={execs}"
        if found.bucket not in session.findings:
            self.found.add(found.bucket)
            session.met(found.bucket, self.against.as_case(found, note), kernel, found)
        self.hits[found.bucket] += 1
        by = self.against.subject.name
        hits = self.hits[found.bucket]
        session.record(found.bucket, kernel.name, hits, by=by, execs=execs, machine=by)

    def _lose(self) -> None:
        """Go on without it."""
        self.finished = True
        self.give_up()
        name = self.against.subject.name
        self.session.once(f"The run goes on without {name}: {self.lost}")


def run_all(machines: Sequence[Differential], seconds: float, *, last: bool = False) -> None:
    """Let subjects run what waits, all at the same time, for about so long at most.

    Arguments: `last` see `Differential.behind`.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for machine in machines:
            machine.begin()
        taken = [machine.take() for machine in machines]
        if not any(taken):
            break
    for machine in machines:
        if last and machine.behind(last=True) and not (machine.waiting or machine.begun):
            machine.finish()
