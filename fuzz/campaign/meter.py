"""Where a run stands, in numbers for the status line."""

import os
import time
from collections import deque
from collections.abc import Sequence

from fuzz.campaign.differential import Differential
from fuzz.campaign.rounds import Rounds
from fuzz.campaign.session import Session

_CORPUS_SECONDS = 2.0  # between two counts of the corpus files
_SPEED_SECONDS = 5.0  # the speed shown is that of the last seconds


class Meter:
    """Keeps the progress of a session up to date."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._started = time.monotonic()
        self._speeds: deque[tuple[float, int]] = deque()
        self._next_corpus_count = 0.0

    def read(
        self, rounds: Rounds, machines: Sequence[Differential], *, exact: bool = False
    ) -> None:
        """Take all numbers afresh; the corpus is counted now and then, or if `exact`."""
        session, progress, now = self._session, self._session.progress, time.monotonic()
        progress.seconds = now - self._started
        progress.execs = rounds.execs
        progress.cells = sum(rounds.cells.values())
        unknown = [seen for seen in session.findings.values() if not seen.bucket.defect]
        progress.findings = len(unknown)
        progress.old = sum(seen.old for seen in unknown)
        progress.known = len(session.findings) - len(unknown)
        progress.machine = sum(one.done for one in machines) if machines else None
        progress.last_new = None if session.last_new is None else now - session.last_new
        progress.execs_per_second = self._speed(now)
        if exact or now >= self._next_corpus_count:
            self._next_corpus_count = now + _CORPUS_SECONDS
            progress.corpus = sum(1 for _ in os.scandir(session.corpus))

    def _speed(self, now: float) -> float:
        """Executions a second."""
        progress, speeds = self._session.progress, self._speeds
        if not speeds or progress.execs != speeds[-1][1]:
            speeds.append((now, progress.execs))
        while len(speeds) > 2 and speeds[0][0] < now - _SPEED_SECONDS:
            speeds.popleft()
        passed = speeds[-1][0] - speeds[0][0]
        return (speeds[-1][1] - speeds[0][1]) / passed if passed else progress.execs_per_second
