"""Pages of an object that come back from swap.

Model: the swap device is as fast as memory (SWP_SYNCHRONOUS_IO), such as brd and zram: from others
pages come back one by one.
"""

from engine.state.backing import Backing
from engine.state.space import AddressSpace

_CHUNK_ORDER = 6  # XA_CHUNK_SHIFT


def swap_in(space: AddressSpace, backing: Backing, linear: int, *, alone: bool = False) -> None:
    """Bring page `linear` of an object back, if it is in swap, with the folio that it was part of.

    Arguments: `alone`: in memory that userfaultfd watches it comes by itself, and what was swapped
    out with it is cut into smaller folios, as large as the object can keep them.
    Source: shmem_swapin_folio(), shmem_swap_alloc_folio(), shmem_split_large_entry(), 7.3.
    """
    if linear not in backing.swapped:
        return
    frames = space.frames
    frame = backing.pages[linear]
    first, pages = frames.folio_at(frame, space.geometry.slot_pages)
    if not alone:
        start = frames.index[first]
        backing.swapped.difference_update(range(start, start + pages))
        return
    backing.swapped.remove(linear)
    while pages > 1:
        smaller = _smaller(pages)
        frames.cut(first, pages, smaller)
        first, pages = frame - frame % smaller, smaller


def _smaller(pages: int) -> int:
    """Into folios of how many pages one of `pages` is cut.  Source: xas_try_split_min_order()."""
    order = pages.bit_length() - 1
    return 1 << (order - (order % _CHUNK_ORDER or 1))
