"""Whether the speed is kept: `python -m fuzz.bench run [--against DIR]`, or `make bench`.

This tree and another one do the same in turns: slices of `run`, of `compare` and of the museum (see
`fuzz.bench.turns`), each in processes of its own with this Python and the tree's code.  The other
one may be older: all goes through the command line that both have (`fuzz.bench.inside`).  Without
`--against` the figures are this tree's alone.

Exit status: 0; 2 if something cannot be measured; 130 Ctrl-C, after what there is was shown.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.base.geometry import UnknownName
from engine.base.kernel import KERNELS
from fuzz.bench.tree import THIS, BenchError, Job, Tree
from fuzz.bench.turns import (
    FIND_SECONDS,
    MEMORY,
    RATE,
    Row,
    Slice,
    Truth,
    Unit,
    compare_slices,
    find_slices,
    jobs_slices,
    of_jobs,
    overall,
    run_slices,
)
from fuzz.campaign.child import RunError, check_environment
from fuzz.defects.catalogue import exhibits_named
from fuzz.lib.arguments import positive
from fuzz.lib.exits import BAD_INPUT, FINE, INTERRUPTED
from fuzz.lib.status import Fields, StatusLine, duration
from fuzz.subjects.recordings import TruthError, programs

PARTS = ("rate", "compare", "find", "memory", "jobs")
USUAL = ("rate", "compare", "find", "memory")  # the others are asked for
REPEAT, RUNS, SEEDS, LIMIT_SECONDS, RUN_SECONDS = 3, 2_000, 3, 20, 20
# From easy to hard, out of all that the kernel does around moves, with about the CPU seconds that
# one takes; the hardest ones of the museum would take longer than all the rest.
EXHIBITS = {
    "B-13-two-levels": 0.2,
    "B-12-own-head": 1.0,
    "B-04-huge": 2.0,
    "B-07-marker": 2.0,
    "B-39-not-asked": 2.0,
    "B-54-changing": 3.0,
    "B-45-hugetlb-skip": 4.0,
    "B-46-reservation": 10.0,
}
_OTHER_SECONDS = 3.0  # assumed of exhibits that are not in that sample


@dataclass(slots=True)
class _Standing:
    """What the status line shows."""

    slices: int
    seconds: float  # that all of it takes, about
    done: int = 0
    spent: float = 0.0  # of those
    doing: str = ""
    started: float = field(default_factory=time.monotonic)

    def fields(self) -> Fields:
        """See fuzz.lib.status."""
        passed = time.monotonic() - self.started
        pace = passed / self.spent if self.spent else 1.0
        return [
            (f"{self.done} of {self.slices} slices", ""),
            (f"about {duration((self.seconds - self.spent) * pace)} left", "dim"),
            (self.doing, ""),
        ]


def add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    sub = commands.add_parser("run", help="this tree and another one, in turns")
    sub.set_defaults(command=run)
    sub.add_argument("--against", type=Path, metavar="DIR", help="another checkout of pmdfuzz")
    sub.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        help="measure this only; may be given more than once (default: all but jobs)",
    )
    sub.add_argument(
        "--repeat", type=positive, default=REPEAT, metavar="N", help="repetitions (%(default)s)"
    )
    sub.add_argument(
        "--runs",
        type=positive,
        default=RUNS,
        metavar="N",
        help="rate, memory: executions of a run (%(default)s)",
    )
    sub.add_argument(
        "--jobs",
        type=lambda words: [positive(word) for word in words.split(",")],
        default=[1, 2],
        metavar="N,…",
        help="jobs: fuzz in so many processes (1,2)",
    )
    sub.add_argument(
        "--run-time",
        type=positive,
        default=RUN_SECONDS,
        metavar="S",
        help="jobs: seconds of a run (%(default)s)",
    )
    sub.add_argument(
        "--truth",
        type=Path,
        action="append",
        metavar="PATH",
        help="compare: recordings, KERNEL.jsonl or a directory of such files (default: "
        "$PMDFUZZ_TRUTH, or ../shared/truth, or corpus/truth)",
    )
    sub.add_argument(
        "--exhibits",
        type=lambda words: words.split(","),
        metavar="ID,…",
        help=f"find: exhibits of the museum (default: {','.join(EXHIBITS)})",
    )
    sub.add_argument(
        "--seeds",
        type=positive,
        default=SEEDS,
        metavar="N",
        help="find: use the seeds 1 to N, which are its repetitions (%(default)s)",
    )
    sub.add_argument(
        "--time",
        type=positive,
        default=LIMIT_SECONDS,
        metavar="S",
        help="find: CPU seconds of a trial (%(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Measure, and print the table.  Returns: the exit status; see the module."""
    rows: dict[Unit, Row] = {}
    missed: list[tuple[str, str, int]] = []
    status = FINE
    try:
        with tempfile.TemporaryDirectory(prefix="pmdfuzz-bench-") as scratch:
            trees = [Tree.open("this", THIS, Path(scratch))]
            if options.against is not None:
                trees.append(Tree.open("other", options.against, Path(scratch)))
            slices = _slices(options, trees, missed)
            print(*(f"{tree.name + ':':7}{tree}" for tree in trees), sep="\n")
            print(_versions(), flush=True)
            _measure(slices, trees, rows)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except (BenchError, RunError, TruthError, UnknownName, OSError) as error:
        print(f"fuzz.bench run: {error}", file=sys.stderr)
        status = BAD_INPUT
    if rows:
        names = [tree.name for tree in trees]
        asked = [row for row in rows.values() if _asked(row, options.only)]
        told = [*_told(rows, missed, names), *_of_jobs(rows, options.jobs, names)]
        print("", *_table(asked, names), *told, sep="\n")
    return status


