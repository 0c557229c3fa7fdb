"""The oracle against drawings, and against planted mistakes."""

from copy import deepcopy

import pytest

from engine.base.uapi import MAP_HUGETLB, PROT_READ, PROT_WRITE
from fuzz.calls.directives import FAILURES
from fuzz.calls.registry import call
from fuzz.case import Call, Faults
from fuzz.oracle.oracle import Mismatch, Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    DONTUNMAP,
    DROPPABLE,
    FIXED,
    MAYMOVE,
    NOREPLACE,
    PRIVATE,
    READ,
    RW,
    SHARED,
    TO,
    Program,
    advise,
    drawn,
    mmap,
    mremap,
    on,
    stack,
)

# What calls do to contents.


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


# Results that cannot be.


@pytest.mark.parametrize(
    ("op", "result", "said"),
    [
        (mmap(5, 1), 6, "address: page 0x6: expected address 0x5000, found address 0x6000"),
        (mmap(1, 1, flags=PRIVATE), 1, "refusal: page 0x1: expected a free place, found a mapping"),
        (
            mmap(1, 1, flags=PRIVATE | NOREPLACE),
            1,
            "refusal: page 0x1: expected a free place, found a mapping",
        ),
        (
            mremap(0, 2, 2, TO, 5),
            6,
            "address: page 0x6: expected address 0x5000, found address 0x6000",
        ),
        (mremap(0, 2, 3), 5, "address: page 0x5: expected address 0x0, found address 0x5000"),
        (
            mremap(0, 2, 1, MAYMOVE),
            5,
            "address: page 0x5: expected address 0x0, found address 0x5000",
        ),
        (
            mremap(0, 2, 2, MAYMOVE),
            5,
            "address: page 0x5: expected address 0x0, found address 0x5000",
        ),
        (
            mremap(0, 2, 2, MAYMOVE | DONTUNMAP),
            2,
            "refusal: page 0x2: expected a free place, found a mapping",
        ),
        (mremap(0, 2, 3), 0, "refusal: page 0x2: expected a free place, found a mapping"),
        (mremap(3, 1, 1), 3, "refusal: page 0x3: expected an error: not mapped, found success"),
        (
            mremap(2, 2, 3, TO, 5),
            5,
            "refusal: page 0x3: expected an error: not mapped, found success",
        ),
        (
            mremap(0, 0, 1, MAYMOVE),
            5,
            "refusal: page 0x0: expected no second mapping of private memory, found success",
        ),
        (
            on("mprotect", 1, 3, READ),
            0,
            "refusal: page 0x3: expected an error: not mapped, found success",
        ),
        (on("mlock", 3, 1), 0, "refusal: page 0x3: expected an error: not mapped, found success"),
        (
            stack("relocate", 2, 3, 1),
            0,
            "refusal: page 0x1: expected a free place, found a mapping",
        ),
    ],
)
def test_impossible_results(op: Call, result: int, said: str) -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 2), 0)
    oracle.apply(mmap(2, 1), 2 * PAGE)
    assert said in [str(found) for found in oracle.apply(op, result * PAGE)]


def test_unaligned_result() -> None:
    (found,) = Oracle().apply(mmap(0, 1, flags=PRIVATE), 100)
    assert found == Mismatch("address", 0, 1, "a page boundary", "0x64")


# Contents and mappings that differ.


def test_differences_are_runs() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 8), 0)
    oracle.apply(on("touch", 0, 7), 0)
    held = {0: 1, 3: 14, 4: 15, 5: 6, 6: 2, 7: 9}  # tags 2 3 lost, 4 5 wrong, 7 wrong, 9 new
    found = oracle.apply(on("peek", 0, 1), 0, held)
    assert found == [
        Mismatch("contents", 1, 2, 2, None),
        Mismatch("contents", 3, 2, 4, 14),
        Mismatch("contents", 6, 1, 7, 2),
        Mismatch("contents", 7, 1, None, 9),
    ]
    assert [str(each) for each in found] == [
        "contents: pages 0x1..0x2: expected contents 2 to 3, found no content",
        "contents: pages 0x3..0x4: expected contents 4 to 5, found contents 14 to 15",
        "contents: page 0x6: expected content 7, found content 2",
        "contents: page 0x7: expected no content, found content 9",
    ]


