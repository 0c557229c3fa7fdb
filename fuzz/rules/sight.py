"""What rules see: a call, with what was there before it and what is there now; a move in progress.

A `Snapshot` is a state as rules know it: VMAs as intervals, limits, leaves.  `Sight` has that of
before a call, and looks at the state after it once for all checks.  `Moving` is the same for one
page-table move.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from engine.base.address import Range, round_up
from engine.base.entry import ACCESSED, DIRTY, PFN_SHIFT, SOFT_DIRTY, UFFD_WP
from engine.base.failures import Failures
from engine.base.geometry import PTE, Geometry
from engine.base.kernel import Kernel
from engine.base.limits import Limits
from engine.base.points import (
    ENTER,
    HUGE_MOVED,
    HUGE_SPLIT,
    ITERATION,
    PMD_MOVED,
    PMD_OCCUPIED,
    PTES_MOVED,
    PUD_MOVED,
    PUD_OCCUPIED,
    RMAP,
    Point,
)
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, Errno
from engine.move import Move
from engine.state import terms
from engine.state.backing import Backing
from engine.state.space import AddressSpace
from engine.state.table import Picture
from engine.state.vma import VM_HUGETLB, VM_UFFD, VM_UFFD_PROTECTED, AnonVma, UffdContext, Vma
from fuzz.calls.registry import Returned
from fuzz.rules.picture import Leaves, pages, retold, shifted
from fuzz.rules.rule import Before

BITES = (PTES_MOVED, PMD_MOVED, PUD_MOVED, HUGE_MOVED)  # points at which something has moved


class Area(NamedTuple):
    """A VMA as it was: bytes, its page offset, whether it owns reservations of huge pages, how far
    the index of its copies is ahead (`Vma.anon_shift`)."""

    start: int
    end: int
    flags: int
    pgoff: int
    backing: Backing
    anon_vma: AnonVma | None
    uffd: UffdContext | None
    reserves: bool = False
    anon_shift: int = 0


class Mapped(NamedTuple):
    """What one stretch of memory maps; stretches are joined wherever they look alike."""

    start: int
    end: int
    flags: int
    backing: Backing
    offset: int  # of the object, minus the address, in pages: constant along a mapping

    def ahead(self, delta: int, geometry: Geometry) -> "Mapped":
        """The same mapping `delta` bytes further."""
        pages = 0 if self.backing.is_anonymous else delta >> geometry.page_shift
        return self._replace(
            start=self.start + delta, end=self.end + delta, offset=self.offset - pages
        )

    def told(self, geometry: Geometry) -> str:
        """What it is, for people."""
        where = Range(self.start, self.end)
        if self.backing.is_anonymous:
            return terms.mapping(geometry, where, self.flags, self.backing)
        pgoff = self.offset + (self.start >> geometry.page_shift)
        return terms.mapping(geometry, where, self.flags, self.backing, pgoff)


class Request(NamedTuple):
    """An mremap: real addresses, lengths as the caller gave them, and `old` and `new` in bytes of
    whole pages, as the machine has them."""

    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int
    old: int
    new: int

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        addr: int,
        old_len: int,
        new_len: int,
        flags: int,
        new_addr: int,
    ) -> "Request":
        """The request with these operands."""
        page, mask = geometry.page_bytes, geometry.word_mask
        old, new = round_up(old_len, page) & mask, round_up(new_len, page) & mask
        return cls(addr, old_len, new_len, flags, new_addr, old, new)

    @property
    def places(self) -> bool:
        """FIXED or DONTUNMAP."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))

    @property
    def keeps(self) -> bool:
        """DONTUNMAP."""
        return bool(self.flags & MREMAP_DONTUNMAP)

    @property
    def growth(self) -> int:
        """Bytes that it asks for in addition."""
        return max(self.new - self.old, 0)

    @property
    def source(self) -> Range:
        """What it names as old."""
        return Range(self.addr, self.addr + self.old)

    @property
    def evicts(self) -> list[Range]:
        """What is unmapped before the move: the destination with FIXED, the tail of a shrink."""
        evicted = []
        if self.flags & MREMAP_FIXED:
            evicted.append(Range(self.new_addr, self.new_addr + self.new))
        if self.old > self.new:
            evicted.append(Range(self.addr + self.new, self.addr + self.old))
        return evicted


