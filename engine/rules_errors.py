"""S-01: which calls the kernel refuses, and with which error.

The order of the checks of mremap, as the manual and the specification's tables 6.2 and 6.3 have it,
on plain intervals and integers that nothing wraps in.  Where an error may or may not come (memory
that is made to run out, limits, sums that wrap, places outside the arena) nothing is said.
"""

from collections.abc import Iterator
from typing import NamedTuple

from engine.address import Range, round_down, round_up
from engine.kernel import Kernel
from engine.space import AddressSpace, Errno
from engine.violation import Violation
from engine.vma import STACK_GUARD_PAGES, VM_GROWSDOWN, VM_HUGETLB, VM_SEALED, VM_SHARED, VM_UFFD

_ODD = VM_HUGETLB | VM_SEALED | VM_UFFD  # mappings that have further checks
_MAYMOVE, _FIXED, _DONTUNMAP = 1, 2, 4  # as programs write them


# What memory or a limit that runs out may give at any time.
_SHORT = frozenset((Errno.ENOMEM, Errno.EAGAIN))


class Area(NamedTuple):
    """A VMA as it was: bytes, and its page offset."""

    start: int
    end: int
    flags: int
    pgoff: int
    unfaulted: bool


class Facts(NamedTuple):
    """What decides about an error, before the call; `scarce`: memory may run out by itself."""

    kernel: Kernel
    arena: Range
    areas: list[Area]
    map_limit: int
    scarce: bool

    @classmethod
    def of(cls, space: AddressSpace) -> "Facts":
        """The facts of a space."""
        limits = space.limits
        bounds = (limits.address_space, limits.locked, limits.commit, limits.request)
        return cls(
            space.kernel,
            space.arena,
            [Area(v.start, v.end, v.flags, v.pgoff, v.anon_vma is None) for v in space.vmas],
            space.max_map_count,
            space.failures.armed or any(bound is not None for bound in bounds),
        )

    def at(self, addr: int) -> Area | None:
        """What is mapped at an address."""
        return next((area for area in self.areas if area.start <= addr < area.end), None)

    def inside(self, start: int, end: int) -> list[Area]:
        """What is mapped in [start, end)."""
        return [area for area in self.areas if max(area.start, start) < min(area.end, end)]

    def holes(self) -> list[Range]:
        """Free places of the arena, the highest first."""
        found, top = [], self.arena.end
        for area in reversed(self.areas):
            if area.end < top:
                found.append(Range(area.end, top))
            top = area.start
        if self.arena.start < top:
            found.append(Range(self.arena.start, top))
        return found

    def gap_start(self, area: Area) -> int:
        """Where the place that an area keeps to itself begins."""
        gap = STACK_GUARD_PAGES * self.kernel.geometry.page_bytes
        return max(area.start - gap, 0) if area.flags & VM_GROWSDOWN else area.start

    def is_free(self, start: int, end: int) -> bool:
        """May a hint at `start` be taken?"""
        above = next((area for area in self.areas if area.end > start), None)
        return (
            self.arena.start <= start
            and end <= self.arena.end
            and (above is None or end <= self.gap_start(above))
        )


class Granted(NamedTuple):
    """The call succeeds; `address` is what it returns, None if that is not known."""

    address: int | None = None


class _Remap(NamedTuple):
    """An mremap: lengths as the caller gave them, and as page multiples."""

    addr: int
    old_raw: int
    new_raw: int
    flags: int
    new_addr: int
    old: int
    new: int

    @property
    def places(self) -> bool:
        """FIXED or DONTUNMAP."""
        return bool(self.flags & (_FIXED | _DONTUNMAP))


Promise = Errno | Granted | None  # None: nothing is said


