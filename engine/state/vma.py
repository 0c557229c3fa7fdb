"""VMAs and the tree that holds them: lookup, neighbours, split, free space.

Merging has its own room (vmas/).  Flags are plain ints with the values of include/linux/mm.h.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

from engine.base.address import Range, round_down
from engine.base.failures import MAPS, VMA, Failures, VmaRefused
from engine.base.limits import Limits
from engine.base.uapi import UFFD_FEATURE_EVENT_REMAP, UFFD_FEATURE_EVENT_UNMAP
from engine.base.violation import Violation
from engine.state.backing import ANONYMOUS, Backing

VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
VM_GROWSDOWN = 0x100
VM_UFFD_MISSING = 0x200
VM_UFFD_WP = 0x1000
VM_LOCKED = 0x2000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_LOCKONFAULT = 0x80000
VM_ACCOUNT = 0x100000
VM_NORESERVE = 0x200000
VM_HUGETLB = 0x400000
VM_WIPEONFORK = 0x2000000
VM_DONTDUMP = 0x4000000
VM_MIXEDMAP = 0x10000000
VM_HUGEPAGE = 0x20000000
VM_NOHUGEPAGE = 0x40000000
VM_MERGEABLE = 0x80000000
VM_PKEY_BIT0 = 0x100000000  # key 1, which the kernel takes for what may only be executed
VM_UFFD_MINOR = 0x4000000000
VM_DROPPABLE = 0x10000000000
VM_UFFD_RWP = 0x80000000000
VM_NEVER_WRITE = 0x4000000000000  # the kernel has flags for the opposite, VM_MAYWRITE
VM_NEVER_EXEC = 0x8000000000000
VM_SEALED = 0x8000000000000000
VM_FLAGS: dict[str, int] = {n: bit for n, bit in globals().items() if n.startswith("VM_")}
assert all(bit.bit_count() == 1 for bit in VM_FLAGS.values()), "a flag is one bit"
assert sum(VM_FLAGS.values()).bit_count() == len(VM_FLAGS), "a bit is one flag"

STACK_GUARD_PAGES = 256  # stack_guard_gap

VM_ACCESS = VM_READ | VM_WRITE | VM_EXEC
VM_SPECIAL = VM_DONTEXPAND | VM_MIXEDMAP  # neither merged nor locked
VM_UFFD_PROTECTED = VM_UFFD_WP | VM_UFFD_RWP  # userfaultfd_protected(); never both
VM_UFFD = VM_UFFD_MISSING | VM_UFFD_MINOR | VM_UFFD_PROTECTED  # __VM_UFFD_FLAGS

# A stack that exec is still moving carries both readahead hints, which no madvise can set together.
VM_STACK_INCOMPLETE = VM_RAND_READ | VM_SEQ_READ


class AnonVma:
    """What ties anonymous pages to the VMAs that may map them; only identity matters here."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"anon_vma {self.number}"


class UffdEvent(NamedTuple):
    """What a userfaultfd is told of: UFFD_EVENT_REMAP, _UNMAP, _REMOVE or _FORK, in small letters.

    `where` is where that happened; of a move the destination, which came from `source`, bytes.
    """

    kind: str
    where: Range
    source: int = 0


ToldEvent = tuple[int, int, UffdEvent]  # how early in a call, and its number
_PREPARED = count()


class UffdContext:
    """A userfaultfd: `features` as asked for when it was opened.

    `changing` counts the changes of mappings whose event the monitor has not been told yet
    (mmap_changing): while it is not 0 the monitor's own requests are refused.  `events` are those
    of the last call, `pending` those it is yet to get, each with its number among those of all.
    """

    __slots__ = ("changing", "events", "features", "pending")

    def __init__(self, features: int) -> None:
        self.features = features
        self.changing = 0
        self.events: list[UffdEvent] = []
        self.pending: list[tuple[int, UffdEvent]] = []

    def prepare(self, kind: str, where: Range, source: int = 0) -> None:
        """Something happens to its memory; the monitor will be told.  Arguments: as UffdEvent."""
        self.changing += 1
        self.pending.append((next(_PREPARED), UffdEvent(kind, where, source)))

    def unmap(self, where: Range) -> None:
        """Some of its memory in that range is unmapped.  Source: userfaultfd_unmap_prep()."""
        if self.features & UFFD_FEATURE_EVENT_UNMAP:
            self.prepare("unmap", where)

    def complete(self, but: str = "", evicted: Range | None = None) -> list[ToldEvent]:
        """Tell the monitor what is pending; events of kind `but` are taken back instead.

        Of a move it is first told what had to go from its destination, `evicted`, then of the move
        itself, then of what else is gone.
        Returns: what the monitor was told, to be sorted with what others were.
        Source: the end of do_mremap(): uf_unmap_early, uf, uf_unmap.
        """

        def rank(event: UffdEvent) -> int:
            if event.kind == "remap":
                return 1
            return 0 if evicted is not None and event.where.start in range(*evicted) else 2

        told = sorted(
            (rank(event), number, event) for number, event in self.pending if event.kind != but
        )
        self.events = [event for _, _, event in told]
        self.changing -= len(self.pending)
        self.pending = []
        return told

    def __repr__(self) -> str:
        return f"userfaultfd with features {self.features:#x}"