class Snapshot:
    """A state of a space.

    `limits` as they are, None if there are none but on the number of VMAs, `map_limit`; `in_use`
    how many bytes count against those of the address space, of locked and of accountable memory;
    `failing` the failures to come, by kind, see `Failures.left`; `left_locked` the folios that stay
    locked for good; `pool` the huge pages that nobody has or was promised; `cleaned` what is
    soft-dirty page by page only; `high_water` the peak of mapped pages; `slots` all leaves;
    `events` what each userfaultfd was told last.
    Arguments: `leaves` look at them, too.
    """

    def __init__(self, space: AddressSpace, *, leaves: bool = True) -> None:
        limits, shift = space.limits, space.geometry.page_shift
        bounds = (limits.address_space, limits.locked, limits.commit, limits.request)
        self.kernel: Kernel = space.kernel
        self.geometry: Geometry = space.geometry
        self.arena = space.arena
        self.areas = [
            Area(
                v.start,
                v.end,
                v.flags,
                v.pgoff,
                v.backing,
                v.anon_vma,
                v.uffd,
                v.reserves,
                v.anon_shift,
            )
            for v in space.vmas
        ]
        self.cleaned = [Range(v.start, v.end) for v in space.vmas if v.tracked]
        self.map_limit = limits.map_count
        self.limits: Limits | None = None if bounds == (None, None, None, None) else limits
        self.in_use = (
            space.total_vm << shift,
            space.locked_vm << shift,
            space.committed << shift,
        )
        self.failing: dict[str, tuple[int, ...]] = (
            space.failures.left() if space.failures.armed else {}
        )
        self.left_locked = frozenset(space.frames.mlocked)
        self.pool = space.pool.free - space.pool.reserved
        self.high_water = max(space.hiwater_vm, space.total_vm)
        self.slots: Picture = space.tree.frozen() if leaves else {}
        self.events = (
            {context: context.events for context in space.uffds.values()} if space.uffds else {}
        )

    @property
    def scarce(self) -> bool:
        """May memory run out by itself?"""
        return self.limits is not None or bool(self.failing)

    @cached_property
    def mapped(self) -> list[Mapped]:
        """The mappings.  VMA boundaries between equal neighbours do not show."""
        return mapped_of(self.areas, self.geometry)

    @cached_property
    def registered(self) -> list[tuple[Range, int, UffdContext]]:
        """What userfaultfds watch."""
        return [(Range(a.start, a.end), a.flags & VM_UFFD, a.uffd) for a in self.areas if a.uffd]

    @property
    def protected(self) -> set[int]:
        """Addresses of entries with uffd-wp in memory that is registered for it."""
        return {addr for addr, _, flags in self._marked() if flags & VM_UFFD_PROTECTED}

    @cached_property
    def stray(self) -> set[int]:
        """The frames of entries with uffd-wp in other memory; marks count as frame 0."""
        return {
            entry >> PFN_SHIFT
            for _, entry, flags in self._marked()
            if not flags & VM_UFFD_PROTECTED
        }

    def _marked(self) -> Iterator[tuple[int, int, int]]:
        """Entries with uffd-wp: the address, the entry, the flags of a VMA around it."""
        page, slot = self.geometry.page_bytes, self.geometry.slot_bytes
        for base, held in self.slots.items():
            if isinstance(held, int):
                size, marked = slot, [(base, held)] if held & UFFD_WP else []
            else:
                size = page
                marked = [(base + i * page, e) for i, e in held.items() if e & UFFD_WP]
            for addr, entry in marked:
                for area in self.areas:
                    if area.start < addr + size and addr < area.end:
                        yield addr, entry, area.flags

    def equals(self, other: "Snapshot") -> bool:
        """Are VMAs and leaves the same?"""
        return self.areas == other.areas and self.slots == other.slots

    def pages(self, within: Range) -> Leaves:
        """The leaves inside a range."""
        return pages(self.geometry, self.slots, within)

    def at(self, addr: int) -> Area | None:
        """What is mapped at an address."""
        for area in self.areas:
            if area.start <= addr < area.end:
                return area
        return None

    def is_hugetlb(self, addr: int) -> bool:
        """Is there a huge page of hugetlb?"""
        area = self.at(addr)
        return area is not None and bool(area.flags & VM_HUGETLB)

    def inside(self, start: int, end: int) -> list[Area]:
        """What is mapped in [start, end)."""
        if start >= end:
            return []
        return [area for area in self.areas if area.start < end and start < area.end]

    def held(self, where: Range, flag: int = 0) -> int:
        """How many bytes of a range are mapped, with a flag if one is given."""
        return sum(
            min(area.end, where.end) - max(area.start, where.start)
            for area in self.inside(where.start, where.end)
            if not flag or area.flags & flag
        )

    def others_at(self, addr: int) -> bool:
        """Is that outside the arena?  What is left of user space is mapped by others."""
        user_space = range(self.geometry.min_addr, self.geometry.user_top)
        return addr in user_space and not self.arena.start <= addr < self.arena.end

    def full(self, more: int) -> bool:
        """Is there no room for `more` VMAs under vm.max_map_count (6.6, measured)?"""
        return len(self.areas) + more > self.map_limit

    def crowded(self, request: Request) -> bool:
        """Are there too many VMAs for what the call may make of them, before anything is unmapped?

        Until 7.0 FIXED and DONTUNMAP had to have more room than they need.
        """
        if not self.full(6):  # which is the most that any kernel asks for
            return False
        if not self.kernel.map_count_before_all:
            return True
        return self.full(4 + (request.keeps and self.kernel.dontunmap_splits_locked))


