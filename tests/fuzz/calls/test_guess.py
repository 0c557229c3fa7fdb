"""The guess at what a program has mapped, against what the model says it has."""

import random

import pytest

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from fuzz.calls.guess import Mapped
from fuzz.execute import execute
from fuzz.forms import wire
from tests.lib.constants import PAGE

ARENA = 0x100000
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
FIXED, NOREPLACE = MAP_FIXED, MAP_FIXED_NOREPLACE
MAYMOVE, MOVE_FIXED, DONTUNMAP = MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP


def mapped(*spans: tuple[int, int]) -> Mapped:
    guess = Mapped(ARENA, PAGE)
    guess.spans = [(start * PAGE, pages * PAGE) for start, pages in spans]
    return guess


def pages(guess: Mapped) -> list[tuple[int, int]]:
    return [(start // PAGE, length // PAGE) for start, length in guess.spans]


def test_what_is_mapped_replaces_what_was() -> None:
    guess = mapped((0, 8))
    guess.mmap(2 * PAGE, PAGE + 1, PRIVATE | FIXED)
    assert pages(guess) == [(0, 2), (4, 4), (2, 2)]
    guess.mmap(2 * PAGE, PAGE, PRIVATE | NOREPLACE)
    assert pages(guess) == [(0, 2), (4, 4), (2, 2)]
    guess.cut(0, ARENA)
    assert pages(guess) == []


def test_without_an_address_of_its_own_it_goes_to_the_top() -> None:
    guess = mapped((0, 1), (0xFE, 2))
    guess.mmap(0, 2 * PAGE, PRIVATE)
    assert pages(guess)[-1] == (0xFC, 2)
    guess.mmap(4 * PAGE, PAGE, PRIVATE)
    assert pages(guess)[-1] == (4, 1)


@pytest.mark.parametrize(
    ("old", "new", "flags", "target", "expected"),
    [
        (4, 4, MAYMOVE | MOVE_FIXED, 16, [(16, 4)]),
        (2, 2, MAYMOVE | MOVE_FIXED, 16, [(2, 2), (16, 2)]),
        (4, 2, MAYMOVE | MOVE_FIXED, 16, [(16, 2)]),
        (4, 6, MAYMOVE | MOVE_FIXED, 16, [(16, 6)]),
        (4, 4, MAYMOVE | MOVE_FIXED | DONTUNMAP, 16, [(0, 4), (16, 4)]),
        (4, 4, MAYMOVE | DONTUNMAP, 16, [(0, 4), (16, 4)]),
        (4, 4, MAYMOVE | DONTUNMAP, 2, [(0, 4), (0xFC, 4)]),  # a hint that is taken
        (4, 4, MAYMOVE | DONTUNMAP, 0, [(0, 4), (0xFC, 4)]),
        (4, 2, 0, 0, [(0, 2)]),
        (4, 4, 0, 0, [(0, 4)]),
        (4, 6, 0, 0, [(0, 6)]),
        (2, 3, MAYMOVE, 0, [(2, 2), (0xFD, 3)]),
        # refused
        (5, 5, MAYMOVE | MOVE_FIXED, 16, [(0, 4)]),
        (4, 4, MAYMOVE | MOVE_FIXED, 2, [(0, 4)]),
        (4, 4, MOVE_FIXED, 16, [(0, 4)]),
        (4, 0, MAYMOVE | MOVE_FIXED, 16, [(0, 4)]),
        (4, 4, MAYMOVE | MOVE_FIXED, 0xFE, [(0, 4)]),
        (4, 2, MAYMOVE | DONTUNMAP, 16, [(0, 4)]),
        (2, 3, 0, 0, [(0, 4)]),
    ],
)
def test_mremap(
    old: int, new: int, flags: int, target: int, expected: list[tuple[int, int]]
) -> None:
    guess = mapped((0, 4))
    guess.mremap(0, old * PAGE, new * PAGE, flags, target * PAGE)
    assert pages(guess) == expected


def test_growth_stops_at_a_neighbour() -> None:
    guess = mapped((0, 4), (5, 1))
    guess.mremap(0, 4 * PAGE, 5 * PAGE, 0, 0)
    assert pages(guess) == [(0, 5), (5, 1)]
    guess.mremap(0, 5 * PAGE, 6 * PAGE, 0, 0)
    assert pages(guess) == [(0, 5), (5, 1)]
    guess.mremap(0, 5 * PAGE, 6 * PAGE, MAYMOVE, 0)
    assert pages(guess) == [(5, 1), (0xFA, 6)]


@pytest.mark.parametrize(
    ("start", "length"), [(PAGE // 2, PAGE), (0, 0), (ARENA, PAGE), (ARENA - PAGE, 2 * PAGE)]
)
def test_what_cannot_be_mapped_is_not(start: int, length: int) -> None:
    guess = mapped((0, 4))
    guess.add(start, length)
    assert pages(guess) == [(0, 4)]


def test_what_holds_an_address() -> None:
    guess = mapped((2, 4), (8, 1))
    found = [guess.holding(page * PAGE) for page in (1, 2, 5, 6, 8)]
    two, eight = (2 * PAGE, 4 * PAGE), (8 * PAGE, PAGE)
    assert found == [None, two, two, None, eight]


def test_a_stack_goes_down() -> None:
    guess = mapped((8, 4))
    guess.move_stack(8 * PAGE, 12 * PAGE, 6 * PAGE)
    assert pages(guess) == [(2, 4)]


def test_most_guesses_are_right() -> None:
    """Over random programs: pages that are said to be mapped, and are."""
    kernel = kernel_named("linux-6.12")
    codec = wire.codec(GEOMETRIES["x86-64"])
    rng = random.Random(1)
    right = wrong = 0
    for _ in range(200):
        case = codec.decode(rng.randbytes(wire.WIDTH * 8))
        state = wire._State(kernel.geometry.arena.length, kernel.geometry.page_bytes)
        for call in case.calls:
            state.note(call.name, call.args)
        outcome = execute(case, kernel, stop=False, check=False)
        real = list(outcome.space.mapped())
        for start, _ in state.mapped:
            hit = any(one.start <= start < one.end for one in real)
            right, wrong = right + hit, wrong + (not hit)
    assert right > 8 * wrong
