"""Transparent huge pages: when a fault makes one, and what splitting the page behind it shows.

A huge page is a leaf in a PMD table that maps a whole slot of one large folio.  Splitting the leaf
(`AddressSpace.split_huge`) keeps the folio; splitting the folio is a second step that reclaim-like
advice takes.  Model: huge pages are one slot, and only where MADV_HUGEPAGE asks for them
(transparent_hugepage/enabled is "madvise"); allocating one never fails.
"""

from engine.base.address import round_down
from engine.base.entry import (
    ANON,
    DIRTY,
    EXCLUSIVE,
    HUGE,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    UFFD_WP,
    WRITABLE,
    WRITE,
    ZERO_ENTRY,
    is_zero_page,
    leaf,
)
from engine.base.geometry import PMD, PTE
from engine.pages.cow import WRITTEN, make_present
from engine.pages.rmap import folio_of, prepare_anon_vma
from engine.pages.swapin import swap_in
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import (
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_NOHUGEPAGE,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    Vma,
)

HUGE_ANON = WRITTEN | ANON | EXCLUSIVE | HUGE
HUGE_SHARED = WRITTEN | HUGE
HUGE_ZERO = ZERO_ENTRY | HUGE


def covers_slot(space: AddressSpace, vma: Vma, addr: int) -> bool:
    """Does the whole slot around `addr` lie inside the VMA?"""
    slot = space.geometry.slot_bytes
    first = round_down(addr, slot)
    return vma.start <= first and first + slot <= vma.end


def access_huge(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, *, write: bool
) -> bool:
    """Access private pages [start, end) of one slot through a huge page, made if it may be.

    Arguments: `tag` what the page at `start` gets, counting up; 0 changes no content.
    Returns: False if the slot is not (or no longer) mapped by a huge page.
    Source: mm/huge_memory.c do_huge_pmd_anonymous_page(), do_huge_pmd_wp_page().
    """
    tree = space.tree
    table, index = tree.find(start, PMD), tree.index(start, PMD)
    if table is not None and index in table.tables:
        return False
    entry = table.leaves.get(index) if table is not None else None
    if entry is None:
        # A missing page that userfaultfd asks for comes as a small one.
        if vma.flags & (VM_HUGEPAGE | VM_UFFD_MISSING) != VM_HUGEPAGE:
            return False
        if not covers_slot(space, vma, start):
            return False
        table = tree.make(start, PMD)
        prepare_anon_vma(space, vma)  # also for the huge zero page
        tree.set_huge(table, index, HUGE_ZERO)
        if write:
            _replace_zero(space, vma, table, index, start)
    elif write and entry & UFFD_WP and vma.flags & VM_UFFD_WP:
        assert table is not None
        space.split_huge(table, index)  # a page at a time, by the monitor or by wp_huge_pmd()
        return False
    elif write and is_zero_page(entry):
        assert table is not None
        if not space.kernel.huge_zero_write_allocates:
            space.split_huge(table, index)
            return False
        prepare_anon_vma(space, vma)
        _replace_zero(space, vma, table, index, start)
    elif entry & (needed := WRITABLE | DIRTY if write else PRESENT) != needed:
        assert table is not None
        if not _regain(space, vma, table, index, write=write):
            return False
    if tag:
        assert table is not None
        first = table.leaves[index] >> PFN_SHIFT
        first += start >> space.geometry.page_shift & space.geometry.index_mask[PTE]
        count = (end - start) >> space.geometry.page_shift
        space.frames.tag[first : first + count] = range(tag, tag + count)
    return True


def _regain(space: AddressSpace, vma: Vma, table: Table, index: int, *, write: bool) -> bool:
    """Access a huge page under migration, or write to one that is write-protected.

    Returns: False if a child maps it, too: it was split, and its pages are copied one by one.
    """
    entry = make_present(space, vma, table, index)
    if write:
        if (
            entry & ANON
            and not entry & EXCLUSIVE
            and not space.held.isdisjoint(folio_of(space, entry >> PFN_SHIFT))
        ):
            space.split_huge(table, index)
            return False
        entry = entry | WRITTEN | (EXCLUSIVE if entry & ANON else 0)
        space.tree.put(table, index, entry)
    return True


def _replace_zero(space: AddressSpace, vma: Vma, table: Table, index: int, addr: int) -> None:
    """Put a fresh large folio where the huge zero page is."""
    pages = space.geometry.slot_pages
    first_index = space.page_index(vma, round_down(addr, space.geometry.slot_bytes))
    pfn = space.frames.allocate_large(pages, first_index, vma.anon_vma)
    space.tree.put(table, index, leaf(pfn, HUGE_ANON))


