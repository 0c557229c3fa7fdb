"""An address space: what unmapping and dropping leave, what is counted, who is told."""

import pytest

from engine.base.address import Range
from engine.base.entry import MARKER, UFFD_WP, leaf
from engine.base.failures import MAPS
from engine.base.geometry import PTE
from engine.base.points import FREE_PGTABLES, MMAP_WRITE, NONE, UNMAP_VMAS, Point
from engine.base.uapi import (
    MADV_HUGEPAGE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
    UFFDIO_REGISTER_MODE_WP,
)
from engine.calls.madvise import madvise
from engine.calls.mmap import mmap
from engine.pages.access import touch_on
from engine.pages.fault import touch
from engine.pages.uffd import uffd_register, uffd_wp
from engine.state.space import AddressSpace
from engine.state.vma import VM_ACCOUNT, VM_LOCKED
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import SLOT, scene, shown, strip, strip_tables, tags, tiny
from tests.lib.entries import entry, huge
from tests.lib.explains import explains
from tests.lib.listening import at

SHARED = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED


# --- dropping pages -------------------------------------------------------------------------------


def test_zap_takes_pages_and_leaves_tables() -> None:
    space = scene("AAAA AAAA")
    touch_on(space, 0, P)
    touch_on(space, 0, 7 * P)
    space.zap(P, 6 * P)
    assert shown(space, 2) == "Aaaa aaAA"
    assert strip_tables(space, 0, 2) == "TT"
    assert space.tree.rss_anon == 3
    assert list(space.tlb.cached) == [(0, 7 * P)]


def test_zap_keeps_entries_that_have_a_flag() -> None:
    space = scene("AAAA")
    table = space.tree.find(0, PTE)
    assert table is not None
    space.tree.put(table, 1, leaf(0, MARKER))
    space.zap(0, 3 * P, keep=MARKER)
    assert shown(space, 1) == "aAaA"
    space.zap(0, 3 * P)
    assert shown(space, 1) == "aaaA"


@explains("zap-splits-huge")
@pytest.mark.parametrize(
    ("first", "last", "tables", "after"),
    [
        pytest.param(16, 20, "o", "aaaa", id="whole"),
        pytest.param(16, 18, "T", "aaAA", id="its head"),
        pytest.param(17, 24, "T", "Aaaa", id="its tail"),
        pytest.param(10, 16, "H", "AAAA", id="what lies below it"),
    ],
)
def test_zap_splits_a_huge_page_that_lies_partly_in_the_range(
    first: int, last: int, tables: str, after: str
) -> None:
    space = huge()
    space.zap(first * P, last * P)
    assert strip_tables(space, 4, 1) == (tables if tables != "o" else ".")
    assert strip(space, 16, 4) == after


@pytest.mark.parametrize(("page", "splits"), [(16, False), (17, True), (19, True), (20, False)])
def test_a_boundary_splits_the_huge_page_around_it(page: int, splits: bool) -> None:
    space = huge()
    space.split_huge_at(page * P)
    assert strip_tables(space, 4, 1) == ("T" if splits else "H")


def test_protected_pages_of_an_object_leave_a_mark() -> None:
    space = AddressSpace(tiny())
    assert mmap(space, 0, SLOT, 3, SHARED) == 0
    assert not touch(space, 0, 2 * P)
    assert uffd_register(space, 0, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, 0, P, 1) is None
    table = space.tree.find(0, PTE)
    assert table is not None
    space.unmap_pages(space.vmas.lookup(0), table, [0, 1])
    assert (entry(space, 0), entry(space, 1)) == (MARKER | UFFD_WP, None)
    assert space.tree.rss_shmem == 0


# --- unmapping ------------------------------------------------------------------------------------


def test_unmapping_cuts_off_both_ends_and_counts_down() -> None:
    space = scene("AAAA BBBB CCCC")
    for vma in space.vmas:
        vma.flags |= VM_LOCKED
    space.locked_vm = 12
    space.unmap(2 * P, 10 * P)
    assert shown(space, 3) == "AA.. .... ..BB"
    assert (space.total_vm, space.locked_vm, space.committed) == (4, 4, 4)
    assert space.hiwater_vm == 12
    assert strip_tables(space, 0, 3) == "T.T"
    assert not check_state(space)


def test_the_charge_of_what_was_copied_stays() -> None:
    space = scene("AAAA")
    space.unmap(0, 2 * P, keep_commit=True)
    assert (space.total_vm, space.committed) == (2, 4)


def test_the_peak_is_noted_only_when_it_goes_down() -> None:
    space = scene("AAAA")
    assert space.hiwater_vm == 0
    space.unmap(4 * P, 8 * P)
    assert space.hiwater_vm == 0
    space.unmap(0, P)
    space.unmap(P, 2 * P)
    assert space.hiwater_vm == 4


