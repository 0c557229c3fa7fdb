"""Programs at the edges of what is allowed: limits that just suffice, seams, holes that just fit.

`fuzz.inputs.scene` makes what is usual; here one thing is odd, and all else is plain.
"""

from collections.abc import Callable
from random import Random

from engine.base.geometry import Geometry
from engine.base.uapi import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP,
)
from fuzz.calls.directives import FAILURES, LIMITS
from fuzz.calls.operand import FILES
from fuzz.calls.registry import call
from fuzz.case import Call, Case

_ROOM = 4  # slots of a plot
_PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_KINDS = (
    MAP_PRIVATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_PRIVATE | MAP_LOCKED,
    MAP_PRIVATE | MAP_HUGETLB,
    MAP_SHARED | MAP_HUGETLB,
)
_STATES: tuple[
    tuple[tuple[str, *tuple[int, ...]], ...], ...
] = (  # names and what follows the range
    (),
    (("mseal",),),
    (("uffd_register", UFFDIO_REGISTER_MODE_WP, 0), ("uffd_wp", 1)),
    (("uffd_register", UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_EVENT_REMAP), ("uffd_wp", 1)),
    (("uffd_register", UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_EVENT_UNMAP),),
    (("mprotect", PROT_READ),),
    (("madvise", MADV_DONTNEED),),
    (("madvise", MADV_NOHUGEPAGE),),
    (("munlock",),),
    (("munmap",),),
    (("swapout",),),
)


