"""Rules on a whole state: they hold whenever no operation is in progress.

Each is a small function from a `State` to the violations it sees.  `StateRules` remembers from
check to check which tables were found sound.
"""

from collections.abc import Callable, Collection, Iterator

from engine.base.address import Range
from engine.base.entry import ANON, HUGE, MARKER, MIGRATION, PFN_SHIFT, PRESENT, SWAP
from engine.base.geometry import PMD, PTE
from engine.base.violation import Violation
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_HUGETLB,
    VM_LOCKED,
    VM_SHARED,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
)
from fuzz.rules.entries import ENTRY_RULES
from fuzz.rules.limits import check_limits
from fuzz.rules.view import Memory, Part, State, tables_below

_MAPPED_ANON = PRESENT | ANON
_ANON = ANON | SWAP

StateRule = Callable[[State], Iterator[Violation]]


def vma_order(state: State) -> Iterator[Violation]:
    """V-01."""
    page, top = state.space.geometry.page_bytes, state.space.geometry.user_top
    floor = 0
    for vma in state.vmas:
        if not floor <= vma.start < vma.end <= top or (vma.start | vma.end) & (page - 1):
            yield Violation(
                "vma-order", vma.range, f"{vma!r} after {floor:#x}", "sorted, aligned VMAs"
            )
        floor = vma.end


def map_count(state: State) -> Iterator[Violation]:
    """V-02.  The slack: a split is allowed at the limit before anything is taken away."""
    if len(state.vmas) > state.space.max_map_count + 1:
        yield Violation(
            "map-count",
            state.space.arena,
            f"{len(state.vmas)} VMAs",
            f"at most {state.space.max_map_count + 1}",
        )


def unfaulted_pgoff(state: State) -> Iterator[Violation]:
    """V-03."""
    shift = state.space.geometry.page_shift
    for vma in state.vmas:
        if vma.is_anonymous and vma.anon_vma is None and vma.pgoff != vma.start >> shift:
            yield Violation(
                "unfaulted-pgoff",
                vma.range,
                f"page offset {vma.pgoff:#x}",
                f"{vma.start >> shift:#x}",
            )


def anon_vma_linked(state: State) -> Iterator[Violation]:
    """V-05 for VMAs: they point to the anon_vma that they are linked to; `leaves` has the pages.

    Trees of the reverse map keep those of one page offset in the order they were put in.
    """
    for vma in state.vmas:
        if vma.anon_vma is not vma.link:
            yield Violation(
                "anon-vma-linked", vma.range, f"{vma.anon_vma}, linked to {vma.link}", "the same"
            )
    if len({vma.age for vma in state.vmas} - {0}) != len(state.vmas):
        ages = ", ".join(str(vma.age) for vma in state.vmas)
        yield Violation(
            "anon-vma-linked",
            state.space.arena,
            f"ages {ages}",
            "one after another put in its tree",
        )


def uffd_registered(state: State) -> Iterator[Violation]:
    """S-09 for VMAs: one that a userfaultfd watches says for what."""
    watched = VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_MINOR
    for vma in state.vmas:
        if (vma.uffd is None) != (not vma.flags & watched):
            yield Violation(
                "uffd-changing",
                vma.range,
                f"{vma.uffd or 'no userfaultfd'} with flags {vma.flags & watched:#x}",
                "a userfaultfd and what it waits for, or neither",
            )


def pgoff_wrap(state: State) -> Iterator[Violation]:
    """V-07."""
    mask, shift = state.space.geometry.word_mask, state.space.geometry.page_shift
    for vma in state.vmas:
        if vma.pgoff < 0 or vma.pgoff + ((vma.end - vma.start) >> shift) > mask:
            yield Violation(
                "pgoff-wrap", vma.range, f"page offset {vma.pgoff:#x}", "one that does not wrap"
            )


def table_linked_once(state: State) -> Iterator[Violation]:
    """I-02."""
    if len({id(table) for _, table in state.tables}) == len(state.tables):
        return
    seen: set[int] = set()
    for base, table in state.tables:
        if id(table) in seen:
            yield Violation(
                "table-linked-once", state.span(base, table), "a second link", "one parent"
            )
        seen.add(id(table))


def table_has_vma(state: State) -> Iterator[Violation]:
    """I-03."""
    prealloc, spans = state.space.geometry.prealloc_pmd_tables, state.space.geometry.span_bytes
    for base, table in state.tables:
        if state.first_vma(base, base + spans[table.level]) is None:
            if prealloc and table.level == PMD and not table.count:
                continue
            yield Violation(
                "table-has-vma",
                state.span(base, table),
                f"a level-{table.level} table with {table.count} entries",
                "no table where nothing is mapped",
            )


