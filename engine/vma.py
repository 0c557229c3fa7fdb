"""VMAs and the tree that holds them: lookup, neighbours, split, free space.

Merging has its own room (merge.py).  Flags are plain ints with the values of include/linux/mm.h.
"""

from collections.abc import Callable, Iterator

from sortedcontainers import SortedDict

from engine.address import Range, round_down

VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
VM_GROWSDOWN = 0x100
VM_LOCKED = 0x2000
VM_SEQ_READ = 0x8000
VM_RAND_READ = 0x10000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_LOCKONFAULT = 0x80000
VM_ACCOUNT = 0x100000
VM_NORESERVE = 0x200000
VM_WIPEONFORK = 0x2000000
VM_DONTDUMP = 0x4000000
VM_HUGEPAGE = 0x20000000
VM_NOHUGEPAGE = 0x40000000
VM_MERGEABLE = 0x80000000

STACK_GUARD_PAGES = 256  # stack_guard_gap

VM_ACCESS = VM_READ | VM_WRITE | VM_EXEC
# A stack that exec is still moving carries both readahead hints, which no madvise can set together.
VM_STACK_INCOMPLETE = VM_RAND_READ | VM_SEQ_READ


class AnonVma:
    """What ties anonymous pages to the VMAs that may map them; only identity matters here."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"anon_vma {self.number}"


class SharedObject:
    """The shmem file behind a shared anonymous mapping.

    `pages[index]` is the frame of each page that exists; `size_pages` its size: access beyond it
    is SIGBUS.
    """

    __slots__ = ("number", "pages", "size_pages")

    def __init__(self, number: int, size_pages: int) -> None:
        self.number = number
        self.size_pages = size_pages
        self.pages: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"shared object {self.number}"


class Vma:
    """One mapping: [start, end) in bytes, `pgoff` in pages.

    `anon_vma` is None while no anonymous page was ever faulted in (unfaulted); `file` is the shared
    object, or None for private anonymous memory.  Without fork every anon_vma chain has at most one
    link, so the kernel's "chain is singular" is `anon_vma is not None`.
    """

    __slots__ = ("anon_vma", "end", "file", "flags", "pgoff", "start")

    def __init__(
        self,
        start: int,
        end: int,
        flags: int,
        pgoff: int,
        anon_vma: AnonVma | None = None,
        file: SharedObject | None = None,
    ) -> None:
        self.start = start
        self.end = end
        self.flags = flags
        self.pgoff = pgoff
        self.anon_vma = anon_vma
        self.file = file

    @property
    def range(self) -> Range:
        """The addresses it covers, bytes."""
        return Range(self.start, self.end)

    @property
    def is_anonymous(self) -> bool:
        """Private anonymous memory (vma_is_anonymous: no vm_ops)."""
        return self.file is None

    def clone(self) -> "Vma":
        """A copy that belongs to no tree."""
        return Vma(self.start, self.end, self.flags, self.pgoff, self.anon_vma, self.file)

    def __repr__(self) -> str:
        prot = "".join(
            c if self.flags & bit else "-" for c, bit in zip("rwx", (1, 2, 4), strict=True)
        )
        sharing = "s" if self.flags & VM_SHARED else "p"
        return f"<Vma {self.range} {prot}{sharing} pgoff {self.pgoff:#x}>"


class VmaTree:
    """Disjoint VMAs by start address.  Lookups are O(log n).

    `on_boundary`, if set, is told each address where a VMA is about to begin or end: a huge page
    never crosses such a place (vma_adjust_trans_huge).
    """

    __slots__ = ("_by_start", "on_boundary", "page_shift")

    def __init__(self, page_shift: int) -> None:
        self._by_start: SortedDict = SortedDict()
        self.page_shift = page_shift
        self.on_boundary: Callable[[int], None] | None = None

    def __iter__(self) -> Iterator[Vma]:
        return iter(self._by_start.values())

    def __len__(self) -> int:
        return len(self._by_start)

    def find(self, addr: int) -> Vma | None:
        """First VMA that ends above `addr` (find_vma)."""
        by_start = self._by_start
        position = by_start.bisect_right(addr)
        if position:
            below: Vma = by_start.peekitem(position - 1)[1]
            if addr < below.end:
                return below
        if position < len(by_start):
            above: Vma = by_start.peekitem(position)[1]
            return above
        return None

    def lookup(self, addr: int) -> Vma | None:
        """The VMA that contains `addr` (vma_lookup)."""
        by_start = self._by_start
        position = by_start.bisect_right(addr)
        if position:
            below: Vma = by_start.peekitem(position - 1)[1]
            if addr < below.end:
                return below
        return None

    def intersection(self, start: int, end: int) -> Vma | None:
        """First VMA that shares a byte with [start, end) (find_vma_intersection)."""
        vma = self.find(start)
        return vma if vma is not None and vma.start < end else None

    def intersecting(self, start: int, end: int) -> list[Vma]:
        """All VMAs that share a byte with [start, end), in address order."""
        by_start = self._by_start
        position = by_start.bisect_right(start)
        if position and by_start.peekitem(position - 1)[1].end > start:
            position -= 1
        stop = by_start.bisect_left(end)
        if position >= stop:
            return []
        if stop - position == 1:
            return [by_start.peekitem(position)[1]]
        return [by_start[key] for key in by_start.islice(position, stop)]

    def before(self, addr: int) -> Vma | None:
        """Last VMA that starts below `addr`."""
        position = self._by_start.bisect_left(addr)
        return self._by_start.peekitem(position - 1)[1] if position else None

    def after(self, addr: int) -> Vma | None:
        """First VMA that starts at or above `addr`."""
        position = self._by_start.bisect_left(addr)
        return self._by_start.peekitem(position)[1] if position < len(self._by_start) else None

    def insert(self, vma: Vma) -> None:
        """Add a VMA.  Precondition: it overlaps none."""
        assert vma.start < vma.end, f"empty {vma}"
        assert self.intersection(vma.start, vma.end) is None, f"{vma} overlaps"
        self._by_start[vma.start] = vma

    def remove(self, vma: Vma) -> None:
        """Take a VMA out."""
        assert self._by_start.get(vma.start) is vma
        del self._by_start[vma.start]

    def clear(self) -> None:
        """Take out every VMA."""
        self._by_start.clear()

    def resize(self, vma: Vma, start: int, end: int) -> None:
        """Change the bounds; the page at a given address keeps its offset if `start` moves."""
        assert start < end
        if self.on_boundary is not None:
            self.on_boundary(start)
            self.on_boundary(end)
        if start != vma.start:
            del self._by_start[vma.start]
            vma.pgoff += (start - vma.start) >> self.page_shift
            vma.start = start
            self._by_start[start] = vma
        vma.end = end

    def split(self, vma: Vma, addr: int) -> Vma:
        """Cut `vma` in two at `addr`.

        Returns: the upper part, a new VMA; `vma` keeps the lower one.
        Source: mm/vma.c split_vma().
        """
        assert vma.start < addr < vma.end
        if self.on_boundary is not None:
            self.on_boundary(addr)
        upper = vma.clone()
        upper.pgoff += (addr - vma.start) >> self.page_shift
        upper.start = addr
        vma.end = addr
        self._by_start[addr] = upper
        return upper

    def start_gap(self, vma: Vma) -> int:
        """Where the space of `vma` begins: a stack keeps a guard gap below (vm_start_gap)."""
        if not vma.flags & VM_GROWSDOWN:
            return vma.start
        return max(vma.start - (STACK_GUARD_PAGES << self.page_shift), 0)

    def free_space(self, within: Range, length: int) -> int | None:
        """Start of the highest hole of at least `length` bytes, at the hole's top end.

        Returns: the address, or None if no hole in `within` is large enough.
        Source: mm/mmap.c vm_unmapped_area_topdown().
        """
        top = within.end
        for vma in reversed(self._by_start.values()):
            if top - vma.end >= length:
                return top - length
            top = min(top, self.start_gap(vma))
        return top - length if top - within.start >= length else None

    def head_is_free(self, vma: Vma, addr: int, slot_bytes: int) -> bool:
        """True if no VMA intersects the slot of `addr` below the start of `vma`."""
        return self.intersection(round_down(addr, slot_bytes), vma.start) is None
