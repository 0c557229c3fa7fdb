"""Checks of what a case asserts of VMAs and pages behind its calls."""

from collections.abc import Iterable, Iterator, Sequence

from engine.base.kernel import base_of
from fuzz.asserted import broken
from fuzz.case import Assertion
from fuzz.export.check import Check, either, literal
from fuzz.export.twins import Twins
from fuzz.forms.assertions import NOT, PAGE, UNMAPPED, VMA
from fuzz.forms.c import address

_UNSEEN_WORDS = ("writable",)  # of a page: no file of /proc tells


def asserted_checks(pair: Twins) -> Iterator[tuple[int, Check]]:
    """After how many calls, and the check of an assertion."""
    name = pair.kernel.name
    case = pair.case
    not_right = {}
    if pair.right is not None:
        not_right = {one.assertion: one.found for one in broken(case, pair.right.kernel)}
    not_shown = {one.assertion for one in broken(case, pair.kernel)}
    for one in case.assertions:
        if one.kernel in (None, name, base_of(name)) and one not in not_shown:
            for check in _assertion(one, not_right.get(one)):
                yield one.after, check


def _assertion(one: Assertion, otherwise: str | None) -> Iterator[Check]:
    """The checks of an assertion.

    Arguments: `otherwise` how it is on the twin, in the words of `fuzz.asserted`; None: the same.
    """
    if one.kind == PAGE:
        yield from _page(one, otherwise)
    elif one.kind == UNMAPPED:
        if otherwise is None:
            yield Check("_TEXT", _mapped(one), literal("nothing"))
    elif one.kind == VMA:
        row = f"{one.start:#x}-{one.end:#x} {one.words[0]}"
        there = [] if otherwise is None else otherwise.split("; ")
        right = there[0].split() if len(there) == 1 else []
        if otherwise is not None and " ".join(right[:2]) != row:
            return  # what is mapped at the end tells
        yield Check("_TEXT", _mapped(one), literal(row))
        if words := one.words[1:]:
            flags = None if otherwise is None else literal(polarity(words, right[2:]))
            wrong = literal(" ".join(words))
            yield either("_FLAGS", address(one.start), flags, wrong)


def _mapped(one: Assertion) -> str:
    return f"mapped({address(one.start)}, {address(one.end)})"


def _page(one: Assertion, otherwise: str | None) -> Iterator[Check]:
    """The words of a page, then the number in it."""
    where = address(one.start)
    words = [w for w in one.words if w.removeprefix(NOT) not in _UNSEEN_WORDS]
    states = [word for word in words if not word.isdigit()]
    there = None if otherwise is None else otherwise.split()
    if states:
        right = None if there is None else literal(polarity(states, there))
        yield either("_PAGE", where, right, literal(" ".join(states)))
    for number in (word for word in words if word.isdigit()):
        numbers = [] if there is None else [word for word in there if word.isdigit()]
        yield either("", f"content({where})", next(iter(numbers), None), number)


def polarity(words: Iterable[str], there: Sequence[str]) -> str:
    """The same words, each with the sign that is true of what is there."""
    bare = [word.removeprefix(NOT) for word in words]
    return " ".join(word if word in there else NOT + word for word in bare)
