"""The reverse map: where a page is mapped; and migration, which depends on finding all its places.

A private page is looked for by its anon_vma and index, one of a shared object by the object and
index, in every VMA that has these.  What is not found there is missed, whatever the tables hold.
Source: mm/rmap.c rmap_walk(), vma_address(); mm/migrate.c, Linux 6.1 to 6.18.
"""

from collections.abc import Iterator

from engine.base.address import Range, round_down
from engine.base.entry import (
    ANON,
    DIRTY,
    MARKER,
    MIGRATION,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    SWAP,
)
from engine.base.geometry import PTE
from engine.base.points import ANON_VMA, I_MMAP, REMOVE_MIGRATION_PTES, TRY_TO_MIGRATE
from engine.base.violation import Violation
from engine.state import terms
from engine.state.backing import Backing
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import VM_STACK_INCOMPLETE, Vma
from engine.vmas.merge import reusable_anon_vma


def prepare_anon_vma(space: AddressSpace, vma: Vma) -> None:
    """Give a VMA an anon_vma before its first anonymous page.  Source: __anon_vma_prepare()."""
    if vma.anon_vma is None:
        vma.link_to(reusable_anon_vma(space.vmas, vma) or space.new_anon_vma())


def walk(space: AddressSpace, pfn: int) -> Iterator[tuple[Vma, int]]:
    """The VMAs that may map frame `pfn`, in their order, and the address at which each would."""
    owner, index = space.frames.owner[pfn], space.frames.index[pfn]
    if owner is None:
        return
    shift = space.geometry.page_shift
    mapping = [vma for vma in space.vmas if owner is vma.link or owner is vma.backing]
    for vma in sorted(mapping, key=lambda vma: (vma.pgoff, vma.age)):
        addr = vma.start + ((index - vma.pgoff) << shift)
        if vma.start <= addr < vma.end:
            yield vma, addr


def mappings_of(
    space: AddressSpace, backing: Backing, low: int, high: int
) -> Iterator[tuple[Vma, int, int]]:
    """The VMAs that map some of an object's pages [low, high), and where: [start, end), bytes.

    Source: vma_interval_tree_foreach().
    """
    shift = space.geometry.page_shift
    for vma in space.vmas.mapping(backing):
        first = vma.start + ((low - vma.pgoff) << shift)
        start, end = max(first, vma.start), min(first + ((high - low) << shift), vma.end)
        if start < end:
            yield vma, start, end


def unmap_object(
    space: AddressSpace, backing: Backing, low: int, high: int, *, even_cows: bool = False
) -> None:
    """Take an object's pages [low, high) out of all mappings; what userfaultfd needs is marked.

    Arguments: `even_cows`: the copies go, too, that private mappings have of them.
    Source: unmap_mapping_range(), try_to_unmap().
    """
    for _, start, end in mappings_of(space, backing, low, high):
        space.zap(start, end, keep=MARKER if even_cows else MARKER | ANON | SWAP)


def entry_of(space: AddressSpace, addr: int, pfn: int) -> tuple[Table, int] | None:
    """The table and index of the entry at `addr`, if it is for frame `pfn`."""
    place = space.tree.leaf_place(addr)
    if place is None:
        return None
    table, index = place
    if table.level > PTE:
        pfn = round_down(pfn, space.geometry.slot_pages)
    return place if table.leaves[index] >> PFN_SHIFT == pfn else None


def folio_of(space: AddressSpace, pfn: int) -> range:
    """The frames of the folio that frame `pfn` is part of."""
    pages = space.geometry.slot_pages
    first = pfn - pfn % pages
    return range(first, first + pages) if first in space.frames.large else range(pfn, pfn + 1)


def may_migrate(vma: Vma) -> bool:
    """False for a stack that exec is moving: its pages would not be found again (B-20).

    Source: invalid_migration_vma().
    """
    return vma.flags & VM_STACK_INCOMPLETE != VM_STACK_INCOMPLETE


def begin_migration(space: AddressSpace, pfn: int) -> None:
    """Put migration entries where the folio of frame `pfn` is mapped."""
    for _ in try_to_migrate(space, pfn):
        pass


