"""What a protection permits, and changing what the entries of a range do.

Source: mm/mprotect.c change_protection(), which mprotect and its relatives all call.
"""

from engine.base.entry import (
    DIRTY,
    EXCLUSIVE,
    PRESENT,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    is_wp_marker,
)
from engine.base.geometry import PTE, Geometry
from engine.state.space import AddressSpace
from engine.state.table import Change
from engine.state.vma import VM_ACCESS, VM_EXEC, VM_PKEY_BIT0, VM_WRITE, Vma


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
            continue
        index = indices[0]
        first = base + index * slot
        if start <= first and first + slot <= end:
            space.tree.change(table, indices, change)
        else:
            space.split_huge(table, index)
            change_entries(space, max(start, first), min(end, first + slot), change)
    space.flush_tlb(start, end)


def write_protect(entries: list[int]) -> list[int]:
    """Writes fault from now on."""
    return [entry & ~WRITE for entry in entries]


def allow_writes(vma: Vma) -> Change:
    """The change that saves a page the fault at its next write, where nobody needs to notice it.

    Private pages must be exclusive: others are copied when written.
    Source: can_change_pte_writable(), 6.1.
    """
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
    change_entries(space, start, end, allow_writes(vma) if vma.flags & VM_WRITE else write_protect)
