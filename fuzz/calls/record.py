"""How the operands of a call are read from the bytes of a record (see `fuzz.forms.wire`).

A byte that chooses among things chooses by a table of 256 entries, in proportion to their weights.
A field of three bytes is an address or a length: a mode, an index and a delta.  The modes are
here, and which of them are likely for which role.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple

FLAGS, PROT = 1, 2  # the bytes of a record that choose
FIELDS = (3, 6, 9, 12)  # where its fields begin
POINT, NTH = 12, 13  # of what others do at a point, which has no fourth field


class Reads(enum.IntEnum):
    """What a step reads."""

    CHOICE = 0  # one byte: a likely value of the operand
    ADDRESS = 1  # a field
    LENGTH = 2
    UPWARDS = 3  # a length, up from the address before it: the operand is where that ends
    DOWNWARDS = 4  # the same, down from it


class Step(NamedTuple):
    """How one operand is read: its position, the byte that is read first, and what it means.

    Of a field: `modes` with weights; it is no longer than `most_slots` slots, and as much as a call
    may fill (0: any length).  Of a choice: values `that_fill` keep the lengths behind them to two
    slots.  `unless`: it is not read if another operand, by position, has these bits.
    """

    operand: int
    at: int
    reads: Reads
    modes: Mapping[int, int] = {}
    most_slots: int = 0
    that_fill: frozenset[int] = frozenset()
    unless: tuple[int, int] | None = None


def choice(
    operand: int,
    at: int,
    that_fill: frozenset[int] = frozenset(),
    unless: tuple[int, int] | None = None,
) -> Step:
    """A likely value of the operand; `at` is FLAGS or PROT, or the first byte of a free field."""
    return Step(operand, at, Reads.CHOICE, that_fill=that_fill, unless=unless)


def address(operand: int, field: int, modes: Mapping[int, int]) -> Step:
    """An address; `field` is the number of the field, from 0."""
    return Step(operand, FIELDS[field], Reads.ADDRESS, modes)


def length(operand: int, field: int, modes: Mapping[int, int], most_slots: int = 0) -> Step:
    """A length."""
    return Step(operand, FIELDS[field], Reads.LENGTH, modes, most_slots)


# Modes of an address.  Those below SPAN refer to an earlier mapping ("it").  The delta is not
# added where "exactly" is said: whole mappings and whole spans must not be rare.
(
    ORIGIN,  # exactly the start of it
    START,  # the start of it
    END,  # the end of it: adjacent above
    SLOT,  # a slot boundary inside it
    INSIDE,  # a page inside it
    BELOW,  # as far below it as the range is long: adjacent below
    USED,  # the start of a range an earlier call was given
    SHIFT,  # whole slots or PUD spans away from the first address of the call, or from it
    SPAN,  # exactly a PUD boundary
    PUD,  # a PUD boundary
    PMD,  # a PMD boundary
    ALIKE,  # at a PMD boundary plus the offset in its slot of the first address, or of it
    ALIKE_PUD,  # the same with PUD spans
    TOP,  # the range ends at the end of the arena, or a page below it
) = range(14)

# Modes of a length.
(
    PAGES,  # some pages
    FEW,  # a handful of pages
    SLOTS,  # whole slots
    QUARTERS,  # whole slots and quarters of one
    SPANS,  # exactly whole PUD spans
    PUDS,  # whole PUD spans
    SLOT_END,  # up to the end of a slot
    PUD_END,  # up to the end of the PUD span
    REST,  # exactly up to the end of the mapping that the address refers to
    REST_ABOUT,  # the same, plus a delta
    WHOLE,  # as long as that mapping
    NEXT,  # up to the next mapping above
    SIZE,  # exactly as long as the range before it in the same call
    SIZE_ABOUT,  # the same, plus a delta
    ODD,  # zero, huge, wrapping
) = range(15)

# How many of them, by index.
SLOT_COUNTS = (1, 1, 1, 2, 2, 3, 4, 8)
PUD_COUNTS = (1, 1, 1, 2)
PAGE_COUNTS = (1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 64, 100)
FEW_COUNTS = (1, 1, 1, 2, 2, 3, 4, 8)

# Weights of the modes by the role of the operand.
FRESH = {
    SPAN: 22,
    PMD: 22,
    PUD: 12,
    END: 12,
    ALIKE: 10,
    START: 6,
    SHIFT: 6,
    SLOT: 5,
    USED: 5,
}
EXISTING = {
    ORIGIN: 37,
    INSIDE: 26,
    SLOT: 16,
    START: 7,
    USED: 6,
    END: 4,
    PMD: 2,
    PUD: 1,
    SPAN: 1,
}
EARLIER = {USED: 52, ORIGIN: 22, START: 8, SLOT: 6, INSIDE: 12}  # what was prepared for it
TARGET = {
    ALIKE: 20,
    SPAN: 20,
    PMD: 12,
    SHIFT: 10,
    PUD: 10,
    END: 9,
    BELOW: 8,
    ALIKE_PUD: 6,
    USED: 9,
    START: 2,
    TOP: 1,
}
STACK_END = {TOP: 42, PMD: 38, PUD: 20}

FRESH_LEN = {
    SLOTS: 16,
    QUARTERS: 10,
    PAGES: 22,
    SPANS: 16,
    SLOT_END: 13,
    PUDS: 8,
    WHOLE: 8,
    NEXT: 5,
    PUD_END: 3,
    ODD: 1,
}
SOURCE_LEN = {
    REST: 40,
    PAGES: 18,
    REST_ABOUT: 12,
    SLOT_END: 11,
    SLOTS: 7,
    WHOLE: 5,
    SPANS: 3,
    PUDS: 2,
    PUD_END: 1,
    ODD: 1,
}
NEW_LEN = {
    SIZE: 56,
    SIZE_ABOUT: 16,
    SLOTS: 8,
    PAGES: 6,
    NEXT: 5,
    SLOT_END: 4,
    PUDS: 4,
    ODD: 1,
}
POPULATED_LEN = {FEW: 66, SLOT_END: 10, REST: 9, SLOTS: 8, REST_ABOUT: 4, WHOLE: 2, ODD: 1}
STACK_LEN = {QUARTERS: 50, SLOTS: 20, PAGES: 18, FEW: 12}
SHIFT_LEN = {SLOTS: 54, PAGES: 18, SIZE_ABOUT: 10, FEW: 6, PUDS: 4, ODD: 4, SPANS: 2}


EXISTING_RANGE = (address(0, 0, EXISTING), length(1, 1, SOURCE_LEN))
FILLED_RANGE = (address(0, 0, EXISTING), length(1, 1, POPULATED_LEN, most_slots=2))
EARLIER_RANGE = (address(0, 0, EARLIER), length(1, 1, SOURCE_LEN))
