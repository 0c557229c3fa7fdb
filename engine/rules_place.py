"""S-13: where a mapping goes whose place the kernel chooses.  Said of the gaps alone."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from engine.address import Range, round_down
from engine.space import AddressSpace
from engine.violation import Violation
from engine.vma import VM_GROWSDOWN

_GUARD_PAGES = 256  # below a stack


class Place(NamedTuple):
    """What is asked for: bytes; `hint` 0 for anywhere; `huge` the size of hugetlb's pages, or 0."""

    hint: int
    length: int
    huge: int
    shared: bool


def occupied(space: AddressSpace) -> list[tuple[int, int, int]]:
    """Start, end and flags of each VMA."""
    return [(vma.start, vma.end, vma.flags) for vma in space.vmas]


def check_place(
    space: AddressSpace, before: Sequence[tuple[int, int, int]], asked: Place, found: int
) -> Iterator[Violation]:
    """A place is free, not in the guard gap of a stack, and the highest such or the hint.

    Arguments: `before` see `occupied`.  Memory that may get huge pages is aligned for them if there
    is a gap with room to do so.
    """
    guard = _GUARD_PAGES * space.geometry.page_bytes
    place = Range(found, found + asked.length)
    below = 0
    for start, end, flags in before:
        # A guard gap ends at the next mapping below: who looks for a place there sees only that.
        low = max(start - guard, below) if flags & VM_GROWSDOWN else start
        if place.start < end and place.end > low:
            yield Violation("chosen-place", place, "a place that is taken", "a free one")
            return
        below = end
    if found == asked.hint and found:
        return
    if any(flags & VM_GROWSDOWN for _, _, flags in before):
        return  # one guard gap may lie over several gaps: which of them is looked at differs
    wanted = _highest(space, before, asked)
    if found != wanted:
        yield Violation("chosen-place", place, f"{found:#x}", f"the highest gap, {wanted or 0:#x}")


def check_no_place(
    space: AddressSpace, before: Sequence[tuple[int, int, int]], asked: Place
) -> Iterator[Violation]:
    """That there is no place at all is true.  Arguments: `before` see `occupied`."""
    limits = space.limits
    bounds = (limits.address_space, limits.locked, limits.commit, limits.request)
    others = any(bound is not None for bound in bounds) or len(before) >= limits.map_count
    if others or asked.huge or any(flags & VM_GROWSDOWN for _, _, flags in before):
        return  # something else may have run out, or be in the way
    place = _highest(space, before, asked)
    if asked.length and place is not None:
        where = Range(place, place + asked.length)
        yield Violation("chosen-place", where, "ENOMEM", "the highest gap")


def _highest(
    space: AddressSpace, before: Iterable[tuple[int, int, int]], asked: Place
) -> int | None:
    """The highest place, aligned if it is for huge pages."""
    geometry, length = space.geometry, asked.length
    tries: list[tuple[int, int]] = [(geometry.page_bytes, 0)]  # alignment, room that it takes
    if asked.huge:
        tries = [(asked.huge, asked.huge - geometry.page_bytes)]
    elif (
        space.kernel.thp_aligned_search
        and not asked.hint
        and not asked.shared
        and not length % geometry.slot_bytes
    ):
        tries.insert(0, (geometry.slot_bytes, geometry.slot_bytes))
    ends = [space.arena.start, *(end for _, end, _ in before)]
    starts = [*(start for start, _, _ in before), space.arena.end]
    for alignment, room in tries:
        for low, high in zip(reversed(ends), reversed(starts), strict=True):
            if high - low >= length + room:
                return round_down(high - length, alignment)
    return None
