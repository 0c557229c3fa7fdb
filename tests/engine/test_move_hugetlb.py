"""The mover of hugetlb: leaf by leaf, over holes, and where it ends without a table."""

from dataclasses import replace

import pytest

from engine.base.geometry import PMD
from engine.base.points import (
    ALLOC_FAILED,
    ALLOCATED,
    ENTER,
    HUGE_MOVED,
    I_MMAP,
    ITERATION,
    LEAVE,
    MMAP_WRITE,
    SKIPPED,
    Point,
)
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
    UFFDIO_REGISTER_MODE_WP,
)
from engine.calls.mmap import mmap
from engine.move import Move
from engine.move_hugetlb import move_hugetlb
from engine.pages.access import touch_on
from engine.pages.fault import touch
from engine.pages.uffd import uffd_register, uffd_wp
from engine.state.space import AddressSpace
from tests.lib.drawn import PAGE, SLOT, strip_tables, tags, tiny
from tests.lib.entries import entry, frame
from tests.lib.explains import explains

HUGE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB
STEPS = {
    SKIPPED: "skip",
    ALLOCATED: "table",
    ALLOC_FAILED: "no memory",
    HUGE_MOVED: "huge",
    LEAVE: "done",
}


class Trace(list[str]):
    """What the mover did: "skip 3" is a hole of three slots."""

    hears = frozenset(STEPS)

    def __call__(self, space: AddressSpace, point: Point) -> None:
        slots = point.where.length // SLOT
        self.append(f"{STEPS[point.name]} {slots}" if slots else STEPS[point.name])


def mapped(picture: str, kernel: str = "linux-6.18") -> AddressSpace:
    """Huge pages from slot 0 on: `H` was touched, `h` was not, `.` is a hole between mappings."""
    space = AddressSpace(tiny(kernel))
    for slot, drawn in enumerate(picture.replace(" ", "")):
        if drawn != ".":
            assert mmap(space, slot * SLOT, SLOT, 3, HUGE) == slot * SLOT
        if drawn == "H":
            assert not touch(space, slot * SLOT, slot * SLOT + PAGE)
    return space


def move(space: AddressSpace, old: int, new: int, slots: int) -> Move:
    """`slots` huge pages from slot `old` to slot `new`, not moved yet."""
    source, target = space.vmas.lookup(old * SLOT), space.vmas.lookup(new * SLOT)
    assert source is not None
    assert target is not None
    return Move(space, source, target, old * SLOT, new * SLOT, slots * SLOT)


@explains("hugetlb-moved")
def test_each_page_moves_alone() -> None:
    """Not even a full table is carried: a PUD entry is 4 slots here."""
    space = mapped("HHHH hhhh")
    steps = Trace()
    space.listen(steps)
    before = [entry(space, 4 * slot) for slot in range(4)]
    assert move_hugetlb(move(space, 0, 4, 4)) == 4 * SLOT
    assert steps == ["table", *["huge 1"] * 4, "done 4"]
    assert strip_tables(space, 0, 8) == "....HHHH"
    assert [entry(space, 16 + 4 * slot) for slot in range(4)] == before
    assert tags(space) == {16: 1, 20: 2, 24: 3, 28: 4}
    assert not space.violations


@explains("hugetlb-hole", "hugetlb-skips-together")
@pytest.mark.parametrize(
    ("picture", "new", "slots", "steps", "after"),
    [
        pytest.param(
            "HhHh hhhh", 4, 4, ["table", "huge 1", "skip 1", "huge 1", "skip 1"], "....H.H.",
            id="pages",
        ),
        pytest.param(
            "Hhhh hhhh H... hhhh hhhh hhhh", 12, 9,
            ["table", "huge 1", "skip 3", "skip 4", "table", "huge 1"],
            "............H.......H...",
            id="a PUD entry",
        ),
        pytest.param(
            "Hhhh hhhh H... .hhh hhhh hhhh hhhh", 13, 9,
            ["table", "huge 1", "skip 3", "skip 4", "table", "huge 1"],
            ".............H.......H......",
            id="a PUD entry, at another place in it (B-45)",
        ),
    ],
)  # fmt: skip
def test_both_sides_go_over_a_hole_by_the_same_distance(
    picture: str, new: int, slots: int, steps: list[str], after: str
) -> None:
    space = mapped(picture, "linux-7.3")
    trace = Trace()
    space.listen(trace)
    assert move_hugetlb(move(space, 0, new, slots)) == slots * SLOT
    assert trace == [*steps, f"done {slots}"]
    assert strip_tables(space, 0, len(after)) == after


