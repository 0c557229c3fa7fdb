"""Where things are in a program that is made to a plan, in pages of the arena."""

from random import Random
from typing import NamedTuple

from engine.base.geometry import Geometry

FEW = (1, 1, 1, 2, 2, 3, 5)  # pages, as often as each
_FILLED_SLOTS = 2  # that one call may fill with pages
_CORNERS = (0, 0, 0, 0, 1, -1, 2)  # pages beside a boundary


class Pages(NamedTuple):
    """Pages beside each other."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """Behind the last one."""
        return self.start + self.size


class Ground:
    """The part of the arena that a program uses, what it has put there, and places to choose.

    `slot` and `pud` are pages of what a PTE table maps and of a larger unit; `low` and `end` are
    where the ground starts and ends.
    """

    def __init__(self, random: Random, geometry: Geometry) -> None:
        self.random, self.one_of = random, random.choice
        self.page = geometry.page_bytes
        self.word = geometry.word_mask + 1
        self.slot = geometry.slot_bytes // self.page
        end = geometry.arena.length // self.page
        pud = geometry.pud_bytes // self.page
        self.pud = pud if pud * 3 <= end else self.slot
        self.end = min(end, max(self.pud * 6, self.slot * 16))
        if not random.randrange(8):  # over the whole arena, with ranges to match
            self.pud, self.end = end // 8 // self.slot * self.slot, end
        self.low = max(geometry.min_addr - geometry.arena.start, 0) // self.page
        self.mappings: list[Pages] = []
        self.left: list[Pages] = []  # where something was before it moved
        self.filled: list[Pages] = []  # where pages are
        self.home = -1  # where the next move is likely to go
        self.huge = self.hugetlb = False  # of what kind the pages are

    def boundary(self, unit: int, *, corner: bool = True) -> int:
        """A place at a multiple of `unit`, or beside it."""
        number = self.random.randint(1, max(min(self.end // unit - 1, 4), 1))
        return number * unit + (self.one_of(_CORNERS) if corner else 0)

    def inside(self, start: int, count: int) -> Pages:
        """As much of it as the arena holds; at least a page."""
        start = min(max(start, self.low), self.end - 1)
        return Pages(start, min(count, self.end - start))

    def piece(self, whole: Pages) -> Pages:
        """As much of it as may be filled with pages: one end of what is long."""
        size = min(whole.size, _FILLED_SLOTS * self.slot)
        return Pages(self.one_of((whole.start, whole.end - size)), size)

    def part(self, whole: Pages) -> Pages:
        """All of it, or less."""
        unit = self.slot if self.hugetlb or (self.huge and not self.random.randrange(3)) else 1
        if whole.size <= unit or not self.random.randrange(3):
            return whole
        if unit == 1 and self.random.randrange(2) and (around := self.around(whole)):
            return around
        some = (*FEW, self.slot // unit, whole.size // unit // 2 + 1)
        count = min(self.one_of(some) * unit, whole.size)
        room = whole.size - count
        return Pages(whole.start + self.one_of((0, 0, room, room // 2, min(unit, room))), count)

    def filled_in(self, place: Pages) -> list[Pages]:
        """Pages of it that were filled, the latest last."""
        return [f for f in self.filled if place.start <= f.start and f.end <= place.end]

    def around(self, whole: Pages) -> Pages | None:
        """Pages of it that are there, with a neighbour or two; None if none are known to be."""
        inside = self.filled_in(whole)
        if not inside:
            return None
        start = max(self.one_of(inside[-2:]).start + self.one_of((-1, 0, 0, 1)), whole.start)
        return Pages(start, max(min(self.one_of((1, 2, 2, 3, 5)), whole.end - start), 1))
