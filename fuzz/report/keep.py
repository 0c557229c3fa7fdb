"""A report that is kept up to date while a run goes on: made again every minute."""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz.findings.cases import FINDINGS
from fuzz.findings.database import LEDGER
from fuzz.lib.files import WriteError
from fuzz.lib.processes import Forks
from fuzz.report.make import Made, make
from fuzz.report.studies import Studies

EVERY_SECONDS = 60.0
_SHARE = 20  # making reports takes no more than this part of the time
_LOOK_SECONDS = 1.0  # between two looks whether it is time to
_MOST_SECONDS = 60.0  # that the end of a run waits for the one that is being made
_NICE = 19
_Marks = tuple[int, ...]


class Keeper:
    """Makes the report of a working directory again, when that has changed and a minute is over."""

    def __init__(
        self,
        workdir: Path,
        out: Path,
        jobs: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workdir = workdir
        self._out = out
        self._jobs = jobs
        self._clock = clock
        self._studies = Studies(workdir)  # what is at hand need not be read again
        self._next = 0.0
        self._marks: _Marks = ()  # of what the last one was made of
        self._in_progress = False

    def look(self) -> Made | None:
        """Make it, if it is time to.

        Errors raised: WriteError, OSError.
        """
        began = self._clock()
        marks = self._changed()
        if began < self._next or not marks or (marks == self._marks and not self._in_progress):
            return None
        try:
            made = make(self._workdir, self._out, self._jobs, studies=self._studies)
            self._marks, self._in_progress = marks, made.in_progress
            return made
        finally:
            now = self._clock()
            self._next = now + max(EVERY_SECONDS, _SHARE * (now - began))

    def _changed(self) -> _Marks:
        """Differs once a run, or somebody, has written something; empty: there is nothing yet."""
        marks = []
        for name in (LEDGER, f"{LEDGER}-wal", FINDINGS):
            with contextlib.suppress(OSError):
                marks.append((self._workdir / name).stat().st_mtime_ns)
        return tuple(marks)


@contextlib.contextmanager
def kept(workdir: Path, out: Path) -> Iterator[None]:
    """While this lasts, a process of its own keeps the report; at the end it is made a last time.

    The process is begun before there is a ledger that it would have open as well, and has less of
    the processor than those that fuzz.  What goes wrong there may be right a minute later; if not,
    the last time says so.
    Errors raised: WriteError, OSError.
    """
    reader, writer = os.pipe()
    forks: Forks[int, None] = Forks(lambda over: _keep(workdir, out, over))
    forks.begin(reader)
    try:
        yield
    finally:
        os.write(writer, b".")
        forks.ended(_MOST_SECONDS)
        forks.kill()
        os.close(reader)
        os.close(writer)
    if workdir.is_dir():
        make(workdir, out)


def _keep(workdir: Path, out: Path, over: int) -> None:
    """Look again and again, until there is something to be read from a descriptor."""
    os.nice(_NICE)
    keeper = Keeper(workdir, out)
    poll = select.poll()
    poll.register(over, select.POLLIN)
    while not poll.poll(_LOOK_SECONDS * 1000):
        with contextlib.suppress(WriteError, OSError):
            keeper.look()
