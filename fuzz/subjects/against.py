"""The kernel below us beside its model: where they part, and the smallest program that shows it."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self

from engine.base.kernel import Kernel
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.minimize.search import minimize
from fuzz.subjects.compare import Difference, Kind, asserting, difference, modelled, told
from fuzz.subjects.machine import (
    GEOMETRY,
    TIME_LIMIT,
    WITH_KEYS,
    Machine,
    MachineError,
    Observation,
    commit_limit_bytes,
    host_kernel,
    obstacles,
    release,
    runnable,
)

MINIMIZE_SECONDS = 120.0
RULE = "machine-differs"  # of findings; no rule of the model, but the one above all of them


class Divergence(NamedTuple):
    """A program on which machine and model part, what they did, and where they part first."""

    case: Case
    machine: Observation
    model: Observation
    difference: Difference

    @property
    def kind(self) -> Kind:
        """Its class."""
        return self.difference.kind

    @property
    def bucket(self) -> Bucket:
        """The finding that it is."""
        return Bucket(RULE, self.kind.call)

    def told(self) -> str:
        """The program and both results, in lines."""
        return told(self.case, self.machine, self.model, "machine")


class Against:
    """A machine and the model of its kernel; a context manager.

    `kernel` is the model; `machine` runs the cases.
    """

    def __init__(self, kernel: Kernel, machine: Machine, limit_bytes: int | None) -> None:
        """For `open`; `limit_bytes` see `commit_limit_bytes`."""
        self.kernel = kernel
        self.machine = machine
        self._limit_bytes = limit_bytes

    @classmethod
    def open(
        cls,
        kernel: str | None = None,
        geometry: str | None = None,
        *,
        time_limit: float = TIME_LIMIT,
    ) -> Self:
        """The kernel below us beside the model of that name (None: the model of its version).

        On the geometry with protection keys the kernel may use them; it is left none on the usual
        one (None).
        Errors raised: MachineError if it cannot be compared; UnknownName.
        """
        model = host_kernel(kernel, geometry or GEOMETRY)
        machine = Machine(time_limit=time_limit, keys=model.geometry.exec_only_keys)
        if wrong := obstacles():
            machine.close()
            lines = "\n  ".join(wrong)
            raise MachineError(f"this system is set up otherwise than the model:\n  {lines}")
        return cls(model, machine, commit_limit_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the machine."""
        self.machine.close()

    def model(self, case: Case) -> Observation:
        """What the model shows."""
        return modelled(case, self.kernel, commit_limit_bytes=self._limit_bytes)

    def both(self, case: Case) -> tuple[Observation, Observation]:
        """What the machine and the model show.  Errors raised: MachineError."""
        return self.machine.observe(case), self.model(case)

    def judge(self, case: Case, observed: Observation) -> Divergence | None:
        """How the model parts from what the machine showed of a runnable case, if it does."""
        found = self.model(case)
        differs = difference(case, observed, found)
        return Divergence(case, observed, found, differs) if differs else None

    def divergence(self, case: Case) -> Divergence | None:
        """How machine and model part on a case, as far as it is runnable.

        Errors raised: MachineError.
        """
        case = runnable(case.program())
        return self.judge(case, self.machine.observe(case)) if case.calls else None

    def earliest(self, divergence: Divergence) -> Divergence:
        """The divergence at the call that makes it.

        Results and page tables are known after each call.  What is observed at the end only may
        have come about earlier: the shortest beginning of the program that shows any difference
        tells where.
        Errors raised: MachineError.
        """
        for length in range(1, divergence.difference.call + 1):
            if found := self.divergence(divergence.case.with_calls(divergence.case.calls[:length])):
                return found
        calls = divergence.case.calls[: divergence.difference.call + 1]
        return self.divergence(divergence.case.with_calls(calls)) or divergence

    def minimized(
        self, divergence: Divergence, budget: int, tick: Callable[[], None] = lambda: None
    ) -> Divergence | None:
        """The simplest program found that shows a divergence of the same kind.

        `tick` is called before every run; what it raises ends the search.  So do MINIMIZE_SECONDS,
        after which the simplest so far counts: a program that hangs costs its time limit each time.
        Returns: None if the divergence does not happen again.
        Errors raised: MachineError.
        """

        def same(candidate: Case) -> bool:
            tick()
            found = self.divergence(candidate)
            return found is not None and found.kind == divergence.kind

        if not same(divergence.case):
            return None
        deadline = time.monotonic() + MINIMIZE_SECONDS

        def same_in_time(candidate: Case) -> bool:
            return time.monotonic() < deadline and same(candidate)

        case = minimize(divergence.case, same_in_time, self.kernel.geometry, budget=budget)
        return self.divergence(case)

    def as_case(self, divergence: Divergence, *found: str) -> Case:
        """The program as a case that asserts what the machine did; `found` are notes on the run."""
        differing = divergence.told().splitlines()[len(divergence.case.calls) :]
        comments = (f"Linux {release()} differs from {self.kernel.name}: {divergence.kind}",)
        return replace(
            asserting(divergence.case, divergence.machine),
            kernel=self.kernel.name,
            geometry=WITH_KEYS if self.kernel.geometry.exec_only_keys else None,
            expects=(),
            found=found,
            comments=(*comments, *differing),
        )
