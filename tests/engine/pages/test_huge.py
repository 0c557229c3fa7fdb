"""Transparent huge pages: when a fault maps one, what is left when it or its folio is split."""

import pytest

from engine.base.entry import HUGE, is_zero_page
from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MAP_SHARED,
)
from engine.calls.fork import exit_child, fork
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mprotect import mprotect
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.pages.huge import (
    folio_mappings,
    split_folio,
    split_shared_folio,
)
from engine.state.space import AddressSpace
from fuzz.rules.judge import check_state
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene, strip, strip_tables, tags
from tests.lib.entries import READ, RW, bits, entry, frame, huge, mapped


def collapsed(kernel: str = "linux-6.18") -> AddressSpace:
    """A slot of shared memory at page 16, written and huge, and the same object at page 32."""
    space = mapped(MAP_SHARED, RW, kernel)
    assert not touch(space, 16 * PAGE, 20 * PAGE)
    assert mremap(space, 16 * PAGE, 0, SLOT, MOVE, 32 * PAGE) == 32 * PAGE
    assert madvise(space, 16 * PAGE, SLOT, MADV_COLLAPSE) is None
    assert strip_tables(space, 4, 5) == "H...."
    return space


# --- private memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "tables"),
    [
        pytest.param("aaaa aaaa aaaa", "HHH", id="whole slots"),
        pytest.param(".aaa aaaa aaa.", "THT", id="slots that it only reaches into"),
        pytest.param("aabb aaaa bbbb", "THH", id="a slot of two"),
    ],
)
def test_a_fault_brings_a_huge_page_where_the_vma_covers_the_slot(
    picture: str, tables: str
) -> None:
    space = scene(picture)
    for vma in list(space.vmas):
        assert madvise(space, vma.start, vma.end - vma.start, MADV_HUGEPAGE) is None
        assert not touch(space, vma.start, vma.end)
    assert strip_tables(space, 0, 3) == tables
    assert not check_state(space)


def test_only_where_it_is_asked_for() -> None:
    space = scene("aaaa aaaa")
    assert madvise(space, 0, SLOT, MADV_HUGEPAGE) is None
    assert not touch(space, PAGE, 5 * PAGE)
    assert strip_tables(space, 0, 2) == "HT"
    assert tags(space) == {1: 1, 2: 2, 3: 3, 4: 4}
    assert space.tree.rss_anon == 5


def test_a_slot_that_has_a_table_keeps_it() -> None:
    space = scene("Aaaa")
    assert madvise(space, 0, SLOT, MADV_HUGEPAGE) is None
    assert not touch(space, 0, SLOT)
    assert strip_tables(space, 0, 1) == "T"


@pytest.mark.parametrize(("kernel", "tables"), [("linux-6.13", "T"), ("linux-6.14", "H")])
def test_a_write_to_the_huge_zero_page(kernel: str, tables: str) -> None:
    space = scene("aaaa", kernel)
    assert madvise(space, 0, SLOT, MADV_HUGEPAGE) is None
    assert not peek(space, 0, PAGE)
    found = entry(space, 0)
    assert found is not None
    assert found & HUGE
    assert is_zero_page(found)
    assert (space.tree.rss_anon, tags(space)) == (0, {})
    assert not touch(space, PAGE, 2 * PAGE)
    assert strip_tables(space, 0, 1) == tables
    assert tags(space) == {1: 1}
    assert space.tree.rss_anon == (4 if tables == "H" else 1)
    assert not check_state(space)


def test_a_shared_huge_page_is_split_and_copied_page_by_page() -> None:
    space = huge()
    fork(space)
    assert bits(space, 16) == "PDS"
    touch(space, 17 * PAGE, 18 * PAGE)
    assert not space.tree.huge
    assert bits(space, 16, 17) == "PDS PWDSX"
    assert tags(space) == {16: 1, 17: 5, 18: 3, 19: 4}
    assert not check_state(space)


def test_a_huge_page_of_our_own_again_is_written_in_place() -> None:
    space = huge()
    before = frame(space, 16)
    fork(space)
    exit_child(space)
    touch(space, 17 * PAGE, 18 * PAGE)
    assert bits(space, 16) == "PWDSX"
    assert frame(space, 16) == before


