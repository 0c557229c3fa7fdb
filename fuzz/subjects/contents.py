"""What is in memory at the end of a program, for whoever cannot say which pages are there.

The field `contents` of an observation: [first page, pages, first tag], of pages that are not all
zero, whether or not they are mapped yet; the tags of a run count up.
"""

from collections.abc import Iterable, Iterator, Sequence

from engine.base.entry import MARKER, PFN_SHIFT
from engine.state.space import AddressSpace
from engine.state.vma import VM_SHARED, Vma


def contents(space: AddressSpace) -> list[list[int]]:
    """What would be read, a page at a time, from all VMAs."""
    base, shift = space.arena.start, space.geometry.page_shift
    found: dict[int, int] = {}  # tag by page of the arena
    for vma in space.vmas:
        if vma.flags & VM_SHARED or vma.copies_object:
            found.update(_object(vma, space.frames.tag, base, shift))
        for addr, level, entry in space.tree.leaves(vma.start, vma.end):
            first, pages = (addr - base) >> shift, space.geometry.span_bytes[level - 1] >> shift
            pfn = 0 if entry & MARKER else entry >> PFN_SHIFT
            for page in range(pages):
                found[first + page] = space.frames.tag[pfn + page] if pfn else 0
    return runs((page, 1, found[page]) for page in sorted(found))


def _object(vma: Vma, tags: list[int], base: int, shift: int) -> Iterator[tuple[int, int]]:
    """The pages of the object behind a VMA, as far as that shows them: page, tag.

    What lies beyond the end of the object can be read only where it is mapped.
    """
    first, pages = (vma.start - base) >> shift, (vma.end - vma.start) >> shift
    for index, pfn in vma.backing.pages.items():
        if vma.pgoff <= index < min(vma.pgoff + pages, vma.backing.size_pages):
            yield first + index - vma.pgoff, tags[pfn]


def runs(pieces: Iterable[Sequence[int]]) -> list[list[int]]:
    """Runs of pages, joined as far as their tags count up; without those of tag 0."""
    joined: list[list[int]] = []
    end, goes_on = -1, 0  # where the last run ends, and the tag that it would go on with
    for first, count, tag in pieces:
        if not tag:
            continue
        if (first, tag) == (end, goes_on):
            joined[-1][1] += count
        else:
            joined.append([first, count, tag])
        end, goes_on = first + count, tag + count
    return joined


def outside(found: Iterable[Sequence[int]], pages: range) -> list[list[int]]:
    """The contents that do not lie in a range of pages."""
    return runs(
        (first + page, 1, tag + page)
        for first, count, tag in found
        for page in range(count)
        if first + page not in pages
    )
