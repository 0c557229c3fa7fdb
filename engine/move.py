"""Moving page tables: the subject of this project.

`move_page_tables` carries the entries of [old, old_end) to the addresses from `new` on.  It takes
the largest bites that fit: a PUD entry at a time (a whole PMD table changes its parent), else a PMD
entry (a whole PTE table, or a huge page), else the pages of one slot one by one:

    old    |......xx|xxxxxxxx|xxxxxxxx|xxx.....|      x: pages to move, |: slot boundaries
               PTE     PMD      PMD     PTE           the mover each bite is for
    new    |......xx|xxxxxxxx|xxxxxxxx|xxx.....|

Whole tables can only move between addresses that have the same offset in their slots.  When the
first bite is partial and nothing is mapped below it on either side, both starts are lowered to the
slot boundary (`_realign`), and the first bite becomes a whole table, too.

A destination entry must be none when something is stored there.  Where the kernel has a WARN_ON,
the model reports a violation of `dest-entry-none` and goes on as the kernel does.

Entries that move one by one become soft-dirty, and lose uffd-wp if they leave the userfaultfd that
asked for it; a table moves with everything in it, so then none may.

Model: one thread, so the rmap and page-table locks are not taken; the points tell which ones the
kernel would hold.  It is one loop, and so one file.  Source: mm/mremap.c, Linux 5.0 to 6.18.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.base.address import Range, round_down
from engine.base.entry import (
    ACCESSED,
    DIRTY,
    EXCLUSIVE,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    is_wp_marker,
)
from engine.base.geometry import PMD, PTE, PUD
from engine.base.points import (
    ALLOC_FAILED,
    ALLOCATED,
    ANON_VMA,
    ENTER,
    HUGE_MOVED,
    HUGE_SPLIT,
    I_MMAP,
    ITERATION,
    LEAVE,
    MMAP_WRITE,
    MOVE_HUGE,
    MOVE_PMD,
    MOVE_PTES,
    MOVE_PUD,
    NONE,
    PAGE_TABLES,
    PMD_MOVED,
    PMD_OCCUPIED,
    PTES_MOVED,
    PUD_MOVED,
    PUD_OCCUPIED,
    REALIGNED,
    SKIPPED,
    Point,
)
from engine.base.seam import seam
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.table import OutOfTables, Table
from engine.state.vma import Vma

_BEGINS = {PMD: MOVE_PMD, PUD: MOVE_PUD}
_MOVED = {PMD: PMD_MOVED, PUD: PUD_MOVED}
_OCCUPIED = {PMD: PMD_OCCUPIED, PUD: PUD_OCCUPIED}
_OF_TABLES = frozenset((PMD_MOVED, PUD_MOVED, PMD_OCCUPIED, PUD_OCCUPIED))  # moved whole, or not
_LOCKED = frozenset((PTES_MOVED, PMD_MOVED, PUD_MOVED, HUGE_MOVED))
_OF_MOVERS = _OF_TABLES | _LOCKED
_WHOLE = _OF_TABLES | {MOVE_PMD, MOVE_PUD}
_MAY_DIFFER = DIRTY | ACCESSED | SOFT_DIRTY | EXCLUSIVE | WRITE  # in a batch


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
    hemmed_in: bool = field(init=False, default=False)  # others keep it from being realigned
    held: int = field(init=False, default=MMAP_WRITE)  # locks, all along
    notified: Range | None = field(init=False, default=None)  # secondary MMUs stay away from it
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
        """Tell who listens to the point, if anybody does."""
        if hearing := self.space.listeners.get(point):
            held = self.held | (_locks(self, point) if point in _OF_MOVERS else 0)
            made = MovePoint(point, self.old, self.old + extent, held, self)
            for listener in hearing:
                listener(self.space, made)


@dataclass(slots=True)
class MovePoint(Point):
    """A point of a move: the range is that of the source, at LEAVE what was done.

    The move goes on, the point does not.
    """

    move: Move


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


def _realign(move: Move) -> None:
    """Lower both starts to their slot boundary if only whole-table moves gain from it.

    Legal if both have the same offset in their slots, the range reaches the end of the first slot,
    and nothing else lives in the two slot parts below.  Source: try_realign_addr(), 6.7.
    """
    kernel = move.space.kernel
    slot = move.space.geometry.slot_bytes
    offset = move.old & (slot - 1)
    if move.length < slot - offset or offset == 0 or offset != move.new & (slot - 1):
        return  # mark: realign-gains-nothing
    if not _heads_are_unused(move):
        move.hemmed_in = True  # mark: realign-hemmed-in
        return
    if kernel.realign_stack if move.for_stack else kernel.realign:
        move.old -= offset  # mark: realigned
        move.new -= offset
        move.announce(REALIGNED)


def _heads_are_unused(move: Move) -> bool:
    """Does nothing else live in the slot parts below the two starts?"""
    return _head_is_unused(move, move.old_vma, move.old) and _head_is_unused(
        move, move.new_vma, move.new
    )


@seam
def _head_is_unused(move: Move, vma: Vma, addr: int) -> bool:
    """May the slot part below `addr` be moved along?  Source: can_align_down()."""
    # What lies below in the same VMA was not asked to move.  But the stack VMA was just expanded
    # over the destination: its own start lies below, and it may fill the slot part.
    if not move.for_stack and vma.start != addr:
        return False  # mark: realign-inside-vma
    return move.space.vmas.head_is_free(vma, addr, move.space.geometry.slot_bytes)


def move_page_tables(move: Move) -> int:
    """Move the entries of one range.

    Precondition: the caller holds the mmap lock for writing; old and new ranges are page aligned
    and overlap only if `new` is below `old`.
    Returns: bytes done, counted from the requested start; less than `move.length` only if a
    destination table could not be allocated.  What was moved until then stays moved.
    """
    if move.length == 0:
        return 0  # mark: move-of-nothing
    _realign(move)
    move.notified = _notified(move)
    move.announce(ENTER)
    while move.old < move.old_end:
        try:
            _move_one_extent(move)
        except OutOfTables:
            move.announce(ALLOC_FAILED)  # mark: move-out-of-tables
            break
    move.notified = None
    move.done = _result(move)
    move.announce(LEAVE, move.done)
    return move.done


def _notified(move: Move) -> Range:
    """What is announced to secondary MMUs before the loop: the old range, as it is realigned.

    Source: mmu_notifier_invalidate_range_start().
    """
    return Range(move.old, move.old_end)


@seam
def _flush_pending(move: Move) -> None:
    """Do the flush that reclaim has put off, before looking at entries (B-28).

    Source: flush_tlb_batched_pending(), 4.13.
    """
    move.space.tlb.flush_pending()


@seam
def _flush_ptes(move: Move, moved: Iterable[int], extent: int) -> None:
    """Flush what the PTE mover has taken away if anything was present, inside both locks."""
    if move.space.tlb.cached and any(entry & PRESENT for entry in moved):
        move.space.tlb.flush(move.old, move.old + extent)  # mark: ptes-flushed


def _flush_table(move: Move, extent: int) -> None:
    """Flush what a table mapped at its old place, inside both locks."""
    move.space.flush_tlb(move.old, move.old + extent)


@seam
def _flush_huge(move: Move, entry: int, extent: int) -> None:
    """Flush what a huge leaf mapped at its old place, inside both locks."""
    if entry & PRESENT:
        move.space.flush_tlb(move.old, move.old + extent)  # mark: huge-flushed


def _move_one_extent(move: Move) -> None:
    """One iteration: the largest bite at the cursor.

    Errors raised: OutOfTables if a destination table is needed and cannot be had.
    """
    move.announce(ITERATION)
    limit = move.old_end - move.old
    if move.space.geometry.levels >= PUD:
        limit = _at_pud_level(move)
    if limit:
        _at_pmd_level(move, limit)


def _at_pud_level(move: Move) -> int:
    """Skip an empty PUD entry, or move a whole one.

    Returns: 0 if that was possible, else the bytes to the nearest PUD boundary: there is something
    to move below it.
    """
    geometry = move.space.geometry
    extent = extent_bytes(move, geometry.pud_bytes)
    hole = hole_end(move, PUD)
    if hole:
        skip(move, hole - move.old)  # mark: pud-hole
        return 0
    destination_table(move, PUD)
    if extent == geometry.pud_bytes and move.space.kernel.moves_puds() and _move_table(move, PUD):
        move.advance(extent)  # mark: pud-moved
        return 0
    return extent


def _at_pmd_level(move: Move, limit: int) -> None:
    """Skip empty PMD entries, or move what one covers: by its entry if possible, else page by page.

    Arguments: `limit` bytes to the nearest PUD boundary on either side; holes are not skipped
    beyond, for the next PUD entry may need a destination table.
    """
    space = move.space
    slot = space.geometry.slot_bytes
    extent = extent_bytes(move, slot)
    hole = hole_end(move, PMD)
    if hole:
        skip(move, min(hole - move.old, limit))  # mark: pmd-hole
        return
    destination_table(move, PMD)
    if space.tree.huge and _is_huge(move):
        moved = (extent == slot and _move_huge(move)) or not _split_huge(move)  # mark: huge-entry
    else:
        moved = extent == slot and space.kernel.move_pmd and _move_table(move, PMD)
    if moved:
        move.advance(extent)
    else:
        _by_ptes(move, extent)


def _by_ptes(move: Move, extent: int) -> None:
    """Move the entries of one extent, if both tables are still there once they are locked.

    A collapse of the object that is mapped may free either (6.6): the source then has nothing any
    more, the destination gets another one.
    Source: move_ptes() returns -EAGAIN where pte_offset_map_lock() fails, 6.5.
    """
    find = move.space.tree.find
    while find(move.old, PTE) is not None or not hole_end(move, PMD):
        target = destination_table(move, PTE)  # mark: pte-mover
        move.announce(MOVE_PTES, extent)
        source = find(move.old, PTE)
        if (source is None and hole_end(move, PMD)) or not _still_linked(move, target):
            continue  # mark: tables-looked-for-again
        move_ptes(move, source, target, extent)
        move.advance(extent)
        return
    skip(move, extent)  # mark: source-table-gone


def _still_linked(move: Move, target: Table) -> bool:
    """Is that the destination's PTE table, now that it is locked?"""
    return move.space.tree.find(move.new, PTE) is target


