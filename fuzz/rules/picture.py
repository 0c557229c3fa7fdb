"""All leaves of an address space as one picture, and what differs between two of them.

A rule about a move or a call compares a state with an earlier one.  A picture keeps the entries of
each slot in one dictionary, which is the same one in all pictures until the table is written to: so
most slots are known to be equal at a glance.  Others are copied and compared in C, and only those
that differ are looked at page by page.  It is made by `TableTree.frozen`.
"""

from collections.abc import Callable, Iterator

from engine.base.address import Range
from engine.base.entry import (
    ACCESSED,
    DIRTY,
    EXCLUSIVE,
    HUGE,
    PFN_SHIFT,
    SOFT_DIRTY,
    UFFD_WP,
    WP_MARKER,
    WRITE,
    is_zero_page,
)
from engine.base.geometry import Geometry
from engine.state import terms
from engine.state.table import Picture

Leaves = dict[int, int]  # address in bytes -> entry

# What says which page it is, and how it is there; the other bits have rules of their own.
_IDENTITY = ~(WRITE | DIRTY | ACCESSED | SOFT_DIRTY | EXCLUSIVE | UFFD_WP)
_EVERYWHERE = Range(0, 1 << 64)
_NOWHERE = Range(0, 0)


def pages(
    geometry: Geometry, slots: Picture, within: Range = _EVERYWHERE, ahead: int = 0
) -> Leaves:
    """The pages of a picture by address, without the bits that a move may change.

    A huge leaf stands as the pages it maps, so that splitting it is no difference; userfaultfd's
    mark for a page that is not there is no page.
    Arguments: `ahead` bytes that are added to each address.
    """
    shift, slot = geometry.page_shift, geometry.slot_bytes
    leaves: Leaves = {}
    for base, held in slots.items():
        if base >= within.end or base + slot <= within.start:
            continue
        first = base + ahead
        if isinstance(held, int):
            if held & WP_MARKER == WP_MARKER:
                continue
            step = 0 if is_zero_page(held) else 1 << PFN_SHIFT
            entry = held & _IDENTITY & ~HUGE
            found = {first + (i << shift): entry + i * step for i in range(geometry.slot_pages)}
        else:
            found = {
                first + (i << shift): e & _IDENTITY
                for i, e in held.items()
                if e & WP_MARKER != WP_MARKER
            }
        if base < within.start or base + slot > within.end:
            low, high = within.start + ahead, within.end + ahead
            found = {a: e for a, e in found.items() if low <= a < high}
        if leaves:
            leaves |= found
        else:
            leaves = found
    return leaves


def misfits(due: Leaves, found: Leaves) -> str:
    """How many pages are not where they should be, for people."""
    missing = sum(addr not in found for addr in due)
    others = sum(found.get(addr, entry) != entry for addr, entry in due.items())
    more = sum(addr not in due for addr in found)
    counts = (missing, "missing"), (others, "in place of another"), (more, "where none belongs")
    return ", ".join(f"{terms.count(n, 'page')} {how}" for n, how in counts if n)


def count(geometry: Geometry, slots: Picture, carrying: int = 0) -> int:
    """How many pages a picture has, as `pages` sees them, or those with one of some flags only."""
    total = 0
    for held in slots.values():
        if isinstance(held, int):
            if held & WP_MARKER != WP_MARKER and (not carrying or held & carrying):
                total += geometry.slot_pages
        else:
            there = [e for e in held.values() if e & WP_MARKER != WP_MARKER]
            total += len([e for e in there if e & carrying]) if carrying else len(there)
    return total


def alike(one: dict[int, int] | int | None, other: dict[int, int] | int | None) -> bool:
    """Do two slots map the same?  Comparing dictionaries does not look whether they are one."""
    return one is other or one == other


def differing(
    before: Picture, after: Picture, slot: int, but: Range = _NOWHERE
) -> tuple[Picture, Picture]:
    """Two pictures without the slots of `slot` bytes, outside of `but`, that are the same."""
    same = {
        base
        for base, held in before.items()
        if (base >= but.end or base + slot <= but.start) and alike(after.get(base), held)
    }
    return _without(before, same), _without(after, same)


def carried(
    before: Picture, after: Picture, slot: int, moved: Range, delta: int
) -> tuple[Picture, Picture]:
    """Two pictures without the slots of `moved` found again, unchanged, `delta` bytes further."""
    went = {
        base
        for base, held in before.items()
        if moved.start <= base and base + slot <= moved.end and alike(after.get(base + delta), held)
    }
    return _without(before, went), _without(after, {base + delta for base in went})


