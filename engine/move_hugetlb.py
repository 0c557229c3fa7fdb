"""The mover of hugetlb, which moves leaves only: its huge pages are never split, no table moves.

Source: mm/hugetlb.c, Linux 5.16 to 6.18.
"""

from engine.base.address import Range, round_down
from engine.base.entry import is_wp_marker
from engine.base.geometry import PMD
from engine.base.points import ALLOC_FAILED, ENTER, HUGE_MOVED, I_MMAP, ITERATION, LEAVE
from engine.move import Move, bits_to_clear, destination_table, hole_end, report_occupied, skip
from engine.state.table import OutOfTables


def move_hugetlb(move: Move) -> int:
    """Move the huge pages of a range, one leaf at a time; no table moves, nothing is realigned.

    Returns: bytes done, as `move_page_tables`.
    Source: move_hugetlb_page_tables(), move_huge_pte().
    """
    space, slot = move.space, move.space.geometry.slot_bytes
    move.notified = Range(move.old, move.old_end)
    move.held |= I_MMAP  # till the end
    move.announce(ENTER)
    while move.old < move.old_end:
        move.announce(ITERATION)
        if end := hole_end(move, PMD):
            _skip_hole(move, end)  # mark: hugetlb-hole
            continue
        try:
            target = destination_table(move, PMD)
        except OutOfTables:
            move.announce(ALLOC_FAILED)  # mark: hugetlb-out-of-tables
            break
        source = space.tree.find(move.old, PMD)
        assert source is not None
        old_index, new_index = space.tree.index(move.old, PMD), space.tree.index(move.new, PMD)
        onto_itself = target is source and new_index == old_index  # after a hole (B-45)
        if not onto_itself and (occupant := target.entry(new_index)) is not None:
            report_occupied(move, PMD, occupant, slot)  # mark: hugetlb-occupied
            if isinstance(occupant, int):
                space.tree.lift(target, (new_index,))
            else:
                space.tree.unlink(target, new_index)
        if not onto_itself:
            space.tree.move_huge(source, old_index, target, new_index)  # mark: hugetlb-moved
        if lost := bits_to_clear(move):
            moved = target.leaves[new_index]
            if is_wp_marker(moved):
                space.tree.clear_huge(target, new_index)  # mark: hugetlb-marker-dropped
            else:
                space.tree.put(target, new_index, moved & ~lost)  # mark: hugetlb-wp-cleared
        move.announce(HUGE_MOVED, slot)
        move.advance(slot)
    space.flush_tlb(move.notified.start, move.old_end)
    move.notified = None
    move.done = move.length + move.old - move.old_end
    move.announce(LEAVE, move.done)
    return move.done


def _skip_hole(move: Move, end: int) -> None:
    """Go over what is missing up to `end`, bytes of the source.

    Both cursors go on by the same distance, whatever their place in a table; but for some kernels
    over a missing table each goes to the end of its own (B-45).
    Source: hugetlb_mask_last_page().
    """
    space, span = move.space, move.space.geometry.pud_bytes
    end = min(end, move.old_end)
    congruent = not (move.new - move.old) % span
    if congruent or end == move.old_end or not space.kernel.hugetlb_skips_apart:
        skip(move, end - move.old)  # mark: hugetlb-skips-together
        return
    while move.old < end:
        base, next_table = round_down(move.old, span), round_down(move.new, span) + span
        skip(move, min(base + span, end) - move.old)
        if space.tree.find(base, PMD) is None:
            move.new = next_table  # mark: hugetlb-skips-apart
