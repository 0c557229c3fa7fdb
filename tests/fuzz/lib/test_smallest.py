"""The smallest set of changes that shows something."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fuzz.lib.smallest import smallest

CHANGES = range(24)


@given(st.sets(st.sampled_from(CHANGES)))
def test_what_it_takes_is_found_exactly(needed: set[int]) -> None:
    assert smallest(CHANGES, lambda chosen: needed <= set(chosen)) == sorted(needed)


@given(st.lists(st.sets(st.sampled_from(CHANGES)), min_size=1, max_size=4))
def test_of_several_ways_one_is_found_of_which_nothing_can_be_left_out(
    ways: list[set[int]],
) -> None:
    def shows(chosen: Sequence[int]) -> bool:
        return any(way <= set(chosen) for way in ways)

    found = smallest(CHANGES, shows)
    assert shows(found)
    assert not any(shows([one for one in found if one != left]) for left in found)


def test_one_of_many_takes_few_questions() -> None:
    asked = []

    def shows(chosen: Sequence[int]) -> bool:
        asked.append(chosen)
        return 700 in chosen

    assert smallest(range(1000), shows) == [700]
    assert len(asked) < 50
