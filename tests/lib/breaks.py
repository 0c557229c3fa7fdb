"""Rules that a test breaks, and how a session knows that every rule was seen to fire and be silent.

A test marked with `breaks` plants a fault.  While it runs the rules must be `looked` at where there
is no fault, and must be silent, and where there is one, and must fire: else the test fails.  When
all tests were run and some rule has no such test, the session fails (tests/conftest.py).
"""

from collections.abc import Iterable

import pytest

from engine.base.violation import Violation
from fuzz.rules.index import RULES
from tests.lib.plain import objections

_looks: list[set[str]] = []  # of the test that is running: the rules that each look found broken
proven: set[str] = set()  # rules that tests of this process have seen to fire and to be silent


def breaks(*slugs: str) -> pytest.MarkDecorator:
    """The mark of a test that breaks these rules."""
    return pytest.mark.breaks(*slugs)


def looked(found: Iterable[Violation]) -> list[Violation]:
    """Note what was found in one look at all that a test is about; it has to be said plainly.

    Returns: the same.
    """
    violations = list(found)
    assert [wrong for violation in violations for wrong in objections(violation)] == []
    _looks.append({violation.rule for violation in violations})
    return violations


def begin() -> None:
    """A test begins."""
    _looks.clear()


def end(item: pytest.Item) -> list[str]:
    """A test has passed.  Returns: what speaks against it."""
    slugs = {slug for mark in item.iter_markers("breaks") for slug in mark.args}
    fired = {slug for slug in slugs if any(slug in look for look in _looks)}
    silent = {slug for slug in slugs if any(slug not in look for look in _looks)}
    proven.update(fired & silent)
    return [
        *(f"{slug} was not seen to fire" for slug in sorted(slugs - fired)),
        *(f"{slug} was not seen to be silent" for slug in sorted(slugs - silent)),
    ]


def unproven() -> list[str]:
    """Rules that no test has seen to fire and to be silent."""
    return [rule.slug for rule in RULES if rule.slug not in proven]
