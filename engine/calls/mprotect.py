"""mprotect: what a range permits from now on, and what that costs or gives back."""

from engine.base.address import round_up
from engine.base.failures import VmaRefused
from engine.base.uapi import PROT_GROWSDOWN, PROT_GROWSUP, PROT_SEM, Errno
from engine.pages.fault import populate_locked
from engine.pages.protect import access_flags, protection_changed
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCESS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_NEVER_EXEC,
    VM_NEVER_WRITE,
    VM_NORESERVE,
    VM_PKEY_BIT0,
    VM_SEALED,
    VM_SHARED,
    VM_WRITE,
    Vma,
)
from engine.vmas.merge import modify


def mprotect(space: AddressSpace, addr: int, length: int, prot: int) -> Errno | None:
    """Change the protection of [addr, addr + length), bytes.

    Returns: None or the error; ENOMEM at the first hole, with everything before it changed.
    Source: do_mprotect_pkey(), mprotect_fixup(), Linux 6.1 to 6.18.
    """
    geometry = space.geometry
    ways = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    if ways == PROT_GROWSDOWN | PROT_GROWSUP or addr & (geometry.page_bytes - 1):
        return Errno.EINVAL
    if not length:
        return None
    length = round_up(length, geometry.page_bytes) & geometry.word_mask
    end = (addr + length) & geometry.word_mask
    if end <= addr:
        return Errno.ENOMEM
    if prot & ~(VM_ACCESS | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP):
        return Errno.EINVAL
    if ways:
        first = space.vmas.intersection(addr, end)
        if first is None or (ways == PROT_GROWSUP and first.start > addr):
            return Errno.ENOMEM
        if ways == PROT_GROWSUP or not first.flags & VM_GROWSDOWN:
            return Errno.EINVAL
        addr = first.start
    if space.vmas.sealed(addr, end) and space.kernel.seals_asked_first:
        return Errno.EPERM
    access = access_flags(geometry, prot & ~ways)
    cursor = addr
    while cursor < end:
        vma = space.vmas.lookup(cursor)
        if vma is None:
            return Errno.ENOMEM
        stop = min(vma.end, end)
        if _never(vma) & access:
            return Errno.EACCES
        if vma.flags & VM_SEALED:
            return Errno.EPERM
        flags = (vma.flags & ~(VM_ACCESS | VM_PKEY_BIT0)) | access
        if flags == vma.flags:
            cursor = stop
            continue
        charge = 0
        uncharged = VM_SHARED | VM_ACCOUNT | VM_NORESERVE | VM_HUGETLB
        if not vma.flags & uncharged and prot & VM_WRITE:
            flags |= VM_ACCOUNT  # becomes writable for the first time: charged now
            charge = stop - cursor
            if not space.may_commit(charge, flags):
                return Errno.ENOMEM
        elif (
            vma.flags & VM_ACCOUNT
            and vma.is_anonymous
            and vma.anon_vma is None
            and not prot & VM_WRITE
            and space.kernel.mprotect_uncharges
        ):
            flags &= ~VM_ACCOUNT  # has no page of its own and can get none: given back
            charge = cursor - stop
        was_read_only = not vma.flags & VM_WRITE
        try:
            vma = modify(space.kernel, space.vmas, vma, cursor, stop, flags)
        except VmaRefused as refused:
            return Errno(refused.error)
        space.committed += charge >> geometry.page_shift
        space.flush_tlb(cursor, stop)
        if was_read_only == bool(flags & VM_WRITE):
            protection_changed(space, vma, cursor, stop)
        if was_read_only and flags & VM_LOCKED and flags & VM_WRITE and not flags & VM_SHARED:
            # Private copies at once, under the mmap lock, which nobody gives up: mprotect_fixup().
            populate_locked(space, vma, cursor, stop, waits=False)
        cursor = stop
    return None


def _never(vma: Vma) -> int:
    """The access that nobody may be given to a mapping (without VM_MAYWRITE, VM_MAYEXEC)."""
    flags = vma.flags
    return (VM_WRITE if flags & VM_NEVER_WRITE else 0) | (VM_EXEC if flags & VM_NEVER_EXEC else 0)
