"""The bugs that are no setting of a kernel: what the functions of the engine were like with them.

Each function here gets one function of the engine and returns what replaces it.  Most call the
original and do one thing differently, so that they stay what they are when the engine changes.
"""

from collections.abc import Callable, Iterable
from typing import Any

from engine import move as moving
from engine import mremap as mremapping
from engine.base.entry import DIRTY, PFN_SHIFT, SWAP, UFFD_WP, is_wp_marker
from engine.base.geometry import PMD, PUD
from engine.base.uapi import MREMAP_FIXED, Errno
from engine.move import Move
from engine.pages import uffd
from engine.remap import Remap
from engine.state.space import AddressSpace
from engine.state.table import OutOfTables, Table, TableTree
from engine.state.vma import VM_ACCOUNT, Vma

Function = Any  # a function of any signature, or a property


def always(value: object) -> Callable[[Function], Function]:
    """A function that returns one value, whatever it is given."""
    return lambda original: lambda *_: value


def property_always(value: object) -> Callable[[Function], Function]:
    """A property that has one value."""
    return lambda original: property(lambda self: value)


# --- The walk and the movers ----------------------------------------------------------------------


def head_may_be_ours(original: Function) -> Function:
    """B-12: what lies below the start in the source VMA itself does not keep it from realigning."""

    def head_is_unused(move: Move, vma: Vma, addr: int) -> bool:
        if move.for_stack:
            return bool(original(move, vma, addr))
        return move.space.vmas.head_is_free(vma, addr, move.space.geometry.slot_bytes)

    return head_is_unused


def only_old_head(original: Function) -> Function:
    """B-12: nobody looks at what lies below the destination."""

    def head_is_unused(move: Move, vma: Vma, addr: int) -> bool:
        return addr == move.new or bool(original(move, vma, addr))

    return head_is_unused


def only_new_head(original: Function) -> Function:
    """B-12: nobody looks at what lies below the source."""

    def head_is_unused(move: Move, vma: Vma, addr: int) -> bool:
        return addr == move.old or bool(original(move, vma, addr))

    return head_is_unused


def pud_of_two_levels(original: Function) -> Function:
    """B-13: with folded levels the PUD mover finds the entry above never none, and warns."""

    def move_table(move: Move, level: int) -> bool:
        root = move.space.tree.root
        if level == PMD and root.level == PMD:
            moving.report_occupied(move, PUD, root, move.space.geometry.slot_bytes)
        return bool(original(move, level))

    return move_table


def moved_counts_as_new(original: Function) -> Function:
    """B-14: the primitive that stores a moved table takes it for one that was never used."""

    def move_table(move: Move, level: int) -> bool:
        moved = bool(original(move, level))
        move.space.tree.counts[level - 1] += moved
        return moved

    return move_table


def table_stored_as_leaf(original: Function) -> Function:
    """B-14: the primitive for huge leaves stores the table."""

    def move_table(move: Move, level: int) -> bool:
        if not original(move, level):
            return False
        tree = move.space.tree
        target = tree.find(move.new, level)
        assert target is not None
        index = tree.index(move.new, level)
        tree.unlink(target, index)
        tree.lay(target, {index: 0})
        return True

    return move_table


def pud_table_freed(original: Function) -> Function:
    """B-24: without memory for a PMD table, the PUD table above is freed, whoever uses it."""

    def make(tree: TableTree, addr: int, level: int, **how: bool) -> Table:
        try:
            made: Table = original(tree, addr, level, **how)
            return made
        except OutOfTables:
            upper, parent = tree.find(addr, PUD), tree.find(addr, PUD + 1)
            if upper is not None and parent is not None and tree.find(addr, PMD) is None:
                tree.free(parent, tree.index(addr, PUD + 1))
            raise

    return make


def deposit_left_behind(original: Function) -> Function:
    """B-16: the table deposited for a huge page stays with the PMD table it leaves."""

    def carry_deposit(source: Table, target: Table) -> None:
        pass

    return carry_deposit


# --- TLB flushes ----------------------------------------------------------------------------------


def no_flush(original: Function) -> Function:
    """The flush comes too late, after the page-table locks."""

    def flush(move: Move, *_: object) -> None:
        pass

    return flush


def dirty_only(original: Function) -> Function:
    """B-03: the flush inside the locks is for dirty entries only."""

    def flush_ptes(move: Move, moved: Iterable[int], extent: int) -> None:
        if any(entry & DIRTY for entry in moved):
            move.space.flush_tlb(move.old, move.old + extent)

    return flush_ptes


