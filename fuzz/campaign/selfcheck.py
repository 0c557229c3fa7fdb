"""`pmdfuzz selfcheck`: rules, oracle and model say nothing where nothing is wrong.

Programs as a run makes them, without libFuzzer, go through kernels of which every known defect is
repaired (`fuzz.defects.known.repaired`).  A rule that breaks there is a false alarm, unless it is a
defect of the kernel that nobody knows yet: each is told as its minimal program.

The programs for a geometry come in batches, each in a process of its own, which depends on the
seed, the geometry and its number alone.  A program runs on all kernels that may do it otherwise.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import NamedTuple

from engine.base.geometry import GEOMETRIES, Geometry
from engine.base.kernel import Kernel, kernel_named
from engine.state import terms
from fuzz.calls.registry import takes_long
from fuzz.campaign.seeds import CORPUS
from fuzz.case import Case
from fuzz.defects.attribute import Shown, findings_on
from fuzz.defects.known import repaired
from fuzz.findings.bucket import Bucket
from fuzz.forms import text
from fuzz.forms.wire import MAX_CALLS, WIDTH
from fuzz.inputs.inputs import PLANS, Inputs
from fuzz.inputs.mutator import Mutator
from fuzz.inputs.scene import disturbed
from fuzz.lib.exits import FINE, INTERRUPTED, OUR_DEFECT, SURPRISES
from fuzz.lib.lines import indented
from fuzz.lib.processes import forked
from fuzz.lib.status import Fields, StatusLine, count, duration
from fuzz.matrix import Matrix, in_short
from fuzz.minimize.search import minimize
from fuzz.rules.judge import RulesAfter
from fuzz.showing import runs_of, showing

BATCH = 500  # programs
_BATCH_SECONDS = 3600.0  # a backstop
_MINIMIZE_BUDGET = 3_000
_CHANGED, _JOINED, _DISTURBED = 0.4, 0.1, 0.3  # of the programs; others are made to a plan


@dataclass(frozen=True, slots=True)
class SelfcheckOptions:
    """What to run: `cases` programs for each geometry, made from `seed`, each on every kernel.

    `jobs` batches run at a time; `rules_after` see `fuzz.execute.execute`.
    """

    kernels: tuple[str, ...]
    geometries: tuple[str, ...]
    cases: int
    seed: int = 1
    jobs: int = 1
    rules_after: RulesAfter = "moving"


class Batch(NamedTuple):
    """`size` programs for a geometry; `first` is the number of the first one."""

    geometry: str
    first: int
    size: int


class Alarm(NamedTuple):
    """A program that breaks a rule, its number, and how many of a batch break it there, too."""

    number: int
    case: Case
    times: int


Alarms = dict[tuple[str, Bucket], Alarm]  # by kernel, and what is found


@dataclass(slots=True)
class _Standing:
    """Where a check stands; see fuzz.lib.status."""

    wanted: int
    done: int = 0
    alarms: int = 0
    doing: str = ""
    started: float = field(default_factory=time.monotonic)

    def fields(self) -> Fields:
        """For the status line."""
        seconds = time.monotonic() - self.started
        shown = [
            (duration(seconds), "dim"),
            (f"{self.done} of {self.wanted} programs", ""),
            (f"{count(self.done / seconds)}/s", ""),
            (f"{self.alarms} alarms", "alarm" if self.alarms else ""),
        ]
        return [*shown, (self.doing, "")] if self.doing else shown


def selfcheck(options: SelfcheckOptions) -> int:
    """Run the programs, and print what breaks a rule.

    Returns: 0 nothing; 1 something; 3 a batch failed, and what it ran is not judged; 130 Ctrl-C.
    Errors raised: UnknownName.
    """
    return _Selfcheck(options).run()


def programs(geometry: Geometry, seed: str, sources: Sequence[bytes]) -> Iterator[Case]:
    """Programs as a run makes them, without end, the same for equal arguments.

    Some are made to a plan; some are one of those before with a change, or something that happens
    on the way, or two of them joined.
    Arguments: `sources` are inputs that are spelled out (`fuzz.inputs.inputs`), to begin with.
    """
    rng = random.Random(seed)
    inputs = Inputs([geometry])
    mutator, pool = Mutator(inputs), list(sources)
    longest = WIDTH * MAX_CALLS
    while True:
        how = rng.random() if pool else 1.0
        if how < _CHANGED:
            data = mutator.mutate(rng.choice(pool), longest, rng.getrandbits(32))
        elif how < _CHANGED + _JOINED:
            one, other = rng.choices(pool, k=2)
            data = mutator.cross_over(one, other, longest, rng.getrandbits(32))
        elif how < _CHANGED + _JOINED + _DISTURBED:
            case = disturbed(rng, geometry, inputs.decode(rng.choice(pool)).case)
            data = inputs.encode(case.with_calls(case.calls[:MAX_CALLS]), 0)
        else:
            data = inputs.planned(rng.choice(PLANS), 0, rng)
        pool.append(data)
        case = inputs.decode(data).case
        if not takes_long(case, geometry.page_bytes):
            yield case


@cache
def _repaired(name: str, geometry: str) -> Kernel:
    """The kernel of that name with every known defect repaired, on a geometry."""
    return repaired(kernel_named(name, geometry))


@cache
def _sources(geometry: Geometry) -> list[bytes]:
    """The project's own cases as inputs on a geometry."""
    inputs = Inputs([geometry])
    return [inputs.encode(text.load(path).program(), 0) for path in sorted(CORPUS.rglob("*.case"))]


