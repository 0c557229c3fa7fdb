"""userfaultfd(2): registering memory, write-protecting it, and what a move does to both.

A context is told by events what happens to the memory it is registered with, as far as its features
ask for that.  Between a change and its event the count `changing` is raised, and the monitor's own
requests are refused.  Model: there is one context for each set of features; its monitor is prompt:
events are taken when the call that caused them ends, a fault on a protected page takes the
protection away, one on a missing page maps the zero page (pages/cow.py, pages/fault.py).

An entry says by one bit that it is protected, against writes or, of memory registered for that,
against any access.
Source: fs/userfaultfd.c, mm/userfaultfd.c, Linux 6.1 to 7.3.
"""

from collections.abc import Iterable
from typing import NamedTuple

from engine.base.address import Range, round_down
from engine.base.entry import ANON, HUGE_WP_MARKER, MARKER, UFFD_WP, WRITE, is_guard, is_wp_marker
from engine.base.failures import VmaRefused
from engine.base.geometry import PMD, PTE
from engine.base.seam import seam
from engine.base.uapi import (
    UFFD_FEATURE_EVENT_FORK,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_REMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFD_FEATURE_EXACT_ADDRESS,
    UFFD_FEATURE_MINOR_HUGETLBFS,
    UFFD_FEATURE_MINOR_SHMEM,
    UFFD_FEATURE_MISSING_HUGETLBFS,
    UFFD_FEATURE_MISSING_SHMEM,
    UFFD_FEATURE_MOVE,
    UFFD_FEATURE_PAGEFAULT_FLAG_WP,
    UFFD_FEATURE_POISON,
    UFFD_FEATURE_RWP,
    UFFD_FEATURE_RWP_ASYNC,
    UFFD_FEATURE_SIGBUS,
    UFFD_FEATURE_THREAD_ID,
    UFFD_FEATURE_WP_ASYNC,
    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
    UFFD_FEATURE_WP_UNPOPULATED,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_RWP,
    UFFDIO_REGISTER_MODE_WP,
    Errno,
)
from engine.pages.protect import change_entries, change_protection, end_uffd_protection
from engine.state.space import AddressSpace
from engine.state.table import OutOfTables
from engine.state.vma import (
    VM_ACCESS,
    VM_DONTCOPY,
    VM_DROPPABLE,
    VM_HUGETLB,
    VM_UFFD,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_PROTECTED,
    VM_UFFD_RWP,
    VM_UFFD_WP,
    ToldEvent,
    UffdContext,
    Vma,
)
from engine.vmas.merge import modify

_FLAG_OF = {
    UFFDIO_REGISTER_MODE_MISSING: VM_UFFD_MISSING,
    UFFDIO_REGISTER_MODE_WP: VM_UFFD_WP,
    UFFDIO_REGISTER_MODE_MINOR: VM_UFFD_MINOR,
    UFFDIO_REGISTER_MODE_RWP: VM_UFFD_RWP,
}
# Features since 4.14, and those that came later, with the switch each came with.
_FEATURES = (
    UFFD_FEATURE_EVENT_FORK
    | UFFD_FEATURE_EVENT_REMAP
    | UFFD_FEATURE_EVENT_REMOVE
    | UFFD_FEATURE_EVENT_UNMAP
    | UFFD_FEATURE_MISSING_HUGETLBFS
    | UFFD_FEATURE_MISSING_SHMEM
    | UFFD_FEATURE_SIGBUS
    | UFFD_FEATURE_THREAD_ID
)
_LATER = {
    UFFD_FEATURE_PAGEFAULT_FLAG_WP: "uffd_write_protects",
    UFFD_FEATURE_MINOR_HUGETLBFS: "uffd_minor_hugetlb",
    UFFD_FEATURE_MINOR_SHMEM: "uffd_minor_shared",
    UFFD_FEATURE_EXACT_ADDRESS: "uffd_exact_address",
    UFFD_FEATURE_WP_HUGETLBFS_SHMEM: "uffd_wp_objects",
    UFFD_FEATURE_WP_UNPOPULATED: "uffd_wp_unpopulated",
    UFFD_FEATURE_POISON: "uffd_poison",
    UFFD_FEATURE_WP_ASYNC: "uffd_wp_async",
    UFFD_FEATURE_MOVE: "uffd_move",
    UFFD_FEATURE_RWP: "uffd_rwp",
    UFFD_FEATURE_RWP_ASYNC: "uffd_rwp",
}
_LATER_MODES = {
    UFFDIO_REGISTER_MODE_WP: "uffd_write_protects",
    UFFDIO_REGISTER_MODE_MINOR: "uffd_minor_hugetlb",
    UFFDIO_REGISTER_MODE_RWP: "uffd_rwp",
}
_MARK_ABSENT = UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC
_OF_64_BITS = (
    UFFD_FEATURE_PAGEFAULT_FLAG_WP
    | UFFD_FEATURE_MINOR_HUGETLBFS
    | UFFD_FEATURE_MINOR_SHMEM
    | UFFD_FEATURE_WP_HUGETLBFS_SHMEM
    | UFFD_FEATURE_WP_UNPOPULATED
    | UFFD_FEATURE_WP_ASYNC
    | UFFD_FEATURE_RWP
    | UFFD_FEATURE_RWP_ASYNC
)