def hole_end(move: Move, level: int) -> int:
    """Where the source goes on if its entry of `level` is none; 0 if it is not none.

    Model: the kernel takes one step for each empty entry.  Its steps end at every boundary of the
    source, so going to the next entry that exists at once visits the same states.
    """
    return move.space.tree.hole_end(move.old, level)


def skip(move: Move, extent: int) -> None:
    """Go over `extent` bytes in which the source has nothing, as far as the range goes."""
    extent = min(extent, move.old_end - move.old)
    move.announce(SKIPPED, extent)
    move.advance(extent)


def destination_table(move: Move, level: int) -> Table:
    """The table of `level` at the destination, allocated if need be (alloc_new_pmd, pte_alloc)."""
    tree = move.space.tree
    before, may_fail = tree.allocations, True
    while True:
        try:
            table = tree.make(move.new, level, may_fail=may_fail)
            break
        except OutOfTables:  # a way back that may not fail goes on asking
            if not move.rollback or not move.space.kernel.rollback_nofail:
                raise  # mark: table-refused
            # mark: table-insisted-on, unreachable: no release has rollback_nofail
            may_fail = not move.space.failures.lasting  # __GFP_NOFAIL passes a cgroup's limit
    if tree.allocations != before:
        move.announce(ALLOCATED)  # mark: table-allocated
    return table


