"""Every rule fires where its promise is broken, and is silent where it is kept.

A scenario runs twice: as it is, which must be sound, and sabotaged, which the rule must tell.
"""

from collections.abc import Callable

import pytest

from engine.base.entry import MARKER, PRESENT, leaf
from engine.base.failures import HOOK, PAGETABLE, VMA
from engine.base.geometry import PMD, PTE
from engine.base.kernel import kernel_named
from engine.base.points import ALLOC_FAILED, ENTER, ITERATION, LEAVE, PMD_MOVED, PTES_MOVED, Point
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.base.violation import Violation
from engine.calls.mmap import mmap, munmap
from engine.calls.mseal import mseal
from engine.move import Move, MovePoint, move_page_tables
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import VM_EXEC, VM_HUGEPAGE, VM_LOCKED, VM_STACK_INCOMPLETE, Vma
from fuzz.rules.index import BY_SLUG
from fuzz.rules.judge import MoveRules, check_state
from fuzz.rules.sight import Sight
from tests.lib.breaks import breaks, looked
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tiny
from tests.lib.listening import at
from tests.lib.told import told

Scenario = Callable[[bool], list[Violation]]
Sabotage = Callable[[AddressSpace], object]
SCENARIOS: list[tuple[str, str, Scenario]] = []  # slug, name, scenario


def table_at(space: AddressSpace, page: int, level: int = PTE) -> Table:
    table = space.tree.find(page * PAGE, level)
    assert table is not None
    return table


def vma_at(space: AddressSpace, page: int) -> Vma:
    vma = space.vmas.lookup(page * PAGE)
    assert vma is not None
    return vma


def put(space: AddressSpace, page: int, entry: int) -> None:
    """Store a leaf that nobody counts, whatever is there."""
    space.tree.lay(space.tree.make(page * PAGE, PTE), {page & 3: entry})


def take(space: AddressSpace, page: int) -> int:
    """Drop a leaf, and go on counting it."""
    return space.tree.lift(table_at(space, page), (page & 3,))[0]


def swap(space: AddressSpace, one: int, other: int) -> None:
    """Exchange two leaves."""
    first, second = take(space, one), take(space, other)
    put(space, one, second)
    put(space, other, first)


# --- whole states --------------------------------------------------------------------------------


