"""The status line of a long command: redrawn in place on a terminal, else a line now and then."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TextIO

from fuzz.lib.signals import hush

LIVE_SECONDS = 0.2  # between two redraws on a terminal
PLAIN_SECONDS = 10.0  # between two lines elsewhere

_ERASE_LINE = "\r\x1b[K"
_BOLD_RED, _DIM, _RESET = "\x1b[1;31m", "\x1b[2m", "\x1b[0m"


Fields = list[tuple[str, str]]  # texts, each with a style: "", "alarm", "dim"


class Standing(Protocol):
    """Where something stands."""

    def fields(self) -> Fields:
        """The fields of the line; the leftmost are the most important."""


@dataclass(slots=True)
class Progress:
    """Where a run stands.

    `seconds` since the start; `execs` inputs executed; of both, and of runs, so many were `before`
    it in the working directory; `corpus` files in the corpus; `cells`
    distinct states seen; `findings` distinct unknown ones, `old` of which earlier runs had found;
    `known` defects of the kernels met; `last_new` seconds since the last new finding (None: none
    yet); `machine` inputs that ran on the
    machine as well (None: there is none); `standing` who does the work (empty: that goes without
    saying); `doing` what the parent is busy with, `minimizing` what others are.
    """

    runs_before: int = 0
    seconds_before: float = 0.0
    execs_before: int = 0
    seconds: float = 0.0
    execs: int = 0
    execs_per_second: float = 0.0
    corpus: int = 0
    cells: int = 0
    findings: int = 0
    old: int = 0
    known: int = 0
    last_new: float | None = None
    machine: int | None = None
    standing: str = ""
    doing: str = ""
    minimizing: str = ""

    def fields(self) -> Fields:
        """See `Standing`."""
        found = f"{self.findings} finding{'' if self.findings == 1 else 's'}"
        if self.old:
            found += f" ({self.old} old)"
        in_all = f" of {count(self.execs_before + self.execs)}" if self.runs_before else ""
        shown = [
            (duration(self.seconds), "dim"),
            *([(self.standing, "")] if self.standing else []),
            (f"{count(self.execs)}{in_all} execs", ""),
            (f"{count(self.execs_per_second)}/s", ""),
            (f"{count(self.corpus)} corpus", ""),
            (f"{count(self.cells)} cells", ""),
            (found, "alarm" if self.findings > self.old else ""),
        ]
        if self.known:
            shown.append((f"{self.known} known", ""))
        if self.machine is not None:
            shown.append((f"machine {count(self.machine)} inputs", ""))
        if self.last_new is not None:
            shown.append((f"last new {duration(self.last_new)} ago", "dim"))
        shown += [(what, "") for what in (self.doing, self.minimizing) if what]
        return shown


def wants_colour(stream: TextIO) -> bool:
    """True if `stream` is a terminal and NO_COLOR is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and not _dumb()


def duration(seconds: float) -> str:
    """Seconds as people write them: 42s, 3m07s, 2h05m, 3d04h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def count(number: float) -> str:
    """A count in at most five characters or so: 950, 12.3k, 4.56M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 10:
            return f"{number / size:.1f}{unit}"
        if number >= size and unit != "k":
            return f"{number / size:.2f}{unit}"
    return f"{number:.0f}"


class StatusLine:
    """Shows on a stream where something stands.

    On a terminal the line is redrawn in place, at most every LIVE_SECONDS; elsewhere a line is
    written every PLAIN_SECONDS.  Other output must go through `write`, which keeps out of its way.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self.live = stream.isatty() and not _dumb()
        self._colour = wants_colour(stream)
        self._interval = LIVE_SECONDS if self.live else PLAIN_SECONDS
        self._next = clock() + (0.0 if self.live else PLAIN_SECONDS)
        self._shown = False

    def update(self, standing: Standing) -> None:
        """Show `standing` if it is time to."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._interval
        if self.live:
            width = max(shutil.get_terminal_size().columns - 1, 20)
            _put(_ERASE_LINE + self._line(standing, width), self._stream)
            self._shown = True
        else:
            _put(self._line(standing, None) + "\n", self._stream)

    def write(self, text: str, stream: TextIO) -> None:
        """Write whole lines to `stream`, above the status line if that is on the screen."""
        self.clear()
        _put(text if text.endswith("\n") else text + "\n", stream)
        self._next = min(self._next, self._clock()) if self.live else self._next

    def clear(self) -> None:
        """Take the line off the screen until the next update."""
        if self._shown:
            _put(_ERASE_LINE, self._stream)
            self._shown = False

    def _line(self, standing: Standing, width: int | None) -> str:
        """The fields that fit into `width` columns; the leftmost ones are the last to go."""
        styles = {"alarm": _BOLD_RED, "dim": _DIM} if self._colour else {}
        line, used = "", 0
        for text, style in standing.fields():
            needed = len(text) + (2 if line else 0)
            if width is not None and used + needed > width:
                break
            escape = styles.get(style, "")
            line += ("  " if line else "") + (f"{escape}{text}{_RESET}" if escape else text)
            used += needed
        return line


def _put(text: str, stream: TextIO) -> None:
    """Write at once.  A terminal that hangs up ends nobody: SIGHUP does, which may come later."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        hush()
        stream.flush()  # fails again if it is no terminal but a disk


def _dumb() -> bool:
    return os.environ.get("TERM") == "dumb"
