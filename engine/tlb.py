"""Other CPUs' TLBs: translations they hold, and the flushes that take these away.

Other threads of the process run on other CPUs.  `touch_on` is one access there: the CPU keeps the
translation as the entry was then, until it is flushed.  What is kept must never be more than the
entry permits; the kernel's flushes see to that, and the rules I-13 and I-14 to the kernel's.
Source: arch/x86/mm/tlb.c; mm/rmap.c set_tlb_ubc_flush_pending(), flush_tlb_batched_pending().
"""

from typing import TYPE_CHECKING, NamedTuple

from engine.entry import ACCESSED, DIRTY, HUGE, PFN_SHIFT, PRESENT, WRITE
from engine.geometry import PMD, PTE
from engine.vma import VM_WRITE

if TYPE_CHECKING:
    from engine.space import AddressSpace

CPUS = 4


class Translation(NamedTuple):
    """What a TLB says about a page: the frame, whether it may be written, the bytes it covers."""

    pfn: int
    writable: bool
    reach: int


class Tlb:
    """The TLBs of the other CPUs.

    `cached` holds what they keep, by CPU and page address in bytes.  `pending`: reclaim has cleared
    entries and put the flush off; it comes before anybody looks at entries to change them.
    """

    __slots__ = ("cached", "pending")

    def __init__(self) -> None:
        self.cached: dict[tuple[int, int], Translation] = {}
        self.pending = False

    def flush(self, start: int, end: int) -> None:
        """Drop what overlaps [start, end), bytes; of a huge page all of it (flush_tlb_range)."""
        self.cached = {
            (cpu, addr): kept
            for (cpu, addr), kept in self.cached.items()
            if (addr & -kept.reach) >= end or (addr & -kept.reach) + kept.reach <= start
        }

    def flush_frames(self, first: int, count: int) -> None:
        """Drop all that leads to `count` frames from `first` on: flushed where they were mapped."""
        if self.cached:
            frames = range(first, first + count)
            self.cached = {at: kept for at, kept in self.cached.items() if kept.pfn not in frames}

    def flush_all(self) -> None:
        """Drop everything (flush_tlb_mm)."""
        self.cached = {}
        self.pending = False

    def put_off(self) -> None:
        """Reclaim has cleared entries and will flush later (set_tlb_ubc_flush_pending)."""
        self.pending = bool(self.cached)

    def flush_pending(self) -> None:
        """Do what reclaim has put off (flush_tlb_batched_pending)."""
        if self.pending:
            self.flush_all()


def touch_on(space: "AddressSpace", cpu: int, addr: int) -> None:
    """Another CPU reads the page at `addr`, or writes to it where that is allowed.

    The contents stay as they are, and a page that is not present is not cached: there is no fault.
    """
    found = translation(space, addr)
    if found is None:
        return
    table, index, kept = found
    entry: int = table[index]
    table[index] = entry | ACCESSED | (DIRTY if kept.writable else 0)
    page = addr & -space.geometry.page_bytes
    space.tlb.cached[cpu % CPUS, page] = kept


def translation(space: "AddressSpace", addr: int) -> tuple[dict[int, int], int, Translation] | None:
    """What the tables say about the page at `addr`: the entry's place, and the translation.

    Returns: None if there is no access.
    """
    vma, tree, geometry = space.vmas.lookup(addr), space.tree, space.geometry
    level, reach = PTE, geometry.page_bytes
    table = tree.find(addr, PTE)
    if table is None:
        level, reach = PMD, geometry.slot_bytes
        table = tree.find(addr, PMD)
    if vma is None or table is None or not vma.readable:
        return None
    index = tree.index(addr, level)
    entry = table.entries.get(index)
    if not isinstance(entry, int) or not entry & PRESENT:
        return None
    pfn = entry >> PFN_SHIFT
    if entry & HUGE and pfn:
        pfn += addr >> geometry.page_shift & geometry.index_mask[PTE]
    writable = bool(entry & WRITE and vma.flags & VM_WRITE)
    return table.entries, index, Translation(pfn, writable, reach)  # type: ignore[return-value]
