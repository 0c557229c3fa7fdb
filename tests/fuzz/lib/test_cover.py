"""Covers: complete, nothing in them needless, small."""

from functools import reduce
from itertools import combinations
from operator import or_

from hypothesis import given
from hypothesis import strategies as st

from fuzz.lib.cover import small_cover

SETS = st.lists(st.integers(0, 255), max_size=9).map(lambda sets: dict(enumerate(sets)))


def union(sets: dict[int, int], of: list[int]) -> int:
    return reduce(or_, (sets[one] for one in of), 0)


@given(SETS)
def test_a_cover_has_all_and_nothing_in_it_is_needless(sets: dict[int, int]) -> None:
    chosen = small_cover(sets)
    everything = union(sets, list(sets))
    assert union(sets, chosen) == everything
    assert chosen == sorted(chosen)
    for one in chosen:
        assert union(sets, [other for other in chosen if other != one]) != everything
    assert small_cover({one: sets[one] for one in chosen}) == chosen


@given(SETS)
def test_it_is_not_much_larger_than_the_smallest(sets: dict[int, int]) -> None:
    chosen, everything = small_cover(sets), union(sets, list(sets))
    least = next(
        size
        for size in range(len(sets) + 1)
        if any(union(sets, list(some)) == everything for some in combinations(sets, size))
    )
    assert len(chosen) <= least + 1


def test_the_one_that_adds_most_comes_first_and_the_first_of_equals() -> None:
    assert small_cover({1: 0b0011, 2: 0b0111, 3: 0b1000, 4: 0b1000, 5: 0b0100}) == [2, 3]
    assert small_cover({}) == small_cover({1: 0}) == []
