"""Mutation testing of the engine: `python -m fuzz.mutants`, or `make mutants`.

Each mutant of the modules that move page tables runs in a process of its own (see
`fuzz.mutants.mutate` for what is changed): first the inputs of `fuzz.mutants.inputs`, checked by
rules and oracle, then, if they do not notice, the tests.  Results are kept; what was interrupted
goes on where it was.  Ends with a table and the survivors.
"""

import argparse
import gc
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from functools import partial
from pathlib import Path
from pprint import pformat
from typing import TypeVar

from fuzz.case import Case
from fuzz.lib.arguments import positive
from fuzz.lib.exits import INTERRUPTED
from fuzz.lib.files import write_atomic
from fuzz.lib.fingerprint import fingerprint
from fuzz.lib.processes import Ended, forked
from fuzz.lib.status import Fields, StatusLine, duration
from fuzz.mutants import report
from fuzz.mutants.inputs import Baseline, Input, Made, chunks, make
from fuzz.mutants.judge import Fate, judge, run_tests, shown
from fuzz.mutants.mutate import Mutant, mutants_of, source_path
from fuzz.mutants.reasons import ReasonError, load, reason_for, stale
from fuzz.mutants.store import Store

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "engine.move",
    "engine.move_hugetlb",
    "engine.mremap",
    "engine.move_vma",
    "engine.remap",
    "engine.vmas.place",
    "engine.vmas.unmap",
    "engine.stack",
    "engine.state.vma",
    "engine.state.table",
)
REASONS = Path("tests/mutants.toml")
TESTS = ("tests/engine", "tests/fuzz/rules")
# What decides how a mutant is judged.
JUDGES = (
    "corpus",
    "engine",
    "fuzz/calls",
    "fuzz/case.py",
    "fuzz/defects",
    "fuzz/execute.py",
    "fuzz/findings/bucket.py",
    "fuzz/forms",
    "fuzz/inputs",
    "fuzz/mutants/inputs.py",
    "fuzz/mutants/judge.py",
    "fuzz/oracle",
    "fuzz/rules",
)

T = TypeVar("T")
R = TypeVar("R")

_INPUTS = 24_000
_EXECUTIONS = 1_500
_BACKSTOP_SECONDS = 3600.0  # wall time of one process; CPU limits come first


@dataclass(slots=True)
class _Standing:
    """What the status line shows."""

    what: str
    total: int
    started: float
    done: int = 0
    killed: int = 0

    def fields(self) -> Fields:
        """See fuzz.lib.status."""
        spent = time.monotonic() - self.started
        fields = [(f"{self.what} {self.done} of {self.total}", "")]
        if self.killed:
            fields.append((f"{self.killed} killed", ""))
        if self.done:
            fields.append((f"{duration(spent / self.done * (self.total - self.done))} left", ""))
        return [*fields, (duration(spent), "dim")]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """All inputs, those that run a line (as a set of bits), and the order to run them in."""

    inputs: list[tuple[Input, Baseline]]
    lines: dict[int, int]
    rank: list[int]

    def order(self, mutant: Mutant, number: int, executions: int) -> list[int]:
        """So many inputs that run the mutant's statement: the corpus, then each ground in turn."""
        if mutant.lines is None:
            hits = list(range(len(self.inputs)))
        else:
            bits = 0
            for line in range(mutant.lines[0], mutant.lines[1] + 1):
                bits |= self.lines.get(number << 16 | line, 0)
            hits = [i for i, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]
        return sorted(hits, key=self.rank.__getitem__)[:executions]


