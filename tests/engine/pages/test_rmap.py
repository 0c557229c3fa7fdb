"""The reverse map: where a page is looked for; and migration, which misses what is not there."""

import pytest

from engine.base.uapi import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
)
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import migrate_begin, migrate_end
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.pages.rmap import (
    begin_migration,
    end_migration,
    entry_of,
    folio_of,
    may_migrate,
    prepare_anon_vma,
    settle_shared,
    walk,
)
from engine.state.space import AddressSpace
from engine.state.vma import VM_STACK_INCOMPLETE
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tags
from tests.lib.entries import bits, frame, huge, kinds
from tests.lib.judged import sound


def found(space: AddressSpace, pfn: int) -> list[int]:
    """The pages at which the reverse map looks for a frame."""
    return [addr // PAGE for _, addr in walk(space, pfn)]


# --- where a page is looked for -------------------------------------------------------------------


def test_a_private_page_is_looked_for_by_anon_vma_and_index() -> None:
    space = scene("AAAA BBBB")
    for page in range(8):
        assert found(space, frame(space, page)) == [page]


def test_also_behind_a_move_and_where_it_came_from() -> None:
    """Unless all of a VMA has moved: then it lets go of its anon_vma (dontunmap_complete)."""
    space = scene("AAAA B...")
    pfn, last = frame(space, 1), frame(space, 4)
    assert mremap(space, 4 * PAGE, PAGE, PAGE, KEEP, 40 * PAGE) == 40 * PAGE
    assert found(space, last) == [40]
    assert mremap(space, PAGE, PAGE, PAGE, KEEP, 34 * PAGE) == 34 * PAGE
    assert found(space, pfn) == [1, 34]
    assert entry_of(space, PAGE, pfn) is None
    assert entry_of(space, 34 * PAGE, pfn) is not None


def test_a_split_changes_nothing() -> None:
    space = scene("AAAA")
    assert mlock(space, PAGE, PAGE) is None
    assert len(space.vmas) == 3
    assert [found(space, frame(space, page)) for page in range(4)] == [[0], [1], [2], [3]]


def test_a_vma_whose_indices_are_wrong_is_not_found() -> None:
    space = scene("AAAA")
    (vma,) = space.vmas
    vma.pgoff += 1
    assert found(space, frame(space, 0)) == []
    assert found(space, frame(space, 2)) == [1]
    assert entry_of(space, PAGE, frame(space, 2)) is None


def test_any_page_of_a_huge_page_is_in_its_entry() -> None:
    space = huge()
    first = frame(space, 16)
    assert folio_of(space, first + 3) == range(first, first + 4)
    for page in range(4):
        assert found(space, first + page) == [16 + page]
        assert entry_of(space, (16 + page) * PAGE, first + page) is not None
    space.frames.large.clear()
    assert folio_of(space, first + 3) == range(first + 3, first + 4)


def test_an_anon_vma_is_prepared_once() -> None:
    space = scene("aaaa bbbb")
    first, second = space.vmas
    prepare_anon_vma(space, first)
    anon_vma = first.anon_vma
    assert anon_vma is not None
    prepare_anon_vma(space, first)
    prepare_anon_vma(space, second)  # they might merge
    assert first.anon_vma is second.anon_vma is anon_vma


# --- migration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", [touch, peek])
def test_an_access_waits_for_the_end(use: object) -> None:
    space = scene("AAAA")
    assert migrate_begin(space, PAGE) is None
    use(space, PAGE, 2 * PAGE)  # type: ignore[operator]
    assert kinds(space, 0, 4) == "PPPP"
    assert not space.migrating


def test_every_mapping_of_a_shared_page_is_found() -> None:
    space = AddressSpace(scene("").kernel)
    assert mmap(space, 0, SLOT, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == 0
    assert mremap(space, 0, 0, SLOT, MOVE, 32 * PAGE) == 32 * PAGE
    touch(space, 0, SLOT)
    peek(space, 32 * PAGE, 33 * PAGE)
    assert migrate_begin(space, PAGE) is None
    assert kinds(space, 0, 4) + kinds(space, 32, 4) == "PmPPPmPP"
    assert sound(space)
    peek(space, 33 * PAGE, 34 * PAGE)
    assert kinds(space, 0, 4) + kinds(space, 32, 4) == "PPPPPPPP"
    assert frame(space, 1) == frame(space, 33)
    assert sound(space)


def test_a_huge_page_migrates_whole() -> None:
    space = huge()
    assert migrate_begin(space, 17 * PAGE) is None
    assert kinds(space, 16, 4) == "mmmm"
    assert sound(space)
    assert mprotect(space, 18 * PAGE, PAGE, 1) is None  # splits it
    assert migrate_end(space, 16 * PAGE) is None
    assert kinds(space, 16, 4) == "PPPP"
    assert bits(space, 17, 18) == "PWDSX PDSX"
    assert tags(space) == {16 + i: 1 + i for i in range(4)}
    assert sound(space)


def test_a_page_may_go_before_its_migration_ends() -> None:
    space = scene("AAAA")
    assert migrate_begin(space, 0) is None
    assert madvise(space, 0, SLOT, MADV_DONTNEED) is None
    assert migrate_end(space, 0) is None
    assert kinds(space, 0, 4) == "...."
    assert sound(space)


def test_a_stack_that_exec_is_moving_is_left_alone() -> None:
    space = scene("AAAA")
    (vma,) = space.vmas
    vma.flags |= VM_STACK_INCOMPLETE
    assert not may_migrate(vma)
    begin_migration(space, frame(space, 0))
    assert kinds(space, 0, 4) == "PPPP"
    vma.flags &= ~VM_STACK_INCOMPLETE
    begin_migration(space, frame(space, 0))
    assert kinds(space, 0, 4) == "mPPP"


def test_an_entry_that_the_walk_does_not_find_is_left_and_told() -> None:
    space = scene("AAAA")
    first = frame(space, 1)
    begin_migration(space, first)
    (vma,) = space.vmas
    vma.pgoff += 1  # as a move that does not keep the distance would
    end_migration(space, first)
    assert [violation.rule for violation in space.violations] == ["migration-left"]
    assert frame(space, 1) == first
    assert not space.migrating


def test_who_maps_a_page_of_an_object_waits_for_its_migration() -> None:
    space = AddressSpace(scene("").kernel)
    assert mmap(space, 0, SLOT, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == 0
    touch(space, 0, SLOT)
    (vma,) = space.vmas
    begin_migration(space, frame(space, 1))
    for low, high in ((0, 1), (2, 4)):
        settle_shared(space, vma, low * PAGE, high * PAGE)
    assert kinds(space, 0, 4) == "PmPP"
    settle_shared(space, vma, PAGE, 2 * PAGE)
    assert kinds(space, 0, 4) == "PPPP"
    assert vma.backing.pages[1] == frame(space, 1)
    assert sound(space)
