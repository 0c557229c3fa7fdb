"""A rule says what it is; a decorator when it is checked, and that is all there is of it."""

from collections.abc import Iterator

import pytest

from engine.base.address import Range
from engine.base.violation import Violation
from fuzz.rules import rule
from fuzz.rules.rule import (
    CONTRACT,
    ENGINE,
    HARM,
    LEAVES,
    NOTHING,
    STATE,
    VMAS,
    Check,
    Occasion,
    Rule,
    after,
    at,
    elsewhere,
    on,
    unchecked,
)

ONE = Rule("V-98", "one", "what is promised", "who promises it", HARM)
OTHER = Rule("V-99", "other", "what is promised", "who promises it", CONTRACT, needs="an actor")


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """The checks that the test declares."""
    checks: list[Check] = []
    monkeypatch.setattr(rule, "CHECKS", checks)
    return checks


def look(sight: object) -> Iterator[Violation]:
    yield ONE.broken(Range(0, 1), "this", "that")


def test_what_is_broken_carries_the_slug() -> None:
    found = ONE.broken(Range(4, 8), "this", "that")
    assert (found.rule, found.where, found.found, found.expected) == (
        "one",
        Range(4, 8),
        "this",
        "that",
    )


def test_a_check_of_a_state(declared: list[Check]) -> None:
    assert on(STATE, ONE, OTHER)(look) is look
    assert declared == [Check(STATE, (), (ONE, OTHER), look, NOTHING)]
    assert declared[0].when == "after a call"


def test_a_check_at_points_of_a_move(declared: list[Check]) -> None:
    assert at(["enter", "leave"], ONE)(look) is look
    assert declared == [Check(Occasion.POINT, ("enter", "leave"), (ONE,), look, NOTHING)]
    assert declared[0].when == "in a move"


def test_a_check_after_calls(declared: list[Check]) -> None:
    after("mseal", ONE, before=VMAS)(after("mlock", ONE, before=LEAVES)(look))
    assert [(check.names, check.before, check.when) for check in declared] == [
        (("mlock",), LEAVES, "after mlock"),
        (("mseal",), VMAS, "after mseal"),
    ]


def test_what_is_checked_elsewhere_has_no_function(declared: list[Check]) -> None:
    elsewhere(ENGINE, ONE)
    assert declared == [Check(ENGINE, (), (ONE,), None, NOTHING)]


def test_what_cannot_be_broken_is_kept_apart(
    declared: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule, "UNCHECKED", promises := [])
    unchecked(OTHER)
    assert (promises, declared) == ([OTHER], [])


def test_what_is_compared_includes_what_costs_less() -> None:
    assert NOTHING < VMAS < LEAVES