class _Course:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.root: Path = options.root
        self.workdir: Path = options.workdir
        self.modules: list[str] = [_module(name) for name in options.file or MODULES]
        self.status = StatusLine(sys.stderr)
        self.sources = {name: source_path(self.root, name).read_bytes() for name in self.modules}
        self.reasons = load(self.root / REASONS)
        chosen = (options.inputs, options.executions, options.seed)
        self.tree = fingerprint(self.root, JUDGES, chosen)
        tests = [place for place in (*TESTS, "tests/lib") if (self.root / place).is_dir()]
        tests_tree = fingerprint(self.root, (*JUDGES, *tests))
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.store = Store(
            self.workdir / "results.json", self.tree, tests_tree, keep_kills=options.keep_kills
        )

    def mutants(self) -> list[Mutant]:
        """The mutants of the chosen modules."""
        found = []
        for name, source in self.sources.items():
            found += mutants_of(source, name)
        return found[:: self.options.every]

    def rows(self, mutants: Sequence[Mutant]) -> list[report.Row]:
        """What is known of them."""
        return [
            report.Row(
                mutant,
                self.store.fate(mutant),
                self.store.tests(mutant),
                reason_for(mutant, self.reasons),
            )
            for mutant in mutants
        ]

    # Inputs.

    def inputs(self) -> _Inputs:
        """Made on the engine as it is, or kept from the last run on the same tree and modules."""
        kept = self.workdir / "inputs.pickle"
        files = [source_path(self.root, name) for name in MODULES]
        try:
            tree, made = pickle.loads(kept.read_bytes())
        except Exception:  # none, half of one, or one of another version: all the same
            tree, made = "", []
        if tree != self.tree:
            todo = chunks(self.options.inputs, self.options.seed)
            standing = _Standing("making inputs: ground", len(todo), time.monotonic())
            results: dict[int, Made] = {}
            work = partial(make, root=self.root, files=files)
            for ended in self._forked(todo, work):
                if ended.result is None:
                    raise SystemExit(f"the engine as it is cannot run its inputs: {ended.how}")
                results[ended.task.number] = ended.result
                standing.done += 1
                self.status.update(standing)
            made = [results[number] for number in sorted(results)]
            write_atomic(kept, pickle.dumps((self.tree, made), pickle.HIGHEST_PROTOCOL))
        inputs: list[tuple[Input, Baseline]] = []
        lines: dict[int, int] = {}
        rank: list[int] = []
        for chunk in made:
            for line, bits in chunk.lines.items():
                lines[line] = lines.get(line, 0) | bits << len(inputs)
            inputs += chunk.inputs
            # Of each ground first those that went new ways, they are the most different; but before
            # all others the cases of the corpus, the first chunk, which somebody has chosen.
            late = len(chunk.inputs)
            rank += [i if chunk.fresh >> i & 1 else late + i for i in range(late)]
            if chunk is made[0]:
                rank = [0] * late
        return _Inputs(inputs, lines, rank)

    def _forked(self, tasks: Iterable[T], work: Callable[[T], R]) -> Iterator[Ended[T, R]]:
        return forked(tasks, work, jobs=self.options.jobs, seconds=_BACKSTOP_SECONDS)

    # Judging.

    def judge(self, mutants: Sequence[Mutant]) -> None:
        """Rules and oracle on those that have not been judged yet."""
        todo = [mutant for mutant in mutants if self.store.fate(mutant) is None]
        if kept := len(mutants) - len(todo):
            told = f"{kept} of {len(mutants)} mutants are judged already"
            self.status.write(told, sys.stderr)
        if not todo:
            return
        inputs = self.inputs()
        standing = _Standing("rules and oracle: mutant", len(todo), time.monotonic())
        gc.freeze()

        def work(mutant: Mutant) -> Fate:
            number = MODULES.index(mutant.module)
            order = inputs.order(mutant, number, self.options.executions)
            return judge(mutant, self.root, inputs.inputs, order)

        for ended in self._forked(todo, work):
            fate = ended.result or Fate("crash", ended.how, 0, None, None)
            self.store.put(ended.task, fate)
            standing.done += 1
            standing.killed += bool(fate.kind)
            self.status.update(standing)
        self.store.flush()

    def test(self, mutants: Sequence[Mutant]) -> None:
        """The tests on those that have not seen them yet."""
        todo = [mutant for mutant in mutants if self.store.tests(mutant) is None]
        if not todo:
            return
        try:
            import pytest  # noqa: F401  # so that the processes need not
        except ImportError:
            self.status.write("the tests need pytest, which is not installed", sys.stderr)
            return
        for plain in self._forked([TESTS], lambda tests: run_tests(None, self.root, tests)):
            if plain.result != "":
                by = plain.result or plain.how
                raise SystemExit(f"the tests fail on the engine as it is: {by}")
        standing = _Standing("tests: mutant", len(todo), time.monotonic())

        def work(mutant: Mutant) -> str:
            *folders, name = mutant.module.split(".")
            own = "/".join(("tests", *folders, f"test_{name}.py"))
            return run_tests(mutant, self.root, [own, *TESTS])

        for ended in self._forked(todo, work):
            by = ended.how if ended.result is None else ended.result
            self.store.put_tests(ended.task, by)
            standing.done += 1
            standing.killed += bool(by)
            self.status.update(standing)
        self.store.flush()

    # Commands.

    def run(self) -> int:
        """Judge, test, report."""
        mutants = self._chosen(self.options.only)
        interrupted = False
        try:
            if self.options.only:
                for mutant in mutants:
                    self.store.forget(mutant)
            self.judge(mutants)
            if self.options.tests != "none":
                rows = self.rows(mutants)
                everyone = self.options.tests == "all"
                self.test([row.mutant for row in rows if everyone or row.survives_rules])
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self.status.clear()
            self.store.flush()
        rows = self.rows(mutants)
        old = []
        if not self.options.only and self.options.every == 1 and not interrupted:
            ours = [reason for reason in self.reasons if reason.module in self.modules]
            old = stale(ours, [row.mutant for row in rows if row.survives_rules])
        told = report.text(rows, self.sources, old, REASONS)
        if not self.options.only:
            write_atomic(self.workdir / "report.txt", told)
        print(told, end="")
        if interrupted:
            print("Interrupted; the same command goes on from here.", file=sys.stderr)
            return INTERRUPTED
        return 0

    def _chosen(self, names: Sequence[str] | None) -> list[Mutant]:
        mutants = self.mutants()
        if not names:
            return mutants
        chosen = [mutant for mutant in mutants if mutant.id in names]
        unknown = set(names) - {mutant.id for mutant in chosen}
        if unknown:
            raise SystemExit(f"no such mutant: {', '.join(sorted(unknown))}")
        return chosen

    def show(self, name: str) -> int:
        """One mutant: the patch, what is known, and an input that tells it from the engine."""
        (mutant,) = self._chosen([name])
        print(mutant.diff(self.sources[mutant.module]), end="")
        (row,) = self.rows([mutant])
        print(f"\n# {mutant.module}.{mutant.function}, {mutant.operator}")
        print(f"# was: {mutant.was}\n# now: {mutant.now}")
        print(f"# judge it again: python -m fuzz.mutants --only {name}")
        print(f"# make the change: python -m fuzz.mutants --show {name} | patch -p1")
        if row.reason is not None:
            print(f"# {row.reason.kind}: {row.reason.reason}")
        fate = row.fate
        if fate is None:
            print("# not judged yet on this tree")
            return 0
        if row.tests is not None:
            print(f"# tests: {row.tests or 'do not notice'}")
        number = fate.at if fate.kind else fate.differs
        if fate.kind:
            print(f"# killed: {fate.kind} {fate.what} after {fate.runs} executions")
        else:
            print(f"# survives {fate.runs} executions: {row.survivor}")
        if number is not None:
            one, _ = self.inputs().inputs[number]
            self._show_input(mutant, one)
        return 0

    def _show_input(self, mutant: Mutant, one: Input) -> None:
        print(f"#\n# {one.source}, {one.kernel} on {one.geometry or 'its own geometry'}:")
        (dumped,) = self._forked([one.case], _dumped)
        for line in (dumped.result or dumped.how).splitlines():
            print(f"#   {line}")
        sides = {False: [""], True: [""]}
        who = {False: None, True: mutant}
        for ended in self._forked(sides, lambda mutated: shown(who[mutated], self.root, one)):
            sides[ended.task] = pformat(ended.result or ended.how, width=100).splitlines()
        for line in unified_diff(sides[False], sides[True], "engine", "mutant", "", "", 1, ""):
            print(f"#   {line}")


