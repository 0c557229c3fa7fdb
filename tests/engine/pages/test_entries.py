"""What entries carry besides their page: who may write, what was written, whose page it is."""

import pytest

from engine.base.entry import (
    ACCESSED,
    DIRTY,
    EXCLUSIVE,
    HUGE,
    PFN_SHIFT,
    UFFD_WP,
    WRITE,
    is_guard,
    is_wp_marker,
)
from engine.base.geometry import PTE
from engine.base.uapi import (
    MADV_GUARD_INSTALL,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
)
from engine.calls.fork import fork
from engine.calls.madvise import madvise
from engine.calls.mmap import mmap
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import soft_dirty_clear
from engine.move import Move, move_page_tables
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene
from tests.lib.entries import READ, RW, bits, entry, huge, mapped

# --- faults and mprotect -------------------------------------------------------------------------


def test_a_written_page_is_writable_dirty_and_our_own() -> None:
    space = scene("Aa.. bbbb")
    peek(space, PAGE, 2 * PAGE)
    assert bits(space, 0, 1) == "PWDSX P"
    assert bits(huge(), 16) == "PWDSX"


@pytest.mark.parametrize("kind", [MAP_PRIVATE, MAP_SHARED])
def test_a_page_is_writable_only_once_it_was_written(kind: int) -> None:
    space = mapped(kind)
    peek(space, 16 * PAGE, 17 * PAGE)
    assert bits(space, 16) == "P"
    touch(space, 16 * PAGE, 17 * PAGE)
    assert bits(space, 16).startswith("PWDS")


@pytest.mark.parametrize("make", [lambda: huge(), lambda: scene(".... .... .... .... AAAA")])
def test_mprotect_takes_and_gives_the_right_to_write(make: object) -> None:
    space = make()  # type: ignore[operator]
    assert mprotect(space, 16 * PAGE, 4 * PAGE, READ) is None
    assert bits(space, 16, 19) == "PDSX PDSX"
    assert mprotect(space, 16 * PAGE, 4 * PAGE, RW) is None
    assert bits(space, 16, 19) == "PWDSX PWDSX"


def test_mprotect_of_a_part_splits_the_huge_page() -> None:
    space = huge()
    assert mprotect(space, 17 * PAGE, PAGE, READ) is None
    assert bits(space, 16, 17, 18) == "PWDSX PDSX PWDSX"


def test_mprotect_leaves_the_fault_where_somebody_wants_to_notice_the_write() -> None:
    space = scene("AAAA")
    soft_dirty_clear(space)
    touch(space, 0, PAGE)
    for prot in (READ, RW):
        assert mprotect(space, 0, 4 * PAGE, prot) is None
    assert bits(space, 0, 1) == "PWDSX PDX"
    fork(space)
    for prot in (READ, RW):
        assert mprotect(space, 0, 4 * PAGE, prot) is None
    assert bits(space, 0, 1) == "PDS PD"


def test_markers() -> None:
    space = mapped(MAP_PRIVATE, RW, "linux-6.18")
    assert madvise(space, 16 * PAGE, PAGE, MADV_GUARD_INSTALL) is None
    guard = entry(space, 16)
    assert guard is not None
    assert is_guard(guard)
    assert not is_wp_marker(guard)
    assert is_wp_marker(guard | UFFD_WP)
    assert not is_guard(guard | UFFD_WP)


# --- moves ---------------------------------------------------------------------------------------


def moved(space: AddressSpace, old: int, new: int, pages: int) -> None:
    assert mremap(space, old * PAGE, pages * PAGE, pages * PAGE, MOVE, new * PAGE) == new * PAGE


def test_what_moves_alone_becomes_soft_dirty_what_moves_in_a_table_does_not() -> None:
    space = scene("AAAA AAAA ....")
    soft_dirty_clear(space)
    moved(space, 0, 32, 8)
    assert bits(space, 32, 39) == "PDX PDX"
    moved(space, 32, 49, 8)
    assert bits(space, 49, 56) == "PDSX PDSX"


def test_a_huge_page_that_moves_becomes_soft_dirty() -> None:
    space = huge()
    soft_dirty_clear(space)
    assert bits(space, 16) == "PDX"
    moved(space, 16, 32, 4)
    assert bits(space, 32) == "PDSX"
    assert entry(space, 32) & HUGE  # type: ignore[operator]


def batched(kernel: str, writable: str) -> AddressSpace:
    """A large folio mapped page by page; `writable` draws which pages have the write bit."""
    space = huge(kernel)
    space.split_huge_leaf(16 * PAGE)
    table = space.tree.find(16 * PAGE, PTE)
    assert table is not None
    for index, letter in enumerate(writable):
        if letter == ".":
            space.tree.put(table, index, table.leaves[index] & ~WRITE)
    return space


@pytest.mark.parametrize("writable", ["WWWW", "W.WW", ".WW.", "...."])
def test_a_batch_ends_where_the_write_bit_changes(writable: str) -> None:
    space = batched("linux-6.18", writable)
    moved(space, 16, 33, 4)
    found = "".join("W" if entry(space, 33 + i) & WRITE else "." for i in range(4))  # type: ignore[operator]
    assert found == writable


def test_a_batch_gathers_what_the_hardware_has_set() -> None:
    space = batched("linux-6.18", "WWWW")
    table = space.tree.find(16 * PAGE, PTE)
    assert table is not None
    for index, lost in ((0, 0), (1, EXCLUSIVE), (3, 0)):
        space.tree.put(table, index, table.leaves[index] & ~(DIRTY | ACCESSED | lost))
    pfns = [entry(space, 16 + i) >> PFN_SHIFT for i in range(4)]  # type: ignore[operator]
    moved(space, 16, 32 + 1, 4)
    assert bits(space, 33, 34, 35, 36) == "PWDSX PWDS PWDSX PWSX"  # the last is another extent
    assert [entry(space, 33 + i) >> PFN_SHIFT for i in range(4)] == pfns  # type: ignore[operator]


def test_small_pages_and_older_kernels_know_no_batches() -> None:
    for space in (batched("linux-6.12", "WWWW"), scene(".... .... .... .... AAAA", "linux-6.18")):
        table = space.tree.find(16 * PAGE, PTE)
        assert table is not None
        space.tree.put(table, 0, table.leaves[0] & ~DIRTY)
        moved(space, 16, 33, 4)
        assert bits(space, 33, 34) == "PWSX PWDSX"


def test_a_batch_does_not_cross_the_extent() -> None:
    space = batched("linux-6.18", "WWWW")
    source = space.vmas.lookup(16 * PAGE)
    target = mmap(space, 8 * SLOT, 2 * SLOT, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    new = space.vmas.lookup(8 * SLOT)
    assert source is not None and new is not None and target == 8 * SLOT
    move_page_tables(Move(space, source, new, 17 * PAGE, 33 * PAGE, 2 * PAGE))
    assert bits(space, 16, 17, 18, 19) == "PWDSX - - PWDSX"
    assert bits(space, 33, 34) == "PWDSX PWDSX"