def mapped_of(vmas: Iterable[Vma | Area], geometry: Geometry) -> list[Mapped]:
    """The mappings of VMAs in order, see `Snapshot.mapped`."""
    shift = geometry.page_shift
    return merged(
        [
            Mapped(
                vma.start,
                vma.end,
                vma.flags,
                vma.backing,
                0 if vma.backing.is_anonymous else vma.pgoff - (vma.start >> shift),
            )
            for vma in vmas
        ]
    )


def merged(mapped: Iterable[Mapped]) -> list[Mapped]:
    """Stretches in order, neighbours that look alike as one."""
    result: list[Mapped] = []
    for m in mapped:
        if result and result[-1].end == m.start and result[-1][2:] == m[2:]:
            m = m._replace(start=result.pop().start)
        result.append(m)
    return result


def clip(mapped: list[Mapped], within: Range) -> list[Mapped]:
    """The parts of mappings inside a range; none if the range is empty."""
    low, high = within
    if low >= high:
        return []
    return [
        m
        if low <= m.start and m.end <= high
        else m._replace(start=max(m.start, low), end=min(m.end, high))
        for m in mapped
        if m.start < high and low < m.end
    ]


def without(mapped: list[Mapped], hole: Range) -> list[Mapped]:
    """Mappings with a range cut out."""
    top = 1 << 64
    return clip(mapped, Range(0, hole.start)) + clip(mapped, Range(hole.end, top))


class Attempts:
    """What there is, and the attempts that are counted, before a call or a move."""

    __slots__ = ("left", "tables", "vmas")

    def __init__(self, space: AddressSpace) -> None:
        self.left = space.failures.left()
        self.vmas = list(space.vmas)  # kept, so that no other object gets its id
        self.tables = sum(space.tree.counts)

    def made(self, failures: Failures, kind: str) -> int | None:
        """How many attempts of a kind were made since; None if that cannot be told."""
        before, after = self.left.get(kind, ()), failures.left().get(kind, ())
        return before[0] - after[0] if before and len(after) == len(before) else None


class Sight:
    """One call: `before` it, and once it has `returned` the `space` as it is now.

    `error` is what it was refused with, `address` what an mmap or mremap has returned, else None;
    `attempts` only where failures are to come; `occupied` how many entries moves of tables found
    taken; `first_tag` the content that the next page gets.
    Arguments: `args` the operands, with real addresses; `before` what is compared; no check may
    look at more than it has said.
    """

    before: Snapshot

    def __init__(
        self, space: AddressSpace, call: str, args: Iterable[int], before: Before = Before.LEAVES
    ) -> None:
        self.space = space
        self.call = call
        self.args = tuple(args)
        self._leaves = before == Before.LEAVES
        if before:
            self.before = Snapshot(space, leaves=self._leaves)
        self.attempts = Attempts(space) if space.failures.armed else None
        self.first_tag = space.next_tag
        self.occupied = 0
        self.result: Returned = None
        self.error: Errno | None = None
        self.address: int | None = None

    def retell(self, then: Picture, now: Picture, went: Sequence[tuple[int, int, int]]) -> None:
        """Somebody else has changed the leaves from `then` to `now`, as if before the call.

        Arguments: `went` where pages may have gone meanwhile: [start, end), and how far.
        """

        def home(addr: int) -> int:
            return next((addr - delta for low, high, delta in went if low <= addr < high), addr)

        self.attempts = None  # others have asked, too
        if self._leaves:
            before = self.before
            before.slots = retold(before.geometry, before.slots, then, now, home)

    def returned(self, result: Returned, occupied: int = 0) -> "Sight":
        """Note what the call has returned.  Returns: the sight."""
        self.result, self.occupied = result, occupied
        self.error = result if isinstance(result, Errno) else None
        self.address = result if isinstance(result, int) else None
        return self

    @cached_property
    def after(self) -> Snapshot:
        """The state now."""
        return Snapshot(self.space, leaves=self._leaves)

    @cached_property
    def request(self) -> Request:
        """The operands of an mremap."""
        return Request.of(self.space.geometry, *self.args)

    @cached_property
    def sides(self) -> tuple[Range, Range]:
        """Source and destination of an mremap, the latter as it was asked for.

        Huge pages go whole: those at the start, or, when several VMAs may move, those at the end.
        """
        request, before = self.request, self.before
        addr, old, new = request.addr, request.old, request.new
        page, huge = before.geometry.page_bytes, before.geometry.slot_bytes
        is_huge, at_end = (before.is_hugetlb(at) for at in (addr, addr + max(old, page) - 1))
        if is_huge != at_end and request.flags & MREMAP_FIXED and old == new:
            # Asked late: where it makes no difference a kernel without it does the same.
            is_huge = is_huge != before.kernel.multi_vma_move
        if is_huge:
            old, new = (round_up(addr + n, huge) - addr for n in (old, new))
        return Range(addr, addr + old), Range(request.new_addr, request.new_addr + new)


