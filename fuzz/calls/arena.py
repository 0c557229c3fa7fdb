"""Which calls stay inside the arena: the others are not executed, their result is "SKIP".

The rule is the same for the model and for real kernels, where it is what keeps programs from
damaging the process that runs them, or the machine: whoever runs a case asks here.  A call that
the kernel is certain to refuse before it touches anything may name any address; every other one
must keep all it could change inside the arena, and must not fill more pages than
`MAX_POPULATED_PAGES`.

Each call names its rule, one of those below or one of its own: a function of the arena and of the
operands, with addresses for offsets.
"""

from dataclasses import dataclass
from functools import cache

from engine.base.address import round_down, round_up
from engine.base.geometry import Geometry
from fuzz.case import MAX_POPULATED_PAGES


@dataclass(frozen=True, slots=True)
class Arena:
    """The arena of a geometry, in bytes: from `start` up to `end`.

    `page` is the size of one, `mask` the greatest word, `top` the end of user space, `most` what
    one call may fill.
    """

    start: int
    end: int
    page: int
    mask: int
    top: int
    most: int

    @staticmethod
    @cache
    def of(geometry: Geometry) -> "Arena":
        """The arena of a geometry."""
        start, end = geometry.arena
        page = geometry.page_bytes
        most = MAX_POPULATED_PAGES * page
        return Arena(start, end, page, geometry.word_mask, geometry.user_top, most)

    def rounded(self, length: int) -> int:
        """A length in whole pages, as the kernel computes it: it may wrap to 0."""
        return round_up(length, self.page) & self.mask

    def unaligned(self, addr: int) -> bool:
        """Does a page not begin there?"""
        return bool(addr & (self.page - 1))

    def inside(self, start: int, length: int) -> bool:
        """Does all of a range lie in the arena?"""
        return self.start <= start and start + length <= self.end

    def empty_or_wraps(self, start: int, length: int) -> bool:
        """Does a range end where it begins, or before, in the machine's arithmetic?"""
        return (start + length) & self.mask <= start

    def beyond(self, start: int, length: int) -> bool:
        """Is a range not in user space at all: refused before anything happens?"""
        return length > self.top or start > self.top - length


def anywhere(arena: Arena, *args: int) -> bool:
    """Of calls that are about no address."""
    del arena, args
    return True


def one_page(arena: Arena, addr: int, *_: int) -> bool:
    """Of calls about the page at an address."""
    return arena.start <= addr < arena.end


def whole_pages(arena: Arena, addr: int, length: int, *_: int) -> bool:
    """Of calls that refuse an address within a page, and do nothing if the range is empty."""
    if arena.start <= addr and addr + length <= arena.end:
        return True  # the quick answer for nearly every call
    if arena.unaligned(addr):
        return True
    length = arena.rounded(length)
    return arena.empty_or_wraps(addr, length) or arena.inside(addr, length)


def filled_whole_pages(arena: Arena, addr: int, length: int, *_: int) -> bool:
    """Of calls as those of `whole_pages` that fill each page, if only with a marker."""
    if not whole_pages(arena, addr, length):
        return False
    if length <= arena.most or arena.unaligned(addr):
        return True
    return arena.empty_or_wraps(addr, arena.rounded(length))


def touched_pages(arena: Arena, addr: int, length: int, *_: int) -> bool:
    """Of calls about all pages that a range touches."""
    first = round_down(addr, arena.page)
    length = arena.rounded(length + addr - first)
    return arena.empty_or_wraps(first, length) or arena.inside(first, length)


def filled_pages(arena: Arena, addr: int, length: int, *_: int) -> bool:
    """Of calls that fill all pages that a range touches."""
    if arena.start <= addr and addr + length <= arena.end and length <= arena.most - arena.page:
        return True  # the quick answer for nearly every call
    first = round_down(addr, arena.page)
    length = arena.rounded(length + addr - first)
    return arena.empty_or_wraps(first, length) or (
        length <= arena.most and arena.inside(first, length)
    )