class Vma:
    """One mapping: [start, end) in bytes, `pgoff` in pages.

    `anon_vma` is None while no anonymous page was ever faulted in (unfaulted); `backing` is what is
    behind it.  `link` is the anon_vma in whose tree the reverse map finds the VMA (anon_vma_chain).
    A chain has at most one link: the children of a fork have trees of their own.  So the kernel's
    "chain is singular" is `link is not None`.
    `anon_shift`: how far, in pages, the index of copies is ahead of their page number; 0 but for a
    private mapping of a file that has moved since it had an anon_vma (vm_anon_pgoff, 7.3).  Pages
    are found by `pgoff` all the same: in VMAs of one anon_vma the two are equally far apart.
    `uffd` is the userfaultfd it is registered with.  `tracked`: the first write to each page is to
    be noticed, since clear_refs took VM_SOFTDIRTY away; merging does not look at it.  `reserves`:
    it owns the reservations of the huge pages in it (HPAGE_RESV_OWNER).  `age` orders VMAs of the
    same page offset in the trees of the reverse map: what was put in last comes last.
    """

    __slots__ = (
        "age",
        "anon_shift",
        "anon_vma",
        "backing",
        "end",
        "flags",
        "link",
        "pgoff",
        "reserves",
        "start",
        "tracked",
        "uffd",
    )

    def __init__(
        self,
        start: int,
        end: int,
        flags: int,
        pgoff: int,
        anon_vma: AnonVma | None = None,
        backing: Backing = ANONYMOUS,
    ) -> None:
        self.start = start
        self.end = end
        self.flags = flags
        self.pgoff = pgoff
        self.anon_vma = anon_vma
        self.link = anon_vma
        self.age = 0
        self.anon_shift = 0
        self.backing = backing
        self.uffd: UffdContext | None = None
        self.tracked = False
        self.reserves = False

    @property
    def range(self) -> Range:
        """The addresses it covers, bytes."""
        return Range(self.start, self.end)

    @property
    def is_anonymous(self) -> bool:
        """Private anonymous memory (vma_is_anonymous: no vm_ops)."""
        return self.backing.is_anonymous

    @property
    def makes_copies(self) -> bool:
        """Are pages copied before they are written (is_cow_mapping)?  Model: not with hugetlb."""
        return not self.flags & (VM_SHARED | VM_HUGETLB)

    @property
    def copies_object(self) -> bool:
        """A private mapping of a file: it shows the pages that it has no copy of."""
        return not self.backing.is_anonymous and self.makes_copies

    @property
    def readable(self) -> bool:
        """May the process read it?  Any right implies that one, but for a key that forbids it."""
        return bool(self.flags & VM_ACCESS) and not self.flags & VM_PKEY_BIT0

    @property
    def uffd_stays_behind(self) -> bool:
        """Registered with a userfaultfd that is not told of moves: what moves away leaves it.

        Source: vma_has_uffd_without_event_remap().
        """
        return self.uffd is not None and not self.uffd.features & UFFD_FEATURE_EVENT_REMAP

    def clone(self) -> "Vma":
        """A copy that belongs to no tree."""
        copy = Vma(self.start, self.end, self.flags, self.pgoff, self.anon_vma, self.backing)
        copy.link, copy.uffd, copy.tracked = self.link, self.uffd, self.tracked
        copy.reserves, copy.anon_shift = self.reserves, self.anon_shift
        return copy

    def link_to(self, anon_vma: AnonVma | None) -> None:
        """Take an anon_vma, or none any more, pointer and chain (anon_vma_prepare, unlink_...)."""
        self.anon_vma = self.link = anon_vma

    def adopt_anon_vma(self, source: "Vma | None") -> None:
        """Take over the anon_vma of another VMA, pointer and chain, if there is none yet.

        Source: mm/vma.c dup_anon_vma(), mm/rmap.c anon_vma_clone().
        """
        if source is not None and self.anon_vma is None:
            self.anon_vma, self.link = source.anon_vma, source.link

    def __repr__(self) -> str:
        prot = "".join(
            c if self.flags & bit else "-" for c, bit in zip("rwx", (1, 2, 4), strict=True)
        )
        sharing = "s" if self.flags & VM_SHARED else "p"
        return f"<Vma {self.range} {prot}{sharing} pgoff {self.pgoff:#x}>"


