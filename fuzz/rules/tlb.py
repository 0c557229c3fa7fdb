"""Rules on the TLBs of other CPUs: what they still translate, and what the tables say by now."""

from collections.abc import Iterable, Iterator

from engine.base.address import Range
from engine.base.points import (
    LEAVE,
)
from engine.base.violation import Violation
from engine.pages.access import translation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import VM_HUGETLB
from fuzz.rules.rule import (
    HARM,
    TLB,
    Rule,
    at,
    on,
)
from fuzz.rules.sight import (
    BITES,
    Moving,
)

TLB_UNLOCK = Rule(
    "I-13",
    "tlb-unlock",
    "no TLB translates a moved page's old address when a lock of its entry is dropped",
    "move_ptes(), flush_tlb_range(), eb66ae030829; CVE-2018-18281, B-02 to B-04, B-28",
    HARM,
)

TLB_AFTER = Rule(
    "I-14",
    "tlb-after",
    "what a TLB translates is what the tables say, with no more permission",
    "flush_tlb_range() of every change of an entry; B-29",
    HARM,
)


def _stale_in(space: AddressSpace, where: Range) -> Iterator[Violation]:
    for (cpu, addr), kept in space.tlb.cached.items():
        if where.start <= addr < where.end:
            yield TLB_UNLOCK.broken(
                Range(addr, addr + space.geometry.page_bytes),
                f"a TLB entry of CPU {cpu} for {terms.translation(kept)}",
                "a flush before the page-table locks are dropped",
            )


@at(BITES, TLB_UNLOCK)
def flushed_in_time(sight: Moving) -> Iterable[Violation]:
    """No TLB translates an address whose entries have just moved.

    Huge pages of hugetlb are flushed once, before the lock of their file is dropped.
    """
    if not sight.space.tlb.cached or sight.move.old_vma.flags & VM_HUGETLB:
        return ()
    return _stale_in(sight.space, sight.where)


@at((LEAVE,), TLB_UNLOCK)
def flushed_at_the_end(sight: Moving) -> Iterable[Violation]:
    """The same for hugetlb."""
    if not sight.space.tlb.cached or not sight.move.old_vma.flags & VM_HUGETLB:
        return ()
    return _stale_in(sight.space, Range(sight.move.requested_old, sight.move.old))


@on(TLB, TLB_AFTER)
def check_tlb(space: AddressSpace) -> Iterator[Violation]:
    """What a TLB says is what the tables say, and never more.

    Where reclaim has taken a page away its flush may be yet to come.
    """
    for (cpu, addr), kept in space.tlb.cached.items():
        found = translation(space, addr)
        now = found[2] if found else None
        if now is None and space.tlb.pending:
            continue
        if now is None or now.pfn != kept.pfn or (kept.writable and not now.writable):
            yield TLB_AFTER.broken(
                Range(addr, addr + space.geometry.page_bytes),
                f"a TLB entry of CPU {cpu} for {terms.translation(kept)}",
                f"{terms.translation(now)}, as the page table says" if now else "none",
            )
