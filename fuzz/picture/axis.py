"""From addresses to places on paper: what is alike for long is shortened.

An axis is cut where anything changes in any moment of a picture, and at the boundaries of slots.
Between two cuts all is alike, so a piece is drawn wider the more pages it has, but not in
proportion unless all are about as long: 512 GiB of nothing and two pages stand beside each other.
"""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

MOST_PIECES = 40
_PAGE_WIDTH = 34.0  # of a page alone, in units of the drawing; it is stretched to what there is
_NARROW = 500.0  # below that, long pieces leave more of it to single pages
_UNIFORM_PAGES = 24  # with no more pages than that, each is as wide as the others
_ALIKE = 4  # and so it is if no piece has more than so many times the pages of another


class Piece(NamedTuple):
    """What lies between two cuts, in bytes from the start of the axis, and its place.

    `broken`: it is drawn shorter than it is.
    """

    start: int
    end: int
    left: float
    right: float
    broken: bool

    @property
    def width(self) -> float:
        """On paper."""
        return self.right - self.left


@dataclass(frozen=True, slots=True)
class Axis:
    """The pieces, side by side."""

    pieces: tuple[Piece, ...]

    @property
    def left(self) -> float:
        """Where it begins."""
        return self.pieces[0].left

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.pieces[-1].right

    def x(self, offset: int) -> float:
        """The place of an offset; beyond the ends, that of the nearer end."""
        starts = [piece.start for piece in self.pieces]
        piece = self.pieces[max(bisect_right(starts, offset) - 1, 0)]
        part = (offset - piece.start) / (piece.end - piece.start)
        return piece.left + min(max(part, 0), 1) * piece.width

    def between(self, start: int, end: int) -> tuple[Piece, ...]:
        """The pieces that lie in a range, if only partly."""
        return tuple(piece for piece in self.pieces if piece.start < end and start < piece.end)


def axis(
    cuts: Iterable[int], optional: Iterable[int], page: int, left: float, right: float
) -> Axis:
    """An axis that is cut at `cuts`, and where there is room for that at `optional`, bytes.

    Arguments: `page` bytes; `left`, `right` its place.  `optional` come by importance.
    """
    places = sorted(set(cuts))
    for cut in optional:
        if len(places) > MOST_PIECES:
            break
        at = bisect_left(places, cut)
        if 0 < at < len(places) and places[at] != cut:
            places.insert(at, cut)
    pairs = list(itertools.pairwise(places))
    pages = [max((end - start) / page, 1) for start, end in pairs]
    uniform = sum(pages) <= _UNIFORM_PAGES or max(pages) <= _ALIKE * min(pages)
    growth = 0.25 if right - left < _NARROW else 0.45
    wanted = [
        _PAGE_WIDTH * (count if uniform else min(1 + growth * log2(count), 6)) for count in pages
    ]
    scale = (right - left) / sum(wanted)
    # Nobody has more of a page than he can read.
    scale = min(scale, 3.2)
    made: list[Piece] = []
    place = left
    for (start, end), count, width in zip(pairs, pages, wanted, strict=True):
        made.append(Piece(start, end, place, place + width * scale, not uniform and count > 4))
        place += width * scale
    return Axis(tuple(made))
