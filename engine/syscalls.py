"""mmap, munmap, mprotect, mlock, munlock: the calls that set the scene for a move."""

from engine.address import round_down, round_up
from engine.fault import populate_locked
from engine.merge import Proposal, merge_new, modify
from engine.mremap import find_address, unmap
from engine.space import AddressSpace, Errno
from engine.vma import (
    VM_ACCESS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_NORESERVE,
    VM_SHARED,
    VM_WRITE,
    Vma,
)

PROT_SEM = 0x8  # no effect on x86
PROT_GROWSDOWN = 0x01000000
PROT_GROWSUP = 0x02000000
MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_TYPE = 0x0F
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_GROWSDOWN = 0x100
MAP_LOCKED = 0x2000
MAP_NORESERVE = 0x4000
MAP_POPULATE = 0x8000
MAP_FIXED_NOREPLACE = 0x100000


def mmap(
    space: AddressSpace, addr: int, length: int, prot: int, flags: int, offset: int = 0
) -> int | Errno:
    """Map anonymous memory.

    Arguments: `addr` in bytes, the place with MAP_FIXED, else a hint (0: none); `length` in bytes;
    `offset` in bytes, of which only the alignment counts.
    Returns: the address, or the error; EBADF without MAP_ANONYMOUS: there are no files.
    Source: ksys_mmap_pgoff(), do_mmap(), mmap_region(), Linux 6.1 to 6.18.
    """
    geometry = space.geometry
    page = geometry.page_bytes
    if offset & (page - 1):
        return Errno.EINVAL
    if not flags & MAP_ANONYMOUS:
        return Errno.EBADF
    if not length:
        return Errno.EINVAL
    length = round_up(length, page) & geometry.word_mask
    if not length:
        return Errno.ENOMEM
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if len(space.vmas) > space.max_map_count:
        return Errno.ENOMEM
    shared = flags & MAP_TYPE == MAP_SHARED
    if flags & MAP_FIXED:
        if length > geometry.user_top or addr > geometry.user_top - length:
            return Errno.ENOMEM
        if addr & (page - 1):
            return Errno.EINVAL
        if addr < geometry.min_addr:
            return Errno.EPERM
        place: int | Errno = addr
    else:
        place = find_address(space, addr, length, VM_SHARED if shared else 0)
    if isinstance(place, Errno):
        return place
    if flags & MAP_FIXED_NOREPLACE and space.vmas.intersection(place, place + length):
        return Errno.EEXIST
    if flags & MAP_TYPE not in (MAP_SHARED, MAP_PRIVATE) or (shared and flags & MAP_GROWSDOWN):
        return Errno.EINVAL

    vm_flags = prot & VM_ACCESS
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if flags & MAP_NORESERVE:
        vm_flags |= VM_NORESERVE
    if shared:
        vm_flags |= VM_SHARED
    elif vm_flags & VM_WRITE and not vm_flags & VM_NORESERVE:
        vm_flags |= VM_ACCOUNT  # accountable_mapping()
    charged = vm_flags | (VM_ACCOUNT if shared and not vm_flags & VM_NORESERVE else 0)
    if not space.may_commit(length, charged):
        # Too late for what was mapped there: it is gone.  Since 6.12 private memory is charged
        # before that, but the old mapping has been cut off from what lies around it.
        if space.kernel.merge_new_range and not shared:
            space.split_at(place)
            space.split_at(place + length)
        else:
            unmap(space, place, length)
        return Errno.ENOMEM
    unmap(space, place, length)
    space.account(vm_flags, length)
    vma = _map_region(space, place, place + length, vm_flags, shared)
    if flags & (MAP_POPULATE | MAP_LOCKED):
        populate_locked(space, vma, place, place + length)
    return place


def _map_region(space: AddressSpace, start: int, end: int, flags: int, shared: bool) -> Vma:
    """Put a VMA over a free range, merged with its neighbours where possible."""
    shift = space.geometry.page_shift
    if shared:
        file = space.new_object((end - start) >> shift)
        vma = Vma(start, end, flags, 0, None, file)
    else:
        proposal = Proposal(start, end, flags, start >> shift, None, None)
        merged = merge_new(space.kernel, space.vmas, proposal, mmap=True)
        if merged is not None:
            return merged
        vma = Vma(start, end, flags, start >> shift)
    space.vmas.insert(vma)
    return vma


