"""Counting what a piece of work executes: the same on every machine, where time is not."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from fuzz.lib.processes import TooLong

P = ParamSpec("P")
R = TypeVar("R")


class StepLimit:
    """Raises TooLong in the work that is done by `run` once it has executed too many lines.

    They are counted over all that it runs.  A line counts each time that it is entered, and a loop
    on one line each time round, but for `while True: pass` on Python 3.11, a single instruction.
    It is sys.settrace that counts, in every version of Python: the lines of sys.monitoring leave
    out the rounds of a loop on one line, and code runs ten times slower either way.
    """

    def __init__(self, steps: int) -> None:
        """Arguments: `steps` how many lines may be executed."""
        self.left = steps

    def run(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the work.  Errors raised: TooLong, and what the work raises."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return work(*args, **kwargs)
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.left -= 1
            if self.left < 0:
                raise TooLong
        return self._line