def clipped(geometry: Geometry, slots: Picture, within: Range) -> Picture:
    """The leaves of a picture inside a range; huge ones that lie partly in it stay whole."""
    slot, shift = geometry.slot_bytes, geometry.page_shift
    inside: Picture = {}
    for base, held in slots.items():
        if base >= within.end or base + slot <= within.start:
            continue
        if isinstance(held, dict) and (base < within.start or base + slot > within.end):
            low, high = (within.start - base) >> shift, (within.end - base) >> shift
            held = {i: e for i, e in held.items() if low <= i < high}
        if held != {}:
            inside[base] = held
    return inside


def shifted(
    geometry: Geometry, before: Picture, moved: Range, delta: int, whole: set[int], mark: int
) -> Picture | None:
    """The picture that a move leaves of `before` if nothing is in its way.

    Arguments: `moved` goes `delta` bytes further, and there is marked with the bit `mark`, but not
    in the slots that go as a `whole`.
    Returns: None if it is not that simple: a huge page is split, something would lie upon other
    leaves, or outside of `moved` in a slot that goes as a whole.
    """
    slot, shift = geometry.slot_bytes, geometry.page_shift
    pages = slot >> shift
    away = (delta >> shift) % pages
    due: Picture = {}
    parts: list[tuple[int, dict[int, int] | int]] = []
    for base, held in before.items():
        low, high = (moved.start - base) >> shift, (moved.end - base) >> shift
        if high <= 0 or low >= pages:
            if base in whole:
                return None
            parts.append((base, held))
            continue
        if isinstance(held, int):
            if low > 0 or high < pages or away:
                return None
            parts.append((base + delta, held if base in whole else held | mark))
            continue
        if low > 0 or high < pages:
            stay = {i: e for i, e in held.items() if not low <= i < high}
            if stay:
                if base in whole:
                    return None
                parts.append((base, stay))
                held = {i: e for i, e in held.items() if low <= i < high}
        if base in whole:
            parts.append((base + delta, held))
        elif not away:
            parts.append((base + delta, {i: e | mark for i, e in held.items()}))
        else:
            first = base + delta - (away << shift)
            rest = pages - away
            parts.append((first, {i + away: e | mark for i, e in held.items() if i < rest}))
            parts.append((first + slot, {i - rest: e | mark for i, e in held.items() if i >= rest}))
    for base, held in parts:
        there = due.setdefault(base, held)
        if there is not held:
            if isinstance(there, int) or isinstance(held, int) or there.keys() & held.keys():
                return None
            due[base] = there | held
    return {base: held for base, held in due.items() if held != {}}


def retold(
    geometry: Geometry, before: Picture, then: Picture, now: Picture, home: Callable[[int], int]
) -> Picture:
    """A picture with the changes from `then` to `now`, each where its page was at first.

    Arguments: `home` says where that is, by where the page is now; bytes.
    """
    slot, shift = geometry.slot_bytes, geometry.page_shift
    told = dict(before)
    for base in [base for base in {*then, *now} if then.get(base) is not now.get(base)]:
        old, new = then.get(base), now.get(base)
        if old == new:
            continue
        if isinstance(old, int) or isinstance(new, int):
            _put_slot(told, home(base), new)
            continue
        for index, entry in _changes(old or {}, new or {}):
            at = home(base + (index << shift))
            held = told.get(at & -slot, {})
            leaves = dict(held) if isinstance(held, dict) else _as_pages(held, slot >> shift)
            if entry is None:
                leaves.pop((at & (slot - 1)) >> shift, None)
            else:
                leaves[(at & (slot - 1)) >> shift] = entry
            _put_slot(told, at & -slot, leaves)
    return told


def _as_pages(huge: int, pages: int) -> dict[int, int]:
    """The entries that a huge leaf stands for."""
    step = 0 if is_zero_page(huge) else 1 << PFN_SHIFT
    return {i: (huge & ~HUGE) + i * step for i in range(pages)}


def _put_slot(told: Picture, base: int, held: dict[int, int] | int | None) -> None:
    if held is None:
        told.pop(base, None)
    else:
        told[base] = held


def _changes(old: dict[int, int], new: dict[int, int]) -> Iterator[tuple[int, int | None]]:
    for index in {*old, *new}:
        if old.get(index) != new.get(index):
            yield index, new.get(index)


def _without(slots: Picture, left_out: set[int]) -> Picture:
    return {base: held for base, held in slots.items() if base not in left_out}
