"""Physical memory: what each page frame holds and whom it belongs to.

Frames are numbered from 1 in the order of allocation and never reused within a case, so a frame
number identifies a page for good: a page that turns up twice, or not at all, cannot hide behind a
recycled number.  Parallel lists keep bulk allocation in C.
"""

from collections.abc import Iterable


class Frames:
    """Frames by number; number 0 is the shared zero page.

    `tag[pfn]` is the content (0: zeroes); `index[pfn]` the page's linear index, in pages, by which
    reverse mapping finds its address (vm_pgoff + distance at fault time, folio->index); `owner[pfn]`
    the anon_vma or shared object it belongs to (folio->mapping).
    """

    __slots__ = ("index", "owner", "tag")

    def __init__(self) -> None:
        self.tag: list[int] = [0]
        self.index: list[int] = [0]
        self.owner: list[object] = [None]

    def allocate(self, tags: Iterable[int], first_index: int, count: int, owner: object) -> int:
        """Add `count` frames holding `tags`, with linear indices counting up from `first_index`.

        Returns: the number of the first one; the others follow.
        """
        first = len(self.tag)
        self.tag.extend(tags)
        self.index.extend(range(first_index, first_index + count))
        self.owner.extend([owner] * count)
        assert len(self.tag) == first + count
        return first
