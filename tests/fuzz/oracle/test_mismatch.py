"""Planted mistakes: results that cannot be, contents and mappings that differ."""

import pytest

from fuzz.case import Call
from fuzz.oracle.mismatch import Mismatch
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    DONTUNMAP,
    MAYMOVE,
    NOREPLACE,
    PRIVATE,
    READ,
    SHARED,
    TO,
    Program,
    mmap,
    mremap,
    on,
    stack,
)

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
