"""MADV_FREE, and what reclaim makes of it.  What is left was asked of 6.1, 6.12, 6.17 and 6.18."""

from collections.abc import Callable

import pytest

from engine.base.entry import DIRTY, HUGE
from engine.base.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_FREE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MAP_SHARED,
    MLOCK_ONFAULT,
    MREMAP_DONTUNMAP,
    Errno,
)
from engine.calls.fork import exit_child, fork
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock, mlock2, munlock
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import migrate_begin, migrate_end, soft_dirty_clear, swapout
from engine.mremap import mremap
from engine.pages.access import touch_on
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tags
from tests.lib.entries import READ, RW, bits, entry, huge, mapped
from tests.lib.judged import sound

Act = Callable[[AddressSpace], object]
H = 4 * SLOT  # where the huge page is


def advised(space: AddressSpace, advice: int, first: int, pages: int) -> None:
    assert madvise(space, first * PAGE, pages * PAGE, advice) is None


def kept(space: AddressSpace, first: int, pages: int) -> str:
    """`P` for each page that is there, `.` for none."""
    return "".join("." if entry(space, first + i) is None else "P" for i in range(pages))


def left(space: AddressSpace, first: int, pages: int) -> str:
    """The same; and all is in order."""
    assert sound(space)
    return kept(space, first, pages)


@pytest.mark.parametrize(
    ("between", "there"),
    [
        pytest.param(lambda s: None, "....", id="nothing"),
        pytest.param(lambda s: advised(s, MADV_COLD, 0, 4), "....", id="made cold"),
        pytest.param(lambda s: peek(s, 0, 4 * PAGE), "....", id="read"),
        pytest.param(lambda s: touch(s, PAGE, 3 * PAGE), ".PP.", id="written"),
        pytest.param(lambda s: touch_on(s, 1, PAGE), ".P..", id="written on another CPU"),
        pytest.param(lambda s: mlock2(s, 0, PAGE, MLOCK_ONFAULT), "P...", id="locked on fault"),
        pytest.param(lambda s: mlock(s, PAGE, PAGE), ".P..", id="locked"),
        pytest.param(lambda s: advised(s, MADV_POPULATE_WRITE, 0, 2), "PP..", id="populated"),
        pytest.param(lambda s: advised(s, MADV_POPULATE_READ, 0, 2), "....", id="found"),
        pytest.param(lambda s: (migrate_begin(s, 0), migrate_end(s, 0)), "....", id="migrated"),
        pytest.param(lambda s: fork(s), "PPPP", id="shared"),
        pytest.param(lambda s: (fork(s), exit_child(s)), "....", id="no longer shared"),
        pytest.param(lambda s: (fork(s), touch(s, 0, PAGE)), "PPPP", id="copied"),
    ],
)
def test_pageout_drops_what_was_not_written_since(between: Act, there: str) -> None:
    space = scene("AAAA")
    advised(space, MADV_FREE, 0, 4)
    assert tags(space) == {0: 1, 1: 2, 2: 3, 3: 4}  # nothing yet
    between(space)
    for page in range(4):
        madvise(space, page * PAGE, PAGE, MADV_PAGEOUT)
    assert left(space, 0, 4) == there
    assert set(tags(space)) == {page for page in range(4) if there[page] == "P"}


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(lambda s: mlock(s, 0, 2 * PAGE), id="populates"),
        pytest.param(lambda s: mlock2(s, 0, 2 * PAGE, MLOCK_ONFAULT), id="on fault"),
    ],
)
def test_locking_writes_what_it_populates(lock: Act) -> None:
    space = scene("AAAA")
    advised(space, MADV_FREE, 0, 4)
    lock(space)
    assert munlock(space, 0, 4 * PAGE) is None
    populated = space.frames.dirty != set()
    advised(space, MADV_PAGEOUT, 0, 4)
    assert left(space, 0, 4) == ("PP.." if populated else "....")
    advised(space, MADV_FREE, 0, 4)
    advised(space, MADV_PAGEOUT, 0, 4)
    assert left(space, 0, 4) == "...."


