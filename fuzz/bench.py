"""How fast the fuzzer is, and what its parts cost: `python -m fuzz.bench`.

`speed` (the default) runs the same programs with parts of the work left out, in this process and
under Atheris.  `machine` runs programs on the kernel below us and on its model, `profile` says
where the model's time goes.  `feedback` counts the executions until a finding turns up, with and
without feeding state cells to libFuzzer.  Nothing here fails on a slow machine: the numbers are
for people to compare.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from engine.kernel import Kernel, kernel_named
from fuzz import text, wire
from fuzz.bench_machine import beside, cases_of, profile
from fuzz.bench_rules import group_costs, left_out_costs, state_costs
from fuzz.bucket import Bucket
from fuzz.calls import MODELLED_CALLS
from fuzz.case import Case
from fuzz.child import Child, Setting
from fuzz.execute import execute
from fuzz.feedback import KINDS, Cells, StateObserver
from fuzz.kernel.machine import host_kernel
from fuzz.replay import DEFAULT_KERNEL
from fuzz.run import SEEDS

_POLL_SECONDS = 0.05
_LEAST_SHARE = 0.01  # of a module that is listed


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
    cells = Cells(None)
    observer = StateObserver(cells, kernel)

    def observe(cases: Sequence[Case]) -> None:
        for case in cases:
            observer.finish(execute(case, kernel, observer=observer, on_step=observer.step))

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
    bucket: Bucket, kernel: Kernel, *, calls: list[str], fed: Sequence[str], seed: int, limit: int
) -> int | None:
    """Executions until a fuzzer that starts from nothing meets the finding.

    Returns: None if it did not within `limit`.
    """
    with tempfile.TemporaryDirectory() as directory:
        setting = Setting(
            [kernel.name], kernel.geometry.name, calls, wire.MAX_CALLS, limit, bool(fed), fed
        )
        flags = [f"-seed={seed}", f"-runs={limit}", f"-max_len={wire.WIDTH * wire.MAX_CALLS}"]
        child = Child(setting, flags, Path(directory) / "log")
        for event in _events(child):
            if event["event"] == "finding" and Bucket(*event["bucket"]) == bucket:
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


def machine(options: argparse.Namespace) -> None:
    """Print the speeds of machine and model on the same programs."""
    name = options.kernel or host_kernel().name
    cases = cases_of(options.files, kernel_named(name), options.inputs, options.seed)
    calls = sum(len(case.calls) for case in cases)
    print(f"{len(cases)} programs, {calls / len(cases):.1f} calls each, one core\n")
    speeds, agreeing = beside(name, cases)
    machine_speed = next(iter(speeds.values()))
    print(f"{'':36}{'programs/s':>12}{'machine/it':>12}")
    for who, per_second in speeds.items():
        print(f"{who:36}{per_second:12.0f}{machine_speed / per_second:12.2f}")
    print(f"{agreeing} of {len(cases)} programs agree")


def profiled(options: argparse.Namespace) -> None:
    """Print where the model's time goes."""
    kernel = kernel_named(options.kernel or DEFAULT_KERNEL)
    cases = cases_of(options.files, kernel, options.inputs, options.seed)
    what = "with rules and oracle" if options.rules else "as compared with a machine"
    print(f"{len(cases)} programs on {kernel.name}, {what}\n")
    print(f"{'':28}{'% of time':>10}  most of it in")
    for share in profile(kernel, cases, rules=options.rules):
        if share.part >= _LEAST_SHARE:
            functions = ", ".join(share.functions)
            print(f"{share.module:28}{share.part:10.1%}  {functions}")


def rules(options: argparse.Namespace) -> None:
    """Print what the groups of rules cost, and each rule on a whole state."""
    kernel = kernel_named(options.kernel, options.geometry)
    inputs = programs(kernel, options.inputs, options.seed)
    cases = [wire.decode(data, kernel.geometry, MODELLED_CALLS) for data in inputs]
    calls = sum(len(case.calls) for case in cases)
    print(f"{len(cases)} programs, {calls / len(cases):.1f} calls each, {kernel.name}\n")
    for title, costs in (
        ("µs of CPU time a program", group_costs(kernel, cases)),
        ("the same, with groups of rules left out", left_out_costs(kernel, cases)),
        ("the same, looking after every call", state_costs(kernel, cases)),
    ):
        print(title)
        for cost in costs:
            print(f"  {cost.what:40}{cost.microseconds:10.1f}", flush=True)


def feedback(options: argparse.Namespace) -> None:
    """Print the executions until a finding, with and without cells that feed libFuzzer."""
    kernel = kernel_named(options.kernel, options.geometry)
    bucket = Bucket.named(options.finding)
    calls = sorted(options.ops.split(",") if options.ops else MODELLED_CALLS)
    print(
        f"{bucket.name} on {kernel.name}, from an empty corpus, at most {options.limit} executions"
    )
    fed = tuple(options.feed.split(","))
    if unknown := set(fed) - set(KINDS):
        sys.exit(f"--feed: unknown {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")
    print(f"{'fed':12}{'found':>8}{'median':>10}  executions of each seed (-: not found)")
    for kinds in (fed, ()):
        results = [
            executions_until(bucket, kernel, calls=calls, fed=kinds, seed=seed, limit=options.limit)
            for seed in range(1, options.seeds + 1)
        ]
        found = sum(result is not None for result in results)
        # A run that did not find it took more than the limit: the median stays meaningful.
        median = statistics.median(options.limit if r is None else r for r in results)
        bound = ">=" if median >= options.limit else ""
        each = " ".join("-" if result is None else str(result) for result in results)
        print(
            f"{','.join(kinds) or 'nothing':12}{f'{found}/{len(results)}':>8}"
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
    sub = commands.add_parser("rules", help="what the groups of rules cost")
    sub.set_defaults(command=rules)
    for name, command, summary in (
        ("machine", machine, "the kernel below us and its model, side by side"),
        ("profile", profiled, "where the model's time goes"),
    ):
        sub = commands.add_parser(name, help=summary)
        sub.set_defaults(command=command, kernel=None)
        sub.add_argument("files", nargs="*", type=Path, metavar="FILE", help="of programs")
        sub.add_argument("--kernel", default=None, help="default: that of the machine")
        sub.add_argument("--inputs", type=int, default=4000, help="random programs, without files")
    sub.add_argument("--rules", action="store_true", help="as in a run, with rules and oracle")
    sub = commands.add_parser(
        "feedback", help="executions until a finding, with and without feeding cells"
    )
    sub.set_defaults(command=feedback)
    sub.add_argument("--kernel", default="linux-6.1", help="default: %(default)s")
    sub.add_argument("--finding", default="dest-entry-none--execve_stack--B-01", metavar="NAME")
    sub.add_argument("--feed", default="vma", metavar="KIND,…", help=f"out of: {', '.join(KINDS)}")
    sub.add_argument("--seeds", type=int, default=5, help="runs of each kind")
    sub.add_argument("--limit", type=int, default=100_000, help="executions of a run")
    sub.add_argument("--ops", help=f"only these calls, out of: {', '.join(sorted(MODELLED_CALLS))}")
    options = parser.parse_args(argv)
    options.command(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
