"""The page-table tree: walk, allocate, write, free, count.  Knows no VMA.

Tables are sparse: the cost of every operation follows the entries that exist, never the length of
the range it is given.

Everybody may read a table's dictionaries; they are written to by the functions of `TableTree` only,
so all ways of writing are in this file.  They keep the counters, and note what they touch: each
write is one tick of the tree's `clock`, and the table has the tick of its last one.  What has a
later tick than a moment was written since:

    then = tree.clock
    ...
    changed = [table for _, table in tree.tables() if table.touched > then]
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence, Set

from engine.base.address import round_down
from engine.base.entry import (
    ANON,
    HUGE,
    MIGRATION,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    SWAP,
    is_zero_page,
)
from engine.base.failures import PAGETABLE, Failures
from engine.base.geometry import PMD, PTE, Geometry
from engine.base.seam import seam

# What some leaves become; 0 where there is none afterwards.
Change = Callable[[list[int]], list[int]]
# What each slot maps, by its address: the leaves of its PTE table, or a huge leaf.
Picture = dict[int, dict[int, int] | int]

_NOTHING: dict[int, int] = {}


class OutOfTables(Exception):
    """A page-table page could not be allocated."""


class Table:
    """One page-table page.  `level` 1 is a PTE table.

    `leaves` are the entries that map pages or hold markers, `tables` those that lead to a lower
    table, both by index: a PTE table has the first, the root the second, a PMD table both.
    `deposited` counts the PTE tables that huge leaves of this PMD table keep in store for the day
    they are split (pgtable_trans_huge_deposit).  `touched` is the tick of the tree's clock at which
    an entry was written last.
    """

    __slots__ = ("_frozen", "_frozen_at", "deposited", "leaves", "level", "tables", "touched")

    def __init__(self, level: int) -> None:
        self.level = level
        self.leaves: dict[int, int] = {}
        self.tables: dict[int, Table] = {}
        self.deposited = 0
        self.touched = 0
        self._frozen = _NOTHING
        self._frozen_at = 0

    @property
    def count(self) -> int:
        """How many entries there are, of both kinds."""
        return len(self.leaves) + len(self.tables)

    def entry(self, index: int) -> "int | Table | None":
        """The entry at `index`, of either kind; None if there is none."""
        leaf = self.leaves.get(index)
        return self.tables.get(index) if leaf is None else leaf

    def occupied(self) -> Set[int]:
        """The indices of all entries, of both kinds."""
        return self.leaves.keys() | self.tables.keys() if self.leaves else self.tables.keys()

    def indices(self, low: int, high: int) -> list[int]:
        """Indices of the entries from `low` to `high`, both included, ascending."""
        entries = self.occupied() if self.tables else self.leaves
        if high - low + 1 < len(entries):
            return [i for i in range(low, high + 1) if i in entries]
        found = sorted(entries)
        return found[bisect_left(found, low) : bisect_right(found, high)]

    def frozen(self) -> dict[int, int]:
        """The leaves as they are now, whatever happens later; not to be changed.

        It is the same object until one of them is written, and only then copied again.
        """
        if self._frozen_at != self.touched:
            self._frozen, self._frozen_at = self.leaves.copy(), self.touched
        return self._frozen

    def __repr__(self) -> str:
        return f"<Table level {self.level}, {self.count} entries>"


def has_deposit(entry: int) -> bool:
    """Huge leaves of private memory keep a PTE table in store; those of shared objects do not."""
    return bool(entry & ANON) or is_zero_page(entry)


@seam
def carry_deposit(source: Table, target: Table) -> None:
    """Hand the PTE table in store for a huge leaf over to the PMD table the leaf moves to."""
    source.deposited -= 1
    target.deposited += 1


class TableTree:
    """The tables of one address space.

    `counts[level]` are the tables that exist (mm->pgtables_bytes, by level); the root is not
    counted.  `huge` is the number of huge leaves; `rss_anon`, `rss_shmem` and `rss_swap` count
    pages as the kernel's counters do.  `clock` ticks with every write.  `refuse`, if set, is asked
    before each allocation with its number from 0 and makes it fail by returning True.  `failures`
    are those of the address space.
    """

    __slots__ = (
        "_frozen",
        "_frozen_at",
        "_path",
        "allocations",
        "clock",
        "counts",
        "failures",
        "geometry",
        "huge",
        "refuse",
        "root",
        "rss_anon",
        "rss_shmem",
        "rss_swap",
    )

    def __init__(self, geometry: Geometry, failures: Failures) -> None:
        self.geometry = geometry
        self._path = geometry.path
        self.failures = failures
        self.root = Table(geometry.levels)
        self.counts = [0] * geometry.levels
        self.allocations = 0
        self.clock = 0
        self._frozen: Picture = {}
        self._frozen_at = 0
        self.huge = 0
        self.rss_anon = 0
        self.rss_shmem = 0
        self.rss_swap = 0
        self.refuse: Callable[[int], bool] | None = None
        if geometry.prealloc_pmd_tables:
            # i386 PAE, pgd_alloc(): changing a top-level entry later would need a CR3 reload.
            for index in range(geometry.user_top >> geometry.entry_shift[geometry.levels]):
                self.link(self.root, index, self.new_table(PMD))

    def new_table(self, level: int, *, may_fail: bool = False) -> Table:
        """An empty table, counted but not linked.

        Arguments: `may_fail` for a caller that gives up where a page fault tries again.
        Errors raised: OutOfTables.
        """
        number = self.allocations
        self.allocations += 1
        if self.refuse is not None and self.refuse(number):
            raise OutOfTables
        if may_fail and self.failures.armed and self.failures.fails(PAGETABLE):
            raise OutOfTables
        self.counts[level] += 1
        return Table(level)

    def index(self, addr: int, level: int) -> int:
        """Index of the entry for `addr` in a table of `level`."""
        geometry = self.geometry
        return addr >> geometry.entry_shift[level] & geometry.index_mask[level]

    def find(self, addr: int, level: int) -> Table | None:
        """The table of `level` whose span holds `addr`, or None if an entry above it is none."""
        table = self.root
        for shift, mask in self._path[level]:
            child = table.tables.get(addr >> shift & mask)
            if child is None:
                return None
            table = child
        return table

    def leaf_place(self, addr: int) -> tuple[Table, int] | None:
        """The table and index of the leaf that maps `addr`, small or huge, or None."""
        level = PTE
        table = self.find(addr, PTE)
        if table is None:
            level = PMD
            table = self.find(addr, PMD)
        index = self.index(addr, level)
        return None if table is None or index not in table.leaves else (table, index)

    @seam
    def make(self, addr: int, level: int, *, may_fail: bool = False) -> Table:
        """The table of `level` whose span holds `addr`, allocating it and those above it.

        Errors raised: OutOfTables; what was allocated until then stays linked, as in the kernel.
        Precondition: no huge leaf covers `addr`.
        """
        table = self.root
        for shift, mask in self._path[level]:
            index = addr >> shift & mask
            child = table.tables.get(index)
            if child is None:
                child = self.new_table(table.level - 1, may_fail=may_fail)
                self.link(table, index, child)
            table = child
        return table

    def hole_end(self, addr: int, level: int) -> int:
        """Where entries go on if that of `level` for `addr`, or one above it, is none; else 0."""
        table = self.root
        for shift, mask in self._path[level - 1]:
            index = addr >> shift & mask
            child = table.tables.get(index)
            if child is None:
                return 0 if index in table.leaves else self.next_entry(table, addr)
            table = child
        return 0

    def next_entry(self, table: Table, addr: int) -> int:
        """First address above `addr`'s own entry that an existing entry of `table` covers.

        If there is none: the end of the table's span, bytes.
        """
        level = table.level
        index = self.index(addr, level)
        later = min(
            (i for i in table.occupied() if i > index), default=self.geometry.index_mask[level] + 1
        )
        base = round_down(addr, self.geometry.span_bytes[level])
        return base + (later << self.geometry.entry_shift[level])

    def children(self, table: Table, base: int, start: int, end: int) -> list[tuple[int, int]]:
        """Entries of `table` (which begins at `base`) that touch [start, end), in address order.

        Returns: (index, first address the entry covers).
        """
        shift = self.geometry.entry_shift[table.level]
        low = max(start - base, 0) >> shift
        high = min(end - 1 - base >> shift, self.geometry.index_mask[table.level])
        if low == high:
            is_there = low in table.tables or low in table.leaves
            return [(low, base + (low << shift))] if is_there else []
        return [(i, base + (i << shift)) for i in table.indices(low, high)]

    def lowest(self, start: int, end: int) -> Iterator[tuple[int, Table, list[int]]]:
        """Tables that hold leaves for [start, end), in address order.

        Returns: (base address, table, indices of the leaves in the range, ascending).  Tables of
        upper levels come only if they have huge leaves there.  The caller may remove these leaves
        while iterating.
        """
        if start >= end:
            return
        table, base = self.root, 0
        # Mostly the range is short: as long as all of it lies under one entry there is one way.
        for shift, mask in self._path[PTE]:
            if start >> shift != (end - 1) >> shift:
                yield from self._lowest(table, base, start, end)
                return
            index = start >> shift & mask
            child = table.tables.get(index)
            if child is None:
                if index in table.leaves:
                    yield base, table, [index]
                return
            table, base = child, start >> shift << shift
        yield base, table, self._hits(table, base, start, end)

    def _lowest(
        self, table: Table, base: int, start: int, end: int
    ) -> Iterator[tuple[int, Table, list[int]]]:
        if table.level == PTE:
            yield base, table, self._hits(table, base, start, end)
            return
        for index, first in self.children(table, base, start, end):
            child = table.tables.get(index)
            if child is not None:
                yield from self._lowest(child, first, start, end)
            else:
                yield base, table, [index]

    def _hits(self, table: Table, base: int, start: int, end: int) -> list[int]:
        """The indices of the entries that a PTE table has for [start, end), ascending."""
        shift, last = self.geometry.page_shift, self.geometry.index_mask[PTE]
        return table.indices(max(start - base, 0) >> shift, min((end - 1 - base) >> shift, last))

    def tables(self) -> Iterator[tuple[int, Table]]:
        """Every linked table with its base address, depth first, root first."""
        yield from self._tables(self.root, 0)

    def _tables(self, table: Table, base: int) -> Iterator[tuple[int, Table]]:
        yield base, table
        shift = self.geometry.entry_shift[table.level]
        for index, child in sorted(table.tables.items()):
            yield from self._tables(child, base + (index << shift))

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
        """Leaves in [start, end) in address order: (address, level of the table, entry)."""
        shift = self.geometry.entry_shift
        for base, table, indices in self.lowest(
            start, self.geometry.user_top if end is None else end
        ):
            for index in indices:
                yield base + (index << shift[table.level]), table.level, table.leaves[index]

    def leaf_tables(self) -> list[tuple[int, Table]]:
        """Every table that holds leaves, with its base address, in no particular order.

        The fast way to look at all leaves: no sorting, no generator frames.
        """
        shifts = self.geometry.entry_shift
        found: list[tuple[int, Table]] = []
        pending = [(0, self.root)]
        while pending:
            base, table = pending.pop()
            if table.leaves:
                found.append((base, table))
            if table.tables:
                shift = shifts[table.level]
                pending += [(base + (i << shift), child) for i, child in table.tables.items()]
        return found

    def frozen(self) -> Picture:
        """All leaves as they are now, whatever happens later; not to be changed.

        It is the same object until anything is written, and what it has of a table is the same
        until that is.
        """
        if self._frozen_at != self.clock:
            self._frozen, self._frozen_at = {}, self.clock
            for base, table in self.leaf_tables():
                if table.level == PTE:
                    self._frozen[base] = table.frozen()
                else:
                    shift = self.geometry.entry_shift[table.level]
                    for index, entry in table.leaves.items():
                        self._frozen[base + (index << shift)] = entry
        return self._frozen

    def bytes_used(self) -> int:
        """Bytes of PTE, PMD and PUD tables, as VmPTE shows them (without the root and P4D)."""
        geometry = self.geometry
        return sum(self.counts[PTE : geometry.top_counted + 1]) << geometry.page_shift

    def _count(self, entry: int, pages: int) -> None:
        """Account for `pages` leaves like one, or as many pages of a huge one; negative: they go.

        Source: mm_counter(); the zero page and markers are no pages.
        """
        if entry & HUGE:
            self.huge += pages
            pages *= self.geometry.slot_pages
        if entry & ANON:
            self.rss_anon += pages
        elif entry & (PRESENT | MIGRATION) and entry >> PFN_SHIFT:
            self.rss_shmem += pages
        elif entry & SWAP:
            self.rss_swap += pages

    def put(self, table: Table, index: int, entry: int) -> None:
        """Store a leaf, in place of the one that may be there."""
        old = table.leaves.get(index)
        if old is not None:
            self._count(old, -1)
        self._count(entry, 1)
        table.leaves[index] = entry
        self.clock = table.touched = self.clock + 1

    def put_all(self, table: Table, indices: Sequence[int], leaves: Sequence[int]) -> None:
        """Store leaves of one kind where nothing is, or nothing that counts."""
        if leaves:
            table.leaves.update(zip(indices, leaves, strict=True))
            self._count(leaves[0], len(leaves))
            self.clock = table.touched = self.clock + 1

    def take(self, table: Table, index: int) -> int:
        """Take a leaf out.  Returns: the leaf."""
        entry = table.leaves.pop(index)
        self._count(entry, -1)
        self.clock = table.touched = self.clock + 1
        return entry

    def take_all(self, table: Table, indices: Sequence[int]) -> None:
        """Take leaves out of a PTE table; mostly all of them are private pages."""
        taken = self.lift(table, indices)
        others = [e for e in taken if not e & ANON]
        self.rss_anon -= len(taken) - len(others)
        if others:
            shared = [e for e in others if e & (PRESENT | MIGRATION) and e >> PFN_SHIFT]
            self.rss_shmem -= len(shared)
            self.rss_swap -= len([e for e in others if e & SWAP])

    def change(self, table: Table, indices: Sequence[int], change: Change) -> None:
        """Change leaves that are there, but not what they count as."""
        leaves = table.leaves
        changed = change([leaves[index] for index in indices])
        leaves.update(zip(indices, changed, strict=True))
        if not all(changed):
            for index, entry in zip(indices, changed, strict=True):
                if not entry:
                    del leaves[index]
        self.clock = table.touched = self.clock + 1

    def lift(self, table: Table, indices: Sequence[int]) -> list[int]:
        """Take leaves out that will `lay` elsewhere: they go on counting.  Returns: the leaves."""
        self.clock = table.touched = self.clock + 1
        leaves = table.leaves
        if len(indices) < len(leaves):
            return list(map(leaves.pop, indices))
        taken = list(map(leaves.__getitem__, indices))  # mostly all there are: faster
        leaves.clear()
        return taken

    def lay(self, table: Table, leaves: Mapping[int, int]) -> None:
        """Store leaves by index that count already, whatever is there."""
        table.leaves.update(leaves)
        self.clock = table.touched = self.clock + 1

    def link(self, parent: Table, index: int, table: Table) -> None:
        """Store a table in an entry, which must be none."""
        assert index not in parent.leaves and index not in parent.tables
        parent.tables[index] = table
        self.clock = parent.touched = self.clock + 1

    def unlink(self, parent: Table, index: int) -> Table:
        """Take a table out that goes on counting.  Returns: the table."""
        self.clock = parent.touched = self.clock + 1
        return parent.tables.pop(index)

    def set_huge(self, table: Table, index: int, entry: int) -> None:
        """Put a huge leaf into a PMD table; private memory deposits a PTE table with it.

        Errors raised: OutOfTables.  Source: __do_huge_pmd_anonymous_page().
        """
        assert table.level == PMD and entry & HUGE and index not in table.leaves
        if has_deposit(entry):
            self.new_table(PTE)
            table.deposited += 1
        self.put(table, index, entry)

    def clear_huge(self, table: Table, index: int) -> None:
        """Take a huge leaf out, and free the PTE table deposited with it."""
        entry = self.take(table, index)
        assert entry & HUGE
        if has_deposit(entry):
            table.deposited -= 1
            self.counts[PTE] -= 1

    def move_huge(self, source: Table, old_index: int, target: Table, new_index: int) -> None:
        """Carry a huge leaf and its deposited table to another entry, which must be none."""
        assert new_index not in target.leaves and new_index not in target.tables
        (entry,) = self.lift(source, (old_index,))
        assert entry & HUGE
        if has_deposit(entry):
            carry_deposit(source, target)
        self.lay(target, {new_index: entry})

    def split_huge(self, table: Table, index: int) -> Table | None:
        """Replace a huge leaf by what maps its pages one by one.

        Returns: for private memory the deposited table, now full; None for a page of a shared
        object, whose entry becomes none: the object still has the pages.
        Source: mm/huge_memory.c __split_huge_pmd_locked().
        """
        entry = self.take(table, index)
        assert entry & HUGE
        if not has_deposit(entry):
            return None
        table.deposited -= 1
        ptes = Table(PTE)
        first, pages = entry & ~HUGE, self.geometry.slot_pages
        step = 1 << PFN_SHIFT
        if is_zero_page(entry):
            first, step = first & ~SOFT_DIRTY, 0  # __split_huge_zero_page_pmd()
        self.put_all(ptes, range(pages), [first + i * step for i in range(pages)])
        self.link(table, index, ptes)
        return ptes

    @seam
    def free_range(self, start: int, end: int, floor: int, ceiling: int) -> list[tuple[int, Table]]:
        """Free the tables under [start, end) that no neighbour needs.

        Arguments: bytes; `floor` the end of the nearest mapping below, `ceiling` the start of the
        nearest one above (0: none up to the top).
        Returns: the freed tables that still had leaves, with their addresses; the kernel does not
        look, so the caller must have emptied them.
        Source: mm/memory.c free_pgd_range(), Linux 6.1 to 6.18.
        """
        slot = self.geometry.slot_bytes
        start = round_down(start, slot)
        if start < floor:
            start += slot
        if ceiling:
            ceiling = round_down(ceiling, slot)
            if not ceiling:
                return []  # mark: free-nothing-below-neighbour
        else:
            ceiling = self.geometry.span_bytes[-1]
        if end > ceiling:
            end -= slot  # mark: free-less-above
        if start >= end:
            return []
        in_use: list[tuple[int, Table]] = []
        self._free_below(self.root, 0, start, end, floor, ceiling, in_use)
        return in_use

    def _free_below(
        self,
        table: Table,
        base: int,
        start: int,
        end: int,
        floor: int,
        ceiling: int,
        in_use: list[tuple[int, Table]],
    ) -> None:
        span = self.geometry.span_bytes[table.level - 1]
        for index, first in self.children(table, base, start, end):
            child = table.tables.get(index)
            if child is None:
                continue
            if child.level > PTE:
                part_end = min(end, first + span)
                self._free_below(child, first, max(start, first), part_end, floor, ceiling, in_use)
                if first < floor or part_end > round_down(ceiling, span):
                    continue  # mark: free-keeps-upper-table
            self.free(table, index)
            if child.count:
                in_use.append((first, child))

    def free(self, parent: Table, index: int) -> None:
        """Unlink and free the table at `parent`'s entry `index`."""
        self.counts[self.unlink(parent, index).level] -= 1
