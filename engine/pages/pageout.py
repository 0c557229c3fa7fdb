"""What is paged out: large folios of which only a part goes are split, shared pages are unmapped.

MADV_COLD and MADV_FREE split likewise.
Source: mm/madvise.c madvise_cold_or_pageout_pte_range(), mm/vmscan.c, Linux 6.1 to 7.3.
"""

from collections import Counter

from engine.base.entry import ANON, MARKER, PFN_SHIFT, PRESENT, UFFD_WP
from engine.base.geometry import PMD, PTE
from engine.pages import contiguous
from engine.pages.huge import folio_mappings, split_folio, split_shared_folio, unmap_folio
from engine.pages.rmap import folio_of
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import Vma

_PRIVATE_PAGE = ANON | PRESENT


def advised(space: AddressSpace, start: int, end: int) -> list[tuple[int, Table, list[int]]]:
    """The lowest tables of a range, as of `Tree.lowest`, with the entries that advice comes to.

    Until 6.10 it leaves a PTE table at the first page of a large folio that a child maps, too.
    Source: madvise_cold_or_pageout_pte_range(), madvise_free_pte_range(): page_mapcount(), 6.1.
    """
    found = list(space.tree.lowest(start, end))
    if space.kernel.advises_large_folios or not (space.held and space.frames.large):
        return found
    return [(base, table, _until_shared(space, table, some)) for base, table, some in found]


def _until_shared(space: AddressSpace, table: Table, indices: list[int]) -> list[int]:
    if table.level == PTE:
        for number, index in enumerate(indices):
            entry = table.leaves[index]
            if entry & _PRIVATE_PAGE == _PRIVATE_PAGE:
                pfn = entry >> PFN_SHIFT
                if pfn in space.held and len(folio_of(space, pfn)) > 1:
                    return indices[:number]
    return indices


def split_partial_folios(
    space: AddressSpace, start: int, end: int, *, for_swap: bool = False
) -> None:
    """Split each private large folio of which the range names a part, unless a child maps it, too.

    `for_swap`: also those that it covers, but for what may be dropped without and what is locked.

    A folio is covered if the range maps all of it in a row, inside one PTE table, with the same
    protection by userfaultfd; until 6.10 only if it does so by a huge page.
    Source: madvise_cold_or_pageout_pte_range(), folio_pte_batch(), shrink_folio_list().
    """
    frames = space.frames

    def stays(folio: int, *, covered: bool) -> bool:
        if not space.held.isdisjoint(range(folio, folio + pages)):
            return True
        return covered and not (
            for_swap and folio not in frames.lazyfree and folio not in frames.mlocked
        )

    pages, shift = space.geometry.slot_pages, space.geometry.page_shift
    for base, table, indices in advised(space, start, end):
        if table.level == PMD:
            entry = table.leaves[indices[0]]
            if entry & _PRIVATE_PAGE == _PRIVATE_PAGE:
                first = base + (indices[0] << space.geometry.entry_shift[PMD])
                covered = start <= first and first + space.geometry.slot_bytes <= end
                if not stays(entry >> PFN_SHIFT, covered=covered):
                    split_folio(space, entry >> PFN_SHIFT)
            continue
        for index in indices:
            small = table.leaves.get(index)
            if small is None or small & _PRIVATE_PAGE != _PRIVATE_PAGE:
                continue
            pfn = small >> PFN_SHIFT
            folio = pfn - pfn % pages
            if folio not in frames.large:
                continue
            in_a_row = all(
                base + (i << shift) < end
                and (e := table.leaves.get(i)) is not None
                and e >> PFN_SHIFT == folio + i - index
                and not (e ^ small) & UFFD_WP
                for i in range(index, index + pages)
            )
            covered = pfn == folio and in_a_row
            covered = covered and contiguous.are_alike(space, table, index, folio)
            if not stays(folio, covered=covered and space.kernel.advises_large_folios):
                split_folio(space, folio)
            elif covered:
                break  # the whole table is this folio


