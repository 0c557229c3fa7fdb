"""Everything in turn, or chance."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from fuzz.exhaust.choices import Choose, by_chance, every


def words(choose: Choose) -> str:
    """What is asked next depends on what was chosen."""
    first = choose("abc")
    if first == "b":
        return first
    return first + choose("xy") + (choose("12") if first == "a" else "")


ALL = ["ax1", "ax2", "ay1", "ay2", "b", "cx", "cy"]


def test_every_combination_once_and_in_order() -> None:
    assert list(every(words)) == ALL
    assert list(every(lambda choose: 7)) == [7], "nothing to choose is one combination"


@given(st.integers(1, 3))
def test_parts_are_all_of_it(of: int) -> None:
    parts = [list(every(words, part, of)) for part in range(of)]
    assert sorted(word for part in parts for word in part) == ALL
    assert all(parts)


@given(st.integers())
def test_chance_finds_nothing_else(seed: int) -> None:
    assert by_chance(words, Random(seed)) in ALL