def test_a_mismatch_is_reported_once(program: Program) -> None:
    program.mmap(0, 2, "_ _ . . . .", flags=SHARED)
    program.mmap(2, 2, "_ _ _ _ . .")
    program.touch(0, 4, "1 2 3 4 . .")
    assert len(program.objects(on("munmap", 3, 1), 0, "1 9 3 4 . _")) == 4
    program.step(mremap(0, 0, 2, TO, 4), 4 * PAGE, "1 9 3 4 1 9")
    program.step(on("peek", 5, 1), 0, "1 9 3 4 1 9")


def test_lost_and_unexpected_mappings(program: Program) -> None:
    program.mmap(0, 4, "_ _ _ _ . .")
    assert program.objects(on("munmap", 0, 1), 0, ". . _ _ _ .") == [
        "mapped: page 0x1: expected a mapping, found nothing mapped",
        "mapped: page 0x4: expected nothing mapped, found a mapping",
    ]
    program.step(on("munmap", 2, 1), 0, ". . . _ _ .")


def test_the_loss_of_a_move_is_noticed(program: Program) -> None:
    program.mmap(0, 3, "_ _ _ . . .")
    program.touch(0, 3, "1 2 3 . . .")
    assert program.objects(mremap(0, 3, 3, TO, 3), 3 * PAGE, ". . . 1 _ 3") == [
        "contents: page 0x4: expected content 2, found no content"
    ]


# Machines, and cost.


HUGE = MAP_HUGETLB


def huge_oracle() -> Oracle:
    """Four pages make a huge one; [4, 12) is mapped with them."""
    oracle = Oracle(PAGE, 64, 4 * PAGE)
    assert not oracle.apply(mmap(4, 5, flags=PRIVATE | FIXED | HUGE), 4 * PAGE)
    assert not oracle.apply(on("touch", 4, 8), 0)
    return oracle


def test_huge_pages_are_rounded_to() -> None:
    oracle = huge_oracle()
    assert oracle.mapped == [(4, 12)]
    assert not oracle.apply(mremap(4, 1, 1, TO, 20), 20 * PAGE)
    assert oracle.mapped == [(8, 12), (20, 24)]
    assert oracle.contents == {8: 5, 9: 6, 10: 7, 11: 8, 20: 1, 21: 2, 22: 3, 23: 4}
    assert not oracle.apply(advise(8, 3, "DONTNEED"), 0)
    assert oracle.contents.keys() == {8, 9, 10, 11, 20, 21, 22, 23}  # less than a huge page
    assert not oracle.apply(advise(20, 4, "DONTNEED"), 0)
    assert oracle.contents.keys() == {8, 9, 10, 11}


@pytest.mark.parametrize(
    ("whole", "left"), [(False, {4, 9, 10, 11}), (True, {4, 5, 6, 7, 8, 9, 10, 11})]
)
def test_a_hole_in_huge_pages(whole: bool, left: set[int]) -> None:
    oracle = Oracle(huge_bytes=4 * PAGE, whole_holes=lambda: whole)
    assert oracle.apply(mmap(4, 8, flags=SHARED | FIXED | MAP_HUGETLB), 4 * PAGE) == []
    assert oracle.apply(on("touch", 4, 8), 0) == []
    assert oracle.apply(advise(5, 4, "REMOVE"), 0) == []
    assert oracle.contents.keys() == left
    assert oracle.apply(advise(4, 5, "REMOVE"), 0) == []
    assert oracle.contents.keys() == {9, 10, 11} | ({8} if whole else set())