@seam
def _must_look_at_entries(move: Move) -> bool:
    """Is uffd-wp to be cleared from what moves?  Then no table moves whole; asked before anything.

    Source: uffd_supports_page_table_move(), 6.17.  The roles of the two VMAs are swapped in a
    rollback, which must decide as the way there did.
    """
    return (
        move.old_vma.uffd_stays_behind or move.new_vma.uffd_stays_behind
    ) and move.space.kernel.uffd_checks_both


def _must_look_at_entries_old(move: Move) -> bool:
    """The first form of that question, of the old VMA only and after the warning (B-08)."""
    kernel = move.space.kernel
    return move.old_vma.uffd_stays_behind and kernel.uffd_wp_cleared and not kernel.uffd_checks_both


def _takes_rmap_locks(move: Move, point: str) -> bool:
    """Does the mover that announces `point` take the rmap locks of the source VMA?

    A table always moves under them since 5.13.3: who waits for its lock must not find it elsewhere.
    Source: take_rmap_locks().
    """
    whole_table = point in _WHOLE
    return move.need_rmap_locks or (whole_table and move.space.kernel.table_moves_lock_rmap)


def rmap_locks(move: Move, point: str) -> int:
    """Which ones that are; NONE if it takes none."""
    vma = move.old_vma
    if not _takes_rmap_locks(move, point):
        return NONE
    return (ANON_VMA if vma.link is not None else 0) | (0 if vma.is_anonymous else I_MMAP)


