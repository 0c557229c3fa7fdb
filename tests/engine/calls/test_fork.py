"""Children: what they hold cannot be written by the parent any more, and is copied when it is."""

import pytest

from engine.base.entry import PFN_SHIFT
from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_DONTFORK,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from engine.calls.fork import exit_child, fork
from engine.calls.madvise import madvise
from engine.calls.mmap import mmap
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import migrate_begin, migrate_end
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE, SLOT, scene, tags
from tests.lib.entries import bits, entry, huge


def frame(space: AddressSpace, page: int) -> int:
    found = entry(space, page)
    assert found is not None
    return found >> PFN_SHIFT


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


def test_what_a_child_does_not_share() -> None:
    space = scene("AAAA BBBB")
    assert madvise(space, 0, SLOT, MADV_DONTFORK) is None
    assert madvise(space, SLOT, SLOT, MADV_WIPEONFORK) is None
    assert mmap(space, 32 * PAGE, PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == 32 * PAGE
    touch(space, 32 * PAGE, 33 * PAGE)
    fork(space)
    assert bits(space, 0, 4, 32) == "PWDSX PWDSX PWDS"
    assert not space.held


def test_mprotect_gives_no_right_to_write_to_a_childs_page() -> None:
    space = scene("AAAA")
    fork(space)
    for prot in (1, 3):
        assert mprotect(space, 0, SLOT, prot) is None
    assert bits(space, 0) == "PDS"


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


def test_shared_pages_move_and_migrate() -> None:
    space = scene("AAAA")
    fork(space)
    assert migrate_begin(space, 0) is None
    assert migrate_end(space, 0) is None
    assert frame(space, 0) in space.held
    assert mremap(space, 0, SLOT, SLOT, MREMAP_MAYMOVE | MREMAP_FIXED, 33 * PAGE) == 33 * PAGE
    assert bits(space, 33, 36) == "PDS PDS"
    touch(space, 33 * PAGE, 34 * PAGE)
    assert bits(space, 33) == "PWDSX"
    assert not check_state(space)


def test_collapse_makes_shared_pages_our_own() -> None:
    space = scene(".... .... .... .... AAAA", "linux-6.18")
    fork(space)
    assert madvise(space, 16 * PAGE, SLOT, MADV_COLLAPSE) is None
    assert bits(space, 16) == "PWDSX"
    assert frame(space, 16) not in space.held