def test_what_was_never_given_up_stays() -> None:
    space = scene("AAAA")
    advised(space, MADV_PAGEOUT, 0, 4)
    advised(space, MADV_FREE, 0, 1)
    advised(space, MADV_PAGEOUT, 1, 3)
    assert left(space, 0, 4) == "PPPP"
    assert bits(space, 0, 1) == "PWSX PWDSX"


def test_what_was_written_again_stays_until_it_is_given_up_again() -> None:
    space = scene("AAAA")
    advised(space, MADV_FREE, 0, 4)
    touch(space, 0, 2 * PAGE)
    advised(space, MADV_PAGEOUT, 0, 4)
    advised(space, MADV_PAGEOUT, 0, 4)
    assert left(space, 0, 4) == "PP.."
    advised(space, MADV_FREE, 0, 4)
    advised(space, MADV_PAGEOUT, 0, 4)
    assert left(space, 0, 4) == "...."


def test_it_is_carried_along_by_a_move() -> None:
    space = scene("AAAA")
    advised(space, MADV_FREE, 0, 4)
    touch(space, 0, PAGE)
    assert mremap(space, 0, 4 * PAGE, 4 * PAGE, MOVE, 9 * PAGE) == 9 * PAGE
    advised(space, MADV_PAGEOUT, 9, 4)
    assert left(space, 9, 4) == "P..."


def test_a_write_that_is_tracked_is_noticed() -> None:
    space = scene("AAAA")
    soft_dirty_clear(space)
    advised(space, MADV_FREE, 0, 4)
    touch(space, 0, 2 * PAGE)
    advised(space, MADV_PAGEOUT, 0, 4)
    assert left(space, 0, 4) == "PP.."
    assert bits(space, 0) == "PWDSX"


def test_no_write_goes_by_a_stale_translation() -> None:
    space = scene("AAAA")
    touch_on(space, 1, 0)
    advised(space, MADV_FREE, 0, 4)
    assert not space.tlb.cached


def test_a_page_that_a_child_maps_is_given_up_unless_it_is_known_to_be_dirty() -> None:
    space = scene("AAAA")
    advised(space, MADV_FREE, 0, 4)
    touch(space, 0, 2 * PAGE)
    advised(space, MADV_PAGEOUT, 0, 2)  # finds them written
    touch(space, 2 * PAGE, 4 * PAGE)
    fork(space)
    advised(space, MADV_FREE, 0, 4)
    exit_child(space)
    advised(space, MADV_PAGEOUT, 0, 4)
    assert left(space, 0, 4) == "PP.."


def test_locked_memory_is_not_given_up() -> None:
    space = scene("AAAA")
    assert mlock(space, 2 * PAGE, PAGE) is None
    assert madvise(space, 0, 4 * PAGE, MADV_FREE) is Errno.EINVAL
    assert munlock(space, 2 * PAGE, PAGE) is None
    advised(space, MADV_PAGEOUT, 0, 4)
    assert left(space, 0, 4) == "..PP"


def test_swapping_drops_it_and_it_drops_what_is_swapped_out() -> None:
    space = scene("AAAA")
    advised(space, MADV_FREE, 0, 2)
    touch(space, 0, PAGE)
    assert swapout(space, 0, 3 * PAGE) is None
    assert left(space, 0, 4) == "P.PP"
    assert (space.tree.rss_anon, space.tree.rss_swap) == (1, 2)
    advised(space, MADV_FREE, 0, 4)
    assert left(space, 0, 4) == "...P"
    assert (space.tree.rss_anon, space.tree.rss_swap) == (1, 0)


# --- huge pages ----------------------------------------------------------------------------------


def split(space: AddressSpace) -> None:
    """Let PTEs map the huge page."""
    assert mprotect(space, H, PAGE, READ) is None
    assert mprotect(space, H, PAGE, RW) is None


def written(page: int) -> Act:
    return lambda space: touch(space, H + page * PAGE, H + (page + 1) * PAGE)