def _locks(move: Move, point: str) -> int:
    """The locks that the mover which announces `point` has taken, and not dropped yet."""
    return rmap_locks(move, point) | (PAGE_TABLES if point in _LOCKED else 0)


@seam
def _move_table(move: Move, level: int) -> bool:
    """Move the whole table under one PMD or PUD entry by relinking it.

    Returns: False if the destination is occupied, or entries must be looked at; nothing has changed
    then.  Source: move_normal_pmd() 5.0, move_normal_pud() 5.11; the order of 6.18.
    """
    if _must_look_at_entries(move):
        return False  # mark: uffd-keeps-tables
    space, tree = move.space, move.space.tree
    extent = space.geometry.span_bytes[level - 1]
    move.announce(_BEGINS[level], extent)
    source = tree.find(move.old, level)
    target = tree.find(move.new, level)
    assert source is not None and target is not None
    old_index, new_index = tree.index(move.old, level), tree.index(move.new, level)

    occupant = target.entry(new_index)
    swapped = level == PUD and _is_empty(occupant) and space.kernel.swaps_empty_pmd_table
    if occupant is not None and not swapped:
        report_occupied(move, level, occupant, extent)  # mark: table-occupied
        move.announce(_OCCUPIED[level], extent)
        return False
    if _must_look_at_entries_old(move):
        return False  # mark: uffd-keeps-tables-late
    if source.entry(old_index) is None:  # a collapse has freed it since the walk looked (6.6)
        if not space.kernel.pmd_recheck:
            # mark: freed-table-moved
            _report_leaf(move, "no table, moved as a table", extent)
        return False  # mark: freed-table-not-moved
    if old_index in source.leaves:
        _report_leaf(move, f"{_describe(source.leaves[old_index])} moved as a table", extent)
        tree.lay(target, {new_index: tree.lift(source, (old_index,))[0]})
    else:
        moved = tree.unlink(source, old_index)  # mark: table-moved
        if swapped:
            # mark: empty-table-swapped, unreachable: no release has swaps_empty_pmd_table
            tree.link(source, old_index, tree.unlink(target, new_index))
        tree.link(target, new_index, moved)
    _flush_table(move, extent)
    move.announce(_MOVED[level], extent)
    return True


@seam
def _is_huge(move: Move) -> bool:
    """Is the PMD entry at the cursor a huge leaf?"""
    tree = move.space.tree
    table = tree.find(move.old, PMD)
    assert table is not None, "the walk has found an entry"
    return tree.index(move.old, PMD) in table.leaves


@seam
def _move_huge(move: Move) -> bool:
    """Move one huge leaf, with the PTE table deposited for it; it becomes soft-dirty.

    Returns: False if the destination is occupied: until 6.4 with a warning, since then without,
    for the walk itself may have put a PTE table there.  Source: move_huge_pmd().
    """
    space, tree = move.space, move.space.tree
    extent = space.geometry.slot_bytes
    move.announce(MOVE_HUGE, extent)
    source, target = tree.find(move.old, PMD), tree.find(move.new, PMD)
    assert source is not None and target is not None
    if not _still_huge(move):
        return False
    new_index = tree.index(move.new, PMD)
    occupant = target.entry(new_index)
    if occupant is not None:
        if not space.kernel.may_retry:
            report_occupied(move, PMD, occupant, extent)  # mark: huge-occupied-warns
        move.announce(PMD_OCCUPIED, extent)  # mark: huge-occupied
        return False
    tree.move_huge(source, tree.index(move.old, PMD), target, new_index)  # mark: huge-moved
    kept = target.leaves[new_index] & ~bits_to_clear(move)
    tree.put(target, new_index, kept | _bits_to_set(move))
    _flush_huge(move, kept, extent)
    move.announce(HUGE_MOVED, extent)
    return True


