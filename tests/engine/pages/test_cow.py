"""A write to what may not be written as it is: whose page it goes to, and when that is a copy."""

import pytest

from engine.base.entry import PFN_SHIFT, SOFT_DIRTY, UFFD_WP
from engine.base.geometry import PTE
from engine.base.uapi import MAP_SHARED
from engine.calls.fork import exit_child, fork
from engine.calls.reclaim import migrate_begin, soft_dirty_clear, swapout
from engine.pages.cow import make_present, make_writable
from engine.pages.fault import peek, touch
from engine.state.vma import VM_UFFD_WP
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE, scene, tags
from tests.lib.entries import bits, entry, frame, huge, mapped


def test_a_shared_page_is_copied_when_it_is_written() -> None:
    space = scene("AAAA")
    fork(space)
    assert bits(space, 0, 1) == "PDS PDS"
    frames = [frame(space, page) for page in range(2)]
    touch(space, 0, PAGE)
    peek(space, PAGE, 2 * PAGE)
    assert bits(space, 0, 1) == "PWDSX PDS"
    assert frame(space, 0) != frames[0]
    assert frame(space, 1) == frames[1]
    assert tags(space) == {0: 5, 1: 2, 2: 3, 3: 4}
    assert space.tree.rss_anon == 4
    assert not check_state(space)


def test_the_last_to_map_a_page_keeps_it() -> None:
    space = scene("AAAA")
    before = frame(space, 0)
    fork(space)
    exit_child(space)
    assert bits(space, 0) == "PDS"
    touch(space, 0, PAGE)
    assert bits(space, 0) == "PWDSX"
    assert frame(space, 0) == before


@pytest.mark.parametrize(("kernel", "kept"), [("linux-6.12", False), ("linux-6.18", True)])
def test_a_page_of_a_large_folio(kernel: str, kept: bool) -> None:
    """Mapped page by page: always copied until 6.14."""
    space = huge(kernel)
    fork(space)
    space.split_huge_leaf(16 * PAGE)
    exit_child(space)
    before = frame(space, 17)
    touch(space, 17 * PAGE, 18 * PAGE)
    assert bits(space, 17) == "PWDSX"
    assert (frame(space, 17) == before) is kept


def test_a_page_of_a_large_folio_is_shared_as_long_as_any_is() -> None:
    space = huge("linux-6.18")
    fork(space)
    space.split_huge_leaf(16 * PAGE)
    before = frame(space, 17)
    touch(space, 17 * PAGE, 18 * PAGE)
    assert frame(space, 17) != before


def test_a_copy_is_found_where_the_page_was() -> None:
    space = scene("AAAA")
    fork(space)
    touch(space, 2 * PAGE, 3 * PAGE)
    (vma,) = space.vmas
    copy = frame(space, 2)
    assert space.frames.owner[copy] is vma.anon_vma
    assert space.frames.index[copy] == 2
    assert not check_state(space)


def test_a_page_of_an_object_is_never_copied() -> None:
    space = mapped(MAP_SHARED)
    touch(space, 16 * PAGE, 17 * PAGE)
    before = frame(space, 16)
    fork(space)
    soft_dirty_clear(space)
    assert bits(space, 16) == "PD"
    touch(space, 16 * PAGE, 17 * PAGE)
    assert bits(space, 16) == "PWDS"
    assert frame(space, 16) == before


@pytest.mark.parametrize("away", [swapout, migrate_begin])
@pytest.mark.parametrize("mark", [0, SOFT_DIRTY, UFFD_WP, SOFT_DIRTY | UFFD_WP])
def test_a_page_comes_back_with_the_marks_it_had(away: object, mark: int) -> None:
    space = scene("AAAA")
    if away is swapout:
        assert swapout(space, PAGE, PAGE) is None
    else:
        assert migrate_begin(space, PAGE) is None
    table = space.tree.find(0, PTE)
    assert table is not None
    space.tree.put(table, 1, table.leaves[1] & ~SOFT_DIRTY | mark)
    [vma] = space.vmas
    assert make_present(space, vma, table, 1) == entry(space, 1)
    assert bits(space, 1)[0] == "P"
    assert entry(space, 1) & (SOFT_DIRTY | UFFD_WP) == mark  # type: ignore[operator]
    assert tags(space)[1] == 2


@pytest.mark.parametrize("registered", [VM_UFFD_WP, 0])
def test_a_write_ends_the_protection_of_the_userfaultfd_that_it_waits_for(registered: int) -> None:
    space = scene("AAAA")
    (vma,) = space.vmas
    vma.flags |= registered
    table = space.tree.find(0, PTE)
    assert table is not None
    before = frame(space, 0)
    peek(space, 0, PAGE)
    space.tree.put(table, 0, entry(space, 0) & ~2 | UFFD_WP)  # type: ignore[operator]
    written = make_writable(space, vma, table, 0)
    assert written == entry(space, 0)
    assert bool(written & UFFD_WP) is not bool(registered)  # or else the mark is astray
    assert written >> PFN_SHIFT == before
    assert bits(space, 0) == "PWDSX"


@pytest.mark.parametrize(("kernel", "is_writable"), [("linux-6.7", False), ("linux-6.12", True)])
def test_a_page_that_a_read_brings_back_from_swap(kernel: str, is_writable: bool) -> None:
    """Writable since 6.11, unless a write is to be noticed, or a child has the page, too."""
    space = scene("AAAA", kernel=kernel)
    swapout(space, 0, 2 * PAGE)
    peek(space, 0, PAGE)
    assert ("W" in bits(space, 0)) is is_writable
    soft_dirty_clear(space)
    peek(space, PAGE, 2 * PAGE)
    assert "W" not in bits(space, 1)