def table_count(state: State) -> Iterator[Violation]:
    """A-04: what is counted, and what VmPTE shows of it, is what is there."""
    tree = state.space.tree
    linked = [0] * len(tree.counts)
    for _, table in state.tables:
        linked[table.level] += 1
    linked[PTE] += sum([table.deposited for _, table in state.holders])
    if linked != tree.counts:
        yield Violation(
            "table-count",
            state.space.arena,
            f"counters {tree.counts[1:]}",
            f"{linked[1:]} tables linked",
        )
    shown = sum(linked[1 : state.space.geometry.top_counted + 1])
    if tree.bytes_used() != shown * state.space.geometry.page_bytes:
        yield Violation(
            "table-count", state.space.arena, f"{tree.bytes_used()} bytes", f"{shown} tables"
        )
    huge = 0
    for _, table in state.holders:
        if table.level > PTE:
            huge += len(table.leaves)
    if tree.huge != huge:
        yield Violation("table-count", state.space.arena, f"{tree.huge} huge leaves", f"{huge}")


def leaves(state: State) -> Iterator[Violation]:
    """I-04, V-04, V-05 and A-05, in one pass over all leaves.

    Most leaves are the plain pages of their VMA; what is not is looked at more closely.
    """
    space = state.space
    anon = shared = swap = 0
    for base, table in state.holders:
        if not table.leaves:
            continue
        if table.level == PTE and (known := state.still_sound(base, table)):
            anon += known.plain
            continue
        for part in state.parts(base, table):
            odd = _not_plain(state, part)
            plain = len(part.leaves) - len(odd)
            if part.vma is not None:
                odd = odd and [(i, e) for i, e in odd if e != MARKER]  # a guard fits everywhere
                if not part.vma.is_anonymous:
                    shared += plain
                else:
                    anon += plain
                    if not odd and part.reach:
                        state.remember(part, plain)
            if odd:
                yield from _odd_leaves(space, part._replace(leaves=odd))
                for _, entry in odd:
                    pages = 1 << space.geometry.index_bits[0] if entry & HUGE else 1
                    if entry & ANON:
                        anon += pages
                    elif entry & (PRESENT | MIGRATION) and entry >> PFN_SHIFT:
                        shared += pages
                    elif entry & SWAP:
                        swap += pages
    tree = space.tree
    if (anon, shared, swap) != (tree.rss_anon, tree.rss_shmem, tree.rss_swap):
        yield Violation(
            "rss-count",
            space.arena,
            f"rss {tree.rss_anon} anonymous, {tree.rss_shmem} shared, {tree.rss_swap} swapped",
            f"{anon}, {shared} and {swap} mapped",
        )


def _not_plain(state: State, part: Part) -> Collection[tuple[int, int]]:
    """The leaves that are not simply the pages that belong where they are."""
    base, table, items, vma, reach = part
    if table.level != PTE or vma is None:
        return items
    offset = state.offset(base, vma)
    if vma.is_anonymous:
        frame_index, owner, link = state.space.frames.index, state.space.frames.owner, vma.link
        odd = [
            (i, e)
            for i, e in items
            if e & _MAPPED_ANON != _MAPPED_ANON
            or frame_index[pfn := e >> PFN_SHIFT] != i + offset
            or owner[pfn] is not link
        ]
    else:
        page_of = vma.backing.pages.get
        odd = [
            (i, e)
            for i, e in items
            if page_of(i + offset) != e >> PFN_SHIFT or e & _MAPPED_ANON != PRESENT
        ]
    if reach and reach.length < state.space.geometry.slot_bytes:
        odd.sort()
    return odd


