"""Programs made to a plan: mappings, pages in every state, a few moves, and a look at the result.

Random bytes seldom bring a page into a rare state and then move it; these programs mostly do.
"""

from random import Random
from typing import TypeVar

from engine.geometry import Geometry
from fuzz.case import (
    ADVICE,
    FAILURES,
    LIMITS,
    MAP_FLAGS,
    UFFD_FEATURES,
    UFFD_MODES,
    Call,
    Case,
    call,
)

T = TypeVar("T")

_FEW = (1, 1, 2, 3, 5)
_CORNERS = (0, 0, 0, 1, -1, 2)  # pages beside a boundary
_ANONYMOUS, _FIXED = MAP_FLAGS["MAP_ANONYMOUS"], MAP_FLAGS["MAP_FIXED"]
_KINDS = (
    *(MAP_FLAGS["MAP_PRIVATE"],) * 9,
    *(MAP_FLAGS["MAP_SHARED"],) * 4,
    MAP_FLAGS["MAP_PRIVATE"] | MAP_FLAGS["MAP_LOCKED"],
    MAP_FLAGS["MAP_PRIVATE"] | MAP_FLAGS["MAP_GROWSDOWN"],
    MAP_FLAGS["MAP_PRIVATE"] | MAP_FLAGS["MAP_NORESERVE"],
    MAP_FLAGS["MAP_SHARED"] | MAP_FLAGS["MAP_LOCKED"],
    MAP_FLAGS["MAP_PRIVATE"] | MAP_FLAGS["MAP_HUGETLB"],
    MAP_FLAGS["MAP_SHARED"] | MAP_FLAGS["MAP_HUGETLB"],
)
_PROTECTIONS = (3, 3, 3, 3, 3, 7, 4, 1, 0)
_ADVICES = tuple(
    ADVICE[f"MADV_{name}"]
    for name in (
        *("HUGEPAGE", "HUGEPAGE", "COLLAPSE", "COLLAPSE", "DONTNEED", "FREE", "NOHUGEPAGE"),
        *("GUARD_INSTALL", "REMOVE", "POPULATE_READ", "DONTFORK", "MERGEABLE"),
    )
)
_REMAP_FLAGS = (3, 3, 3, 3, 3, 3, 7, 7, 5, 1, 1, 0, 2)


