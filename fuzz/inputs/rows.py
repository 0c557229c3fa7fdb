"""Programs about VMAs alone: a row of places of one size, mappings in some, which move among them.

What merges, splits, is counted, charged or refused depends on neighbours, and seldom on what is in
the pages: so few are touched, a program costs little, and has room for several moves.
"""

from random import Random

from engine.base.geometry import Geometry
from engine.base.uapi import (
    MADV_DONTFORK,
    MADV_NOHUGEPAGE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.calls.directives import FAILURES, LIMITS
from fuzz.calls.operand import FILES
from fuzz.calls.registry import call
from fuzz.case import Call, Case

_PLACES = 6
_KINDS = (*(MAP_PRIVATE,) * 5, MAP_SHARED, MAP_PRIVATE | MAP_LOCKED, MAP_PRIVATE | MAP_NORESERVE)
_TO = MREMAP_MAYMOVE | MREMAP_FIXED
_FLAGS = (
    *(_TO,) * 6,
    *(_TO | MREMAP_DONTUNMAP,) * 2,
    MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
    *(MREMAP_MAYMOVE,) * 2,
    *(0,) * 2,
)


class _Row:
    """One program while it is made; places are numbered."""

    def __init__(self, random: Random, geometry: Geometry) -> None:
        self.random, self.one_of = random, random.choice
        self.page = geometry.page_bytes
        self.slot = geometry.slot_bytes // self.page
        self.count = self.one_of((1, 1, 2, 3, *(self.slot,) * 3))  # pages of a place
        low = -(-geometry.min_addr // geometry.slot_bytes) + 2  # slots
        self.first = self.slot * self.one_of((low, low + 1, 8)) + self.one_of((0, 0, 0, 1, -1))
        self.kind = self.one_of(_KINDS)
        self.file = not random.randrange(8)  # they are of a file, in its order
        self.full: set[int] = set()
        self.calls: list[Call] = []

    def add(self, name: str, place: int, many: int, *operands: int) -> None:
        """One more call, on so many places."""
        start = self.first + place * self.count
        self.calls.append(call(name, start * self.page, many * self.count * self.page, *operands))

    def make(self) -> Case:
        """A program."""
        random, one_of = self.random, self.one_of
        if self.file:
            size = one_of((_PLACES, _PLACES, _PLACES - 1)) * self.count * self.page
            self.calls.append(call("file", FILES["A"], size))
        for _ in range(one_of((1, 2, 2, 3))):
            self.map()
        for _ in range(one_of((0, 0, 1, 1, 2))):
            self.change()
        for _ in range(one_of((1, 2, 2, 3))):
            if not random.randrange(6):
                one_of((self.map, self.change))()
            elif not random.randrange(8):
                kind = one_of((*FAILURES.values(), FAILURES["vma"]))
                self.calls.append(call("@fail", kind, one_of((1, 1, 2, 3))))
            self.move()
        if not random.randrange(6):
            self.add("munmap", one_of(sorted(self.full)), one_of((1, 1, 2)))
        if not random.randrange(6):
            self.limit()
        return Case(tuple(self.calls))

    def map(self) -> None:
        """A mapping of a place or two; mostly like the others, and mostly not touched."""
        random, one_of = self.random, self.one_of
        place, many = random.randrange(_PLACES), one_of((1, 1, 1, 1, 2, 3))
        if self.full and random.randrange(4):  # beside another one, or with a place between
            place = min(max(one_of(sorted(self.full)) + one_of((-2, -2, -1, 1, 2, 2)), 0), _PLACES)
        kind = self.kind if random.randrange(6) else one_of(_KINDS)
        prot = PROT_READ | PROT_WRITE if random.randrange(10) else PROT_READ
        if self.file:
            offset = place * self.count * self.page
            self.add("mmap", place, many, prot, kind | MAP_FIXED, FILES["A"], offset)
        else:
            self.add("mmap", place, many, prot, kind | MAP_ANONYMOUS | MAP_FIXED)
        self.full.update(range(place, place + many))
        if not random.randrange(4 if self.count < self.slot else 2):  # tables of slots may move
            self.touch(place)

    def touch(self, place: int) -> None:
        """A page of it is there."""
        start = self.first + place * self.count + self.one_of((0, 0, self.count - 1))
        self.calls.append(call("touch", start * self.page, self.page))

    def change(self) -> None:
        """A mapping gets other flags, or some more of them are equal."""
        place, many = self.one_of(sorted(self.full)), self.one_of((1, 1, 2))
        match self.random.randrange(8):
            case 0:
                self.add("mprotect", place, many, self.one_of((PROT_READ, 0)))
            case 1:
                self.add("madvise", place, many, self.one_of((MADV_NOHUGEPAGE, MADV_DONTFORK)))
            case 2:
                self.add(self.one_of(("mlock", "munlock")), place, many)
            case 3:
                self.add("munmap", place, many)
                self.full -= set(range(place, place + many))
            case 4:
                self.add("mseal", place, many)
            case 5:
                self.calls.append(call("fork"))
            case _:
                self.touch(place)
        self.full = self.full or {place}

    def move(self) -> None:
        """What is in a place or two goes to others, grows, or shrinks; or a part of it does."""
        random, one_of, page = self.random, self.one_of, self.page
        flags, place = one_of(_FLAGS), one_of(sorted(self.full))
        many = 2 if place + 1 in self.full and not random.randrange(3) else 1
        free = [n for n in range(_PLACES + 4) if n not in self.full]  # what is mapped ends before
        beside = [n for n in (place - many, place + many) if n not in self.full]
        to = one_of(beside if beside and random.randrange(2) else free)
        if not random.randrange(6):
            to = random.randrange(_PLACES)
        old = many * self.count
        start, target = self.first + place * self.count, self.first + to * self.count
        if not random.randrange(8) and old > 1:  # all but its first or last page, or that one
            part = one_of((1, old - 1))
            start, old = start + one_of((0, old - part)), part
        new = old
        if not random.randrange(4 if flags & MREMAP_FIXED else 2) and not flags & MREMAP_DONTUNMAP:
            new = one_of((old + 1, old + self.count, max(old - 1, 1), max(old - self.count, 0)))
        if not random.randrange(24):
            old, new = one_of(((0, new), (old, 0), (0, 0)))
        operands = (start * page, old * page, new * page, flags, target * page)
        self.calls.append(call("mremap", *operands))
        if flags & MREMAP_FIXED:
            self.full.update(range(max(to, 0), min(to + many, _PLACES + 2)))
            if not flags & MREMAP_DONTUNMAP and not set(range(place, place + many)) >= self.full:
                self.full -= set(range(place, place + many)) - set(range(to, to + many))
        if not random.randrange(4):
            self.touch(one_of(sorted(self.full)))

    def limit(self) -> None:
        """What there may be is about what there is."""
        name = self.one_of(("map_count", "map_count", "as", "memlock", "commit"))
        made = [c.args[1] // self.page for c in self.calls if c.name == "mmap"]
        value = len(made) + self.random.randrange(4)
        if name != "map_count":
            value = (sum(made) + self.one_of((0, 0, 1, self.count, -self.count))) * self.page
        self.calls.insert(0, call("@limit", LIMITS[name], max(value, 0)))


def row(random: Random, geometry: Geometry) -> Case:
    """A program about a row of mappings, on this geometry."""
    return _Row(random, geometry).make()