def free(space: AddressSpace) -> None:
    advised(space, MADV_FREE, 16, 4)


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.17", "linux-6.18"])
@pytest.mark.parametrize(
    ("acts", "there"),
    [
        pytest.param([free], "....", id="whole"),
        pytest.param([lambda s: advised(s, MADV_FREE, 16, 2)], "..PP", id="a part"),
        pytest.param([free, split], "....", id="given up, then split"),
        pytest.param([split, free], "....", id="split, then given up"),
        pytest.param([free, written(2)], "PPPP", id="written"),
        pytest.param([free, lambda s: advised(s, MADV_POPULATE_WRITE, 17, 1)], "PPPP", id="found"),
        pytest.param([free, lambda s: advised(s, MADV_COLLAPSE, 16, 4)], "....", id="huge already"),
        pytest.param(
            [free, split, lambda s: advised(s, MADV_COLLAPSE, 16, 4)], "PPPP", id="collapsed"
        ),
        pytest.param([free, fork], "PPPP", id="shared"),
        pytest.param([free, fork, exit_child], "....", id="no longer shared"),
        pytest.param([fork, free, exit_child], "PPPP", id="given up while shared"),
        pytest.param(
            [free, lambda s: (migrate_begin(s, H), migrate_end(s, H))], "....", id="migrated"
        ),
        pytest.param(
            [free, written(2), lambda s: (migrate_begin(s, H), migrate_end(s, H))],
            "PPPP",
            id="written and migrated",
        ),
    ],
)
def test_a_huge_page_goes_or_stays(kernel: str, acts: list[Act], there: str) -> None:
    space = huge(kernel)
    for act in acts:
        act(space)
    advised(space, MADV_PAGEOUT, 16, 4)
    assert left(space, 16, 4) == there


@pytest.mark.parametrize(
    ("kernel", "tables"),
    [("linux-6.1", 1), ("linux-6.12.43", 0), ("linux-6.12", 1), ("linux-7.2", 0), ("linux-7.3", 1)],
)
def test_its_table_in_store_goes_or_is_used(kernel: str, tables: int) -> None:
    space = huge(kernel)
    before = space.tree.bytes_used()
    free(space)
    advised(space, MADV_PAGEOUT, 16, 4)
    assert space.tree.bytes_used() == before - PAGE * (1 - tables)


@pytest.mark.parametrize(
    ("kernel", "stays"),
    [("linux-6.1", False), ("linux-6.12", False), ("linux-6.17", True), ("linux-6.18", False)],
)
def test_one_that_was_written_stays_huge_or_is_split(kernel: str, stays: bool) -> None:
    space = huge(kernel)
    free(space)
    written(2)(space)
    advised(space, MADV_PAGEOUT, 16, 4)
    found = entry(space, 16)
    assert found is not None and bool(found & HUGE) is stays
    advised(space, MADV_PAGEOUT, 16, 4)  # it needs swap now
    assert not space.frames.large
    assert left(space, 16, 4) == "PPPP"


@pytest.mark.parametrize(
    ("kernel", "acts", "there"),
    [
        ("linux-6.1", [split, free, written(2)], "..P."),
        ("linux-6.12", [split, free, written(2)], "..PP"),
        ("linux-6.17", [split, free, written(2)], "PPPP"),
        ("linux-6.18", [split, free, written(2)], "PPPP"),
        ("linux-6.1", [free, split, written(2)], "PPPP"),
        ("linux-6.12", [free, split, written(2)], "..PP"),
        ("linux-6.18", [free, split, written(2)], "PPPP"),
    ],
)
def test_one_that_entries_map_page_by_page(kernel: str, acts: list[Act], there: str) -> None:
    space = huge(kernel)
    for act in acts:
        act(space)
    advised(space, MADV_PAGEOUT, 16, 4)
    assert left(space, 16, 4) == there
    advised(space, MADV_PAGEOUT, 16, 4)
    assert left(space, 16, 4) == there


@pytest.mark.parametrize(
    ("write", "there"),
    [pytest.param(False, "..PP", id="clean"), pytest.param(True, "PPPP", id="written")],
)
def test_a_part_of_it_is_reclaimed(write: bool, there: str) -> None:
    space = huge("linux-6.18")
    free(space)
    if write:
        written(1)(space)
    advised(space, MADV_PAGEOUT, 16, 2)
    assert left(space, 16, 4) == there
    assert not space.frames.large
    advised(space, MADV_PAGEOUT, 16, 4)
    assert left(space, 16, 4) == ("PPPP" if write else "....")


