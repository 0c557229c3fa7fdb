"""Two kernels side by side: where a program does on one what it does not on the other.

Both are models, so everything is compared, after every call: results, pages and what they hold,
VMAs, events, TLBs, counters, tables, and which rules are broken.  A program is run on the second
kernel only if it has read, on the first, a switch that is set otherwise there; up to that call they
are alike.

A program has one finding.  A rule that is broken on one kernel only is told first, the worst one;
else what differs after the first call after which anything does.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple, Self

from engine.base.kernel import SWITCHES, Kernel
from engine.state.space import AddressSpace, Listener
from fuzz.case import Case, CaseError
from fuzz.execute import Found, Outcome, execute
from fuzz.findings.bucket import Bucket
from fuzz.forms.results import format_result
from fuzz.forms.text import format_call
from fuzz.lib.lines import columns
from fuzz.noted import Noted
from fuzz.rules.index import BY_SLUG
from fuzz.rules.judge import RulesAfter
from fuzz.rules.rule import Severity
from fuzz.showing import DEFAULT_KERNEL, annotated, expecting, kernel_for
from fuzz.subjects.state import Item, State, differing, items, state_of
from fuzz.tell.draw import Drawing, draw, draw_change
from fuzz.tell.story import story

DIFFERS = "differs-"  # begins the names of such findings, in place of a rule
RESULT = "result"
_SHOWN = 8  # pages, VMAs or tables that are told one by one
_SEVERITIES = list(Severity)

Step = Callable[[int, AddressSpace], None]


class Parting(NamedTuple):
    """A difference: its kind, `result`, a field of `State` or a rule; the index of the call."""

    kind: str
    call: int
    bucket: Bucket


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
        if not self.switches:
            raise CaseError(f"{kernel.name} has every switch as {like.name}: name another kernel")

    def parting(
        self, case: Case, *, listeners: Iterable[Listener] = (), on_step: Step | None = None
    ) -> Parting | None:
        """Where the two part on a program; None: they do the same.

        Arguments: `listeners` and `on_step` watch the run on `kernel`, see `execute`.
        Errors raised: CaseError for a call that the model does not know.
        """
        noted, states = Noted(self.kernel), {}

        def watch(index: int, space: AddressSpace) -> None:
            if on_step is not None:
                on_step(index, space)
            if not self.switches.isdisjoint(noted.read):
                states[index] = state_of(space)

        ours = self._run(case, noted, watch, listeners)
        if noted.same_on(self.like):
            return None
        apart: dict[int, str] = {}

        def beside(index: int, space: AddressSpace) -> None:
            if index in states and not apart:
                field = differing(states[index], state_of(space))
                if field is not None:
                    apart[index] = field

        theirs = self._run(case, self.like, beside)
        return self._first(case, ours, theirs, apart)

    def _run(
        self, case: Case, kernel: Kernel, step: Step, listeners: Iterable[Listener] = ()
    ) -> Outcome:
        return execute(
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
        broken = _broken(ours.violations) ^ _broken(theirs.violations)
        if broken:
            call, kind = min(broken, key=lambda one: (_rank(one[1]), one))
            return self._named(case, kind, call)
        results = zip(ours.results, theirs.results, strict=True)
        odd = [(i, RESULT) for i, (mine, other) in enumerate(results) if mine != other][:1]
        first = min([*odd, *apart.items()], key=lambda one: one[0], default=None)  # a result wins
        return self._named(case, first[1], first[0]) if first else None

    def _named(self, case: Case, kind: str, call: int) -> Parting:
        return Parting(kind, call, Bucket(f"{DIFFERS}{kind}", case.calls[call].name))

    def bucket(self, case: Case) -> Bucket | None:
        """The finding that a program is; see `parting`."""
        found = self.parting(case)
        return found.bucket if found else None

    def as_case(self, case: Case) -> Case:
        """The program as a case in which the kernel has to do what the other does."""
        like = [self.like.name]
        case = replace(case, kernel=self.kernel.name, like=self.like.name, assertions=())
        return annotated(expecting(case, like), like)

    def told(self, case: Case, parting: Parting, *, colour: bool = False) -> str:
        """The program up to the call with the difference, and what that does on either kernel."""
        views = _View(parting.call), _View(parting.call)
        kernels = self.like, self.kernel
        theirs, ours = (
            self._run(case, kernel, view.step) for kernel, view in zip(kernels, views, strict=True)
        )
        lines = [_line(theirs, call) for call in range(parting.call)]
        for outcome, view in zip((theirs, ours), views, strict=True):
            lines += ["", _line(outcome, parting.call)]
            assert view.before is not None and view.after is not None, "a call that was run"
            lines.append(draw_change(view.before, view.after, colour=colour))
        rows = [Item("differs", *(kernel.name for kernel in kernels))]
        results = [outcome.results[parting.call] for outcome in (theirs, ours)]
        if results[0] != results[1]:
            page_bytes = self.kernel.geometry.page_bytes
            rows.append(Item(RESULT, *(format_result(result, page_bytes) for result in results)))
        states = [view.state for view in views]
        assert states[0] is not None and states[1] is not None, "a call that was run"
        rows += items(states[0], states[1], ours.space)
        if len(rows) > _SHOWN:
            rows[_SHOWN:] = [Item(f"and {len(rows) - _SHOWN} more", "", "")]
        lines += ["", *columns(rows)]
        for here, there in ((theirs, ours), (ours, theirs)):
            for call, rule in sorted(_broken(here.violations) - _broken(there.violations)):
                promise = f": {BY_SLUG[rule].statement}" if rule in BY_SLUG else ""
                lines.append(f"call {call + 1} breaks {rule} on {here.kernel.name} only{promise}")
        return "\n".join(lines).lstrip("\n")


class Likeness(NamedTuple):
    """Whether a case does on a kernel what it does on another; `parting` None: it does."""

    case: Case
    pair: Pair
    parting: Parting | None

    @classmethod
    def of(cls, case: Case, kernel: str, like: str) -> Self:
        """On kernels of these names.  Errors raised: CaseError, UnknownName."""
        pair = Pair(kernel_for(case, kernel), kernel_for(case, like))
        return cls(case, pair, pair.parting(case))

    @property
    def kernel(self) -> Kernel:
        """The kernel that is judged."""
        return self.pair.kernel

    @property
    def surprises(self) -> bool:
        """True if the two differ."""
        return self.parting is not None

    def told(self, *, colour: bool = False) -> str:
        """The program, and both drawings if they differ."""
        if self.parting is not None:
            return self.pair.told(self.case, self.parting, colour=colour)
        return story(self.case, self.kernel, colour=colour)

    def __str__(self) -> str:
        """One line."""
        ground = f"{self.kernel.name} on {self.kernel.geometry.name}"
        if self.parting is None:
            return f"{ground}: does what {self.pair.like.name} does"
        call = format_call(
            self.case.calls[self.parting.call]._replace(result=None),
            self.kernel.geometry.page_bytes,
        )
        return (
            f"{ground}: differs from {self.pair.like.name} in {self.parting.kind}, "
            f"call {self.parting.call + 1}: {call}"
        )


def likeness(case: Case) -> Likeness | None:
    """Whether a case that says so (`@like`) does what it must.  Errors raised: CaseError."""
    own = case.kernel or DEFAULT_KERNEL
    return None if case.like is None else Likeness.of(case, own, case.like)


class _View:
    """Draws the address space before and after one call."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.before: Drawing | None = None
        self.after: Drawing | None = None
        self.state: State | None = None

    def step(self, index: int, space: AddressSpace) -> None:
        """See `on_step` of `execute`."""
        if index == self.index - 1:
            self.before = draw(space)
        elif index == self.index:
            self.after, self.state = draw(space), state_of(space)


def otherwise(kernel: Kernel, other: Kernel) -> frozenset[str]:
    """The switches that two kernels have set otherwise."""
    return frozenset(name for name in SWITCHES if getattr(kernel, name) != getattr(other, name))


def _broken(violations: Iterable[Found]) -> set[tuple[int, str]]:
    return {(call, violation.rule) for call, violation in violations}


def _line(outcome: Outcome, call: int) -> str:
    """A call with its result."""
    made = outcome.case.calls[call]._replace(result=outcome.results[call])
    return format_call(made, outcome.space.geometry.page_bytes)


def _rank(slug: str) -> int:
    """How bad it is that a rule is broken: 0 is the worst."""
    rule = BY_SLUG.get(slug)
    return _SEVERITIES.index(rule.severity) if rule else len(_SEVERITIES)
