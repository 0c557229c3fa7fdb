"""What the kernel does to pages on its own account: swapping, migrating, tracking of writes.

Nobody calls these but the kernel and its interfaces; as calls of a case they bring entries into the
states that a move has to carry along.  Contents change only where they may be dropped.
Source: mm/vmscan.c, mm/rmap.c try_to_unmap(), mm/migrate.c, fs/proc/task_mmu.c, Linux 6.1 to 6.18.
"""

from collections.abc import Generator, Iterable, Set

from engine.base.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    MIGRATION,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    SWAP,
    WRITE,
    is_zero_page,
)
from engine.base.geometry import PMD, PTE
from engine.base.points import ANON_VMA, I_MMAP, NONE, TRY_TO_UNMAP, TRY_TO_UNMAP_FLUSH
from engine.base.uapi import Errno
from engine.pages.huge import folio_mappings, split_folio, split_shared_folio
from engine.pages.pageout import (
    advised,
    split_partial_folios,
    split_partial_shared,
    unmap_shared,
)
from engine.pages.protect import change_entries
from engine.pages.rmap import folio_of, remove_migration_ptes, try_to_migrate
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import VM_DROPPABLE, VM_HUGETLB, VM_LOCKED, Vma

_GOES_TO_SWAP = PRESENT | WRITE | DIRTY | ACCESSED | ANON  # what a swap entry does not have