@pytest.mark.parametrize("advice", [MADV_FREE, MADV_COLD, MADV_PAGEOUT])
def test_one_that_a_child_maps_is_left_alone(advice: int) -> None:
    space = huge("linux-6.18")
    fork(space)
    before = entry(space, 16)
    advised(space, advice, 16, 2)
    assert entry(space, 16) == before
    split(space)
    advised(space, advice, 16, 2)
    assert space.frames.large
    assert all(e is not None and e & DIRTY for e in (entry(space, 16 + i) for i in range(4)))
    exit_child(space)
    advised(space, advice, 16, 2)
    assert not space.frames.large


# --- what stays locked ---------------------------------------------------------------------------


def part_unlocked(space: AddressSpace, first: int, pages: int) -> None:
    """Lock pages, and let DONTUNMAP of the first slot of them unlock all."""
    assert mlock(space, first * PAGE, pages * PAGE) is None
    away = MOVE | MREMAP_DONTUNMAP
    assert mremap(space, first * PAGE, SLOT, SLOT, away, 48 * PAGE) == 48 * PAGE


@pytest.mark.parametrize(
    ("kernel", "there"), [("linux-6.1", "...."), ("linux-6.12", "...."), ("linux-6.18", "PPPP")]
)
def test_pages_that_nobody_unlocked_stay(kernel: str, there: str) -> None:
    """Where DONTUNMAP splits first, no more than what is named is unlocked."""
    space = scene("AAAA AAAA", kernel)
    part_unlocked(space, 0, 8)
    for lock in (mlock, munlock):
        assert lock(space, SLOT, SLOT) is None
    assert mremap(space, SLOT, SLOT, SLOT, MOVE, 17 * PAGE) == 17 * PAGE
    advised(space, MADV_FREE, 17, 4)
    advised(space, MADV_PAGEOUT, 17, 4)
    assert swapout(space, 17 * PAGE, SLOT) is None
    assert kept(space, 17, 4) == there


def test_shared_ones_stay_as_well() -> None:
    space = mapped(MAP_SHARED, RW, "linux-6.18", 8)
    touch(space, H, H + 2 * SLOT)
    part_unlocked(space, 16, 8)
    advised(space, MADV_PAGEOUT, 20, 4)
    assert kept(space, 20, 4) == "PPPP"


def test_a_huge_one_is_split_if_a_part_is_named() -> None:
    space = huge("linux-6.18", 3)
    space.frames.tag[:] = [0] * len(space.frames.tag)  # would be replaced by the zero page
    part_unlocked(space, 16, 12)
    for advice in (MADV_FREE, MADV_PAGEOUT):
        advised(space, advice, 20, 4)
    found = entry(space, 20)
    assert found is not None and found & HUGE
    advised(space, MADV_COLD, 24, 1)
    advised(space, MADV_FREE, 24, 4)
    advised(space, MADV_PAGEOUT, 24, 4)
    assert kept(space, 24, 4) == "PPPP"
    assert bits(space, 24) == "PWSX"


def test_splitting_a_huge_page_unlocks_it() -> None:
    space = huge("linux-6.18")
    assert mlock(space, H, SLOT) is None
    assert mremap(space, H, PAGE, PAGE, MOVE | MREMAP_DONTUNMAP, 48 * PAGE) == 48 * PAGE
    advised(space, MADV_FREE, 16, 4)
    advised(space, MADV_PAGEOUT, 16, 4)
    assert kept(space, 16, 4) == "...."


def test_migration_forgets_it() -> None:
    space = scene("AAAA AAAA", "linux-6.18")
    part_unlocked(space, 0, 8)
    assert migrate_begin(space, SLOT) is None
    assert migrate_end(space, SLOT) is None
    advised(space, MADV_FREE, 4, 4)
    advised(space, MADV_PAGEOUT, 4, 4)
    assert kept(space, 4, 4) == ".PPP"
