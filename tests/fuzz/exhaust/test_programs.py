"""Every small program: all of them, each once, and as many as is said."""

from itertools import chain

import pytest

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.exhaust.programs import Bound, Layout, layouts, parts, program, programs, size
from fuzz.exhaust.session import sample, tasks_of
from fuzz.forms import text
from fuzz.showing import showing

TINY = GEOMETRIES["tiny"]


@pytest.mark.parametrize(("calls", "pages"), [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)])
def test_each_is_there_once_and_can_be_read(calls: int, pages: int) -> None:
    bound = Bound(TINY, calls, pages)
    seen = set()
    for layout in layouts(bound):
        some = [case.calls for case in programs(bound, layout)]
        assert len(some) == size(bound, layout)
        assert seen.isdisjoint(some)
        seen |= set(some)
    assert len(seen) == sum(task.programs for task in tasks_of(bound))
    for program_ in list(seen)[:200]:
        case = text.parse("\n".join(text.format_call(call) for call in program_))
        assert case.calls == program_


def test_the_smallest_ones_by_hand() -> None:
    """One page of any kind, touched or not; 19 moves of it, counted here once more."""
    bound = Bound(TINY, 2, 1)
    moves = 0
    for target in range(5):  # the page itself, and each offset in the slot behind it
        moves += 2  # with and without DONTUNMAP
        moves += 1  # a second mapping, old_size 0
        del target
    moves += 1  # DONTUNMAP, to where the kernel likes
    moves += 2  # grown or not in place, or anywhere: there is no more than the window
    moves += 1  # a second mapping where the kernel likes
    mapped = [layout for layout in layouts(bound) if layout.mappings]
    assert [size(bound, layout) for layout in mapped] == [2 * moves] * 4, "no huge page fits"


def test_a_layout_in_parts_is_the_same() -> None:
    bound = Bound(TINY, 2, 3)
    layout = next(one for one in layouts(bound) if one.pages == 3 and one.mappings)
    whole = [case.calls for case in programs(bound, layout)]
    of = parts(bound, layout)
    some = [[case.calls for case in programs(bound, layout, part, of)] for part in range(of)]
    assert sorted(chain(*some)) == sorted(whole)


def test_tasks_say_how_many_programs_they_have() -> None:
    bound = Bound(TINY, 2, 4)
    for task in tasks_of(bound):
        there = sum(1 for _ in programs(bound, task.layout, task.part, task.of))
        assert there == task.programs, task


def test_chance_draws_from_the_same_programs() -> None:
    bound = Bound(TINY, 2, 2)
    every = {case.calls for layout in layouts(bound) for case in programs(bound, layout)}
    drawn = [case.calls for case in sample(bound, 200, seed=3)]
    assert set(drawn) <= every
    assert drawn == [case.calls for case in sample(bound, 200, seed=3)]
    assert len(set(drawn)) > 100


def test_the_smallest_stack_that_warns() -> None:
    """The warning of 2023: a partial slot, and a whole one behind it, by a whole slot."""
    bound, kernel = Bound(TINY, 1, 1), kernel_named("linux-6.1", "tiny")
    stacks = (case for layout in layouts(bound) for case in programs(bound, layout))
    first = next(case for case in stacks if showing(case, kernel).rule == "dest-entry-none")
    (call,) = first.calls
    start, end, shift = (number // TINY.slot_bytes for number in call.args)
    assert call.args[0] % TINY.slot_bytes, "it begins within a slot"
    assert (end - start, shift) == (2, 1)


def test_a_program_is_what_its_choices_say() -> None:
    bound = Bound(TINY, 2, 2)
    layout = next(one for one in layouts(bound) if one.mappings and one.pages == 2)
    case = program(bound, layout, lambda options: options[-1])
    assert isinstance(layout, Layout)
    assert case.calls[0].args[:2] == (0, 0x2000)
    assert case.calls[1].args == (0, 0x2000), "the last set of pages is all of them"
