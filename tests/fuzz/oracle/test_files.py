"""Files in the oracle: what mappings show, what private ones keep to themselves."""

import pytest

from fuzz.calls.operand import FILES
from fuzz.calls.registry import call
from fuzz.case import Call, Faults
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import FIXED, RW, TO, Program, advise, mremap, on

A = FILES["A"]
SHARED, PRIVATE = 1, 2
HOLE = 3


@pytest.fixture
def program() -> Program:
    """With a file of three pages, mapped shared at page 0 and private at page 3."""
    program = Program(Oracle())
    program.step(call("file", A, 3 * PAGE), 0, ". . . . . .")
    view(program, 0, 3, SHARED, "_ _ _ . . .")
    view(program, 3, 3, PRIVATE, "_ _ _ _ _ _")
    program.touch(0, 3, "1 2 3 1 2 3")
    return program


def view(program: Program, page: int, pages: int, kind: int, after: str, first: int = 0) -> None:
    mapped = call("mmap", page * PAGE, pages * PAGE, RW, kind | FIXED, A, first * PAGE)
    program.step(mapped, page * PAGE, after)


def test_what_was_written_is_a_copy(program: Program) -> None:
    program.touch(4, 1, "1 2 3 1 4 3")
    program.touch(0, 3, "5 6 7 5 4 7")


def test_a_copy_goes_and_the_file_shows(program: Program) -> None:
    program.touch(3, 2, "1 2 3 4 5 3")
    program.step(advise(3, 1, "DONTNEED"), 0, "1 2 3 1 5 3")


def test_copies_move(program: Program) -> None:
    program.touch(4, 1, "1 2 3 1 4 3 . . .")
    program.move(3, 3, 3, 6, "1 2 3 . . . 1 4 3")
    program.touch(0, 3, "5 6 7 . . . 5 4 7")


def test_what_stays_shows_the_file(program: Program) -> None:
    program.touch(4, 1, "1 2 3 1 4 3 . . .")
    program.step(mremap(3, 3, 3, TO | 4, 6), 6 * PAGE, "1 2 3 1 2 3 1 4 3")


def test_a_hole_leaves_copies(program: Program) -> None:
    program.touch(4, 1, "1 2 3 1 4 3")
    program.step(call("fallocate", A, HOLE, 0, 2 * PAGE), 0, "_ _ 3 _ 4 3")
    program.step(call("fallocate", A, 0, 0, 4 * PAGE), 0, "_ _ 3 _ 4 3")


def test_the_end_takes_copies_along(program: Program) -> None:
    program.touch(3, 3, "1 2 3 4 5 6")
    program.step(call("ftruncate", A, PAGE), 0, "1 _ _ 4 _ _")
    program.step(on("peek", 3, 3), Faults(bus=((4, 2),)), "1 _ _ 4 _ _")
    assert program.objects(on("peek", 3, 3), 0, "1 _ _ 4 _ _") == [
        "access: pages 0x4..0x5: expected SIGBUS, found access"
    ]
    program.step(call("ftruncate", A, 2 * PAGE), 0, "1 _ _ 4 _ _")
    program.touch(1, 1, "1 7 _ 4 7 _")


@pytest.mark.parametrize("size", [8, PAGE // 2])
def test_the_end_within_a_page(program: Program, size: int) -> None:
    program.step(call("ftruncate", A, size), 0, "1 _ _ 1 _ _")
    program.step(call("ftruncate", A, 0), 0, "_ _ _ _ _ _")


def test_what_may_be_a_copy_shows_either(program: Program) -> None:
    program.step(on("mlock", 3, 2), 0, "1 2 3 1 2 3")
    program.touch(0, 2, "4 5 3 1 5 3")
    program.touch(0, 2, "6 7 3 1 7 3")
    assert program.objects(on("touch", 0, 1), 0, "8 7 3 5 7 3")


def test_others_show_only_the_file(program: Program) -> None:
    assert program.objects(on("touch", 0, 1), 0, "4 2 3 1 2 3") == [
        "contents: page 0x3: expected content 4, found content 1"
    ]


def test_a_mapping_may_begin_within_the_file(program: Program) -> None:
    view(program, 6, 2, PRIVATE, "1 2 3 1 2 3 2 3", first=1)


def test_another_file_shows_nothing(program: Program) -> None:
    program.step(call("file", A, PAGE), 0, "1 2 3 1 2 3")
    view(program, 3, 1, SHARED, "1 2 3 _ 2 3")


@pytest.mark.parametrize(
    "one",
    [
        call("mmap", 0, PAGE, RW, SHARED | FIXED, A, 0),
        call("ftruncate", A, PAGE),
        call("fallocate", A, 0, 0, PAGE),
    ],
    ids=lambda one: one.name,
)
def test_what_is_not_open_cannot_be_used(one: Call) -> None:
    oracle = Oracle()
    found, *_ = oracle.apply(one, 0)
    assert (found.kind, found.expected) == ("refusal", "an error: no such file")
    assert not oracle.apply(call("ftruncate", A, PAGE), 0), "told once"


@pytest.mark.parametrize("refill", [False, True])
def test_what_a_mapping_of_a_map_throws_away(refill: bool) -> None:
    program = Program(Oracle(maps_refill=lambda: refill))
    program.step(call("bpf_map", A, 2 * PAGE), 0, ". . . .")
    view(program, 0, 2, SHARED, "_ _ . .")
    view(program, 2, 2, SHARED, "_ _ _ _")
    program.touch(0, 2, "1 2 1 2")
    program.step(advise(0, 1, "DONTNEED"), 0, "1 2 1 2" if refill else "_ 2 1 2")
    program.touch(2, 2, "3 4 3 4" if refill else "_ 4 3 4")