def _is_valid(space: AddressSpace, addr: int, length: int) -> bool:
    """validate_range()."""
    geometry = space.geometry
    return (
        not (addr | length) & (geometry.page_bytes - 1)
        and length > 0
        and addr < geometry.user_top
        and length <= geometry.user_top - addr
    )


def _has_modes(space: AddressSpace, mode: int) -> bool:
    """May memory be registered for these?  Modes that came later need words of 64 bits."""
    known = UFFDIO_REGISTER_MODE_MISSING
    if space.geometry.word_bits == 64:
        for bit, switch in _LATER_MODES.items():
            if mode & bit and getattr(space.kernel, switch):
                known |= bit
    return mode != 0 and not mode & ~known


def _has_features(space: AddressSpace, features: int) -> bool:
    """May a userfaultfd be opened with them?

    Measured: bits 0 to 12 on 6.1.176, to 16 on 6.12.43, 6.18.44 and 7.2.13, to 18 on 7.3.4.
    Source: UFFD_API_FEATURES, userfaultfd_api().
    """
    if features & UFFD_FEATURE_RWP_ASYNC and not features & UFFD_FEATURE_RWP:
        return False
    if features & ~_FEATURES == 0:
        return True
    known = _FEATURES
    for bit, switch in _LATER.items():
        if features & bit and getattr(space.kernel, switch):
            known |= bit
    if space.geometry.word_bits < 64:
        known &= ~_OF_64_BITS
    return not features & ~known


def uffd_register(
    space: AddressSpace, addr: int, length: int, mode: int, features: int
) -> Errno | None:
    """Register [addr, addr + length), bytes, with the context of these features.

    Arguments: `mode` of UFFDIO_REGISTER_MODE_*; it replaces what the memory was registered for.
    Returns: None or the error; EBUSY if part of it is registered with another context, or for a
    protection that would end.
    Source: userfaultfd_register().
    """
    if not _has_modes(space, mode) or not _is_valid(space, addr, length):
        return Errno.EINVAL
    added = sum(flag for bit, flag in _FLAG_OF.items() if mode & bit)
    if added & VM_UFFD_RWP and (added & VM_UFFD_WP or not features & UFFD_FEATURE_RWP):
        return Errno.EINVAL
    end, slot = addr + length, space.geometry.slot_bytes
    vmas = space.vmas.intersecting(addr, end)
    if not vmas or not _has_features(space, features):
        return Errno.EINVAL
    if vmas[0].flags & VM_HUGETLB and addr & (slot - 1):  # also in the hole before it
        return Errno.EINVAL
    context = space.uffds.get(features) or UffdContext(features)
    for vma in vmas:
        if not vma.backing.can_userfault(space.kernel, mode):
            return Errno.EINVAL
        if vma.flags & VM_DROPPABLE and space.kernel.uffd_refuses_droppable:
            return Errno.EINVAL
        if added & VM_UFFD_RWP and not vma.flags & VM_ACCESS:
            return Errno.EINVAL  # it could not be made accessible again
        if vma.flags & VM_HUGETLB and min(vma.end, end) & (slot - 1):
            return Errno.EINVAL
        if vma.uffd is not None and vma.uffd is not context:
            return Errno.EBUSY
        if vma.flags & VM_UFFD_PROTECTED & ~added and space.kernel.uffd_keeps_protection:
            return Errno.EBUSY  # its marks would be taken for those of the other mode
    space.uffds[features] = context
    # It matters only if what merges is not soft-dirty alike.
    alike = len({vma.tracked for vma in space.vmas}) < 2
    adds = not alike and space.kernel.uffd_adds_flags
    cursor = addr
    while cursor < end and (here := space.vmas.intersection(cursor, end)) is not None:
        start, stop = max(here.start, cursor), min(here.end, end)
        if here.uffd is not context or here.flags & added != added:
            flags = here.flags & ~VM_UFFD | added
            try:
                modify(space.kernel, space.vmas, here, start, stop, flags, context, adds=adds)
            except VmaRefused:
                return Errno.ENOMEM
        cursor = stop
    return None


