"""Inputs that are new to the model, run on a machine as well: where the two part is a finding."""

import os
import time
from collections import deque
from dataclasses import dataclass, field

from fuzz.campaign.investigate import Breathe, doing
from fuzz.campaign.report import told_divergence
from fuzz.campaign.session import Seen, Session
from fuzz.lib.lines import short
from fuzz.subjects.against import Against, Divergence
from fuzz.subjects.subject import SubjectError


@dataclass(slots=True)
class Differential:
    """The machine of a run.

    `waiting` are inputs that it has yet to run, `done` how many it has run; `finished` is true when
    all is known of them, and no more will come; `lost` says why it is not used any more, if so.
    """

    session: Session
    against: Against
    waiting: deque[bytes] = field(default_factory=deque)
    done: int = 0
    finished: bool = False
    lost: str = ""

    def add(self, data: bytes) -> None:
        """Let it run an input, when there is time."""
        if not self.lost:
            self.waiting.append(data)

    def behind(self, *, last: bool) -> bool:
        """Is there something left to do?  See `run`."""
        return bool(self.waiting) or (last and not self.finished)

    def run(self, seconds: float, *, last: bool = False) -> None:
        """Run what waits, for so long at most; `last` true: no more inputs will come."""
        until = time.monotonic() + seconds
        while self.waiting and time.monotonic() < until:
            case = self.session.decode(self.waiting.popleft())
            try:
                found = self.against.divergence(case)
                self.done += 1
                if found is not None:
                    self._diverged(self.against.earliest(found))
                self._late()
            except SubjectError as error:
                self._lose(error)
        if last and not self.waiting and not self.finished:
            self.finished = True
            try:
                self._late(last=True)
            except SubjectError as error:
                self._lose(error)

    def investigate(self, seen: Seen, found: Divergence, breathe: Breathe) -> None:
        """Minimize a new divergence on the machine, keep it and tell it.

        Errors raised: what `breathe` raises.
        """
        session = self.session
        try:
            with doing(session, f"minimizing {seen.bucket.name}"):
                budget = session.options.minimize_budget
                small = self.against.minimized(found, budget, breathe)
        except SubjectError as error:
            self._lose(error)
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
        """Machine and model part on an input."""
        session, execs = self.session, self.session.progress.execs
        kernel = self.against.model.kernel
        note = f"run seed={session.seed} executions={execs}"
        if found.bucket not in session.findings:
            session.met(found.bucket, self.against.as_case(found, note), kernel, found)
        hits = session.findings[found.bucket].hits[kernel.name] + 1
        session.record(found.bucket, kernel.name, hits, process=os.getpid(), execs=execs)

    def _lose(self, error: SubjectError) -> None:
        """Go on without the machine."""
        self.lost = str(error)
        self.finished = True
        self.waiting.clear()
        self.session.say(f"The run goes on without the machine: {error}")
