"""Moving page tables: the subject of this project.

`move_page_tables` carries the entries of [old, old_end) to the addresses from `new` on.  It takes
the largest bites that fit: a PUD entry at a time (a whole PMD table changes its parent), else a PMD
entry (a whole PTE table, or a huge page), else the pages of one slot one by one:

    old    |......xx|xxxxxxxx|xxxxxxxx|xxx.....|      x: pages to move, |: slot boundaries
               PTE     PMD      PMD     PTE           the mover each bite is for
    new    |......xx|xxxxxxxx|xxxxxxxx|xxx.....|

Whole tables can only move between addresses that have the same offset in their slots.  When the
first bite is partial and nothing is mapped below it on either side, both starts are lowered to the
slot boundary (`realigned`), and the first bite becomes a whole table, too.

A destination entry must be none when something is stored there.  Where the kernel has a WARN_ON,
the model reports a violation of `dest-entry-none` and goes on as the kernel does.

Model: one thread, so the rmap and page-table locks are not taken; the observer is told where the
kernel drops them.  Source: mm/mremap.c, Linux 5.0 to 6.18.
"""

from dataclasses import dataclass, field

from engine.address import Range, round_down
from engine.entry import SOFT_DIRTY
from engine.geometry import PMD, PTE, PUD
from engine.observer import (
    ALLOC_FAILED,
    ALLOCATED,
    ENTER,
    HUGE_MOVED,
    HUGE_SPLIT,
    ITERATION,
    LEAVE,
    PMD_MOVED,
    PMD_OCCUPIED,
    PTES_MOVED,
    PUD_MOVED,
    PUD_OCCUPIED,
    REALIGNED,
    SKIPPED,
)
from engine.space import AddressSpace
from engine.table import Entry, OutOfTables, Table
from engine.violation import Violation
from engine.vma import Vma

_MOVED = {PMD: PMD_MOVED, PUD: PUD_MOVED}
_OCCUPIED = {PMD: PMD_OCCUPIED, PUD: PUD_OCCUPIED}
_ENTRY_NAME = {PMD: "PMD", PUD: "PUD"}


@dataclass(slots=True)
class Move:
    """Cursor of one page-table move, in bytes.  `new - old` and `old_end` never change."""

    space: AddressSpace
    old_vma: Vma
    new_vma: Vma
    old: int  # next source byte; realignment may lower it below the requested start
    new: int
    length: int  # as requested
    for_stack: bool = False  # source and destination are the same VMA
    need_rmap_locks: bool = False
    rollback: bool = False
    split_shared: bool = False  # a huge page of a shared object was split, its pages unmapped
    old_end: int = field(init=False)
    requested_old: int = field(init=False)
    done: int = field(init=False, default=0)  # the result, once the loop is over

    def __post_init__(self) -> None:
        self.old_end = self.old + self.length
        self.requested_old = self.old

    def advance(self, extent: int) -> None:
        """Go `extent` bytes further on both sides."""
        assert 0 < extent <= self.old_end - self.old
        self.old += extent
        self.new += extent

    def announce(self, point: str, extent: int = 0) -> None:
        """Tell the space's observer, if there is one."""
        if self.space.observer is not None:
            self.space.observer(point, self, extent)


def extent_bytes(move: Move, entry_bytes: int) -> int:
    """Bytes until the nearest entry boundary on either side, or the end of the range.

    Arguments: `entry_bytes` what one entry of the level covers.
    Returns: 1 page to `entry_bytes`; all of it only if both sides are aligned and enough is left.
    Source: get_extent().  Distances are compared, not addresses: an address may wrap (B-10).
    """
    mask = entry_bytes - 1
    return min(
        entry_bytes - (move.old & mask), entry_bytes - (move.new & mask), move.old_end - move.old
    )


def realigned(move: Move) -> bool:
    """Lower both starts to their slot boundary if only whole-table moves gain from it.

    Legal if both have the same offset in their slots, the range reaches the end of the first slot,
    and nothing else lives in the two slot parts below.  Source: try_realign_addr(), 6.7.
    """
    kernel = move.space.kernel
    slot = move.space.geometry.slot_bytes
    offset = move.old & (slot - 1)
    if not kernel.realign or (move.for_stack and not kernel.realign_stack):
        return False
    if move.length < slot - offset or offset == 0 or offset != move.new & (slot - 1):
        return False
    if not _head_is_unused(move, move.old_vma, move.old):
        return False
    if not _head_is_unused(move, move.new_vma, move.new):
        return False
    move.old -= offset
    move.new -= offset
    return True


