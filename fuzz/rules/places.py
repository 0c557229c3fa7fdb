"""Where memory goes that has no place yet, and what munmap(2) may take away.

On the intervals that were mapped before the call; what memory that runs out may give is left to
`fuzz.rules.errors`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from engine.base.address import Range, round_down, round_up
from engine.base.failures import COMMIT, HOOK, MAPS, PAGETABLE, VMA
from engine.base.geometry import Geometry
from engine.base.kernel import Kernel
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_HUGETLB,
    MAP_SHARED,
    MAP_TYPE,
    MREMAP_FIXED,
    Errno,
)
from engine.base.violation import Violation
from engine.state import terms
from engine.state.vma import VM_GROWSDOWN, VM_HUGETLB, VM_SEALED
from fuzz.rules.rule import (
    CONTRACT,
    VMAS,
    Rule,
    after,
)
from fuzz.rules.sight import Area, Sight, Snapshot

PLACE_CHOSEN = Rule(
    "S-13",
    "place-chosen",
    "memory goes to its hint if that is free, else to the highest hole; munmap takes what may",
    "get_unmapped_area(), do_vmi_munmap()",
    CONTRACT,
)

_GUARD_PAGES = 256  # stack_guard_gap

# What a call returns that a failure on demand has struck.
STRUCK = {
    PAGETABLE: Errno.ENOMEM,
    VMA: Errno.ENOMEM,
    COMMIT: Errno.ENOMEM,
    MAPS: Errno.ENOMEM,
    HOOK: Errno.EPERM,
}


class Granted(NamedTuple):
    """The call succeeds; `address` is what it returns, None if that is not known."""

    address: int | None = None


Promise = Errno | Granted | None  # None: nothing is said


def compared(
    before: Snapshot,
    where: Range,
    promise: Promise,
    result: int | Errno | None,
    rule: Rule,
) -> Iterator[Violation]:
    """Is the result the promised one, or that of a failure on demand?  None: success."""
    if any(result is STRUCK[kind] for kind in before.failing):
        return
    geometry = before.geometry
    if isinstance(promise, Errno) and result is not promise:
        yield rule.broken(where, told(geometry, result), str(promise))
    elif isinstance(promise, Granted):
        if isinstance(result, Errno):
            yield rule.broken(where, str(result), "success")
        elif promise.address not in (None, result):
            yield rule.broken(where, told(geometry, result), told(geometry, promise.address))


def told(geometry: Geometry, result: int | Errno | None) -> str:
    """What a call has returned, for people; None: success."""
    if isinstance(result, int):
        return terms.address(geometry, result)
    return str(result or "success")


def placed(before: Snapshot, length: int, hint: int, *, of_object: bool, huge: int = 0) -> Promise:
    """Where the kernel puts what has no place yet: at the hint if nothing is in the way there.

    Else at the end of the highest hole that is large enough: for huge pages (of `huge` bytes)
    wherever their boundaries may lie in it, and for memory that may get huge pages of its own
    accord with a slot to spare, as long as there is such a hole.
    """
    geometry = before.kernel.geometry
    up = huge and (geometry.has_tags or before.kernel.hugetlb_hint_rounds_up)
    hint = round_up(hint, huge) if up else round_down(hint, huge or geometry.page_bytes)
    slot = geometry.slot_bytes
    usual = _chosen(before, hint, length, huge, 0)
    if huge or of_object or length < slot:
        return usual
    spaced = _chosen(before, hint, length, huge, slot)
    differs = spaced != usual  # else it does not matter what the kernel does
    return spaced if differs and _keeps_to_slots(before.kernel, hint, length) else usual


def _chosen(before: Snapshot, hint: int, length: int, huge: int, spare: int) -> Promise:
    """See `placed`; `spare` bytes are to lie behind it."""
    geometry = before.kernel.geometry
    if hint and _is_free(before, hint, hint + length + spare):
        return Granted(hint)
    if huge:
        end = _hole(before, length + huge - geometry.page_bytes)
        return Errno.ENOMEM if end is None else Granted(round_down(end - length, huge))
    if spare and (end := _hole(before, length + spare)) is not None:
        return Granted(round_down(end - length, geometry.slot_bytes))
    if hint and _is_free(before, hint, hint + length):
        return Granted(hint)
    end = _hole(before, length)
    return Errno.ENOMEM if end is None else Granted(end - length)


def _keeps_to_slots(kernel: Kernel, hint: int, length: int) -> bool:
    """Is private memory that may get huge pages put where one could begin?

    Of a kernel of 64 bits, since 6.7: first all that could hold one, wherever the hint; in the end
    what is made of nothing else, and only if there is no hint.
    """
    slots, rest = divmod(length, kernel.geometry.slot_bytes)
    if kernel.geometry.word_bits == 32 and not kernel.thp_aligns_32_bit:
        return False
    fits = slots > 0 and (rest == 0 or kernel.thp_aligns_any_length)
    return fits and kernel.thp_aligned_search and (not hint or kernel.thp_passes_tight_hint)


def _is_free(before: Snapshot, start: int, end: int) -> bool:
    """May a hint at `start` be taken?"""
    above = next((area for area in before.areas if area.end > start), None)
    room = before.kernel.geometry.choice
    inside = room.start <= start and end <= room.end
    return inside and (above is None or end <= _gap_start(before, above))


def _gap_start(before: Snapshot, area: Area) -> int:
    """Where the place that an area keeps to itself begins."""
    gap = _GUARD_PAGES * before.kernel.geometry.page_bytes
    return max(area.start - gap, 0) if area.flags & VM_GROWSDOWN else area.start


def _hole(before: Snapshot, length: int, bound: int | None = None) -> int | None:
    """The end of the highest free part of the arena that is large enough, below a `bound`.

    Where it ends at a stack, the gap that this keeps below itself is in the way: the search starts
    again below the gap.  Source: vm_unmapped_area_topdown(), 6.5.
    """
    lowest, top = before.kernel.geometry.choice
    top = top if bound is None else bound
    above: Area | None = None
    for area in (*reversed(before.areas), None):
        end = top if above is None else min(above.start, top)
        if end - (lowest if area is None else area.end) >= length:
            clear = end if above is None else _gap_start(before, above)
            return end if end <= clear else _hole(before, length, clear)
        above = area
    return None


@after("mmap", PLACE_CHOSEN, before=VMAS)
def mapped_at(sight: Sight) -> Iterator[Violation]:
    """Does an mmap(2) go where it should?  Errors other than ENOMEM may be due.

    So may ENOMEM be, where there is a limit, and if there are too few huge pages.
    """
    before, result, (addr, length, _, flags, *_) = sight.before, sight.result, sight.args
    assert isinstance(result, int | Errno)
    geometry = before.kernel.geometry
    huge = geometry.slot_bytes if flags & MAP_HUGETLB else 0
    length = round_up(length, huge or geometry.page_bytes) & geometry.word_mask
    if not flags & MAP_ANONYMOUS or not length or flags & MAP_FIXED_NOREPLACE:
        return
    promise: Promise
    if flags & MAP_FIXED:
        beyond = addr + length > geometry.user_top
        promise = Errno.ENOMEM if beyond else removed(before, addr, addr + length)
        if isinstance(promise, Errno) and isinstance(result, Errno):
            return  # which one differs: until 6.11 what may not be unmapped is ENOMEM
        promise = promise or Granted(addr)
    else:
        hint = geometry.min_addr if geometry.page_bytes <= addr < geometry.min_addr else addr
        promise = placed(before, length, hint, of_object=flags & MAP_TYPE == MAP_SHARED, huge=huge)
        if promise is None and isinstance(result, int):
            yield from _free(before, result, length)
    due = before.limits is not None or before.full(0) or (huge and length > before.pool * huge)
    if isinstance(result, Errno) and (due or result is not Errno.ENOMEM):
        return
    yield from compared(before, Range(addr, addr + length), promise, result, PLACE_CHOSEN)


@after("mremap", PLACE_CHOSEN, before=VMAS)
def moved_to(sight: Sight) -> Iterator[Violation]:
    """Is the place of a move free, where the kernel has chosen it?"""
    request, result = sight.request, sight.address
    if result is not None and result != request.addr and not request.flags & MREMAP_FIXED:
        yield from _free(sight.before, result, request.new_len)


def _free(before: Snapshot, start: int, length: int) -> Iterator[Violation]:
    """Is a place free, and clear of the gaps below stacks?

    A gap ends at the next area below: who looks for a place there sees only that.
    """
    place, below = Range(start, start + length), 0
    for area in before.areas:
        if place.start < area.end and place.end > max(_gap_start(before, area), below):
            yield PLACE_CHOSEN.broken(place, "a place that is taken", "a free one")
            return
        below = area.end


@after("munmap", PLACE_CHOSEN, before=VMAS)
def unmapped(sight: Sight) -> Iterator[Violation]:
    """Does a munmap(2) do what it should?"""
    before, result, (start, length) = sight.before, sight.error, sight.args
    geometry = before.kernel.geometry
    end = start + round_up(length, geometry.page_bytes)
    where = Range(start, max(start, end))
    if start % geometry.page_bytes or not length or start + length > geometry.user_top:
        promise: Promise = Errno.EINVAL
    else:
        promise = removed(before, start, end) or Granted()
    yield from compared(before, where, promise, result, PLACE_CHOSEN)


def removed(before: Snapshot, start: int, end: int) -> Errno | None:
    """What speaks against unmapping [start, end), which lies in user space.

    A VMA that is left on both sides becomes two; what is sealed stays; huge pages go whole.  The
    first VMA is cut before the seals behind it are found, but on 6.10 and 6.11.
    """
    lost, kernel = before.inside(start, end), before.kernel
    sealed = any(one.flags & VM_SEALED for one in lost)
    if sealed and kernel.seals_asked_first:
        return Errno.EPERM
    if any(one.start < start and end < one.end for one in lost) and before.full(1):
        return Errno.ENOMEM
    huge = kernel.geometry.slot_bytes
    low = [one for one in lost if one.start < start and one.flags & VM_HUGETLB and start % huge]
    if sealed:
        return Errno.EINVAL if any(not one.flags & VM_SEALED for one in low) else Errno.EPERM
    high = [one for one in lost if end < one.end and one.flags & VM_HUGETLB and end % huge]
    return Errno.EINVAL if low or high else None