class Moving:
    """One move of page tables, at the last of its points that was announced.

    `before` are the leaves when it began, `start` where it goes to, `delta` how far that is,
    `cursor` where it was before, bytes; `whole` the slots whose table moved as it is; `refused` the
    points of this iteration at which a whole table could not move; `unmapped` says that a huge page
    of a shared object was split, so that its pages are gone.  FOLLOWED are the points that must be
    heard for that.
    """

    FOLLOWED = frozenset(
        (ENTER, ITERATION, PMD_MOVED, PUD_MOVED, PMD_OCCUPIED, PUD_OCCUPIED, HUGE_SPLIT)
    )

    def __init__(self, space: AddressSpace, move: Move) -> None:
        self.space = space
        self.move = move
        self.at = Point("", move.old, move.old, 0)
        self.point = ""  # its name
        self.before = space.tree.frozen()
        self.attempts = Attempts(space) if space.failures.armed else None
        self.start = move.new
        self.delta = move.new - move.old
        self.cursor = move.old - 1
        self.whole: set[int] = set()
        self.refused: set[str] = set()
        self.unmapped = False

    def retell(self, then: Picture, now: Picture) -> None:
        """Somebody else has changed the leaves from `then` to `now`, as if before the move.

        What the next bite was to be may not be possible any more.
        """
        end = self.move.new + (self.extent if self.point in BITES else 0)

        def home(addr: int) -> int:
            return addr - self.delta if self.start <= addr < end else addr

        self.attempts = None
        self.before = retold(self.space.geometry, self.before, then, now, home)
        self.refused |= {PMD_OCCUPIED, PUD_OCCUPIED, HUGE_SPLIT}

    def arrive(self, point: Point) -> None:
        """The move is at a point."""
        self.at, self.point = point, point.name

    def depart(self) -> None:
        """The point has been judged, the move goes on."""
        name, move = self.point, self.move
        if name == ITERATION:
            self.refused.clear()
            self.cursor = move.old
        elif name == PMD_MOVED:
            self.whole.add(move.old)
        elif name == PUD_MOVED:
            self.whole |= {base for base in self.before if base in range(*self.where)}
        elif name in (PMD_OCCUPIED, PUD_OCCUPIED):
            self.refused.add(name)
        elif name == HUGE_SPLIT:
            self.refused.add(name)
            self.unmapped |= self.space.tree.find(move.old, PTE) is None

    @property
    def where(self) -> Range:
        """The range of the point."""
        return self.at.where

    @property
    def extent(self) -> int:
        """How long that is, bytes."""
        return self.at.end - self.at.start

    @property
    def locked(self) -> bool:
        """Are locks of the reverse map held there?"""
        return bool(self.at.held & RMAP)

    @property
    def moved(self) -> Range:
        """What was asked for and has moved.

        A failed move may stop inside the widened first slot: nothing was asked for there.
        """
        start, move = self.move.requested_old, self.move
        return Range(start, start + move.done if move.done <= move.length else move.old_end)

    @cached_property
    def after(self) -> Picture:
        """The leaves at the end of the move."""
        return self.space.tree.frozen()

    @cached_property
    def all_as_due(self) -> bool:
        """Is at the end each leaf where it belongs, and as it was?  If so, there is no more to say.

        Where pages may have moved as a batch their bits have rules of their own.
        """
        mark = 0 if self.move.old_vma.flags & VM_HUGETLB else SOFT_DIRTY
        moved = self.moved
        due = shifted(self.space.geometry, self.before, moved, self.delta, self.whole, mark)
        if self.after != due:
            return False
        return not self._may_spread(moved) or not self.space.kernel.pte_batching

    def _may_spread(self, moved: Range) -> bool:
        """Do pages of a large folio that moved one by one differ in what a batch would share?"""
        large = self.space.frames.large
        if not large:
            return False
        slot, in_slot = self.space.geometry.slot_bytes, self.space.geometry.slot_pages
        slots = (
            [entry for entry in held.values() if (entry >> PFN_SHIFT) & -in_slot in large]
            for base, held in self.before.items()
            if isinstance(held, dict)
            and base not in self.whole
            and base < moved.end
            and moved.start < base + slot
        )
        return any(len({entry & (ACCESSED | DIRTY) for entry in pages}) > 1 for pages in slots)
