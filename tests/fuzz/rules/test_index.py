"""What the rules say of themselves, and that the engine checks those that it is said to check."""

import ast
from types import SimpleNamespace
from typing import Any

import pytest

from engine.base.address import Range
from engine.base.geometry import UnknownName
from fuzz.rules.index import (
    BY_SLUG,
    FILES,
    ORDER,
    RULES,
    checks_of,
    checks_on,
    promise_named,
    rule_named,
)
from fuzz.rules.rule import ENGINE, UNCHECKED
from fuzz.rules.tlb import TLB_AFTER
from tests.lib import breaks
from tests.lib.constants import ROOT


def engine_reports() -> set[str]:
    """The slugs in the violations that the engine makes."""
    return {
        constant.value
        for path in (ROOT / "engine").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "Violation"
        for constant in ast.walk(node.args[0])
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


def test_names_are_unambiguous() -> None:
    promises = [*RULES, *UNCHECKED]
    assert len({rule.id for rule in promises}) == len({rule.slug for rule in promises})
    assert len(BY_SLUG) == len(RULES)
    for rule in RULES:
        assert rule_named(rule.slug) is rule_named(rule.id) is promise_named(rule.id) is rule
        assert all((rule.statement, rule.source, checks_of(rule))) and not rule.needs
    for promise in UNCHECKED:
        assert promise_named(promise.slug) is promise and promise.needs


def test_an_unknown_rule_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown rule 'no-such-rule'; known: dest-entry-none, "):
        rule_named("no-such-rule")


def test_the_engine_reports_what_it_is_said_to_check() -> None:
    assert engine_reports() == {rule.slug for check in checks_on(ENGINE) for rule in check.rules}


def test_every_file_of_the_order_checks_something() -> None:
    assert set(FILES) >= set(ORDER) - {"contents"}
    assert [name for name in FILES if name in ORDER] == [name for name in ORDER if name in FILES]


# --- the marks of tests that break rules ---------------------------------------------------------


def item(*slugs: str) -> Any:
    """A test that is marked."""
    return SimpleNamespace(iter_markers=lambda name: [getattr(pytest.mark, name)(*slugs).mark])


def test_a_test_must_see_a_rule_fire_and_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaks, "proven", set())
    found = TLB_AFTER.broken(Range(0, 1), "one", "other")
    for looks, objections in (
        ([], ["was not seen to fire", "was not seen to be silent"]),
        ([[]], ["was not seen to fire"]),
        ([[found]], ["was not seen to be silent"]),
        ([[], [found]], []),
    ):
        breaks.begin()
        for look in looks:
            assert breaks.looked(look) == look
        assert breaks.end(item("tlb-after")) == [f"tlb-after {what}" for what in objections]
    assert "tlb-after" not in breaks.unproven()
