"""The ways in which a program may become simpler.

A pass is a generator of candidates that it builds from the best program so far, which may change
under it while it runs: it reads `search.best` afresh at every step.  Programs are in search form
(`fuzz.minimize.ranges`).
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Protocol

from engine.base.address import Range, round_down, round_up
from engine.base.geometry import Geometry
from fuzz.calls.actors import PointKind
from fuzz.calls.operand import LEN, OFFSET, Amount, Flags, Nth, Number, Size
from fuzz.calls.registry import CALLS
from fuzz.minimize.numbers import MAGNITUDES, nearer_addresses, number, rounded, shorter
from fuzz.minimize.operands import (
    address_groups,
    equal_then_single,
    replaced,
    shifted,
    traded,
    value_at,
    with_value,
)
from fuzz.minimize.ranges import (
    ALL_KINDS,
    Program,
    Site,
    base_of,
    narrowed,
    points,
    spans,
    without,
)
from fuzz.minimize.simplicity import digits_of

_MANY_ATTEMPTS = 64  # later ones come down step by step, round by round


class Best(Protocol):
    """What a pass sees of the search: the best program so far, and the boundaries to try."""

    best: Program
    geometry: Geometry


def drop_calls(search: Best) -> Iterator[Program]:
    """Fewer calls: halves first, then quarters, down to single calls, each from the end.

    The end goes first because whatever follows the failing call is superfluous.
    """
    size = max(len(search.best) // 2, 1)
    while size:
        end = len(search.best)
        while end > 0:
            start = max(end - size, 0)
            # Right after a success as well: what came before `start` has not moved.
            yield search.best[:start] + search.best[end:]
            end = start
        size //= 2


def simplify_flags(search: Best) -> Iterator[Program]:
    """Flags towards the ordinary ones: all at once, the unknown bits, bit by bit, two bits.

    Two bits at a time turn MAP_SHARED into MAP_PRIVATE.
    """
    for kind in ALL_KINDS:
        ordinary = kind.ordinary
        if ordinary is None or (isinstance(kind, Number) and kind.tries):
            continue
        for sites in equal_then_single(search.best, kind):
            value = value_at(search.best, sites[0])
            yield with_value(search.best, sites, ordinary)
            if not isinstance(kind, Flags):  # a number, not a set of bits
                continue
            yield with_value(search.best, sites, value & kind.known)
            bits = [1 << bit for bit in range((kind.known | ordinary).bit_length())]
            for change in (*bits, *(one | other for one, other in combinations(bits, 2))):
                value = value_at(search.best, sites[0])
                if change & (value ^ ordinary) == change:
                    yield with_value(search.best, sites, value ^ change)


def drop_operands(search: Best) -> Iterator[Program]:
    """Optional operands to their defaults; file descriptors to small numbers."""
    for index, call in enumerate(search.best):
        for position, param in enumerate(CALLS[call.name].params):
            if param.default is not None:
                yield with_value(search.best, [Site(index, position)], param.default)
    for kind in ALL_KINDS:
        if isinstance(kind, Number) and kind.tries:
            for sites in equal_then_single(search.best, kind):
                for value in kind.tries:
                    yield with_value(search.best, sites, value)


def lower_numbers(search: Best) -> Iterator[Program]:
    """Attempts that fail, points at which others come in: earlier ones; limits, sizes: rounder."""
    for kind in ALL_KINDS:
        for sites in equal_then_single(search.best, kind) if isinstance(kind, Nth) else ():
            for value in range(kind.low, min(value_at(search.best, sites[0]), _MANY_ATTEMPTS)):
                yield with_value(search.best, sites, value)
    for kind in ALL_KINDS:
        for sites in equal_then_single(search.best, kind) if isinstance(kind, PointKind) else ():
            for value in range(value_at(search.best, sites[0])):
                yield with_value(search.best, sites, value)
    for kind in ALL_KINDS:
        if not isinstance(kind, Amount | Size):
            continue
        for sites in equal_then_single(search.best, kind):
            value = value_at(search.best, sites[0])
            for unit in (search.geometry.slot_bytes, search.geometry.page_bytes, 1):
                for count in range(9):
                    yield with_value(search.best, sites, count * unit)
            for rounder in rounded(value, search.geometry):
                yield with_value(search.best, sites, rounder)


def cut_space(search: Best) -> Iterator[Program]:
    """Takes a piece out of the address space, between two addresses that the program names.

    Everything above comes down and every range across the piece gets shorter, so all relations
    between the calls survive; pieces of whole slots or PUDs keep the offsets within them too.
    """
    geometry = search.geometry
    index = 0
    while index + 1 < len(edges := points(search.best)):
        start, end = edges[index], edges[index + 1]
        gap = end - start
        for size in dict.fromkeys(
            (
                gap,
                round_down(gap, geometry.pud_bytes),
                round_down(gap - 1, geometry.slot_bytes),
                round_down(gap, geometry.slot_bytes),
                round_down(gap // 2, geometry.slot_bytes),
                round_down(gap - 1, geometry.page_bytes),
                round_down(gap // 2, geometry.page_bytes),
                geometry.pud_bytes,
                geometry.slot_bytes,
                geometry.page_bytes,
            )
        ):
            if 0 < size <= gap:
                yield without(search.best, Range(start, start + size))
        index += 1


def shrink_lengths(search: Best) -> Iterator[Program]:
    """Lengths: all that are equal together (an mremap and the mmap it moves), then one by one."""
    for sites in equal_then_single(search.best, LEN):
        address = base_of(search.best, sites[0])
        for value in shorter(value_at(search.best, sites[0]), address, search.geometry):
            yield with_value(search.best, sites, value)
        yield from _bisect(search, sites)


def narrow_ranges(search: Best) -> Iterator[Program]:
    """A part of a range in place of the whole: one that starts later, and one page of it.

    The parts start where other calls have something to say, and at boundaries.  An mremap keeps
    its source and destination in step.
    """
    geometry = search.geometry
    for index in range(len(search.best)):
        span = next(iter(spans(search.best[index])), None)
        if span is None:
            continue
        last = span.end - 1
        starts = dict.fromkeys(
            (
                round_down(last, geometry.pud_bytes),
                round_down(last, geometry.slot_bytes),
                round_down(last, geometry.page_bytes),
                round_down((span.start + span.end) // 2, geometry.slot_bytes),
                round_down((span.start + span.end) // 2, geometry.page_bytes),
                round_up(span.start + 1, geometry.slot_bytes),
                round_up(span.start + 1, geometry.pud_bytes),
                *points(search.best),
            )
        )
        for start in starts:
            for length in (geometry.page_bytes, geometry.slot_bytes, span.end - start):
                part = narrowed(search.best[index], start, length)
                if part is not None:
                    yield replaced(search.best, {index: part})


def simplify_addresses(search: Best) -> Iterator[Program]:
    """Addresses towards 0 and to boundaries, everything that lies in one range together.

    First all addresses, then those of ranges that touch, of one range, the equal ones, and last
    each on its own; every group is shifted as a whole.  Then the two sides of an mremap trade
    places, so that the source comes first.
    """
    for sites in address_groups(search.best):
        base = min(value_at(search.best, site) for site in sites)
        for target in nearer_addresses(base, search.geometry):
            base = min(value_at(search.best, site) for site in sites)
            yield shifted(search.best, sites, target - base)
        yield from _bisect(search, sites)
    for call in search.best:
        if len(named := spans(call)) == 2:
            yield traded(search.best, *named)
    for sites in equal_then_single(search.best, OFFSET):
        for value in nearer_addresses(value_at(search.best, sites[0]), search.geometry):
            yield with_value(search.best, sites, value)


def drop_pairs(search: Best) -> Iterator[Program]:
    """Any two calls that only make sense together, such as an mmap and its munmap."""
    for first, second in combinations(range(len(search.best) - 1, -1, -1), 2):
        program = search.best
        if first < len(program):  # it has become shorter otherwise, and the next round goes on
            yield program[:second] + program[second + 1 : first] + program[first + 1 :]


def _bisect(search: Best, sites: list[Site]) -> Iterator[Program]:
    """The smallest number with one digit, with two … that will do, by bisection.

    The lowest of the operands takes the number, the others keep their distance from it.  Numbers
    with the same digits are bisected apart: over all numbers, half of an acceptable 0x400000 is as
    good, but half of 0x300000 is less simple and would send the search the wrong way.
    """
    for digits in range(1, 5):
        base = min(value_at(search.best, site) for site in sites)
        if digits > digits_of(base):
            return
        low, high = 0, MAGNITUDES * 15 << 4 * (digits - 1)
        while low < high:
            middle = (low + high) // 2
            target = number(digits, middle)
            base = min(value_at(search.best, site) for site in sites)
            if target < base:
                yield shifted(search.best, sites, target - base)
            if target >= base or min(value_at(search.best, site) for site in sites) == target:
                high = middle
            else:
                low = middle + 1


# In this order: what removes most comes first, pairs of calls, which are many, last.
PASSES: tuple[Callable[[Best], Iterator[Program]], ...] = (
    drop_calls,
    simplify_flags,
    drop_operands,
    lower_numbers,
    cut_space,
    shrink_lengths,
    narrow_ranges,
    simplify_addresses,
    drop_pairs,
)
