"""I-26: a move takes the largest bites there are, so that it leaves no table behind needlessly.

It starts at the slot boundary below if that is allowed, and where a whole table can change its
parent its entries do not move one by one.  Said of the addresses alone.
"""

from collections.abc import Iterator

from engine.base.address import Range
from engine.base.geometry import PUD
from engine.base.points import (
    HUGE_MOVED,
    HUGE_SPLIT,
    ITERATION,
    PMD_MOVED,
    PMD_OCCUPIED,
    PTES_MOVED,
    PUD_MOVED,
    PUD_OCCUPIED,
    SKIPPED,
)
from engine.base.uapi import UFFD_FEATURE_EVENT_REMAP
from engine.base.violation import Violation
from engine.move import Move
from engine.state.vma import VM_HUGETLB, Vma

_BELOW_PUD = frozenset((PMD_MOVED, PTES_MOVED, HUGE_MOVED, SKIPPED))
_REFUSED = frozenset((PMD_OCCUPIED, PUD_OCCUPIED, HUGE_SPLIT))


def check_start(move: Move) -> Iterator[Violation]:
    """Both starts are at the slot boundary below, or where they were asked to be, as they should.

    They are lowered if they have the same offset in their slots, not 0, the range reaches the end
    of the first slot, and no mapping has a byte in what is below (the stack itself may, in exec).
    """
    kernel, slot = move.space.kernel, move.space.geometry.slot_bytes
    old = move.requested_old
    new = old + move.new - move.old
    offset = old % slot
    lowered = (
        offset != 0
        and offset == new % slot
        and offset + move.length >= slot
        and not any(
            vma.start < addr and addr - offset < vma.end
            for addr in (old, new)
            for vma in move.space.vmas
            if not (move.for_stack and vma is move.old_vma)
        )
        and kernel.realign
        and (kernel.realign_stack or not move.for_stack)
    )
    wanted = old - offset if lowered else old
    if move.old != wanted:
        yield Violation(
            "largest-bite", Range(old, move.old_end), f"a start at {move.old:#x}", f"{wanted:#x}"
        )


class Bites:
    """Checks each bite of one move after another."""

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: set[str] = set()  # points of this iteration

    def check(self, point: str, move: Move, extent: int) -> Iterator[Violation]:
        """One point of a move (see engine.base.points)."""
        if point == ITERATION:
            self._refused.clear()
        elif point in _REFUSED:
            slot = move.space.geometry.slot_bytes
            if point == HUGE_SPLIT and _fits(move, slot) and PMD_OCCUPIED not in self._refused:
                yield _smaller(move, 0, slot)
            self._refused.add(point)
        elif point in (PMD_MOVED, PUD_MOVED) and not _moves_whole(move, point):
            yield Violation(
                "largest-bite",
                Range(move.old, move.old + extent),
                point,
                "no table moves as a whole",
            )
        if point in _BELOW_PUD and not _looks_at_entries(move):
            geometry, kernel = move.space.geometry, move.space.kernel
            slot, pud = geometry.slot_bytes, geometry.pud_bytes
            might = geometry.levels >= PUD and kernel.moves_puds() and extent < pud
            if might and _fits(move, pud) and PUD_OCCUPIED not in self._refused:
                yield _smaller(move, extent, pud)
            refused = not self._refused.isdisjoint((PMD_OCCUPIED, HUGE_SPLIT))
            if point == PTES_MOVED and kernel.move_pmd and _fits(move, slot) and not refused:
                yield _smaller(move, extent, slot)


def _moves_whole(move: Move, point: str) -> bool:
    """Does the kernel move whole tables of that level?  PMD tables only above two levels."""
    kernel = move.space.kernel
    if point == PUD_MOVED:
        return kernel.move_pud and move.space.geometry.levels > 2
    return kernel.move_pmd


def _looks_at_entries(move: Move) -> bool:
    """A userfaultfd that does not follow the move makes it look at every entry; so does hugetlb."""
    if move.old_vma.flags & VM_HUGETLB:
        return True
    return not_told_of_moves(move.old_vma) or not_told_of_moves(move.new_vma)


def not_told_of_moves(vma: Vma) -> bool:
    """Is there a userfaultfd that did not ask for the remap event?  It loses what moves away."""
    return vma.uffd is not None and vma.uffd.features & UFFD_FEATURE_EVENT_REMAP == 0


def _fits(move: Move, unit: int) -> bool:
    """Could a whole unit move from the cursor?"""
    return not move.old % unit and not move.new % unit and move.old + unit <= move.old_end


def _smaller(move: Move, extent: int, unit: int) -> Violation:
    return Violation(
        "largest-bite",
        Range(move.old, move.old + unit),
        f"a bite of {extent:#x}",
        f"one of {unit:#x}, by its table",
    )
