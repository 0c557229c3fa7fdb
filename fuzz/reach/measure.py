"""Runs programs and measures which lines and branches of the model they reach, by coverage.py.

Whoever asks (`fuzz.reach.reached`) starts this as a process of its own, `python -m
fuzz.reach.measure`, since coverage has to begin before the model is imported.  It reads a `Task` as
JSON: a corpus has more names than there may be arguments.  It writes coverage.py's own report, as
JSON, to a file, and says on stdout what it has run (`Ran`), as JSON.

What guides libFuzzer in a run is measured otherwise, and of one process: `fuzz.campaign.coverage`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # what these import must be covered first
    from fuzz.case import Case
    from fuzz.matrix import Matrix
    from fuzz.noted import Noted

HOME = Path(__file__).resolve().parents[2]
MODEL = HOME / "engine"
PROGRAMS = "programs"  # the context of what programs reach; what imports do has none


class Task(NamedTuple):
    """What to run, and where its report goes; all of it plain JSON.

    `cases` are files of cases, `inputs` files of inputs (`fuzz.inputs.inputs`), each with the names
    of the geometries of its run.  `kernels` are names; programs run on all of them.
    `geometry`, if not empty, is in place of that of cases.  `html` is a directory, or empty.
    """

    cases: list[str]
    inputs: list[tuple[str, list[str]]]
    kernels: list[str]
    geometry: str
    report: str
    html: str


class Ran(NamedTuple):
    """How many programs ran, how often in all, and on which we failed, and how."""

    programs: int
    runs: int
    failed: list[str]


def measure(task: Task) -> Ran:
    """Run the programs, and write the report."""
    from coverage import Coverage

    covered = Coverage(data_file=None, config_file=False, branch=True, source=[str(MODEL)])
    covered.start()
    try:
        import fuzz.bounded  # noqa: F401  with it the model, whose definitions are reached here

        covered.switch_context(PROGRAMS)
        ran = run(task)
    finally:
        covered.stop()
    covered.json_report(outfile=task.report, show_contexts=True)
    if task.html:
        covered.html_report(directory=task.html, title="pmdfuzz: what programs reach of the model")
    return ran


def run(
    task: Task,
    on_run: "Callable[[Noted], object]" = lambda _: None,
    on_program: "Callable[[], object]" = lambda: None,
) -> Ran:
    """Run the programs on all kernels that may do something else.

    Arguments: `on_run` is called after each run, with its kernel, `on_program` after each program.
    """
    from fuzz import bounded
    from fuzz.calls.registry import takes_long

    programs = runs = 0
    failed: list[str] = []
    for path, case in _programs(task):
        kernels = _matrix(tuple(task.kernels), case.geometry)
        if takes_long(case, kernels.kernels[0].geometry.page_bytes):
            continue
        programs += 1
        try:
            for noted in kernels.runs():
                bounded.run(case.program(), noted, stop=False)
                runs += 1
                on_run(noted)
        except Exception as error:
            failed.append(f"{path}: {type(error).__name__}: {error}")
        on_program()
    return Ran(programs, runs, failed)


def _programs(task: Task) -> "Iterator[tuple[str, Case]]":
    """The programs of all files, each with the name of its geometry."""
    from dataclasses import replace

    from engine.base.geometry import geometry_named
    from fuzz.forms.text import load
    from fuzz.inputs.inputs import Inputs

    for name in task.cases:
        case = load(Path(name))
        yield name, replace(case, geometry=task.geometry or case.geometry)
    for name, names in task.inputs:
        geometries = [geometry_named(one) for one in names]
        number, case = Inputs(geometries).decode(Path(name).read_bytes())
        yield name, replace(case, geometry=geometries[number].name)


@cache
def _matrix(names: tuple[str, ...], geometry: str | None) -> "Matrix":
    """The kernels of these names on a geometry."""
    from engine.base.kernel import kernel_named
    from fuzz.matrix import Matrix

    return Matrix([kernel_named(name, geometry) for name in names])


if __name__ == "__main__":
    print(json.dumps(measure(Task(**json.loads(sys.stdin.read())))))