def uffd_wp(space: AddressSpace, addr: int, length: int, on: int) -> Errno | None:
    """Write-protect [addr, addr + length), bytes, for the monitor, or take that away (`on` 0).

    Returns: None or the error: EAGAIN while mappings change, ENOENT for memory that is not
    registered for it; what lies before that is done.  Source: mwriteprotect_range().
    """
    if not _is_valid(space, addr, length):
        return Errno.EINVAL
    end = addr + length
    vmas = space.vmas.intersecting(addr, end)
    if vmas and vmas[0].uffd is not None and vmas[0].uffd.changing:
        return Errno.EAGAIN
    if not vmas:
        return Errno.ENOENT
    if not vmas[0].range.contains(Range(addr, end)) and not space.kernel.uffd_wp_spans_vmas:
        return Errno.ENOENT
    for vma in vmas:
        if not vma.flags & VM_UFFD_WP:
            return Errno.ENOENT
        start, stop = max(vma.start, addr), min(vma.end, end)
        if vma.flags & VM_HUGETLB and (addr | length) & (space.geometry.slot_bytes - 1):
            return Errno.EINVAL
        try:
            if on:
                _protect(space, vma, start, stop)
            else:
                _end_protection(space, vma, start, stop)
        except OutOfTables:
            return Errno.ENOMEM
    return None


