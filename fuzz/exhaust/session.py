"""`pmdfuzz exhaust`: every small program, on every kernel, with every failure."""

import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.exhaust.choices import by_chance
from fuzz.exhaust.programs import KINDS, Bound, Layout, layouts, parts, program, size
from fuzz.exhaust.store import Store, StoreError, Totals
from fuzz.exhaust.trial import Broken, Task, Tried, tried
from fuzz.findings.bucket import Bucket
from fuzz.forms import text
from fuzz.lib.command import command
from fuzz.lib.exits import BAD_INPUT, FINE, INTERRUPTED, OUR_DEFECT, SURPRISES
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.fingerprint import fingerprint
from fuzz.lib.lines import columns
from fuzz.lib.lock import Lock, Locked
from fuzz.lib.processes import forked
from fuzz.lib.status import Fields, StatusLine, count, duration
from fuzz.matrix import in_short

KERNELS = ("linux-5.0", "linux-6.1", "linux-6.12", "linux-6.18", "linux-7.3")
_TASK_PROGRAMS = 1_000  # without failures, which make about five of one
_MOST_PROGRAMS = 10**10
_BACKSTOP_SECONDS = 6 * 3600.0
_DECIDES = ("engine", "fuzz")
LOCK = "exhaust.lock"  # file in the working directory
_HOME = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class ExhaustOptions:
    """What to try: all programs within `bound` on `kernels`, `jobs` tasks at a time."""

    bound: Bound
    kernels: tuple[str, ...]
    workdir: Path
    jobs: int
    fresh: bool = False


@dataclass(slots=True)
class _Standing:
    """Where it stands; programs are counted without failures, as those are known beforehand."""

    wanted: int
    before: int
    done: int
    found: int
    started: float = field(default_factory=time.monotonic)
    rates: list[float] = field(default_factory=list)  # programs a second, of the last tasks
    jobs: int = 1

    def fields(self) -> Fields:
        """See `fuzz.lib.status.Standing`."""
        spent = time.monotonic() - self.started
        shown = [
            (duration(spent), "dim"),
            (f"{count(self.done)} of {count(self.wanted)} programs", ""),
            (f"{self.done / max(self.wanted, 1):.0%}", ""),
        ]
        if left := self.left():
            shown.append((left, ""))
        return [*shown, (f"{self.found} findings", "")]

    def left(self) -> str:
        """How long it will take, in words: as fast as all so far, or as the slowest of late."""
        spent, now = time.monotonic() - self.started, self.done - self.before
        if now <= 0 or spent < 5:
            return ""
        rest = self.wanted - self.done
        usual = rest * spent / now
        slow = rest / (min(self.rates[-20:]) * self.jobs)
        if slow < 1.3 * usual:
            return f"about {duration(usual)} left"
        return f"{duration(usual)} to {duration(slow)} left"


class _Timed(NamedTuple):
    """What came of a task, and the CPU seconds that it took."""

    tried: Tried
    seconds: float


def exhaust(options: ExhaustOptions) -> int:
    """Try them.  Returns: 0 no unknown finding; 1 some; 2 bad input; 3 our defect; 130 Ctrl-C."""
    about, workdir = _about(options), options.workdir
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with (
            Lock(workdir / LOCK),
            closing(Store(workdir, about, fresh=options.fresh)) as store,
        ):
            if store.notice:
                print(store.notice)
            return _Session(options, store, _tasks(options.bound)).run()
    except Locked as error:
        why = (
            f"{workdir}: others try programs there ({error.who or 'another process'}); wait for "
            "them or end them, or name another directory with --workdir"
        )
    except OSError as error:
        why = f"{workdir}: cannot write: {error.strerror or error}"
    except (StoreError, WriteError, _TooManyError) as error:
        why = str(error)
    print(f"pmdfuzz exhaust: {why}", file=sys.stderr)
    return BAD_INPUT


class _TooManyError(Exception):
    """A bound within which there are more programs than anybody has time for."""


