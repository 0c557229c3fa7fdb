"""Tasks in processes of this machine; rounds share the corpus of the working directory."""

import os
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path

from fuzz import bounded
from fuzz.campaign.inquiry import Answer, Inquiry, answer
from fuzz.campaign.round import Report, Round
from fuzz.campaign.worker import Place, Worker
from fuzz.lib.processes import Forks

_NICER = 10  # are processes that minimize what is known than those that fuzz
ROUND_SECONDS = 3600.0  # a new process has to read the corpus first


class Local:
    """An executor (`fuzz.campaign.executor`).

    What a process adds to the corpus the others read within seconds: it lies in the folder that is
    each one's first (libFuzzer's -reload).
    """

    remote = False
    over = standing = ""
    round_seconds = ROUND_SECONDS

    def __init__(
        self, corpus: Path, seeds: Path, crashes: Path, logs: Path, places: int = 1
    ) -> None:
        """Arguments: the folders see `Place`; the logs lie in `logs`, one for each place."""
        self.places = self.helpers = places
        self._corpus, self._seeds, self._crashes, self._logs = corpus, seeds, crashes, logs
        self.workers: dict[int, Worker] = {}  # by the number of the place, from 0
        self._forks = Forks(_answer)

    def begin(self, task: Round | Inquiry) -> None:
        """See `Executor`."""
        if isinstance(task, Inquiry):
            self._forks.begin(task)
            return
        number = next(i for i in range(self.places) if i not in self.workers)
        log = self._logs / (f"libfuzzer-{number}.log" if number else "libfuzzer.log")
        shared = self.places > 1
        place = Place(self._corpus, self._seeds, self._crashes, log, shared)
        self.workers[number] = Worker(task, place)

    def heard(self, timeout: float) -> Sequence[Report | Answer]:
        """See `Executor`."""
        talking = [worker.child.fileno() for worker in self.workers.values()]
        wait([*talking, *self._forks.descriptors], timeout)
        found: list[Report | Answer] = []
        for ended in self._forks.ended(0.0):
            found.append(ended.result or Answer.none(ended.task, ended.how))
        for number, worker in list(self.workers.items()):
            if report := worker.report():
                found.append(report)
            if worker.ended:
                del self.workers[number]
        return found

    def news(self) -> Sequence[str]:
        """See `Executor`."""
        return ()

    def stop(self) -> None:
        """See `Executor`."""
        for worker in self.workers.values():
            worker.stop()

    def kill(self) -> None:
        """See `Executor`."""
        for worker in self.workers.values():
            worker.kill()
        self._forks.kill()

    def close(self) -> None:
        """See `Executor`."""
        self._forks.kill()
        for worker in self.workers.values():
            worker.child.close()
        self.workers.clear()


def _answer(inquiry: Inquiry) -> Answer:
    """Answer, in a forked process."""
    if inquiry.bucket.defect:
        os.nice(_NICER)
    with bounded.ticking(lambda: None):  # the parent's affair is not ours
        return answer(inquiry)
