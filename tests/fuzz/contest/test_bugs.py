"""Bugs that contestants look for: put in, and taken out again."""

import pytest

from engine.base.geometry import UnknownName
from engine.vmas import place
from fuzz.contest.bugs import Altered, bug_named, code_in_place, function_at, museum, mutants
from fuzz.forms import text
from fuzz.showing import due

MOVE = """
mmap(0x200000, 0x3000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x200000, 0x3000)
mremap(0x200000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x400000)
"""


def altered(name: str) -> Altered:
    change = bug_named(name).change
    assert isinstance(change, Altered)
    return change


def test_a_mutant_is_in_place_while_it_is_applied_and_no_longer() -> None:
    change = altered(mutants(1)[0])
    function = function_at(change.target)
    assert function is not None
    original = function.__code__
    with change.applied():
        assert function.__code__ is change.code is not original
        assert function_at(change.target) is function, "whoever has imported it has the mutant, too"
    assert function.__code__ is original
    with pytest.raises(ZeroDivisionError), change.applied():
        raise ZeroDivisionError
    assert function.__code__ is original


def test_some_mutant_is_found_by_a_plain_move() -> None:
    case = text.parse(MOVE)
    assert any(
        due(bug.execute(case, stop=False), bug) is not None for bug in map(bug_named, mutants(40))
    )


def test_mutants_are_always_the_same() -> None:
    assert mutants(5) == mutants(8)[:5]
    assert len(set(mutants(8))) == 8


@pytest.mark.parametrize("name", [museum()[3], *museum()[-2:], *mutants(2)])
def test_code_of_a_change_is_not_that_of_the_engine(name: str) -> None:
    change = bug_named(name).change
    if change is not None:
        function = function_at(change.target)
        assert function is None or code_in_place(change) is not function.__code__


def test_what_is_no_function_is_told_apart() -> None:
    assert function_at("engine.vmas.place:PAGE_NOT_THERE") is None
    assert function_at("engine.vmas.place:__doc__") is None
    assert place is not None


def test_unknown_bug() -> None:
    with pytest.raises(UnknownName, match="B-99"):
        bug_named("B-99")