class _Selfcheck:
    """One check."""

    def __init__(self, options: SelfcheckOptions) -> None:
        self.options = options
        self.line = StatusLine(sys.stderr)
        self.standing = _Standing(options.cases * len(options.geometries))
        self.times: Counter[tuple[Bucket, str]] = Counter()

    def run(self) -> int:
        """The whole check.  Returns: the exit status."""
        options, status = self.options, FINE
        kernels = ", ".join(in_short(options.kernels))
        self._say(
            f"{kernels}, repaired, {options.cases} programs on each of "
            f"{', '.join(options.geometries)}, seed {options.seed}"
        )
        for geometry in options.geometries:  # before there are copies of this process
            _sources(GEOMETRIES[geometry])
        try:
            for ended in forked(
                self._batches(),
                self._alarms,
                jobs=options.jobs,
                seconds=_BATCH_SECONDS,
                tick=lambda: self.line.update(self.standing),
            ):
                self.standing.done += ended.task.size
                if ended.result is None:
                    status = OUR_DEFECT
                    self._say(f"{ended.task}: {ended.how}")
                for (kernel, bucket), alarm in (ended.result or {}).items():
                    self._tell(_repaired(kernel, ended.task.geometry), kernel, bucket, alarm)
        except KeyboardInterrupt:
            status = INTERRUPTED
        self.line.clear()
        self._say(self._summary())
        return status or (SURPRISES if self.times else FINE)

    def _batches(self) -> Iterator[Batch]:
        """All batches; the geometries take turns."""
        cases = self.options.cases
        for first in range(0, cases, BATCH):
            for geometry in self.options.geometries:
                yield Batch(geometry, first, min(BATCH, cases - first))

    def _shown(self, case: Case, kernel: Kernel) -> Shown | None:
        return showing(case, kernel, self.options.rules_after).found

    def _alarms(self, batch: Batch) -> Alarms:
        """Run a batch.  Returns: the first program that shows a finding on a kernel, for each."""
        geometry, alarms = GEOMETRIES[batch.geometry], Alarms()
        names = self.options.kernels
        kernels = Matrix([_repaired(name, batch.geometry) for name in names])
        seed = f"{self.options.seed} {batch.geometry} {batch.first}"
        made = islice(programs(geometry, seed, _sources(geometry)), batch.size)
        for number, case in enumerate(made, batch.first):
            runs = runs_of(case, self.options.rules_after)
            for same in runs.each(kernels):
                for some, (first, *_) in findings_on(runs, kernels, same):
                    for name in (names[i] for i in kernels.numbers(some)):
                        earlier = alarms.get((name, first.bucket), Alarm(number, case, 0))
                        alarms[name, first.bucket] = earlier._replace(times=earlier.times + 1)
        return alarms

    def _tell(self, kernel: Kernel, name: str, bucket: Bucket, alarm: Alarm) -> None:
        """Count an alarm, and tell the first of each as its minimal program."""
        self.standing.alarms += alarm.times
        new = not any(bucket == other for other, _ in self.times)
        ground = f"{name} on {kernel.geometry.name}"
        self.times[bucket, ground] += alarm.times
        if not new:
            return
        self.standing.doing = f"minimizing {bucket.name}"

        def same(case: Case) -> bool:
            self.line.update(self.standing)
            found = self._shown(case, kernel)
            return found is not None and found.bucket == bucket

        case = minimize(alarm.case, same, kernel.geometry, budget=_MINIMIZE_BUDGET)
        self.standing.doing = ""
        found = self._shown(case, kernel)
        assert found is not None
        case = replace(case, kernel=kernel.name, geometry=kernel.geometry.name)
        broken = terms.violation(kernel.geometry, found.violation)
        self._say(
            f"\nALARM {bucket.name} on {ground}, program {alarm.number}\n"
            f"{indented(text.dump(case))}\n{indented(f'call {found.call + 1}: {broken}')}"
        )

    def _summary(self) -> str:
        standing = self.standing
        seconds = duration(time.monotonic() - standing.started)
        lines = [
            f"{standing.done} of {standing.wanted} programs in {seconds}: "
            f"{standing.alarms or 'no'} alarm{'s' if standing.alarms != 1 else ''}"
        ]
        for (bucket, ground), times in self.times.most_common():
            lines.append(f"{times:>7}  {bucket.name}  {ground}")
        return "\n".join(lines)

    def _say(self, message: str) -> None:
        self.line.write(message, sys.stdout)
