"""Ranges and rounding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.address import Range, round_down, round_up

numbers = st.integers(0, 200)
ranges = st.builds(lambda start, length: Range(start, start + length), numbers, st.integers(1, 50))


@given(ranges, ranges)
def test_overlap_and_containment_are_those_of_sets(one: Range, other: Range) -> None:
    ours, theirs = set(range(*one)), set(range(*other))
    assert one.overlaps(other) is other.overlaps(one) is bool(ours & theirs)
    assert one.contains(other) is (theirs <= ours)
    assert one.length == len(ours)


def test_touching_ranges_do_not_overlap() -> None:
    assert not Range(0, 4).overlaps(Range(4, 8))
    assert Range(0, 5).overlaps(Range(4, 8))


@given(numbers, st.integers(0, 6))
def test_rounding_finds_the_nearest_multiple(value: int, shift: int) -> None:
    unit = 1 << shift
    multiples = range(0, 400, unit)
    assert round_down(value, unit) == max(m for m in multiples if m <= value)
    assert round_up(value, unit) == min(m for m in multiples if m >= value)


def test_rounding_up_does_not_wrap() -> None:
    assert round_up((1 << 64) - 1, 4096) == 1 << 64


@pytest.mark.parametrize(("value", "text"), [(Range(0, 0x1000), "[0x0, 0x1000)")])
def test_a_range_is_shown_half_open_in_hex(value: Range, text: str) -> None:
    assert str(value) == text