@explains("hugetlb-skips-apart")
@pytest.mark.parametrize(
    ("picture", "new", "slots", "after"),
    [
        pytest.param(
            "hhhh hhhh H... .hhh hhhh hhhh hhhh",
            13,
            9,
            "....................H.......",
            id="two of them",
        ),
        pytest.param("hhhh H... ..hh hhhh hh", 10, 5, "............H.....", id="at its beginning"),
        pytest.param(
            "hhhh H... hhhh hhhh", 8, 5, "............H...", id="at the same place in one"
        ),
        pytest.param("hhhh hhhh .... .hhh hhhh h", 13, 8, ".....................", id="to the end"),
    ],
)
def test_old_kernels_go_to_the_next_table_on_each_side_by_itself(
    picture: str, new: int, slots: int, after: str
) -> None:
    space = mapped(picture, "linux-6.18.15")
    assert move_hugetlb(move(space, 0, new, slots)) == slots * SLOT
    assert strip_tables(space, 0, len(after)) == after


def test_a_page_that_lands_where_it_is_stays_there() -> None:
    space = mapped("hhhh Hhhh hhhh", "linux-6.18.15")
    assert move_hugetlb(move(space, 1, 2, 5)) == 5 * SLOT
    assert strip_tables(space, 0, 8) == "....H..."


@explains("hugetlb-out-of-tables")
@pytest.mark.parametrize(("tables", "done"), [(0, 0), (1, 2), (2, 4)])
def test_without_a_table_it_ends_where_it_is(tables: int, done: int) -> None:
    space = mapped("HHHH ..hh hhhh")
    limit = space.tree.allocations + tables
    space.tree.refuse = lambda number: number >= limit
    cursor = move(space, 0, 6, 4)
    assert move_hugetlb(cursor) == cursor.done == done * SLOT
    left = "HHHH"[done:].rjust(4, ".")
    assert strip_tables(space, 0, 12) == left + ".." + "HHHH"[:done].ljust(6, ".")
    assert sorted(tags(space).values()) == [1, 2, 3, 4]


def test_what_is_in_its_way_is_told_and_gives_way() -> None:
    space = mapped("H... H...")
    arriving = frame(space, 0)
    assert move_hugetlb(move(space, 0, 4, 1)) == SLOT
    assert [violation.rule for violation in space.violations] == ["dest-entry-none"]
    assert frame(space, 16) == arriving
    assert tags(space) == {16: 1}


@explains("hugetlb-occupied")
def test_an_emptied_table_in_its_way_is_told_as_well() -> None:
    space = mapped("H... h...")
    space.tree.make(4 * SLOT, 1)
    assert move_hugetlb(move(space, 0, 4, 1)) == SLOT
    assert [violation.rule for violation in space.violations] == ["dest-entry-none"]
    assert tags(space) == {16: 1}


@explains("hugetlb-wp-cleared")
@pytest.mark.parametrize("cleared", [True, False])
def test_write_protection_of_a_userfaultfd_that_is_left(cleared: bool) -> None:
    space = mapped("H... h...")
    space.kernel = replace(space.kernel, uffd_wp_cleared=cleared)
    assert uffd_register(space, 0, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, 0, SLOT, 1) is None
    before = entry(space, 0)
    assert move_hugetlb(move(space, 0, 4, 1)) == SLOT
    after = entry(space, 16)
    assert before is not None and after is not None
    assert before ^ after == (1 << 8 if cleared else 0)


def test_other_cpus_forget_what_has_moved_and_no_more() -> None:
    space = mapped("HH.. h...")
    for slot in range(2):
        touch_on(space, 0, slot * SLOT)
    assert len(space.tlb.cached) == 2
    move_hugetlb(move(space, 0, 4, 1))
    assert list(space.tlb.cached) == [(0, SLOT)]


def test_the_file_is_locked_and_secondary_mmus_kept_away_from_begin_to_end() -> None:
    space = mapped("HH.. hh..")
    cursor = move(space, 0, 4, 2)
    seen = []

    class Listener:
        hears = frozenset((ENTER, ITERATION, LEAVE))

        def __call__(self, space: AddressSpace, point: Point) -> None:
            seen.append((point.name, point.held, cursor.notified is not None))

    space.listen(Listener())
    move_hugetlb(cursor)
    held = MMAP_WRITE | I_MMAP
    assert seen == [(ENTER, held, True), *[(ITERATION, held, True)] * 2, (LEAVE, held, False)]
    assert space.tree.find(0, PMD) is not None  # the tables it emptied go with the VMA
