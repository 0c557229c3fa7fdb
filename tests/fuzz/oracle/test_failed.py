"""What failed calls may have done, and what they may not."""

from copy import deepcopy

import pytest

from engine.base.uapi import MREMAP_FIXED
from fuzz.calls.registry import call
from fuzz.case import Call, Faults
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    DONTUNMAP,
    MAYMOVE,
    PRIVATE,
    SHARED,
    TO,
    Program,
    advise,
    drawn,
    mmap,
    mremap,
    on,
    stack,
    undrawn,
)


def two_and_two(program: Program) -> None:
    program.mmap(0, 2, "_ _ . . . . . .")
    program.mmap(4, 4, "_ _ . . _ _ _ _")
    program.step(on("touch", 0, 8), Faults(segv=((2, 2),)), "1 2 . . 5 6 7 8")


@pytest.mark.parametrize(
    "after",
    ["1 2 . . 5 6 7 8", "1 2 . . . . . 8"],
)
def test_failed_growing_move_may_have_evicted_its_target(program: Program, after: str) -> None:
    two_and_two(program)
    program.step(mremap(0, 2, 3, TO, 4), "-ENOMEM", after)


@pytest.mark.parametrize("after", ["1 2 . . 5 6 7 8", "1 2 . . . 6 7 8", "1 . . . . 6 7 8"])
def test_failed_shrinking_move_may_have_cut_its_tail(program: Program, after: str) -> None:
    two_and_two(program)
    program.step(mremap(0, 2, 1, TO, 4), "-ENOMEM", after)


@pytest.mark.parametrize(
    "after",
    [
        ". 2 . 4 . 6 7 8 9",  # checked before anything was done
        ". 2 . 4 . . . . .",  # before 6.17: all of the target unmapped
        ". 2 . 4 . . 7 8 9",  # the first part failed to move
        ". . . 4 . 2 7 8 9",  # the first part moved
        ". . . 4 . 2 7 . 9",  # and the second failed to move
    ],
)
def test_failed_move_of_several_mappings_leaves_a_prefix(program: Program, after: str) -> None:
    program.mmap(1, 1, ". _ . . . . . . .")
    program.mmap(3, 1, ". _ . _ . . . . .")
    program.mmap(5, 4, ". _ . _ . _ _ _ _")
    faults = Faults(segv=((0, 1), (2, 1), (4, 1)))
    program.step(on("touch", 0, 9), faults, ". 2 . 4 . 6 7 8 9")
    op = mremap(1, 3, 3, TO, 5) if after[-1] == "9" else mremap(1, 4, 4, TO, 5)
    program.step(op, "-ENOMEM", after)


def test_boundaries_only_the_implementation_knows_may_stop_a_move(program: Program) -> None:
    program.mmap(0, 2, "_ _ . .")
    program.touch(0, 2, "1 2 . .")
    # Advice may have split what was mapped by one call.
    program.step(mremap(0, 2, 2, TO, 2), "-ENOMEM", ". 2 1 .")


@pytest.mark.parametrize(("after", "other"), [("_ 1 _ _", "_ 1 1 _"), ("_ 1 _ 1", "_ 1 2 _")])
def test_what_looks_alike_after_a_failure_may_be_either(
    program: Program, after: str, other: str
) -> None:
    """Has the first mapping moved, of which nothing shows?  Then its copy grows to the page."""
    program.mmap(0, 2, "_ _ . .", flags=SHARED)
    program.touch(1, 1, "_ 1 . .")
    program.step(on("mlock", 0, 1), 0, "_ 1 . .")
    program.mmap(2, 1, "_ 1 _ .")
    program.step(mremap(0, 2, 2, TO | DONTUNMAP, 2), "-ENOMEM", "_ 1 _ .")
    grown = mremap(2, 1, 2)
    contents, mapped = undrawn(after)
    twin = deepcopy(program.oracle)
    assert program.oracle.apply(grown, 2 * PAGE, contents, lambda: mapped) == []
    assert drawn(program.oracle, 4) == after
    contents, _ = undrawn(other)
    assert twin.apply(grown, 2 * PAGE, contents, lambda: mapped) != []


@pytest.mark.parametrize(
    "held",
    [
        ". . . . 1 2 7 8",  # moved although it failed, in one piece
        "1 . . . . . . 8",  # a page of the source lost
        "1 2 . . . . . .",  # a page behind the target lost
        "2 1 . . . . . 8",  # tags exchanged
        "1 2 1 . . . . 8",  # a page appeared
    ],
)
def test_failed_growing_move_may_do_nothing_else(program: Program, held: str) -> None:
    two_and_two(program)
    assert program.objects(mremap(0, 2, 3, TO, 4), "-ENOMEM", held) != []


@pytest.mark.parametrize(
    "op",
    [
        mremap(0, 2, 3, MREMAP_FIXED, 4),
        mremap(0, 2, 3, TO | 8, 4),
        mremap(0, 2, 3, MAYMOVE),
        mremap(0, 2, 3, TO | DONTUNMAP, 4),
        mremap(0, 2, 0, TO, 4),
        mremap(2, 2, 2, TO, 4),
        mremap(3, 2, 4, TO, 4),
        call("mremap", 1, 2 * PAGE, 3 * PAGE, TO, 4 * PAGE),
        call("mremap", 0, 2 * PAGE, 3 * PAGE, TO, 4 * PAGE + 1),
        on("munmap", 4, 3),
    ],
)
def test_refusals_leave_everything_untouched(program: Program, op: Call) -> None:
    two_and_two(program)
    assert program.objects(op, "-EINVAL", "1 2 . . . . . 8") != []


