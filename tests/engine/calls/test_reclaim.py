"""Swap, migration and write tracking: the states they bring entries into, and the ways back."""

from collections.abc import Callable

import pytest

from engine.base.entry import PFN_SHIFT
from engine.base.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_PAGEOUT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    UFFDIO_REGISTER_MODE_WP,
    Errno,
)
from engine.calls.fork import fork
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap, munmap
from engine.calls.reclaim import migrate_begin, migrate_end, soft_dirty_clear, swapout
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.pages.uffd import uffd_register, uffd_wp
from engine.state.space import AddressSpace
from engine.state.vma import VM_STACK_INCOMPLETE
from fuzz.execute import execute
from fuzz.forms.text import parse
from fuzz.subjects.observe import observation
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tags
from tests.lib.entries import bits, entry, huge, kinds, mapped
from tests.lib.judged import sound

# --- swap ----------------------------------------------------------------------------------------


def test_private_pages_go_to_swap_and_come_back_when_used() -> None:
    space = scene("AAAA AAAa bbbb")
    peek(space, 7 * PAGE, 8 * PAGE)
    assert swapout(space, 0, 12 * PAGE) is None
    assert kinds(space, 0, 8) == "sssssssP"  # the zero page stays
    assert (space.tree.rss_anon, space.tree.rss_swap) == (0, 7)
    assert sound(space)
    assert tags(space) == {page: page + 1 for page in range(7)}
    peek(space, 0, PAGE)
    touch(space, PAGE, 2 * PAGE)
    assert kinds(space, 0, 3) == "PPs"
    assert bits(space, 0, 1) == "PWSX PWDSX"
    assert (space.tree.rss_anon, space.tree.rss_swap) == (2, 5)
    assert tags(space)[0] == 1
    assert munmap(space, 0, 8 * PAGE) is None
    assert (space.tree.rss_anon, space.tree.rss_swap) == (0, 0)