def check_errors(
    before: Facts,
    addr: int,
    old_len: int,
    new_len: int,
    flags: int,
    new_addr: int,
    result: int | Errno,
) -> Iterator[Violation]:
    """Is the result of an mremap the one that its operands deserve?"""
    page, mask = before.kernel.geometry.page_bytes, before.kernel.geometry.word_mask
    old, new = round_up(old_len, page) & mask, round_up(new_len, page) & mask
    remap = _Remap(addr, old_len, new_len, flags, new_addr, old, new)
    if max(addr + old_len, new_addr + new_len) > mask:
        return
    if before.scarce and result in _SHORT:
        return
    promise = _promise(before, remap)
    where = Range(addr, addr + max(old, page))
    if isinstance(promise, Errno) and result is not promise:
        yield Violation("error-order", where, _told(result), str(promise))
    elif isinstance(promise, Granted):
        if isinstance(result, Errno):
            yield Violation("error-order", where, _told(result), "success")
        elif promise.address not in (None, result):
            yield Violation("error-order", where, _told(result), _told(promise.address or 0))


def _told(result: int | Errno) -> str:
    return str(result) if isinstance(result, Errno) else f"{result:#x}"


def _promise(before: Facts, remap: _Remap) -> Promise:
    """The first check that fails, in the order of the kernel's version."""
    kernel = before.kernel
    known = _MAYMOVE | _FIXED | (_DONTUNMAP if kernel.dontunmap else 0)
    if remap.flags & ~known or remap.addr % kernel.geometry.page_bytes or not remap.new:
        return Errno.EINVAL
    area = before.at(remap.addr)
    if kernel.check_before_unmap:
        if remap.new > kernel.geometry.user_top or _wrong_target(before, remap, remap.old):
            return Errno.EINVAL
        if remap.places and _full(before, 6):
            return Errno.ENOMEM
        if remap.flags & _FIXED and remap.old == remap.new:
            return _several(before, remap)
        if area is None:
            return _nothing_at(before, remap.addr)
        if area.flags & _ODD:
            return _special(before, remap, area)
    else:
        if remap.places and (
            not remap.flags & _MAYMOVE
            or (remap.flags & _DONTUNMAP and remap.old_raw != remap.new_raw)
        ):
            return Errno.EINVAL
        if area is None:
            return _nothing_at(before, remap.addr)
        if area.flags & _ODD:
            return _special(before, remap, area)
        if _wrong_target(before, remap, remap.old):
            return Errno.EINVAL
        if remap.places and kernel.map_count_first and _full(before, 6):
            return Errno.ENOMEM
    lost = [*_target_of(before, remap), *_tail_of(before, remap)]
    if any(one.flags & VM_HUGETLB for one in lost):
        return None
    if remap.old >= remap.new and not remap.places:
        return _shrunk(before, remap)
    # Until 6.16 destination and tail go first; since 6.17 the source is looked at before.
    checks = [_lost(before, remap), _wrong_source(before, remap, area)]
    for error in reversed(checks) if kernel.check_before_unmap else checks:
        if error is not None:
            return error
    if remap.places:
        return _placed(before, remap)
    return _grown(before, remap, area)


def _wrong_target(before: Facts, remap: _Remap, old: int) -> bool:
    """Is the destination of FIXED or DONTUNMAP impossible?"""
    geometry = before.kernel.geometry
    return remap.places and (
        not remap.flags & _MAYMOVE
        or (bool(remap.flags & _DONTUNMAP) and old != remap.new)
        or bool(remap.new_addr % geometry.page_bytes)
        or remap.new_addr + remap.new > geometry.user_top
        or (remap.addr < remap.new_addr + remap.new and remap.new_addr < remap.addr + old)
    )


def _full(before: Facts, more: int) -> bool:
    """Is there no room for `more` VMAs under vm.max_map_count (6.6, measured)?"""
    return len(before.areas) + more > before.map_limit


def _nothing_at(before: Facts, addr: int) -> Promise:
    """No VMA there: but outside the arena others may have mapped something."""
    geometry = before.kernel.geometry
    in_arena = before.arena.start <= addr < before.arena.end
    return None if not in_arena and geometry.min_addr <= addr < geometry.user_top else Errno.EFAULT