def test_huge_pages_may_run_out() -> None:
    oracle = huge_oracle()
    assert not oracle.apply(on("touch", 4, 8), Faults(bus=((8, 4),)))
    assert [m.kind for m in oracle.apply(on("touch", 4, 8), Faults(segv=((8, 4),)))] == ["access"]


def test_a_huge_page_is_not_cut_but_what_lies_before_may_have_changed() -> None:
    oracle = huge_oracle()
    assert not oracle.apply(on("mprotect", 4, 6, PROT_READ), "-EINVAL")
    assert not oracle.apply(on("touch", 4, 4), Faults(segv=((4, 4),)))
    assert not oracle.apply(on("touch", 4, 4), 0)


def test_a_huge_page_is_not_cut_by_the_protection_it_has() -> None:
    oracle = huge_oracle()
    assert not oracle.apply(on("mprotect", 5, 4, PROT_READ | PROT_WRITE), 0)
    assert not oracle.apply(advise(4, 4, "DONTNEED"), 0)
    assert oracle.contents.keys() == {8, 9, 10, 11}


def test_a_source_that_stays_mapped_is_told_also_if_vmas_may_be_refused() -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(0, 8), 0)
    assert not oracle.apply(on("touch", 0, 8), 0)
    assert not oracle.apply(call("@fail", FAILURES["vma"], 4), 0)
    contents, mapped = {0: 1, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 20: 2, 21: 3}, [(0, 8), (20, 22)]
    ranges = [(start * PAGE, end * PAGE) for start, end in mapped]
    mismatches = oracle.apply(mremap(1, 2, 2, TO, 20), 20 * PAGE, contents, lambda: ranges)
    assert [m.kind for m in mismatches] == ["mapped"]


def test_what_steers_or_watches_changes_nothing() -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(0, 4), 0)
    assert not oracle.apply(on("touch", 0, 4), 0)
    for each in (
        call("@limit", 0, 9),
        call("@fail", 0, 1),
        call("fork"),
        on("mseal", 0, 4),
        call("touch_on", 1, 0),
        on("swapout", 0, 4),
    ):
        assert not oracle.apply(each, 0, {0: 1, 1: 2, 2: 3, 3: 4}, lambda: [(0, 4 * PAGE)])
    assert [m.kind for m in oracle.apply(on("mseal", 0, 5), 0)] == ["refusal"]


def test_page_size_and_word_size() -> None:
    big = Oracle(page_bytes=65536)
    big.apply(call("mmap", 0, 65537, RW, PRIVATE | FIXED), 0)
    big.apply(call("touch", 65536, 1), 0)
    assert (big.mapped, dict(big.contents)) == ([(0, 2)], {1: 1})
    # An old length that wraps to 0 makes a second mapping on 32 bits.
    small = Oracle(word_bits=32)
    small.apply(mmap(0, 1, flags=SHARED | FIXED), 0)
    small.apply(on("touch", 0, 1), 0)
    assert small.apply(call("mremap", 0, 0xFFFFFFFF, PAGE, MAYMOVE, 0), 4 * PAGE) == []
    assert drawn(small, 5) == "1 . . . 1"


def test_cost_follows_pages_not_lengths() -> None:
    far, huge = 1 << 40, 1 << 38  # in pages: none of this ends if anything walks the lengths
    oracle = Oracle()
    for flags in (PRIVATE, SHARED):
        oracle.apply(mmap(0, huge, flags=flags | FIXED), 0)
        oracle.apply(on("touch", huge - 1, 1), 0)
        oracle.apply(on("peek", 0, huge), 0)
        oracle.apply(on("touch", huge, huge), Faults(segv=((huge, huge),)))
        assert oracle.apply(mremap(0, huge, huge, TO, far), far * PAGE) == []
        (page,) = oracle.contents
        assert page == far + huge - 1
        oracle.apply(advise(far, huge, "DONTNEED"), 0)
        oracle.apply(on("mprotect", far, huge, READ), 0)
        oracle.apply(on("munmap", 0, 2 * far), 0)
        assert oracle.mapped == []
