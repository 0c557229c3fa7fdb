"""What calls do to contents, as drawings."""

from copy import deepcopy

import pytest

from fuzz.calls.registry import call
from fuzz.case import Call, Faults
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    DONTUNMAP,
    DROPPABLE,
    MAYMOVE,
    SHARED,
    TO,
    Program,
    advise,
    mmap,
    mremap,
    on,
    stack,
)


def test_touch_numbers_every_page_it_attempts(program: Program) -> None:
    program.mmap(1, 2, ". _ _ . .")
    program.mmap(4, 1, ". _ _ . _")
    faults = Faults(segv=((0, 1), (3, 1)))
    program.step(on("touch", 0, 5), faults, ". 2 3 . 5")
    program.touch(2, 1, ". 2 6 . 5")


def test_touch_of_part_of_a_page_writes_the_page(program: Program) -> None:
    program.mmap(0, 3, "_ _ _")
    program.step(call("touch", PAGE // 2, PAGE), 0, "1 2 _")
    program.step(call("touch", 2 * PAGE + 8, 0), 0, "1 2 _")


def test_mmap_fixed_replaces_and_munmap_removes(program: Program) -> None:
    program.mmap(0, 5, "_ _ _ _ _")
    program.touch(0, 5, "1 2 3 4 5")
    program.mmap(1, 2, "1 _ _ 4 5")
    program.step(call("munmap", 3 * PAGE, 1), 0, "1 _ _ . 5")
    program.step(on("munmap", 0, 9), 0, ". . . . . . . . .")


def test_protection_and_locking_leave_contents_alone(program: Program) -> None:
    program.mmap(0, 3, "_ _ _")
    program.touch(0, 3, "1 2 3")
    program.step(on("mprotect", 1, 1, 0), 0, "1 2 3")
    for name in ("mlock", "munlock"):
        program.step(on(name, 0, 3), 0, "1 2 3")


def test_move_takes_contents_along_and_evicts_the_target(program: Program) -> None:
    program.mmap(0, 3, "_ _ _ . . . .")
    program.touch(0, 3, "1 2 3 . . . .")
    program.mmap(4, 3, "1 2 3 . _ _ _")
    program.touch(4, 3, "1 2 3 . 4 5 6")
    program.move(0, 2, 2, 4, ". . 3 . 1 2 6")


def test_move_that_shrinks_unmaps_the_tail(program: Program) -> None:
    program.mmap(0, 3, "_ _ _ . . . .")
    program.touch(0, 3, "1 2 3 . . . .")
    program.move(0, 3, 1, 4, ". . . . 1 . .")


def test_move_that_grows_shows_nothing_new(program: Program) -> None:
    program.mmap(0, 2, "_ _ . . . . .")
    program.touch(0, 2, "1 2 . . . . .")
    program.mmap(4, 3, "1 2 . . _ _ _")
    program.touch(4, 3, "1 2 . . 3 4 5")
    program.move(0, 1, 3, 4, ". 2 . . 1 _ _")


def test_move_over_holes_leaves_what_is_behind_them(program: Program) -> None:
    program.mmap(0, 1, "_ . . . . . . . .")
    program.mmap(2, 1, "_ . _ . . . . . .")
    program.mmap(5, 4, "_ . _ . . _ _ _ _")
    program.step(on("touch", 0, 9), Faults(segv=((1, 1), (3, 2))), "1 . 3 . . 6 7 8 9")
    program.move(0, 4, 4, 5, ". . . . . 1 7 3 9")


def test_move_may_overlap_nothing_but_touch_its_source(program: Program) -> None:
    program.mmap(2, 2, ". . _ _")
    program.touch(2, 2, ". . 1 2")
    program.move(2, 2, 2, 0, "1 2 . .")


def test_in_place_shrink_crosses_holes_and_mappings(program: Program) -> None:
    program.mmap(0, 2, "_ _ . . .")
    program.mmap(3, 2, "_ _ . _ _")
    program.step(on("touch", 0, 5), Faults(segv=((2, 1),)), "1 2 . 4 5")
    program.step(mremap(0, 4, 1), 0, "1 . . . 5")


def test_equal_size_without_fixed_moves_nothing(program: Program) -> None:
    program.mmap(0, 1, "_ . .")
    program.mmap(2, 1, "_ . _")
    program.touch(0, 1, "1 . _")
    program.step(mremap(0, 3, 3, MAYMOVE), 0, "1 . _")


def test_growth_in_place_and_elsewhere(program: Program) -> None:
    program.mmap(0, 2, "_ _ . . . . .")
    program.touch(0, 2, "1 2 . . . . .")
    program.step(mremap(0, 2, 3), 0, "1 2 _ . . . .")
    program.step(mremap(0, 1, 2, MAYMOVE), 5 * PAGE, ". 2 _ . . 1 _")


def test_dontunmap_empties_private_memory(program: Program) -> None:
    program.mmap(0, 2, "_ _ . .")
    program.touch(0, 2, "1 2 . .")
    program.step(mremap(0, 2, 2, MAYMOVE | DONTUNMAP), 2 * PAGE, "_ _ 1 2")
    program.touch(0, 1, "3 _ 1 2")
    program.move(2, 1, 1, 5, "3 _ _ 2 . 1", DONTUNMAP)


def test_shared_memory_is_seen_through_every_mapping(program: Program) -> None:
    program.mmap(0, 3, "_ _ _ . . . .", flags=SHARED)
    program.touch(0, 2, "1 2 _ . . . .")
    program.step(mremap(1, 0, 2, MAYMOVE), 4 * PAGE, "1 2 _ . 2 _ .")
    program.touch(5, 1, "1 2 3 . 2 3 .")
    program.touch(1, 1, "1 4 3 . 4 3 .")
    program.move(0, 2, 2, 2, ". . 1 4 4 3 .")
    program.step(advise(4, 1, "REMOVE"), 0, ". . 1 _ _ 3 .")


def test_dontunmap_of_shared_memory_shows_it_twice(program: Program) -> None:
    program.mmap(0, 2, "_ _ . .", flags=SHARED)
    program.touch(0, 2, "1 2 . .")
    program.move(0, 2, 2, 2, "1 2 1 2", DONTUNMAP)
    program.touch(1, 1, "1 3 1 3")


def test_object_keeps_contents_that_no_mapping_shows(program: Program) -> None:
    program.mmap(0, 3, "_ _ _ .", flags=SHARED)
    program.touch(0, 3, "1 2 3 .")
    program.step(on("munmap", 1, 2), 0, "1 . . .")
    program.step(mremap(0, 1, 4), 0, "1 2 3 _")
    assert program.objects(on("touch", 3, 1), Faults(bus=((3, 1),)), "1 2 3 _") == []


def test_a_new_shared_mapping_is_a_new_object(program: Program) -> None:
    program.mmap(0, 2, "_ _ .", flags=SHARED)
    program.touch(0, 2, "1 2 .")
    program.mmap(0, 2, "_ _ .", flags=SHARED)
    program.step(mremap(1, 0, 1, TO, 2), 2 * PAGE, "_ _ _")
    program.touch(2, 1, "_ 3 3")


def test_duplicate_over_its_neighbour(program: Program) -> None:
    program.mmap(0, 2, "_ _ . .", flags=SHARED)
    program.mmap(2, 2, "_ _ _ _")
    program.touch(0, 4, "1 2 3 4")
    program.move(0, 0, 2, 2, "1 2 1 2")


@pytest.mark.parametrize(
    ("advice", "after"),
    [
        ("DONTNEED", "1 _ _ 4 5 6"),
        ("DONTNEED_LOCKED", "1 _ _ 4 5 6"),
        ("GUARD_INSTALL", "1 _ _ 4 5 6"),
        ("FREE", "1 2 3 4 5 6"),
        ("POPULATE_WRITE", "1 2 3 4 5 6"),
        ("COLLAPSE", "1 2 3 4 5 6"),
        ("HUGEPAGE", "1 2 3 4 5 6"),
        ("COLD", "1 2 3 4 5 6"),
    ],
)
def test_advice(program: Program, advice: str, after: str) -> None:
    program.mmap(0, 3, "_ _ _ . . .")
    program.mmap(3, 3, "_ _ _ _ _ _", flags=SHARED)
    program.touch(0, 6, "1 2 3 4 5 6")
    program.step(advise(1, 3, advice), 0, after)


@pytest.mark.parametrize(
    "op", [advise(0, 3, "PAGEOUT"), on("swapout", 0, 3)], ids=["pageout", "swapout"]
)
@pytest.mark.parametrize("after", ["1 2 3 4 5", "_ 2 _ 4 5", "_ _ _ 4 5"])
def test_what_may_be_dropped_may_be_gone(program: Program, op: Call, after: str) -> None:
    program.mmap(0, 4, "_ _ _ _", flags=DROPPABLE)
    program.mmap(4, 1, "_ _ _ _ _")
    program.touch(0, 5, "1 2 3 4 5")
    program.step(op, 0, after)
    program.move(0, 4, 4, 6, ". . . . 5 . " + after[:-2])  # it is known now
    wrong = program.oracle.apply(on("peek", 6, 1), 0, {4: 5})
    assert wrong[0].kind == "contents"


@pytest.mark.parametrize(
    "op", [advise(0, 3, "PAGEOUT"), on("swapout", 0, 3)], ids=["pageout", "swapout"]
)
@pytest.mark.parametrize("after", ["1 2 3 4", "_ 2 _ 4", "1 2 _ 4"])
def test_what_was_given_up_may_be_gone(program: Program, op: Call, after: str) -> None:
    program.mmap(0, 4, "_ _ _ _")
    program.touch(0, 4, "1 2 3 4")
    program.step(advise(0, 4, "FREE"), 0, "1 2 3 4")
    program.step(op, 0, after)
    wrong = program.oracle.apply(on("peek", 0, 1), 0, {1: 2})  # it is known now
    assert wrong[0].kind == "contents"


def test_what_is_written_is_not_given_up_any_more(program: Program) -> None:
    program.mmap(0, 3, "_ _ _ . . .")
    program.touch(0, 3, "1 2 3 . . .")
    program.step(advise(0, 2, "FREE"), 0, "1 2 3 . . .")
    program.touch(1, 1, "1 4 3 . . .")
    program.move(0, 3, 3, 3, ". . . 1 4 3")
    alike = deepcopy(program.oracle)
    assert alike.apply(advise(3, 3, "PAGEOUT"), 0, {4: 4, 5: 3}) == []
    assert len(program.oracle.apply(advise(3, 3, "PAGEOUT"), 0, {3: 1})) == 2


def test_what_is_in_swap_may_go_at_once(program: Program) -> None:
    program.mmap(0, 3, "_ _ _")
    program.touch(0, 3, "1 2 3")
    program.step(on("swapout", 0, 1), 0, "1 2 3")
    program.step(advise(0, 2, "FREE"), "-ENOMEM", "_ 2 3")


def test_what_may_be_gone_moves_and_is_not_another_page(program: Program) -> None:
    program.mmap(0, 3, "_ _ _", flags=DROPPABLE)
    program.touch(0, 3, "1 2 3")
    assert program.oracle.apply(advise(0, 3, "PAGEOUT"), 0) == []
    assert program.oracle.apply(on("touch", 2, 1), 0) == []  # is there for certain
    assert program.oracle.apply(mremap(0, 3, 3, TO, 4), 4 * PAGE) == []
    alike = deepcopy(program.oracle)
    assert alike.apply(on("peek", 4, 3), 0, {5: 2, 6: 4}) == []
    assert len(alike.apply(on("peek", 4, 3), 0, {4: 1, 5: 2, 6: 4})) == 1
    assert len(program.oracle.apply(on("peek", 4, 3), 0, {4: 2})) == 2


def test_advice_that_failed_may_have_dropped_some(program: Program) -> None:
    program.mmap(0, 4, "_ _ _ _", flags=DROPPABLE)
    program.touch(0, 4, "1 2 3 4")
    program.step(advise(0, 3, "PAGEOUT"), "-EINVAL", "_ 2 _ 4")
    program.mmap(2, 1, "_ 2 _ 4")
    program.touch(2, 1, "_ 2 5 4")
    program.step(advise(0, 4, "PAGEOUT"), "-EINVAL", "_ _ 5 4")


def test_execve_replaces_everything_by_a_stack(program: Program) -> None:
    program.mmap(0, 2, "_ _ . . . . .")
    program.touch(0, 2, "1 2 . . . . .")
    program.step(stack("execve_stack", 4, 7, 2), 0, ". . 3 4 5 . .")
    program.touch(2, 1, ". . 6 4 5 . .")


def test_relocate_moves_down_over_itself(program: Program) -> None:
    program.mmap(2, 3, ". . _ _ _ .")
    program.mmap(5, 1, ". . _ _ _ _")
    program.touch(2, 4, ". . 1 2 3 4")
    program.step(stack("relocate", 2, 5, 1), 0, ". 1 2 3 . 4")
    program.step(stack("relocate", 1, 4, 1), "-ENOMEM", ". . . . . 4")


def test_calls_that_were_not_executed_change_nothing(program: Program) -> None:
    program.mmap(0, 2, "_ _ .")
    program.touch(0, 2, "1 2 .")
    for op in (on("munmap", 0, 2), on("touch", 0, 2), mmap(0, 2), mremap(0, 2, 2, TO, 5)):
        program.step(op, "SKIP", "1 2 .")
    program.touch(0, 1, "3 2 .")