def _versions() -> str:
    shown = f"Python {sys.version.split()[0]}"
    with contextlib.suppress(PackageNotFoundError):  # `compare` does without
        shown += f", Atheris {version('atheris')}"
    return shown


# --- What to measure ------------------------------------------------------------------------------


def _slices(
    options: argparse.Namespace, trees: Sequence[Tree], missed: list[tuple[str, str, int]]
) -> list[Slice]:
    """All slices, repetition by repetition, so that each row sees the whole session.

    Errors raised: BenchError, RunError, TruthError, UnknownName, OSError.
    """
    parts = set(options.only or USUAL)
    if parts - {"compare"}:
        check_environment()
    truths = truths_of(options.truth) if "compare" in parts else []
    exhibits = {}
    if "find" in parts:
        ids = options.exhibits or EXHIBITS
        found = [exhibit.name for one in ids for exhibit in exhibits_named(one)]
        exhibits = {name: EXHIBITS.get(name, _OTHER_SECONDS) for name in found}
        for tree in trees:
            tree.run(Job([["museum", "list", *exhibits]]))  # does it have them?
    slices = []
    last = max(options.repeat, options.seeds if exhibits else 0)
    for number in range(1, last + 1):
        if number <= options.repeat and parts & {"rate", "memory"}:
            slices += run_slices(number, options.runs)
        if number <= options.repeat and "jobs" in parts:
            slices += jobs_slices(number, options.jobs, options.run_time)
        if number <= options.repeat and truths:
            slices += compare_slices(number, truths)
        if number <= options.seeds and exhibits:
            slices += find_slices(number, exhibits, options.time, missed)
    return slices


def truths_of(paths: Iterable[Path] | None) -> list[Truth]:
    """The recordings in these files and directories, or those of this machine.

    Errors raised: BenchError, TruthError, OSError.
    """
    if paths is None:
        named, beside = os.environ.get("PMDFUZZ_TRUTH"), THIS.parent / "shared" / "truth"
        sample = THIS / "corpus" / "truth"
        paths = [Path(named)] if named else [beside if beside.is_dir() else sample]
    truths = []
    for path in paths:
        files = sorted(path.glob("*.jsonl*")) if path.is_dir() else [path]
        for file in files:
            kernel = file.name.partition(".jsonl")[0]
            if kernel in KERNELS:
                recordings = sum(1 for _ in programs(file))
                truths.append(Truth(file.absolute(), kernel, recordings))
            elif file == path:
                raise BenchError(f"{path}: the name of the file must be that of a kernel")
        if not files:
            raise BenchError(f"{path}: no recordings there (KERNEL.jsonl)")
    return truths