def _tasks(bound: Bound) -> list[Task]:
    """All tasks of a bound.  Errors raised: _TooManyError."""
    tasks, programs = [], 0
    for task in tasks_of(bound):
        tasks.append(task)
        programs += task.programs
        if programs > _MOST_PROGRAMS:
            raise _TooManyError(
                f"more than {_MOST_PROGRAMS:,} programs, years of CPU time: name fewer --calls, "
                "--moves or --pages"
            )
    return tasks


def tasks_of(bound: Bound) -> Iterator[Task]:
    """All tasks of a bound, the smaller programs first; a large layout is several."""
    for layout in layouts(bound):
        programs = size(bound, layout)
        if not programs:
            continue
        most = parts(bound, layout)
        of = min(most, -(-programs // _TASK_PROGRAMS))
        for part in range(of):
            yield Task(layout, part, of, programs * len(range(part, most, of)) // most)


def sample(bound: Bound, number: int, seed: int) -> Iterator[Case]:
    """Programs of the same space by chance, layouts as often as each has programs."""
    chance = random.Random(seed)
    some: list[Layout] = list(layouts(bound))
    weights = [size(bound, layout) for layout in some]
    for layout in chance.choices(some, weights, k=number):
        yield by_chance(partial(program, bound, layout), chance)


def _about(options: ExhaustOptions) -> str:
    bound = options.bound
    words = (bound.calls, bound.moves, bound.pages, *bound.kinds, *options.kernels)
    asked = " ".join(map(str, (bound.geometry.name, *words)))
    return fingerprint(_HOME, _DECIDES, asked)


def _timed(task: Task, bound: Bound, kernels: tuple[str, ...]) -> _Timed:
    began = time.process_time()
    return _Timed(tried(task, bound, kernels), time.process_time() - began)


class _Session:
    """One call of the command."""

    def __init__(self, options: ExhaustOptions, store: Store, tasks: Sequence[Task]) -> None:
        self.options, self.store, self.tasks = options, store, tasks
        self.todo = [task for task in tasks if not store.done(task)]
        wanted = sum(task.programs for task in tasks)
        done = wanted - sum(task.programs for task in self.todo)
        self.line = StatusLine(sys.stderr)
        self.standing = _Standing(wanted, done, done, store.findings(), jobs=options.jobs)

    def run(self) -> int:
        """All that is left.  Returns: as of `exhaust`.  Errors raised: WriteError."""
        bound, kernels = self.options.bound, self.options.kernels
        self._say(
            f"{self.standing.wanted:,} programs of at most {_calls(bound)} in a window of "
            f"{_pages(bound)}, and any stack in {bound.stack_pages}, on geometry "
            f"{bound.geometry.name}, "
            f"each again with every allocation that may fail, on {', '.join(in_short(kernels))}"
        )
        status = FINE
        try:
            for ended in forked(
                self.todo,
                partial(_timed, bound=bound, kernels=kernels),
                jobs=self.options.jobs,
                seconds=_BACKSTOP_SECONDS,
                tick=lambda: self.line.update(self.standing),
            ):
                if ended.result is None:
                    status = OUR_DEFECT
                    self._say(f"{ended.task}: {ended.how}")
                    continue
                self._take(ended.task, ended.result)
        except KeyboardInterrupt:
            status = INTERRUPTED
        self.line.clear()
        return self._report(status)

    def _take(self, task: Task, timed: _Timed) -> None:
        self.store.put(task, timed.tried, timed.seconds)
        self.standing.done += task.programs
        self.standing.rates.append(task.programs / max(timed.seconds, 1e-3))
        self.standing.found = self.store.findings()

    def _report(self, status: int) -> int:
        """Tell what it comes to.  Returns: the exit status."""
        totals, broken = self.store.totals(), self.store.broken()
        self._say(f"\n{self._sentence(totals, broken)}\n")
        if broken:
            folder = self._keep(broken)
            for line in columns(list(_rows(broken, self.options.kernels))):
                self._say(line)
            first = min(broken, key=lambda key: (bool(key[1].defect), len(broken[key].case.calls)))
            self._say(f"\nThe first program of each is in {folder}.\n\nNext:")
            case = folder / f"{first[1].name}.case"
            self._say(f"  {command('show', case, '--kernel', first[0])}")
        left = len(self.tasks) - totals.tasks
        if left and status != OUR_DEFECT:
            self._say(f"{left} of {len(self.tasks)} tasks are left: the same command goes on.")
        unknown = any(not bucket.defect for _, bucket in broken)
        return status or (SURPRISES if unknown else FINE)

    def _sentence(self, totals: Totals, broken: dict[tuple[str, Bucket], Broken]) -> str:
        """What can be said, for documents."""
        bound = self.options.bound
        unknown = {kernel for kernel, bucket in broken if not bucket.defect}
        known = ", ".join(sorted({bucket.defect for _, bucket in broken if bucket.defect}))
        kernels = [name for name in self.options.kernels if not unknown or name in unknown]
        if unknown:
            says = "rules are broken that no known defect explains, by some"
        else:
            says = f"no rule is broken{f' but by known defects ({known})' if known else ''}, by any"
        if totals.tasks < len(self.tasks):
            says += " so far"
        return (
            f"On {', '.join(in_short(kernels))}, {says} program of at most {_calls(bound)} in "
            f"{_pages(bound)} of geometry {bound.geometry.name}, or any stack in "
            f"{bound.stack_pages}: "
            f"{totals.programs:,} programs with failures, {totals.runs:,} runs, "
            f"{totals.states:,} states, {duration(totals.seconds)} of CPU time."
        )

    def _keep(self, broken: dict[tuple[str, Bucket], Broken]) -> Path:
        """Write a case for each finding.  Errors raised: WriteError."""
        folder = self.options.workdir / "findings"
        folder.mkdir(exist_ok=True)
        kept: dict[Bucket, tuple[str, Case]] = {}
        for (kernel, bucket), one in broken.items():
            if bucket not in kept or len(one.case.calls) < len(kept[bucket][1].calls):
                kept[bucket] = kernel, one.case
        for bucket, (kernel, case) in kept.items():
            named = replace(
                case, kernel=kernel_named(kernel).name, geometry=self.options.bound.geometry.name
            )
            write_atomic(folder / f"{bucket.name}.case", text.dump(named))
        return folder

    def _say(self, message: str) -> None:
        self.line.write(message, sys.stdout)


def _calls(bound: Bound) -> str:
    told = f"{bound.calls} call{'' if bound.calls == 1 else 's'} that map or move"
    if bound.moves is not None and bound.moves < bound.calls - 1:
        told += f", {bound.moves} of which move{'s' if bound.moves == 1 else ''},"
    return told


def _pages(bound: Bound) -> str:
    """What is mapped, and where."""
    kinds = f" of kind {' or '.join(bound.kinds)}" if len(bound.kinds) < len(KINDS) else ""
    return f"{bound.pages} page{'' if bound.pages == 1 else 's'}{kinds}"


def _rows(
    broken: dict[tuple[str, Bucket], Broken], kernels: Iterable[str]
) -> Iterator[tuple[str, ...]]:
    """A table of findings and kernels: how many programs show each, and the calls of the shortest.

    What is unknown comes first, then what takes the fewest calls.
    """
    names = list(kernels)
    yield ("finding", "calls", *names)
    times = {(bucket, kernel): one.times for (kernel, bucket), one in broken.items()}
    calls: dict[Bucket, int] = {}
    for (_, bucket), one in broken.items():
        calls[bucket] = min(len(one.case.calls), calls.get(bucket, len(one.case.calls)))
    for bucket in sorted(calls, key=lambda one: (bool(one.defect), calls[one], one)):
        shown = (str(times.get((bucket, name), "-")) for name in names)
        yield (bucket.name, str(calls[bucket]), *shown)
