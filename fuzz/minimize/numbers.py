"""Numbers worth trying in place of a number: rounder ones, and those at boundaries."""

from collections.abc import Iterator

from engine.base.address import round_down, round_up
from engine.base.geometry import Geometry
from fuzz.minimize.simplicity import SMALLEST_PAGE

MAGNITUDES = 13  # hex digits above the smallest page, in 64 bits


def number(digits: int, index: int) -> int:
    """The index-th multiple of the smallest page among those with that many digits, ascending."""
    first = 1 << 4 * (digits - 1)
    zeroes, offset = divmod(index, 15 * first)
    return (first + offset) * SMALLEST_PAGE << 4 * zeroes


def shorter(length: int, address: int, geometry: Geometry) -> Iterator[int]:
    """Lengths below `length` for a range at `address`, the boldest first."""
    page, slot, pud = geometry.page_bytes, geometry.slot_bytes, geometry.pud_bytes
    yield 0
    for unit in (page, slot, pud):
        yield from (unit, 2 * unit, 3 * unit, 4 * unit)
    for unit in (slot, pud):
        yield round_up(address + 1, unit) - address  # to the end of the slot it starts in
        yield round_up(address + 1, unit) - address + page
    yield from rounded(length, geometry)


def nearer_addresses(address: int, geometry: Geometry) -> Iterator[int]:
    """Addresses that are simpler than `address` or lie at a boundary near it, the boldest first."""
    page, slot, pud = geometry.page_bytes, geometry.slot_bytes, geometry.pud_bytes
    yield 0
    for unit in (slot, pud):
        yield address % unit
        for count in (1, 2, 3, 4):
            yield unit * count
            yield unit * count + address % unit
    yield pud - slot
    yield pud - page
    yield slot - page
    yield from rounded(address, geometry)


def rounded(value: int, geometry: Geometry) -> Iterator[int]:
    """`value` rounded to boundaries, cut to its last and its first digits, and one unit less."""
    units = (geometry.pud_bytes, geometry.slot_bytes, geometry.page_bytes)
    for unit in units:
        yield round_down(value, unit)
        yield round_up(value, unit)
    for digits in range(1, value.bit_length() // 4 + 1):
        yield value % 16**digits
    for digits in range(value.bit_length() // 4, 0, -1):
        yield round_down(value, 16**digits)
        yield round_up(value, 16**digits)
    for unit in units:
        yield value - unit