def test_what_stays_out_of_swap() -> None:
    space = scene("AAAA BBBB")
    assert mmap(space, 32 * PAGE, SLOT, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == 32 * PAGE
    touch(space, 32 * PAGE, 36 * PAGE)
    assert mlock(space, 0, SLOT) is None
    fork(space)
    touch(space, SLOT, SLOT + PAGE)
    assert swapout(space, 0, 36 * PAGE) is None
    assert kinds(space, 0, 8) == "PPPPsPPP"  # what was written since the fork is our own
    assert kinds(space, 32, 4) == "...."  # their object has them
    peek(space, 34 * PAGE, 35 * PAGE)
    assert kinds(space, 32, 4) == "..P."
    assert swapout(space, 1, SLOT) is Errno.EINVAL


def test_a_huge_page_is_split_first() -> None:
    space = huge()
    assert swapout(space, 17 * PAGE, PAGE) is None
    assert kinds(space, 16, 4) == "PsPP"
    assert not space.frames.large
    assert sound(space)


def test_swapped_pages_move_and_are_collapsed() -> None:
    space = scene(".... .... .... .... AAAA", "linux-6.18")
    assert swapout(space, 16 * PAGE, SLOT) is None
    before = [entry(space, 16 + i) for i in range(4)]
    assert mremap(space, 16 * PAGE, SLOT, SLOT, MOVE, 33 * PAGE) == 33 * PAGE
    assert [entry(space, 33 + i) for i in range(4)] == before
    assert mremap(space, 33 * PAGE, SLOT, SLOT, MOVE, 16 * PAGE) == 16 * PAGE
    assert madvise(space, 16 * PAGE, SLOT, MADV_COLLAPSE) is None
    assert tags(space) == {16 + i: 1 + i for i in range(4)}
    assert (space.tree.rss_anon, space.tree.rss_swap) == (4, 0)
    assert sound(space)


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
@pytest.mark.parametrize("make", [huge, lambda kernel: mapped(MAP_PRIVATE, kernel=kernel)])
def test_what_was_written_since_it_was_given_up_stays_once(
    kernel: str, make: Callable[[str], AddressSpace]
) -> None:
    space = make(kernel)
    space.has_swap = True
    touch(space, 16 * PAGE, 20 * PAGE)
    assert madvise(space, 16 * PAGE, SLOT, MADV_FREE) is None
    touch(space, 16 * PAGE, 20 * PAGE)
    assert madvise(space, 16 * PAGE, SLOT, MADV_PAGEOUT) is None
    assert (space.tree.rss_anon, space.tree.rss_swap) == (4, 0)
    assert madvise(space, 16 * PAGE, SLOT, MADV_PAGEOUT) is None
    assert (space.tree.rss_anon, space.tree.rss_swap) == (0, 4)
    assert sound(space)


@pytest.mark.parametrize("kernel", ["linux-6.12", "linux-6.18"])
def test_a_huge_page_that_was_given_up_goes_without_a_split(kernel: str) -> None:
    space = huge(kernel)
    space.has_swap = True
    assert madvise(space, 16 * PAGE, SLOT, MADV_FREE) is None
    assert madvise(space, 16 * PAGE, SLOT, MADV_PAGEOUT) is None
    assert kinds(space, 16, 4) == "...."  # no zero pages


def test_a_child_keeps_the_swap_slot() -> None:
    space = scene("AA..")
    assert swapout(space, 0, 2 * PAGE) is None
    fork(space)
    touch(space, 0, PAGE)
    peek(space, PAGE, 2 * PAGE)
    assert bits(space, 0, 1) == "PWDSX PS"
    assert entry(space, 0) >> PFN_SHIFT not in space.held  # type: ignore[operator]
    assert tags(space) == {0: 3, 1: 2}


def test_swapped_pages_are_seen_as_such() -> None:
    outcome = execute(
        parse("mmap(0x10000, 0x3000, 3, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"),
        scene("").kernel,
        stop=False,
    )
    touch(outcome.space, 0x10000, 0x13000)
    assert swapout(outcome.space, 0x11000, PAGE) is None
    pages = observation(outcome, "")["pages"]
    assert pages == [[16, 1, "P", 1], [17, 1, "W", 0], [18, 1, "P", 3]]


@pytest.mark.parametrize(("kernel", "there"), [("linux-6.12", ".P.."), ("linux-6.18", "PPPP")])
def test_a_huge_page_of_an_object_comes_back_as_it_went(kernel: str, there: str) -> None:
    space = mapped(MAP_SHARED, kernel=kernel)
    touch(space, 16 * PAGE, 20 * PAGE)
    assert madvise(space, 16 * PAGE, SLOT, MADV_COLLAPSE) is None
    assert swapout(space, 16 * PAGE, SLOT) is None
    assert kinds(space, 16, 4) == "...."
    peek(space, 17 * PAGE, 18 * PAGE)
    assert "".join("P" if entry(space, 16 + i) else "." for i in range(4)) == there
    assert tags(space) == {16 + i: 1 + i for i in range(4)}
    assert sound(space)


@pytest.mark.parametrize(("kernel", "there"), [("linux-6.1", "S"), ("linux-6.12", "")])
def test_splitting_a_folio_that_was_written_after_tracking_began(kernel: str, there: str) -> None:
    space = huge(kernel)
    soft_dirty_clear(space)
    assert madvise(space, 16 * PAGE, PAGE, MADV_COLD) is None
    assert bits(space, 17) == f"PD{there}X"


@pytest.mark.parametrize(("pages", "there"), [(1, "ss.."), (4, "ssss")])
def test_a_folio_that_is_protected_in_part_is_split(pages: int, there: str) -> None:
    space = mapped(MAP_PRIVATE)
    assert madvise(space, 16 * PAGE, SLOT, MADV_HUGEPAGE) is None
    touch(space, 16 * PAGE, 18 * PAGE)
    assert uffd_register(space, 16 * PAGE, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, 16 * PAGE, pages * PAGE, 1) is None
    assert swapout(space, 16 * PAGE, SLOT) is None
    assert kinds(space, 16, 4) == there.replace(".", "P")  # the zero page


# --- migration -----------------------------------------------------------------------------------


def test_a_page_under_migration_gets_another_frame() -> None:
    space = scene("AAAA")
    before = entry(space, 1)
    assert migrate_begin(space, PAGE) is None
    assert kinds(space, 0, 4) == "PmPP"
    assert sound(space)
    assert migrate_end(space, PAGE) is None
    assert entry(space, 1) != before
    assert bits(space, 1) == "PWDSX"
    assert tags(space) == {page: page + 1 for page in range(4)}
    assert sound(space)


@pytest.mark.parametrize("new", [32, 33])
def test_a_page_moves_under_migration(new: int) -> None:
    space = scene("AAAA")
    assert migrate_begin(space, PAGE) is None
    assert mremap(space, 0, SLOT, SLOT, MOVE, new * PAGE) == new * PAGE
    assert kinds(space, new, 4) == "PmPP"
    assert migrate_end(space, (new + 1) * PAGE) is None
    assert kinds(space, new, 4) == "PPPP"
    assert sound(space)


def test_what_cannot_be_migrated() -> None:
    space = scene("Aa..")
    peek(space, PAGE, 2 * PAGE)
    for page in (1, 2):
        assert migrate_begin(space, page * PAGE) is Errno.EFAULT
    space.vmas.lookup(0).flags |= VM_STACK_INCOMPLETE  # type: ignore[union-attr]
    assert migrate_begin(space, 0) is None
    assert kinds(space, 0, 1) == "P"


# --- write tracking ------------------------------------------------------------------------------


def test_the_next_write_is_noticed() -> None:
    space = scene("AAAA")
    soft_dirty_clear(space)
    assert bits(space, 0, 1) == "PDX PDX"
    peek(space, 0, PAGE)
    touch(space, PAGE, 2 * PAGE)
    assert bits(space, 0, 1) == "PDX PWDSX"


def test_a_new_mapping_is_not_tracked() -> None:
    space = scene("aa..")
    soft_dirty_clear(space)
    assert space.vmas.lookup(0).tracked  # type: ignore[union-attr]
    assert mmap(space, 2 * PAGE, PAGE, 3, 0x32) == 2 * PAGE
    assert len(space.vmas) == 1
    assert not space.vmas.lookup(0).tracked  # type: ignore[union-attr]