def _measure(slices: Sequence[Slice], trees: Sequence[Tree], rows: dict[Unit, Row]) -> None:
    """Do all slices, the trees in turns; note what they give in `rows`.

    Errors raised: BenchError, OSError.
    """
    line = StatusLine(sys.stderr)
    standing = _Standing(len(slices), sum(one.seconds for one in slices) * len(trees))
    print(f"{standing.slices} slices, about {duration(standing.seconds)}", file=sys.stderr)
    try:
        for one in slices:
            standing.doing = f"{one.what}, repetition {one.number}"
            line.update(standing)
            for tree, figures in zip(trees, one.work(trees), strict=True):
                for unit, figure in figures.items():
                    rows.setdefault(unit, Row(unit)).add(tree.name, one.number, figure)
            standing.done += 1
            standing.spent += one.seconds * len(trees)
    finally:
        line.clear()


# --- What is shown --------------------------------------------------------------------------------


def _asked(row: Row, only: Sequence[str] | None) -> bool:
    """A run gives both speed and memory, of which perhaps one was asked for."""
    for part, what in (("rate", RATE), ("memory", MEMORY)):
        if row.unit.what.startswith(what):
            return only is None or part in only
    return True


def _table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """A line for each row, with headings."""
    width = max(len(row.unit.what) for row in rows)
    ranges = f"{'least':>9}{'median':>9}{'most':>9}"
    if len(names) == 1:
        lines = [f"{'':{width}}{ranges}"]
        for row in rows:
            lines.append(f"{row.unit.what:{width}}{_range(row.of(names[0]), row.unit.digits)}")
        return lines
    this, other = names
    lines = [
        f"{'':{width}}{'median of':>20}  {'this / other of the repetitions':>27}",
        f"{'':{width}}{this:>10}{other:>10}  {ranges}  better",
    ]
    for row in rows:
        if ratios := row.ratios(this, other):
            medians = "".join(
                f"{statistics.median(row.of(name)):10.{row.unit.digits}f}" for name in names
            )
            better = "more" if row.unit.more_is_better else "less"
            lines.append(f"{row.unit.what:{width}}{medians}  {_range(ratios, 3)}  {better}")
    return lines


def _range(figures: Sequence[float], digits: int) -> str:
    shown = (min(figures), statistics.median(figures), max(figures))
    return "".join(f"{figure:9.{digits}f}" for figure in shown)


def _of_jobs(rows: Mapping[Unit, Row], jobs: Sequence[int], names: Sequence[str]) -> list[str]:
    """What more processes bring, in each repetition beside the fewest."""
    few, *more = sorted(set(jobs))
    lines = []
    for name in names if of_jobs(few) in rows else ():
        base = rows[of_jobs(few)].of(name)
        for many in more:
            ratios = [a / b for a, b in zip(rows[of_jobs(many)].of(name), base, strict=False) if b]
            if ratios:
                told = f"{name}: --jobs {many} / --jobs {few}"
                lines.append(f"{told:{32}}{_range(ratios, 3)}")
    return lines


def _told(
    rows: dict[Unit, Row], missed: Sequence[tuple[str, str, int]], names: Sequence[str]
) -> list[str]:
    """What the table does not say of the trials: how sure it is, and what was not found."""
    if FIND_SECONDS not in rows:
        return []
    lines = [""]
    if len(names) == 2:
        pairs = rows[FIND_SECONDS].pairs(*names)
        ratios = [ratio for repetition in pairs for ratio in repetition]
        if ratios:
            mean, error = overall(ratios)
            lines.append(
                f"CPU seconds to find: {mean:.3f}, the geometric mean of {len(ratios)} pairs; "
                f"give or take a factor of {error:.2f} (its standard error)"
            )
    for name in names:
        not_found = [f"{exhibit} seed {seed}" for tree, exhibit, seed in missed if tree == name]
        listed = f", counted as if at the limit: {', '.join(not_found)}" if not_found else ""
        lines.append(f"{name}: {len(not_found)} trials found nothing{listed}")
    return lines
