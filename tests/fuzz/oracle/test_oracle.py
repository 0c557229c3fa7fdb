"""The oracle against drawings, against a page-by-page twin, and against planted mistakes."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.uapi import MAP_GROWSDOWN, MAP_HUGETLB, PROT_GROWSDOWN, PROT_READ, PROT_WRITE
from fuzz.calls.directives import FAILURES
from fuzz.calls.registry import call
from fuzz.case import Call, Faults, Result
from fuzz.oracle.oracle import Mismatch, Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    DONTUNMAP,
    DROPPABLE,
    EXEC,
    FIXED,
    GROWSDOWN,
    MAYMOVE,
    NOREPLACE,
    PRIVATE,
    READ,
    RW,
    SEM,
    SHARED,
    TO,
    WRITE,
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


@pytest.mark.parametrize(
    ("prot", "flags", "touch", "peek", "exec_only"),
    [
        (RW, PRIVATE, "ok", "ok", False),
        (RW, SHARED, "ok", "ok", False),
        (READ, PRIVATE, "segv", "ok", False),
        (WRITE, PRIVATE, "ok", "ok", False),
        (0, SHARED, "segv", "segv", False),
        (EXEC, PRIVATE, "segv", "ok", False),
        (EXEC, PRIVATE, "segv", "segv", True),
        (EXEC | SEM, PRIVATE, "segv", "ok", True),
        (EXEC | READ, SHARED, "segv", "ok", True),
    ],
)
def test_accesses_follow_protection(
    prot: int, flags: int, touch: str, peek: str, exec_only: bool
) -> None:
    results: dict[str, Result] = {
        "ok": 0,
        "segv": Faults(segv=((1, 2),)),
        "bus": Faults(bus=((1, 2),)),
    }
    for name, allowed in (("touch", touch), ("peek", peek)):
        for outcome, result in results.items():
            oracle = Oracle(exec_only=exec_only)
            oracle.apply(mmap(0, 4, prot=RW, flags=flags | FIXED), 0)
            oracle.apply(on("mprotect", 1, 2, prot), 0)
            found = oracle.apply(on(name, 1, 2), result)
            assert (found == []) == (outcome in allowed.split()), (name, outcome)
            assert all(
                (each.kind, each.start_page, each.count) == ("access", 1, 2) for each in found
            )


def test_accesses_outside_mappings_and_objects() -> None:
    oracle = Oracle()
    oracle.apply(mmap(1, 2, flags=SHARED | FIXED), PAGE)
    oracle.apply(mremap(1, 2, 4), PAGE)
    right = Faults(segv=((0, 1), (5, 1)), bus=((3, 2),))
    assert oracle.apply(on("peek", 0, 6), right) == []
    assert [str(found) for found in oracle.apply(on("peek", 0, 6), 0)] == [
        "access: page 0x0: expected SIGSEGV, found access",
        "access: page 0x5: expected SIGSEGV, found access",
        "access: pages 0x3..0x4: expected SIGBUS, found access",
    ]
    wrong = Faults(segv=((0, 6),))
    assert {found.expected for found in oracle.apply(on("peek", 0, 6), wrong)} == {
        "access",
        "SIGBUS",
    }


def test_protection_up_to_the_hole_has_changed() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 2), 0)
    oracle.apply(mmap(3, 1), 3 * PAGE)
    oracle.apply(on("mprotect", 0, 4, READ), "-ENOMEM")
    assert oracle.apply(on("touch", 0, 4), Faults(segv=((0, 3),))) == []


def test_protection_is_unknown_after_a_shortage_of_memory() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 2), 0)
    oracle.apply(on("mprotect", 0, 2, READ), "-ENOMEM")
    assert oracle.apply(on("touch", 0, 1), 0) == []
    assert oracle.apply(on("touch", 1, 1), Faults(segv=((1, 1),))) == []


def test_guard_pages_may_fault() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 3), 0)
    oracle.apply(advise(1, 1, "GUARD_INSTALL"), 0)
    assert oracle.apply(on("touch", 0, 3), Faults(segv=((1, 1),))) == []
    assert oracle.apply(on("touch", 0, 3), Faults(segv=((1, 2),))) != []


def test_failed_guards_may_fault_anywhere() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 3), 0)
    oracle.apply(advise(1, 3, "GUARD_INSTALL"), "-ENOMEM")
    assert oracle.apply(on("peek", 0, 3), Faults(segv=((2, 1),))) == []
    assert oracle.apply(on("peek", 0, 3), Faults(segv=((0, 1),))) != []


def test_nothing_is_said_about_protection_when_the_end_may_have_wrapped() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 1), 0)
    oracle.apply(call("mprotect", 0, (1 << 64) - PAGE, READ), "-ENOMEM")
    assert oracle.apply(on("touch", 0, 1), 0) == []
    assert oracle.apply(on("touch", 0, 1), Faults(segv=((0, 1),))) == []


def test_stacks_may_grow_down(program: Program) -> None:
    program.mmap(4, 1, ". . . . _", flags=PRIVATE | GROWSDOWN)
    program.step(on("touch", 0, 1), Faults(segv=((0, 1),)), ". . . . _")
    program.touch(2, 1, ". . 2 _ _")
    assert [str(found) for found in program.oracle.apply(on("touch", 5, 1), 0)] == [
        "access: page 0x5: expected SIGSEGV, found access"
    ]


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


DOWN = PROT_READ | PROT_GROWSDOWN


@pytest.mark.parametrize(
    ("start", "pages", "prot", "result", "refused"),
    [
        (6, 1, PROT_READ, 0, {6}),
        (6, 1, DOWN, 0, {4, 5, 6}),
        (1, 4, DOWN, 0, {4}),  # a hole before the first mapping is no harm
        (6, 0, DOWN, 0, set()),
        (6, 4, DOWN, "-ENOMEM", {4, 5, 6, 7}),
        (6, 4, DOWN, "-EPERM", {4}),
        (6, 1, DOWN, "-EINVAL", set()),
    ],
)
def test_protection_may_reach_down_to_where_a_stack_begins(
    start: int, pages: int, prot: int, result: Result, refused: set[int]
) -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(4, 4, flags=PRIVATE | FIXED | MAP_GROWSDOWN), 4 * PAGE)
    assert not oracle.apply(on("mprotect", start, pages, prot), result)
    faults = Faults(segv=tuple((page, 1) for page in sorted(refused)))
    assert not oracle.apply(on("touch", 4, 4), faults)


def test_other_protection_neither_reaches_down_nor_skips_a_hole() -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(4, 4), 4 * PAGE)
    assert oracle.apply(on("mprotect", 1, 4, PROT_READ), 0)
    assert oracle.apply(on("touch", 5, 1), Faults(segv=((5, 1),)))


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


# A twin that knows every page, and nothing but pages.

PAGES = 12


@dataclass
class Cell:
    """One mapped page: private with its own tag, or a page of an object."""

    prot: int
    tag: int = 0
    object: dict[int, int] | None = None
    offset: int = 0
    size: int = 0

    def read(self) -> int:
        return self.tag if self.object is None else self.object.get(self.offset, 0)


class Twin:
    """A made-up kernel on PAGES pages, which decides results and failures by a given number."""

    def __init__(self) -> None:
        self.cells: list[Cell | None] = [None] * PAGES
        self.tag = 1

    def contents(self) -> dict[int, int]:
        return {page: cell.read() for page, cell in enumerate(self.cells) if cell and cell.read()}

    def mapped(self) -> list[tuple[int, int]]:
        return [(page * PAGE, page * PAGE + PAGE) for page, cell in enumerate(self.cells) if cell]

    def clear(self, pages: range) -> None:
        for page in pages:
            self.cells[page] = None

    def run(
        self, name: str, a: int, n: int, m: int, b: int, kind: int, fate: int
    ) -> tuple[Call, Result]:
        """Carry out one operation.

        `a` is a page, `n` and `m` are lengths, `b` is a second page, `kind` selects a variant, and
        `fate` how far a call that fails gets; all ranges lie inside the arena.
        """
        pages = range(a, a + n)
        cells = self.cells
        if name == "mmap":
            flags = (PRIVATE, SHARED)[kind % 2]
            prot = (RW, READ, RW, 0)[kind // 2 % 4]
            if fate % 5 == 0:
                return mmap(a, n, prot=prot, flags=flags | FIXED), "-EINVAL"
            held: dict[int, int] | None = {} if kind % 2 else None
            for page in pages:
                cells[page] = Cell(prot, 0, held, page - a, n)
            return mmap(a, n, prot=prot, flags=flags | FIXED), a * PAGE
        if name == "munmap":
            self.clear(pages)
            return on("munmap", a, n), 0
        if name == "mprotect":
            prot = (RW, READ, 0)[kind % 3]
            for page in pages:
                if (cell := cells[page]) is None:
                    return on("mprotect", a, n, prot), "-ENOMEM"
                cell.prot = prot
            return on("mprotect", a, n, prot), 0
        if name == "madvise":
            return self.madvise(pages, ("DONTNEED", "FREE", "REMOVE")[kind % 3])
        if name == "touch":
            return self.touch(pages)
        if name == "execve_stack":
            shift = b % (a + 1)
            op = stack("execve_stack", a, a + n, shift)
            if fate % 3 == 0:
                return op, "-E2BIG"
            self.clear(range(PAGES))
            for page in pages:
                cells[page - shift] = Cell(RW, self.tag)
                self.tag += 1
            if fate % 3 == 1:
                self.clear(range(PAGES))
                return op, "-ENOMEM"
            return op, 0
        if name == "relocate":
            return self.relocate(pages, b % (a + 1), fate)
        return self.mremap(a, n, m, b, kind, fate)

    def touch(self, pages: range) -> tuple[Call, Result]:
        segv, bus = [], []
        for page in pages:
            cell = self.cells[page]
            if cell is None or not cell.prot & WRITE:
                segv.append((page, 1))
            elif cell.object is None:
                cell.tag = self.tag
            elif cell.offset < cell.size:
                cell.object[cell.offset] = self.tag
            else:
                bus.append((page, 1))
            self.tag += 1
        faulted = Faults(tuple(segv), tuple(bus))
        return on("touch", pages[0], len(pages)), faulted if segv or bus else 0

    def madvise(self, pages: range, advice: str) -> tuple[Call, Result]:
        op = advise(pages[0], len(pages), advice)
        result: Result = 0
        for page in pages:
            cell = self.cells[page]
            if cell is None:
                result = "-ENOMEM"
            elif advice == "REMOVE":
                if cell.object is None:
                    return op, "-EINVAL"
                cell.object.pop(cell.offset, None)
            elif advice == "DONTNEED":
                cell.tag = 0
        return op, result

    def relocate(self, pages: range, shift: int, fate: int) -> tuple[Call, Result]:
        op = stack("relocate", pages[0], pages[-1] + 1, shift)
        below = range(pages[0] - shift, min(pages[0], pages[-1] + 1 - shift))
        if not all(self.cells[page] for page in pages) or any(self.cells[page] for page in below):
            return op, "-EINVAL"
        moved = [self.cells[page] for page in pages]
        self.clear(pages)
        if fate % 3 == 0:
            return op, "-ENOMEM"
        for page, cell in zip(pages, moved, strict=True):
            self.cells[page - shift] = cell
        return op, 0

    def mremap(self, a: int, n: int, m: int, b: int, kind: int, fate: int) -> tuple[Call, Result]:
        """Equal sizes may span holes; other moves need all they move; `fate` picks failures."""
        cells = self.cells
        source, target = range(a, a + n), range(b, b + m)
        flags = (0, MAYMOVE, TO, TO | DONTUNMAP, MAYMOVE | DONTUNMAP)[kind % 5]
        if flags & DONTUNMAP:
            m, target = n, range(b, b + n)
        op = mremap(a, n, m, flags, b)
        first = cells[a]
        if first is None:
            return op, "-EFAULT"
        if n == 0 and (first.object is None or not flags & MAYMOVE or flags & DONTUNMAP):
            return op, "-EINVAL"
        if m <= n and flags in (0, MAYMOVE):
            self.clear(range(a + m, a + n))
            return op, a * PAGE
        if target.stop > PAGES or (flags & TO == TO and b < a + n and a < target.stop):
            return op, "-EINVAL"
        fixed = flags & TO == TO
        whole = all(cells[page] for page in range(a, a + min(n, m)))
        if n == m and fixed:
            return op, self.move_parts(source, b - a, bool(flags & DONTUNMAP), fate) or b * PAGE
        if not whole:
            return op, "-EFAULT"
        grown = range(a + n, a + m)
        free = a + m <= PAGES and not any(cells[page] for page in grown)
        if free and n and not fixed and not flags & DONTUNMAP:
            self.extend(a, n, a, m)
            return op, a * PAGE
        if flags == 0 or (not fixed and any(cells[page] for page in target)):
            return op, "-ENOMEM"
        if fixed:
            if fate % 4 == 0:
                return op, "-ENOMEM"
            self.clear(target)
            if fate % 4 == 1 or a in target:  # a second mapping over its own source
                return op, "-ENOMEM"
        self.clear(range(a + m, a + n))
        if fixed and fate % 4 == 2:
            return op, "-ENOMEM"
        if n < m:
            self.extend(a, n, b, m)
        for page in range(min(n, m)):
            self.shift_page(a + page, b + page, bool(flags & DONTUNMAP))
        return op, b * PAGE

    def move_parts(self, source: range, shift: int, keep: bool, fate: int) -> str:
        """Move page by page and run by run; each run of mapped pages is a part that may fail."""
        runs: list[list[int]] = []
        for page in source:
            if self.cells[page]:
                if runs and runs[-1][-1] == page - 1:
                    runs[-1].append(page)
                else:
                    runs.append([page])
        for index, run in enumerate(runs):
            if fate % 8 == 2 * index:
                return "-ENOMEM"
            self.clear(range(run[0] + shift, run[-1] + 1 + shift))
            if fate % 8 == 2 * index + 1:
                return "-ENOMEM"
            for page in run:
                self.shift_page(page, page + shift, keep)
        return ""

    def shift_page(self, page: int, to: int, keep: bool) -> None:
        cell = self.cells[page]
        assert cell is not None
        self.cells[to] = Cell(cell.prot, cell.tag, cell.object, cell.offset, cell.size)
        cell.tag = 0
        if not keep:
            self.cells[page] = None

    def extend(self, a: int, n: int, b: int, m: int) -> None:
        """Map pages n to m of a mapping at `b` as those of the mapping at `a` would continue."""
        last = self.cells[a + max(n, 1) - 1]
        assert last is not None
        step = 1 - (n == 0)
        for page in range(n, m):
            offset = last.offset + step + page - n
            self.cells[b + page] = Cell(last.prot, 0, last.object, offset, last.size)


NAMES = (
    *("mmap", "touch", "mremap") * 3,
    *("munmap", "mprotect", "madvise", "execve_stack", "relocate"),
)


@st.composite
def operations(
    draw: Callable[[st.SearchStrategy[int]], int],
) -> tuple[str, int, int, int, int, int, int]:
    name = NAMES[draw(st.integers(0, len(NAMES) - 1))]
    a = draw(st.integers(0, PAGES - 1))
    n = draw(st.integers(0 if name == "mremap" else 1, PAGES - a))
    m = n if draw(st.booleans()) and n else draw(st.integers(1, PAGES))
    b = draw(st.integers(0, PAGES - 1))
    return name, a, n, m, b, draw(st.integers(0, 7)), draw(st.integers(0, 23))


Operation = tuple[str, int, int, int, int, int, int]


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(), max_size=25))
def test_agrees_with_a_page_by_page_twin(operations: list[Operation]) -> None:
    twin, oracle = Twin(), Oracle()
    for operation in operations:
        op, result = twin.run(*operation)
        assert oracle.apply(op, result, twin.contents(), twin.mapped) == [], (op, result)
        assert oracle.contents == twin.contents()
        covered = [page for start, end in oracle.mapped for page in range(start, end)]
        assert covered == [page for page, cell in enumerate(twin.cells) if cell]
        assert all(left[1] < right[0] for left, right in pairwise(oracle.mapped))


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(), min_size=1, max_size=25), st.data())
def test_notices_one_wrong_page(operations: list[Operation], data: st.DataObject) -> None:
    """Change one page after a call that succeeded: lost, another tag, or appeared."""
    twin, oracle = Twin(), Oracle()
    for operation in operations:
        op, result = twin.run(*operation)
        assert oracle.apply(op, result, twin.contents(), twin.mapped) == []
    page = data.draw(st.integers(0, PAGES - 1))
    wrong = data.draw(
        st.sampled_from([0, *range(twin.tag, twin.tag + 3), *twin.contents().values()])
    )
    held = twin.contents()
    if held.get(page, 0) == wrong:
        return
    held[page] = wrong
    if not wrong:
        del held[page]
    (found,) = oracle.apply(on("mlock", 0, 1), "-ENOMEM", held, twin.mapped)
    assert (found.kind, found.start_page, found.found or 0) == ("contents", page, wrong)
    assert oracle.apply(on("mlock", 0, 1), "-ENOMEM", held, twin.mapped) == []


def test_who_is_told_by_signal_may_see_sigbus(program: Program) -> None:
    program.mmap(0, 4, "_ _ _ _")
    signal = 1 << 7
    bus = Faults(bus=((0, 1), (2, 1)))
    said = program.objects(on("touch", 0, 4), bus, "_ 2 _ 4")
    assert said == [f"access: page {page:#x}: expected access, found SIGBUS" for page in (0, 2)]
    program.step(on("uffd_register", 0, 4, 1, signal), 0, "_ 2 _ 4")
    program.step(on("touch", 0, 4), bus, "_ 6 _ 8")
