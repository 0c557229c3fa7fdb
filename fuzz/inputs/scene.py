"""Programs made to a plan: a few mappings, pages in some state, a move or two.

Random calls seldom bring a page into a rare state and then move that very page.  A scene does: it
has a place where it happens (`Pages`), and one or two themes (userfaultfd, huge pages, a failing
allocation, ...), each of which does to that place what its part of the kernel is about.  A theme
knows which calls belong together, not which bugs there are.

Places and lengths in this module are in pages of the arena (see `fuzz.inputs.ground`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from engine.base.geometry import Geometry
from engine.base.limits import CPUS
from engine.base.points import (
    ITERATION,
    LEAVE,
    MOVE_HUGE,
    MOVE_PMD,
    MOVE_PTES,
    PMD_MOVED,
    PTES_MOVED,
)
from engine.base.uapi import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_PAGEOUT,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    UFFD_FEATURE_EVENT_FORK,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_REMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFD_FEATURE_RWP,
    UFFD_FEATURE_WP_UNPOPULATED,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_RWP,
    UFFDIO_REGISTER_MODE_WP,
)
from fuzz.calls.actors import PREFIX, PointKind
from fuzz.calls.directives import FAILURES, LIMITS
from fuzz.calls.madvise import ADVICE
from fuzz.calls.operand import FILES
from fuzz.calls.reclaim import PACE
from fuzz.calls.registry import CALLS, call
from fuzz.calls.syscall import Syscall
from fuzz.case import Call, Case
from fuzz.inputs.ground import FEW, Ground, Pages

_PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
_SHARED = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
_DROPPABLE = MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED
_PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_RARE_FLAGS = (MAP_LOCKED, MAP_GROWSDOWN, MAP_NORESERVE, MAP_POPULATE, MAP_DROPPABLE)
_MOVES = (  # flags
    *(MREMAP_MAYMOVE | MREMAP_FIXED,) * 26,
    *(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,) * 6,
    *(MREMAP_MAYMOVE | MREMAP_DONTUNMAP,) * 2,
    *(MREMAP_MAYMOVE,) * 4,
    *(0,) * 3,
    MREMAP_FIXED,
)
_CHARGED = (
    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
    MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
    MREMAP_MAYMOVE,
    0,
)
_RW, _READ = 3, 1
_PROTECTIONS = (_RW, _READ, _READ, _READ, 0)
_THEMES = [declared for declared in CALLS.values() if declared.theme]
_FEATURES = (
    0,
    0,
    UFFD_FEATURE_EVENT_FORK,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_WP_UNPOPULATED,
    UFFD_FEATURE_EVENT_REMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFD_FEATURE_WP_UNPOPULATED,
)
_FAILING = (*("",) * 13, "pagetable", "pagetable", "vma", *FAILURES)  # mostly nothing
_LIMITED = (*("",) * 28, *LIMITS)


class _View(NamedTuple):
    """A mapping of a file, from `first` on, pages."""

    place: Pages
    fd: int
    first: int


# What others do in the middle of a move, as often as each.
_BETWEEN = (
    *("touch",) * 4,
    *("touch_on",) * 5,
    *("swapout",) * 5,
    *("collapse_file",) * 3,
    *("migrate_begin",) * 3,
    *("migrate_end",) * 2,
    *("madvise",) * 2,
    "uffd_wp",
    "uffd_rwp",
    "peek",
)


_LOOKED = (ITERATION, MOVE_PTES, MOVE_PMD)  # where a mover has looked at tables, without locks
_AHEAD = (ITERATION, ITERATION, ITERATION, MOVE_PTES, MOVE_PMD)
_BEHIND = (LEAVE, LEAVE, PTES_MOVED, PMD_MOVED)


class _Scene(Ground):
    """One program while it is made."""

    def __init__(self, random: Random, geometry: Geometry) -> None:
        super().__init__(random, geometry)
        self.geometry = geometry
        self.calls: list[Call] = []
        self.failing = self.limited = ""  # what fails, or runs out
        self.interrupted = False  # others come in between when something moves
        self.collapsed = False  # the object that is mapped, by another process
        self.sizes: dict[int, int] = {}  # pages of each file, by descriptor
        self.views: list[_View] = []
        self.holes: list[Pages] = []  # what was unmapped
        self.themes: dict[Callable[[Pages], None], int] = {
            self.userfaultfd: 4,
            self.look: 2,
            self.share: 3,
            self.put_away: 3,
            self.other_cpu: 3,
            self.protect: 1,
            self.seal: 1,
            self.lock: 1,
            self.advise: 1,
            self.cut: 2,
            self.change_file: 1,
            **{partial(self.do, declared): declared.theme for declared in _THEMES},
        }

    def make(self) -> Case:
        """A program."""
        random, one_of = self.random, self.one_of
        self.huge = not random.randrange(4)
        self.hugetlb = not self.huge and not random.randrange(6)
        self.failing, self.limited = one_of(_FAILING), one_of(_LIMITED)
        self.interrupted = not random.randrange(4)
        self.collapsed = self.interrupted and not random.randrange(4)
        if self.hugetlb and self.failing == "pagetable" and random.randrange(2):
            self.failing = "vma"  # it needs few page tables
        count, moves = one_of((0, 1, 1, 1, 2, 2, 3)), one_of((1, 1, 1, 1, 2, 2, 3))
        if not random.randrange(8):
            for _ in range(one_of((1, 1, 1, 2))):
                self.stack()
            if random.randrange(2):
                count = moves = 0  # most that a stack can show, it has shown
        elif not random.randrange(24):
            self.chain()
        else:
            for _ in range(one_of((1, 1, 2, 2, 3))):
                self.map()
        main = one_of(self.mappings)
        if self.huge:
            self.themes[self.share] *= 2  # that is what makes the pages of a huge one differ
        themes = random.choices(list(self.themes), list(self.themes.values()), k=count)
        for theme in themes:
            theme(self.piece(main if random.randrange(4) else one_of(self.mappings)))
        for number in range(moves):
            if number and not random.randrange(2):
                self.between(main)
            main = self.move(main) if random.randrange(6) else self.move(one_of(self.mappings))
        if not random.randrange(4):
            self.touch(main)
        if self.limited:
            self.limit()
        return Case(tuple(self.calls))

    def disturb(self, case: Case) -> Case:
        """The same program, in the middle of which something happens to what it is about."""
        page, named = self.page, [c.args for c in case.calls if c.name in ("mmap", "mremap")]
        self.end = self.geometry.arena.length // page
        self.mappings = [self.inside(args[0] // page, max(args[1] // page, 1)) for args in named]
        self.mappings += [
            self.inside(args[4] // page, max(args[2] // page, 1))
            for args in named
            if len(args) == 5
        ]
        limits = sum(c.name == "@limit" for c in case.calls)  # stand before all else
        at = self.random.randint(limits, len(case.calls))
        self.calls = list(case.calls[:at])
        if self.mappings and self.random.randrange(4):
            theme = self.random.choices(list(self.themes), list(self.themes.values()))[0]
            theme(self.piece(self.one_of(self.mappings)))
        else:
            self.failing = self.one_of(list(FAILURES))
            self.fail()
        return case.with_calls([*self.calls, *case.calls[at:]])

    @property
    def without_tables(self) -> bool:
        """Do page tables fail?  Then it takes a long move that needs new ones."""
        return self.failing == "pagetable"

    @property
    def by_tables(self) -> bool:
        """Is it about moves of whole tables or huge pages?  Then they are long, and aligned."""
        return self.without_tables or (self.huge and self.interrupted)

    def add(self, name: str, place: Pages, *operands: int) -> None:
        """One more call on a range."""
        self.calls.append(call(name, place.start * self.page, place.size * self.page, *operands))

    # What a program begins with.

    def map(self) -> None:
        """A mapping, mostly with a page or a few in it."""
        random, one_of = self.random, self.one_of
        shares = 1 if self.failing == "hook" or self.collapsed else 4  # only shared memory has one
        flags = _PRIVATE if random.randrange(shares) else _SHARED
        if self.hugetlb:
            flags |= MAP_HUGETLB
        whole = self.huge or self.hugetlb or self.collapsed
        place = self.aligned() if whole else self.place()
        if not self.hugetlb and (self.views or not random.randrange(8)) and random.randrange(4):
            self.map_file(place)
            return
        if not self.hugetlb and not random.randrange(8) and place == self.piece(place):
            rare = one_of(_RARE_FLAGS)
            flags = _DROPPABLE if rare == MAP_DROPPABLE else flags | rare
        self.add_mapping(place, flags)

    def map_file(self, place: Pages) -> None:
        """A mapping of a file; beside another one it may go on where that ends."""
        random, one_of = self.random, self.one_of
        fd = (
            one_of(list(self.sizes))
            if self.sizes and random.randrange(5)
            else self.open_file(place)
        )
        first = one_of((0, 0, 0, 1, 2, self.slot, self.slot // 2))
        beside = [view for view in self.views if view.place.end == place.start]
        if beside and random.randrange(4):
            fd, first = beside[-1].fd, beside[-1].first + beside[-1].place.size
        flags = one_of((MAP_SHARED, MAP_PRIVATE)) | MAP_FIXED
        if place.size <= self.slot // 4 and not random.randrange(8):  # as far as that is quick
            flags |= one_of((MAP_LOCKED, MAP_POPULATE, MAP_NORESERVE))
        self.views.append(_View(place, fd, first))
        self.add_mapping(place, flags, fd, first * self.page)

    def open_file(self, place: Pages) -> int:
        """A file that is about as large as what it is made for.  Returns: its descriptor."""
        size, one_of = place.size, self.one_of
        pages = one_of(
            (size, size, size, size + 1, 2 * size, size + self.slot, size - 1, size // 2)
        )
        fd = list(FILES.values())[len(self.sizes) % len(FILES)]
        name = one_of(("file",) * 15 + ("bpf_map",))
        self.calls.append(call(name, fd, pages * self.page + one_of((0,) * 15 + (self.page // 2,))))
        self.sizes[fd] = pages
        return fd

    def change_file(self, place: Pages) -> None:
        """A file gets another size, or a hole; it is mapped once more."""
        one_of, page = self.one_of, self.page
        if not self.sizes:
            self.map_file(place)
            return
        view = one_of(self.views)
        fd, part = view.fd, self.part(view.place)
        first = view.first + part.start - view.place.start
        match self.random.randrange(6):
            case 0 | 1:
                size = self.sizes[fd]
                pages = one_of((first, first + 1, size // 2, max(size - 1, 0), size + 1, 2 * size))
                self.calls.append(call("ftruncate", fd, pages * page))
                self.sizes[fd] = pages
            case 2 | 3:
                self.calls.append(call("fallocate", fd, _PUNCH, first * page, part.size * page))
            case 4:
                self.add("madvise", part, MADV_REMOVE)
            case _:
                mode = one_of((0, FALLOC_FL_KEEP_SIZE))
                few = min(one_of(FEW), part.size)
                self.calls.append(call("fallocate", fd, mode, first * page, few * page))
                self.sizes[fd] = max(self.sizes[fd], first + few)
        if not self.random.randrange(3):
            self.map()

    def chain(self) -> None:
        """A mapped file grows step by step, as a database does, till something is in its way."""
        random, one_of, page = self.random, self.one_of, self.page
        unit = one_of((1, 2, self.slot // 2 or 1, self.slot))
        place = self.inside(self.boundary(self.slot, corner=False) + one_of((0, 0, 1)), unit)
        fd = self.open_file(place)
        self.views.append(_View(place, fd, 0))
        self.add_mapping(place, one_of((MAP_SHARED, MAP_SHARED, MAP_PRIVATE)) | MAP_FIXED, fd)
        steps = one_of((1, 2, 3, 4))
        for step in range(steps):
            new = one_of((place.size + unit, place.size * 2, place.size + place.size // 8 + 1))
            grown = self.inside(place.start, new)
            if random.randrange(5):  # else it is mapped beyond its end
                self.calls.append(call("ftruncate", fd, new * page))
                self.sizes[fd] = new
            if step == steps - 1 and random.randrange(4):
                self.add_mapping(self.inside(place.end + one_of((0, 0, 1)), 1), _PRIVATE)
            flags = one_of((MREMAP_MAYMOVE,) * 4 + (0,))
            self.add("mremap", place, grown.size * page, flags)
            self.touch_at(grown, place.size, min(one_of(FEW), grown.size - place.size))
            place = grown
        self.mappings.append(place)

    def add_mapping(self, place: Pages, flags: int, *file: int) -> None:
        """Map that range, with what a program of this kind does next.

        Arguments: `file` its descriptor and the offset in it, bytes.
        """
        prot = _RW if self.random.randrange(8) else self.one_of(_PROTECTIONS)
        self.add("mmap", place, prot, flags, *file)
        self.mappings.append(place)
        if self.huge:
            self.add("madvise", place, MADV_HUGEPAGE)
        match self.random.randrange(8):
            case 0 | 1:
                pass
            case 2 | 3 | 4:  # at both ends, which may be under different tables
                self.touch_at(place, 0, 1)
                self.touch_at(place, place.size - 1, 1)
            case _:
                self.touch(place)

    def place(self) -> Pages:
        """Where something is mapped: beside what is there, or at a boundary."""
        one_of = self.one_of
        count = self.length()
        if self.mappings and self.random.randrange(3):
            near = one_of(self.mappings)
            gap = one_of((0, 0, 1, count, count, self.slot))  # room for itself, to move into
            start = one_of((near.end + gap, near.start - gap - count))
        else:
            start = self.boundary(one_of((self.slot, self.slot, self.pud)))
        return self.inside(start, count)

    def aligned(self) -> Pages:
        """Whole slots, now and then up to a part of the next one."""
        start = self.boundary(self.one_of((self.slot, self.pud)), corner=False)
        slots = self.one_of((1, 1, 1, 2, 2, 3)) * self.slot
        if self.hugetlb:  # around the boundary
            start, slots = start - self.slot, max(slots, 2 * self.slot)
        elif not self.random.randrange(3):
            start -= self.slot
        return self.inside(start, slots + self.one_of((0, 0, 0, 0, self.slot // 2)))

    def length(self) -> int:
        """Pages of a mapping."""
        slot, pud = self.slot, self.pud
        few = (1, 1, 2, 2, 3, 3, 4, 6)
        about = (slot - 1, slot, slot, slot + 1, slot + slot // 2, 2 * slot, 2 * slot + 3, 3 * slot)
        if self.without_tables and self.random.randrange(4):
            return self.one_of(about)  # something has moved already when the rest cannot
        return self.one_of((*few, *about, pud, pud, pud + 1))

    def touch(self, place: Pages, name: str = "touch") -> Pages:
        """Fill a few pages: the first ones, the last ones, those at a slot boundary."""
        few = min(self.one_of(FEW), place.size)
        room = place.size - few
        slots = self.random.randrange(place.size // self.slot + 1) * self.slot
        boundary = -place.start % self.slot + slots
        first = self.one_of((0, 0, room, room // 2, boundary, boundary, boundary - (few > 1)))
        return self.touch_at(place, min(max(first, 0), room), few, name)

    def touch_at(self, place: Pages, first: int, count: int, name: str = "touch") -> Pages:
        """Fill `count` pages of it, from its page `first` on."""
        touched = Pages(place.start + first, count)
        self.add(name, touched)
        self.filled.append(touched)
        return touched

    def pages(self, place: Pages) -> Pages:
        """Some pages of it that are there, if any are known to be."""
        if self.random.randrange(4) and (inside := self.filled_in(place)):
            return inside[-1]
        return self.touch(place, self.one_of(("touch", "touch", "peek")))

    def stack(self) -> None:
        """The stack of a new program; or of an old one, with `relocate`."""
        one_of, slot, page = self.one_of, self.slot, self.page
        end = self.boundary(slot) + slot * one_of((2, 3))
        count = min(one_of((1, 3, slot, slot + 1, 2 * slot, 2 * slot + 1)), end - 1)
        count = min(count, 4 * slot)
        least = max(end - self.low - one_of((0, count, 2 * count)), 0)  # to the bottom, and beyond
        shift = one_of((0, 1, slot, slot, 2 * slot, slot + 1, slot - 1, 3 * slot, least, least + 1))
        if self.failing and not self.random.randrange(3):
            self.fail()
        operands = ((end - count) * page, end * page, shift * page)
        if self.random.randrange(3):
            self.calls.append(call("execve_stack", *operands))
        else:
            stack = Pages(end - count, count)
            self.add("mmap", stack, _RW, _PRIVATE)
            self.touch(stack)
            self.calls.append(call("relocate", *operands))
        self.mappings.append(self.inside(end - count - shift, count))

    # Themes.

    def userfaultfd(self, place: Pages) -> None:
        """Register it, and write-protect pages of it."""
        features = self.one_of(_FEATURES)
        mode = self.one_of(
            (
                UFFDIO_REGISTER_MODE_WP,
                UFFDIO_REGISTER_MODE_WP,
                UFFDIO_REGISTER_MODE_WP,
                UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING,
                UFFDIO_REGISTER_MODE_MISSING,
                UFFDIO_REGISTER_MODE_RWP,
            )
        )
        protect = "uffd_wp"
        if mode & UFFDIO_REGISTER_MODE_RWP:
            protect, features = "uffd_rwp", features | UFFD_FEATURE_RWP
        part = place if self.random.randrange(4) else self.part(place)
        self.add("uffd_register", part, mode, features)
        if mode != UFFDIO_REGISTER_MODE_MISSING and self.random.randrange(4):
            chosen = self.one_of((part, self.part(part), self.pages(part)))
            self.add(protect, chosen, int(self.random.randrange(6) > 0))

    def look(self, place: Pages) -> None:
        """Read pages of it, also those that were never written."""
        self.touch(place, self.one_of(("peek", "peek", "touch")))

    def share(self, place: Pages) -> None:
        """A child shares its pages; some are written to, also when it is gone."""
        pages = self.pages(place)
        self.calls.append(call("fork"))
        for _ in range(self.one_of((0, 1, 1, 2))):
            self.add("touch", self.one_of((pages, self.part(pages))))
            if not self.random.randrange(2):
                self.calls.append(call("exit_child"))
            if not self.random.randrange(3):
                self.touch(place)
            elif pages.end < place.end:
                self.touch_at(place, pages.end - place.start, 1)

    def put_away(self, place: Pages) -> None:
        """Pages of it go to swap, are under migration, or are to be seen as clean."""
        touched = self.pages(place)
        match self.random.randrange(6):
            case 0 | 1:
                self.add("swapout", self.one_of((touched, place)))
            case 5:
                self.calls.append(call("collapse_file", touched.start * self.page))
            case 2:
                self.calls.append(call("migrate_begin", touched.start * self.page))
                if not self.random.randrange(3):
                    self.calls.append(call("migrate_end", touched.start * self.page))
            case 3:
                self.calls.append(call("soft_dirty_clear"))
            case _:
                self.add("madvise", touched, self.one_of((MADV_FREE, MADV_PAGEOUT)))

    def other_cpu(self, place: Pages) -> None:
        """Other CPUs use pages of it; then they may change."""
        touched = self.pages(place)
        for _ in range(self.one_of((1, 1, 2))):
            cpu = self.random.randrange(CPUS)
            self.calls.append(call("touch_on", cpu, touched.start * self.page))
        if not self.random.randrange(2):
            self.one_of((self.put_away_same, self.share, self.protect))(touched)

    def put_away_same(self, place: Pages) -> None:
        """Just these pages go to swap."""
        self.add("swapout", place)

    def protect(self, place: Pages) -> None:
        """Change the protection of a part, and mostly change it back."""
        part = self.part(place)
        self.add("mprotect", part, self.one_of(_PROTECTIONS))
        if self.random.randrange(4):
            self.add("mprotect", part, _RW)

    def seal(self, place: Pages) -> None:
        """Seal it."""
        self.add("mseal", self.part(place))

    def lock(self, place: Pages) -> None:
        """Lock it, as far as that is quick; now and then not for long."""
        place = Pages(place.start, min(place.size, 2 * self.slot))
        self.add("mlock", place)
        if not self.random.randrange(3):
            self.add("munlock", self.part(place))

    def advise(self, place: Pages) -> None:
        """Give some advice."""
        self.add("madvise", self.part(place), self.one_of(list(ADVICE.names.values())))

    def do(self, declared: Syscall, place: Pages) -> None:
        """Make a call about a part of it, of those that know no more than that."""
        likely = [param.kind.likely for param in declared.params[2:]]
        operands = [self.random.choices(list(of), list(of.values()))[0] for of in likely]
        self.add(declared.name, self.part(place), *operands)

    def cut(self, place: Pages) -> None:
        """Take a part of it away."""
        hole = self.part(self.part(place))
        self.add("munmap", hole)
        self.holes.append(hole)

    # Moves.

    def between(self, main: Pages) -> None:
        """Something happens before the next move."""
        if self.left and self.random.randrange(2):
            # Beside where it came from, or there.
            left = self.left[-1]
            few = self.one_of((1, 1, 2, left.size, self.slot))
            start = self.one_of((left.end, left.end, left.start - few, left.start))
            self.add_mapping(self.inside(start, few), _PRIVATE)
            self.home = left.start
        elif self.random.randrange(2):
            self.map()
        else:
            theme = self.random.choices(list(self.themes), list(self.themes.values()))[0]
            theme(self.piece(main))

    def move(self, main: Pages) -> Pages:
        """An mremap.  Returns: where it went, if all went well."""
        random, one_of, page = self.random, self.one_of, self.page
        flags = one_of(_MOVES)
        if "commit" in (self.failing, self.limited) and random.randrange(3):
            flags = one_of(_CHARGED)
        parts = (1, 4) if self.by_tables else (2, 3) if self.huge else (1, 2)
        source = self.part(main) if random.randrange(parts[1]) < parts[0] else main
        if random.randrange(6):
            source = self.without_holes(source)
        old = source.size
        others = (old + 1, old + self.slot, old * 2, max(old - 1, 1), old // 2)
        alike = (
            1
            if not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
            else 60
            if flags & MREMAP_DONTUNMAP
            else 16
        )
        new = one_of((*(old,) * alike, *others))
        if self.hugetlb and random.randrange(8):
            new = old  # it cannot grow
        target = self.target(source, new)
        for _ in range(one_of((0, 3, 3, 3, 3, 3, 3, 3))):  # ranges that overlap are refused
            if not _overlap(source, target, new):
                break
            target = self.target(source, new)
        if self.hugetlb and random.randrange(8):
            target -= target % self.slot
        operands = [source.start * page, old * page, new * page, flags, target * page]
        usual = list(operands)
        match self.random.randrange(32):
            case 0:  # a second mapping of shared memory, an error else
                operands[1] = 0
            case 1:
                odd = one_of((0, self.word - page, -operands[0] % self.word))
                operands[one_of((1, 2))] = odd
            case 2 | 3:
                operands[1] = self.word // 16 * self.random.randrange(1, 16)
            case 4:
                operands[one_of((0, 1, 2, 4))] += page // 2
        resized = flags & MREMAP_DONTUNMAP and new != old
        refused = resized or (flags & MREMAP_FIXED and _overlap(source, target, new))
        if self.interrupted and not refused:
            self.interrupt(source, target)
        back = any(place.start == target for place in self.left)
        if back and not refused and random.randrange(2):
            self.overtake(source, target)  # on the way back, which may end in the mapping it left
        move = call("mremap", *operands)
        if self.failing and not refused and self.random.randrange(3):
            self.fail_first(move)
        self.calls.append(move)
        if refused or operands != usual or not flags & MREMAP_FIXED:
            return source  # it stays there, or nobody knows where it goes to
        self.left.append(source)
        ahead = target - source.start
        self.filled += [Pages(f.start + ahead, f.size) for f in self.filled_in(source)]
        self.mappings.append(self.inside(target, max(new, 1)))
        return self.mappings[-1]

    def without_holes(self, place: Pages) -> Pages:
        """The longer side of it beside each hole; what starts or ends in one is not moved."""
        for hole in self.holes:
            low = Pages(place.start, min(place.end, hole.start) - place.start)
            start = max(place.start, hole.end)
            high = Pages(start, place.end - start)
            longer = max(low, high, key=lambda side: side.size)
            if longer.size > 0:
                place = longer
        return place

    def interrupt(self, source: Pages, target: int) -> None:
        """Others do something to pages of a move while it is under way: here, or there already."""
        one_of, filled = self.one_of, self.filled_in(source)
        for _ in range(one_of((1, 1, 1, 2, 2, 3))):
            if self.views and not self.random.randrange(3):
                self.change_file_between(source)
                continue
            if filled and not self.collapsed and not self.random.randrange(3):
                self.overtake(source, target)
                continue
            name = "collapse_file" if self.collapsed else one_of(_BETWEEN)
            pages = one_of(filled[-3:]) if filled and self.random.randrange(5) else source
            start = pages.start + one_of((0, 0, 0, 1, pages.size - 1))
            if not self.random.randrange(3):
                start += target - source.start
            self.do_between(name, self.inside(start, one_of(FEW)))
            if name == "migrate_begin" and self.random.randrange(3):
                start += one_of((0, target - source.start))
                self.do_between("migrate_end", self.inside(start, 1))

    def change_file_between(self, place: Pages) -> None:
        """A file is changed in the middle of the next call, as far as others do that."""
        first = len(self.calls)
        self.change_file(place)
        made = self.calls[first:]
        del self.calls[first:]
        for one in made:
            if f"{PREFIX}{one.name}" in CALLS:
                self.make_between(one.name, one.args)

    def overtake(self, source: Pages, target: int) -> None:
        """The page for which somebody walks the reverse map has moved before it is locked.

        Another CPU uses it at its new place, or nobody may find it again.
        """
        page = self.one_of(self.filled_in(source)[-3:] or [source]).start
        there, slowly = page + target - source.start, PACE.names["SLOWLY"]
        if self.random.randrange(2):
            cpu = self.random.randrange(CPUS)
            self.make_between("touch_on", (cpu, there * self.page), _BEHIND)
            self.make_between("migrate_begin", (page * self.page, slowly), _AHEAD)
        else:
            self.calls.append(call("migrate_begin", page * self.page))
            self.make_between("migrate_end", (page * self.page, slowly), _AHEAD)

    def do_between(self, name: str, place: Pages) -> None:
        """Somebody makes a call on a range in the middle of the next one."""
        declared, span = CALLS[name], CALLS[name].span
        assert span is not None
        likely = [param.kind.likely or {0: 1} for param in declared.params]
        operands = [self.random.choices(list(of), list(of.values()))[0] for of in likely]
        operands[span.start] = place.start * self.page
        if span.length is not None:
            operands[span.length] = place.size * self.page
        self.make_between(name, operands)

    def make_between(self, name: str, operands: Sequence[int], points: Sequence[str] = ()) -> None:
        """The same with all operands of the call, and at one of some points."""
        declared = CALLS[f"{PREFIX}{name}"]
        likely = [param.kind.likely for param in declared.params[:2]]
        kind = declared.params[0].kind
        assert isinstance(kind, PointKind)
        if not points and (name == "collapse_file" or self.random.randrange(2)):
            points = (MOVE_HUGE,) if self.huge and not self.collapsed else _LOOKED
        elif points and self.random.randrange(4):
            likely[1] = {1: 1}
        likely[0] = Counter(kind.names[at] for at in points if at in kind.names) or likely[0]
        when = [self.random.choices(list(of), list(of.values()))[0] for of in likely]
        self.calls.append(call(declared.name, *when, *operands))

    def target(self, source: Pages, new: int) -> int:
        """Where it is to go: mostly a free place that tables could move to."""
        one_of = self.one_of
        if self.home >= 0 and self.random.randrange(3):
            home, self.home = self.home, -1
            return home
        unit = one_of((self.slot, self.slot, self.pud))
        alike = self.boundary(unit, corner=False) + source.start % unit
        other = one_of(self.mappings)
        if self.by_tables and self.random.randrange(4):
            return min(max(alike, self.low), self.end)
        places = (
            *(alike,) * 5,
            *(alike + self.slot * one_of((1, 2, 4, 8)),) * 4,
            self.boundary(unit),
            source.start + one_of((-2, -1, 1, 2)) * unit,
            *(one_of((source.end, source.start - new)),) * 2,  # where it may merge
            one_of((other.end, other.start - new)),
            *(one_of((other.start, other.start, other.start + 1, other.end - new)),) * 2,
            *(place.start + one_of((0, 0, 0, 1, -1)) for place in self.left[-2:]),
        )
        return min(max(one_of(places), self.low), self.end)

    def fail(self) -> None:
        """What the next call asks for, it does not get."""
        nth = self.one_of((1, 1, 2, 2, 3, 4))
        self.calls.append(call("@fail", FAILURES[self.failing], nth))

    def fail_first(self, move: Call) -> None:
        """The move fails at one place after another: each time all is to be as it was."""
        first = self.one_of((1, 1, 1, 2, 3))
        for nth in range(first, first + self.one_of((1, 1, 1, 2))):
            self.calls += (call("@fail", FAILURES[self.failing], nth), move)

    def limit(self) -> None:
        """Something runs out: what the program has mapped is just about allowed."""
        pages = [c.args[1] // self.page for c in self.calls if c.name == "mmap"]
        if self.limited == "map_count":
            value = len(pages) + self.random.randrange(7)
        else:
            allowed = sum(pages) if self.random.randrange(4) else sum(pages[:2])
            value = (allowed + self.one_of((0, 0, 0, 1, self.slot))) * self.page
        self.calls.insert(0, call("@limit", LIMITS[self.limited], value))


def _overlap(source: Pages, target: int, new: int) -> bool:
    """Do a range that moves and its destination of `new` pages overlap?"""
    return target < source.end and source.start < target + new


def scene(random: Random, geometry: Geometry) -> Case:
    """A program to the plan, on this geometry."""
    return _Scene(random, geometry).make()


def disturbed(random: Random, geometry: Geometry, case: Case) -> Case:
    """Another program, on this geometry, that does one more thing to its memory on the way."""
    return _Scene(random, geometry).disturb(case)
