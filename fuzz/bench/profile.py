"""Where the model's time goes: `python -m fuzz.bench profile`."""

import argparse
import cProfile
import pstats
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.base.kernel import Kernel, kernel_named
from fuzz.bench.programs import cases_of
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.subjects.model import Model

_HERE = Path(__file__).resolve().parents[2]
_TOP = 3  # functions named for each module
_LEAST_SHARE = 0.01  # of a module that is listed


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
                Model(kernel).observe(case)
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


def profiled(options: argparse.Namespace) -> None:
    """Print where the model's time goes."""
    kernel = kernel_named(options.kernel)
    cases = cases_of(options.files, kernel, options.inputs, options.seed)
    what = "with rules and oracle" if options.rules else "as compared with a machine"
    print(f"{len(cases)} programs on {kernel.name}, {what}\n")
    print(f"{'':28}{'% of time':>10}  most of it in")
    for share in profile(kernel, cases, rules=options.rules):
        if share.part >= _LEAST_SHARE:
            functions = ", ".join(share.functions)
            print(f"{share.module:28}{share.part:10.1%}  {functions}")
