"""What is owed to those who reach entries another way: the reverse map, secondary MMUs."""

from collections.abc import Iterable, Iterator

from engine.base.address import Range, round_down
from engine.base.entry import PRESENT, is_zero_page
from engine.base.points import ENTER, HUGE_MOVED, I_MMAP, LEAVE, PMD_MOVED, PTES_MOVED, PUD_MOVED
from engine.base.violation import Violation
from engine.move import Move
from engine.state import terms
from engine.state.vma import VM_HUGETLB, Vma
from fuzz.rules.rule import (
    COURSE,
    ENGINE,
    HARM,
    LEAVES,
    Rule,
    after,
    at,
    elsewhere,
    unchecked,
)
from fuzz.rules.sight import BITES, Moving, Sight

MIGRATION_LEFT = Rule(
    "I-15",
    "migration-left",
    "a migration that ends finds every entry it has put somewhere",
    "remove_migration_ptes(); B-20, B-71",
    HARM,
)

TABLE_MOVE_LOCKED = Rule(
    "I-16",
    "table-move-locked",
    "a whole table moves under the rmap locks of the source, hugetlb under the lock of its file",
    "take_rmap_locks(), 97113eb39fa7 (5.14), huge_pmd_unshare(); CVE-2022-41222, B-05",
    HARM,
)

RMAP_ORDER = Rule(
    "I-17",
    "rmap-order",
    "without the rmap locks the destination comes after the source in the reverse map",
    "need_rmap_locks of copy_vma(), take_rmap_locks(); B-18, B-19",
    HARM,
)

NOTIFIER_RANGE = Rule(
    "I-24",
    "notifier-range",
    "old addresses change inside a range announced to secondary MMUs, which then ends",
    "mmu_notifier_invalidate_range_start(), mmu_notifier_invalidate_range_end()",
    HARM,
)

VMA_WRITE_LOCKED = Rule(
    "V-10",
    "vma-write-locked",
    "source and destination are write-locked while their entries move",
    "vma_start_write(), 6.4",
    HARM,
    needs="to see who waits; a fault that does not (`@at`) breaks I-01 or I-05",
)

LOCKS_ORDERED = Rule(
    "I-25",
    "locks-ordered",
    "every lock is taken once, in order, and released",
    "lockdep",
    COURSE,
    needs="locks and who else takes them",
)

MIGRATION_BEGINS = Rule(
    "I-33",
    "migration-begins",
    "the migration of a page that is there is not refused",
    "try_to_migrate()",
    COURSE,
)

RMAP_LOCKS_SPARED = Rule(
    "I-35",
    "rmap-locks-spared",
    "pages move without the rmap locks where the destination is known to come after the source",
    "need_rmap_locks of copy_vma() and move_page_tables()",
    COURSE,
)

unchecked(VMA_WRITE_LOCKED, LOCKS_ORDERED)
elsewhere(ENGINE, MIGRATION_LEFT)


@after("migrate_begin", MIGRATION_BEGINS, before=LEAVES)
def begun(sight: Sight) -> Iterator[Violation]:
    """Pages of hugetlb and the zero page stay where they are."""
    if sight.error is None:
        return
    before, addr = sight.before, sight.args[0]
    page = Range(round_down(addr, before.geometry.page_bytes), addr + 1)
    for entry in before.pages(page).values():
        if entry & PRESENT and not is_zero_page(entry) and not before.is_hugetlb(addr):
            yield MIGRATION_BEGINS.broken(page, str(sight.error), "a page that is there to move")


@at(BITES, NOTIFIER_RANGE)
def notified(sight: Moving) -> Iterable[Violation]:
    """What a secondary MMU may have translated changes inside an announced range."""
    announced, moved = sight.move.notified, sight.where
    if announced is not None and announced.contains(moved):
        return ()
    return (
        NOTIFIER_RANGE.broken(
            moved,
            f"{terms.spans(sight.space.geometry, [announced] if announced else [])} announced",
            "an announced range around it",
        ),
    )


@at((LEAVE,), NOTIFIER_RANGE)
def notified_to_the_end(sight: Moving) -> Iterable[Violation]:
    """What was announced has ended."""
    announced = sight.move.notified
    if announced is None:
        return ()
    return (NOTIFIER_RANGE.broken(announced, "still announced", "an end to it"),)


@at((PMD_MOVED, PUD_MOVED), TABLE_MOVE_LOCKED)
def tables_move_locked(sight: Moving) -> Iterable[Violation]:
    """Right before the locks of a table are dropped.  Memory without a reverse map needs none."""
    old = sight.move.old_vma
    if sight.locked or (old.link is None and old.is_anonymous):
        return ()
    return (
        TABLE_MOVE_LOCKED.broken(sight.where, "a table moved without the rmap locks", "with them"),
    )


@at((HUGE_MOVED,), TABLE_MOVE_LOCKED)
def hugetlb_moves_locked(sight: Moving) -> Iterable[Violation]:
    """The table of a huge page of hugetlb may be one that mappings of its file share."""
    if sight.at.held & I_MMAP or not sight.move.old_vma.flags & VM_HUGETLB:
        return ()
    found = "a huge page of hugetlb moved without the lock of its file"
    return (TABLE_MOVE_LOCKED.broken(sight.where, found, "with it"),)


@at((ENTER,), RMAP_ORDER)
def order_when_unlocked(sight: Moving) -> Iterable[Violation]:
    """Where a move asks for no locks."""
    move = sight.move
    if move.need_rmap_locks or not _comes_before(move.new_vma, move.old_vma):
        return ()
    return (_unordered(move, Range(move.old, move.old_end)),)


@at((PTES_MOVED, HUGE_MOVED), RMAP_ORDER)
def order_of_a_bite(sight: Moving) -> Iterable[Violation]:
    """Where it takes none.  Hugetlb moves under a lock of its own, of the file, till the end."""
    move = sight.move
    if sight.locked or move.old_vma.flags & VM_HUGETLB:
        return ()
    if not _comes_before(move.new_vma, move.old_vma):
        return ()
    return (_unordered(move, sight.where),)


@at((PTES_MOVED, HUGE_MOVED), RMAP_LOCKS_SPARED)
def locks_spared(sight: Moving) -> Iterable[Violation]:
    """A stack that exec moves is passed over by who looks; a copy of its own comes last.

    So does what has a greater page offset.  A way back goes against the order.
    """
    move = sight.move
    if not sight.locked or move.rollback or move.old_vma.flags & VM_HUGETLB:
        return ()
    to = move.requested_old + sight.delta
    alone = move.new_vma.range == Range(to, to + move.length)
    if not (move.for_stack or alone or move.new_vma.pgoff > move.old_vma.pgoff):
        return ()
    return (RMAP_LOCKS_SPARED.broken(sight.where, "moved under the rmap locks", "without them"),)


def _comes_before(new: Vma, old: Vma) -> bool:
    """Does a walk of the reverse map that passes both come to the destination first?

    Exec's stack may be missed: only migration must find every page, and it passes the stack over.
    """
    shared = not old.is_anonymous and old.backing is new.backing
    both = shared or (old.link is not None and old.link is new.link)
    return old is not new and both and (new.pgoff, new.age) < (old.pgoff, old.age)


def _unordered(move: Move, where: Range) -> Violation:
    geometry = move.space.geometry
    return RMAP_ORDER.broken(
        where,
        f"{terms.vma(geometry, move.new_vma)}, which comes before "
        f"{terms.vma(geometry, move.old_vma)} in the reverse map",
        "the rmap locks, or a destination that a walk visits after the source",
    )