def _protect(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Mark what is mapped; in shared memory also what is not: the object may have the page.

    So it is with hugetlb.  In private memory that takes WP_UNPOPULATED, or WP_ASYNC.
    Errors raised: OutOfTables.
    Source: change_pte_range(), userfaultfd_wp_use_markers(), hugetlb_change_protection().
    """
    assert vma.uffd is not None
    if vma.flags & VM_HUGETLB:
        _protect_hugetlb(space, start, end)
        return
    private = vma.is_anonymous
    if private:
        change_protection(space, start, end, _mark)
        if not vma.uffd.features & _MARK_ABSENT:
            return
    shift, slot = space.geometry.page_shift, space.geometry.slot_bytes
    mask = space.geometry.index_mask[PTE]
    for base in range(round_down(start, slot), end, slot):
        low, high = max(start, base), min(end, base + slot)
        if private and (place := space.tree.leaf_place(low)) and place[0].level != PTE:
            continue  # marked as a whole
        space.split_huge_leaf(low)
        table = space.tree.make(low, PTE)
        indices = range(low >> shift & mask, (high - 1 >> shift & mask) + 1)
        absent = [i for i in indices if i not in table.leaves]
        space.tree.change(table, [i for i in indices if i in table.leaves], _mark)
        space.tree.put_all(table, absent, [MARKER | UFFD_WP] * len(absent))
    space.flush_tlb(start, end)


def _protect_hugetlb(space: AddressSpace, start: int, end: int) -> None:
    for addr in range(start, end, space.geometry.slot_bytes):
        table, index = space.tree.make(addr, PMD), space.tree.index(addr, PMD)
        if index in table.leaves:
            space.tree.change(table, (index,), _mark)
        else:
            space.tree.set_huge(table, index, HUGE_WP_MARKER)
    space.flush_tlb(start, end)


def _mark(entries: list[int]) -> list[int]:
    return [e if is_guard(e) else e & ~WRITE | UFFD_WP for e in entries]


def _end_protection(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    if vma.flags & VM_HUGETLB:
        for _, table, indices in space.tree.lowest(start, end):
            for index in [i for i in indices if is_wp_marker(table.leaves[i])]:
                space.tree.clear_huge(table, index)
    change_protection(space, start, end, end_uffd_protection(vma))


def uffd_rwp(space: AddressSpace, addr: int, length: int, on: int) -> Errno | None:
    """Keep reads and writes of [addr, addr + length), bytes, for the monitor, or end that (`on` 0).

    What is not there is not protected, so neither is a huge page of shared memory: it is split,
    which unmaps it.
    Returns: None or the error, as `uffd_wp`, but then nothing is done.
    Source: mrwprotect_range(), pgtable_split_needed(), 7.3.
    """
    if not _is_valid(space, addr, length) or not space.kernel.uffd_rwp:
        return Errno.EINVAL
    end = addr + length
    vmas = space.vmas.intersecting(addr, end)
    if vmas and vmas[0].uffd is not None and vmas[0].uffd.changing:
        return Errno.EAGAIN
    for vma in vmas:
        if not vma.flags & VM_UFFD_RWP:
            return Errno.ENOENT
        if vma.flags & VM_HUGETLB and (addr | length) & (space.geometry.slot_bytes - 1):
            return Errno.EINVAL
    for vma in vmas:
        start, stop = max(vma.start, addr), min(vma.end, end)
        if on and not vma.is_anonymous and not vma.flags & VM_HUGETLB:
            for low in range(round_down(start, slot := space.geometry.slot_bytes), stop, slot):
                space.split_huge_leaf(low)
        if on:
            change_protection(space, start, stop, _mark)
        else:
            _end_protection(space, vma, start, stop)
    return None if vmas else Errno.ENOENT


# --- moves ---------------------------------------------------------------------------------------


def is_armed(vma: Vma) -> bool:
    """Does userfaultfd wait for faults in it?  (userfaultfd_armed)"""
    return bool(vma.flags & VM_UFFD)


class Mark(NamedTuple):
    """An entry with uffd-wp, and what it maps: bytes, and the level of its table."""

    start: int
    end: int
    level: int
    entry: int


def marks(vma: Vma, space: AddressSpace, start: int, length: int) -> list[Mark]:
    """The entries of [start, start + length), bytes, that a move clears of uffd-wp."""
    if not vma.uffd_stays_behind or not space.kernel.uffd_wp_cleared:
        return []
    found = []
    for base, table, indices in space.tree.lowest(start, start + length):
        shift = space.geometry.entry_shift[table.level]
        for index in indices:
            if table.leaves[index] & UFFD_WP:
                at = base + (index << shift)
                found.append(Mark(at, at + (1 << shift), table.level, table.leaves[index]))
    return found


def put_back(space: AddressSpace, cleared: Iterable[Mark]) -> None:
    """A move failed, and its pages are back: so are their marks, if they were to be cleared last.

    Model: they are cleared on the way, as by kernels that do so for good. Nobody can tell that
    apart, for the mmap lock is held; but what a mover forgets to clear stays as it is.
    """
    for mark in cleared:
        if not space.kernel.uffd_wp_cleared_last:
            return  # mark: marks-lost-by-rollback
        # mark: marks-put-back, unreachable: no release has uffd_wp_cleared_last
        table = space.tree.find(mark.start, mark.level)
        index = space.tree.index(mark.start, mark.level)
        kept = is_wp_marker(mark.entry) or not mark.entry & ANON  # if others took it away meanwhile
        if kept and table is not None and table.entry(index) is None:
            space.tree.put(table, index, mark.entry if mark.level > PTE else MARKER | UFFD_WP)
        else:
            change_entries(space, mark.start, mark.end, _mark)


def moved(new_vma: Vma, source: Range, to: int) -> None:
    """Pages have moved from `source` to `to`, in `new_vma`: announce that, or let the copy go.

    Model, as the kernel: if the copy was merged, all of the merged VMA loses its context.
    Source: mremap_userfaultfd_prep().
    """
    context = new_vma.uffd
    if context is None:
        return  # mark: moved-unwatched
    if context.features & UFFD_FEATURE_EVENT_REMAP:
        context.prepare("remap", Range(to, to + source.length), source.start)  # mark: moved-told
    else:
        new_vma.uffd = None  # mark: moved-leaves-uffd
        new_vma.flags &= ~VM_UFFD


def removing(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """The pages of [start, end) are about to go; the monitor is told before they do.

    Source: userfaultfd_remove().
    """
    context = vma.uffd
    if context is not None and context.features & UFFD_FEATURE_EVENT_REMOVE:
        context.prepare("remove", Range(start, end))
        call_ended(space, failed=False)


def forking(space: AddressSpace) -> None:
    """A child is made, and watched, too, if that was asked for: its monitor gets it.

    Source: dup_userfaultfd(), dup_userfaultfd_complete().
    """
    copied = (vma.uffd for vma in space.vmas if vma.uffd and not vma.flags & VM_DONTCOPY)
    for context in dict.fromkeys(copied):
        if context.features & UFFD_FEATURE_EVENT_FORK:
            context.prepare("fork", Range(0, 0))
    call_ended(space, failed=False)


@seam
def call_ended(space: AddressSpace, *, failed: bool, evicted: Range | None = None) -> None:
    """Let the monitors have the events of the call that ends, which waits for each to be read.

    Arguments: `evicted` where a move has unmapped what was in its way.  A move that failed is not
    told, but the count it holds is given back all the same.
    Source: mremap_userfaultfd_complete(), mremap_userfaultfd_fail(), userfaultfd_unmap_complete().
    """
    told: list[ToldEvent] = []
    for context in space.uffds.values():
        told += context.complete("remap" if failed else "", evicted)
    space.uffd_events += [event for _, _, event in sorted(told)]
