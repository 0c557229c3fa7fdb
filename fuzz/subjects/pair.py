"""Two kernels side by side: where a program does on one what it does not on the other.

Both are models, so everything is compared, after every call: results, pages and what they hold,
VMAs, events, TLBs, counters, tables, and which rules are broken.  A program is run on the second
kernel only if it has read, on the first, a switch that is set otherwise there; up to that call they
are alike.

A program has one finding.  A rule that is broken on one kernel only is told first, the worst one;
else what differs after the first call after which anything does.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from engine.base.kernel import SWITCHES, Kernel, base_of, kernel_named
from engine.state.space import AddressSpace, Listener
from fuzz import bounded
from fuzz.case import Case, CaseError
from fuzz.execute import BrokenAt, Found, Outcome
from fuzz.findings.bucket import Bucket
from fuzz.noted import Noted
from fuzz.rules.index import gravity
from fuzz.rules.judge import RulesAfter
from fuzz.subjects.state import State, differing, state_of

DIFFERS = "differs-"  # begins the names of such findings, in place of a rule
RESULT = "result"
_WORDS = {
    RESULT: "the result",
    "pages": "pages",
    "objects": "pages of objects",
    "vmas": "VMAs",
    "events": "what a userfaultfd was told",
    "tlbs": "TLBs",
    "counts": "counters",
    "tables": "page tables",
}
assert set(State._fields) <= set(_WORDS)

Step = Callable[[int, AddressSpace], None]


class Parting(NamedTuple):
    """A difference: its kind, `result`, a field of `State` or a rule; the index of the call."""

    kind: str
    call: int
    bucket: Bucket

    @property
    def what(self) -> str:
        """What differs, in words."""
        return _WORDS.get(self.kind, f"the rule {self.kind}")


class Half(NamedTuple):
    """A run on the first kernel: what it read, and the states since it may do something else."""

    noted: Noted
    outcome: Outcome
    states: dict[int, State]


class Pair:
    """A kernel, and the one that it is to be like."""

    def __init__(self, kernel: Kernel, like: Kernel, rules_after: RulesAfter = "moving") -> None:
        """Arguments: `like` is taken on the geometry of `kernel`; for `rules_after` see `execute`.

        Errors raised: CaseError if they are the same kernel.
        """
        self.kernel = kernel
        self.like = like.on(kernel.geometry)
        self.switches = otherwise(kernel, like)
        self._rules_after = rules_after
        base = base_of(kernel.name)
        only_switches = base == like.name != kernel.name  # then these say which kernels are meant
        pair = kernel.name.removeprefix(base) if only_switches else f"-{kernel.name}-{like.name}"
        self._suffix = pair
        if not self.switches:
            raise CaseError(f"{kernel.name} has every switch as {like.name}: name another kernel")

    def parting(self, case: Case) -> Parting | None:
        """Where the two part on a program; None: they do the same.

        Errors raised: CaseError for a call that the model does not know.
        """
        return self.beside(self.first(case))

    def first(
        self,
        case: Case,
        noted: Noted | None = None,
        *,
        listeners: Iterable[Listener] = (),
        on_step: Step | None = None,
    ) -> Half:
        """A program on `kernel`.

        Arguments: `noted` that kernel, if somebody else wants to know what is read of it; who
        watches, see `execute`.
        """
        noted = Noted(self.kernel) if noted is None else noted
        states: dict[int, State] = {}

        def watch(index: int, space: AddressSpace) -> None:
            if on_step is not None:
                on_step(index, space)
            if states or not self.switches.isdisjoint(noted.read):
                states[index] = state_of(space)

        return Half(noted, self.run(case, noted, watch, listeners), states)

    def beside(self, half: Half) -> Parting | None:
        """Where the other kernel parts from such a run; it is run if it may do something else."""
        if half.noted.same_on(self.like):
            return None
        apart: dict[int, str] = {}

        def watch(index: int, space: AddressSpace) -> None:
            if index in half.states and not apart:
                field = differing(half.states[index], state_of(space))
                if field is not None:
                    apart[index] = field

        case = half.outcome.case
        return self._first(case, half.outcome, self.run(case, self.like, watch), apart)

    def run(
        self, case: Case, kernel: Kernel, step: Step, listeners: Iterable[Listener] = ()
    ) -> Outcome:
        """A program on either kernel.  Arguments: who watches, see `execute`."""
        return bounded.run(
            case,
            kernel,
            stop=False,
            on_step=step,
            listeners=listeners,
            rules_after=self._rules_after,
        )

    def _first(
        self, case: Case, ours: Outcome, theirs: Outcome, apart: dict[int, str]
    ) -> Parting | None:
        """What the finding is.  Arguments: `apart` the field that differs, by index of the call."""
        alone = broken(ours.violations) ^ broken(theirs.violations)
        if alone:
            call, kind = min(alone, key=lambda one: (gravity(one[1]), one))
            return self._named(case, kind, call)
        results = zip(ours.results, theirs.results, strict=True)  # else one broke a rule by its end
        odd = [(i, RESULT) for i, (mine, other) in enumerate(results) if mine != other][:1]
        first = min([*odd, *apart.items()], key=lambda one: one[0], default=None)  # a result wins
        return self._named(case, first[1], first[0]) if first else None

    def _named(self, case: Case, kind: str, call: int) -> Parting:
        return Parting(
            kind, call, Bucket.of(f"{DIFFERS}{kind}{self._suffix}", case.calls[call].name)
        )

    def bucket(self, case: Case) -> Bucket | None:
        """The finding that a program is; see `parting`."""
        found = self.parting(case)
        return found.bucket if found else None


def otherwise(kernel: Kernel, other: Kernel) -> frozenset[str]:
    """The switches that two kernels have set otherwise."""
    return frozenset(name for name in SWITCHES if getattr(kernel, name) != getattr(other, name))


def unlike(names: Sequence[str], like: str) -> list[str]:
    """Those of the kernels that can be compared with one of them, or another: it may be named, too.

    Returns: all if none can, which `Pair` refuses.
    Errors raised: UnknownName.
    """
    other = kernel_named(like)
    return [name for name in names if otherwise(kernel_named(name), other)] or list(names)


def broken(violations: Iterable[Found]) -> set[BrokenAt]:
    """Which rules were broken, and at which calls."""
    return {found.key for found in violations}
