"""How fast the fuzzer is, and what its parts cost: `python -m fuzz.bench`.

`speed` (the default) runs the same programs with parts of the work left out, in this process and
under Atheris.  `feedback` counts the executions until a finding turns up, with and without state
cells.  Nothing here fails on a slow machine: the numbers are for people to compare.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from random import Random
from typing import Any

from engine.kernel import Kernel, kernel_named
from fuzz import text, wire
from fuzz.case import Case
from fuzz.child import Child, Setting
from fuzz.execute import MODELLED_CALLS, execute
from fuzz.feedback import Cells, StateObserver
from fuzz.findings import Bucket
from fuzz.replay import DEFAULT_KERNEL
from fuzz.run import SEEDS

_POLL_SECONDS = 0.05


class NoCounters:
    """What `Cells` needs of Atheris, doing nothing: the price of counting without libFuzzer."""

    def __init__(self) -> None:
        self._numbers = count()

    def _reserve_counter(self) -> int:
        return next(self._numbers)

    def _trace_branch(self, counter: int, /) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: what ran, how often a second, and what it adds to the row before."""

    what: str
    per_second: float
    more_microseconds: float | None = None


def programs(kernel: Kernel, number: int, seed: int) -> list[bytes]:
    """`number` inputs: the seeds of the project first, then random ones."""
    random = Random(seed)
    inputs = []
    for directory in SEEDS:
        for path in sorted(directory.glob("*.case")):
            inputs.append(wire.encode(text.load(path), kernel.geometry))
    while len(inputs) < number:
        inputs.append(random.randbytes(wire.WIDTH * random.randint(1, wire.MAX_CALLS)))
    return inputs[:number]


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
    cells = Cells(NoCounters())
    observer = StateObserver(cells, kernel)

    def observe(cases: Sequence[Case]) -> None:
        for case in cases:
            observer.finish(execute(case, kernel, observer=observer, on_step=observer.step))
            cells.flush()

    steps: list[tuple[str, Callable[[], object]]] = [
        ("decode", lambda: [wire.decode(data, kernel.geometry, MODELLED_CALLS) for data in inputs]),
        ("engine", lambda: [execute(case, kernel, check=False) for case in cases]),
        ("+ rules", lambda: [execute(case, kernel, oracle=False) for case in cases]),
        ("+ oracle", lambda: [execute(case, kernel) for case in cases]),
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
        setting = Setting([kernel.name], kernel.geometry.name, calls, wire.MAX_CALLS, runs, cells)
        flags = [f"-runs={runs}", f"-max_len={max(map(len, inputs))}", str(corpus)]
        speed = 0.0
        for event in _events(Child(setting, flags, Path(directory) / "log")):
            if event["event"] == "stats":
                speed = event["execs"] / event["cpu_seconds"]
    return speed


def executions_until(
    bucket: Bucket, kernel: Kernel, *, calls: list[str], cells: bool, seed: int, limit: int
) -> int | None:
    """Executions until a fuzzer that starts from nothing meets the finding.

    Returns: None if it did not within `limit`.
    """
    with tempfile.TemporaryDirectory() as directory:
        setting = Setting([kernel.name], kernel.geometry.name, calls, wire.MAX_CALLS, limit, cells)
        flags = [f"-seed={seed}", f"-runs={limit}", f"-max_len={wire.WIDTH * wire.MAX_CALLS}"]
        child = Child(setting, flags, Path(directory) / "log")
        for event in _events(child):
            if event["event"] == "finding" and (event["rule"], event["call"]) == bucket:
                return int(event["execs"])
    return None


def _events(child: Child) -> Iterator[dict[str, Any]]:
    """Events until the child ends; the child ends with the loop that reads them."""
    try:
        while child.talking:
            yield from child.events(_POLL_SECONDS)
    finally:
        child.kill()
        child.close()


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


def feedback(options: argparse.Namespace) -> None:
    """Print the executions until a finding with and without state cells."""
    kernel = kernel_named(options.kernel, options.geometry)
    bucket = Bucket.named(options.finding)
    calls = sorted(options.ops.split(",") if options.ops else MODELLED_CALLS)
    print(
        f"{bucket.name} on {kernel.name}, from an empty corpus, at most {options.limit} executions"
    )
    print(f"{'':12}{'found':>8}{'median':>10}  executions of each seed (-: not found)")
    for cells in (True, False):
        results = [
            executions_until(
                bucket, kernel, calls=calls, cells=cells, seed=seed, limit=options.limit
            )
            for seed in range(1, options.seeds + 1)
        ]
        found = sum(result is not None for result in results)
        # A run that did not find it took more than the limit: the median stays meaningful.
        median = statistics.median(options.limit if r is None else r for r in results)
        bound = ">=" if median >= options.limit else ""
        each = " ".join("-" if result is None else str(result) for result in results)
        print(
            f"{'cells' if cells else 'no cells':12}{f'{found}/{len(results)}':>8}"
            f"{f'{bound}{median:.0f}':>10}  {each}",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark.  Returns: the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz.bench", description="Measure the fuzzer; see the module."
    )
    parser.set_defaults(command=speed)
    parser.add_argument("--kernel", default=DEFAULT_KERNEL, help="default: %(default)s")
    parser.add_argument("--geometry", help="in place of the kernel's own")
    parser.add_argument("--inputs", type=int, default=4000, help="programs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random programs")
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("speed", help="what each part costs (default)")
    sub = commands.add_parser("feedback", help="executions until a finding, with and without cells")
    sub.set_defaults(command=feedback)
    sub.add_argument("--kernel", default="linux-6.1", help="default: %(default)s")
    sub.add_argument("--finding", default="dest-entry-none--execve_stack", metavar="RULE--CALL")
    sub.add_argument("--seeds", type=int, default=5, help="runs of each kind")
    sub.add_argument("--limit", type=int, default=100_000, help="executions of a run")
    sub.add_argument("--ops", help=f"only these calls, out of: {', '.join(sorted(MODELLED_CALLS))}")
    options = parser.parse_args(argv)
    options.command(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
