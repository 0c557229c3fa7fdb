"""How a move goes from its start to its end: over which VMAs, with which cursors, in which bites.

It takes the largest bites there are, so that it leaves no table behind needlessly: it starts at the
slot boundary below if that is allowed, and where a whole table can change its parent its entries do
not move one by one.  Said of the addresses alone.
"""

from collections.abc import Iterable, Iterator

from engine.base.address import Range
from engine.base.geometry import PUD
from engine.base.points import (
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
    SKIPPED,
)
from engine.base.uapi import (
    UFFD_FEATURE_EVENT_REMAP,
)
from engine.base.violation import Violation
from engine.move import Move
from engine.state import terms
from engine.state.vma import VM_HUGETLB, Vma
from fuzz.rules.rule import (
    CONTRACT,
    COURSE,
    ENGINE,
    HARM,
    Rule,
    at,
    elsewhere,
)
from fuzz.rules.sight import (
    BITES,
    Moving,
)

EXTENT_BOUNDS = Rule(
    "I-08",
    "extent-bounds",
    "an extent is 1 page to what is left and crosses no boundary of its level",
    "get_extent(); B-10",
    COURSE,
)

CURSOR_LOCKSTEP = Rule(
    "I-09",
    "cursor-lockstep",
    "both cursors keep their distance and always go up",
    "move_page_tables(); B-09, B-10, B-45",
    COURSE,
)

MOVE_RESULT = Rule(
    "I-10",
    "move-result",
    "a move's result is 0 to its length, and the length only if the loop ran to the end",
    "the end of move_page_tables(); B-11",
    CONTRACT,
)

LARGEST_BITE = Rule(
    "I-26",
    "largest-bite",
    "a move starts at a slot boundary if it may, and takes whole tables where it can",
    "try_realign_addr(), 6.7",
    COURSE,
)

VMA_ALIVE = Rule(
    "V-09",
    "vma-alive",
    "a move works on VMAs of the address space",
    "remap_move(), copy_vma(); B-43, B-52",
    HARM,
)

elsewhere(ENGINE, MOVE_RESULT)


@at((ENTER,), LARGEST_BITE)
def start(sight: Moving) -> Iterable[Violation]:
    """Both starts are at the slot boundary below, or where they were asked to be, as they should.

    They are lowered if they have the same offset in their slots, not 0, the range reaches the end
    of the first slot, and no mapping has a byte in what is below (the stack itself may, in exec).
    """
    move = sight.move
    kernel, geometry = move.space.kernel, move.space.geometry
    slot = geometry.slot_bytes
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
        and (kernel.realign_stack if move.for_stack else kernel.realign)
    )
    wanted = old - offset if lowered else old
    if move.old == wanted:
        return ()
    return (
        LARGEST_BITE.broken(
            Range(old, move.old_end),
            f"a start at {terms.address(geometry, move.old)}",
            terms.address(geometry, wanted),
        ),
    )


@at((ENTER,), VMA_ALIVE)
def alive(sight: Moving) -> Iterator[Violation]:
    """Source and destination are VMAs that there are."""
    for vma in (sight.move.old_vma, sight.move.new_vma):
        if not sight.space.vmas.holds(vma):
            yield VMA_ALIVE.broken(
                vma.range,
                f"{terms.vma(sight.space.geometry, vma)}, which is gone",
                "a VMA of the address space",
            )


@at((ITERATION,), CURSOR_LOCKSTEP)
def lockstep(sight: Moving) -> Iterable[Violation]:
    """Both cursors have gone on, by the same."""
    move, geometry = sight.move, sight.space.geometry
    if move.new - move.old == sight.delta and move.old > sight.cursor:
        return ()
    return (
        CURSOR_LOCKSTEP.broken(
            Range(move.old, move.old_end),
            f"cursors at {terms.address(geometry, move.old)} and "
            f"{terms.address(geometry, move.new)}, the former after "
            f"{terms.address(geometry, sight.cursor)}",
            f"{terms.size(sight.delta)} between them, and upwards",
        ),
    )


@at((HUGE_SPLIT,), LARGEST_BITE)
def split(sight: Moving) -> Iterable[Violation]:
    """No huge page is split that could move as it is."""
    move, slot = sight.move, sight.space.geometry.slot_bytes
    if _fits(move, slot) and PMD_OCCUPIED not in sight.refused:
        return (_smaller(move, 0, slot),)
    return ()


@at((PMD_MOVED, PUD_MOVED), LARGEST_BITE)
def whole_tables(sight: Moving) -> Iterable[Violation]:
    """Only such tables move as a whole as this kernel moves; PMD tables above two levels only."""
    kernel = sight.space.kernel
    if sight.point == PUD_MOVED:
        allowed = kernel.moves_puds()
    else:
        allowed = kernel.move_pmd
    if allowed:
        return ()
    return (LARGEST_BITE.broken(sight.where, "a table moved as a whole", "its entries one by one"),)


@at((PMD_MOVED, PTES_MOVED, HUGE_MOVED, SKIPPED), LARGEST_BITE)
def bite(sight: Moving) -> Iterable[Violation]:
    """Nothing moves entry by entry that could in its table."""
    move, point, extent = sight.move, sight.point, sight.extent
    geometry, kernel = sight.space.geometry, sight.space.kernel
    slot, pud, refused = geometry.slot_bytes, geometry.pud_bytes, sight.refused
    may_be_pud = (
        geometry.levels >= PUD
        and extent < pud
        and _fits(move, pud)
        and PUD_OCCUPIED not in refused
        and kernel.moves_puds()
    )
    may_be_pmd = (
        point == PTES_MOVED
        and kernel.move_pmd
        and _fits(move, slot)
        and PMD_OCCUPIED not in refused
        and HUGE_SPLIT not in refused
    )
    if not (may_be_pud or may_be_pmd) or _looks_at_entries(move):
        return ()
    return [
        _smaller(move, extent, unit) for may, unit in ((may_be_pud, pud), (may_be_pmd, slot)) if may
    ]


@at(BITES, EXTENT_BOUNDS)
def extent(sight: Moving) -> Iterable[Violation]:
    """A bite lies in one unit on both sides; that of a table is all of it."""
    move, length = sight.move, sight.extent
    geometry = sight.space.geometry
    unit = geometry.pud_bytes if sight.point == PUD_MOVED else geometry.slot_bytes
    if (
        0 < length <= move.old_end - move.old
        and move.old % unit + length <= unit
        and move.new % unit + length <= unit
        and (length == unit or sight.point == PTES_MOVED)
    ):
        return ()
    return (
        EXTENT_BOUNDS.broken(
            Range(move.old, move.old + length),
            f"{terms.size(length)} from {terms.address(geometry, move.old)} to "
            f"{terms.address(geometry, move.new)}",
            f"no boundary of {terms.size(unit)} inside it on either side, and no more than is left",
        ),
    )


@at((LEAVE,), MOVE_RESULT)
def result(sight: Moving) -> Iterable[Violation]:
    """The result is the length if and only if the loop ran to the end."""
    move = sight.move
    if (move.done == move.length) == (move.old >= move.old_end):
        return ()
    return (
        MOVE_RESULT.broken(
            Range(move.requested_old, move.old_end),
            f"{terms.size(move.done)} of {terms.size(move.length)} done, with the cursor at "
            f"{terms.address(sight.space.geometry, move.old)}",
            "all of it done if and only if the loop ran to the end",
        ),
    )


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
    return LARGEST_BITE.broken(
        Range(move.old, move.old + unit),
        f"{terms.size(extent)} moved at once",
        f"{terms.size(unit)}, by its table",
    )