def _ignore(addr: int) -> None:
    """Nobody wants to know."""


def _raise(violation: Violation) -> None:
    raise violation


class VmaTree:
    """Disjoint VMAs in address order.  Lookups are O(log n).

    Two plain lists, `_starts` for bisect and `_vmas`: address spaces of programs are so small that
    shifting a list costs less than a tree (`python -m fuzz.bench order`).
    `on_boundary` is told each address where a VMA is about to begin or end: a huge page
    never crosses such a place (vma_adjust_trans_huge).  `failures` and `limits` are those of the
    address space.
    """

    __slots__ = (
        "_clock",
        "_starts",
        "_vmas",
        "failures",
        "limits",
        "on_boundary",
        "page_shift",
        "report",
    )

    def __init__(self, page_shift: int, failures: Failures, limits: Limits) -> None:
        self._starts: list[int] = []
        self._vmas: list[Vma] = []
        self._clock = 0
        self.page_shift = page_shift
        self.failures = failures
        self.limits = limits
        self.on_boundary: Callable[[int], None] = _ignore
        self.report: Callable[[Violation], None] = _raise

    def __iter__(self) -> Iterator[Vma]:
        return iter(self._vmas)

    def __len__(self) -> int:
        return len(self._vmas)

    def find(self, addr: int) -> Vma | None:
        """First VMA that ends above `addr` (find_vma)."""
        vmas = self._vmas
        position = bisect_right(self._starts, addr)
        if position and addr < vmas[position - 1].end:
            return vmas[position - 1]
        return vmas[position] if position < len(vmas) else None

    def lookup(self, addr: int) -> Vma | None:
        """The VMA that contains `addr` (vma_lookup)."""
        position = bisect_right(self._starts, addr)
        if position:
            below = self._vmas[position - 1]
            if addr < below.end:
                return below
        return None

    def intersection(self, start: int, end: int) -> Vma | None:
        """First VMA that shares a byte with [start, end) (find_vma_intersection)."""
        vma = self.find(start)
        return vma if vma is not None and vma.start < end else None

    def intersecting(self, start: int, end: int) -> list[Vma]:
        """All VMAs that share a byte with [start, end), in address order."""
        vmas = self._vmas
        position = bisect_right(self._starts, start)
        if position and vmas[position - 1].end > start:
            position -= 1
        return vmas[position : bisect_left(self._starts, end, position)]

    def mapping(self, backing: Backing) -> Iterator[Vma]:
        """The VMAs that map an object, in address order (address_space->i_mmap)."""
        return (vma for vma in self._vmas if vma.backing is backing)

    def holds(self, vma: Vma) -> bool:
        """Is this very VMA still part of the address space?"""
        return self.after(vma.start) is vma

    def before(self, addr: int) -> Vma | None:
        """Last VMA that starts below `addr`."""
        position = bisect_left(self._starts, addr)
        return self._vmas[position - 1] if position else None

    def after(self, addr: int) -> Vma | None:
        """First VMA that starts at or above `addr`."""
        position = bisect_left(self._starts, addr)
        return self._vmas[position] if position < len(self._vmas) else None

    def _put(self, vma: Vma) -> None:
        """Enter a VMA at the place of its start."""
        position = bisect_left(self._starts, vma.start)
        self._starts.insert(position, vma.start)
        self._vmas.insert(position, vma)

    def _renew(self, vma: Vma) -> None:
        """Put a VMA that is new or has new bounds into the trees of the reverse map (once more).

        Source: vma_prepare(), vma_complete(): anon_vma_interval_tree_{pre,post}_update_vma().
        """
        self._clock += 1
        vma.age = self._clock

    def insert(self, vma: Vma) -> None:
        """Add a VMA.  Precondition: it overlaps none."""
        assert vma.start < vma.end, "an empty VMA"
        assert self.intersection(vma.start, vma.end) is None, "a VMA over another"
        self._put(vma)
        self._renew(vma)

    def remove(self, vma: Vma) -> None:
        """Take a VMA out."""
        position = bisect_left(self._starts, vma.start)
        assert self._vmas[position] is vma
        del self._starts[position], self._vmas[position]

    def resize(self, vma: Vma, start: int, end: int) -> None:
        """Change the bounds; the page at a given address keeps its offset if `start` moves."""
        assert start < end
        self.on_boundary(start)
        self.on_boundary(end)
        if start != vma.start:
            self.remove(vma)
            vma.pgoff += (start - vma.start) >> self.page_shift
            vma.start = start
            self._put(vma)
        vma.end = end
        self._renew(vma)

    def sealed(self, start: int, end: int) -> bool:
        """Is something in [start, end) sealed?  Source: can_modify_mm() in 6.10."""
        return start < end and any(v.flags & VM_SEALED for v in self.intersecting(start, end))

    def claim(self, anon_vma: AnonVma | None) -> None:
        """Allocate a VMA, and the links of one that shares `anon_vma`.

        Errors raised: VmaRefused.  Source: vm_area_dup(), anon_vma_clone().
        """
        failures = self.failures
        if failures.armed and (
            failures.fails(VMA) or (anon_vma is not None and failures.fails(VMA))
        ):
            raise VmaRefused

    def split_counted(self, vma: Vma, addr: int) -> Vma:
        """Cut `vma` in two at `addr` unless there are too many VMAs already.

        Errors raised: VmaRefused.  Source: mm/vma.c split_vma().
        """
        full = len(self._vmas) >= self.limits.map_count
        if full or (self.failures.armed and self.failures.fails(MAPS)):
            raise VmaRefused
        return self.split(vma, addr)

    def split(self, vma: Vma, addr: int) -> Vma:
        """Cut `vma` in two at `addr`, however many VMAs there are.

        Returns: the upper part, a new VMA; `vma` keeps the lower one.
        Errors raised: VmaRefused.  Source: mm/vma.c __split_vma().
        """
        assert vma.start < addr < vma.end
        if not vma.backing.may_split(addr):
            raise VmaRefused("EINVAL")
        self.claim(vma.anon_vma)
        self.on_boundary(addr)
        upper = vma.clone()
        upper.pgoff += (addr - vma.start) >> self.page_shift
        upper.start = addr
        vma.end = addr
        self._put(upper)
        self._renew(vma)
        self._renew(upper)
        return upper

    def start_gap(self, vma: Vma) -> int:
        """Where the space of `vma` begins: a stack keeps a guard gap below (vm_start_gap).

        May be below 0, for a stack near the bottom.
        """
        if not vma.flags & VM_GROWSDOWN:
            return vma.start
        return vma.start - (STACK_GUARD_PAGES << self.page_shift)

    def free_space(self, within: Range, length: int) -> int | None:
        """Start of the highest hole of at least `length` bytes, at the hole's top end.

        Returns: the address, or None if no hole in `within` is large enough.
        Source: mm/mmap.c vm_unmapped_area_topdown().
        """
        # A guard gap matters only if it cuts a hole that would do; then it bounds the search, too.
        top = above = limit = within.end
        for vma in reversed(self._vmas):
            if min(top, limit) - vma.end >= length:
                limit = min(above, limit)
                if min(top, limit) - vma.end >= length:
                    return min(top, limit) - length
            top, above = vma.start, self.start_gap(vma)
        top = min(top, above, limit)
        return top - length if top - within.start >= length else None

    def head_is_free(self, vma: Vma, addr: int, slot_bytes: int) -> bool:
        """True if no VMA intersects the slot of `addr` below the start of `vma`, or it has none."""
        return self.intersection(round_down(addr, slot_bytes), vma.start) is None
