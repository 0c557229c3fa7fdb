"""mlock, mlock2 and munlock: pages that stay in memory."""

from engine.base.address import round_down, round_up
from engine.base.failures import VmaRefused
from engine.base.uapi import MLOCK_ONFAULT, Errno
from engine.pages.fault import populate_locked
from engine.state.space import AddressSpace
from engine.state.vma import VM_DROPPABLE, VM_HUGETLB, VM_LOCKED, VM_LOCKONFAULT, VM_SPECIAL
from engine.vmas.merge import modify


def mlock(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Lock the pages of [addr, addr + length), bytes, and bring them in.

    Returns: None or the error; ENOMEM at a hole (what lies before it is locked, but nothing is
    brought in), at a page that cannot be had, and where the limit would be passed; EPERM if the
    limit is 0.  Source: mm/mlock.c do_mlock().
    """
    return _lock(space, addr, length, VM_LOCKED)


def mlock2(space: AddressSpace, addr: int, length: int, flags: int) -> Errno | None:
    """The same; with MLOCK_ONFAULT pages are not brought in, but stay once they are there.

    Returns: None or the error; EINVAL for other flags, else those of mlock.
    Source: mm/mlock.c mlock2().
    """
    if flags & ~MLOCK_ONFAULT:
        return Errno.EINVAL
    return _lock(space, addr, length, VM_LOCKED | (VM_LOCKONFAULT if flags else 0))


def _lock(space: AddressSpace, addr: int, length: int, lock: int) -> Errno | None:
    """Lock a range with the VM_ flags `lock`."""
    if not _may_lock_range(space, addr, length):
        return Errno.ENOMEM if space.limits.locked else Errno.EPERM
    error, start, end = _set_locked(space, addr, length, lock)
    if error or start == end:
        return error
    for vma in space.vmas.intersecting(start, end):
        if not populate_locked(space, vma, max(vma.start, start), min(vma.end, end)):
            return Errno.ENOMEM
    return None


def _may_lock_range(space: AddressSpace, addr: int, length: int) -> bool:
    """Is there room under the limit for what is not locked yet?  Holes count as if it were not.

    Source: do_mlock(), count_mm_mlocked_page_nr().
    """
    limit = space.limits.locked
    if limit is None:
        return True
    page = space.geometry.page_bytes
    start, end = round_down(addr, page), round_up(addr + length, page)
    if limit and space.may_lock(end - start):
        return True
    locked = sum(
        min(vma.end, end) - max(vma.start, start)
        for vma in space.vmas.intersecting(start, end)
        if vma.flags & VM_LOCKED
    )
    return limit > 0 and space.may_lock(end - start - locked)


def munlock(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Unlock the pages of [addr, addr + length), bytes.  Source: mm/mlock.c munlock()."""
    return _set_locked(space, addr, length, 0)[0]


def _set_locked(
    space: AddressSpace, addr: int, length: int, lock: int
) -> tuple[Errno | None, int, int]:
    """Give a range the VM_ flags `lock`, of those that lock, up to the first hole.

    Returns: the error and the range, bytes.
    """
    geometry = space.geometry
    start = round_down(addr, geometry.page_bytes)
    length = round_up(length + addr - start, geometry.page_bytes) & geometry.word_mask
    end = (start + length) & geometry.word_mask
    if end < start:
        return Errno.EINVAL, start, start
    cursor = start
    while cursor < end:
        vma = space.vmas.lookup(cursor)
        if vma is None:
            return Errno.ENOMEM, start, end
        stop = min(vma.end, end)
        flags = vma.flags & ~(VM_LOCKED | VM_LOCKONFAULT) | lock
        if vma.flags & (VM_HUGETLB | VM_DROPPABLE | VM_SPECIAL):
            cursor = stop  # neither locked nor counted: mlock_fixup()
            continue
        pages = (stop - cursor) >> geometry.page_shift
        more = pages * (bool(flags & VM_LOCKED) - bool(vma.flags & VM_LOCKED))
        try:
            modify(space.kernel, space.vmas, vma, cursor, stop, flags)
        except VmaRefused as refused:
            return Errno(refused.error), start, end
        space.locked_vm += more
        cursor = stop
    return None, start, end
