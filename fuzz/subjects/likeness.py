"""A case that is to do on one kernel what it does on another: as a file, and as people see it."""

from dataclasses import replace
from typing import NamedTuple, Self

from engine.base.kernel import Kernel
from engine.state.space import AddressSpace
from fuzz.case import Case
from fuzz.execute import Outcome
from fuzz.forms.results import format_result
from fuzz.forms.text import format_call
from fuzz.lib.lines import columns
from fuzz.rules.index import BY_SLUG
from fuzz.showing import DEFAULT_KERNEL, annotated, expecting, kernel_for
from fuzz.subjects.pair import RESULT, Pair, Parting, broken
from fuzz.subjects.state import NONE, Item, State, items, state_of
from fuzz.tell.draw import Drawing, draw, draw_change
from fuzz.tell.story import story

_SHOWN = 7  # pages, VMAs or tables that are told one by one


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
            return told(self.pair, self.case, self.parting, colour=colour)
        return story(self.case, self.kernel, colour=colour)

    def __str__(self) -> str:
        """One line."""
        return f"{self.kernel.name} on {self.kernel.geometry.name}: {self.what}"

    @property
    def what(self) -> str:
        """What that line says of the kernel, without its name."""
        if self.parting is None:
            return f"does what {self.pair.like.name} does"
        call = format_call(
            self.case.calls[self.parting.call]._replace(result=None),
            self.kernel.geometry.page_bytes,
        )
        return (
            f"differs from {self.pair.like.name} in {self.parting.what}, "
            f"call {self.parting.call + 1}: {call}"
        )


def likeness(case: Case) -> Likeness | None:
    """Whether a case that says so (`@like`) does what it must.  Errors raised: CaseError."""
    own = case.kernel or DEFAULT_KERNEL
    return None if case.like is None else Likeness.of(case, own, case.like)


def as_case(pair: Pair, case: Case) -> Case:
    """The program as a case in which the kernel has to do what the other does."""
    like = [pair.like.name]
    case = replace(case, kernel=pair.kernel.name, like=pair.like.name, assertions=())
    return annotated(expecting(case, like), like)


def told(pair: Pair, case: Case, parting: Parting, *, colour: bool = False) -> str:
    """The program up to the call with the difference, and what that does on either kernel."""
    views = _View(parting.call), _View(parting.call)
    kernels = pair.like, pair.kernel
    theirs, ours = (
        pair.run(case, kernel, view.step) for kernel, view in zip(kernels, views, strict=True)
    )
    lines = [_line(theirs, call) for call in range(parting.call)]
    for outcome, view in zip((theirs, ours), views, strict=True):
        lines += ["", _line(outcome, parting.call)]
        if view.before is not None and view.after is not None:  # else the call did not end
            lines.append(draw_change(view.before, view.after, colour=colour))
    lines.append("")
    rows: list[Item] = []
    results = [_result(outcome, parting.call) for outcome in (theirs, ours)]
    if results[0] != results[1]:
        rows.append(Item(RESULT, *results))
    states = [view.state for view in views]
    if states[0] is not None and states[1] is not None:
        rows += items(states[0], states[1], ours.space)
    if len(rows) > _SHOWN:
        rows[_SHOWN:] = [Item(f"and {len(rows) - _SHOWN} more", "", "")]
    if rows:
        lines += columns([("differs", *(kernel.name for kernel in kernels)), *rows])
    for here, there in ((theirs, ours), (ours, theirs)):
        for call, rule in sorted(broken(here.violations) - broken(there.violations)):
            promise = f": {BY_SLUG[rule].statement}" if rule in BY_SLUG else ""
            lines.append(f"call {call + 1} breaks {rule} on {here.kernel.name} only{promise}")
    return "\n".join(lines).lstrip("\n")


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


def _line(outcome: Outcome, call: int) -> str:
    """A call with its result, if it ended."""
    result = outcome.results[call] if call < len(outcome.results) else None
    made = outcome.case.calls[call]._replace(result=result)
    return format_call(made, outcome.space.geometry.page_bytes)


def _result(outcome: Outcome, call: int) -> str:
    """The result of a call, if it ended."""
    if call >= len(outcome.results):
        return NONE
    return format_result(outcome.results[call], outcome.space.geometry.page_bytes)
