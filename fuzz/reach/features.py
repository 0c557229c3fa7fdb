"""Which inputs of a corpus are needed to reach all that it reaches: places of the model, and cells.

Whoever asks (`fuzz.reach.prune`) starts this as a process of its own, `python -m
fuzz.reach.features`, since the model must be covered before it is imported.  It reads a `Task` and
prints a `Needed`, both as JSON.

A place that a process reaches only once, because the model remembers the answer, seems to be
reached by whichever input came first.  So the inputs that are left are run again, until all of them
are needed.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fuzz.campaign import coverage
from fuzz.lib.cover import small_cover
from fuzz.lib.processes import CpuLimit, TooLong

if TYPE_CHECKING:  # what these import must be covered first
    from collections.abc import Callable, Hashable

_MOST_SECONDS = 2.0  # CPU time of an input: as in a run, where such a one is a suspect


class Task(NamedTuple):
    """The inputs, by the names of their files, and what they are for; all of it plain JSON.

    `geometries` are those by which inputs are read; programs run on all `kernels`.
    """

    inputs: list[str]
    geometries: list[str]
    kernels: list[str]


class Needed(NamedTuple):
    """Those that are needed, the shortest programs first; how many `cells` and `places` they reach.

    `left_out` are inputs that take too long to run.  `places` is 0 where they cannot be told apart
    by input (Python 3.11).
    """

    inputs: list[str]
    left_out: list[str]
    cells: int
    places: int


def needed(task: Task) -> Needed:
    """Find out."""
    features = _Features(task)
    left = sorted(task.inputs, key=lambda name: (Path(name).stat().st_size, name))
    left_out: list[str] = []
    first = True
    while True:
        reached: dict[str, int] = {}
        for name in left:
            things = features.of(Path(name).read_bytes())
            if things is None:
                left_out.append(name)
            else:
                reached[name] = things
        fewer = small_cover(reached)
        if len(fewer) == len(left) and not first:
            break
        left, first = fewer, False
    both = 0
    for things in reached.values():
        both |= things
    cells = (both & features.cells).bit_count()
    return Needed(left, left_out, cells, both.bit_count() - cells)


class _Features:
    """Runs inputs and says what each reaches: sets as numbers, bit i for the i-th feature.

    `cells` is the set of those that are cells; the others are places.
    """

    def __init__(self, task: Task) -> None:
        self.cells = 0
        self._found = 0  # of the present input
        self._numbers: dict[Hashable, int] = {}
        self._counters = 0
        if coverage.MONITORED:
            with coverage.covered(None) as codes:
                import fuzz.execute  # noqa: F401  and with it the model
            self._again: Callable[[], None] = coverage.watch(self, codes)
        else:
            self._again = lambda: None
        from engine.base.geometry import geometry_named
        from engine.base.kernel import kernel_named
        from fuzz import bounded
        from fuzz.calls.registry import takes_long
        from fuzz.campaign.feedback import StateObserver
        from fuzz.execute import execute
        from fuzz.inputs.inputs import Inputs
        from fuzz.matrix import Matrix

        bounded.watched_already()
        self._execute, self._takes_long = execute, takes_long
        self._limit = CpuLimit(_MOST_SECONDS)
        geometries = [geometry_named(name) for name in task.geometries]
        self._decode = Inputs(geometries).decode
        cells = _Cells(self)
        self._grounds = [
            (
                Matrix([kernel_named(name).on(geometry) for name in task.kernels]),
                StateObserver(cells, geometry),  # type: ignore[arg-type]  # it only hits them
            )
            for geometry in geometries
        ]

    def of(self, data: bytes) -> int | None:
        """What an input reaches; None if it takes too long."""
        self._found = 0
        self._again()
        number, case = self._decode(data)
        kernels, observer = self._grounds[number]
        if self._takes_long(case, kernels.kernels[0].geometry.page_bytes):
            return None
        self._limit.begin()
        try:
            for noted in kernels.runs():
                outcome = self._execute(
                    case,
                    noted,
                    listeners=[observer],
                    stop=False,
                    on_step=observer.step,
                    check=False,
                )
                observer.finish(outcome, kernels.having(noted.settings))
        except (TooLong, MemoryError):
            observer.reset()
            return None
        finally:
            self._limit.end()
        return self._found

    def cell(self, name: "Hashable") -> None:
        """A cell is reached."""
        bit = 1 << self._number(name)
        self.cells |= bit
        self._found |= bit

    def _number(self, name: "Hashable") -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    # What `coverage.watch` asks of Atheris.

    def _reserve_counter(self) -> int:
        self._counters += 1
        return self._counters

    def _trace_branch(self, counter: int, /) -> None:
        self._found |= 1 << self._number(counter)


class _Cells:
    """What a `StateObserver` asks of `Cells`."""

    def __init__(self, features: _Features) -> None:
        self._features = features

    def hit(self, key: "Hashable", kernels: int = 1, *, feed: bool = True) -> None:
        """A cell is reached on these kernels."""
        from fuzz.matrix import singles

        for one in singles(kernels):
            self._features.cell((key, one))


if __name__ == "__main__":
    print(json.dumps(needed(Task(**json.loads(sys.stdin.read())))))