def _head_is_unused(move: Move, vma: Vma, addr: int) -> bool:
    """May the slot part below `addr` be moved along?  Source: can_align_down()."""
    slot = move.space.geometry.slot_bytes
    if move.for_stack:
        # The stack VMA was just expanded over the destination, so its own start lies below.
        if round_down(addr, slot) >= vma.start:
            return True
    elif vma.start != addr:
        # What lies below in the same VMA was not asked to move.
        return False
    return move.space.vmas.head_is_free(vma, addr, slot)


def move_page_tables(move: Move) -> int:
    """Move the entries of one range.

    Precondition: the caller holds the mmap lock for writing; old and new ranges are page aligned
    and overlap only if `new` is below `old`.
    Returns: bytes done, counted from the requested start; less than `move.length` only if a
    destination table could not be allocated.  What was moved until then stays moved.
    """
    if move.length == 0:
        return 0
    if realigned(move):
        move.announce(REALIGNED)
    move.announce(ENTER)
    while move.old < move.old_end:
        try:
            _move_one_extent(move)
        except OutOfTables:
            move.announce(ALLOC_FAILED)
            break
    move.done = _result(move)
    move.announce(LEAVE, move.done)
    return move.done


def _move_one_extent(move: Move) -> None:
    """One iteration: the largest bite at the cursor.

    Errors raised: OutOfTables if a destination table is needed and cannot be had.
    """
    space, geometry = move.space, move.space.geometry
    tree = space.tree
    move.announce(ITERATION)

    to_pud_boundary = move.old_end - move.old
    if geometry.levels >= PUD:
        extent = to_pud_boundary = extent_bytes(move, geometry.pud_bytes)
        hole_end = _hole_end(move, PUD)
        if hole_end:
            _skip(move, hole_end - move.old)
            return
        _destination_table(move, PUD)
        if extent == geometry.pud_bytes and space.kernel.moves_puds() and _move_table(move, PUD):
            move.advance(extent)
            return

    extent = extent_bytes(move, geometry.slot_bytes)
    hole_end = _hole_end(move, PMD)
    if hole_end:
        # Not beyond the PUD entry on either side: the next one may need a destination table.
        _skip(move, min(hole_end - move.old, to_pud_boundary))
        return
    _destination_table(move, PMD)
    if tree.huge and _is_huge(move):
        if extent == geometry.slot_bytes and _move_huge(move):
            move.advance(extent)
            return
        if not _split_huge(move):
            move.advance(extent)
            return
    elif extent == geometry.slot_bytes and space.kernel.move_pmd and _move_table(move, PMD):
        move.advance(extent)
        return
    move_ptes(move, tree.find(move.old, PTE), _destination_table(move, PTE), extent)
    move.advance(extent)


def _hole_end(move: Move, level: int) -> int:
    """Where the source goes on if its entry of `level` is none; 0 if it is not none.

    Model: the kernel takes one step for each empty entry.  Its steps end at every boundary of the
    source, so going to the next entry that exists at once visits the same states.
    """
    tree = move.space.tree
    table = tree.root
    while True:
        entry = table.entries.get(tree.index(move.old, table.level))
        if entry is None:
            return tree.next_entry(table, move.old)
        if table.level == level:
            return 0
        assert isinstance(entry, Table)
        table = entry


def _skip(move: Move, extent: int) -> None:
    extent = min(extent, move.old_end - move.old)
    move.announce(SKIPPED, extent)
    move.advance(extent)


def _destination_table(move: Move, level: int) -> Table:
    """The table of `level` at the destination, allocated if need be (alloc_new_pmd, pte_alloc)."""
    tree = move.space.tree
    before = tree.allocations
    table = tree.make(move.new, level)
    if tree.allocations != before:
        move.announce(ALLOCATED)
    return table


def _move_table(move: Move, level: int) -> bool:
    """Move the whole table under one PMD or PUD entry by relinking it.

    Returns: False if the destination is occupied, or the source entry is not a table; nothing has
    changed then.  Source: move_normal_pmd() 5.0, move_normal_pud() 5.11; the order of 6.18.
    """
    space, tree = move.space, move.space.tree
    extent = space.geometry.span_bytes[level - 1]
    source = tree.find(move.old, level)
    target = tree.find(move.new, level)
    assert source is not None and target is not None
    old_index, new_index = tree.index(move.old, level), tree.index(move.new, level)

    occupant = target.entries.get(new_index)
    if occupant is not None:
        _report_occupied(move, level, occupant, extent)
        move.announce(_OCCUPIED[level], extent)
        return False
    entry = source.entries.pop(old_index)
    target.entries[new_index] = entry
    move.announce(_MOVED[level], extent)
    return True


def _is_huge(move: Move) -> bool:
    """Is the PMD entry at the cursor a huge leaf?"""
    tree = move.space.tree
    table = tree.find(move.old, PMD)
    return table is not None and table.entries.get(tree.index(move.old, PMD)).__class__ is int