# --- The reverse map ------------------------------------------------------------------------------


def never_locked(original: Function) -> Function:
    """B-18: a copy that was merged counts as one that a walk visits after its source."""

    def copy_vma(remap: Remap, vma: Vma, keep: bool) -> tuple[Vma, Vma, bool]:
        new_vma, source, _ = original(remap, vma, keep)
        return new_vma, source, False

    return copy_vma


def rollback_unlocked(original: Function) -> Function:
    """B-18: the way back needs no rmap locks either, it seems."""

    def way_back(move: Move, moved: int) -> Move:
        back: Move = original(move, moved)
        back.need_rmap_locks = False
        return back

    return way_back


def stale_source(original: Function) -> Function:
    """B-52: the source is still used after it was merged away."""

    def copy_vma(remap: Remap, vma: Vma, keep: bool) -> tuple[Vma, Vma, bool]:
        new_vma, _, locks = original(remap, vma, keep)
        return new_vma, vma, locks

    return copy_vma


# --- Entries --------------------------------------------------------------------------------------


def wp_kept(kind: Callable[[int], bool]) -> Callable[[Function], Function]:
    """B-07: entries of one kind keep uffd-wp, or stay, when they leave their userfaultfd."""

    def make(original: Function) -> Function:
        def as_moved(move: Move, hits: list[int], taken: list[int], delta: int) -> dict[int, int]:
            moved: dict[int, int] = original(move, hits, taken, delta)
            for index, entry in zip(hits, taken, strict=True):
                if entry & UFFD_WP and kind(entry):
                    moved[index + delta] = moved.get(index + delta, entry) | UFFD_WP
            return moved

        return as_moved

    return make


def is_swapped(entry: int) -> bool:
    """A page in swap."""
    return bool(entry & SWAP)


wp_marker_kept = wp_kept(is_wp_marker)
wp_swap_kept = wp_kept(is_swapped)


def wp_huge_kept(original: Function) -> Function:
    """B-07: a huge page keeps uffd-wp when it leaves its userfaultfd."""

    def move_huge(move: Move) -> bool:
        tree = move.space.tree
        table = tree.find(move.old, PMD)
        entry = table.leaves.get(tree.index(move.old, PMD), 0) if table else 0
        moved = bool(original(move))
        target = tree.find(move.new, PMD)
        if moved and target:
            index = tree.index(move.new, PMD)
            tree.put(target, index, target.leaves[index] | entry & UFFD_WP)
        return moved

    return move_huge


def batch_of_one_frame(original: Function) -> Function:
    """Like B-49: the frame number does not go up along a batch."""

    def as_batches(move: Move, hits: list[int], taken: list[int]) -> list[int]:
        made: list[int] = original(move, hits, taken)
        for at in range(1, len(made)):
            if hits[at] == hits[at - 1] + 1 and taken[at] - taken[at - 1] == 1 << PFN_SHIFT:
                made[at] = made[at - 1]
        return made

    return as_batches


# --- Freeing tables -------------------------------------------------------------------------------


def without_floor(original: Function) -> Function:
    """The neighbour below does not keep the table that it shares."""

    def free_range(
        tree: TableTree, start: int, end: int, floor: int, ceiling: int
    ) -> list[tuple[int, Table]]:
        found: list[tuple[int, Table]] = original(tree, start, end, 0, ceiling)
        return found

    return free_range


def without_ceiling(original: Function) -> Function:
    """The neighbour above does not keep the table that it shares."""

    def free_range(
        tree: TableTree, start: int, end: int, floor: int, ceiling: int
    ) -> list[tuple[int, Table]]:
        found: list[tuple[int, Table]] = original(tree, start, end, floor, 0)
        return found

    return free_range


# --- mremap's arguments and results ---------------------------------------------------------------


def any_length(original: Function) -> Function:
    """B-22: the range may reach beyond the end of its VMA."""

    def source(remap: Remap) -> Vma | Errno:
        found: Vma | Errno = original(remap)
        vma = remap.space.vmas.lookup(remap.addr)
        return vma if found is Errno.EFAULT and vma is not None else found

    return source


def positive_errno(original: Function) -> Function:
    """B-56: an error is returned with the wrong sign."""

    def do_mremap(remap: Remap, *, differ: bool) -> int | Errno:
        result: int | Errno = original(remap, differ=differ)
        return 14 if result is Errno.EFAULT else result

    return do_mremap


