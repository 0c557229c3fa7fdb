"""Huge pages of hugetlb: what is promised, and to whom."""

from collections.abc import Iterator

from engine.base.address import Range
from engine.base.entry import PRESENT
from engine.base.violation import Violation
from engine.state import terms
from engine.state.hugepool import POOL_PAGES, file_of
from engine.state.vma import VM_HUGETLB, VM_SHARED
from fuzz.rules.rule import HARM, STATE, VMAS, Rule, after, on
from fuzz.rules.sight import Sight
from fuzz.rules.view import State

HUGETLB_RESERVE = Rule(
    "A-07",
    "hugetlb-reserve",
    "each reserved huge page of hugetlb belongs to one mapping or file, and none is missing",
    "hugetlb_reserve_pages(), hugetlb_vm_op_close(); B-46",
    HARM,
)

RESERVATION_KEPT = Rule(
    "A-11",
    "reservation-kept",
    "a mapping of huge pages keeps its reservations when an mremap fails",
    "fixup_hugetlb_reservations(), hugetlb_reserve_pages()",
    HARM,
)


@on(STATE, HUGETLB_RESERVE)
def reservations_owned(state: State) -> Iterator[Violation]:
    """What is promised, somebody owns; nothing is promised twice, or beyond what is free."""
    space, pool = state.space, state.space.pool
    in_use = pool.reserved or pool.free < POOL_PAGES
    if not in_use and not any(vma.flags & VM_HUGETLB for vma in state.vmas):
        return
    shared = {file.number: file for file in pool.files}  # children may be the last to map them
    owned, used = 0, len(pool.orphans)
    for vma in space.vmas:
        if vma.flags & VM_HUGETLB:
            file = file_of(vma)
            if vma.flags & VM_SHARED:
                shared[file.number] = file
            else:
                leaves = space.tree.leaves(vma.start, vma.end)
                used += sum(1 for _, _, entry in leaves if entry & PRESENT)
            owned += file.promised_to(vma)
    owned += sum(file.promised for file in shared.values())
    used += sum(len(file.pages) // file.huge_page for file in shared.values())
    free = POOL_PAGES - used
    if (pool.reserved, pool.free) != (owned, free) or not 0 <= owned <= free:
        yield HUGETLB_RESERVE.broken(
            space.arena,
            f"{terms.counter(terms.RESERVED, pool.reserved)}, "
            f"{terms.counter(terms.FREE, pool.free)}",
            f"{owned} reserved, which somebody owns, and {free} free",
        )


@after("mremap", RESERVATION_KEPT, before=VMAS)
def reservations_kept(sight: Sight) -> Iterator[Violation]:
    """What a call that failed has left of a mapping is promised its pages as before."""
    if sight.error is None:
        return
    for area in sight.before.areas:
        if not area.reserves:
            continue
        for left in sight.after.inside(area.start, area.end):
            if left.backing is area.backing and not left.reserves:
                yield RESERVATION_KEPT.broken(
                    Range(left.start, left.end),
                    "huge pages that nobody is promised any more",
                    "a mapping that owns reservations, as before",
                )
