"""All leaves of an address space as one picture, and what differs between two of them.

A rule about a move or a call compares a state with an earlier one.  A picture keeps the entries of
each slot in one dictionary, so that slots are copied and compared in C; only those that differ are
looked at page by page.
"""

from engine.address import Range
from engine.entry import (
    ACCESSED,
    DIRTY,
    EXCLUSIVE,
    HUGE,
    PFN_SHIFT,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    is_wp_marker,
    is_zero_page,
)
from engine.geometry import PTE, Geometry
from engine.space import AddressSpace
from engine.table import Entry

Leaves = dict[int, int]  # address in bytes -> entry
# What each slot maps, by its address: the entries of its PTE table, or a huge leaf.
Picture = dict[int, dict[int, Entry] | int]

# What says which page it is, and how it is there; the other bits have rules of their own.
_IDENTITY = ~(WRITE | DIRTY | ACCESSED | SOFT_DIRTY | EXCLUSIVE | UFFD_WP)
_EVERYWHERE = Range(0, 1 << 64)
_NOWHERE = Range(0, 0)


def picture(space: AddressSpace, *, lasting: bool) -> Picture:
    """Every leaf of a space as it is now.

    Arguments: `lasting` what happens later shall not show; otherwise nothing is copied.
    """
    shifts = space.geometry.entry_shift
    slots: Picture = {}
    for base, table in space.tree.leaf_tables():
        if table.level == PTE:
            slots[base] = table.entries.copy() if lasting else table.entries
        else:
            shift = shifts[table.level]
            for index, entry in table.entries.items():
                if isinstance(entry, int):
                    slots[base + (index << shift)] = entry
    return slots


def pages(geometry: Geometry, slots: Picture, within: Range = _EVERYWHERE) -> Leaves:
    """The pages of a picture by address, without the bits that a move may change.

    A huge leaf stands as the pages it maps, so that splitting it is no difference; userfaultfd's
    mark for a page that is not there is no page.
    """
    shift, slot = geometry.page_shift, geometry.slot_bytes
    leaves: Leaves = {}
    for base, held in slots.items():
        if base >= within.end or base + slot <= within.start:
            continue
        if isinstance(held, int):
            step = 0 if is_zero_page(held) else 1 << PFN_SHIFT
            first = held & _IDENTITY & ~HUGE
            found = {
                base + (i << shift): first + i * step for i in range(geometry.index_mask[PTE] + 1)
            }
        else:
            found = {
                base + (i << shift): e & _IDENTITY  # type: ignore[operator]
                for i, e in held.items()
                if not is_wp_marker(e)  # type: ignore[arg-type]
            }
        if base < within.start or base + slot > within.end:
            found = {a: e for a, e in found.items() if within.start <= a < within.end}
        leaves |= found
    return leaves


def leaves_of(space: AddressSpace) -> Leaves:
    """Every page of a space, as `pages` has them."""
    return pages(space.geometry, picture(space, lasting=False))


def differing(
    before: Picture, after: Picture, slot: int, but: Range = _NOWHERE
) -> tuple[Picture, Picture]:
    """Two pictures without the slots of `slot` bytes, outside of `but`, that are the same."""
    same = {
        base
        for base, held in before.items()
        if (base >= but.end or base + slot <= but.start) and after.get(base) == held
    }
    return _without(before, same), _without(after, same)


def carried(
    before: Picture, after: Picture, slot: int, moved: Range, delta: int
) -> tuple[Picture, Picture]:
    """Two pictures without the slots of `moved` found again, unchanged, `delta` bytes further."""
    went = {
        base
        for base, held in before.items()
        if moved.start <= base and base + slot <= moved.end and after.get(base + delta) == held
    }
    return _without(before, went), _without(after, {base + delta for base in went})


def _without(slots: Picture, left_out: set[int]) -> Picture:
    return {base: held for base, held in slots.items() if base not in left_out}
