"""Rules on a whole state: they hold whenever no operation is in progress.

Each is a small function from a `State` to the violations it sees.  `State` walks the tables once
for all of them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from engine.address import Range
from engine.entry import ANON, HUGE, MARKER, PFN_SHIFT, PRESENT
from engine.geometry import PMD, PTE
from engine.space import AddressSpace
from engine.table import Table
from engine.violation import Violation
from engine.vma import VM_ACCOUNT, VM_LOCKED, Vma

Items = Iterable[tuple[int, int]]


class State:
    """What the rules look at: VMAs and tables in address order.

    `tables` are without the root; `holders` are those that may hold leaves or deposited tables: on
    two levels the root is a PMD table, too.
    """

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self.vmas = list(space.vmas)
        self._starts = [vma.start for vma in self.vmas]
        root, *self.tables = space.tree.tables()
        self.holders = self.tables if root[1].level > PMD else [root, *self.tables]

    def first_vma(self, start: int, end: int) -> int | None:
        """Position of the first VMA that intersects [start, end), or None."""
        position = bisect_right(self._starts, start) - 1
        if position >= 0 and self.vmas[position].end > start:
            return position
        position += 1
        return position if position < len(self.vmas) and self.vmas[position].start < end else None

    def span(self, base: int, table: Table) -> Range:
        """The addresses a table covers."""
        return Range(base, base + self.space.geometry.span_bytes[table.level])

    @cached_property
    def leaf_parts(self) -> list[tuple[int, Table, Items, Vma | None]]:
        """Leaves grouped by table and VMA: (base, table, (index, entry) pairs, the VMA or None)."""
        parts: list[tuple[int, Table, Items, Vma | None]] = []
        shifts = self.space.geometry.entry_shift
        for base, table in self.holders:
            if not table.entries:
                continue
            span = self.span(base, table)
            position = self.first_vma(span.start, span.end)
            vma = self.vmas[position] if position is not None else None
            if table.level == PTE and vma and vma.start <= span.start and span.end <= vma.end:
                parts.append((base, table, table.entries.items(), vma))  # type: ignore[arg-type]
            else:
                parts += self._split_parts(base, table, shifts[table.level])
        return parts

    def _split_parts(
        self, base: int, table: Table, shift: int
    ) -> Iterator[tuple[int, Table, Items, Vma | None]]:
        """The leaves of a table that more than one VMA, or none, may share."""
        items = sorted((i, e) for i, e in table.entries.items() if isinstance(e, int))
        while items:
            addr = base + (items[0][0] << shift)
            position = self.first_vma(addr, addr + 1)
            vma = self.vmas[position] if position is not None else None
            end = vma.end if vma else addr + (1 << shift)
            count = bisect_left(items, ((end - base + (1 << shift) - 1) >> shift,))
            yield base, table, items[:count], vma
            items = items[count:]


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


def table_linked_once(state: State) -> Iterator[Violation]:
    """I-02."""
    seen: set[int] = set()
    for base, table in state.tables:
        if id(table) in seen:
            yield Violation(
                "table-linked-once", state.span(base, table), "a second link", "one parent"
            )
        seen.add(id(table))


def table_has_vma(state: State) -> Iterator[Violation]:
    """I-03."""
    prealloc = state.space.geometry.prealloc_pmd_tables
    for base, table in state.tables:
        span = state.span(base, table)
        if state.first_vma(span.start, span.end) is None:
            if prealloc and table.level == PMD and not table.entries:
                continue
            yield Violation(
                "table-has-vma",
                span,
                f"a level-{table.level} table with {len(table.entries)} entries",
                "no table where nothing is mapped",
            )


def leaf_has_vma(state: State) -> Iterator[Violation]:
    """I-04."""
    shifts = state.space.geometry.entry_shift
    for base, table, items, vma in state.leaf_parts:
        shift = shifts[table.level]
        wrong: list[tuple[int, int]]
        if vma is None:
            wrong, wanted = list(items), "a VMA around it"
        elif vma.file is None:
            # Anonymous pages, the zero page and markers fit private anonymous memory.
            wrong = [(i, e) for i, e in items if not e & (ANON | MARKER) and e >> PFN_SHIFT]
            wanted = "private memory"
        else:
            pages = vma.file.pages
            offset = vma.pgoff + ((base - vma.start) >> shifts[PTE])
            scale = shift - shifts[PTE]
            wrong = [
                (i, e)
                for i, e in items
                if pages.get((i << scale) + offset) != e >> PFN_SHIFT and not e & MARKER
            ]
            wanted = f"the page of {vma.file} that belongs there"
        if wrong:
            index, entry = wrong[0]
            place = Range(base + (index << shift), base + ((wrong[-1][0] + 1) << shift))
            yield Violation("leaf-has-vma", place, f"entry {entry:#x}", wanted)


def page_index(state: State) -> Iterator[Violation]:
    """V-04."""
    shifts = state.space.geometry.entry_shift
    frame_index = state.space.frames.index
    for base, table, items, vma in state.leaf_parts:
        if vma is None:
            continue
        shift = shifts[table.level]
        scale = shift - shifts[PTE]
        offset = vma.pgoff + ((base - vma.start) >> shifts[PTE])
        for index, entry in items:
            if entry & ANON and frame_index[entry >> PFN_SHIFT] != (index << scale) + offset:
                addr = base + (index << shift)
                yield Violation(
                    "page-index",
                    Range(addr, addr + (1 << shift)),
                    f"page with index {frame_index[entry >> PFN_SHIFT]:#x}",
                    f"{(index << scale) + offset:#x}",
                )
                return


def table_count(state: State) -> Iterator[Violation]:
    """A-04."""
    tree = state.space.tree
    linked = [0] * len(tree.counts)
    for _, table in state.tables:
        linked[table.level] += 1
    linked[PTE] += sum(table.deposited for _, table in state.holders)
    if linked != tree.counts:
        yield Violation(
            "table-count",
            state.space.arena,
            f"counters {tree.counts[1:]}",
            f"{linked[1:]} tables linked",
        )


def rss_count(state: State) -> Iterator[Violation]:
    """A-05."""
    space = state.space
    anon = shared = 0
    for _, table in state.holders:
        for entry in table.entries.values():
            if entry.__class__ is Table:
                continue
            pages = 1 << state.space.geometry.index_bits[0] if entry & HUGE else 1  # type: ignore[operator]
            if entry & ANON:  # type: ignore[operator]
                anon += pages
            elif entry & PRESENT and entry >> PFN_SHIFT:  # type: ignore[operator]
                shared += pages
    if (anon, shared) != (space.rss_anon, space.rss_shmem):
        yield Violation(
            "rss-count",
            space.arena,
            f"rss {space.rss_anon} anonymous, {space.rss_shmem} shared pages",
            f"{anon} and {shared} mapped",
        )


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


STATE_RULES: tuple[StateRule, ...] = (
    vma_order,
    map_count,
    unfaulted_pgoff,
    table_linked_once,
    table_has_vma,
    leaf_has_vma,
    page_index,
    table_count,
    rss_count,
    vma_counters,
)


def check_state(space: AddressSpace) -> list[Violation]:
    """Every whole-state rule, in order."""
    state = State(space)
    return [violation for rule in STATE_RULES for violation in rule(state)]
