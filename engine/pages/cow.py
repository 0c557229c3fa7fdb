"""What an access does about an entry that is there but does not allow it.

The page may be swapped out, under migration, write-protected for userfaultfd or for soft-dirty
tracking, or shared with a child.  The monitor of a userfaultfd is modelled as prompt: it takes the
protection away at once, and the access goes on.  Contents as this process sees them never change.
Source: mm/memory.c do_swap_page(), do_wp_page(), Linux 6.1 to 6.18.
"""

from engine.base.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    EXCLUSIVE,
    MIGRATION,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    SWAP,
    UFFD_WP,
    WRITABLE,
    WRITE,
    leaf,
)
from engine.base.geometry import PMD
from engine.base.uapi import UFFD_FEATURE_RWP_ASYNC
from engine.pages import contiguous
from engine.pages.protect import end_uffd_protection
from engine.pages.rmap import folio_of, prepare_anon_vma, wait_for_migration
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import (
    VM_HUGETLB,
    VM_UFFD_PROTECTED,
    VM_UFFD_RWP,
    VM_UFFD_WP,
    VM_WRITE,
    Vma,
)

WRITTEN = PRESENT | WRITE | DIRTY | ACCESSED | SOFT_DIRTY
COPIED = WRITTEN | ANON | EXCLUSIVE
DONE = WRITABLE | DIRTY  # a write to a private page whose entry has these changes nothing else


def end_rwp(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """[start, end) in a VMA is about to be accessed: the read-write protection of its pages ends.

    The kernel itself ends that of a huge page as a whole (UFFD_FEATURE_RWP_ASYNC); a monitor
    answers for the page that was asked for, which splits the huge page.  One of hugetlb is whole.
    Source: do_uffd_rwp(), do_huge_pmd_uffd_rwp(), gup_can_follow_protnone(), mrwprotect_range(),
    7.3.
    """
    if not vma.flags & VM_UFFD_RWP:
        return
    by_monitor = vma.uffd is not None and not vma.uffd.features & UFFD_FEATURE_RWP_ASYNC
    if by_monitor and not vma.flags & VM_HUGETLB and space.tree.huge:
        for _, table, indices in list(space.tree.lowest(start, end)):
            for index in indices if table.level == PMD else ():
                if table.leaves[index] & UFFD_WP:
                    space.split_huge(table, index)
    end_protection = end_uffd_protection(vma)
    for _, table, indices in space.tree.lowest(start, end):
        if protected := [i for i in indices if table.leaves[i] & UFFD_WP]:
            space.tree.change(table, protected, end_protection)


def make_present(space: AddressSpace, vma: Vma, table: Table, index: int) -> int:
    """Bring back the page of an entry that is swapped out or under migration.

    Returns: the entry, present now; SOFT_DIRTY and UFFD_WP are what they were.
    Source: do_swap_page(), pte_needs_soft_dirty_wp(), 6.12.
    """
    entry = table.leaves[index]
    if entry & MIGRATION:
        wait_for_migration(space, entry)
    elif entry & SWAP:
        exclusive = 0 if entry >> PFN_SHIFT in space.held else EXCLUSIVE
        present = PRESENT | ANON | ACCESSED
        unnoticed = not vma.tracked or entry & SOFT_DIRTY
        unwatched = not (entry & UFFD_WP and vma.flags & VM_UFFD_PROTECTED)
        if exclusive and vma.flags & VM_WRITE and unnoticed and unwatched:
            present |= WRITE if space.kernel.swaps_in_writable else 0
        space.tree.put(table, index, entry & ~SWAP | present | exclusive)
    return table.leaves[index]


def make_writable(space: AddressSpace, vma: Vma, table: Table, index: int) -> int:
    """Write to the page of an entry of a PTE table that lacks WRITE.

    Precondition: the VMA allows it, and the entry is not a marker.
    Returns: the entry for the page that the write goes to.
    """
    entry = make_present(space, vma, table, index)
    if vma.flags & VM_UFFD_WP:
        entry &= ~UFFD_WP  # what nobody waits for any more stays (B-07)
    if not entry & ANON:
        if vma.makes_copies:
            prepare_anon_vma(space, vma)
            entry = _copied(space, vma, entry & ~UFFD_WP)
    elif not entry & EXCLUSIVE:
        if may_reuse(space, entry):
            entry |= EXCLUSIVE
        else:
            entry = _copied(space, vma, entry & ~UFFD_WP)
    more_rights = not entry & WRITE
    entry |= WRITTEN
    space.tree.put(table, index, entry)
    if more_rights:
        contiguous.entry_set(space, table, index)
    return entry


def written(space: AddressSpace, vma: Vma, table: Table, index: int, *, marks: bool) -> int:
    """Write to the page of an entry of private memory, which is no marker.

    Arguments: `marks` false: found by get_user_pages(), which marks a page itself.
    Returns: the entry for the page that the write goes to.
    """
    entry = table.leaves[index]
    if entry & DONE == DONE:
        return entry
    if marks or entry & WRITABLE != WRITABLE:
        return make_writable(space, vma, table, index)
    space.frames.dirty.add(folio_of(space, entry >> PFN_SHIFT).start)
    return entry


def may_reuse(space: AddressSpace, entry: int) -> bool:
    """Is this process the last to map the page?  Then a write needs no copy.

    Source: wp_can_reuse_anon_folio(); pages of a large folio were always copied until 6.14.
    """
    folio = folio_of(space, entry >> PFN_SHIFT)
    return space.held.isdisjoint(folio) and (len(folio) == 1 or space.kernel.large_folio_reuse)


def _copied(space: AddressSpace, vma: Vma, entry: int) -> int:
    """A small page of our own with the same contents.  Source: wp_page_copy()."""
    frames, pfn = space.frames, entry >> PFN_SHIFT
    copy = frames.allocate([frames.tag[pfn]], [frames.index[pfn]], vma.anon_vma)
    return leaf(copy, COPIED)