def test_what_is_detached_comes_in_order_and_keeps_its_pages() -> None:
    space = scene("AAAA .BB. CCCC")
    assert [vma.range for vma in space.detach(2 * P, 10 * P)] == [
        Range(2 * P, 4 * P),
        Range(5 * P, 7 * P),
        Range(8 * P, 10 * P),
    ]
    assert shown(space, 3) == "AA!! .!!. !!BB"
    assert space.detach(4 * P, 8 * P) == []


def test_split_at_cuts_where_a_vma_lies_around() -> None:
    space = scene("AAAA .BB.")
    for page in (0, 2, 4, 5, 7):
        space.split_at(page * P)
    assert shown(space, 2) == "AABB .CC."


@explains("free-keeps-upper-table")
@pytest.mark.parametrize(
    ("picture", "groups"),
    [
        pytest.param("A..B", [(0, 4)], id="in a slot"),
        pytest.param("AAAA .... BBBB", [(0, 12)], id="a slot apart"),
        pytest.param("AAAA .... .BBB", [(0, 4), (9, 12)], id="more than a slot apart"),
        pytest.param("A..B .... ..CC", [(0, 4), (10, 12)], id="two and one"),
    ],
)
def test_tables_are_freed_by_groups_of_neighbours(
    picture: str, groups: list[tuple[int, int]]
) -> None:
    freed: list[tuple[int, int]] = []

    @at(FREE_PGTABLES)
    def note(space: AddressSpace, point: Point) -> None:
        freed.append((point.start // P, point.end // P))

    space = scene(picture, listeners=[note])
    space.unmap(0, 12 * P)
    assert freed == groups
    assert space.tree.bytes_used() == 0


def test_a_table_that_is_freed_with_pages_is_told() -> None:
    space = scene("AA..")
    space.free_table_range(0, SLOT, 0, 0)
    (found,) = space.violations
    assert (found.rule, found.where) == ("pages-kept", Range(0, SLOT))


# --- the whole ------------------------------------------------------------------------------------


def test_starting_over_leaves_nothing_but_goes_on_counting() -> None:
    space = scene("AAAA")
    touch_on(space, 0, 0)
    space.unmap(0, P)
    anon_vma = space.new_anon_vma()
    space.reset()
    assert len(space.vmas) == space.tree.bytes_used() == len(space.tlb.cached) == 0
    assert (space.total_vm, space.hiwater_vm, space.committed) == (0, 0, 0)
    assert tags(space) == {}
    assert space.next_tag == 5
    assert space.new_anon_vma().number == anon_vma.number + 1
    assert mmap(space, 0, SLOT, 3, SHARED) == 0  # limits and failures are those of before
    space.max_map_count = 1
    assert space.map_count_exceeded(1)


def test_contents_of_an_object_show_at_each_mapping_where_it_reaches() -> None:
    space = AddressSpace(tiny())
    assert mmap(space, 0, SLOT, 3, SHARED) == 0
    assert not touch(space, P, SLOT)
    view = next(iter(space.vmas)).clone()
    view.start, view.end, view.pgoff = 9 * P, 10 * P, 2
    space.vmas.insert(view)
    assert space.contents() == {1: 1, 2: 2, 3: 3, 9: 2}
    space.zap(0, SLOT)
    assert space.contents() == {1: 1, 2: 2, 3: 3, 9: 2}


def test_contents_of_huge_pages_show_page_by_page() -> None:
    space = scene("aaaa aaaa")
    assert madvise(space, 0, 2 * SLOT, MADV_HUGEPAGE) is None
    assert not touch(space, 2 * P, 5 * P)
    assert space.contents() == {2: 1, 3: 2, 4: 3}


def test_what_is_counted_of_memory_depends_on_its_flags() -> None:
    space = AddressSpace(tiny())
    for flags in (0, VM_LOCKED, VM_ACCOUNT, VM_LOCKED | VM_ACCOUNT):
        space.account(flags, 3 * P)
    space.account(VM_LOCKED, -P)
    assert (space.total_vm, space.locked_vm, space.committed) == (11, 5, 6)


@pytest.mark.parametrize(("more", "exceeded"), [(0, False), (1, False), (2, True)])
def test_the_count_of_vmas(more: int, exceeded: bool) -> None:
    space = scene("a.b.")
    space.max_map_count = 3
    assert space.map_count_exceeded(more) is exceeded
    space.failures.arm(MAPS, 1)
    assert space.map_count_exceeded(more)
    assert space.map_count_exceeded(more) is exceeded


def test_listeners_hear_what_they_name_in_the_order_in_which_they_came() -> None:
    heard: list[tuple[str, str]] = []
    space = AddressSpace(tiny())
    for name, points in (("one", (UNMAP_VMAS,)), ("other", (FREE_PGTABLES, UNMAP_VMAS))):
        space.listen(at(*points)(lambda _, point, name=name: heard.append((name, point.name))))
    space.announce(UNMAP_VMAS, 0, P, MMAP_WRITE)
    space.announce(FREE_PGTABLES, 0, P, MMAP_WRITE)
    space.announce("another", 0, P, NONE)
    assert heard == [("one", UNMAP_VMAS), ("other", UNMAP_VMAS), ("other", FREE_PGTABLES)]
