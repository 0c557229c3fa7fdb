"""Runs all programs of a layout on all kernels, each again with every allocation that may fail."""

from hashlib import blake2b
from typing import NamedTuple

from engine.base.failures import KINDS
from engine.base.kernel import kernel_named
from engine.state.space import AddressSpace
from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.defects.attribute import Runs, findings_on
from fuzz.execute import Outcome, execute
from fuzz.exhaust.programs import Bound, Layout, programs
from fuzz.findings.bucket import Bucket
from fuzz.matrix import Matrix
from fuzz.showing import runs_of
from fuzz.subjects.state import state_of

_FAR = 1 << 20  # an attempt that no program comes to
_DIGEST_BYTES = 8


class Task(NamedTuple):
    """A part of the programs of a layout; `programs` is how many it has without failures."""

    layout: Layout
    part: int
    of: int
    programs: int


class Broken(NamedTuple):
    """So many programs show a finding on a kernel; the first of them."""

    times: int
    case: Case


class Tried(NamedTuple):
    """What came of it.

    `programs` with those in which something fails; `runs` of them on kernels; `states` the digests
    of the states that they end in; `broken` by kernel and finding.
    """

    programs: int
    runs: int
    states: frozenset[bytes]
    broken: dict[tuple[str, Bucket], Broken]


def tried(task: Task, bound: Bound, kernels: tuple[str, ...]) -> Tried:
    """Run them."""
    return _Trial(bound, kernels).run(task)


class _Trial:
    """The kernels, and what has come of the programs so far."""

    def __init__(self, bound: Bound, kernels: tuple[str, ...]) -> None:
        self._bound = bound
        geometry = bound.geometry.name
        self._matrix = Matrix([kernel_named(name, geometry) for name in kernels])
        self._names = kernels
        self._programs = self._runs = 0
        self._states: set[bytes] = set()
        self._broken: dict[tuple[str, Bucket], Broken] = {}

    def run(self, task: Task) -> Tried:
        """All programs of a task."""
        for case in programs(self._bound, task.layout, task.part, task.of):
            first = len(case.calls) - task.layout.moves
            attempts = self._program(case, first)
            for kind, most in enumerate(attempts):
                for nth in range(1, most + 1):
                    calls = list(case.calls)
                    calls.insert(first, call("@fail", kind, nth))
                    self._program(Case(tuple(calls)), None)
        return Tried(self._programs, self._runs, frozenset(self._states), self._broken)

    def _program(self, case: Case, first: int | None) -> list[int]:
        """Run one on all kernels.

        Returns: how often it may be refused something from its call `first` on, by kind.
        """
        self._programs += 1
        most = [0] * len(KINDS)
        runs = runs_of(case)

        def begins(index: int, space: AddressSpace) -> None:
            if first is not None and index == first - 1:
                for kind in KINDS:
                    space.failures.arm(kind, _FAR)

        for noted in self._matrix.runs():
            outcome = execute(case, noted, stop=False, on_step=begins)
            self._runs += 1
            same = self._matrix.having(noted.settings)
            self._states.add(digest(outcome))
            if first is not None:
                left = outcome.space.failures.left()
                most = [
                    max(count, _FAR - left[kind][0])
                    for kind, count in zip(KINDS, most, strict=True)
                ]
            runs.add(noted, outcome)
            if outcome.violations:
                self._note(case, runs, same)
        return most

    def _note(self, case: Case, runs: Runs, same: int) -> None:
        """Count what a program has broken on kernels that do the same."""
        for some, shown in findings_on(runs, self._matrix, same):
            for number in self._matrix.numbers(some):
                for found in shown:
                    key = self._names[number], found.bucket
                    times, earlier = self._broken.get(key, (0, case))
                    self._broken[key] = Broken(times + 1, earlier)


def digest(outcome: Outcome) -> bytes:
    """A short name of the state that a program ends in, the same in every process."""
    state = state_of(outcome.space)
    pages = sorted((where, sorted(leaves.items())) for where, leaves in state.pages.items())
    told = (
        pages,
        sorted(state.objects.items()),
        [tuple(area) for area in state.vmas],
        sorted(state.counts.items()),
        sorted(state.tables.items()),
    )
    return blake2b(repr(told).encode(), digest_size=_DIGEST_BYTES).digest()
