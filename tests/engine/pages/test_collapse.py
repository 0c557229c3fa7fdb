"""MADV_COLLAPSE: what becomes a huge page, what is refused, and whether the call goes on then."""

import pytest

from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_GUARD_INSTALL,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MAP_SHARED,
    Errno,
)
from engine.calls.fork import fork
from engine.calls.madvise import madvise
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import swapout
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from fuzz.rules.judge import check_state
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene, strip, strip_tables, tags
from tests.lib.entries import READ, bits, frame, mapped

EINVAL = Errno.EINVAL


def collapse(space: AddressSpace, page: int, pages: int) -> Errno | None:
    return madvise(space, page * PAGE, pages * PAGE, MADV_COLLAPSE)


def shared(kernel: str = "linux-6.18", pages: int = 4) -> AddressSpace:
    """Shared memory at page 16, its first page written; at page 32 again, its second written."""
    space = mapped(MAP_SHARED, 3, kernel, pages)
    size = pages * PAGE
    assert mremap(space, 16 * PAGE, 0, size, MOVE, 32 * PAGE) == 32 * PAGE
    assert not touch(space, 16 * PAGE, 17 * PAGE)
    assert not touch(space, 33 * PAGE, 34 * PAGE)
    return space


# --- private memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_a_slot_becomes_huge_its_holes_zeroes_its_table_is_kept_in_store(kernel: str) -> None:
    space = scene("aAaA AAAA", kernel)
    size, old = space.tree.bytes_used(), {frame(space, 1), frame(space, 3)}
    peek(space, 0, PAGE)
    assert collapse(space, 0, 4) is None
    assert strip_tables(space, 0, 2) == "HT"
    assert tags(space) == {1: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6}
    assert space.tree.rss_anon == 8
    assert space.tree.bytes_used() == size
    assert old.isdisjoint(range(frame(space, 0), frame(space, 0) + 4))
    assert not check_state(space)


def test_a_huge_slot_is_done_already() -> None:
    space = scene("aaaa")
    assert madvise(space, 0, SLOT, MADV_HUGEPAGE) is None
    assert not touch(space, 0, SLOT)
    before = frame(space, 0)
    assert collapse(space, 0, 4) is None
    assert frame(space, 0) == before


@pytest.mark.parametrize(
    ("picture", "first", "pages", "result", "tables"),
    [
        pytest.param("AAAA AAAA AAAA", 1, 10, None, "THT", id="whole slots of the range"),
        pytest.param("..AA AAAA AAAA", 2, 10, None, "THH", id="whole slots of the VMA"),
        pytest.param("..AA AA.. ....", 2, 4, EINVAL, "TT.", id="a VMA without a slot"),
        pytest.param("aaaa aaaa aaaa", 0, 12, EINVAL, "...", id="no anon_vma yet"),
        pytest.param("AAAA aaaa aaaa", 4, 4, EINVAL, "T..", id="a slot without a table"),
    ],
)
def test_slots(picture: str, first: int, pages: int, result: Errno | None, tables: str) -> None:
    space = scene(picture)
    before = tags(space)
    assert collapse(space, first, pages) is result
    assert strip_tables(space, 0, 3) == tables
    assert tags(space) == before


@pytest.mark.parametrize(("kernel", "result"), [("linux-7.1", EINVAL), ("linux-7.2", None)])
def test_a_range_inside_a_slot(kernel: str, result: Errno | None) -> None:
    space = scene("AAAA", kernel)
    assert collapse(space, 1, 2) is result
    assert strip_tables(space, 0, 1) == "T"


@pytest.mark.parametrize(("kernel", "tables"), [("linux-6.18", ".T"), ("linux-6.19", ".H")])
def test_whether_it_goes_on_behind_a_slot_that_it_cannot_collapse(kernel: str, tables: str) -> None:
    space = scene("aaaa AAAA", kernel)
    assert collapse(space, 0, 8) is EINVAL
    assert strip_tables(space, 0, 2) == tables


def test_what_wants_no_huge_pages_gets_none() -> None:
    space = scene("AAAA")
    assert madvise(space, 0, SLOT, MADV_NOHUGEPAGE) is None
    assert collapse(space, 0, 4) is EINVAL
    assert strip_tables(space, 0, 1) == "T"


