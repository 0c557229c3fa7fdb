"""What a program costs on one kernel and on many at a time (`fuzz.matrix`):
`python -m fuzz.bench kernels`."""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from engine.base.geometry import GEOMETRIES, Geometry
from engine.base.kernel import KERNELS, kernel_named, releases
from fuzz import bounded
from fuzz.campaign.feedback import Cells, StateObserver
from fuzz.campaign.selfcheck import programs
from fuzz.case import Case
from fuzz.defects.attribute import Runs, findings_on
from fuzz.execute import execute
from fuzz.matrix import Matrix

_SETS: dict[str, tuple[str, ...]] = {
    "linux-6.18": ("linux-6.18",),
    "6.1 and 7.3, as make fuzz": ("linux-6.1", "linux-7.3"),
    "five, 5.0 to 6.18": tuple(KERNELS)[:5],
    "all": tuple(kernel.name for kernel in releases()),
}


class Cost(NamedTuple):
    """What a program costs on average: how often it is run, and how long all of it takes."""

    runs: float
    milliseconds: float  # of CPU time


def cost(names: Sequence[str], geometry: Geometry, cases: Sequence[Case]) -> Cost:
    """What programs cost on kernels of these names, as in a run: rules, cells, findings."""
    matrix = Matrix([kernel_named(name).on(geometry) for name in names])
    cells = Cells(None)
    observer = StateObserver(cells, geometry)
    again = partial(bounded.run, stop=False)
    ran, start = 0, time.process_time()
    for case in cases:
        runs = Runs(case, again)
        for noted in matrix.runs():
            outcome = execute(case, noted, stop=False, listeners=[observer], on_step=observer.step)
            same = matrix.having(noted.settings)
            runs.add(noted, outcome)
            observer.finish(outcome, same)
            if outcome.violations:
                for _ in findings_on(runs, matrix, same):
                    pass
            ran += 1
    seconds = time.process_time() - start
    return Cost(ran / len(cases), seconds / len(cases) * 1e3)


def kernels(options: argparse.Namespace) -> None:
    """Print what the programs cost."""
    geometry = GEOMETRIES[options.geometry or "x86-64"]
    cases = list(islice(programs(geometry, str(options.seed), []), options.inputs))
    print(f"{len(cases)} programs as a run makes them, on {geometry.name}\n")
    print(f"{'kernels':30}{'number':>8}{'runs':>8}{'ms':>8}   of CPU time, a program")
    for what, names in _SETS.items():
        runs, milliseconds = cost(names, geometry, cases)
        print(f"{what:30}{len(names):8}{runs:8.2f}{milliseconds:8.2f}", flush=True)
