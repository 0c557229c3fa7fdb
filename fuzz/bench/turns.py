"""What is measured in turns: slices of work that each tree does, a moment at a time.

On a busy machine even CPU time differs by a fifth from one minute to the next: what two trees take
compares only if they take it at the same time (`fuzz.bench.tree.in_turns`).  Each slice gives a
ratio; how far the ratios of several slices lie apart says how much they can be trusted.
"""

import csv
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fuzz.bench.tree import BenchError, Job, Report, Tree, in_turns
from fuzz.subjects.recordings import opened

KERNELS = ("linux-6.1", "linux-7.3")  # those of `make fuzz`
_COMPARE_SECONDS = 2.0  # a slice at least
_WARM_UP = 100  # recordings
_LEAST_SECONDS = 0.01  # a trial of the museum; its table has no smaller figure


class Unit(NamedTuple):
    """What a row shows: its unit, and whether more of it is better."""

    what: str
    more_is_better: bool
    digits: int = 0


RATE = "executions a CPU second of `run`"
RECORDINGS = Unit("recordings a CPU second of `compare`", True)
FIND_EXECUTIONS = Unit("executions to find an exhibit", False)
FIND_SECONDS = Unit("CPU seconds to find an exhibit", False, 2)
JOBS = "executions a second of `run`"
JOBS_CPU = "executions a CPU second of all processes,"
MEMORY = "peak MiB of the fuzzing process"


class Slice(NamedTuple):
    """One piece of work for each tree in turn.

    `number` is the repetition that it belongs to; `seconds` about how long a tree takes; `figures`
    returns one for each row, from what the job took; `alone` lets each tree do all of it at once.
    """

    what: str
    number: int
    seconds: float
    job: Callable[[Tree], Job]
    figures: Callable[[Tree, Report], Mapping[Unit, float]]
    alone: bool = False

    def work(self, trees: Sequence[Tree]) -> list[Mapping[Unit, float]]:
        """Do it.  Returns: the figures of each tree.  Errors raised: BenchError."""
        if self.alone:
            reports = [tree.run(self.job(tree)) for tree in trees]
        else:
            reports = in_turns([(tree, self.job(tree)) for tree in trees])
        return [self.figures(tree, ran) for tree, ran in zip(trees, reports, strict=True)]


@dataclass(slots=True)
class Row:
    """The figures of one unit: of each tree by repetition, in the order of the slices."""

    unit: Unit
    figures: dict[str, dict[int, list[float]]] = field(default_factory=dict)

    def add(self, tree: str, number: int, figure: float) -> None:
        """Note what a slice has given."""
        self.figures.setdefault(tree, {}).setdefault(number, []).append(figure)

    def of(self, tree: str) -> list[float]:
        """The figure of a tree in each repetition; the geometric mean if there are several."""
        return [statistics.geometric_mean(figures) for figures in self.figures[tree].values()]

    def pairs(self, this: str, other: str) -> list[list[float]]:
        """The ratio this / other of each pair of slices, by repetition."""
        mine, theirs = self.figures[this], self.figures.get(other, {})
        return [
            [a / b for a, b in zip(mine[number], theirs[number], strict=False)]
            for number in mine
            if number in theirs
        ]

    def ratios(self, this: str, other: str) -> list[float]:
        """The ratio this / other of each repetition, a geometric mean over its pairs."""
        return [statistics.geometric_mean(ratios) for ratios in self.pairs(this, other)]


def overall(ratios: Sequence[float]) -> tuple[float, float]:
    """The geometric mean of ratios, and its standard error, which is a factor, too."""
    logs = [math.log(ratio) for ratio in ratios]
    error = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return math.exp(statistics.mean(logs)), math.exp(error)


# --- Slices ---------------------------------------------------------------------------------------


def run_slices(number: int, runs: int) -> list[Slice]:
    """A run from an empty corpus and the project's seeds, on x86-64 alone and as it is by default.

    A number of executions and not a time: programs get slower, and need more memory, as the corpus
    grows, so after equal times a faster tree would be measured on slower programs.
    """

    def job(flags: Sequence[str], tree: Tree) -> Job:
        words = _run(tree, f"run-{number}{''.join(flags)}", number, KERNELS, jobs=1)
        return Job([[*words, *flags, f"--runs={runs}"]], fine=(0, 1))

    def figures(where: str, tree: Tree, ran: Report) -> Mapping[Unit, float]:
        if not ran.executions:
            raise BenchError(f"{tree.home}: `run` told of no executions")
        found = {Unit(f"{RATE}, {where}", True): ran.executions / ran.fuzzing_seconds}
        if ran.peak_bytes:
            found[Unit(f"{MEMORY}, {where}", False, 1)] = ran.peak_bytes / (1 << 20)
        return found

    return [
        Slice(f"run, {where}", number, 2 + runs / 200, partial(job, flags), partial(figures, where))
        for where, flags in (("x86-64 alone", ["--geometry=x86-64"]), ("as `make fuzz`", []))
    ]


