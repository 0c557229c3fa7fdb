"""mseal(2), since 6.10: mappings that can no longer be unmapped, moved or changed.

The calls that a seal forbids look for it VMA by VMA, as they go (mm/vma.h can_modify_vma(), 6.12):
munmap, MAP_FIXED and what mremap unmaps before anything is gone, but after the VMA in which the
range begins was cut there; mprotect and madvise with what lies before the seal changed.  6.10 and
6.11 search the whole range first (can_modify_mm(), from the sources: none was booted).
"""

from engine.base.address import round_up
from engine.base.failures import VmaRefused
from engine.base.uapi import Errno
from engine.state.space import AddressSpace
from engine.state.vma import VM_SEALED, VM_SHARED, VM_WRITE, Vma
from engine.vmas.merge import modify


def mseal(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Seal [addr, addr + length), bytes.

    Returns: None or the error; ENOMEM at a hole, with nothing sealed.
    Source: mm/mseal.c do_mseal(), mseal_apply().
    """
    geometry = space.geometry
    if not space.kernel.mseal:
        return Errno.ENOSYS  # mark: mseal-unknown
    rounded = round_up(length, geometry.page_bytes) & geometry.word_mask
    end = (addr + rounded) & geometry.word_mask
    if addr & (geometry.page_bytes - 1) or (length and not rounded) or end < addr:
        return Errno.EINVAL  # mark: mseal-refused
    vmas = space.vmas.intersecting(addr, end) if addr < end else []
    reached = addr
    for vma in vmas:
        if vma.start > reached:
            break
        reached = vma.end
    if reached < end:
        return Errno.ENOMEM  # mark: mseal-hole
    try:
        _seal(space, vmas, addr, end)
    except VmaRefused as refused:
        return Errno(refused.error)  # mark: mseal-split-refused
    return None


def _seal(space: AddressSpace, vmas: list[Vma], addr: int, end: int) -> None:
    """Seal what [addr, end) has of these VMAs.

    From 6.17 to 6.19 the call goes by where it was before a merge: what lies behind what was sealed
    already, and has just been taken in, begins later then than it should, and is not merged.
    Model: nor with what follows, if that is sealed; those kernels do worse.
    Errors raised: VmaRefused.  Source: mseal_apply(), 6.17; measured on 6.17.13 and 6.18.15.
    """
    kernel, reached, last = space.kernel, addr, None
    for vma in vmas:
        if vma is last or not space.vmas.holds(vma):
            continue  # one with the one before now
        start, stop = max(vma.start, addr), min(vma.end, end)
        sealed = vma.flags | VM_SEALED
        if start > reached and kernel.mseal_forgets_merge and sealed != vma.flags:
            if stop < vma.end:
                space.vmas.split_counted(vma, stop)
            vma.flags = sealed
            last = vma
        else:
            last = modify(kernel, space.vmas, vma, start, stop, sealed, adds=True)
        reached = stop


def may_discard(vma: Vma) -> bool:
    """May the contents of a mapping be thrown away?

    Not if it is sealed and the program could not write to it itself.
    Source: can_modify_vma_madv() in 6.12, can_madvise_modify() in 6.18.
    """
    sealed = vma.flags & VM_SEALED and vma.is_anonymous
    return not sealed or bool(vma.flags & (VM_SHARED | VM_WRITE))