def zero_length(original: Function) -> Function:
    """B-70: a new length of 0 is taken, and makes a VMA that covers nothing."""

    def do_mremap(remap: Remap, *, differ: bool) -> int | Errno:
        space, new_addr = remap.space, remap.new_addr
        vma = space.vmas.lookup(remap.addr)
        free = space.vmas.lookup(new_addr) is None and new_addr < space.geometry.user_top
        aligned = not (remap.addr | new_addr) % space.geometry.page_bytes
        if not remap.new_len and remap.flags & MREMAP_FIXED and vma and free and aligned:
            space.vmas._put(Vma(new_addr, new_addr, vma.flags, 0, backing=vma.backing))
            return new_addr
        result: int | Errno = original(remap, differ=differ)
        return result

    return do_mremap


def unmapped_before_seal(original: Function) -> Function:
    """B-62: the seal of the source is looked at once the destination is unmapped."""

    def check_vma(remap: Remap, vma: Vma) -> Errno | None:
        error: Errno | None = original(remap, vma)
        if error is Errno.EPERM and not mremapping._check_target(remap):
            mremapping._make_room(remap)
        return error

    return check_vma


def unmap_error_ignored(original: Function) -> Function:
    """B-70: what the unmapping of the tail says is not looked at."""

    def cut_tail(remap: Remap) -> Errno | None:
        original(remap)
        remap.old_len = min(remap.old_len, remap.new_len)
        return None

    return cut_tail


def refused_too_late(original: Function) -> Function:
    """B-51: that the first VMA may not move with others is noticed at the second."""

    def move_several(remap: Remap) -> int | Errno:
        end = remap.addr + remap.old_len
        vma = remap.space.vmas.lookup(remap.addr)
        if vma is None or not uffd.is_armed(vma) or vma.end >= end:
            result: int | Errno = original(remap)
            return result
        length = vma.end - remap.addr
        first = Remap(remap.space, remap.addr, length, length, remap.flags, remap.new_addr)
        result = original(first)
        return result if isinstance(result, Errno) else Errno.EFAULT

    return move_several


def no_way_back_from_hook(original: Function) -> Function:
    """B-66: an error of the driver, after all has moved, is returned and nothing else."""

    def move_back(move: Move, moved: int) -> None:
        if moved < move.length:
            original(move, moved)

    return move_back


# --- Growth in place ------------------------------------------------------------------------------


def _grows_in_place(remap: Remap, vma: Vma) -> bool:
    return remap.addr + remap.old_len == vma.end and mremapping._expandable(
        remap.space, vma, remap.new_len - remap.old_len
    )


def growth_from_start(original: Function) -> Function:
    """B-41: the page offset of the extension is reckoned from the start of the VMA, not `addr`."""

    def grow(remap: Remap, vma: Vma) -> int | Errno:
        if remap.addr != vma.start and _grows_in_place(remap, vma):
            return Errno.ENOMEM  # no neighbour has the page offset that goes with it
        result: int | Errno = original(remap, vma)
        return result

    return grow


def growth_uncharged(original: Function) -> Function:
    """B-41: growth that fails is given back, charged or not."""

    def grow(remap: Remap, vma: Vma) -> int | Errno:
        in_place = _grows_in_place(remap, vma)
        result: int | Errno = original(remap, vma)
        if in_place and isinstance(result, Errno):
            delta = remap.new_len - remap.old_len
            remap.space.committed -= delta >> remap.space.geometry.page_shift
        return result

    return grow


def always_recharged(original: Function) -> Function:
    """B-36: a source that could not be unmapped is charged for again, accountable or not."""

    def unmap_moved(
        vma: Vma, space: AddressSpace, start: int, length: int, *, keep_commit: bool
    ) -> None:
        original(vma, space, start, length, keep_commit=keep_commit)
        stayed = space.vmas.intersection(start, start + length) is not None
        if stayed and keep_commit and not vma.flags & VM_ACCOUNT:
            space.committed += length >> space.geometry.page_shift

    return unmap_moved


# --- userfaultfd ----------------------------------------------------------------------------------


def changing_kept(original: Function) -> Function:
    """B-54: a call that fails forgets its events, and with them the count it holds."""

    def call_ended(space: AddressSpace, *, failed: bool, **how: Any) -> None:
        if not failed:
            original(space, failed=failed, **how)
            return
        for context in space.uffds.values():
            context.pending = []

    return call_ended


def destination_not_announced(original: Function) -> Function:
    """B-55: what FIXED unmaps at the destination is not announced."""

    def make_room(remap: Remap) -> Errno | None:
        error: Errno | None = original(remap)
        for context in remap.space.uffds.values():
            context.changing -= len(context.pending)
            context.pending = []
        return error

    return make_room
