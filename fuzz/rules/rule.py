"""A rule: one promise of the kernel, declared in the file that checks it.

    ORDER = Rule("V-01", "vma-order", "VMAs are sorted", "validate_mm()", HARM)

    @on(STATE, ORDER)
    def in_order(state: State) -> Iterator[Violation]:
        ...
        yield ORDER.broken(vma.range, f"{vma}", "sorted VMAs")

A decorator says on which occasion a check is made and which rules it may find broken; there is no
other list of them.  `fuzz.rules.index` collects what the files of this folder declare.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Self, TypeVar

from engine.base.address import Range
from engine.base.violation import Violation


class Severity(StrEnum):
    """How bad it is that a rule is broken, the worst first; `meaning` says what it is for whom."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        """Make one."""
        severity = str.__new__(cls, word)
        severity._value_ = word
        severity.meaning = meaning
        return severity

    HARM = (
        "harm",
        "Contents are lost, of the wrong page or seen elsewhere; rights are widened; a translation "
        "is stale; pages, tables, charge, locks, reservations or registrations are leaked or lost.",
    )
    CONTRACT = (
        "contract",
        "A result, an error, a trace, a merge or a notification is not what was promised.",
    )
    COURSE = "course", "How it was done: its bites, their order, what it costs."
    CRASH = (
        "crash",
        "The call did not return. It says least: what was broken before is why.",
    )


HARM, CONTRACT = Severity.HARM, Severity.CONTRACT
COURSE, CRASH = Severity.COURSE, Severity.CRASH


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise of the kernel.

    Arguments: `slug` what a violation carries and `@expect` names; `source` what makes the promise
    in the kernel, and which bugs broke it (`pmdfuzz museum` has the numbers); `needs` what it would
    take to check a promise that this model cannot break.
    """

    id: str
    slug: str
    statement: str
    source: str
    severity: Severity
    needs: str = ""

    def broken(self, where: Range, found: str, expected: str) -> Violation:
        """The violation: addresses in bytes, what was there, and what the rule asks for."""
        return Violation(self.slug, where, found, expected)


class Occasion(StrEnum):
    """When rules are checked, and what a check gets to see then."""

    FRESH = "before the first call"  # AddressSpace
    POINT = "in a move"  # Moving
    CALL = "after"  # Sight
    SHORTAGE = "after a call that may run out of something"  # Sight
    STATE = "after a call"  # State
    TLB = "after each call"  # AddressSpace
    CONTENTS = "against the oracle"
    ENGINE = "by the model itself"  # at the kernel's own warnings
    RETURN = "when a call does not return"


FRESH, SHORTAGE, STATE = Occasion.FRESH, Occasion.SHORTAGE, Occasion.STATE
TLB, CONTENTS = Occasion.TLB, Occasion.CONTENTS
ENGINE, RETURN = Occasion.ENGINE, Occasion.RETURN


class Before(IntEnum):
    """What a check around a call compares of the state before it, each with those above it."""

    NOTHING = 0
    VMAS = 1
    LEAVES = 2


NOTHING, VMAS, LEAVES = Before.NOTHING, Before.VMAS, Before.LEAVES

CheckFunction = Callable[[Any], Iterable[Violation]]
_F = TypeVar("_F", bound=Callable[..., Iterable[Violation]])


@dataclass(frozen=True, slots=True)
class Check:
    """A function that looks for broken rules; None where others look (`elsewhere`).

    Arguments: `names` the points of a move, or the calls; `before` what it compares.
    """

    occasion: Occasion
    names: tuple[str, ...]
    rules: tuple[Rule, ...]
    function: CheckFunction | None
    before: Before = Before.NOTHING

    @property
    def when(self) -> str:
        """The occasion, for people."""
        calls = ", ".join(self.names) if self.occasion is Occasion.CALL else ""
        return f"{self.occasion} {calls}".rstrip()


CHECKS: list[Check] = []  # of all files that were imported
UNCHECKED: list[Rule] = []  # promises that the model cannot break


def on(occasion: Occasion, *rules: Rule) -> Callable[[_F], _F]:
    """Check rules on an occasion."""
    return _checking(occasion, (), rules)


def at(points: Sequence[str], *rules: Rule) -> Callable[[_F], _F]:
    """Check rules at points of a page-table move (see engine.base.points)."""
    return _checking(Occasion.POINT, tuple(points), rules)


def after(call: str, *rules: Rule, before: Before) -> Callable[[_F], _F]:
    """Check rules when a call of that name has returned.

    Arguments: `before` what the check compares of the state before the call.
    """
    return _checking(Occasion.CALL, (call,), rules, before)


def _checking(
    occasion: Occasion,
    names: tuple[str, ...],
    rules: tuple[Rule, ...],
    before: Before = Before.NOTHING,
) -> Callable[[_F], _F]:
    def register(function: _F) -> _F:
        CHECKS.append(Check(occasion, names, rules, function, before))
        return function

    return register


def elsewhere(occasion: Occasion, *rules: Rule) -> None:
    """Rules that are not checked by a function of this folder: ENGINE, CONTENTS, RETURN."""
    CHECKS.append(Check(occasion, (), rules, None))


def unchecked(*rules: Rule) -> None:
    """Promises that cannot be broken here; each says what it needs."""
    UNCHECKED.extend(rules)
