"""The model beside the machine: how fast each is, and where the model's time goes.

`python -m fuzz.bench machine` and `python -m fuzz.bench profile`.  Both take files of programs
(JSON lines with `ops`, such as recordings, or cases); without files they take random programs, as
`pmdfuzz kernel check` makes them.
"""

import cProfile
import os
import pstats
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from engine.kernel import Kernel
from fuzz import text, wire
from fuzz.case import Case
from fuzz.compare import difference, is_json_lines, modelled, programs
from fuzz.execute import execute
from fuzz.kernel.against import Against
from fuzz.kernel.check import generated
from fuzz.kernel.machine import CALLS, GEOMETRY, Machine, release, runnable
from fuzz.run import CORPUS

_HERE = Path(__file__).resolve().parent.parent
_TOP = 3  # functions named for each module


def cases_of(files: Sequence[Path], kernel: Kernel, number: int, seed: int) -> list[Case]:
    """The programs of `files`, or `number` random ones; without what no program can do.

    Errors raised: TruthError, CaseError, OSError.
    """
    if not files:
        loaded = (text.load(path) for path in sorted(CORPUS.rglob("*.case")))
        usable = [case for case in loaded if case.geometry in (None, GEOMETRY)]
        sources = [wire.encode(case, kernel.geometry) for case in usable]
        codec = wire.codec(kernel.geometry, frozenset(CALLS))
        return list(islice(generated([data for data in sources if data], codec, seed), number))
    cases = []
    for path in files:
        if is_json_lines(path):
            cases += [runnable(case.program()) for _, case in programs(path)]
        else:
            cases.append(runnable(text.load(path).program()))
    return [case for case in cases if case.calls]


class Beside(NamedTuple):
    """Programs a second of everyone who ran them, the machine first, and on how many of the
    programs machine and model agree."""

    per_second: dict[str, float]
    agreeing: int


def beside(kernel: str, cases: Sequence[Case], repeat: int = 3) -> Beside:
    """Run the programs on the machine, then on the model, on one core; the best of `repeat`.

    CPU time of the worker and of this process, so that other programs disturb little.
    Errors raised: MachineError, UnknownName.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # the worker inherits it
    try:
        with Against.open(kernel) as pair:
            machine = 0.0
            pair.machine.observe(cases[0])  # starts the worker
            for _ in range(repeat):
                before = _worker_seconds(pair.machine)
                observed = list(pair.machine.run(cases))
                machine = max(machine, len(cases) / (_worker_seconds(pair.machine) - before))
            found = [pair.model(case) for case in cases]
            return Beside(
                {
                    f"machine, Linux {release()}": machine,
                    f"model, {pair.kernel.name}": _per_second(pair.model, cases, repeat),
                    "model with rules and oracle": _per_second(
                        lambda case: execute(case, pair.kernel, stop=False), cases, repeat
                    ),
                },
                sum(difference(*each) is None for each in zip(cases, observed, found, strict=True)),
            )
    finally:
        os.sched_setaffinity(0, allowed)


def _worker_seconds(machine: Machine) -> float:
    """CPU time of the worker, as clock_getcpuclockid(3) finds it."""
    assert machine.worker is not None
    return time.clock_gettime((~machine.worker << 3) | 2)


def _per_second(work: Callable[[Case], object], cases: Sequence[Case], repeat: int) -> float:
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        for case in cases:
            work(case)
        best = min(best, time.process_time() - start)
    return len(cases) / best


class Share(NamedTuple):
    """What one module costs: its part of the time, from 0 to 1, and its most costly functions."""

    module: str
    part: float
    functions: tuple[str, ...]


def profile(kernel: Kernel, cases: Sequence[Case], *, rules: bool = False) -> list[Share]:
    """Where the model's time goes on these programs, by module, the most costly first.

    `rules` true checks rules and oracle, as a run does, instead of observing, as a comparison does.
    What is built into Python counts for the module that calls it.
    """
    profiler = cProfile.Profile()
    with profiler:
        for case in cases:
            if rules:
                execute(case, kernel, stop=False)
            else:
                modelled(case, kernel)
    seconds: Counter[tuple[str, str]] = Counter()
    stats: Any = pstats.Stats(profiler)
    for (file, _, function), (*_, own, _, callers) in stats.stats.items():
        if file != "~":
            seconds[_module(file), function] += own
            continue
        for (caller, _, name), (*_, part, _) in callers.items():
            seconds[_module(caller), name] += part
    modules: Counter[str] = Counter()
    for (module, _), part in seconds.items():
        modules[module] += part
    total = modules.total() or 1.0
    return [
        Share(module, part / total, _costly(seconds, module))
        for module, part in modules.most_common()
    ]


def _costly(seconds: Counter[tuple[str, str]], module: str) -> tuple[str, ...]:
    own = Counter({name: part for (where, name), part in seconds.items() if where == module})
    return tuple(name for name, _ in own.most_common(_TOP))


def _module(file: str) -> str:
    """`engine.move` of its file; of a library its name; `Python` for the rest."""
    path = Path(file)
    if any(path.is_relative_to(_HERE / package) for package in ("engine", "fuzz")):
        return ".".join(path.relative_to(_HERE).with_suffix("").parts)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return "Python"
