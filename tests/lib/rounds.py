"""Rounds for tests, and an executor that does none of them."""

from collections.abc import Sequence
from dataclasses import replace

from fuzz.campaign.inquiry import Answer, Inquiry
from fuzz.campaign.round import End, Report, Round, program

ROUND = Round(
    id="a-1",
    seed=7,
    kernels=("linux-6.1", "linux-6.18"),
    geometries=("x86-64", "small"),
    focus=("x86-64",),
    calls=("mmap", "mremap"),
    max_calls=4,
    max_bytes=65,
    cells=True,
    tell_new=False,
    rules_after="moving",
    like=None,
    seconds=None,
    runs=50,
    flags=("-timeout=1",),
    patience=30,
    sample=(b"", b"\x00\xff"),
    program=program(),
)


class Planned:
    """An executor of rounds that do what a test says."""

    round_seconds = 60.0
    over = standing = ""

    def __init__(self, places: int = 1, *, remote: bool = False) -> None:
        self.places, self.remote = places, remote
        self.helpers = 0
        self.begun: list[Round] = []
        self.told: list[Report] = []
        self.stopped = False

    def begin(self, task: Round | Inquiry) -> None:
        assert isinstance(task, Round)
        self.begun.append(task)

    def tell(self, number: int, end: End | None = None, **fields: object) -> Report:
        """Let a round report something."""
        task = self.begun[number]
        report = replace(Report(task.id, task.program, end=end), **fields)  # type: ignore[arg-type]
        self.told.append(report)
        return report

    def heard(self, timeout: float) -> Sequence[Report | Answer]:
        told, self.told = self.told, []
        return told

    def news(self) -> Sequence[str]:
        return ()

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.stopped = True

    def close(self) -> None:
        pass
