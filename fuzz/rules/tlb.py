"""Rules on the TLBs of other CPUs: what they still translate, and what the tables say by now."""

from collections.abc import Iterator

from engine.base.address import Range
from engine.base.violation import Violation
from engine.pages.access import translation
from engine.state.space import AddressSpace


def stale_in(space: AddressSpace, start: int, end: int, rule: str) -> Iterator[Violation]:
    """I-13: no TLB translates an address of [start, end), bytes, whose entries have just moved."""
    for (cpu, addr), kept in space.tlb.cached.items():
        if start <= addr < end:
            yield Violation(
                rule,
                Range(addr, addr + space.geometry.page_bytes),
                f"CPU {cpu} still translates it to frame {kept.pfn:#x}",
                "a flush before the page-table locks are dropped",
            )


def check_tlb(space: AddressSpace) -> Iterator[Violation]:
    """I-14: what a TLB says is what the tables say, and never more.

    Where reclaim has taken a page away its flush may be yet to come.
    """
    for (cpu, addr), kept in space.tlb.cached.items():
        found = translation(space, addr)
        now = found[2] if found else None
        if now is None and space.tlb.pending:
            continue
        if now is None or now.pfn != kept.pfn or (kept.writable and not now.writable):
            yield Violation(
                "tlb-after",
                Range(addr, addr + space.geometry.page_bytes),
                f"CPU {cpu} translates it to frame {kept.pfn:#x}, "
                f"{'writable' if kept.writable else 'read-only'}",
                f"frame {now.pfn:#x}, {'writable' if now.writable else 'read-only'}"
                if now
                else "nothing",
            )
