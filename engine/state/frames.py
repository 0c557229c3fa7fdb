"""Physical memory: what each page frame holds and whom it belongs to.

Frames are numbered from 1 in the order of allocation and never reused within a case, so a frame
number identifies a page for good: a page that turns up twice, or not at all, cannot hide behind a
recycled number.  Parallel lists keep bulk allocation in C.
"""

from collections.abc import Iterable


class Frames:
    """Frames by number; number 0 is the shared zero page.

    `tag[pfn]` is the content (0: zeroes); `index[pfn]` the page's linear index, in pages, by which
    reverse mapping finds its address (vm_pgoff + distance at fault time, folio->index);
    `owner[pfn]` the anon_vma or object it belongs to (folio->mapping).  `large` are the large
    folios, by their first frame: allocated for a huge page, and not split since.  `pieces` are the
    smaller folios that splitting one of a shared object has left: their pages, by first frame.
    `lazyfree` and `dirty` are flags of private folios, by first frame: MADV_FREE was called for it,
    and nobody has found it written since (no PG_swapbacked); it was written, though entries may not
    say so (PG_dirty).  `mlocked` are folios that stay locked for good: when their VMA was unlocked,
    nobody looked at its pages.  `parted` are, by first frame of a large folio, the blocks whose
    entries have lost the contiguous bit (engine/pages/contiguous.py), numbered from frame 0.
    """

    __slots__ = (
        "dirty",
        "index",
        "large",
        "lazyfree",
        "mlocked",
        "owner",
        "parted",
        "pieces",
        "tag",
    )

    def __init__(self) -> None:
        self.tag: list[int] = [0]
        self.index: list[int] = [0]
        self.owner: list[object] = [None]
        self.large: set[int] = set()
        self.pieces: dict[int, int] = {}
        self.lazyfree: set[int] = set()
        self.dirty: set[int] = set()
        self.mlocked: set[int] = set()
        self.parted: dict[int, set[int]] = {}

    def allocate(self, tags: Iterable[int], indices: Iterable[int], owner: object) -> int:
        """Add frames that hold `tags` and have the linear `indices` (as many), all of one owner.

        Returns: the number of the first one; the others follow.
        """
        first = len(self.tag)
        self.tag.extend(tags)
        self.index.extend(indices)
        self.owner.extend([owner] * (len(self.tag) - first))
        assert len(self.index) == len(self.tag)
        return first

    def allocate_large(self, pages: int, first_index: int, owner: object) -> int:
        """A large folio of `pages` frames holding zeroes, its first frame a multiple of `pages`.

        Returns: that first frame.
        """
        padding = -len(self.tag) % pages
        self.allocate([0] * padding, [0] * padding, None)
        first = self.allocate([0] * pages, range(first_index, first_index + pages), owner)
        self.large.add(first)
        return first

    def inherit(self, new: range, first: int) -> None:
        """The folios that begin at each of the frames `new` get the flags of the one at `first`."""
        for flagged in (self.lazyfree, self.dirty, self.mlocked):
            if first in flagged:
                flagged.update(new)

    def split_at(self, first: int, pages: int, frame: int) -> None:
        """Cut a folio of `pages` frames from `first` on as small as it takes to set `frame` apart.

        Source: mm/huge_memory.c __split_unmapped_folio(), 6.16: the other halves stay whole.
        """
        self.pieces.pop(first, None)
        while pages > 1:
            pages //= 2
            upper = first + pages
            first, other = (upper, first) if frame >= upper else (first, upper)
            if pages > 1:
                self.pieces[other] = pages

    def cut(self, first: int, pages: int, smaller: int) -> None:
        """Cut a folio of `pages` frames from `first` on into such of `smaller` frames each."""
        self.large.discard(first)
        self.pieces.pop(first, None)
        if smaller > 1:
            self.pieces.update(dict.fromkeys(range(first, first + pages, smaller), smaller))

    def folio_at(self, frame: int, slot_pages: int) -> tuple[int, int]:
        """The folio of an object that `frame` is in: its first frame and its pages.

        Arguments: `slot_pages` of a large folio that nobody has split.
        """
        first = frame - frame % slot_pages
        return (first, slot_pages) if first in self.large else self.piece_of(frame)

    def piece_of(self, frame: int) -> tuple[int, int]:
        """The folio that `frame` is in, if it is such a piece: its first frame and its pages."""
        pages = 2
        while pages <= max(self.pieces.values(), default=0):
            first = frame - frame % pages
            if self.pieces.get(first) == pages:
                return first, pages
            pages *= 2
        return frame, 1
