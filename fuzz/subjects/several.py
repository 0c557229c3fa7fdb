"""Several subjects of one kind, side by side: cases are dealt out to them."""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import count, cycle, islice, tee

from fuzz.case import Case
from fuzz.subjects.subject import Observation, Subject


class Several(Subject):
    """Subjects that do the same, such as virtual machines of one kernel.

    They work while others are waited for: cases are sent ahead.
    """

    def __init__(self, start: Callable[[], Subject], jobs: int) -> None:
        """Start `jobs` of them.  Errors raised: what `start` raises."""
        self.subjects: list[Subject] = []
        try:
            for _ in range(jobs):
                self.subjects.append(start())
        except BaseException:
            self.close()
            raise
        first = self.subjects[0]
        self.name, self.able, self.geometry = first.name, first.able, first.geometry
        self.kernel_name, self.commit_limit = first.kernel_name, first.commit_limit
        self.emulated = first.emulated

    @property
    def seconds(self) -> float:
        """See `Subject`: of the one that took longest."""
        return max(subject.seconds for subject in self.subjects)

    @property
    def implementation(self) -> str:
        """See `Subject`."""
        return self.subjects[0].implementation

    def obstacles(self) -> list[str]:
        """See `Subject`."""
        return self.subjects[0].obstacles()

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        """See `Subject`."""
        jobs = len(self.subjects)
        streams = [
            subject.run(islice(copy, number, None, jobs))
            for number, (subject, copy) in enumerate(
                zip(self.subjects, tee(cases, jobs), strict=True)
            )
        ]
        try:
            for number, stream in zip(count(), cycle(streams)):
                observation = next(stream, None)
                if observation is None:
                    return
                yield observation | ({"id": str(number)} if "id" in observation else {})
        finally:
            for stream in streams:
                if isinstance(stream, Generator):
                    stream.close()

    def observe(self, case: Case) -> Observation:
        """See `Subject`: on the first."""
        first = self.subjects[0]
        first.to_the_end = self.to_the_end
        return first.observe(case)

    def late(self, *, last: bool = False) -> Iterator[tuple[Case, Observation]]:
        """See `Subject`."""
        for subject in self.subjects:
            yield from subject.late(last=last)

    def close(self) -> None:
        """See `Subject`."""
        for subject in self.subjects:
            subject.close()
