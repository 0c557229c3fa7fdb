"""Rules around one page-table move: the state before against the state after.

`MoveRules` is a listener.  It keeps a picture of the leaves when a move begins; the cost follows
the tables that there are, and the pages of those that did not move as a whole.
"""

from engine.base.address import Range
from engine.base.entry import ANON, PFN_SHIFT, SOFT_DIRTY
from engine.base.geometry import PTE
from engine.base.points import (
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
    RMAP,
    STEPS,
    Point,
)
from engine.base.violation import Violation
from engine.move import Move, MovePoint
from engine.state.space import AddressSpace
from engine.state.vma import VM_HUGETLB, VM_STACK_INCOMPLETE, Vma
from fuzz.rules.entries import check_entries
from fuzz.rules.leaves import Leaves, Picture, carried, differing, pages, picture, shifted
from fuzz.rules.limits import Attempts, check_failed_allocation
from fuzz.rules.tlb import stale_in
from fuzz.rules.walk import Bites, check_start


class MoveRules:
    """Checks I-05 to I-10, I-13, I-16, I-17, I-21, I-23, I-24, I-27, V-09, X-01 on each move."""

    __slots__ = (
        "_attempts",
        "_before",
        "_bites",
        "_cursor",
        "_delta",
        "_unmapped",
        "_whole",
        "occupied",
    )

    hears = STEPS - {REALIGNED, ALLOCATED}

    def __init__(self) -> None:
        self.occupied = 0  # entries that a whole table could not move to
        self._bites = Bites()
        self._before: Picture = {}
        self._delta = 0
        self._cursor = 0
        self._attempts: Attempts | None = None
        self._whole: set[int] = set()  # slots whose table moved as it is
        self._unmapped = False  # a huge page of a shared object was split, its pages are gone

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        assert isinstance(point, MovePoint)
        name, move = point.name, point.move
        for violation in self._bites.check(name, move, point.extent):
            space.report(violation)
        if name == ITERATION:
            self._iteration(move)
        elif name in (PTES_MOVED, PMD_MOVED, PUD_MOVED, HUGE_MOVED):
            self._extent(point)
        elif name in (PMD_OCCUPIED, PUD_OCCUPIED):
            self.occupied += 1
        elif name == HUGE_SPLIT:
            self._unmapped |= space.tree.find(move.old, PTE) is None
        elif name == ENTER:
            self._enter(move)
        elif name == ALLOC_FAILED:
            lost = self._unmapped  # shared pages are, by a split
            for violation in check_failed_allocation(space, self._before, anonymous=lost):
                space.report(violation)
        elif name == LEAVE:
            self._leave(move)

    def _enter(self, move: Move) -> None:
        for violation in check_start(move):
            move.space.report(violation)
        _check_vmas(move)
        self._attempts = Attempts(move.space)
        self._before = picture(move.space)
        self._whole, self._unmapped = set(), False
        self._delta = move.new - move.old
        self._cursor = move.old - 1
        exec_stack = move.for_stack and not ~move.old_vma.flags & VM_STACK_INCOMPLETE
        if exec_stack and len(move.space.vmas) != 1:
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

    def _extent(self, point: MovePoint) -> None:
        name, move, extent = point.name, point.move, point.extent
        geometry = move.space.geometry
        bound = geometry.pud_bytes if name == PUD_MOVED else geometry.slot_bytes
        whole = name != PTES_MOVED
        if name == PMD_MOVED:
            self._whole.add(move.old)
        elif name == PUD_MOVED:
            self._whole |= {b for b in self._before if move.old <= b < move.old + extent}
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

        _check_locks(point)

    def _leave(self, move: Move) -> None:
        space, start, delta = move.space, move.requested_old, self._delta
        if space.tlb.cached and move.old_vma.flags & VM_HUGETLB:
            # Huge pages of hugetlb are flushed once, before the file's lock is dropped.
            for violation in stale_in(space, start, move.old, "tlb-unlock"):
                space.report(violation)
        if self._attempts is not None:
            for violation in self._attempts.check_tables(space):
                space.report(violation)
        if move.notified is not None:
            space.report(
                Violation("notifier-range", move.notified, "still announced", "an end to it")
            )
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
        moved = Range(start, stop)
        geometry = space.geometry
        now = picture(space)
        mark = 0 if move.old_vma.flags & VM_HUGETLB else SOFT_DIRTY
        due = shifted(geometry, self._before, moved, delta, self._whole, mark)
        if now == due and not self._has_batches(move, moved):
            return  # all is where it belongs, and as it was
        for violation in check_entries(move, self._before, now, self._whole, moved, delta):
            space.report(violation)
        left, found = carried(self._before, now, geometry.slot_bytes, moved, delta)
        left, found = differing(left, found, geometry.slot_bytes, moved)
        if not left and not found:
            return
        before, after = pages(geometry, left), pages(geometry, found)
        expected = _expected(before, moved, delta)
        if after == expected and len(expected) == len(before):
            return
        if self._unmapped:
            # A huge page of a shared object that had to be split is gone until the next access.
            lost = {
                a for a, e in expected.items() if not e & ANON and e >> PFN_SHIFT and a not in after
            }
            before = {a: e for a, e in before.items() if a not in lost and a + delta not in lost}
            expected = {a: e for a, e in expected.items() if a not in lost}
            if after == expected:
                return
        _explain(move, before, expected, after, moved)

    def _has_batches(self, move: Move, moved: Range) -> bool:
        """May pages have moved as a batch, so that their bits have rules of their own?"""
        large = move.space.frames.large
        if not large or not move.space.kernel.pte_batching:
            return False
        slot, pages = move.space.geometry.slot_bytes, move.space.geometry.slot_pages
        return any(
            not large.isdisjoint([(e >> PFN_SHIFT) & -pages for e in held.values()])
            for base, held in self._before.items()
            if isinstance(held, dict)
            and base not in self._whole
            and base < moved.end
            and moved.start < base + slot
        )


