"""Unmapping as munmap(2) does; mmap and mremap do the same to what is in their way.

Source: mm/mmap.c, mm/vma.c, Linux 6.1 to 6.18.
"""

from itertools import takewhile

from engine.base.address import round_up
from engine.base.failures import VmaRefused
from engine.base.uapi import Errno
from engine.state.space import AddressSpace
from engine.state.vma import VM_SEALED, Vma


def unmap(space: AddressSpace, start: int, length: int) -> Errno | None:
    """Unmap as munmap(2) does.  A sealed VMA in the range keeps all of it mapped, perhaps split.

    Source: do_vmi_munmap(), do_vmi_align_munmap(); vms_gather_munmap_vmas() in 6.12.
    """
    geometry = space.geometry
    if start & (geometry.page_bytes - 1) or length > geometry.user_top - start:
        return Errno.EINVAL  # mark: unmap-unaligned-or-outside
    length = round_up(length, geometry.page_bytes)
    if not length:
        return Errno.EINVAL  # mark: unmap-of-nothing
    end = start + length
    if space.vmas.intersection(start, end) is None:
        return None  # mark: unmap-of-a-hole
    return make_removable(space, start, end) or _unmap(space, start, end)


def make_removable(space: AddressSpace, start: int, end: int) -> Errno | None:
    """May [start, end) be unmapped?

    What is sealed further up is found VMA by VMA, when the first one has been cut at `start`, and
    that cut remains, and so does what userfaultfds are told of the VMAs before: measured on
    6.12.43, 6.17.13 and 6.18.44.  6.10 and 6.11 look before.
    Precondition: something is mapped there.
    Returns: EPERM if something in it is sealed; ENOMEM if cutting one VMA in three would pass the
    limit, or if there is no memory to cut it.
    Source: vms_gather_munmap_vmas() in 6.12; do_vmi_munmap() in 6.10.
    """
    vmas = space.vmas.intersecting(start, end)
    first, sealed = vmas[0], any(vma.flags & VM_SEALED for vma in vmas)
    if sealed and space.kernel.seals_asked_first:
        return Errno.EPERM  # mark: unmap-seal-asked-first
    if first.start < start and end < first.end and space.map_count_exceeded(1):
        return Errno.ENOMEM  # mark: unmap-cuts-too-many
    if not sealed:
        return None
    if not first.flags & VM_SEALED:
        try:
            space.split_at(start)
        except VmaRefused as refused:
            return Errno(refused.error)  # mark: unmap-cut-before-seal-refused
        space.tell_unmapped(takewhile(_is_open, vmas), start, end)  # mark: unmap-cut-before-seal
    return Errno.EPERM


def _is_open(vma: Vma) -> bool:
    return not vma.flags & VM_SEALED


def _unmap(space: AddressSpace, start: int, end: int) -> Errno | None:
    """Unmap [start, end), which may be.  Returns: the error of a split that failed."""
    try:
        space.unmap(start, end)
    except VmaRefused as refused:
        return Errno(refused.error)  # mark: unmap-split-refused
    return None
