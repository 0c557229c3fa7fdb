"""Other CPUs' TLBs: translations they hold, and the flushes that take these away.

Other threads of the process run on other CPUs.  An access there (`access.touch_on`) makes the CPU
keep the translation as the entry was then, until it is flushed.  What is kept must never be more
than the entry permits; the kernel's flushes see to that, and the rules I-13 and I-14 to them.
Source: arch/x86/mm/tlb.c; mm/rmap.c set_tlb_ubc_flush_pending(), flush_tlb_batched_pending().
"""

from typing import NamedTuple


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