def _run(tree: Tree, workdir: str, seed: int, kernels: Sequence[str], jobs: int) -> list[str]:
    """`run` from nothing, in so many processes.

    Errors raised: BenchError if the tree is too old for as many.
    """
    words = ["run", f"--seed={seed}", f"--workdir={tree.scratch / workdir}"]
    words += [f"--kernel={kernel}" for kernel in kernels]
    if tree.takes("--jobs"):
        words.append(f"--jobs={jobs}")
    elif jobs > 1:
        raise BenchError(f"{tree.home}: `run` has no --jobs")
    return words


def jobs_slices(number: int, jobs: Sequence[int], seconds: int) -> list[Slice]:
    """Runs of equal time in more and more processes, one after the other.

    Not a moment each: that would tell nothing of what processes do to each other.  The start
    counts, and so does what is minimized beside.  On one kernel and one geometry: where there are
    several to share out, an execution of each process is less work.
    """

    def job(many: int, tree: Tree) -> Job:
        words = _run(tree, f"jobs-{number}-{many}", number, KERNELS[-1:], many)
        return Job([[*words, "--geometry=x86-64", f"--time={seconds}"]], fine=(0, 1))

    def figures(many: int, _: Tree, ran: Report) -> Mapping[Unit, float]:
        return {
            of_jobs(many): ran.executions / seconds,
            Unit(f"{JOBS_CPU} --jobs {many}", True): ran.executions / ran.fuzzing_seconds,
        }

    return [
        Slice(
            f"run --jobs {many}",
            number,
            seconds + 5,
            partial(job, many),
            partial(figures, many),
            alone=True,
        )
        for many in jobs
    ]


def of_jobs(many: int) -> Unit:
    """The row of runs in so many processes."""
    return Unit(f"{JOBS} --jobs {many}", True)


class Truth(NamedTuple):
    """A file of recordings: of which kernel, how many."""

    path: Path
    kernel: str
    recordings: int


def compare_slices(number: int, truths: Sequence[Truth]) -> list[Slice]:
    """The comparison of each file, after a short one that imports and warms up."""

    def job(truth: Truth, tree: Tree) -> Job:
        kernel = f"--kernel={truth.kernel}"
        head = tree.scratch / f"{truth.kernel}.head.jsonl"
        with opened(truth.path) as lines:
            head.write_bytes(b"".join(islice(lines, _WARM_UP)))
        return Job(
            [["compare", str(truth.path), kernel]],
            warm_up=[["compare", str(head), kernel]],
            least_seconds=_COMPARE_SECONDS,
        )

    def figures(truth: Truth, _: Tree, ran: Report) -> Mapping[Unit, float]:
        return {RECORDINGS: truth.recordings * ran.rounds / ran.seconds}

    return [
        Slice(
            f"compare {truth.path.name}",
            number,
            1 + max(_COMPARE_SECONDS, truth.recordings / 1200),
            partial(job, truth),
            partial(figures, truth),
        )
        for truth in truths
    ]


class Trial(NamedTuple):
    """What came of one exhibit with one seed."""

    found: bool
    executions: int
    seconds: float


def find_slices(
    seed: int, exhibits: Mapping[str, float], limit: int, missed: list[tuple[str, str, int]]
) -> list[Slice]:
    """Trials of the museum, which begin with nothing, one by one.

    Arguments: `exhibits` with the seconds that each takes, about; `limit` of a trial in CPU
    seconds; `missed` gets tree, exhibit and seed of each that was not found: it counts with what it
    took until the limit.
    """

    def job(exhibit: str, tree: Tree) -> Job:
        words = ["museum", "run", exhibit, f"--seeds={seed}", f"--time={limit}"]
        # Trials of smaller seeds are kept there, and not repeated.
        return Job([[*words, f"--workdir={tree.scratch}"]], fine=(0, 1))

    def figures(exhibit: str, tree: Tree, _: Report) -> Mapping[Unit, float]:
        tried = trial(tree.scratch / "museum" / "results.tsv", exhibit, seed)
        if not tried.found:
            missed.append((tree.name, exhibit, seed))
        return {
            FIND_EXECUTIONS: max(tried.executions, 1),
            FIND_SECONDS: max(tried.seconds, _LEAST_SECONDS),
        }

    return [
        Slice(f"{name} seed {seed}", seed, 2 + seconds, partial(job, name), partial(figures, name))
        for name, seconds in exhibits.items()
    ]


def trial(table: Path, exhibit: str, seed: int) -> Trial:
    """A line of the museum's results.  Errors raised: BenchError if it is not there."""
    with table.open(encoding="utf-8", newline="") as lines:
        next(lines)  # of which code they are
        for row in csv.DictReader(lines, delimiter="\t"):
            if (row["exhibit"], row["seed"], row["side"]) == (exhibit, str(seed), "bug"):
                found = row["outcome"] == "found"
                return Trial(found, int(row["executions"]), float(row["seconds"]))
    raise BenchError(f"{table}: no result of {exhibit} with seed {seed}")
