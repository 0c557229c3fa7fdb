"""What rules on a whole state look at: VMAs in order, tables, and the leaves of each VMA in them.

`State` walks the tables once for all rules of a check.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from engine.base.address import Range
from engine.base.geometry import PMD, PTE
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import AnonVma, Vma

_WORTH_KNOWING = 8  # leaves of a table from which on remembering it costs less than looking


class Part(NamedTuple):
    """Leaves of one table that lie in one VMA, as (index, entry) pairs; `vma` None: in no VMA.

    `reach` says of which bytes of the table's span one VMA holds all, if all leaves are there.
    """

    base: int  # of the table
    table: Table
    leaves: Collection[tuple[int, int]]
    vma: Vma | None
    reach: Range | None


class Sound(NamedTuple):
    """A PTE table that held plain pages of one mapping of private memory, each in its place.

    What a frame is was said when it was allocated, so that one look at a table is enough for as
    long as nothing is written into it and the place of its VMA stays what it is.
    """

    touched: int  # when it was written last
    plain: int  # how many are pages; the others are guard markers, which fit everywhere
    reach: Range  # which bytes of its span had to be in that mapping
    offset: int  # linear index of its first page
    link: AnonVma | None  # of its VMA


Memory = dict[Table, Sound]


class State:
    """What the rules look at: VMAs in address order, and tables.

    `tables` are without the root; `holders` are those that may hold leaves or deposited tables: on
    two levels the root is a PMD table, too.  `known` are tables that the check before found sound,
    `sound` those that this one does.
    """

    def __init__(self, space: AddressSpace, known: Memory | None = None) -> None:
        self.space = space
        self.known = {} if known is None else known
        self.sound: Memory = {}
        self.vmas = list(space.vmas)
        self._starts = [vma.start for vma in self.vmas]
        root = space.tree.root
        self.tables = list(tables_below(root, space.geometry.entry_shift))
        self.holders = self.tables if root.level > PMD else [(0, root), *self.tables]

    def first_vma(self, start: int, end: int) -> Vma | None:
        """The first VMA that intersects [start, end), or None."""
        position = bisect_right(self._starts, start) - 1
        if position >= 0 and self.vmas[position].end > start:
            return self.vmas[position]
        position += 1
        if position < len(self.vmas) and self._starts[position] < end:
            return self.vmas[position]
        return None

    def span(self, base: int, table: Table) -> Range:
        """The addresses a table covers."""
        return Range(base, base + self.space.geometry.span_bytes[table.level])

    def still_sound(self, base: int, table: Table) -> Sound | None:
        """What was found of a table, if it is as it was then; it is remembered further."""
        known = self.known.get(table)
        if known is None or known.touched != table.touched:
            return None
        vma = self.holder(base + known.reach.start, base + known.reach.end)
        if (
            vma is None
            or not vma.is_anonymous
            or vma.link is not known.link
            or self.offset(base, vma) != known.offset
        ):
            return None
        self.sound[table] = known
        return known

    def remember(self, part: Part, plain: int) -> None:
        """Note that all leaves of a table, private memory, are pages in their places or guards."""
        table, vma = part.table, part.vma
        if part.reach is not None and vma is not None and len(table.leaves) >= _WORTH_KNOWING:
            offset = self.offset(part.base, vma)
            self.sound[table] = Sound(table.touched, plain, part.reach, offset, vma.link)

    def offset(self, base: int, vma: Vma) -> int:
        """The linear index of a page at `base` that is of a VMA."""
        return vma.pgoff + ((base - vma.start) >> self.space.geometry.page_shift)

    def holder(self, start: int, end: int) -> Vma | None:
        """The VMA that holds all of [start, end), if there is one."""
        position = bisect_right(self._starts, start) - 1
        if position >= 0 and end <= self.vmas[position].end:
            return self.vmas[position]
        return None

    def parts(self, base: int, table: Table) -> Iterable[Part]:
        """The leaves of a table, VMA by VMA."""
        if table.level == PTE:
            leaves, shift = table.leaves, self.space.geometry.page_shift
            reach = Range(0, self.space.geometry.slot_bytes)
            vma = self.holder(base, base + reach.end)
            if vma is None:
                reach = Range(min(leaves) << shift, max(leaves) + 1 << shift)
                vma = self.holder(base + reach.start, base + reach.end)
            if vma is not None:
                return (Part(base, table, leaves.items(), vma, reach),)
        return self._split_parts(base, table)

    def _split_parts(self, base: int, table: Table) -> Iterator[Part]:
        """The leaves of a table that more than one VMA, or none, may share."""
        shift = self.space.geometry.entry_shift[table.level]
        items = sorted(table.leaves.items())
        while items:
            addr = base + (items[0][0] << shift)
            vma = self.first_vma(addr, addr + 1)
            end = vma.end if vma else addr + (1 << shift)
            count = bisect_left(items, ((end - base + (1 << shift) - 1) >> shift,))
            yield Part(base, table, items[:count], vma, None)
            items = items[count:]


def tables_below(root: Table, shifts: tuple[int, ...]) -> list[tuple[int, Table]]:
    """Every table below the root with its base address; one linked twice comes twice."""
    found: list[tuple[int, Table]] = []
    above = [(0, root)]
    while above:
        below: list[tuple[int, Table]] = []
        for base, table in above:
            shift = shifts[table.level]
            below += [(base + (i << shift), lower) for i, lower in table.tables.items()]
        found += below
        above = below if below and below[0][1].level > PTE else []
    return found