class _Edge:
    """One program.  Memory is parted into plots of a few slots; pages count from the arena."""

    def __init__(self, random: Random, geometry: Geometry) -> None:
        self.random = random
        self.geometry = geometry
        self.page = geometry.page_bytes
        self.slot = geometry.slot_bytes // self.page
        self.end = geometry.arena.length // self.page
        self.low = -(-geometry.min_addr // geometry.slot_bytes) * self.slot
        self.calls: list[Call] = []
        self.plots = [self.low + n * _ROOM * self.slot for n in range(1, 8)]
        self.kind = random.choice(
            (MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE | MAP_LOCKED, MAP_SHARED)
        )

    def make(self) -> Case:
        """A program."""
        kinds: tuple[Callable[[], None], ...] = (
            self.limits,
            self.limits,
            self.twice,
            self.counts,
            self.counts,
            self.failures,
            self.failures,
            self.shortage,
            self.places,
            self.places,
            self.removals,
            self.seams,
            self.seams,
            self.beside,
            self.side_by_side,
            self.side_by_side,
            self.put_back,
            self.huge,
            self.watched,
            self.outside,
            self.stack,
            self.folio,
            self.folio,
            self.folio,
            self.file,
            self.file,
            self.file,
        )
        self.random.choice(kinds)()
        return Case(tuple(self.calls))

    def add(self, name: str, *operands: int) -> None:
        """One more call."""
        self.calls.append(call(name, *operands))

    def map(self, start: int, count: int, kind: int | None = None) -> None:
        """A mapping, some of its pages touched."""
        kind = self.kind if kind is None else kind
        flags = kind | MAP_ANONYMOUS | MAP_FIXED
        self.add("mmap", start * self.page, count * self.page, 3, flags)
        if not self.random.randrange(2):
            self.add("touch", start * self.page, min(count, 2) * self.page)

    def remap(self, start: int, old: int, new: int, flags: int, to: int = 0) -> None:
        """An mremap, in pages; what is negative wraps."""
        page, mask = self.page, self.geometry.word_mask
        self.add("mremap", start * page & mask, old * page, new * page, flags, to * page & mask)

    def some(self) -> int:
        """A count of pages."""
        return self.random.choice((1, 2, 3, self.slot, self.slot + 1))

    def move(self, start: int, count: int, to: int) -> int:
        """One move of a mapping or a part of it.  Returns: the pages it adds if all is moved."""
        one_of = self.random.choice
        flags = one_of((0, 1, 1, 1, 3, 3, 3, 5, 7))
        keeps = bool(flags & 4)
        new = count if keeps else one_of((count, count + 1, count + 2, max(count - 1, 1)))
        if not self.random.randrange(4) and count > 2:
            self.remap(start + 1, 1, 1, flags, to)
            return 1
        if not self.random.randrange(6):
            self.remap(start, 0, count, flags | 1, to)
            return count
        self.remap(start, count, new, flags, to)
        return count if keeps else new - count

    def limits(self) -> None:
        """A limit of bytes that just suffices for a move, or just does not."""
        one_of = self.random.choice
        name = one_of(("as", "memlock", "commit", "commit"))
        kind = one_of((self.kind, MAP_PRIVATE, MAP_PRIVATE | MAP_LOCKED))
        sizes = [self.some() for _ in range(one_of((1, 2)))]
        for plot, count in zip(self.plots, sizes, strict=False):
            self.map(plot, count, kind)
        to = self.plots[one_of((1, 4))] + one_of((0, 1))
        if self.random.randrange(3):
            self.map(self.plots[0] + sizes[0], 1, one_of((MAP_PRIVATE, MAP_SHARED)))  # in the way
        more = self.move(self.plots[0], sizes[0], to)
        counts = {"as": ~0, "memlock": MAP_LOCKED, "commit": MAP_PRIVATE}[name]
        made = [c.args for c in self.calls if c.name == "mmap" and c.args[3] & counts]
        mapped = sum(length for _, length, *_ in made) // self.page
        if not self.random.randrange(2):
            self.move(one_of((self.plots[0], to)), sizes[0], self.plots[5])
        value = max(mapped + one_of((0, more, more, more - 1, more + 1, sizes[0])), 0)
        self.calls.insert(0, call("@limit", LIMITS[name], value * self.page))

    def twice(self) -> None:
        """Locked memory that some kernels count twice (B-34) moves once more."""
        count = self.some()
        value = count + self.random.choice((0, 0, 1, count))
        self.add("@limit", LIMITS["memlock"], value * self.page)
        self.map(self.plots[0], count, MAP_PRIVATE | MAP_LOCKED)
        self.remap(self.plots[0], count, count, 7, self.plots[4])
        self.remap(self.plots[4], count, count, 3, self.plots[5])

    def counts(self) -> None:
        """As many VMAs as there may be, or nearly."""
        one_of = self.random.choice
        count = one_of((1, 2, 3, 5))
        for plot in self.plots[:count]:
            self.map(plot, 5, MAP_PRIVATE)
        more = one_of((0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8))
        limit = call("@limit", LIMITS["map_count"], count + more)
        self.calls.insert(0, limit)
        what = 0 if more < 2 else self.random.randrange(4)
        place = self.plots[0]
        inside, length = one_of(((0, 1), (0, 5), (1, 1), (1, 4), (2, 2)))
        if what == 0:
            self.add("munmap", (place + inside) * self.page, length * self.page)
        elif what == 1:
            self.remap(place + inside, 5 - inside, max(5 - inside - length, 1), one_of((0, 1)))
        elif what == 2:
            self.remap(place + inside, length, length, one_of((3, 3, 7)), self.plots[1] + 1)
        else:
            self.map(place + 5, 1, MAP_SHARED)
            self.move(place, 5, self.plots[5])

    def failures(self) -> None:
        """Something fails on demand, or will."""
        one_of = self.random.choice
        count = self.some()
        locked = one_of((MAP_PRIVATE, MAP_SHARED)) | MAP_LOCKED
        self.map(self.plots[0], count, one_of((MAP_PRIVATE, MAP_SHARED, locked, locked)))
        if not self.random.randrange(2):
            self.map(self.plots[0] + count, 1, one_of((MAP_PRIVATE, MAP_SHARED)))
        if not self.random.randrange(3):
            self.map(self.plots[2], 4)
        kind = one_of((*FAILURES.values(), FAILURES["hook"], FAILURES["vma"]))
        self.add("@fail", kind, one_of((1, 1, 2, 3, 4, 6, 8, 12)))
        if not self.random.randrange(4):
            self.add("@fail", FAILURES["pagetable"], one_of((1, 2)))
        for _ in range(one_of((1, 2))):
            self.move(self.plots[0], count, self.plots[2] + one_of((0, 1)))

    def shortage(self) -> None:
        """No page tables any more, half way through a move and on its way back.

        What moves begins where there is no table yet, so the way back asks for one.
        """
        one_of, start, count = self.random.choice, self.plots[0] + self.slot - 1, self.slot + 2
        flags = one_of((MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED)) | MAP_ANONYMOUS | MAP_FIXED
        self.add("mmap", start * self.page, count * self.page, 3, flags)
        for first in (start + 1, start + count - 1):
            self.add("touch", first * self.page, self.page)
        nth = one_of((1, 2, 2, 3))
        for each in (nth, nth + 1):
            self.add("@fail", FAILURES["pagetable"], each)
        self.remap(start, count, count, one_of((3, 3, 7)), self.plots[4] + one_of((0, 0, 1)))

    def places(self) -> None:
        """What has no place yet, among holes that just fit, at the ends of the arena."""
        one_of, slot, page = self.random.choice, self.slot, self.page
        hole = 0
        if self.random.randrange(2):  # one hole at the top
            hole = one_of((0, 1, 2, slot - 1, slot, slot + 1, 2 * slot - 1, 2 * slot, 3 * slot))
            top = self.end - hole
            self.map(top - one_of((1, slot)), 1)
        if not self.random.randrange(4):  # and nothing else
            self.map(self.low + slot, self.end - self.low - 3 * slot, MAP_SHARED)
        for _ in range(one_of((1, 2, 3))):
            length = one_of((1, 2, slot - 1, slot, slot, 2 * slot, 2 * slot + 1, hole or 1))
            ends = (0, self.end - length, self.end - length, self.low, slot, 1, -1, -length)
            hint = one_of((*ends, *ends, self.end - length + 1, self.plots[0], self.plots[1] + 1))
            kind = one_of(
                (
                    self.kind,
                    MAP_PRIVATE,
                    MAP_SHARED,
                    MAP_PRIVATE | MAP_HUGETLB,
                    MAP_SHARED | MAP_HUGETLB,
                )
            )
            what = self.random.randrange(4)
            if what == 0:
                self.map(self.plots[0], length, one_of((MAP_PRIVATE, MAP_SHARED)))
                self.remap(self.plots[0], length, length, 5, hint)
            elif what == 1:
                self.map(self.plots[0], length, one_of((MAP_PRIVATE, MAP_SHARED)))
                self.map(self.plots[0] + length, 1, MAP_SHARED)
                self.remap(self.plots[0], length, length + one_of((1, slot - length % slot)), 1)
            elif hole and not hole % slot and self.random.randrange(2):
                kind |= MAP_HUGETLB
                self.add("mmap", (self.end - hole) * page, hole * page, 3, kind | MAP_ANONYMOUS)
            else:
                place = hint * page & self.geometry.word_mask
                self.add("mmap", place, length * page, 3, kind | MAP_ANONYMOUS)
        top = (self.geometry.user_top - self.geometry.arena.start) // page
        if not self.random.randrange(3):
            self.map(self.plots[2], 2, MAP_PRIVATE)
            user_space = self.geometry.user_top // page
            most = min((1 << 40) - 1, self.geometry.word_mask // page)
            new = one_of((top, top + 1, top - 1, self.end, user_space, most, most, most, most))
            self.remap(self.plots[2], one_of((1, 2)), new, one_of((0, 1, 1, 3)), one_of((0, top)))

    def removals(self) -> None:
        """munmap at every edge there is, and moves to the very top."""
        one_of, page = self.random.choice, self.page
        self.map(self.plots[0], 4)
        last = self.end - one_of((1, 2, 3))
        self.map(last, self.end - last, one_of((MAP_PRIVATE, MAP_SHARED)))
        top = self.geometry.user_top - self.geometry.arena.start
        if self.random.randrange(2):
            self.add("mseal", (self.plots[0] + 2) * page, page)
        for _ in range(one_of((1, 2, 3))):
            what = self.random.randrange(5)
            if what == 0:
                start = one_of((last * page, (self.end - 1) * page, top, top + page))
                self.add("munmap", start, max(top - start + one_of((0, 0, page, -page, 1)), 0))
            elif what == 1:
                start = self.plots[0] * page + one_of((0, 0, 1, page, page // 2))
                self.add(
                    "munmap", start, one_of((0, 1, page, 2 * page, page + 1, 4 * page, 8 * page))
                )
            elif what == 2:
                count = one_of((1, 2, 4))
                self.remap(self.plots[0], count, count, 3, self.end - count + one_of((0, 0, 1)))
            elif what == 3:
                start = last * page
                self.add("mremap", start, page * one_of((1, 2, 4)), page, one_of((0, 1)), 0)
            else:
                odd = one_of((1, 2, page - 1))
                start = self.plots[0] * page
                operands = [start, 2 * page, 2 * page, 3, self.plots[3] * page]
                operands[one_of((0, 1, 2, 4))] += odd
                self.add("mremap", *operands)

    def seams(self) -> None:
        """Neighbours that fit, or nearly; pieces that go away and come back."""
        one_of = self.random.choice
        count = one_of((2, 3, 4, self.slot))
        place = self.plots[0] + count
        kind = one_of((MAP_PRIVATE, MAP_PRIVATE, self.kind))
        self.map(place, 2 * count, kind)
        if not self.random.randrange(3):
            self.add("madvise", place * self.page, self.page, MADV_NOHUGEPAGE)
        what = self.random.randrange(6)
        if what == 0:  # beside itself, in part or as a whole
            inside, length = one_of(((0, 2 * count), (0, 1), (1, 1), (2 * count - 1, 1)))
            start = place + inside
            to = one_of((place - length, place + 2 * count, place - length - 1))
            if self.random.randrange(2):
                self.map(one_of((to - 1, to + length)), 1, kind)
            self.remap(start, length, length, one_of((3, 3, 7, 7, 7)), to)
        elif what == 1:  # away and back, or beside where it was
            self.remap(place + count, count, count, one_of((3, 3, 7)), self.plots[3])
            to = place + count + one_of((0, 0, 1, -1))
            self.remap(self.plots[3], count, count, one_of((3, 7)), to)
        elif what == 2:  # between two
            to = self.plots[3]
            self.map(to - 1, 1, kind)
            self.map(to + count, 1, kind)
            self.remap(place, count, count, one_of((3, 7)), to)
        elif what == 3:  # second views
            self.kind = MAP_SHARED
            self.map(place, 2 * count, MAP_SHARED)
            self.remap(place, 0, count, 3, self.plots[3])
            flags = one_of((3, 7))
            old = one_of((0, count)) if flags == 3 else count
            self.remap(place + count, old, count, flags, self.plots[3] + count)
        elif what == 4:  # halves that change places, and a copy between them
            low, high = (self.plots[4] - count, self.plots[4] + count)[:: one_of((1, -1))]
            self.halves(place, count, low, high)
        else:  # growth up to a neighbour
            self.map(place + 2 * count + 1, 1, kind)
            self.remap(place, 2 * count, 2 * count + one_of((1, 1, 2)), one_of((0, 1)))
        start, pages = one_of(((place, count), (self.plots[3], 2)))
        self.add("touch", start * self.page, pages * self.page)
        if not self.random.randrange(3):
            self.move(place, count, self.plots[5])

    def halves(self, place: int, count: int, low: int, high: int) -> None:
        """The halves of what is mapped at `place` move apart; a copy of one goes between them."""
        self.add("touch", place * self.page, 2 * count * self.page)
        self.remap(place, count, count, 3, low)
        self.remap(place + count, count, count, 3, high)
        self.remap(self.random.choice((low, high)), count, count, 7, self.plots[4])

    def beside(self) -> None:
        """A copy between its source, which stays, and a neighbour that fits."""
        one_of = self.random.choice
        count = one_of((1, 2, self.slot))
        place = self.plots[1]
        side = one_of((-1, 1))
        if not self.random.randrange(3):  # halves of what was one, and a copy between them
            low, high = (self.plots[4] - count * side, self.plots[4] + count * side)
            self.map(place, 2 * count, MAP_PRIVATE)
            self.halves(place, count, low, high)
            return
        start, length = one_of(((place, count), (place + (count - 1) * (side > 0), 1)))
        to = start + side * length
        self.add(
            "mmap", place * self.page, count * self.page, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        )
        self.map(to + side * length, length, MAP_PRIVATE)
        self.remap(start, length, length, one_of((7, 7, 7, 3)), to)
        if not self.random.randrange(2):
            self.add("touch", start * self.page, length * self.page)

    def side_by_side(self) -> None:
        """Neighbours of different kinds that move together, one of them in some state."""
        one_of, slot, page = self.random.choice, self.slot, self.page
        start = at = self.plots[2] + one_of((0, slot - 1, slot - 2))
        parts = []
        for _ in range(one_of((2, 2, 3, 3, 4))):
            kind, count = one_of(_KINDS), one_of((1, 2, 3, slot))
            if kind & MAP_HUGETLB:
                at, count = -(-at // slot) * slot, one_of((1, 1, 2)) * slot
            self.map(at, count, kind)
            parts.append((at, count))
            at += count + one_of((0, 0, 0, 1, 2))
        place, count = one_of(parts)
        where = (place + one_of((0, 0, count // 2))) * page, one_of((count, count, 1)) * page
        for name, *operands in one_of(_STATES):
            self.add(name, *where, *operands)
        first, whole = one_of(((start, at - start), (start, at - start), (place, at - place)))
        length = one_of((whole, whole, whole - 1, whole + 1, max(whole - slot + 1, 1), count))
        far = self.plots[6] + one_of((0, 1, 2, start - self.plots[2]))
        to = one_of((far, far, first + length, first - length, first - one_of((1, 2, 3, slot))))
        if not self.random.randrange(2):
            there = to + one_of((0, 1, count, length - 1))
            self.map(there, one_of((1, 2)), one_of((MAP_PRIVATE, MAP_SHARED)))
        if not self.random.randrange(4):
            kind = one_of((FAILURES["vma"], FAILURES["pagetable"], FAILURES["commit"]))
            self.add("@fail", kind, one_of((1, 2, 3, 5)))
        for _ in range(one_of((1, 1, 2))):
            self.remap(first, length, length, one_of((3, 3, 3, 7)), to)
            first += one_of((0, 0, 1, -1))

    def put_back(self) -> None:
        """Moves that fail half-way: into a neighbour, of locked memory, under a userfaultfd."""
        one_of, slot, page = self.random.choice, self.slot, self.page
        count = one_of((slot, slot, 2 * slot, 2 * slot + 1))
        place, to = self.plots[0], self.plots[3]
        kind = one_of((MAP_PRIVATE, MAP_PRIVATE | MAP_LOCKED, MAP_SHARED, MAP_SHARED | MAP_LOCKED))
        self.add("mmap", place * page, 2 * count * page, 3, kind | MAP_ANONYMOUS | MAP_FIXED)
        for start in (place, place + slot, place + count, place + 2 * count - 1):
            self.add("touch", start * page, page)
        what = self.random.randrange(3)
        if what == 0:
            features = one_of((0, 0, UFFD_FEATURE_EVENT_REMAP))
            self.add(
                "uffd_register", place * page, 2 * count * page, UFFDIO_REGISTER_MODE_WP, features
            )
            self.add("@fail", FAILURES["pagetable"], one_of((2, 3)))
            count = 2 * slot
        elif what == 1:
            self.remap(place, count, count, 3, to - count)
            place += count
            self.add("@fail", FAILURES["vma"], one_of((1, 2)))
        if what:
            kinds = (*(FAILURES["pagetable"],) * 3, FAILURES["hook"])
            self.add("@fail", one_of(kinds), one_of((1, 1, 2, 3)))
        self.remap(place, count, count + one_of((0, 0, 0, 1)), one_of((3, 7, 7)), to)

    def huge(self) -> None:
        """Moves of hugetlb memory."""
        one_of, slot, page = self.random.choice, self.slot, self.page
        kind = one_of((MAP_PRIVATE, MAP_SHARED)) | MAP_HUGETLB
        self.map(self.plots[0], 2 * slot, kind)
        old = one_of((2 * slot, slot, slot - 1, slot + 1, 0))
        new = one_of((old, old, old, slot, 2 * slot, 3 * slot, 1))
        start = self.plots[0] + one_of((0, 0, 0, slot, 1))
        to = self.plots[2] + one_of((0, 0, 0, 1, slot))
        operands = [start * page, old * page, new * page, one_of((0, 1, 3, 3, 3, 5, 7)), to * page]
        if not self.random.randrange(6):
            operands[one_of((0, 4))] += 1
        if not self.random.randrange(4):
            self.add("@fail", FAILURES["vma"], one_of((1, 2, 3)))
        self.add("mremap", *operands)

    def folio(self) -> None:
        """A huge page that is mapped by its pages, which differ; some of them move."""
        random, one_of, add = self.random, self.random.choice, self.add
        page, slot = self.page, self.slot
        kind, start, count = (
            one_of((MAP_PRIVATE, MAP_SHARED)),
            self.plots[0],
            slot * one_of((1, 1, 2)),
        )
        whole, some = (start * page, count * page), (start + random.randrange(min(slot, 8))) * page
        add("mmap", *whole, 3, kind | MAP_ANONYMOUS | MAP_FIXED)
        add("madvise", *whole, MADV_HUGEPAGE)
        add("touch", start * page, slot * page)
        if kind == MAP_SHARED:
            add("madvise", start * page, slot * page, MADV_COLLAPSE)
        add("mprotect", some, page, 1)
        if kind == MAP_SHARED and random.randrange(3):
            # Read all, write some, write none any more: now they differ in being dirty only.
            add("madvise", *whole, MADV_NOHUGEPAGE)
            second = start + count - slot  # of small pages, if there are two
            for place in sorted({start, second}):
                add("peek", place * page, min(slot, 16) * page)
            add("touch", some + page, page * one_of((1, 1, 2)))
            add("touch", (second + 1) * page, page)
            add("mprotect", *whole, 1)
        else:
            add("mprotect", some, page, 3)
        for _ in range(one_of((0, 1, 1, 2))):
            some = (start + random.randrange(min(slot, 8))) * page
            what = random.randrange(5)
            if what == 0:
                add("soft_dirty_clear")
                add("touch", some, page * one_of((1, 2, 3)))
            elif what == 1:
                add("fork")
                add("touch", some, page)
            elif what == 2:
                add(
                    "uffd_register",
                    *whole,
                    UFFDIO_REGISTER_MODE_WP,
                    one_of((0, UFFD_FEATURE_EVENT_REMAP)),
                )
                add("uffd_wp", some, page * one_of((1, 2, 3)), 1)
            elif what == 3:
                add("madvise", some, page, MADV_DONTNEED)
            else:
                add("swapout", some, page)
        first = random.randrange(min(slot, 6))
        few = min(one_of((slot, slot, 2, 3, 5)), slot - first)
        few = one_of((few, few, count - first))
        self.remap(start + first, few, few, 3, self.plots[2] + one_of((first, first, 0, 1)))

    def file(self) -> None:
        """Pieces of a file side by side, that fit or nearly; some go away and come back.

        The file ends in one of them, or behind it, and changes meanwhile.
        """
        one_of, slot, page = self.random.choice, self.slot, self.page
        count = one_of((1, 2, 3, slot))
        fd, size = (
            FILES["A"],
            one_of((4 * count, 3 * count, 2 * count, 3 * count - 1, 2 * count + 1)),
        )
        kind = one_of((MAP_SHARED, MAP_PRIVATE, MAP_PRIVATE))
        special = kind == MAP_SHARED and not self.random.randrange(4)
        self.add("bpf_map" if special else "file", fd, size * page)
        place = self.plots[0] + one_of((0, 0, slot - count, 1))
        pieces = []
        for number in range(3):
            first = number * count + one_of((0,) * 9 + (1,))
            start, flags = place + number * count, one_of((kind,) * 9 + (kind ^ 3,)) | MAP_FIXED
            self.add("mmap", start * page, count * page, 3, flags, fd, first * page)
            pieces.append(start)
            if self.random.randrange(2):
                self.add(one_of(("touch", "touch", "peek")), start * page, min(count, 3) * page)
        some = one_of(pieces) * page, count * page
        changes: tuple[tuple[str, *tuple[int, ...]], ...] = (
            ("ftruncate", fd, one_of((0, count, 2 * count, size + 1)) * page),
            ("fallocate", fd, _PUNCH, one_of((0, count, 1)) * page, count * page),
            ("madvise", *some, MADV_REMOVE),
            ("madvise", *some, MADV_DONTNEED),
            ("fork",),
            ("mprotect", *some, one_of((0, 1))),
        )
        for _ in range(one_of((0, 1, 1, 2))):
            self.add(*one_of(changes))
        moving, to = one_of(pieces), self.plots[3] + one_of((0, 0, 1))
        old = one_of((count, count, count, 0))
        new = one_of((count, count, count + 1, 2 * count, max(count - 1, 1)))
        self.remap(moving, old, new, one_of((3, 3, 3, 1, 0, 7)), to)
        if not self.random.randrange(2):
            self.add(*one_of(changes))
        back = moving + one_of((0, 0, 0, 1, -1))
        self.remap(to, count, count, one_of((3, 3, 7)), back)
        self.add(one_of(("touch", "peek")), pieces[0] * page, min(3 * count, slot + 2) * page)

    def watched(self) -> None:
        """Several mappings, of which a userfaultfd watches one."""
        one_of, page = self.random.choice, self.page
        place = self.plots[0]
        for number in range(one_of((1, 2, 3))):
            self.map(place + 3 * number, 2, one_of((MAP_PRIVATE, MAP_SHARED)))
        number = one_of((0, 0, 1))
        features = one_of((0, UFFD_FEATURE_EVENT_REMAP, UFFD_FEATURE_EVENT_UNMAP))
        start = (place + 3 * number) * page
        self.add(
            "uffd_register",
            start,
            2 * page,
            one_of((UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP)),
            features,
        )
        self.add("uffd_wp", start, page, 1)
        if not self.random.randrange(3):
            self.add("@fail", FAILURES["pagetable"], one_of((1, 2, 3)))
        for _ in range(one_of((1, 2))):
            first = place + one_of((0, 0, 3, 1))
            count = one_of((1, 2, 2, 3, 5, 8))
            self.remap(first, count, count, one_of((1, 3, 3, 3, 7)), self.plots[3])

    def outside(self) -> None:
        """A source that is not ours, and a destination that cannot be."""
        base, page = self.geometry.arena.start, self.page
        top, least = self.geometry.user_top, self.geometry.min_addr
        places = (base, self.geometry.arena.end, top, least, least - page, top - page, base - page)
        self.map(self.plots[0], 2)
        for _ in range(self.random.choice((1, 2))):
            addr = self.random.choice(places) - base & self.geometry.word_mask
            self.add("mremap", addr, page, page, self.random.choice((3, 7)), page // 2)

    def stack(self) -> None:
        """A stack with an operand that is odd, or that takes its end or the way to an edge."""
        one_of, page = self.random.choice, self.page
        count = one_of((1, 3, self.slot, self.slot + 1))
        start = self.plots[1]
        shift = one_of((0, 1, self.slot, start - self.low, start - self.low - count))
        operands = [start * page, (start + count) * page, shift * page]
        at = self.random.randrange(4)
        if at < 3:
            operands[at] = max(operands[at] + one_of((1, page // 2, -1)), 0)
        elif self.random.randrange(2):
            operands[1] = operands[0]  # nothing
        else:
            self.add("@fail", FAILURES["pagetable"], one_of((1, 2, 3)))
        name = one_of(("execve_stack", "relocate"))
        if name == "relocate":
            self.map(start, count, MAP_PRIVATE)
            self.add("touch", (start + one_of((0, 0, count - 1))) * page, page)
            if not self.random.randrange(2):  # right above
                self.map(start + count + one_of((0, 1)), 1, MAP_PRIVATE)
        elif not self.random.randrange(3):  # that much memory there is, or nearly
            most = (count + one_of((0, 0, 1, -1))) * page
            self.calls.insert(0, call("@limit", LIMITS[one_of(("as", "commit"))], most))
        self.add(name, *operands)


def edge(random: Random, geometry: Geometry) -> Case:
    """A program at an edge, on this geometry."""
    return _Edge(random, geometry).make()
