"""Kinds of operands: which value is ordinary, how far others are from it, what comes up."""

import pytest

from engine.base.address import WORD_MASK
from engine.base.geometry import GEOMETRIES
from fuzz.calls.operand import ADDR, LEN, PROT, Amount, Choice, Flags, Length, Nth, Number, Operand

X86, TINY = GEOMETRIES["x86-64"], GEOMETRIES["tiny"]
COLOUR = Choice(meaning="colour", names={"RED": 1, "BLUE": 2}, ordinary=2)
SWITCHES = Flags(
    meaning="switches",
    names={"A": 1, "B": 2, "C": 8},
    number=0xF0,
    numbers={"N1": 0x10},
    ordinary=3,
)


@pytest.mark.parametrize(
    ("kind", "value", "strangeness"),
    [
        (COLOUR, 2, 0),
        (COLOUR, 1, 1),
        (COLOUR, 77, 1),
        (Number(meaning="number"), 5, 0),  # none is simpler
        (Nth(meaning="attempt", low=1), 1, 0),
        (Nth(meaning="attempt", low=1), 6, 5),
        (SWITCHES, 3, 0),
        (SWITCHES, 2, 1),
        (SWITCHES, 0, 2),
        (SWITCHES, 8, 3),
        (SWITCHES, 0x13, 1),
    ],
)
def test_how_far_a_value_is_from_the_ordinary_one(
    kind: Operand, value: int, strangeness: int
) -> None:
    assert kind.strangeness(value) == strangeness


@pytest.mark.parametrize(
    ("kind", "is_word", "counts_as"),
    [
        (ADDR, True, "address"),
        (LEN, True, "length"),
        (Length(meaning="length", high=WORD_MASK - 1), False, "length"),
        (Number(meaning="number", low=1), False, "flags"),
        (PROT, True, "flags"),
    ],
)
def test_a_whole_register(kind: Operand, is_word: bool, counts_as: str) -> None:
    assert kind.is_word is is_word
    assert kind.counts_as == counts_as


def test_an_amount_is_of_the_pages_of_a_geometry() -> None:
    kind = Amount(meaning="amount", counts=(4, 5), slots=(1, 3), pages=(16,))
    assert kind.choices(X86) == {4: 1, 5: 1, 2 << 20: 1, 6 << 20: 1, 64 << 10: 1}
    assert kind.choices(TINY) == {4: 1, 5: 1, 16 << 10: 1, 48 << 10: 1, 64 << 10: 1}
    assert COLOUR.choices(X86) == {}


def test_names_by_value() -> None:
    assert COLOUR.by_value == {1: "RED", 2: "BLUE"}


def test_bits_of_a_number_are_known_whatever_their_value() -> None:
    assert SWITCHES.known == 0xFB


def test_kinds_are_compared_by_identity() -> None:
    """Two kinds may have the same values, and are still two."""
    again = Choice(meaning="colour", names={"RED": 1, "BLUE": 2}, ordinary=2)
    assert again != COLOUR
    assert len({again, COLOUR}) == 2