def munmap(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Unmap whole pages of [addr, addr + length), bytes.  Source: do_vmi_munmap()."""
    return unmap(space, addr, length)


def mprotect(space: AddressSpace, addr: int, length: int, prot: int) -> Errno | None:
    """Change the protection of [addr, addr + length), bytes.

    Returns: None or the error; ENOMEM at the first hole, with everything before it changed.
    Source: do_mprotect_pkey(), mprotect_fixup(), Linux 6.1 to 6.18.
    """
    geometry = space.geometry
    if addr & (geometry.page_bytes - 1):
        return Errno.EINVAL
    if not length:
        return None
    length = round_up(length, geometry.page_bytes) & geometry.word_mask
    end = (addr + length) & geometry.word_mask
    if end <= addr:
        return Errno.ENOMEM
    if prot & ~(VM_ACCESS | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP):
        return Errno.EINVAL
    if prot & (PROT_GROWSDOWN | PROT_GROWSUP):
        first = space.vmas.intersection(addr, end)
        if first is None:
            return Errno.ENOMEM
        if prot & PROT_GROWSUP or not first.flags & VM_GROWSDOWN:
            return Errno.EINVAL
        addr = first.start
    prot &= VM_ACCESS
    cursor = addr
    while cursor < end:
        vma = space.vmas.lookup(cursor)
        if vma is None:
            return Errno.ENOMEM
        stop = min(vma.end, end)
        flags = (vma.flags & ~VM_ACCESS) | prot
        if not vma.flags & (VM_SHARED | VM_ACCOUNT | VM_NORESERVE) and prot & VM_WRITE:
            flags |= VM_ACCOUNT  # becomes writable for the first time: charged now
            if not space.may_commit(stop - cursor, flags):
                return Errno.ENOMEM
            space.committed += (stop - cursor) >> geometry.page_shift
        elif (
            space.kernel.mprotect_uncharges
            and vma.flags & VM_ACCOUNT
            and vma.is_anonymous
            and vma.anon_vma is None
            and vma.flags & VM_WRITE
            and not prot & VM_WRITE
        ):
            flags &= ~VM_ACCOUNT  # never written and cannot be any more: given back
            space.committed -= (stop - cursor) >> geometry.page_shift
        was_read_only = not vma.flags & VM_WRITE
        vma = modify(space.kernel, space.vmas, vma, cursor, stop, flags)
        if was_read_only and flags & VM_LOCKED and flags & VM_WRITE and not flags & VM_SHARED:
            populate_locked(space, vma, cursor, stop)  # private copies at once: mprotect_fixup()
        cursor = stop
    return None


def mlock(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Lock the pages of [addr, addr + length), bytes, and bring them in.

    Returns: None or the error; ENOMEM at a hole (what lies before it is locked, but nothing is
    brought in) and at a page that cannot be had.  Source: mm/mlock.c do_mlock().
    """
    error, start, end = _set_locked(space, addr, length, lock=True)
    if error or start == end:
        return error
    for vma in space.vmas.intersecting(start, end):
        if not populate_locked(space, vma, max(vma.start, start), min(vma.end, end)):
            return Errno.ENOMEM
    return None


def munlock(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Unlock the pages of [addr, addr + length), bytes.  Source: mm/mlock.c munlock()."""
    return _set_locked(space, addr, length, lock=False)[0]


def _set_locked(
    space: AddressSpace, addr: int, length: int, *, lock: bool
) -> tuple[Errno | None, int, int]:
    """Set or clear VM_LOCKED up to the first hole.  Returns: the error and the range, bytes."""
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
        flags = vma.flags & ~(VM_LOCKED | VM_LOCKONFAULT)
        if lock:
            flags |= VM_LOCKED
        pages = (stop - cursor) >> geometry.page_shift
        space.locked_vm += pages * (bool(flags & VM_LOCKED) - bool(vma.flags & VM_LOCKED))
        modify(space.kernel, space.vmas, vma, cursor, stop, flags)
        cursor = stop
    return None, start, end
