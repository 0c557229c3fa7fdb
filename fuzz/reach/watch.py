"""Which lines of the model run, out of a few that somebody wants to know of.

By `sys.settrace`, which all versions of Python have; only functions that have such a line are
slower.  What libFuzzer is told of is found out otherwise: `fuzz.campaign.coverage`.
"""

import sys
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, TracebackType
from typing import Any

from fuzz.reach.measure import HOME

_Trace = Callable[[FrameType, str, Any], Any]


class Watch:
    """While this lasts, notes which of the lines run: `ran`, places that are file and number.

    `ran` may be emptied at any time.  A tracer that is there already is put back at the end.
    """

    def __init__(self, places: Iterable[tuple[str, int]]) -> None:
        self.ran: set[tuple[str, int]] = set()
        self._lines: dict[str, dict[int, tuple[str, int]]] = {}
        for place in places:
            path = str(HOME / place[0])
            self._lines.setdefault(path, {})[place[1]] = place
        self._tracers: dict[CodeType, _Trace | None] = {}
        self._before: Any = None

    def __enter__(self) -> "Watch":
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, argument: Any) -> _Trace | None:
        """A function is called."""
        code = frame.f_code
        try:
            return self._tracers[code]
        except KeyError:
            return self._tracers.setdefault(code, self._tracer(code))

    def _tracer(self, code: CodeType) -> _Trace | None:
        """What notes the lines of a function; None if none of them is wanted."""
        of_file = self._lines.get(code.co_filename, {})
        wanted = {line: of_file[line] for *_, line in code.co_lines() if line in of_file}
        if not wanted:
            return None
        ran = self.ran

        def note(frame: FrameType, event: str, argument: Any) -> _Trace:
            if frame.f_lineno in wanted and event == "line":
                ran.add(wanted[frame.f_lineno])
            return note

        return note
