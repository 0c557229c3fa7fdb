"""Rules around one page-table move: the state before against the state after.

`MoveRules` is an observer.  It keeps a copy of the leaves when a move begins; the cost follows the
pages that are mapped.
"""

from engine.address import Range
from engine.entry import ANON, HUGE, PFN_SHIFT, SOFT_DIRTY, is_zero_page
from engine.geometry import PTE
from engine.move import Move
from engine.observer import ENTER, HUGE_MOVED, ITERATION, LEAVE, PMD_MOVED, PTES_MOVED, PUD_MOVED
from engine.space import AddressSpace
from engine.violation import Violation

Leaves = dict[int, int]


def leaves_of(space: AddressSpace) -> Leaves:
    """Every page by address, without the soft-dirty bit, which a move may set.

    A huge leaf stands as the pages it maps, so that splitting it is no difference.
    """
    shifts = space.geometry.entry_shift
    leaves: Leaves = {}
    for base, table in space.tree.leaf_tables():
        shift = shifts[table.level]
        if table.level == PTE:
            leaves |= {
                base + (index << shift): entry & ~SOFT_DIRTY  # type: ignore[operator]
                for index, entry in table.entries.items()
            }
            continue
        for index, entry in table.entries.items():
            if isinstance(entry, int):
                first, page = entry & ~(SOFT_DIRTY | HUGE), space.geometry.page_bytes
                step = 0 if is_zero_page(entry) else 1 << PFN_SHIFT
                for i in range(space.geometry.index_mask[PTE] + 1):
                    leaves[base + (index << shift) + i * page] = first + i * step
    return leaves


class MoveRules:
    """Checks I-05 to I-10 and X-01 on each move it is told of."""

    __slots__ = ("_before", "_cursor", "_delta")

    def __init__(self) -> None:
        self._before: Leaves = {}
        self._delta = 0
        self._cursor = 0

    def __call__(self, point: str, move: Move, extent: int) -> None:
        """One checkpoint (see engine.observer)."""
        if point == ITERATION:
            self._iteration(move)
        elif point in (PTES_MOVED, PMD_MOVED, PUD_MOVED, HUGE_MOVED):
            self._extent(point, move, extent)
        elif point == ENTER:
            self._enter(move)
        elif point == LEAVE:
            self._leave(move)

    def _enter(self, move: Move) -> None:
        self._before = leaves_of(move.space)
        self._delta = move.new - move.old
        self._cursor = move.old - 1
        if move.for_stack and move.old_vma.flags & 0x18000 == 0x18000 and len(move.space.vmas) != 1:
            move.space.report(
                Violation(
                    "exec-alone",
                    move.old_vma.range,
                    f"{len(move.space.vmas)} VMAs",
                    "the stack only",
                )
            )

    def _iteration(self, move: Move) -> None:
        if move.new - move.old != self._delta or move.old <= self._cursor:
            move.space.report(
                Violation(
                    "cursor-lockstep",
                    Range(move.old, move.old_end),
                    f"cursors {move.old:#x} and {move.new:#x} after {self._cursor:#x}",
                    f"a distance of {self._delta:#x}, upwards",
                )
            )
        self._cursor = move.old

    def _extent(self, point: str, move: Move, extent: int) -> None:
        geometry = move.space.geometry
        bound = geometry.pud_bytes if point == PUD_MOVED else geometry.slot_bytes
        whole = point != PTES_MOVED
        inside = all(addr % bound + extent <= bound for addr in (move.old, move.new))
        if not 0 < extent <= move.old_end - move.old or not inside or (whole and extent != bound):
            move.space.report(
                Violation(
                    "extent-bounds",
                    Range(move.old, move.old + extent),
                    f"{extent:#x} bytes from {move.old:#x} to {move.new:#x}",
                    f"within one unit of {bound:#x} on both sides, inside the range",
                )
            )

    def _leave(self, move: Move) -> None:
        space, start, delta = move.space, move.requested_old, self._delta
        if (move.done == move.length) != (move.old >= move.old_end):
            space.report(
                Violation(
                    "move-result",
                    Range(start, move.old_end),
                    f"{move.done:#x} of {move.length:#x} bytes with the cursor at {move.old:#x}",
                    "the whole length only if the loop ran to the end",
                )
            )
        # A failed move may stop inside the widened first slot: nothing was asked for there.
        stop = start + move.done if move.done <= move.length else move.old_end
        expected = {
            addr + delta if start <= addr < stop else addr: entry
            for addr, entry in self._before.items()
        }
        after = leaves_of(space)
        if after == expected and len(expected) == len(self._before):
            return
        if move.split_shared:
            # A huge page of a shared object that had to be split is gone until the next access.
            lost = {
                a for a, e in expected.items() if not e & ANON and e >> PFN_SHIFT and a not in after
            }
            self._before = {
                a: e for a, e in self._before.items() if a not in lost and a + delta not in lost
            }
            expected = {a: e for a, e in expected.items() if a not in lost}
            if after == expected:
                return
        self._explain(move, expected, after, Range(start, stop))

    def _explain(self, move: Move, expected: Leaves, after: Leaves, requested: Range) -> None:
        space, page = move.space, move.space.geometry.page_bytes
        before = self._before
        if sorted(before.values()) != sorted(after.values()):
            rule, text = "pages-kept", f"{len(after)} leaves"
            wanted = f"the {len(before)} leaves there were"
        else:
            outside = [
                addr
                for addr, entry in before.items()
                if not requested.start <= addr < requested.end and after.get(addr) != entry
            ]
            rule = "others-untouched" if outside else "entries-at-new"
            text, wanted = "entries moved", "only those asked for, to old + x -> new + x"
        wrong = [
            a for a in sorted(expected.keys() | after.keys()) if expected.get(a) != after.get(a)
        ]
        first = wrong[0] if wrong else requested.start
        space.report(
            Violation(rule, Range(first, (wrong[-1] if wrong else first) + page), text, wanted)
        )