def swapout(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Swap out the pages of [addr, addr + length), bytes, that nothing else maps.

    Large folios are split first if the range does not cover them; locked pages and those of
    children stay.  What may be dropped is not written to swap, but dropped, and so are pages of an
    object that nobody wrote.  Reclaim comes twice, as what was written since MADV_FREE stays the
    first time.
    Returns: None, or EINVAL for a range that is not of whole pages.
    Source: try_to_unmap_one(), shmem_writeout(); measured as MADV_PAGEOUT, 6.1.176 to 7.3.4.
    """
    page, mask = space.geometry.page_bytes, space.geometry.word_mask
    end = (addr + length) & mask
    if (addr | length) & (page - 1) or end < addr:
        return Errno.EINVAL
    for _ in range(2 if space.frames.lazyfree else 1):
        for vma in space.vmas.intersecting(addr, end) if addr < end else []:
            if not vma.flags & (VM_LOCKED | VM_HUGETLB) and vma.backing.on_lru:
                page_out(space, vma, max(vma.start, addr), min(vma.end, end))
    space.announce(TRY_TO_UNMAP_FLUSH, addr, end, NONE)
    return None


def page_out(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Swap out [start, end), bytes, of one VMA, which is neither locked nor of hugetlb."""
    if vma.makes_copies:
        _swap_out_private(space, vma, start, end)
    if not vma.is_anonymous:
        _swap_out_shared(space, vma, start, end)
    space.tlb.put_off()


def _swap_out_private(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """A large folio that the range covers goes as a whole, also what of it was never written.

    On some architectures it is split instead.
    What MADV_FREE was called for is dropped, or stays.
    """
    split_partial_folios(space, start, end)
    stays = space.frames.lazyfree.copy()
    space.announce(TRY_TO_UNMAP, start, end, ANON_VMA)
    drop(space, vma, start, end)
    whole = [first for first in _large_folios(space, start, end) if first not in stays]
    if not space.geometry.swaps_large:
        for first in whole:
            split_folio(space, first)
        whole = []
    for _, table, indices in list(space.tree.lowest(start, end)):
        if table.level == PMD and _goes(space, table.leaves[indices[0]], stays):
            space.split_huge(table, indices[0])
    for _, table, indices in advised(space, start, end):
        if table.level == PTE:
            _swap_out(space, table, indices, stays)
    pages = space.geometry.slot_pages
    for first in whole:
        space.frames.large.discard(first)  # its pages come back one by one
        space.frames.inherit(range(first, first + pages), first)


def _swap_out_shared(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    space.announce(TRY_TO_UNMAP, start, end, I_MMAP)
    pages = space.geometry.slot_pages
    frames = [e >> PFN_SHIFT for _, _, e in space.tree.leaves(start, end)]
    folios = {pfn - pfn % pages for pfn in frames} if space.frames.large else set()
    split_partial_shared(space, start, end, pageout=True)
    unmapped = unmap_shared(space, vma, start, end)
    for first in folios & space.frames.large:
        if not any(folio_mappings(space, first)):
            index = space.frames.index[first]
            past_object = index < vma.backing.size_pages < index + pages
            in_large = space.kernel.swaps_in_large and space.geometry.swaps_large
            if past_object or not in_large:
                split_shared_folio(space, first)
            unmapped += range(index, index + pages)
    vma.backing.swapped.update(unmapped)
    space.flush_tlb(start, end)  # what is written back is flushed before


def drop(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Take away the private pages of [start, end), bytes, that need no swap: they read as zeroes.

    In droppable memory that is all of them, elsewhere what MADV_FREE was called for and nobody has
    written since; what was written is as any other from now on.
    Precondition: the range covers the large folios in it.  What flushes TLBs is left to the caller.
    Source: mm/rmap.c try_to_unmap_one(), mm/huge_memory.c __discard_anon_folio_pmd_locked().
    """
    droppable, frames = bool(vma.flags & VM_DROPPABLE), space.frames
    if not (droppable or frames.lazyfree):
        return
    for _, table, indices in list(space.tree.lowest(start, end)):
        if table.level == PMD:
            for index in indices:
                if _needs_no_swap(space, table.leaves[index], droppable):
                    _drop_huge(space, table, index, droppable)
    for _, table, indices in advised(space, start, end):
        if table.level == PTE:
            there = [i for i in indices if _needs_no_swap(space, table.leaves[i], droppable)]
            if not droppable:
                there = _not_written(space, table, there)
            space.tree.take_all(table, there)


def _needs_no_swap(space: AddressSpace, entry: int, droppable: bool) -> bool:
    if droppable:
        return _is_private_page(entry)
    return _may_go(space, entry) and _folio(space, entry) in space.frames.lazyfree


def _drop_huge(space: AddressSpace, table: Table, index: int, droppable: bool) -> None:
    """Drop a huge page with its deposited table, or split it, for its pages to go one by one.

    One that was written since MADV_FREE stays: split, or from 6.15 to 6.17 huge.
    """
    kernel, folio = space.kernel, _folio(space, table.leaves[index])
    written = bool(table.leaves[index] & DIRTY) or folio in space.frames.dirty
    if kernel.drops_huge and (not written or (droppable and kernel.keeps_huge)):
        space.tree.clear_huge(table, index)
    elif written and kernel.keeps_huge:
        space.frames.dirty.add(folio)
        space.frames.lazyfree.discard(folio)
    else:
        space.split_huge(table, index)


def _not_written(space: AddressSpace, table: Table, indices: list[int]) -> list[int]:
    """Those of the pages at `indices` that nobody has written since MADV_FREE.

    The others are dirty from now on, as is all of a large folio from the first of them on, or since
    6.15 from the beginning.
    """
    frames, leaves, clean = space.frames, table.leaves, []
    if frames.large and space.kernel.unmaps_large_folios:
        frames.dirty.update(_folio(space, leaves[i]) for i in indices if leaves[i] & DIRTY)
    for index in indices:
        folio = _folio(space, leaves[index])
        if leaves[index] & DIRTY:
            frames.dirty.add(folio)
        if folio in frames.dirty:
            frames.lazyfree.discard(folio)
        elif folio in frames.lazyfree:
            clean.append(index)
    return clean


def _folio(space: AddressSpace, entry: int) -> int:
    """The first frame of the folio of a page."""
    return folio_of(space, entry >> PFN_SHIFT).start


def _large_folios(space: AddressSpace, start: int, end: int) -> list[int]:
    """The first frames of the large folios that are mapped in a range, and may go to swap."""
    found: dict[int, None] = {}
    if space.frames.large:
        for _, table, indices in advised(space, start, end):
            for index in indices:
                entry = table.leaves[index]
                if _may_go(space, entry):
                    folio = folio_of(space, entry >> PFN_SHIFT)
                    if len(folio) > 1:
                        found[folio.start] = None
    return list(found)


def _is_private_page(entry: int) -> bool:
    return entry & (PRESENT | ANON) == PRESENT | ANON


def _may_go(space: AddressSpace, entry: int) -> bool:
    if not _is_private_page(entry):
        return False
    folio = folio_of(space, entry >> PFN_SHIFT)
    return space.held.isdisjoint(folio) and folio.start not in space.frames.mlocked


def _goes(space: AddressSpace, entry: int, stays: Set[int]) -> bool:
    return _may_go(space, entry) and not (stays and _folio(space, entry) in stays)


def _swap_out(space: AddressSpace, table: Table, indices: Iterable[int], stays: Set[int]) -> None:
    """Swap out the pages at `indices` but for those whose folio begins at a frame of `stays`."""
    for index in indices:
        entry = table.leaves[index]
        if _goes(space, entry, stays):
            space.tree.put(table, index, entry & ~_GOES_TO_SWAP | SWAP)


Walk = Generator[int, None, Errno | None]  # yields the addresses of places, before they are locked


def migrate_begin(space: AddressSpace, addr: int) -> Errno | None:
    """Begin to move the page at `addr`, bytes, to another frame: its entries are taken away.

    Returns: None; EFAULT if there is no page that could be migrated.  Source: try_to_migrate().
    """
    return _to_its_end(walk_to_migrate(space, addr))


def walk_to_migrate(space: AddressSpace, addr: int) -> Walk:
    """The same step by step."""
    entry = _leaf_at(space, addr)
    vma = space.vmas.lookup(addr)
    if entry is None or not entry & PRESENT or is_zero_page(entry):
        return Errno.EFAULT
    if vma is None or vma.flags & VM_HUGETLB:
        return Errno.EFAULT
    yield from try_to_migrate(space, entry >> PFN_SHIFT)
    return None


def migrate_end(space: AddressSpace, addr: int) -> Errno | None:
    """End the migration of the page at `addr`, bytes; of all pages if there is none.

    Returns: None.  Source: remove_migration_ptes().
    """
    return _to_its_end(walk_to_restore(space, addr))


def walk_to_restore(space: AddressSpace, addr: int) -> Walk:
    """The same step by step."""
    entry = _leaf_at(space, addr)
    here = None
    if entry is not None and entry & MIGRATION:
        pages, pfn = space.geometry.slot_pages, entry >> PFN_SHIFT
        here = next((f for f in (pfn, pfn - pfn % pages) if f in space.migrating), None)
    for first in list(space.migrating) if here is None else [here]:
        yield from remove_migration_ptes(space, first)
    return None


def _to_its_end(walk: Walk) -> Errno | None:
    """What comes of a walk that nobody stops."""
    while True:
        try:
            next(walk)
        except StopIteration as end:
            result: Errno | None = end.value
            return result


def _leaf_at(space: AddressSpace, addr: int) -> int | None:
    place = space.tree.leaf_place(addr)
    return None if place is None else place[0].leaves[place[1]]


def soft_dirty_clear(space: AddressSpace) -> None:
    """Begin to track writes: no page is soft-dirty, and the next write to each is noticed.

    As writing 4 to /proc/PID/clear_refs.  Source: clear_refs_write(), clear_soft_dirty().
    """
    for vma in space.vmas:
        if not vma.flags & VM_HUGETLB:
            change_entries(space, vma.start, vma.end, _clear)
        vma.tracked = True


def _clear(entries: list[int]) -> list[int]:
    return [e & ~(SOFT_DIRTY | WRITE) if e & PRESENT else e & ~SOFT_DIRTY for e in entries]
