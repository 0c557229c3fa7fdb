"""The fuzzing processes of a run: one after the other, for one that dies is followed by another."""

import time
from collections.abc import Sequence

from fuzz.campaign.crashes import Crashes
from fuzz.campaign.session import Session
from fuzz.campaign.worker import Worker

MOST_FRUITLESS = 5  # processes in a row that die before they have executed anything


class Workers:
    """Starts the fuzzing processes; `all` has them in order, the last one may be running.

    Another process has another seed, or it would do the same again; it goes on with the corpus.
    """

    def __init__(self, session: Session, crashes: Crashes, longest_seed: int) -> None:
        """Start the first.  `longest_seed` are bytes."""
        self.all: list[Worker] = []
        self._session = session
        self._crashes = crashes
        self._longest_seed = longest_seed
        seconds = session.options.seconds
        # libFuzzer would look at the system's clock, which may be set meanwhile.
        self._ends_at = None if seconds is None else time.monotonic() + seconds
        self._fruitless = 0
        self._start(session.options.runs)

    @property
    def talking(self) -> Sequence[Worker]:
        """Those that have not ended, or have more to say."""
        return [worker for worker in self.all if worker.child.talking]

    @property
    def over(self) -> bool:
        """Is the time of the run over?"""
        return self._ends_at is not None and time.monotonic() >= self._ends_at

    def kill(self) -> None:
        """End them at once."""
        for worker in self.all:
            worker.child.kill()

    def close(self) -> None:
        """Wait for the end of the last one, which is about to end."""
        self.all[-1].child.close()

    def replace(self, *, asked: bool) -> None:
        """If the last one has ended as it should not, say why, and start another.

        Arguments: `asked` it was asked to end, before the time is over.
        """
        last = self.all[-1]
        if last.child.talking or last.seen_to:
            return
        last.seen_to = True
        failure = last.failure(last.child.close(), asked=asked or self.over)
        if failure is None:
            return
        self._fruitless = 0 if last.execs else self._fruitless + 1
        runs = self._session.options.runs
        if runs is not None:
            runs -= sum(worker.all_execs() for worker in self.all)
        hopeless = self._fruitless == MOST_FRUITLESS
        goes_on = (runs is None or runs > 0) and not hopeless
        self._crashes.of_worker(failure, goes_on=goes_on)
        if hopeless:
            self._crashes.hopeless(MOST_FRUITLESS)
        if goes_on:
            self._start(runs)

    def _start(self, runs: int | None) -> None:
        number = len(self.all)
        self.all.append(Worker(self._session, self._longest_seed, number, runs))