def _odd_leaves(space: AddressSpace, part: Part) -> Iterator[Violation]:
    """I-04 and V-04 for leaves that are not plainly right."""
    base, table, items, vma, _ = part
    shifts = space.geometry.entry_shift
    shift, scale = shifts[table.level], shifts[table.level] - shifts[PTE]
    if vma is None:
        yield _wrong(base, shift, items, "a VMA around it")
        return
    if table.level > PTE:
        slot, held = 1 << shift, vma.range
        crossing = [
            (i, e)
            for i, e in items
            if not held.contains(Range(base + i * slot, base + (i + 1) * slot))
        ]
        if crossing:
            yield _wrong(base, shift, crossing, f"a huge page inside {vma!r}")
            return
    offset = vma.pgoff + ((base - vma.start) >> shifts[PTE])
    if vma.is_anonymous:
        # Anonymous pages, the zero page and markers fit private anonymous memory.
        wrong = [(i, e) for i, e in items if not e & (_ANON | MARKER) and e >> PFN_SHIFT]
        wanted = "private memory"
    else:
        pages, frames = vma.backing.pages, space.frames
        private = (
            vma.flags & (VM_HUGETLB | VM_SHARED) == VM_HUGETLB
        )  # has its own pages of the file
        wrong = [
            (i, e)
            for i, e in items
            if not e & MARKER
            and (
                (frames.owner[e >> PFN_SHIFT], frames.index[e >> PFN_SHIFT])
                != (vma.backing, (i << scale) + offset)
                if private
                else pages.get((i << scale) + offset) != e >> PFN_SHIFT
            )
        ]
        wanted = f"the page of {vma.backing} that belongs there"
    if wrong:
        yield _wrong(base, shift, wrong, wanted)
    for index, entry in items:
        if entry & _ANON:
            place = Range(base + (index << shift), base + ((index + 1) << shift))
            found, due = space.frames.index[entry >> PFN_SHIFT], (index << scale) + offset
            if found != due:
                yield Violation("page-index", place, f"page with index {found:#x}", f"{due:#x}")
                return
            owner = space.frames.owner[entry >> PFN_SHIFT]
            if owner is not vma.link:
                yield Violation(
                    "anon-vma-linked", place, f"a page of {owner} in {vma!r}", f"one of {vma.link}"
                )
                return


def _wrong(base: int, shift: int, items: Collection[tuple[int, int]], wanted: str) -> Violation:
    """I-04 for leaves of one table."""
    indices = [i for i, _ in items]
    first = min(indices)
    place = Range(base + (first << shift), base + ((max(indices) + 1) << shift))
    return Violation("leaf-has-vma", place, f"entry {dict(items)[first]:#x}", wanted)


def vma_counters(state: State) -> Iterator[Violation]:
    """A-01, A-02, A-03."""
    space, shift = state.space, state.space.geometry.page_shift
    total = locked = committed = 0
    for vma in state.vmas:
        pages = (vma.end - vma.start) >> shift
        total += pages
        locked += pages if vma.flags & VM_LOCKED else 0
        committed += pages if vma.flags & VM_ACCOUNT else 0
    for rule, counter, pages in (
        ("total-vm", space.total_vm, total),
        ("locked-vm", space.locked_vm, locked),
        ("committed", space.committed, committed),
    ):
        if counter != pages:
            yield Violation(rule, space.arena, f"a counter of {counter} pages", f"{pages} pages")


def limits_kept(state: State) -> Iterator[Violation]:
    """A-07, A-09 and A-10."""
    return check_limits(state.space)


STATE_RULES: tuple[StateRule, ...] = (
    vma_order,
    map_count,
    unfaulted_pgoff,
    anon_vma_linked,
    uffd_registered,
    pgoff_wrap,
    table_linked_once,
    table_has_vma,
    leaves,
    table_count,
    vma_counters,
    *ENTRY_RULES,
    limits_kept,
)


class StateRules:
    """Every whole-state rule, checked time and again on one space."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Memory = {}

    def check(self, space: AddressSpace) -> list[Violation]:
        """What is wrong now, in the order of the rules."""
        state = State(space, self._known)
        found = [violation for rule in STATE_RULES for violation in rule(state)]
        self._known = state.sound
        return found


def check_fresh(space: AddressSpace) -> Iterator[Violation]:
    """A-04 before the first call: there are the tables that the geometry wants, and no others.

    On i386 PAE one PMD table for each gigabyte of user space.
    """
    geometry, linked = space.geometry, tables_below(space.tree.root, space.geometry.entry_shift)
    wanted = 0
    if geometry.prealloc_pmd_tables:
        wanted = -(-geometry.user_top // geometry.span_bytes[PMD])
    if len(linked) != wanted or any(table.level != PMD or table.count for _, table in linked):
        yield Violation("table-count", space.arena, f"{linked} at first", f"{wanted} PMD tables")


def check_emptied(space: AddressSpace, start: int, end: int) -> Iterator[Violation]:
    """I-29 after a MADV_DONTNEED of [start, end): no empty PTE table in a VMA's part of that."""
    slot = space.geometry.slot_bytes
    for base, table in tables_below(space.tree.root, space.geometry.entry_shift):
        if table.level != PTE or table.leaves or base < start or base + slot > end:
            continue
        vma = space.vmas.lookup(base)
        if vma is not None and base + slot <= vma.end:
            yield Violation(
                "emptied-table-freed", Range(base, base + slot), "an emptied table", "no table"
            )


def check_state(space: AddressSpace) -> list[Violation]:
    """Every whole-state rule, in order."""
    return StateRules().check(space)
