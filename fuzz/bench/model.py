"""What each part of the fuzzer costs, on the same programs: `python -m fuzz.bench`.

Parts of the work are left out, in this process and under Atheris.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from engine.base.kernel import Kernel, kernel_named
from fuzz.bench.events import events_of
from fuzz.bench.programs import programs
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.child import Child, Setting
from fuzz.campaign.feedback import Cells, StateObserver
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.forms import wire


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: what ran, how often a second, and what it adds to the row before."""

    what: str
    per_second: float
    more_microseconds: float | None = None


def seconds_per_call(work: Callable[[], object], times: int, repeat: int = 3) -> float:
    """CPU seconds that one of the `times` pieces of `work` takes; the best of `repeat` trials."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / times


def replay_rows(kernel: Kernel, inputs: Sequence[bytes]) -> Iterator[Row]:
    """What decoding, the engine, the checks and the state cells cost without Atheris."""
    cases = [wire.decode(data, kernel.geometry, MODELLED_CALLS) for data in inputs]
    run = partial(execute, kernel=kernel, stop=False)  # to the end, as in `pmdfuzz run`
    cells = Cells(None)
    observer = StateObserver(cells, kernel.geometry)

    def observe(cases: Sequence[Case]) -> None:
        for case in cases:
            observer.finish(run(case, listeners=[observer], on_step=observer.step))

    steps: list[tuple[str, Callable[[], object]]] = [
        ("decode", lambda: [wire.decode(data, kernel.geometry, MODELLED_CALLS) for data in inputs]),
        ("engine", lambda: [run(case, check=False) for case in cases]),
        ("+ rules", lambda: [run(case, oracle=False) for case in cases]),
        ("+ oracle", lambda: [run(case) for case in cases]),
        ("+ state cells", lambda: observe(cases)),
    ]
    before = 0.0
    for what, work in steps:
        each = seconds_per_call(work, len(inputs))
        yield Row(what, 1 / each, (each - before) * 1e6)
        before = each if what != "decode" else 0.0


def atheris_rows(kernel: Kernel, inputs: Sequence[bytes]) -> Iterator[Row]:
    """The fuzz target under Atheris, instrumented, on the same programs."""
    for cells in (False, True):
        yield Row(
            f"under Atheris, {'with' if cells else 'no'} cells",
            atheris_speed(kernel, inputs, cells=cells),
        )


def atheris_speed(kernel: Kernel, inputs: Sequence[bytes], *, cells: bool) -> float:
    """Inputs a CPU second under Atheris, each run once."""
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory) / "corpus"
        corpus.mkdir()
        for number, data in enumerate(inputs):
            (corpus / f"{number:06}").write_bytes(data)
        # libFuzzer runs the corpus first, after an empty input of its own; then it is to stop.
        runs = len(inputs) + 1
        calls = sorted(MODELLED_CALLS)
        setting = Setting([kernel.name], [kernel.geometry.name], calls, wire.MAX_CALLS, runs, cells)
        flags = [f"-runs={runs}", f"-max_len={max(map(len, inputs))}", str(corpus)]
        speed = 0.0
        for event in events_of(Child(setting, flags, Path(directory) / "log")):
            if event["event"] == "stats":
                speed = event["execs"] / event["cpu_seconds"]
    return speed


def speed(options: argparse.Namespace) -> None:
    """Print what each part costs."""
    kernel = kernel_named(options.kernel, options.geometry)
    inputs = programs(kernel, options.inputs, options.seed)
    calls = sum(len(wire.decode(data, kernel.geometry, MODELLED_CALLS).calls) for data in inputs)
    print(
        f"{len(inputs)} programs, {calls / len(inputs):.1f} calls each, {kernel.name} on "
        f"{kernel.geometry.name}, Python {sys.version.split()[0]}\n"
    )
    print(f"{'':28}{'programs/s':>12}{'adds µs':>12}")
    for row in chain(replay_rows(kernel, inputs), atheris_rows(kernel, inputs)):
        more = "" if row.more_microseconds is None else f"{row.more_microseconds:12.0f}"
        print(f"{row.what:28}{row.per_second:12.0f}{more}", flush=True)