def _special(before: Facts, remap: _Remap, area: Area) -> Promise:
    """A sealed mapping stays; one of huge pages neither grows nor leaves their boundaries."""
    if area.flags & VM_SEALED:
        return Errno.EPERM
    if not area.flags & VM_HUGETLB:
        return None
    huge = before.kernel.geometry.slot_bytes
    grows = round_up(remap.new, huge) > round_up(remap.old, huge)
    if remap.addr % huge or remap.new_addr % huge or grows or not before.kernel.hugetlb_moves:
        return Errno.EINVAL
    return None


def _target_of(before: Facts, remap: _Remap) -> list[Area]:
    """What FIXED evicts."""
    if not remap.flags & _FIXED:
        return []
    return before.inside(remap.new_addr, remap.new_addr + remap.new)


def _tail_of(before: Facts, remap: _Remap) -> list[Area]:
    """What a shrink unmaps."""
    return before.inside(remap.addr + remap.new, remap.addr + remap.old)


def _lost(before: Facts, remap: _Remap) -> Errno | None:
    """Is something wrong with what goes first: the destination with FIXED, the tail of a shrink?"""
    covered = remap.new_addr <= remap.addr < remap.new_addr + remap.new
    if any(area.flags & VM_SEALED for area in _target_of(before, remap)):
        return Errno.EPERM
    if remap.old > remap.new and remap.addr + remap.old > before.kernel.geometry.user_top:
        return Errno.EINVAL
    if any(area.flags & VM_SEALED for area in _tail_of(before, remap)):
        return Errno.EPERM
    return Errno.EFAULT if remap.flags & _FIXED and covered else None


def _wrong_source(before: Facts, remap: _Remap, area: Area) -> Errno | None:
    """May this be resized or moved at all?"""
    kernel = before.kernel
    shared = bool(area.flags & VM_SHARED)
    if not remap.old and not shared:
        return Errno.EINVAL
    if remap.flags & _DONTUNMAP and shared and not kernel.dontunmap_any:
        return Errno.EINVAL
    if remap.addr + min(remap.old, remap.new) > area.end:
        return Errno.EFAULT
    if remap.new > remap.old:
        shift = kernel.geometry.page_shift
        first = area.pgoff + (remap.addr - area.start >> shift)
        if first + (remap.new >> shift) > kernel.geometry.word_mask:
            return Errno.EINVAL
    return None


def _shrunk(before: Facts, remap: _Remap) -> Promise:
    """A shrink, or nothing at all, where it is."""
    if remap.old == remap.new:
        return Granted(remap.addr)
    if remap.addr + remap.old > before.kernel.geometry.user_top:
        return Errno.EINVAL
    if any(area.flags & VM_SEALED for area in _tail_of(before, remap)):
        return Errno.EPERM
    if before.scarce or _full(before, 1):
        return None
    return Granted(remap.addr)


def _placed(before: Facts, remap: _Remap) -> Promise:
    """A move of one VMA with FIXED or DONTUNMAP that nothing speaks against."""
    if before.scarce or _full(before, 8):
        return None
    if remap.flags & _FIXED:
        if remap.new_addr < before.kernel.geometry.min_addr:
            return Errno.EPERM
        return Granted(remap.new_addr)
    hint = round_down(remap.new_addr, before.kernel.geometry.page_bytes)
    if hint and before.is_free(hint, hint + remap.new):
        return Granted(hint)
    return _anywhere(before, remap.new, hint, before.at(remap.addr))


