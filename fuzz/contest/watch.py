"""Runs the programs of a contestant with the bug put in, and ends the trial.

All contestants have their programs run here: the same engine, the same rules, the same question
whether what is broken is due to the bug.  What only measures, whether the bug was reached and
triggered, is not on their account.
"""

import json
import os
import sys
import time
from types import CodeType
from typing import Any, NoReturn

from engine.base.kernel import Kernel
from fuzz.calls.registry import takes_long
from fuzz.case import Case
from fuzz.contest.bugs import code_in_place
from fuzz.contest.trial import Moment, Played, Task
from fuzz.defects.defect import Defect
from fuzz.execute import Outcome, execute
from fuzz.inputs.inputs import shared_out
from fuzz.noted import Noted
from fuzz.showing import due
from fuzz.subjects.state import state_of


class Watch:
    """Of one trial.  `geometries` are what its programs may be for, as in a run."""

    def __init__(self, bug: Defect, task: Task, tell: int) -> None:
        """Arguments: `tell` a descriptor that what came of it is written to, as a line of JSON."""
        self.geometries = shared_out(bug.kernel.geometry)
        self._kernels = [bug.on(geometry).kernel for geometry in self.geometries]
        self._task, self._tell = task, tell
        self._bug = bug
        self._arrived = False
        if bug.change is not None:
            self._look_at(code_in_place(bug.change))
        self._executions = 0
        self._unbilled = 0.0
        self._seen: dict[str, Moment] = {}
        self._began = time.process_time()

    def _look_at(self, code: CodeType) -> None:
        """Notice when a function runs."""

        def runs(*_: object) -> None:
            self._arrived = True

        monitoring = sys.monitoring
        tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
        monitoring.use_tool_id(tool, "pmdfuzz contest")
        monitoring.register_callback(tool, monitoring.events.PY_START, runs)
        monitoring.set_local_events(tool, code, monitoring.events.PY_START)

    def run(self, case: Case, geometry: int) -> None:
        """Run a program on one of the geometries.  Does not return once the trial is over."""
        kernel = self._kernels[geometry]
        if takes_long(case, kernel.geometry.page_bytes):
            self._end_if_late()
            return
        self.execute(case, kernel, stop=False)

    def execute(self, case: Case, kernel: Kernel, **how: Any) -> Outcome:
        """Run a program; arguments as of `fuzz.execute.execute`."""
        self._executions += 1
        noted = kernel if isinstance(kernel, Noted) else Noted(kernel)
        self._arrived = False
        outcome = self._bug.execute(case, noted, **how)
        found = due(outcome, self._bug) is not None
        if found or self._comes_to_it(noted):
            self._note("reached")
            if found or ("triggered" not in self._seen and self._differs(outcome)):
                self._note("triggered")
        if found:
            self._note("found")
            self._end()
        self._end_if_late()
        return outcome

    def _comes_to_it(self, noted: Noted) -> bool:
        return self._arrived or not self._bug.bug.keys().isdisjoint(noted.settings)

    def _differs(self, outcome: Outcome) -> bool:
        """Does a program end otherwise than without the bug?"""
        began = time.process_time()
        correct = self._bug.correct.on(outcome.kernel.geometry)
        without = execute(outcome.case, correct, stop=False)
        self._unbilled += time.process_time() - began
        return _shown(outcome) != _shown(without)

    def _note(self, what: str) -> None:
        self._seen.setdefault(what, self._now())

    def _now(self) -> Moment:
        return Moment(self._executions, time.process_time() - self._began - self._unbilled)

    def _end_if_late(self) -> None:
        if self._now().seconds >= self._task.seconds:
            self._end()

    def _end(self) -> NoReturn:
        """Tell what came of it.  libFuzzer and Hypothesis would go on, so the process ends here."""
        seen = self._seen
        played = Played(seen.get("reached"), seen.get("triggered"), seen.get("found"), self._now())
        os.write(self._tell, json.dumps(played).encode() + b"\n")
        os._exit(0)


def _shown(outcome: Outcome) -> tuple[object, ...]:
    """All that a program shows, and leaves."""
    broken = sorted(found.key for found in outcome.violations)
    return outcome.results, outcome.page_tables, broken, state_of(outcome.space)
