"""What a protection permits, and changing what the entries of a range do.

Source: mm/mprotect.c change_protection(), which mprotect and its relatives all call.
"""

from functools import partial

from engine.base.entry import (
    ACCESSED,
    DIRTY,
    EXCLUSIVE,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    is_wp_marker,
)
from engine.base.geometry import PTE, Geometry
from engine.pages import contiguous
from engine.state.space import AddressSpace
from engine.state.table import Change, Table
from engine.state.vma import VM_ACCESS, VM_EXEC, VM_HUGETLB, VM_PKEY_BIT0, VM_SHARED, VM_WRITE, Vma

_MAY_DIFFER = DIRTY | ACCESSED | EXCLUSIVE  # in a batch


def access_flags(geometry: Geometry, prot: int) -> int:
    """The VM_ flags that say what a protection permits.

    PROT_EXEC with any other bit, PROT_SEM too, is not for executing alone.
    Source: calc_vm_prot_bits(); execute_only_pkey() in do_mmap(), arch_override_mprotect_pkey().
    """
    key = VM_PKEY_BIT0 if prot == VM_EXEC and geometry.exec_only_keys else 0
    return prot & VM_ACCESS | key


def change_entries(space: AddressSpace, start: int, end: int, change: Change) -> None:
    """Apply a change to every leaf of [start, end), bytes; tables stay.

    A huge page that lies only partly in the range is split first.
    """
    slot = space.geometry.slot_bytes
    for base, table, indices in space.tree.lowest(start, end):
        if table.level == PTE:
            space.tree.change(table, indices, change)
            contiguous.entries_set(space, table, indices)
            continue
        index = indices[0]
        first = base + index * slot
        if start <= first and first + slot <= end:
            space.tree.change(table, indices, change)
        else:
            space.split_huge(table, index)
            change_entries(space, max(start, first), min(end, first + slot), change)
    space.flush_tlb(start, end)


def change_protection(space: AddressSpace, start: int, end: int, change: Change) -> None:
    """Apply a change of protection, of mprotect or userfaultfd, to the leaves of [start, end).

    Since 6.17 entries of one large folio are taken in batches, which gather the dirty bits of all:
    on x86 what is made dirty becomes soft-dirty, though nobody has written.  A page alone does not.
    Measured on 6.16.12, 6.17.13 and 7.3.4.
    Source: change_pte_range(), mprotect_folio_pte_batch(), modify_prot_start_ptes(), 6.17.
    """
    if space.frames.large and space.kernel.protects_batches:
        space.split_huge_at(start)
        space.split_huge_at(end)
        for _, table, indices in space.tree.lowest(start, end):
            if table.level == PTE:
                _gather_dirty(space, table, indices)
    change_entries(space, start, end, change)


def _gather_dirty(space: AddressSpace, table: Table, indices: list[int]) -> None:
    """Give each batch what its entries have gathered.  Source: folio_pte_batch_flags()."""
    leaves, pages, at = table.leaves, space.geometry.slot_pages, 0
    while at < len(indices):
        first, count, gathered = leaves[indices[at]], 1, 0
        pfn = first >> PFN_SHIFT
        large = first & PRESENT and pfn - pfn % pages in space.frames.large
        room = min(pages - pfn % pages if large else 1, len(indices) - at)
        while (
            count < room
            and indices[at + count] == indices[at] + count
            and not (leaves[indices[at + count]] ^ first + (count << PFN_SHIFT)) & ~_MAY_DIFFER
        ):
            gathered |= leaves[indices[at + count]] & DIRTY
            count += 1
        gained = DIRTY | SOFT_DIRTY if gathered else first & DIRTY
        if count > 1 and gained:
            batch = indices[at : at + count]
            space.tree.change(table, batch, partial(_with, gained))
        at += count


def _with(bits: int, entries: list[int]) -> list[int]:
    return [entry | bits for entry in entries]


def _unchanged(entries: list[int]) -> list[int]:
    return entries


def write_protect(entries: list[int]) -> list[int]:
    """Writes fault from now on."""
    return [entry & ~WRITE for entry in entries]


def allow_writes(vma: Vma) -> Change:
    """The change that saves a page the fault at its next write, where nobody needs to notice it.

    Private pages must be exclusive: others are copied when written.  Those of hugetlb never get it.
    Source: can_change_pte_writable(), 6.1; hugetlb_change_protection(), vm_page_prot.
    """
    if vma.flags & VM_HUGETLB and not vma.flags & VM_SHARED:
        return _unchanged
    needed = PRESENT | DIRTY
    if vma.makes_copies:
        needed |= EXCLUSIVE
    if vma.tracked:
        needed |= SOFT_DIRTY

    def change(entries: list[int]) -> list[int]:
        return [e | WRITE if e & (needed | UFFD_WP) == needed else e for e in entries]

    return change


def end_uffd_protection(vma: Vma) -> Change:
    """The change that ends what userfaultfd protects; marks for later go.

    Source: MM_CP_UFFD_WP_RESOLVE, MM_CP_UFFD_RWP_RESOLVE.
    """
    allow = allow_writes(vma)

    def change(entries: list[int]) -> list[int]:
        ended = [0 if is_wp_marker(e) else e & ~UFFD_WP for e in entries]
        return allow(ended) if vma.flags & VM_WRITE else ended

    return change


def protection_changed(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Adapt the entries of [start, end) in `vma`, whose VM_WRITE has changed."""
    change = allow_writes(vma) if vma.flags & VM_WRITE else write_protect
    change_protection(space, start, end, change)