def _several(before: Facts, remap: _Remap) -> Promise:
    """A move of every VMA in a range; the first must begin where the range does."""
    parts = before.inside(remap.addr, remap.addr + remap.old)
    if not before.arena.start <= remap.addr < before.arena.end:
        return None
    if not parts or parts[0].start > remap.addr:
        return Errno.EFAULT
    if parts[0].flags & VM_UFFD and parts[0].end < remap.addr + remap.old:
        return Errno.EFAULT  # userfaultfd moves alone (d5f416c7c364)
    if parts[0].flags & VM_SEALED:
        return Errno.EPERM
    if any(one.flags & _ODD for one in (*parts, *_target_of(before, remap))):
        return None
    if before.scarce or _full(before, 8 + 3 * len(parts)):
        return None
    if remap.new_addr < before.kernel.geometry.min_addr:
        return Errno.EPERM
    return Granted(remap.new_addr)


def _grown(before: Facts, remap: _Remap, area: Area) -> Promise:
    """Growth without a given place: where it is if there is room, else anywhere."""
    end = remap.addr + remap.new
    if remap.addr + remap.old == area.end and (
        end <= before.arena.end and not before.inside(area.end, end)
    ):
        return None if before.scarce else Granted(remap.addr)
    if not remap.flags & _MAYMOVE:
        return Errno.ENOMEM
    if before.scarce or _full(before, 8):
        return Errno.ENOMEM if _full(before, 4) else None
    return _anywhere(before, remap.new, 0, area)


def _anywhere(before: Facts, length: int, hint: int, area: Area | None) -> Promise:
    """The highest place that is free, its end; a huge page's alignment where that is wanted."""
    kernel = before.kernel
    slot = kernel.geometry.slot_bytes
    if any(one.flags & VM_GROWSDOWN for one in before.areas):
        return None  # the gap it keeps below itself may cut a hole, or bound the search
    ends: dict[int, int] = {}
    for hole in before.holes():
        for wanted in (length, length + slot):
            if hole.length >= wanted:
                ends.setdefault(wanted, hole.end)
    shared = area is not None and area.flags & VM_SHARED
    if kernel.thp_aligned_search and not hint and not shared and length % slot == 0:
        aligned = ends.get(length + slot)
        if aligned is not None:
            return Granted(round_down(aligned - length, slot))
    if length not in ends:
        return Errno.ENOMEM
    return Granted(ends[length] - length)


def check_stack_errors(
    before: Facts, start: int, end: int, shift: int, result: Errno | None
) -> Iterator[Violation]:
    """Is the result of a stack move the one that its operands deserve?"""
    if result is Errno.E2BIG and before.scarce:
        return
    geometry = before.kernel.geometry
    lowest, top = before.arena.start + geometry.min_addr, end - shift
    if any(operand % geometry.page_bytes for operand in (start, end, shift)):
        deserved: Errno | None = Errno.EINVAL
    elif not start < end <= geometry.user_top:
        deserved = Errno.EINVAL
    elif top - (end - start) <= lowest:
        deserved = Errno.ENOMEM
    else:
        deserved = None
    yield from _compared(before, start, end, deserved, result)


def check_relocate_errors(
    before: Facts, start: int, end: int, shift: int, result: Errno | None
) -> Iterator[Violation]:
    """The same for a stack move among neighbours: the way must be free, the VMA in use."""
    geometry = before.kernel.geometry
    area = before.at(start)
    way = [(one.start, one.end) for one in before.inside(start - shift, end)]
    if any(operand % geometry.page_bytes for operand in (start, end, shift)) or start >= end:
        deserved: Errno | None = Errno.EINVAL
    elif start - shift < before.arena.start:
        deserved = Errno.EINVAL
    elif area is None or area.unfaulted or way != [(start, end)]:
        deserved = Errno.EFAULT
    else:
        deserved = None
    yield from _compared(before, start, end, deserved, result)


def _compared(
    before: Facts, start: int, end: int, deserved: Errno | None, result: Errno | None
) -> Iterator[Violation]:
    if result is not deserved and not (before.scarce and result in _SHORT):
        where = Range(min(start, end), max(start, end))
        yield Violation("error-order", where, str(result or "success"), str(deserved or "success"))