def _still_huge(move: Move) -> bool:
    """Is it, now that it is locked?  Source: pmd_trans_huge_lock()."""
    return _is_huge(move)


def _split_huge(move: Move) -> bool:
    """Split the huge leaf at the cursor.  Returns: False if that left nothing to move here."""
    space, tree = move.space, move.space.tree
    table = tree.find(move.old, PMD)
    assert table is not None
    index = tree.index(move.old, PMD)
    if index in table.leaves:  # nobody else has split it meanwhile
        space.split_huge(table, index)  # mark: huge-split
        move.announce(HUGE_SPLIT)
    return index in table.tables


def report_occupied(move: Move, level: int, occupant: int | Table, extent: int) -> None:
    """WARN_ON(!pmd_none(*new_pmd)): freeing page tables should have released it."""
    # A stack that does not go down as whole tables meets those that it has emptied itself.
    watched = _must_look_at_entries(move) or _must_look_at_entries_old(move)
    expected = move.for_stack and (move.hemmed_in or watched) and _is_emptied(occupant)
    if expected and move.space.kernel.stack_expects_emptied:
        return  # mark: stack-expects-emptied, unreachable: no release has stack_expects_emptied
    # mark: dest-entry-occupied
    move.space.report(
        Violation(
            "rollback-dest-none" if move.rollback else "dest-entry-none",
            Range(move.new, move.new + extent),
            f"{_describe(occupant)} in the {terms.LEVELS[level]} entry",
            "none before a table is stored there",
        )
    )


def _is_empty(entry: int | Table | None) -> bool:
    """Is it a table without any entry?"""
    return isinstance(entry, Table) and not entry.count


def _is_emptied(entry: int | Table) -> bool:
    """Is it a table that maps nothing any more, though it may have tables?"""
    return (
        isinstance(entry, Table)
        and not entry.leaves
        and all(map(_is_emptied, entry.tables.values()))
    )


def _report_leaf(move: Move, found: str, extent: int) -> None:
    """A page is about to be read as a page table (B-15)."""
    move.space.report(
        Violation(
            "table-not-leaf",
            Range(move.old, move.old + extent),
            found,
            "tables moved or walked as tables, leaves as leaves",
        )
    )


def _describe(entry: int | Table) -> str:
    return terms.entry(entry) if isinstance(entry, int) else terms.table(entry.level, entry.count)


def move_ptes(move: Move, source: Table | None, target: Table, extent: int) -> None:
    """Move the entries of one extent, which lies inside one slot on each side.

    Each entry that moves alone becomes soft-dirty.  The source table stays, maybe emptied.
    Source: move_ptes().
    """
    if source is None:
        _report_leaf(move, "no table under the PMD entry", extent)
        return
    assert source.level == target.level == PTE
    geometry = move.space.geometry
    _flush_pending(move)
    shift, mask = geometry.page_shift, geometry.index_mask[PTE]
    first = move.old >> shift & mask
    delta = (move.new >> shift & mask) - first
    hits = source.indices(first, first + (extent >> shift) - 1)
    moved = _as_moved(move, hits, move.space.tree.lift(source, hits), delta)
    occupied = target.leaves
    if occupied and not occupied.keys().isdisjoint(moved):
        for index in sorted(occupied.keys() & moved.keys()):
            addr = round_down(move.new, geometry.slot_bytes) + (index << shift)
            move.space.report(
                Violation(
                    "dest-entry-none",
                    Range(addr, addr + geometry.page_bytes),
                    f"{_describe(occupied[index])} in the PTE entry",
                    "none before a page is stored there",
                )
            )
    move.space.tree.lay(target, moved)
    _flush_ptes(move, moved.values(), extent)
    move.announce(PTES_MOVED, extent)