def _move_huge(move: Move) -> bool:
    """Move one huge leaf, with the PTE table deposited for it; it becomes soft-dirty.

    Returns: False if the destination is occupied: until 6.4 with a warning, since then without,
    for the walk itself may have put a PTE table there.  Source: move_huge_pmd().
    """
    space, tree = move.space, move.space.tree
    source, target = tree.find(move.old, PMD), tree.find(move.new, PMD)
    assert source is not None and target is not None
    new_index = tree.index(move.new, PMD)
    extent = space.geometry.slot_bytes
    occupant = target.entries.get(new_index)
    if occupant is not None:
        if not space.kernel.may_retry:
            _report_occupied(move, PMD, occupant, extent)
        move.announce(PMD_OCCUPIED, extent)
        return False
    tree.move_huge(source, tree.index(move.old, PMD), target, new_index)
    target.entries[new_index] |= SOFT_DIRTY  # type: ignore[operator]
    move.announce(HUGE_MOVED, extent)
    return True


def _split_huge(move: Move) -> bool:
    """Split the huge leaf at the cursor.  Returns: False if that left nothing to move here."""
    space, tree = move.space, move.space.tree
    table = tree.find(move.old, PMD)
    assert table is not None
    index = tree.index(move.old, PMD)
    space.split_huge(table, index)
    move.announce(HUGE_SPLIT)
    move.split_shared |= index not in table.entries
    return index in table.entries


def _report_occupied(move: Move, level: int, occupant: Entry, extent: int) -> None:
    """WARN_ON(!pmd_none(*new_pmd)): freeing page tables should have released it."""
    move.space.report(
        Violation(
            "rollback-dest-none" if move.rollback else "dest-entry-none",
            Range(move.new, move.new + extent),
            f"{_describe(occupant)} in the {_ENTRY_NAME[level]} entry",
            "none before a table is stored there",
        )
    )


def _describe(entry: Entry) -> str:
    if not isinstance(entry, Table):
        return f"leaf {entry:#x}"
    kind = {PTE: "PTE", PMD: "PMD"}.get(entry.level, f"level-{entry.level}")
    return (
        f"a {kind} table with {len(entry.entries)} entries"
        if entry.entries
        else f"an emptied {kind} table"
    )


def move_ptes(move: Move, source: Table | None, target: Table, extent: int) -> None:
    """Move the entries of one extent, which lies inside one slot on each side.

    Each entry that moves alone becomes soft-dirty.  The source table stays, maybe emptied.
    Source: move_ptes().
    """
    assert source is not None and source.level == target.level == PTE
    geometry = move.space.geometry
    shift, mask = geometry.page_shift, geometry.index_mask[PTE]
    first = move.old >> shift & mask
    delta = (move.new >> shift & mask) - first
    old_entries, new_entries = source.entries, target.entries
    stop = first + (extent >> shift)
    if len(old_entries) < stop - first:
        hits = sorted(i for i in old_entries if first <= i < stop)
    else:
        hits = [i for i in range(first, stop) if i in old_entries]
    moved = {i + delta: old_entries.pop(i) | SOFT_DIRTY for i in hits}  # type: ignore[operator]
    if new_entries and not new_entries.keys().isdisjoint(moved):
        for index in sorted(new_entries.keys() & moved.keys()):
            addr = round_down(move.new, geometry.slot_bytes) + (index << shift)
            move.space.report(
                Violation(
                    "dest-entry-none",
                    Range(addr, addr + geometry.page_bytes),
                    f"{_describe(new_entries[index])} in the PTE entry",
                    "none before a page is stored there",
                )
            )
    new_entries.update(moved)
    move.announce(PTES_MOVED, extent)


def _result(move: Move) -> int:
    """Bytes done from the requested start, in the machine's arithmetic.

    Realignment may leave the cursor below the requested start; 6.7 added a check that turns this
    into 0, first by a sum that wraps on 32 bits (B-09, CVE-2024-53111), since 6.12 safely.
    """
    kernel, mask = move.space.kernel, move.space.geometry.word_mask
    if kernel.negative_result_is_zero:
        if kernel.wrap_safe_result:
            nothing_done = move.old < move.old_end - move.length
        else:
            nothing_done = (move.length + move.old) & mask < move.old_end
        if nothing_done:
            return 0
    done = (move.length + move.old - move.old_end) & mask
    if done > move.length:
        move.space.report(
            Violation(
                "move-result",
                Range(move.requested_old, move.old_end),
                f"{done:#x} bytes done",
                f"at most {move.length:#x}",
            )
        )
    return done
