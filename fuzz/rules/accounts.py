"""What is counted is what there is, and keeps to the limits that are set.

A limit holds at every quiet moment, since each call that adds something asks first.
"""

from collections.abc import Iterator, Sequence

from engine.base.geometry import PMD, PTE
from engine.base.uapi import MREMAP_FIXED
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_LOCKED,
)
from fuzz.rules.rule import CONTRACT, FRESH, HARM, STATE, VMAS, Rule, after, on
from fuzz.rules.sight import Sight
from fuzz.rules.view import State, tables_below

TOTAL_VM = Rule(
    "A-01",
    "total-vm",
    "total_vm equals the pages of all VMAs",
    "vm_stat_account()",
    HARM,
)

LOCKED_VM = Rule(
    "A-02",
    "locked-vm",
    "locked_vm equals the pages of all locked VMAs",
    "mm->locked_vm; B-34, B-35",
    HARM,
)

COMMITTED = Rule(
    "A-03",
    "committed",
    "the commit charge equals the pages of all accountable VMAs",
    "security_vm_enough_memory_mm(), vm_unacct_memory(); B-33, B-36 to B-40",
    HARM,
)

TABLE_COUNT = Rule(
    "A-04",
    "table-count",
    "the table counters equal the tables that are linked; at first only preallocated ones are",
    "mm_inc_nr_ptes(), check_mm(), pgd_alloc(); B-06, B-13",
    HARM,
)

HIGH_WATER = Rule(
    "A-06",
    "high-water",
    "a move does not raise the peak of mapped memory by counting its pages twice",
    "hiwater_vm in move_vma()",
    CONTRACT,
)

LIMITS_HOLD = Rule(
    "A-09",
    "limits-hold",
    "the counters of mapped and committed memory do not pass a limit that is set",
    "may_expand_vm(), __vm_enough_memory()",
    CONTRACT,
)

LOCK_LIMIT_HOLDS = Rule(
    "A-10",
    "lock-limit-holds",
    "the counter of locked memory does not pass a limit that is set",
    "mlock_future_ok(); B-34",
    CONTRACT,
)


@on(FRESH, TABLE_COUNT)
def fresh(space: AddressSpace) -> Iterator[Violation]:
    """Before the first call there are the tables that the geometry wants, and no others.

    On i386 PAE one PMD table for each gigabyte of user space.
    """
    geometry, linked = space.geometry, tables_below(space.tree.root, space.geometry.entry_shift)
    wanted = 0
    if geometry.prealloc_pmd_tables:
        wanted = -(-geometry.user_top // geometry.span_bytes[PMD])
    if len(linked) != wanted or any(table.level != PMD or table.count for _, table in linked):
        yield TABLE_COUNT.broken(
            space.arena,
            f"{terms.count(len(linked), 'table')} at first",
            f"{terms.count(wanted, 'PMD table')}, all empty",
        )


@on(STATE, TABLE_COUNT)
def table_count(state: State) -> Iterator[Violation]:
    """What is counted, and what VmPTE shows of it, is what is there."""
    tree = state.space.tree
    linked = [0] * len(tree.counts)
    for _, table in state.tables:
        linked[table.level] += 1
    linked[PTE] += sum([table.deposited for _, table in state.holders])
    if linked != tree.counts:
        yield TABLE_COUNT.broken(
            state.space.arena,
            f"counters of {_by_level(tree.counts)}",
            f"{_by_level(linked)}, as many as are linked or in store",
        )
    shown = sum(linked[1 : state.space.geometry.top_counted + 1])
    if tree.bytes_used() != shown * state.space.geometry.page_bytes:
        yield TABLE_COUNT.broken(
            state.space.arena,
            f"{terms.size(tree.bytes_used())} of page tables (VmPTE)",
            f"{terms.size(shown * state.space.geometry.page_bytes)}, which the linked ones take",
        )
    huge = 0
    for _, table in state.holders:
        if table.level > PTE:
            huge += len(table.leaves)
    if tree.huge != huge:
        yield TABLE_COUNT.broken(
            state.space.arena,
            f"a counter of {terms.count(tree.huge, 'huge page')}",
            f"{huge} in the tables",
        )


def _by_level(numbers: Sequence[int]) -> str:
    """Numbers of tables, by the level of a table."""
    shown = enumerate(numbers[PTE:], PTE)
    return ", ".join(f"{number} {terms.LEVELS[level]}" for level, number in shown) + " tables"


@on(STATE, TOTAL_VM, LOCKED_VM, COMMITTED)
def vma_counters(state: State) -> Iterator[Violation]:
    """The counters of pages are sums over VMAs."""
    space, shift = state.space, state.space.geometry.page_shift
    total = locked = committed = 0
    for vma in state.vmas:
        pages = (vma.end - vma.start) >> shift
        total += pages
        locked += pages if vma.flags & VM_LOCKED else 0
        committed += pages if vma.flags & VM_ACCOUNT else 0
    for rule, which, counter, pages, of in (
        (TOTAL_VM, terms.MAPPED, space.total_vm, total, "all VMAs"),
        (LOCKED_VM, terms.LOCKED, space.locked_vm, locked, "the VMAs with VM_LOCKED"),
        (COMMITTED, terms.COMMITTED, space.committed, committed, "the VMAs with VM_ACCOUNT"),
    ):
        if counter != pages:
            yield rule.broken(
                space.arena, terms.counter(which, counter), f"{pages}, the pages of {of}"
            )


@on(STATE, LIMITS_HOLD, LOCK_LIMIT_HOLDS)
def within_limits(state: State) -> Iterator[Violation]:
    """No counter passes its limit."""
    space = state.space
    limits, shift = space.limits, space.geometry.page_shift
    if limits.address_space is None and limits.locked is None and limits.commit is None:
        return
    for rule, which, pages, limit in (
        (LIMITS_HOLD, terms.MAPPED, space.total_vm, limits.address_space),
        (LOCK_LIMIT_HOLDS, terms.LOCKED, space.locked_vm, limits.locked),
        (LIMITS_HOLD, terms.COMMITTED, space.committed, limits.commit),
    ):
        if limit is not None and pages << shift > limit:
            yield rule.broken(
                space.arena, terms.counter(which, pages), f"at most {limit >> shift}, the limit"
            )


@after("mremap", HIGH_WATER, before=VMAS)
def peak(sight: Sight) -> Iterator[Violation]:
    """A move does not count its pages twice.

    With DONTUNMAP each of several VMAs counts before the next one's destination is unmapped.
    """
    space, request = sight.space, sight.request
    high_water = max(sight.before.high_water, space.total_vm)
    may_be_several = request.flags & MREMAP_FIXED and request.old == request.new
    if sight.after.high_water > high_water and not (
        may_be_several and request.keeps and space.kernel.multi_vma_move
    ):
        yield HIGH_WATER.broken(
            space.arena,
            terms.counter(terms.PEAK, sight.after.high_water),
            f"{high_water}, the most there were",
        )