@seam
def _as_moved(move: Move, hits: list[int], taken: list[int], delta: int) -> dict[int, int]:
    """What is stored at the destination, by index: `taken` from `hits`, `delta` further."""
    gained, lost = _bits_to_set(move), bits_to_clear(move)
    large = move.space.frames.large
    if not lost and not large:
        return {i + delta: entry | gained for i, entry in zip(hits, taken, strict=True)}
    if large:
        batches = _as_batches(move, hits, taken)  # mark: large-folio-moves
        if batches != taken and move.space.kernel.pte_batching:
            taken = batches  # mark: batch-differs
    return {
        i + delta: entry & ~lost | gained
        for i, entry in zip(hits, taken, strict=True)
        if not (lost and is_wp_marker(entry))
    }


@seam
def _bits_to_set(move: Move) -> int:
    """What an entry that moves alone gets.  Source: move_soft_dirty_pte()."""
    return SOFT_DIRTY


def bits_to_clear(move: Move) -> int:
    """What such an entry loses; one that holds nothing else, a wp marker, is dropped.

    Source: move_ptes(), move_huge_pmd(), 6.13.
    """
    cleared = move.old_vma.uffd_stays_behind and move.space.kernel.uffd_wp_cleared
    return UFFD_WP if cleared else 0


@seam
def _as_batches(move: Move, hits: list[int], taken: list[int]) -> list[int]:
    """The entries as they come out of a mover that takes runs of pages of one large folio at once.

    The entries of a run are made anew from the first one; what the hardware sets is or-ed over the
    run.  EXCLUSIVE is a flag of the page and stays with it.
    Model: the architecture's hint, which keeps x86 from ever taking more than one, is not asked.
    Source: move_ptes(), mremap_folio_pte_batch(), get_and_clear_full_ptes(), set_ptes(), 6.17.
    """
    large, pages = move.space.frames.large, move.space.geometry.slot_pages
    made: list[int] = []
    while len(made) < len(taken):
        at = len(made)
        first = taken[at]
        pfn = first >> PFN_SHIFT
        room = pages - pfn % pages if first & PRESENT and pfn - pfn % pages in large else 1
        if room == 1:
            made.append(first)  # mark: batch-of-one
            continue
        count = _batch_length(move, hits, taken, at, room)  # mark: batch
        batch, gathered = taken[at : at + count], 0
        for entry in batch:
            gathered |= entry & (DIRTY | ACCESSED)
        copied = first & ~EXCLUSIVE | gathered
        made += [copied + (n << PFN_SHIFT) | entry & EXCLUSIVE for n, entry in enumerate(batch)]
    return made


def _batch_length(move: Move, hits: list[int], taken: list[int], at: int, room: int) -> int:
    """How many entries from position `at` on are one batch, at most `room`.

    Source: folio_pte_batch_flags(), 6.17.
    """
    room = min(room, len(taken) - at)
    first, index = taken[at], hits[at]
    count = 1
    while (
        count < room
        and hits[at + count] == index + count
        and not (taken[at + count] ^ first + (count << PFN_SHIFT)) & ~_MAY_DIFFER
        # That the write bit differs was overlooked until 6.18 (B-49).
        and not ((taken[at + count] ^ first) & WRITE and move.space.kernel.batch_keeps_write)
    ):
        count += 1
    return count


def _result(move: Move) -> int:
    """Bytes done from the requested start, in the machine's arithmetic.

    Realignment may leave the cursor below the requested start; 6.7 added a check that turns this
    into 0, first by a sum that wraps on 32 bits (B-09, CVE-2024-53111), since 6.12 safely.
    """
    kernel, mask = move.space.kernel, move.space.geometry.word_mask
    below_start = move.old < move.old_end - move.length
    wrapped = (move.length + move.old) & mask < move.old_end
    if (below_start or wrapped) and kernel.negative_result_is_zero:
        nothing_done = below_start if kernel.wrap_safe_result else wrapped
        if nothing_done:
            return 0  # mark: nothing-done
    done = (move.length + move.old - move.old_end) & mask
    if done > move.length:
        # mark: result-wraps, unreachable: what lowers the start (6.7) came with the check
        move.space.report(
            Violation(
                "move-result",
                Range(move.requested_old, move.old_end),
                f"{terms.size(done - mask - 1)} done, which wraps",
                f"at most {terms.size(move.length)}",
            )
        )
    return done