def split_partial_shared(
    space: AddressSpace, start: int, end: int, *, pageout: bool = False
) -> None:
    """Split each large folio of a shared object of which the range names a part.

    `pageout`: those it covers with a huge page go out of all mappings.

    The kernel leaves it if it looks as if others mapped it.  Small pages of an object come back at
    the next access only, so every mapping of the folio loses it.
    Source: madvise_cold_or_pageout_pte_range(); shrink_folio_list(), until 809bc86517cc (6.12).
    """
    frames, slot = space.frames, space.geometry.slot_bytes
    if not (frames.large or frames.pieces):
        return
    for base, table, indices in list(space.tree.lowest(start, end)):
        # What `_maps_all` says of a folio, and of where it begins in the table: it has many pages.
        wholes: dict[tuple[int, int], bool] = {}
        for index in indices:
            entry = table.leaves.get(index)
            if entry is None or entry & (ANON | MARKER):
                continue
            pfn = entry >> PFN_SHIFT
            folio, pages = frames.folio_at(pfn, space.geometry.slot_pages)
            if pages == 1:
                continue
            huge = table.level == PMD
            if huge:
                at = base + (index << space.geometry.entry_shift[PMD])
                whole = start <= at and at + slot <= end
            else:
                first = index - (pfn - folio)
                if (folio, first) not in wholes:
                    named = range(folio, folio + pages)
                    wholes[folio, first] = _maps_all(space, table, base, first, named, start, end)
                whole = wholes[folio, first]
            _split_shared(space, folio, pages, pfn, huge=huge, whole=whole, pageout=pageout)


def _split_shared(
    space: AddressSpace,
    folio: int,
    pages: int,
    pfn: int,
    *,
    huge: bool,
    whole: bool,
    pageout: bool,
) -> None:
    """Split a larger folio of an object, or take it out of all mappings, if the advice does that.

    Arguments: its first frame and its `pages`; `pfn` is the one that was met, in a `huge` page or a
    small one; the range covers the folio as a `whole`.
    """
    frames, kernel = space.frames, space.kernel
    if folio not in frames.large:
        if not whole:
            frames.cut(folio, pages, 1)
            frames.inherit(range(folio, folio + pages), folio)
            unmap_folio(space, folio, pages)
        return
    if whole and not huge and kernel.advises_large_folios:
        return  # its pages may go as they are
    if _looks_shared(space, folio, pfn):
        return
    if not huge or not whole:
        split_shared_folio(space, folio)
    elif pageout and folio not in frames.mlocked:
        if kernel.pageout_splits_shared and not space.has_swap:
            split_shared_folio(space, folio)
        else:  # what is swapped out is split by whoever swaps it out
            unmap_folio(space, folio, pages)


def _maps_all(
    space: AddressSpace, table: Table, base: int, first: int, folio: range, start: int, end: int
) -> bool:
    """Are all pages of a folio mapped in a row in [start, end), from the entry `first` of a table?

    And all protected by userfaultfd, or none.
    Arguments: the frames of the `folio`; the `base` address of a PTE table.
    """
    shift = space.geometry.page_shift
    return (
        start <= base + (first << shift)
        and base + ((first + len(folio)) << shift) <= end
        and all(
            (entry := table.leaves.get(index)) is not None
            and entry >> PFN_SHIFT == pfn
            and not (entry ^ table.leaves[first]) & UFFD_WP
            for index, pfn in enumerate(folio, first)
        )
    )


def _looks_shared(space: AddressSpace, folio: int, pfn: int) -> bool:
    """Does the large folio seem to be mapped by others than the entry for its frame `pfn`?

    Source: page_mapcount() in 6.1, folio_likely_mapped_shared() in 6.12; since 6.15 the kernel
    knows that the other mappings are of the same process (folio_maybe_mapped_shared).
    """
    huge, small = folio_mappings(space, folio)
    page = huge + small.count(pfn) != 1
    whole = huge + len(small) > 1 and (huge > 0 or small.count(folio) > 1)
    if not (page or whole) or space.kernel.large_folio_reuse:
        return False
    return page if page == whole or not space.kernel.guesses_mapped_shared else whole


def unmap_shared(space: AddressSpace, vma: Vma, start: int, end: int) -> list[int]:
    """Unmap the small pages of an object in [start, end), bytes, that nothing else maps.

    Those of a larger folio only if each is mapped once.  What was never written leaves the object,
    too: there is nothing to write back.
    Returns: the indices of the others.
    Source: madvise_cold_or_pageout_pte_range() compares folio_mapcount() with folio_nr_pages().
    """
    frames, slot_pages = space.frames, space.geometry.slot_pages
    mapcount = Counter(
        frames.folio_at(entry >> PFN_SHIFT, slot_pages)[0]
        for _, table in space.tree.leaf_tables()
        for entry in table.leaves.values()
    )
    backing, written = vma.backing, []
    for _, table, indices in space.tree.lowest(start, end):
        for index in indices:
            entry = table.leaves[index]
            if table.level != PTE or entry & _PRIVATE_PAGE != PRESENT:
                continue
            pfn = entry >> PFN_SHIFT
            first, pages = frames.folio_at(pfn, slot_pages)
            shared = mapcount[first] != pages or pfn in space.held
            if not shared and first not in frames.mlocked:
                space.unmap_pages(vma, table, [index])
                linear = frames.index[pfn]
                if linear in backing.clean:
                    backing.clean.remove(linear)
                    del backing.pages[linear]
                else:
                    written.append(linear)
    return written
