"""Children: what they hold cannot be written by the parent any more, and is copied when it is."""

from engine.base.uapi import (
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
from engine.pages.fault import touch
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE, SLOT, scene
from tests.lib.entries import bits, frame


def test_what_a_child_maps_too_cannot_be_written() -> None:
    space = scene("AaA.")
    fork(space)
    assert bits(space, 0, 1, 2) == "PDS - PDS"
    assert space.held == {frame(space, 0), frame(space, 2)}
    exit_child(space)
    assert bits(space, 0, 2) == "PDS PDS"
    assert not space.held


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