def map_shared_huge(space: AddressSpace, vma: Vma, addr: int, *, write: bool) -> bool:
    """Map the slot of a shared object by a huge leaf if its pages are one large folio.

    Returns: False if they are not, or the slot has a PTE table or does not fit, or userfaultfd
    wants to be asked page by page.
    Source: mm/memory.c do_set_pmd().
    """
    tree, pages = space.tree, space.geometry.slot_pages
    table, index = tree.find(addr, PMD), tree.index(addr, PMD)
    if table is not None and index in table.tables:
        return False
    entry = table.leaves.get(index) if table is not None else None
    if entry is not None:
        if entry & (needed := WRITABLE if write else PRESENT) != needed:
            assert table is not None
            _regain(space, vma, table, index, write=write)
        return True
    if vma.flags & VM_UFFD_MINOR or not covers_slot(space, vma, addr):
        return False
    if space.page_index(vma, addr) >= vma.backing.size_pages:
        return False  # the object does not go that far, though its last huge page does
    linear = space.page_index(vma, round_down(addr, space.geometry.slot_bytes))
    first = vma.backing.pages.get(linear)
    if first is None or linear % pages or first not in space.frames.large:
        return False
    if vma.flags & VM_NOHUGEPAGE and space.kernel.refuses_shared_huge:
        return False
    if linear in vma.backing.swapped:
        if vma.uffd is not None:
            return False  # it comes page by page
        swap_in(space, vma.backing, linear)
    flags = HUGE_SHARED if write else HUGE_SHARED & ~(WRITE | DIRTY | SOFT_DIRTY)
    tree.set_huge(tree.make(addr, PMD), index, leaf(first, flags))
    return True


def folio_mappings(space: AddressSpace, first: int) -> tuple[int, list[int]]:
    """How often huge leaves map the large folio at frame `first`, and which frames PTEs map."""
    huge, small, pages = 0, [], space.geometry.slot_pages
    for _, table in space.tree.leaf_tables():
        for entry in table.leaves.values():
            if first <= entry >> PFN_SHIFT < first + pages:
                if table.level == PMD:
                    huge += 1
                else:
                    small.append(entry >> PFN_SHIFT)
    return huge, small


def split_shared_folio(space: AddressSpace, first: int) -> None:
    """Split the large folio of a shared object that begins at frame `first`: nobody maps it then.

    Source: split_huge_page_to_list(), whose unmap_folio() is not undone for files.
    """
    pages = space.geometry.slot_pages
    space.frames.large.discard(first)
    space.frames.inherit(range(first, first + pages), first)
    unmap_folio(space, first, pages)


def unmap_folio(space: AddressSpace, first: int, pages: int) -> None:
    """Take a folio of a shared object, `pages` frames from `first` on, out of all mappings.

    What userfaultfd write-protects leaves its mark.
    """
    space.tlb.flush_frames(first, pages)
    for base, table in list(space.tree.leaf_tables()):
        shift = space.geometry.entry_shift[table.level]
        for index, entry in list(table.leaves.items()):
            if first <= entry >> PFN_SHIFT < first + pages:
                if table.level == PMD:
                    space.split_huge(table, index)
                else:
                    vma = space.vmas.lookup(base + (index << shift))
                    space.unmap_pages(vma, table, [index])


def split_folio(space: AddressSpace, first: int) -> None:
    """Split the large anonymous folio that begins at frame `first`.

    Its pages that were never written are replaced by the zero page wherever they are mapped, except
    in locked memory (since 6.12; before, splitting shows nothing).  If one was written since
    MADV_FREE, all count as written.  All are under migration meanwhile.
    Source: split_huge_page_to_list_to_order(), try_to_map_unused_to_zeropage().
    """
    space.frames.large.discard(first)
    pages, tags = space.geometry.slot_pages, space.frames.tag
    shift = space.geometry.page_shift
    for _, table in space.tree.leaf_tables():
        if table.level == PMD:
            for index, entry in list(table.leaves.items()):
                if entry & ANON and entry >> PFN_SHIFT == first:
                    space.split_huge(table, index, freeze=True)
    for base, table in space.tree.leaf_tables():
        if table.level != PTE:
            continue
        for index, entry in table.leaves.items():
            pfn = entry >> PFN_SHIFT
            if not (first <= pfn < first + pages and entry & ANON):
                continue
            if entry & DIRTY:
                space.frames.dirty.add(first)
                if space.kernel.migration_soft_dirty:
                    entry |= SOFT_DIRTY
                    space.tree.put(table, index, entry)
            if not tags[pfn]:
                vma = space.vmas.lookup(base + (index << shift))
                locked = vma is None or vma.flags & VM_LOCKED or first in space.frames.mlocked
                if not locked and space.kernel.zero_pages_on_split:
                    kept = entry & (SOFT_DIRTY | UFFD_WP)
                    space.tree.put(table, index, ZERO_ENTRY | kept)
                    space.tlb.flush_frames(pfn, 1)
    space.frames.inherit(range(first, first + pages), first)