def test_a_guard_keeps_its_slot_small() -> None:
    space = scene("AAAA", "linux-6.18")
    assert madvise(space, PAGE, PAGE, MADV_GUARD_INSTALL) is None
    assert collapse(space, 0, 4) is EINVAL
    assert touch(space, 0, 4 * PAGE).segv == [(PAGE, 1)]


@pytest.mark.parametrize(("kernel", "result"), [("linux-6.17", EINVAL), ("linux-6.18", None)])
def test_whether_a_page_must_be_writable(kernel: str, result: Errno | None) -> None:
    space = scene("AAAA", kernel)
    assert mprotect(space, 0, SLOT, READ) is None
    assert collapse(space, 0, 4) is result
    assert strip_tables(space, 0, 1) == ("T" if result else "H")


@pytest.mark.parametrize(("kernel", "calls"), [("linux-6.1", 3), ("linux-6.12", 1)])
def test_how_many_calls_it_takes_to_bring_in_what_is_in_swap(kernel: str, calls: int) -> None:
    space = shared(kernel)
    assert not touch(space, 16 * PAGE, 20 * PAGE)
    assert swapout(space, 18 * PAGE, 2 * PAGE) is None
    for _ in range(calls - 1):
        assert collapse(space, 16, 4) is Errno.EAGAIN
    assert collapse(space, 16, 4) is None
    assert strip_tables(space, 4, 1) == "H"


def test_collapse_makes_shared_pages_our_own() -> None:
    space = scene(".... .... .... .... AAAA", "linux-6.18")
    fork(space)
    assert madvise(space, 16 * PAGE, SLOT, MADV_COLLAPSE) is None
    assert bits(space, 16) == "PWDSX"
    assert frame(space, 16) not in space.held


def test_collapse_in_read_only_memory_is_read_only() -> None:
    space = scene(".... .... .... .... AAAA", "linux-6.18")
    assert mprotect(space, 16 * PAGE, 4 * PAGE, READ) is None
    assert madvise(space, 16 * PAGE, 4 * PAGE, MADV_COLLAPSE) is None
    assert bits(space, 16) == "PDSX"


# --- shared memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "tables"), [("linux-6.1", "Ho"), ("linux-6.5", "Ho"), ("linux-6.6", "H.")]
)
def test_other_mappings_of_the_object_lose_its_pages(kernel: str, tables: str) -> None:
    space = shared(kernel)
    assert collapse(space, 16, 4) is None
    assert strip_tables(space, 4, 1) + strip_tables(space, 8, 1) == tables
    assert strip(space, 32, 4) == "bbbb"
    assert tags(space) == {16: 1, 17: 2, 32: 1, 33: 2}
    assert not check_state(space)


def test_all_of_the_folio_belongs_to_the_object_then() -> None:
    space = shared()
    assert collapse(space, 16, 4) is None
    first, (vma, _) = frame(space, 16), space.vmas
    assert vma.backing.pages == {i: first + i for i in range(4)}
    assert not vma.backing.clean
    assert bits(space, 16) == "P"  # whoever writes faults once more


def test_an_object_without_a_page_there_is_refused() -> None:
    space = shared(pages=8)
    assert collapse(space, 20, 4) is EINVAL
    assert collapse(space, 16, 4) is None
    assert strip_tables(space, 4, 2) == "H."


def test_a_mapping_at_another_place_in_its_slots_is_refused() -> None:
    space = shared(pages=8)
    assert mremap(space, 32 * PAGE, 8 * PAGE, 8 * PAGE, MOVE, 49 * PAGE) == 49 * PAGE
    assert collapse(space, 52, 4) is EINVAL
    assert tags(space) == {16: 1, 17: 2, 49: 1, 50: 2}
    assert not space.tree.huge


def test_a_guard_in_shared_memory_is_noticed_too_late() -> None:
    """The object is huge by then."""
    space = shared()
    assert madvise(space, 17 * PAGE, PAGE, MADV_GUARD_INSTALL) is None
    assert collapse(space, 16, 4) is EINVAL
    assert strip(space, 16, 4) == "aAaa"
    assert tags(space) == {16: 1, 17: 2, 32: 1, 33: 2}
    assert not touch(space, 32 * PAGE, 33 * PAGE)
    assert strip_tables(space, 8, 1) == "H"