def _check_vmas(move: Move) -> None:
    """V-09 and I-17, before anything moves."""
    space, old, new = move.space, move.old_vma, move.new_vma
    for vma in (old, new):
        if not space.vmas.holds(vma):
            space.report(
                Violation("vma-alive", vma.range, f"{vma!r}, which is gone", "a VMA of the space")
            )
    if not move.need_rmap_locks and _comes_before(new, old):
        space.report(_unordered(move, Range(move.old, move.old_end)))


def _comes_before(new: Vma, old: Vma) -> bool:
    """Does a walk of the reverse map that passes both come to the destination first?

    Exec's stack may be missed: only migration must find every page, and it passes the stack over.
    """
    shared = not old.is_anonymous and old.backing is new.backing
    both = shared or (old.link is not None and old.link is new.link)
    return old is not new and both and (new.pgoff, new.age) < (old.pgoff, old.age)


def _unordered(move: Move, where: Range) -> Violation:
    return Violation(
        "rmap-order",
        where,
        f"{move.new_vma!r} comes before {move.old_vma!r} in the reverse map",
        "the rmap locks, or a destination that a walk visits after the source",
    )


def _check_locks(point: MovePoint) -> None:
    """I-13, I-16, I-17 and I-24, right before the locks of an extent are dropped."""
    move, moved, locked = point.move, point.where, point.held & RMAP
    space, old = move.space, move.old_vma
    if move.notified is None or not move.notified.contains(moved):
        space.report(
            Violation("notifier-range", moved, f"{move.notified} announced", "a notified old range")
        )
    whole = point.name in (PMD_MOVED, PUD_MOVED)
    if whole and not locked and (old.link is not None or not old.is_anonymous):
        space.report(
            Violation(
                "table-move-locked", moved, "a table moved without the rmap locks", "with them"
            )
        )
    if old.flags & VM_HUGETLB:
        return  # under its own lock, of the file, till the end
    if not whole and not locked and _comes_before(move.new_vma, old):
        space.report(_unordered(move, moved))
    if space.tlb.cached:
        for violation in stale_in(space, moved.start, moved.end, "tlb-unlock"):
            space.report(violation)


def _expected(before: Leaves, moved: Range, delta: int) -> Leaves:
    """Where the pages have to be after the move."""
    return {
        addr + delta if moved.start <= addr < moved.end else addr: entry
        for addr, entry in before.items()
    }


def _explain(move: Move, before: Leaves, expected: Leaves, after: Leaves, requested: Range) -> None:
    """Report which of I-05 to I-07 is broken; the pages are those of slots that are not as due."""
    space, page = move.space, move.space.geometry.page_bytes
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
    wrong = [a for a in sorted(expected.keys() | after.keys()) if expected.get(a) != after.get(a)]
    first = wrong[0] if wrong else requested.start
    space.report(
        Violation(rule, Range(first, (wrong[-1] if wrong else first) + page), text, wanted)
    )