def _dumped(case: Case) -> str:
    """The text of a case.  Imports the engine: call it in a process of its own."""
    from fuzz.forms.text import dump

    return dump(case)


def _module(name: str) -> str:
    """vma, vma.py, engine/state/vma.py and engine.state.vma all mean engine.state.vma."""
    wanted = name.removesuffix(".py").replace("/", ".")
    for module in MODULES:
        if f".{module}".endswith(f".{wanted}"):
            return module
    raise SystemExit(f"--file {name}: not one of {', '.join(MODULES)}")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz.mutants",
        description="Change the engine a little, many times; see whether rules and tests notice.",
    )
    parser.add_argument("--file", action="append", help="only mutants of this file; repeatable")
    parser.add_argument("--only", action="append", metavar="ID", help="judge this one again")
    parser.add_argument("--show", metavar="ID", help="print a mutant as a patch, and what is known")
    parser.add_argument(
        "--executions",
        type=positive,
        default=_EXECUTIONS,
        help="of inputs that run what is changed, for each mutant (default: %(default)s)",
    )
    parser.add_argument(
        "--inputs", type=positive, default=_INPUTS, help="to choose from (default: %(default)s)"
    )
    parser.add_argument(
        "--every",
        type=positive,
        default=1,
        metavar="N",
        help="only every N-th mutant, for a quick look",
    )
    parser.add_argument("--seed", type=positive, default=1, help="of the inputs")
    parser.add_argument(
        "--tests", choices=("survivors", "all", "none"), default="survivors", help="run them on"
    )
    parser.add_argument("--jobs", type=positive, default=min(os.cpu_count() or 1, 8), metavar="N")
    parser.add_argument(
        "--keep-kills",
        action="store_true",
        help="judge only survivors again after the tree has changed",
    )
    parser.add_argument("--workdir", type=Path, default=Path(".mutants"), help="of the results")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns: the exit status; 130 after Ctrl-C."""
    options = _options(argv)
    try:
        session = _Course(options)
        return session.show(options.show) if options.show else session.run()
    except ReasonError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