def test_overlap_that_wraps_around_is_overlooked() -> None:
    program = Program(Oracle(word_bits=32))
    program.mmap(2, 3, ". . _ _ _")
    op = call("mremap", 2 * PAGE, (1 << 32) - 2 * PAGE, PAGE, TO, 3 * PAGE)
    program.step(op, "-EINVAL", ". . _ . _")


def test_failed_mmap_may_have_evicted_when_memory_was_short(program: Program) -> None:
    program.mmap(0, 3, "_ _ _")
    program.touch(0, 3, "1 2 3")
    assert program.objects(mmap(0, 1), "-EINVAL", ". 2 3") != []
    program.mmap(0, 3, "_ _ _")
    program.touch(0, 3, "4 5 6")
    program.step(mmap(0, 1), "-ENOMEM", ". 5 6")


def test_failed_advice_may_have_done_a_beginning(program: Program) -> None:
    program.mmap(0, 3, "_ _ _ .")
    program.touch(0, 3, "1 2 3 .")
    program.step(advise(0, 4, "FREE"), "-ENOMEM", "1 2 3 .")
    program.step(advise(0, 4, "DONTNEED"), "-EINVAL", "_ 2 3 .")
    assert program.objects(advise(0, 4, "DONTNEED"), "-EINVAL", "_ 2 _ .") != []
    program.step(advise(0, 4, "DONTNEED"), "-ENOMEM", "_ _ _ .")


def test_failed_removal_is_seen_through_every_mapping(program: Program) -> None:
    program.mmap(0, 2, "_ _ . .", flags=SHARED)
    program.touch(0, 2, "1 2 . .")
    program.move(0, 0, 2, 2, "1 2 1 2")
    program.step(advise(0, 2, "REMOVE"), "-EINVAL", "_ 2 _ 2")
    assert program.objects(advise(0, 2, "REMOVE"), "-EINVAL", "_ _ _ 2") == [
        "contents: page 0x3: expected no content, found content 2"
    ]


def test_without_mappings_a_possible_eviction_ends_the_other_checks() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 2), 0)
    oracle.apply(mmap(4, 2), 4 * PAGE)
    elsewhere = mmap(4, 1, flags=PRIVATE)
    assert oracle.apply(mremap(0, 2, 2, TO, 4), "-ENOMEM", {}) == []
    assert oracle.apply(elsewhere, 4 * PAGE, {}) == []


def test_trusting_itself_the_oracle_takes_a_failure_for_nothing() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 2), 0)
    oracle.apply(on("touch", 0, 2), 0)
    assert oracle.apply(mremap(0, 2, 1, TO, 4), "-ENOMEM") == []
    assert drawn(oracle, 5) == "1 2 . . ."
    assert oracle.apply(advise(0, 3, "DONTNEED"), "-ENOMEM") == []
    assert drawn(oracle, 5) == "_ _ . . ."


@pytest.mark.parametrize(
    ("error", "after", "next_tag"),
    [("-EINVAL", "1 _ . .", 2), ("-ENOMEM", ". . . .", 4), ("-EFAULT", ". . . .", 4)],
)
def test_failed_execve_changes_nothing_or_leaves_nothing(
    program: Program, error: str, after: str, next_tag: int
) -> None:
    program.mmap(0, 2, "_ _ . .")
    program.touch(0, 1, "1 _ . .")
    program.step(stack("execve_stack", 2, 4, 1), error, after)
    program.mmap(0, 1, f"_{after[1:]}")
    program.touch(0, 1, f"{next_tag}{after[1:]}")


def test_failed_execve_of_an_empty_space_goes_by_the_error() -> None:
    for error, tag in (("-EINVAL", 1), ("-E2BIG", 1), ("-ENOMEM", 3), ("-EFAULT", 3)):
        program = Program(Oracle())
        program.step(stack("execve_stack", 2, 4, 1), error, ". . . .")
        program.mmap(0, 1, "_ . . .")
        program.touch(0, 1, f"{tag} . . .")


def test_failed_execve_loses_all_or_nothing(program: Program) -> None:
    program.mmap(0, 2, "_ _ . .")
    program.touch(0, 2, "1 2 . .")
    assert program.objects(stack("execve_stack", 2, 4, 1), "-ENOMEM", "1 . . .") != []


def test_failed_relocate_may_end_the_program(program: Program) -> None:
    program.mmap(0, 1, "_ . . .")
    program.mmap(2, 2, "_ . _ _")
    program.touch(2, 2, "_ . 1 2")
    program.step(stack("relocate", 2, 4, 1), "-ENOMEM", ". . . .")
    program.mmap(0, 1, "_ . . .")
    program.touch(0, 1, "3 . . .")


def test_failed_relocate_may_change_nothing(program: Program) -> None:
    program.mmap(2, 3, ". . _ _ _ .")
    program.touch(2, 3, ". . 1 2 3 .")
    program.step(stack("relocate", 2, 5, 1), "-EINVAL", ". . 1 2 3 .")
    assert program.objects(stack("relocate", 2, 5, 1), "-ENOMEM", ". 1 . 2 3 .") != []