def try_to_migrate(space: AddressSpace, pfn: int) -> Iterator[int]:
    """The same step by step: the address of each entry that has been found, and not locked yet.

    Model: who has waited for the lock of a table does not ask where that is by now, as until 6.12.
    Source: try_to_migrate(), map_pte(); 6.13 asks (pte_offset_map_rw_nolock()).
    """
    folio = folio_of(space, pfn)
    for page in folio:
        for vma, addr in walk(space, page):
            if page == folio.start:
                _visits(space, TRY_TO_MIGRATE, vma, addr, folio)
            found = entry_of(space, addr, page)
            if found is None or not may_migrate(vma):
                continue
            yield addr
            table, index = found
            if table.level > PTE and index not in table.leaves:  # it was split, or has moved
                found = entry_of(space, addr, page)
                if found is None:
                    continue
                table, index = found
            entry = table.leaves.get(index, 0)
            if entry & PRESENT:
                if entry & DIRTY:
                    space.frames.dirty.add(folio.start)
                space.tree.put(table, index, entry ^ (PRESENT | MIGRATION))
                space.flush_tlb(addr, addr + space.geometry.page_bytes)
                space.migrating[folio.start] = len(folio)


def end_migration(space: AddressSpace, first: int) -> None:
    """Let new frames take the place of the folio that begins at frame `first`."""
    for _ in remove_migration_ptes(space, first):
        pass


def remove_migration_ptes(space: AddressSpace, first: int) -> Iterator[int]:
    """The same step by step: the address of each place, before its table is locked.

    An entry that the reverse map does not find stays a migration entry for ever: I-15.
    Source: remove_migration_ptes(), with PVMW_SYNC.
    """
    frames, pages = space.frames, space.migrating.pop(first)
    if pages > 1:
        frames.large.discard(first)
        new = frames.allocate_large(pages, frames.index[first], frames.owner[first])
        frames.tag[new : new + pages] = frames.tag[first : first + pages]
    else:
        new = frames.allocate([frames.tag[first]], [frames.index[first]], frames.owner[first])
    frames.mlocked.discard(first)  # whoever maps the new one would lock it
    frames.inherit(range(new, new + 1), first)
    delta = (new - first) << PFN_SHIFT
    for page in range(first, first + pages):
        if page in space.held:
            space.held.remove(page)
            space.held.add(page + new - first)
        for vma, addr in walk(space, page):
            if page == first:
                _visits(space, REMOVE_MIGRATION_PTES, vma, addr, range(first, first + pages))
            yield addr
            found = entry_of(space, addr, page)
            if found is not None:
                table, index = found
                entry = table.leaves[index]
                if entry & MIGRATION:
                    if entry & DIRTY and space.kernel.migration_soft_dirty:
                        entry |= SOFT_DIRTY
                    space.tree.put(table, index, (entry ^ (PRESENT | MIGRATION)) + delta)
            if vma.backing.pages.get(frames.index[page]) == page:
                vma.backing.pages[frames.index[page]] = page + new - first
    _check_none_left(space, range(first, first + pages))


def _visits(space: AddressSpace, point: str, vma: Vma, addr: int, folio: range) -> None:
    """A walk comes to a place where a folio may be mapped, from `addr` on."""
    held = ANON_VMA if vma.is_anonymous else I_MMAP
    space.announce(point, addr, addr + (len(folio) << space.geometry.page_shift), held)


def _check_none_left(space: AddressSpace, folio: range) -> None:
    """I-15, as far as one thread can see it: the walk saw each place the page was at."""
    shifts, page = space.geometry.entry_shift, space.geometry.page_bytes
    for base, table in space.tree.leaf_tables():
        for index, entry in table.leaves.items():
            if entry & MIGRATION and entry >> PFN_SHIFT in folio:
                addr = base + (index << shifts[table.level])
                # The old frame: go on.
                space.tree.put(table, index, entry ^ (PRESENT | MIGRATION))
                space.report(
                    Violation(
                        "migration-left",
                        Range(addr, addr + page),
                        f"{terms.entry(entry)}, when the migration is over",
                        "every entry of a page found by the reverse map",
                    )
                )


def settle_shared(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """End the migrations of the object's pages that [start, end) of `vma` would map.

    Such a page is locked: who wants to map it waits.  Source: filemap_fault(), __folio_lock().
    """
    if space.migrating:
        low, high = space.page_index(vma, start), space.page_index(vma, end)
        settle_object(space, vma.backing, low, high)


def settle_object(space: AddressSpace, backing: Backing, low: int, high: int) -> None:
    """End the migrations of an object's pages [low, high)."""
    frames = space.frames
    for first, pages in list(space.migrating.items()):
        index = frames.index[first]
        if frames.owner[first] is backing and index < high and low < index + pages:
            end_migration(space, first)


def wait_for_migration(space: AddressSpace, entry: int) -> None:
    """End the migration that keeps the page of `entry` away.

    Source: migration_entry_wait().
    """
    pfn = entry >> PFN_SHIFT
    pages = space.geometry.slot_pages
    first = pfn if pfn in space.migrating else pfn - pfn % pages
    if first in space.migrating:
        end_migration(space, first)