def breaks_state(slug: str) -> Callable[[Sabotage], Sabotage]:
    """Registers a way to corrupt a space that is sound."""

    def register(sabotage: Sabotage) -> Sabotage:
        def scenario(sabotaged: bool) -> list[Violation]:
            space = scene("AAaa .bbB ..CC")
            mmap(space, 16 * PAGE, 4 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
            touch(space, 16 * PAGE, 18 * PAGE)
            if sabotaged:
                sabotage(space)
            return check_state(space)

        SCENARIOS.append((slug, sabotage.__name__, scenario))
        return sabotage

    return register


@breaks_state("vma-order")
def overlapping(space: AddressSpace) -> None:
    vma_at(space, 0).end = 6 * PAGE


@breaks_state("vma-order")
def empty(space: AddressSpace) -> None:
    vma_at(space, 5).end = 5 * PAGE


@breaks_state("vma-order")
def unaligned(space: AddressSpace) -> None:
    vma_at(space, 5).end -= 1


@breaks_state("vma-order")
def beyond_user_space(space: AddressSpace) -> None:
    vma_at(space, 16).end = space.geometry.user_top + PAGE


@breaks_state("map-count")
def two_too_many(space: AddressSpace) -> None:
    space.max_map_count = len(space.vmas) - 2


@breaks_state("total-vm")
def mapping_not_counted(space: AddressSpace) -> None:
    space.total_vm -= 4


@breaks_state("locked-vm")
def lock_not_counted(space: AddressSpace) -> None:
    vma_at(space, 0).flags |= VM_LOCKED


@breaks_state("committed")
def charge_leaked(space: AddressSpace) -> None:
    space.committed += 1


@breaks_state("limits-hold")
def limit_forgotten(space: AddressSpace) -> None:
    space.limits.address_space = 12 * PAGE


@breaks_state("lock-limit-holds")
def lock_limit_forgotten(space: AddressSpace) -> None:
    space.locked_vm = 3
    space.limits.locked = 2 * PAGE


@breaks_state("unfaulted-pgoff")
def forgotten_anon_vma(space: AddressSpace) -> None:
    vma = vma_at(space, 0)
    vma.link_to(None)
    vma.pgoff += 1


@breaks_state("table-linked-once")
def linked_twice(space: AddressSpace) -> None:
    space.tree.link(table_at(space, 0, PMD), 3, table_at(space, 0))


@breaks_state("table-has-vma")
def left_behind(space: AddressSpace) -> None:
    space.tree.make(100 * PAGE, PTE)


@breaks_state("leaf-has-vma")
def outside_every_vma(space: AddressSpace) -> None:
    put(space, 4, leaf(1, PRESENT))


@breaks_state("leaf-has-vma")
def shared_page_in_private_memory(space: AddressSpace) -> None:
    put(space, 6, leaf(1, PRESENT))


@breaks_state("leaf-has-vma")
def page_of_another_offset(space: AddressSpace) -> None:
    swap(space, 16, 17)


@breaks_state("page-index")
def pages_exchanged(space: AddressSpace) -> None:
    swap(space, 0, 1)


@breaks_state("page-index")
def offset_of_a_faulted_vma(space: AddressSpace) -> None:
    vma_at(space, 10).pgoff += 1


@breaks_state("table-count")
def counter_too_high(space: AddressSpace) -> None:
    space.tree.counts[PTE] += 1


@breaks_state("table-count")
def unlinked_but_counted(space: AddressSpace) -> None:
    space.tree.unlink(table_at(space, 16, PMD), 0)


@breaks_state("rss-count")
def anonymous_page_not_counted(space: AddressSpace) -> None:
    space.tree.rss_anon -= 1


@breaks_state("rss-count")
def shared_page_counted_twice(space: AddressSpace) -> None:
    space.tree.rss_shmem += 1


def test_a_marker_may_be_in_any_vma_and_counts_as_no_page() -> None:
    space = scene("Aaaa")
    put(space, 2, leaf(0, MARKER))
    assert check_state(space) == []


@pytest.mark.parametrize("geometry", ["x86-64", "i386-pae", "i386"])
def test_a_huge_page_is_a_sound_state(geometry: str) -> None:
    """On two levels it lies in the root, which is no table that could be freed, but has leaves."""
    space = AddressSpace(kernel_named("linux-6.12", geometry))
    slot = space.geometry.slot_bytes
    start = space.arena.start + slot
    mmap(space, start, slot, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    space.vmas.lookup(start).flags |= VM_HUGEPAGE  # type: ignore[union-attr]
    touch(space, start, start + PAGE)
    assert [level for _, level, _ in space.tree.leaves()] == [PMD]
    assert check_state(space) == []


def test_preallocated_tables_need_no_vma() -> None:
    assert check_state(AddressSpace(kernel_named("linux-6.12", "i386-pae"))) == []


# --- page-table moves ----------------------------------------------------------------------------


class Saboteur:
    """Interferes when a point of a move is reached for the first time."""

    def __init__(self, point: str, interfere: Callable[[Move], object]) -> None:
        self.hears, self.interfere, self.done = [point], interfere, False

    def __call__(self, space: AddressSpace, point: Point) -> None:
        assert isinstance(point, MovePoint)
        if not self.done:
            self.done = True
            self.interfere(point.move)


def breaks_move(slug: str, point: str) -> Callable[[Callable[[Move], object]], object]:
    """Registers what goes wrong at a point of a move that is sound."""

    def register(interfere: Callable[[Move], object]) -> object:
        def scenario(sabotaged: bool) -> list[Violation]:
            space = scene(".AAA AAAA .... .bbb bbbb ..CC", "linux-6.1")
            if sabotaged:
                space.listen(Saboteur(point, interfere))
            space.listen(MoveRules())
            move_page_tables(
                Move(space, vma_at(space, 1), vma_at(space, 13), PAGE, 13 * PAGE, 7 * PAGE)
            )
            return space.violations

        SCENARIOS.append((slug, interfere.__name__, scenario))
        return interfere

    return register


@breaks_move("pages-kept", PMD_MOVED)
def page_lost(move: Move) -> None:
    take(move.space, 17)


@breaks_move("pages-kept", PTES_MOVED)
def page_mapped_twice(move: Move) -> None:
    put(move.space, 1, table_at(move.space, 13).leaves[1])


@breaks_move("entry-bits-kept", LEAVE)
def page_made_writable_or_not(move: Move) -> None:
    put(move.space, 17, take(move.space, 17) ^ 2)


@breaks_move("entries-at-new", PMD_MOVED)
def pages_in_the_wrong_order(move: Move) -> None:
    swap(move.space, 17, 18)


@breaks_move("entries-at-new", LEAVE)
def page_left_behind(move: Move) -> None:
    put(move.space, 1, take(move.space, 13))


@breaks_move("others-untouched", LEAVE)
def neighbour_moved_along(move: Move) -> None:
    put(move.space, 21, take(move.space, 22))


@breaks_move("extent-bounds", PTES_MOVED)
def bite_over_a_boundary(move: Move) -> None:
    move.announce(PTES_MOVED, SLOT)


@breaks_move("extent-bounds", PTES_MOVED)
def empty_bite(move: Move) -> None:
    move.announce(PTES_MOVED, 0)


@breaks_move("extent-bounds", PMD_MOVED)
def half_a_table(move: Move) -> None:
    move.announce(PMD_MOVED, 2 * PAGE)


@breaks_move("cursor-lockstep", ITERATION)
def cursors_apart(move: Move) -> None:
    move.new += PAGE


@breaks_move("cursor-lockstep", ITERATION)
def cursor_stands_still(move: Move) -> None:
    move.announce(ITERATION)


@breaks_move("move-result", LEAVE)
def success_told_as_failure(move: Move) -> None:
    move.done -= PAGE


@breaks_move("largest-bite", ENTER)
def start_lowered_without_need(move: Move) -> None:
    move.old -= PAGE
    move.new -= PAGE


@breaks_move("largest-bite", PMD_MOVED)
def whole_slot_entry_by_entry(move: Move) -> None:
    move.announce(PTES_MOVED, SLOT)


def occupied(rollback: bool) -> Scenario:
    """An emptied table that nobody freed lies where a table is due."""

    def scenario(sabotaged: bool) -> list[Violation]:
        space = scene("AAAA .... bbbb")
        if sabotaged:
            space.tree.make(8 * PAGE, PTE)
        source, target = vma_at(space, 0), vma_at(space, 8)
        move_page_tables(Move(space, source, target, 0, 8 * PAGE, SLOT, rollback=rollback))
        return space.violations

    return scenario


SCENARIOS.append(("dest-entry-none", "an emptied table is in the way", occupied(rollback=False)))
SCENARIOS.append(("rollback-dest-none", "the same on the way back", occupied(rollback=True)))


def stack_with_company(sabotaged: bool) -> list[Violation]:
    space = scene("...b aaAA" if sabotaged else ".... aaAA")
    space.listen(MoveRules())
    vma = vma_at(space, 6)
    vma.flags |= VM_STACK_INCOMPLETE
    move_page_tables(Move(space, vma, vma, 6 * PAGE, 4 * PAGE, 2 * PAGE, for_stack=True))
    return space.violations


SCENARIOS.append(("exec-alone", stack_with_company.__name__, stack_with_company))


# --- calls ---------------------------------------------------------------------------------------


def breaks_call(
    slug: str, *args: int, result: int | Errno | None = None, picture: str = "AA.B bb.. CCCC"
) -> Callable[[Sabotage], Sabotage]:
    """Registers what goes wrong in an mremap (arguments in pages, flags apart) that is sound.

    With `result` the call is not made: the kernel claims to have returned that.
    """
    addr, old_pages, new_pages, flags, new_page = args
    request = (addr * PAGE, old_pages * PAGE, new_pages * PAGE, flags, new_page * PAGE)

    def register(sabotage: Sabotage) -> Sabotage:
        def scenario(sabotaged: bool) -> list[Violation]:
            space = scene(picture, "linux-6.18")
            sight = Sight(space, "mremap", request)
            returned = result if result is not None else mremap(space, *request)
            replaced = sabotage(space) if sabotaged else None
            if isinstance(replaced, int):
                returned = replaced
            return [*told(sight, returned, "mremap", "accounts"), *space.violations]

        SCENARIOS.append((slug, sabotage.__name__, scenario))
        return sabotage

    return register


@breaks_call("error-keeps-pages", 0, 4, 5, MOVE, 8)
@breaks_call("error-traceless", 0, 4, 5, MOVE, 8)
def destination_gone(space: AddressSpace) -> None:
    space.unmap(8 * PAGE, 12 * PAGE)


@breaks_call("error-traceless", 0, 2, 3, 0, 8, result=Errno.EINVAL)
def page_gone(space: AddressSpace) -> None:
    take(space, 0)


@breaks_call("error-traceless", 30, 2, 2, MOVE, 8)
def something_new(space: AddressSpace) -> None:
    mmap(space, 40 * PAGE, PAGE, 3, 0x32)


@breaks_call("rollback-restores", 0, 2, 2, MOVE, 40, result=Errno.ENOMEM)
def source_not_restored(space: AddressSpace) -> None:
    take(space, 1)


@breaks_call("rollback-restores", 0, 2, 5, MREMAP_MAYMOVE, 0, result=Errno.ENOMEM)
def destination_still_there(space: AddressSpace) -> None:
    mmap(space, 40 * PAGE, PAGE, 3, 0x32)


@breaks_call("fixed-address", 0, 2, 2, MOVE, 20)
def another_address(space: AddressSpace) -> int:
    return 24 * PAGE


@breaks_call("fixed-exact", 0, 2, 2, MOVE, 20)
def page_missing(space: AddressSpace) -> None:
    take(space, 21)


@breaks_call("fixed-exact", 0, 2, 2, MOVE, 20)
def page_too_many(space: AddressSpace) -> None:
    swap(space, 20, 21)


@breaks_call("fixed-exact", 0, 4, 4, MOVE, 8)
def page_at_a_gap_lost(space: AddressSpace) -> None:
    take(space, 10)


@breaks_call("multi-gaps", 0, 4, 4, MOVE, 8)
def mapping_at_a_gap_lost(space: AddressSpace) -> None:
    space.unmap(10 * PAGE, 11 * PAGE)


@breaks_call("multi-gaps", 0, 4, 4, MOVE, 20)
def gap_closed(space: AddressSpace) -> None:
    mmap(space, 22 * PAGE, PAGE, 3, 0x32)


@breaks_call("dontunmap-source", 8, 4, 4, KEEP, 20)
def hole_in_the_source(space: AddressSpace) -> None:
    space.unmap(9 * PAGE, 10 * PAGE)


@breaks_call("dontunmap-source", 8, 4, 4, KEEP, 20)
def page_left_in_the_source(space: AddressSpace) -> None:
    put(space, 9, leaf(1, PRESENT))


@breaks_call("dontunmap-source", 8, 4, 4, KEEP, 20)
def source_with_other_flags(space: AddressSpace) -> None:
    vma_at(space, 8).flags |= VM_EXEC


@breaks_call("dontunmap-source", 8, 4, 4, KEEP, 20)
def source_still_locked(space: AddressSpace) -> None:
    vma_at(space, 8).flags |= VM_LOCKED


@breaks_call("resize-exact", 8, 4, 4, 0, 0)
def no_op_with_a_trace(space: AddressSpace) -> None:
    take(space, 0)


@breaks_call("resize-exact", 8, 4, 2, 0, 0)
def tail_still_mapped(space: AddressSpace) -> None:
    mmap(space, 11 * PAGE, PAGE, 3, 0x32)


@breaks_call("resize-exact", 8, 4, 2, 0, 0)
def more_than_the_tail(space: AddressSpace) -> None:
    space.unmap(9 * PAGE, 10 * PAGE)


def duplicated(sabotaged: bool) -> list[Violation]:
    space = AddressSpace(tiny())
    mmap(space, 0, 4 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    touch(space, 0, 4 * PAGE)
    request = (0, 0, 4 * PAGE, MOVE, 8 * PAGE)
    sight = Sight(space, "mremap", request)
    returned = mremap(space, *request)
    if sabotaged:
        space.zap(0, PAGE)
    return [*told(sight, returned, "mremap", "accounts"), *space.violations]


SCENARIOS.append(("duplicate-keeps-source", duplicated.__name__, duplicated))


def refused(sabotaged: bool) -> list[Violation]:
    space = scene("AA.B bb.. CCCC", "linux-6.18")
    request = (9 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_FIXED, 0)
    sight = Sight(space, "mremap", request)
    returned = mremap(space, *request)
    assert returned is Errno.EINVAL
    return told(sight, Errno.EFAULT if sabotaged else returned, "errors")


def granted(sabotaged: bool) -> list[Violation]:
    space = scene("AA.B bb.. CCCC", "linux-6.18")
    request = (0, 2 * PAGE, 2 * PAGE, MOVE, 20 * PAGE)
    sight = Sight(space, "mremap", request)
    returned = mremap(space, *request)
    return told(sight, Errno.ENOMEM if sabotaged else returned, "errors")


SCENARIOS += [("error-order", scenario.__name__, scenario) for scenario in (refused, granted)]


def copied(pages: int) -> Scenario:
    def scenario(sabotaged: bool) -> list[Violation]:
        space = scene("AA.B bb.. CCCC")
        request = (0, 2 * PAGE, pages * PAGE, MOVE, 20 * PAGE)
        sight = Sight(space, "mremap", request)
        returned = mremap(space, *request)
        if sabotaged:
            vma_at(space, 19 + pages).flags |= VM_EXEC
        return told(sight, returned, "mapping")

    return scenario


def locked_growth_of_an_object(sabotaged: bool) -> list[Violation]:
    """Over pages that the object has already, and one beyond its end."""
    space = AddressSpace(tiny())
    mmap(space, 0, 4 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    munmap(space, 2 * PAGE, 2 * PAGE)
    vma_at(space, 0).flags |= VM_LOCKED
    request = (0, 2 * PAGE, 5 * PAGE, MOVE, 20 * PAGE)
    sight = Sight(space, "mremap", request)
    returned = mremap(space, *request)
    if sabotaged:
        take(space, 23)
    return told(sight, returned, "mapping")


def locked_growth(sabotaged: bool) -> list[Violation]:
    space = scene("AA.B bb.. CCCC")
    vma_at(space, 0).flags |= VM_LOCKED
    request = (0, 2 * PAGE, 3 * PAGE, MOVE, 20 * PAGE)
    sight = Sight(space, "mremap", request)
    returned = mremap(space, *request)
    if sabotaged:
        take(space, 22)
    return told(sight, returned, "mapping")


SCENARIOS += [
    ("populate-on-success", locked_growth.__name__, locked_growth),
    ("populate-on-success", locked_growth_of_an_object.__name__, locked_growth_of_an_object),
    ("mapping-kept", "copy_with_other_flags", copied(2)),
    ("mapping-kept", "growth_with_other_flags", copied(3)),
]


# --- all of them ---------------------------------------------------------------------------------


def table_of_others_gone(broken: bool) -> list[Violation]:
    """A move that gets no table takes one away that its neighbour uses (B-24)."""

    @at(*[ALLOC_FAILED] * broken)
    def take_it(space: AddressSpace, point: Point) -> None:
        take(space, 20)

    space = scene("AAAA .... .... .... .... BBBB", listeners=[take_it, MoveRules()])
    space.failures.arm(PAGETABLE, 1)
    assert mremap(space, 0, SLOT, SLOT, MREMAP_MAYMOVE | MREMAP_FIXED, 9 * PAGE) is Errno.ENOMEM
    return space.violations


def reservation_lost(broken: bool) -> list[Violation]:
    """A huge page is promised that nobody asked for."""
    space = scene("aaaa")
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB
    assert mmap(space, 4 * SLOT, 2 * SLOT, 3, flags) == 4 * SLOT
    space.pool.reserved += broken
    return check_state(space)


def unreserved_by_a_failure(broken: bool) -> list[Violation]:
    """Huge pages that were to move find no page table; their mapping is not promised its others."""
    space = scene("aaaa", "linux-6.18" if broken else "linux-7.3")
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB
    assert mmap(space, 4 * SLOT, 2 * SLOT, 3, flags) == 4 * SLOT
    assert not touch(space, 4 * SLOT, 4 * SLOT + PAGE)
    request = (4 * SLOT, 2 * SLOT, 2 * SLOT, MOVE, 4 * space.geometry.pud_bytes)
    sight = Sight(space, "mremap", request)
    space.failures.arm("pagetable", 1)
    assert mremap(space, *request) == Errno.ENOMEM
    return told(sight, Errno.ENOMEM)


def populated_after_an_error(broken: bool) -> list[Violation]:
    """A locked mapping that could not grow is filled at the place it did not get (B-58)."""
    space = scene("AAAA .... bbbb")
    sight = Sight(space, "mremap", (0, SLOT, 2 * SLOT, MREMAP_MAYMOVE, 0))
    if broken:
        assert not touch(space, 2 * SLOT, 3 * SLOT)
    return told(sight, Errno.ENOMEM, "mremap")


def way_back_without_a_table(broken: bool) -> list[Violation]:
    """The first slot of the source never had a table: the way there skipped it."""
    space = scene("....")
    shared = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, 2 * PAGE, 4 * PAGE, 3, shared) == 2 * PAGE
    assert not touch(space, 4 * PAGE, 5 * PAGE)
    space.failures.arm(HOOK, 1)
    if broken:
        space.failures.arm(PAGETABLE, 2)
    assert mremap(space, 3 * PAGE, 2 * PAGE, 2 * PAGE, MOVE, 8 * PAGE) is Errno.EPERM
    return space.violations


def source_not_cut_off(broken: bool) -> list[Violation]:
    """There is no memory to split the VMA that a page has moved out of."""
    space = scene("AAAA")
    if broken:
        space.failures.arm(VMA, 4)
    assert mremap(space, PAGE, PAGE, PAGE, MOVE, 8 * PAGE) == 8 * PAGE
    return space.violations


def unlocked_by_a_failure(broken: bool) -> list[Violation]:
    """An mremap that fails takes the lock from a mapping."""
    space = scene("AAAA .... BBBB")
    vma, request = vma_at(space, 0), (0, SLOT, 2 * SLOT, 0, 0)
    if broken:
        vma.flags |= VM_LOCKED
    sight = Sight(space, "mremap", request)
    vma.flags &= ~VM_LOCKED
    return told(sight, Errno.ENOMEM, "mremap")


def kept_beside_its_copy(broken: bool) -> list[Violation]:
    """What DONTUNMAP has emptied stays linked to its anon_vma, right below the copy."""
    space = scene("AAAA")
    link, request = vma_at(space, 0).link, (0, SLOT, SLOT, KEEP, SLOT)
    sight = Sight(space, "mremap", request)
    assert mremap(space, *request) == SLOT
    if broken:
        vma_at(space, 0).link_to(link)
    return told(sight, SLOT, "mremap")


def stopped_by_a_seal(broken: bool) -> list[Violation]:
    """Two of three VMAs have moved; the second has merged with what lies in the gap before it."""
    space, request = scene("a.bc .... dddd", "linux-6.18"), (0, SLOT, SLOT, MOVE, 2 * SLOT)
    assert mseal(space, 3 * PAGE, PAGE) is None
    sight = Sight(space, "mremap", request)
    assert mremap(space, *request) == Errno.EPERM
    assert len(space.vmas) == 2
    if broken:
        space.unmap(3 * PAGE, 4 * PAGE)
    return told(sight, Errno.EPERM, "mremap")


SCENARIOS += [
    ("error-traceless", "the VMA at which a move stops is gone", stopped_by_a_seal),
    ("anon-vma-linked", "an emptied VMA beside its copy", kept_beside_its_copy),
    ("rollback-complete", "no table for the way back", way_back_without_a_table),
    ("moved-unmapped", "a source that cannot be cut off", source_not_cut_off),
    ("lock-kept", "unlocked by a call that fails", unlocked_by_a_failure),
    ("failed-alloc-harmless", "a table of others is gone", table_of_others_gone),
    ("hugetlb-reserve", "a reservation without an owner", reservation_lost),
    ("reservation-kept", "no more reservations after an error", unreserved_by_a_failure),
    ("populate-on-success", "pages after an error", populated_after_an_error),
]


@pytest.mark.parametrize(
    ("slug", "scenario"),
    [
        pytest.param(slug, scenario, id=f"{slug}-{name}", marks=breaks(slug))
        for slug, name, scenario in SCENARIOS
    ],
)
def test_a_rule_fires_where_it_is_broken_and_only_there(slug: str, scenario: Scenario) -> None:
    assert looked(scenario(False)) == []
    found = looked(scenario(True))
    assert slug in {violation.rule for violation in found}
    for violation in found:
        assert violation.rule in BY_SLUG
        assert violation.where.start <= violation.where.end
        assert violation.found != violation.expected
        assert str(violation).startswith(violation.rule)
        assert "\n" not in str(violation)
