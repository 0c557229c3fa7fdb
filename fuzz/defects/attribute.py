"""Which defect a broken rule is put down to: the one without which it is not broken.

The program that broke rules on a kernel is run on the kernel's repaired twin, which has every known
defect put right.  What is broken there, too, is unknown.  What is not belongs to the defect whose
repair alone makes it vanish; if none does, to the one that broke the same rule before, or else to a
smallest set of defects that does together.  Two runs break the same if the same rule is broken at
the same call.

Most of these runs are never made: a kernel that has all switches alike that the program has read on
another one does the same there (`fuzz.noted`).  In the others only the rules are asked that are in
question, for asking takes longer than running, and up to the last call that broke one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, Protocol

from engine.base.kernel import Kernel
from engine.base.violation import Violation
from fuzz.case import Case, Result
from fuzz.defects.defect import Defect
from fuzz.defects.known import KNOWN, repaired
from fuzz.execute import BrokenAt, Found, Outcome
from fuzz.findings.bucket import Bucket
from fuzz.lib.smallest import smallest
from fuzz.matrix import KernelSet, Matrix
from fuzz.noted import Noted
from fuzz.rules.index import gravity

Rules = frozenset[str] | None  # slugs; None: all


class Execute(Protocol):
    """Runs programs, behind violations, too."""

    def __call__(
        self, case: Case, kernel: Kernel, /, *, rules: Rules, until: int | None
    ) -> Outcome:
        """Arguments: as of `fuzz.execute.execute`."""


class Shown(NamedTuple):
    """A finding of a run: what is put down to one defect, or to none that is known.

    `call` is the index of the call at which its worst rule was broken, and `violation` how; all
    that it broke is in `broken`, the worst first.
    """

    bucket: Bucket
    call: int
    violation: Violation
    broken: tuple[Found, ...]

    @property
    def severity(self) -> tuple[int, int]:
        """How bad its worst is, then how early: the smaller, the worse."""
        return _severity(self.broken[0])


class Ran(NamedTuple):
    """What is remembered of a run; the address space is let go."""

    results: tuple[Result, ...]
    violations: tuple[Found, ...]

    @property
    def broken(self) -> frozenset[BrokenAt]:
        """Which rules it broke, and at which calls."""
        return frozenset(found.key for found in self.violations)


class Runs:
    """What one program does on one kernel or another; none is run of which that is known."""

    def __init__(self, case: Case, execute: Execute) -> None:
        self.case = case
        self._execute = execute
        self._ran: list[tuple[Noted, Rules, int | None, Ran]] = []

    def add(
        self, kernel: Noted, outcome: Outcome, rules: Rules = None, until: int | None = None
    ) -> Ran:
        """The program has been run on a kernel; the other arguments as of `on`."""
        ran = Ran(tuple(outcome.results), tuple(outcome.violations))
        self._ran.append((kernel, rules, until, ran))
        return ran

    def on(self, kernel: Kernel, rules: Rules = None, until: int | None = None) -> Ran:
        """What it does on that kernel, and which of these rules it breaks; or more than that.

        Arguments: `until` the index of the last call that is in question; None: all are.
        Errors raised: those of `fuzz.execute.execute`.
        """
        for noted, asked, end, ran in self._ran:
            enough = asked is None or (rules is not None and rules <= asked)
            far_enough = end is None or (until is not None and until <= end)
            if enough and far_enough and noted.same_on(kernel):
                return ran
        return self._run(Noted(kernel), rules, until)

    def each(self, matrix: Matrix) -> Iterator[KernelSet]:
        """Run it for several kernels.  Yields: those that do the same, once that is known.

        Errors raised: those of `fuzz.execute.execute`.
        """
        for noted in matrix.runs():
            self._run(noted, None, None)
            yield matrix.having(noted.settings)

    @property
    def read(self) -> frozenset[str]:
        """The fields of kernels that it has read in any of its runs."""
        return frozenset().union(*(noted.settings for noted, *_ in self._ran))

    def _run(self, kernel: Noted, rules: Rules, until: int | None) -> Ran:
        outcome = self._execute(self.case, kernel, rules=rules, until=until)
        return self.add(kernel, outcome, rules, until)


def findings_on(
    runs: Runs, matrix: Matrix, kernels: KernelSet
) -> Iterator[tuple[KernelSet, tuple[Shown, ...]]]:
    """What a program shows on several kernels of a matrix that do the same, see `findings`.

    That is the same on all that have alike what decides it: the fields that were read in the runs
    of the program, on kernels with repairs, too, and those that say which of these a repair sets.
    Yields: some of the kernels, and what it shows on each of them; nothing if it breaks no rule.
    """
    while kernels:
        kernel = matrix.first(kernels)
        shown = findings(runs, kernel)
        if not shown:
            return
        decide = runs.read.union(*(deciding().get(name, ()) for name in runs.read))
        same = kernels & matrix.having({name: getattr(kernel, name) for name in decide})
        yield same, shown
        kernels &= ~same


@lru_cache(maxsize=1)
def deciding() -> dict[str, frozenset[str]]:
    """By switch that repairs set: all switches that decide how it is set on a repaired kernel.

    A repair may put a switch right that says whether another defect is there.
    """
    decides: dict[str, frozenset[str]] = {}
    for switch in {name for defect in KNOWN for name in defect.repair}:
        found, left = frozenset[str](), {switch}
        while left:
            found |= left
            asked = (one for one in KNOWN if not found.isdisjoint(one.repair))
            left = {name for one in asked for name in (*one.bad, *one.repair)} - found
        decides[switch] = found
    return decides


def findings(runs: Runs, kernel: Kernel) -> tuple[Shown, ...]:
    """What a program shows on a kernel: first what is unknown, then each known defect.

    Known ones come by what they broke, the worst first.
    """
    violations = runs.on(kernel).violations
    if not violations:
        return ()
    rules = frozenset(found.violation.rule for found in violations)
    last_call = max(found.call for found in violations)
    on = partial(runs.on, rules=rules, until=last_call)
    twin = on(repaired(kernel))
    stays = twin.broken
    owners: dict[BrokenAt, str] = {}
    last: dict[str, str] = {}  # by rule: the known defect that broke it
    parts: dict[str, list[Found]] = {}
    for found in violations:
        key, rule = found.key, found.violation.rule
        if key in stays:
            owner = ""
        elif key in owners:
            owner = owners[key]
        else:
            # What one has broken stays broken, also where another has broken it once more.
            owner = _alone(on, kernel, key) or last.get(rule) or _together(on, kernel, key)
            owners[key] = last[rule] = owner
        parts.setdefault(owner, []).append(found)
    if "" in parts:  # of the same rule at the same call: first what the twin says in the same words
        said = {(found.key, found.violation.args) for found in twin.violations}
        parts[""].sort(key=lambda found: (found.key, found.violation.args) not in said)
    shown = [shown_as(runs.case, broken, owner) for owner, broken in parts.items()]
    return tuple(sorted(shown, key=lambda one: (bool(one.bucket.defect), one.severity)))


def shown_as(case: Case, broken: Iterable[Found], defect: str = "") -> Shown:
    """The finding that consists of these violations, of which there is one at least.

    Arguments: `defect` what they are put down to, see `Bucket`.
    """
    worst, *others = sorted(broken, key=_severity)
    bucket = Bucket.of(worst.violation.rule, case.calls[worst.call].name, defect)
    return Shown(bucket, worst.call, worst.violation, (worst, *others))


def _severity(found: Found) -> tuple[int, int]:
    return gravity(found.violation.rule), found.call


def _alone(on: Callable[[Kernel], Ran], kernel: Kernel, key: BrokenAt) -> str:
    """The defect whose repair alone makes that vanish; empty: there is none."""
    # The one that breaks this rule in the first place is the better name, and is found at once.
    for defect, without in sorted(_repairs(kernel), key=lambda one: one[0].rule != key[1]):
        if key not in on(without).broken:
            return defect.id
    return ""


@lru_cache(maxsize=64)
def _repairs(kernel: Kernel) -> tuple[tuple[Defect, Kernel], ...]:
    """The known defects that a kernel has, each with the kernel without it."""
    present = [defect for defect in KNOWN if defect.bad and defect.present(kernel)]
    return tuple((defect, defect.repaired_on(kernel)) for defect in present)


def _together(on: Callable[[Kernel], Ran], kernel: Kernel, key: BrokenAt) -> str:
    """A smallest set of defects whose repair makes that vanish, "+" between their ids."""

    def vanishes(repairs: Sequence[Defect]) -> bool:
        return key not in on(repaired(kernel, repairs)).broken

    return "+".join(defect.id for defect in smallest(KNOWN, vanishes))