class _Scene:
    """One program while it is made.  Places and lengths in pages of the arena."""

    def __init__(self, random: Random, geometry: Geometry) -> None:
        self.random = random
        self.page = geometry.page_bytes
        self.slot = geometry.slot_bytes // self.page
        end = geometry.arena.length // self.page
        pud = geometry.pud_bytes // self.page
        self.pud = pud if pud * 3 <= end else self.slot
        self.top = end
        self.end = min(end, max(self.pud * 6, self.slot * 16))
        self.low = max(geometry.min_addr // self.page, 1)
        self.huge = bool(random.randrange(3))  # are huge pages wanted?
        self.limit_pages = 0
        self.mappings: list[tuple[int, int]] = []
        self.calls: list[Call] = []

    def make(self) -> Case:
        """A program."""
        one_of, add = self.random.choice, self.add
        if not self.random.randrange(10):
            self.limit()
        if not self.random.randrange(6):
            self.stack()
        else:
            for _ in range(one_of((1, 1, 2, 3))):
                self.map()
            if self.huge and not self.random.randrange(3):
                self.folio()
        for _ in range(one_of((0, 1, 1, 2, 3, 4))):
            if not self.random.randrange(12):
                kind = one_of((FAILURES["vma"], FAILURES["maps"], *FAILURES.values()))
                add("@fail", kind, one_of(_FEW))
            self.mark()
        for _ in range(one_of((1, 1, 2, 3))):
            if not self.random.randrange(5):
                kind = one_of((FAILURES["pagetable"], *FAILURES.values()))
                add("@fail", kind, one_of((1, 1, 1, 2, 2, 3, 4, 6)))
            self.move()
            if not self.random.randrange(3):
                self.mark()
        start, count = one_of(self.mappings)
        add(one_of(("touch", "peek")), start * self.page, min(count, 8) * self.page)
        if not self.random.randrange(3):
            add("munmap", *self.part())
        if not self.random.randrange(4):
            start = one_of(self.mappings)[0] // self.slot * self.slot  # as huge pages have it
            add("munmap", start * self.page, self.slot * self.page)
            self.move()
        return Case(tuple(self.calls))

    def add(self, name: str, *operands: int) -> None:
        """One more call."""
        self.calls.append(call(name, *operands))

    def limit(self) -> None:
        """Something that will run out."""
        name = self.random.choice(tuple(LIMITS))
        few = self.random.randint(4, 16)
        value = few if name == "map_count" else few * self.slot * self.page // 4
        if name != "map_count":
            self.limit_pages = value // self.page
        self.add("@limit", LIMITS[name], value)

    def boundary(self, unit: int) -> int:
        """A place at or beside a multiple of `unit`."""
        number = self.random.randint(1, max(min(self.end // unit - 1, 8), 1))
        place = number * unit + self.random.choice(_CORNERS)
        return min(max(place, self.low), self.end - 1)

    def length(self) -> int:
        """A count of pages."""
        slot, pud = self.slot, self.pud
        sizes = (
            1,
            3,
            slot - 1,
            slot,
            slot,
            slot + 1,
            2 * slot,
            2 * slot + 3,
            3 * slot,
            pud,
            pud + 1,
        )
        return self.random.choice(sizes)

    def unit(self) -> int:
        """A slot, or what a PUD entry covers."""
        return self.random.choice((self.slot, self.slot, self.pud))

    def map(self) -> None:
        """A mapping with some pages in it."""
        start, count = self.boundary(self.unit()), self.length()
        flags = self.random.choice(_KINDS) | _ANONYMOUS | _FIXED
        prot = self.random.choice(_PROTECTIONS)
        if not self.random.randrange(6):
            # Where the kernel wants it; sometimes as much as there is.
            flags &= ~_FIXED
            top = self.top
            if top <= 1024:
                count = self.random.choice((count, count, count, top, top - self.low, top - 1))
            start, hint = top - count, self.random.choice((0, 0, start))
            self.add("mmap", hint * self.page, count * self.page, prot, flags)
            if self.random.randrange(2):
                self.add("mmap", 0, self.length() * self.page, prot, flags)
        else:
            self.add("mmap", start * self.page, count * self.page, prot, flags)
        self.mappings.append((start, count))
        if self.huge and self.random.randrange(3):
            self.add("madvise", start * self.page, count * self.page, ADVICE["MADV_HUGEPAGE"])
        for _ in range(self.random.choice((0, 1, 1, 2, 3))):
            self.touch(start, count)
        if not self.random.randrange(5):
            for place in range(start, min(start + count, start + 6 * self.slot), self.slot):
                if self.random.randrange(2):
                    self.add("touch", place * self.page, self.page)

    def touch(self, start: int, count: int) -> None:
        """Fill a few pages: the first ones, the last ones, those around a slot boundary."""
        few = min(self.random.choice((*_FEW, self.slot if self.slot < 16 else 9)), count)
        first = start + self.random.choice(
            (0, 0, count - few, self.random.randrange(count - few + 1), -start % self.slot - 1)
        )
        first = min(max(first, start), start + count - few)
        self.add("touch", first * self.page, few * self.page)

    def stack(self) -> None:
        """The stack of a new program."""
        slot = self.slot
        end = self.boundary(slot) + slot * self.random.choice((2, 3))
        counts = (1, 3, slot, slot + 1, 2 * slot, 2 * slot + 1)
        count = min(self.random.choice((*counts, *(self.limit_pages,) * 4)) or 1, end - 1)
        shifts = (0, 1, 2, slot, slot, 2 * slot, slot + 1, slot - 1, 3 * slot)
        # To the very bottom, and beyond.
        least = end - self.low - self.random.choice((0, count, 2 * count))
        shift = self.random.choice((*shifts, *shifts, least, least - 1, least + 1))
        shift = max(shift, 0)
        operands = [operand * self.page for operand in (end - count, end, shift)]
        if not self.random.randrange(8):
            operands[self.random.randrange(3)] += self.random.choice((self.page // 2, 1))
        if not self.random.randrange(16):
            operands[1] = operands[0]  # nothing
        if not self.random.randrange(6):
            self.add("@fail", FAILURES["pagetable"], self.random.choice(_FEW))
        if self.random.randrange(3):
            self.add("execve_stack", *operands)
        else:
            flags = MAP_FLAGS["MAP_PRIVATE"] | _ANONYMOUS | _FIXED
            self.add("mmap", (end - count) * self.page, count * self.page, 3, flags)
            if self.huge:
                whole = (end - count) * self.page, count * self.page
                self.add("madvise", *whole, ADVICE["MADV_HUGEPAGE"])
            self.touch(end - count, count)
            if not self.random.randrange(3):
                self.touch(end - count, count)
            if not self.random.randrange(8):
                self.add("migrate_begin", (end - count) * self.page)
            above = end + self.random.choice((0, 1, self.slot))
            if self.random.randrange(2) and above < self.end:
                self.add("mmap", above * self.page, self.page, 3, flags)  # often in the same slot
                self.add("touch", above * self.page, self.page)
            self.add("relocate", *operands)
        self.mappings.append((max(end - count - shift, self.low), count))

    def part(self) -> tuple[int, int]:
        """Bytes of a mapping, all of it or less: (start, length)."""
        start, count = self.random.choice(self.mappings)
        if self.random.randrange(3):
            inside = self.random.choice((0, 0, 1, count // 2, count - 1))
            few = self.random.choice((count, 1, 2, self.slot, count // 2 + 1))
            start, count = start + inside, min(few, count - inside)
        return start * self.page, max(count, 1) * self.page

    def mark(self) -> None:
        """Bring some pages into another state."""
        add, one_of = self.add, self.random.choice
        start, length = self.part()
        what = self.random.randrange(14)
        if what == 0:
            add("swapout", start, length)
        elif what == 1:
            add("migrate_begin", start)
            if not self.random.randrange(3):
                add("migrate_end", start)
        elif what == 2:
            add("soft_dirty_clear")
        elif what < 5:
            features = one_of((0, 0, UFFD_FEATURES["UFFD_FEATURE_EVENT_REMAP"], 2, 64))
            mode = one_of((UFFD_MODES["UFFDIO_REGISTER_MODE_WP"],) * 3 + (1, 3, 4))
            add("uffd_register", start, length, mode, features)
            add("uffd_wp", *one_of(((start, length), self.part())), 1)
        elif what == 5:
            if not self.random.randrange(3):
                add("swapout", start + one_of((0, 1)) * self.page, self.page)  # beside it
            for _ in range(one_of(_FEW)):
                add("touch_on", self.random.randrange(4), start)
                start = self.part()[0]
        elif what == 6:
            add("fork")
            if self.random.randrange(2):
                add("touch", start, min(length, 4 * self.page))
            if not self.random.randrange(3):
                add("exit_child")
        elif what == 7:
            add("mprotect", start, length, one_of(_PROTECTIONS))
        elif what == 8:
            add(one_of(("mlock", "munlock")), start, min(length, 2 * self.slot * self.page))
        elif what < 11:
            self.split()
        else:
            add("madvise", start, length, one_of(_ADVICES))
            if not self.random.randrange(2):
                add("touch", start, self.page)

    def folio(self) -> None:
        """A huge page, full, mapped by its pages, which differ; a part of it moves."""
        add, one_of, page, slot = self.add, self.random.choice, self.page, self.slot
        start = (self.boundary(slot) // slot + 1) * slot
        count = slot * one_of((1, 1, 2))
        kind = one_of(("MAP_PRIVATE", "MAP_SHARED"))
        flags = MAP_FLAGS[kind] | _ANONYMOUS | _FIXED
        add("mmap", start * page, count * page, 3, flags)
        add("madvise", start * page, count * page, ADVICE["MADV_HUGEPAGE"])
        add("touch", start * page, slot * page)
        if kind == "MAP_SHARED":
            add("madvise", start * page, slot * page, ADVICE["MADV_COLLAPSE"])
        self.mappings.append((start, count))
        if self.random.randrange(4):
            some = (start + self.random.randrange(slot)) * page
            add("mprotect", some, page, 1)
            add("mprotect", some, page, 3)
        if kind == "MAP_SHARED" and self.random.randrange(2):
            # Read all, write some, write none any more: now they differ in being dirty only.
            some = (start + self.random.randrange(min(slot, 8))) * page
            add("mprotect", some, page, 1)
            add("madvise", start * page, count * page, ADVICE["MADV_NOHUGEPAGE"])
            second = start + count - slot  # of small pages, if there are two
            for place in {start, second}:
                add("peek", place * page, min(slot, 16) * page)
            add("touch", some, page * one_of((1, 1, 2)))
            add("touch", (second + 1) * page, page)
            add("mprotect", start * page, count * page, 1)
        for _ in range(one_of((0, 1, 1, 2))):
            some = (start + self.random.randrange(min(slot, 8))) * page
            what = self.random.randrange(4)
            if what == 0:
                add("soft_dirty_clear")
                add("touch", some, page * one_of(_FEW))
            elif what == 1:
                add("fork")
                add("touch", some, page)
            elif what == 2:
                add("uffd_register", start * page, count * page, 2, one_of((0, 4)))
                add("uffd_wp", some, page * one_of(_FEW), 1)
            else:
                add("madvise", some, page, one_of(_ADVICES))
        first = self.random.randrange(min(slot, 6))
        few = min(one_of((slot, slot, 2, 3, 5)), slot - first)
        few = one_of((few, few, count - first))
        target = self.boundary(slot) + one_of((0, slot * 8))
        operands = ((start + first) * page, few * page, few * page)
        add("mremap", *operands, one_of((3, 3, 3, 7)), min(target, self.end) * page)

    def split(self) -> None:
        """Map a huge page by its pages, and let some of them differ."""
        start, _ = self.part()
        self.add("mprotect", start, self.page, 1)
        if self.random.randrange(4):
            self.add("mprotect", start, self.page, 3)
        for _ in range(self.random.choice((0, 1, 1, 2))):
            place = start + self.random.choice((0, 1, 2, 3, -1)) * self.page
            place = max(place, self.low * self.page)
            what = self.random.choice(("FREE", "COLD", "DONTNEED", "PAGEOUT", ""))
            if what:
                self.add(
                    "madvise", place, self.page * self.random.choice(_FEW), ADVICE[f"MADV_{what}"]
                )
            else:
                self.add("touch", place, self.page)

    def move(self) -> None:
        """An mremap, mostly one that moves."""
        one_of = self.random.choice
        mapped, count = one_of(self.mappings)
        inside = one_of((0, 0, 0, 1, self.slot, count // 2)) % count
        start = mapped + inside
        old = one_of((count - inside,) * 5 + (1, self.slot, count - inside + 4, 0))
        new = one_of((old,) * 5 + (old + 1, old + self.slot, max(old - 1, 1), old // 2, 1))
        unit = self.unit()
        target = one_of(
            (
                self.boundary(unit) // unit * unit + start % unit,
                self.boundary(unit) // unit * unit + start % unit,
                self.boundary(unit),
                start + one_of((-1, 1, 2, -2)) * unit,
                start + old,
                start - new,
                one_of(self.mappings)[0] + one_of((0, 1, -1)) * one_of((count, new)),
            )
        )
        target = min(max(target, self.low), self.end)
        odd = one_of((0,) * 15 + (1, self.page // 2))  # bytes: not aligned
        operands = (start * self.page, old * self.page, new * self.page)
        self.add("mremap", *operands, one_of(_REMAP_FLAGS), target * self.page + odd)
        if new:
            self.mappings.append((target, new))


def scene(random: Random, geometry: Geometry) -> Case:
    """A program to the plan, on this geometry."""
    return _Scene(random, geometry).make()
