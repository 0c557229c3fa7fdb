"""Pages that leave an object: a hole is punched into it, or it is cut off.

Every mapping loses them.  Copies that private mappings have stay over a hole, but not beyond the
end.  Where a folio goes in part, it is split; where a page does, that part reads as zeroes.
Source: mm/shmem.c shmem_fallocate(), shmem_setattr(), shmem_undo_range(), Linux 6.1 to 7.3.
"""

from engine.pages.huge import unmap_folio
from engine.pages.rmap import settle_object, unmap_object
from engine.pages.swapin import swap_in
from engine.state.backing import Backing
from engine.state.space import AddressSpace

_TAG_BYTES = 8  # at the beginning of each page: what a touch writes


def punch_hole(space: AddressSpace, backing: Backing, low: int, high: int) -> None:
    """Take the pages [low, high) out of an object.

    One that is being migrated is locked, and waited for once nobody maps what goes.
    """
    if low < high:
        unmap_object(space, backing, low, high)
        _remove(space, backing, low, high)


def truncate(space: AddressSpace, backing: Backing, size: int) -> None:
    """Give an object another size, in bytes.

    Source: shmem_setattr(); truncate_setsize() does the same to other files.
    """
    shift = space.geometry.page_shift
    old, new = backing.size_pages, -(-size >> shift)
    backing.size_pages = new
    if new <= old:
        last = max([old, *backing.pages]) + 1
        if new < old:
            unmap_object(space, backing, new, old, even_cows=True)
        _remove(space, backing, new, last)
        zero_part(space, backing, size, new << shift)


def zero_part(space: AddressSpace, backing: Backing, start: int, end: int) -> None:
    """Zero the bytes [start, end) of an object, which lie in one page, if it has that page.

    Source: shmem_get_partial_folio(), truncate_inode_partial_folio().
    """
    shift = space.geometry.page_shift
    index = start >> shift
    if start == end or index not in backing.pages:
        return
    settle_object(space, backing, index, index + 1)
    swap_in(space, backing, index)
    backing.clean.discard(index)
    kept, within = _TAG_BYTES, start & (space.geometry.page_bytes - 1)
    frame = backing.pages[index]
    zeroed = ((1 << 8 * min(end - start, kept)) - 1) << 8 * within if within < kept else 0
    space.frames.tag[frame] &= ~zeroed


def _remove(space: AddressSpace, backing: Backing, low: int, high: int) -> None:
    """Take pages that nobody maps any more out of an object."""
    pages = space.geometry.slot_pages
    if space.migrating:
        settle_object(space, backing, low, high)
    removed = [index for index in backing.pages if low <= index < high]
    if space.frames.large or space.frames.pieces:
        for first in {index - index % pages for index in removed}:
            _set_apart(space, backing, first, low, high)
    for index in removed:
        del backing.pages[index]
        backing.clean.discard(index)
        backing.swapped.discard(index)


def _set_apart(space: AddressSpace, backing: Backing, start: int, low: int, high: int) -> None:
    """Split the folios of the slot from page `start` on of which only a part is in [low, high).

    One that is in swap comes back for that.
    Source: shmem_get_partial_folio(); mm/truncate.c truncate_inode_partial_folio(): at both ends of
    what goes.
    """
    frames, pages = space.frames, space.geometry.slot_pages

    def is_partial(edge: int) -> bool:
        folio, size = frames.folio_at(backing.pages[edge], pages)
        first = frames.index[folio]
        # One that begins behind what goes is none of it; one that lies in it goes as it is.
        return first < high and (first < low or first + size > high)

    edges = [max(low, start), *([high] if high < start + pages else [])]
    for edge in [edge for edge in edges if edge in backing.pages and is_partial(edge)]:
        swap_in(space, backing, edge)
        # The second end is in a piece of what the first has split.
        folio, size = frames.folio_at(backing.pages[edge], pages)
        frames.large.discard(folio)
        unmap_folio(space, folio, size)
        if space.kernel.splits_by_halves:
            frames.split_at(folio, size, backing.pages[edge])