@pytest.mark.parametrize(
    ("kernel", "locked", "left"),
    [
        ("linux-6.11", False, "PWDSX PWDSX PWDSX PWDSX"),
        ("linux-6.12", False, "PS PWDSX PS PS"),
        ("linux-6.12", True, "PWDSX PWDSX PWDSX PWDSX"),
    ],
)
def test_pages_that_were_never_written_when_the_folio_is_split(
    kernel: str, locked: bool, left: str
) -> None:
    space = scene("aaaa", kernel)
    assert madvise(space, 0, SLOT, MADV_HUGEPAGE) is None
    if locked:
        assert mlock(space, 0, SLOT) is None
    assert not touch(space, PAGE, 2 * PAGE)
    assert strip_tables(space, 0, 1) == "H"
    split_folio(space, frame(space, 0))
    assert bits(space, 0, 1, 2, 3) == left
    assert space.tree.rss_anon == left.count("W")
    assert tags(space) == {1: 1}
    assert not space.frames.large
    assert not check_state(space)


def test_splitting_the_leaf_keeps_the_folio() -> None:
    space = huge()
    first = frame(space, 16)
    assert folio_mappings(space, first) == (1, [])
    space.split_huge_leaf(18 * PAGE)
    assert folio_mappings(space, first) == (0, [first, first + 1, first + 2, first + 3])
    assert space.frames.large == {first}


# --- shared memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(("access", "flags"), [(touch, "PWDS"), (peek, "P")])
def test_a_huge_page_of_an_object_is_mapped_as_one_elsewhere(access: object, flags: str) -> None:
    space = collapsed()
    assert not access(space, 33 * PAGE, 34 * PAGE)  # type: ignore[operator]
    assert strip_tables(space, 8, 1) == "H"
    assert bits(space, 32) == flags
    assert frame(space, 32) == frame(space, 16)
    assert not check_state(space)


def test_a_huge_page_of_an_object_is_made_writable_by_the_first_write() -> None:
    space = collapsed()
    assert bits(space, 16) == "P"
    assert mprotect(space, 16 * PAGE, SLOT, READ) is None
    assert touch(space, 16 * PAGE, 17 * PAGE).segv
    assert mprotect(space, 16 * PAGE, SLOT, RW) is None
    assert not touch(space, 16 * PAGE, 17 * PAGE)
    assert bits(space, 16) == "PWDS"
    assert strip_tables(space, 4, 1) == "H"


@pytest.mark.parametrize(("kernel", "tables"), [("linux-6.11", "H"), ("linux-6.12", "T")])
def test_whether_shared_memory_that_wants_none_gets_a_huge_page(kernel: str, tables: str) -> None:
    space = collapsed(kernel)
    assert madvise(space, 32 * PAGE, SLOT, MADV_NOHUGEPAGE) is None
    assert not touch(space, 32 * PAGE, 33 * PAGE)
    assert strip_tables(space, 8, 1) == tables


def test_a_mapping_at_another_place_in_its_slots_has_small_pages() -> None:
    space = collapsed()
    assert mremap(space, 32 * PAGE, SLOT, SLOT, MOVE, 49 * PAGE) == 49 * PAGE
    assert not touch(space, 49 * PAGE, 53 * PAGE)
    assert strip_tables(space, 12, 2) == "TT"
    first = frame(space, 16)
    large, small = folio_mappings(space, first)
    assert (large, sorted(small)) == (1, [first, first + 1, first + 2, first + 3])
    assert not check_state(space)


def test_a_split_folio_of_an_object_is_mapped_nowhere_and_keeps_its_contents() -> None:
    space = collapsed()
    assert not touch(space, 32 * PAGE, 33 * PAGE)
    before = tags(space)
    split_shared_folio(space, frame(space, 16))
    assert strip(space, 16, 4) + strip(space, 32, 4) == "aaaabbbb"
    assert tags(space) == before
    assert space.tree.rss_shmem == 0
    assert not touch(space, 32 * PAGE, 33 * PAGE)
    assert strip_tables(space, 8, 1) == "T"
    assert not check_state(space)
