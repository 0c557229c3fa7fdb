"""Rounds in processes of this machine, which share the corpus of the working directory."""

from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path

from fuzz.campaign.round import Report, Round
from fuzz.campaign.worker import Place, Worker

ROUND_SECONDS = 3600.0  # a new process has to read the corpus first


class Local:
    """An executor (`fuzz.campaign.executor`).

    What a process adds to the corpus the others read within seconds: it lies in the folder that is
    each one's first (libFuzzer's -reload).
    """

    remote = False
    round_seconds = ROUND_SECONDS

    def __init__(
        self, corpus: Path, seeds: Path, crashes: Path, logs: Path, places: int = 1
    ) -> None:
        """Arguments: the folders see `Place`; the logs lie in `logs`, one for each place."""
        self.places = places
        self._corpus, self._seeds, self._crashes, self._logs = corpus, seeds, crashes, logs
        self.workers: dict[int, Worker] = {}  # by the number of the place, from 0

    def begin(self, task: Round) -> None:
        """See `Executor`."""
        number = next(i for i in range(self.places) if i not in self.workers)
        log = self._logs / (f"libfuzzer-{number}.log" if number else "libfuzzer.log")
        shared = self.places > 1
        place = Place(self._corpus, self._seeds, self._crashes, log, shared)
        self.workers[number] = Worker(task, place)

    def heard(self, timeout: float) -> Sequence[Report]:
        """See `Executor`."""
        if self.workers:
            wait([worker.child.fileno() for worker in self.workers.values()], timeout)
        found = []
        for number, worker in list(self.workers.items()):
            if report := worker.report():
                found.append(report)
            if worker.ended:
                del self.workers[number]
        return found

    def stop(self) -> None:
        """See `Executor`."""
        for worker in self.workers.values():
            worker.stop()

    def kill(self) -> None:
        """See `Executor`."""
        for worker in self.workers.values():
            worker.kill()

    def close(self) -> None:
        """See `Executor`."""
        for worker in self.workers.values():
            worker.child.close()
        self.workers.clear()
