"""madvise: what is refused and when, and what each advice leaves of VMAs, pages and tables."""

import pytest

from engine.base.entry import is_guard
from engine.base.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MAP_PRIVATE,
    MAP_SHARED,
    Errno,
)
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mprotect import mprotect
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_HUGEPAGE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
)
from fuzz.rules.judge import check_state
from tests.lib.constants import MOVE
from tests.lib.drawn import FLAGS, SLOT, scene, shown, strip, strip_tables, tags
from tests.lib.drawn import PAGE as P
from tests.lib.entries import READ, RW, bits, entry, huge, mapped

WORD = 1 << 64
EINVAL, ENOMEM = Errno.EINVAL, Errno.ENOMEM
UNKNOWN = 99


def shared(kernel: str = "linux-6.12", pages: int = 4) -> AddressSpace:
    """Pages of shared memory from page 16 on, written."""
    space = mapped(MAP_SHARED, RW, kernel, pages)
    assert not touch(space, 16 * P, (16 + pages) * P)
    return space


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addr", "length", "advice", "result"),
    [
        pytest.param(0, P, UNKNOWN, EINVAL, id="unknown"),
        pytest.param(0, 0, UNKNOWN, EINVAL, id="unknown, of nothing"),
        pytest.param(1, P, MADV_NORMAL, EINVAL, id="not page aligned"),
        pytest.param(1, 0, MADV_NORMAL, EINVAL, id="not page aligned, of nothing"),
        pytest.param(0, WORD - 1, MADV_NORMAL, EINVAL, id="a length that rounds to 0"),
        pytest.param(2 * P, WORD - P, MADV_NORMAL, EINVAL, id="an end that wraps"),
        pytest.param(0, 0, MADV_DONTNEED, None, id="nothing"),
        pytest.param(8 * P, 0, MADV_DONTNEED, None, id="nothing where nothing is"),
        pytest.param(8 * P, P, MADV_DONTNEED, ENOMEM, id="a hole"),
        pytest.param(0, P + 1, MADV_DONTNEED, None, id="rounded up"),
    ],
)
def test_operands(addr: int, length: int, advice: int, result: Errno | None) -> None:
    space = scene("AAAA")
    assert madvise(space, addr, length, advice) is result
    assert shown(space, 1) == ("aaAA" if length == P + 1 else "AAAA")


def test_what_lies_behind_a_hole_is_advised_all_the_same() -> None:
    space = scene("AA.B BB..")
    assert madvise(space, P, 4 * P, MADV_DONTNEED) is ENOMEM
    assert shown(space, 2) == "Aa.b bB.."


def test_what_lies_behind_a_vma_that_refuses_is_not() -> None:
    space = scene("AABB CC..")
    assert mlock(space, 2 * P, 2 * P) is None
    assert madvise(space, 0, 6 * P, MADV_DONTNEED) is EINVAL
    assert shown(space, 2) == "aaBB CC.."


@pytest.mark.parametrize(
    ("advice", "last", "first"),
    [
        (MADV_COLD, "linux-5.3", "linux-5.4"),
        (MADV_PAGEOUT, "linux-5.3", "linux-5.4"),
        (MADV_POPULATE_READ, "linux-5.13", "linux-5.14"),
        (MADV_POPULATE_WRITE, "linux-5.13", "linux-5.14"),
        (MADV_DONTNEED_LOCKED, "linux-5.17", "linux-5.18"),
        (MADV_COLLAPSE, "linux-6.0", "linux-6.1"),
        (MADV_GUARD_INSTALL, "linux-6.12", "linux-6.13"),
        (MADV_GUARD_REMOVE, "linux-6.12", "linux-6.13"),
    ],
)
def test_advice_of_later_kernels(advice: int, last: str, first: str) -> None:
    assert madvise(scene("AAAA", last), 0, 4 * P, advice) is EINVAL
    assert madvise(scene("AAAA", first), 0, 4 * P, advice) is None


@pytest.mark.parametrize(
    ("advice", "locked", "of_object", "locked_object"),
    [
        (MADV_WILLNEED, None, None, None),
        (MADV_DONTNEED, EINVAL, None, EINVAL),
        (MADV_DONTNEED_LOCKED, None, None, None),
        (MADV_FREE, EINVAL, EINVAL, EINVAL),
        (MADV_COLD, EINVAL, None, EINVAL),
        (MADV_PAGEOUT, EINVAL, None, EINVAL),
        (MADV_REMOVE, EINVAL, None, EINVAL),
        (MADV_GUARD_INSTALL, EINVAL, None, EINVAL),
        (MADV_GUARD_REMOVE, None, None, None),
        (MADV_WIPEONFORK, None, EINVAL, EINVAL),
        (MADV_MERGEABLE, None, None, None),
    ],
)
def test_what_locked_and_shared_memory_refuse(
    advice: int, locked: Errno | None, of_object: Errno | None, locked_object: Errno | None
) -> None:
    private, both = mapped(MAP_PRIVATE, RW, "linux-6.18"), shared("linux-6.18")
    for space in (private, both):
        assert mlock(space, 4 * SLOT, SLOT) is None
    found = [
        madvise(space, 4 * SLOT, SLOT, advice) for space in (private, shared("linux-6.18"), both)
    ]
    assert found == [locked, of_object, locked_object]


def test_private_memory_has_no_object_to_punch_holes_into() -> None:
    assert madvise(scene("AAAA"), 0, 4 * P, MADV_REMOVE) is EINVAL


# --- flags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advice", "flag", "opposite"),
    [
        (MADV_RANDOM, VM_RAND_READ, MADV_NORMAL),
        (MADV_SEQUENTIAL, VM_SEQ_READ, MADV_NORMAL),
        (MADV_DONTFORK, VM_DONTCOPY, MADV_DOFORK),
        (MADV_DONTDUMP, VM_DONTDUMP, MADV_DODUMP),
        (MADV_WIPEONFORK, VM_WIPEONFORK, MADV_KEEPONFORK),
        (MADV_MERGEABLE, VM_MERGEABLE, MADV_UNMERGEABLE),
    ],
)
def test_a_flag_splits_and_its_opposite_merges(advice: int, flag: int, opposite: int) -> None:
    space = scene("AAAA")
    assert madvise(space, P, 2 * P, advice) is None
    assert [vma.flags for vma in space.vmas] == [FLAGS, FLAGS | flag, FLAGS]
    assert madvise(space, P, 2 * P, opposite) is None
    assert [vma.flags for vma in space.vmas] == [FLAGS]
    assert tags(space) == {0: 1, 1: 2, 2: 3, 3: 4}
    assert not check_state(space)


@pytest.mark.parametrize(
    ("first", "flag", "second", "flag_then"),
    [
        (MADV_RANDOM, VM_RAND_READ, MADV_SEQUENTIAL, VM_SEQ_READ),
        (MADV_HUGEPAGE, VM_HUGEPAGE, MADV_NOHUGEPAGE, VM_NOHUGEPAGE),
    ],
)
def test_of_two_that_exclude_each_other_the_last_holds(
    first: int, flag: int, second: int, flag_then: int
) -> None:
    space = scene("aaaa")
    for advice, expected in ((first, flag), (second, flag_then), (first, flag)):
        assert madvise(space, 0, 4 * P, advice) is None
        assert [vma.flags for vma in space.vmas] == [FLAGS | expected]


def test_shared_memory_ignores_what_is_for_ksm() -> None:
    space = shared()
    (before,) = (vma.flags for vma in space.vmas)
    assert madvise(space, 16 * P, 2 * P, MADV_MERGEABLE) is None
    assert [vma.flags for vma in space.vmas] == [before]


def test_a_split_that_passes_the_map_count_may_be_tried_again() -> None:
    space = scene("AAAA")
    space.max_map_count = 1
    assert madvise(space, P, P, MADV_DONTFORK) is Errno.EAGAIN
    assert [vma.flags for vma in space.vmas if vma.flags & VM_DONTCOPY] == []
    assert madvise(space, 0, 4 * P, MADV_DONTFORK) is None


# --- dropping -------------------------------------------------------------------------------------


def test_dontneed_drops_pages_and_reads_zeroes_then() -> None:
    space = scene("AAAA")
    assert madvise(space, P, 2 * P, MADV_DONTNEED) is None
    assert shown(space, 1) == "AaaA"
    assert space.tree.rss_anon == 2
    assert not peek(space, P, 2 * P)
    assert tags(space) == {0: 1, 3: 4}


@pytest.mark.parametrize(("kernel", "after"), [("linux-6.12", "oooT"), ("linux-6.18", ".ooT")])
def test_a_table_goes_with_its_last_page_if_all_of_its_slot_was_named(
    kernel: str, after: str
) -> None:
    space = scene("AAAA .bbB Cccc DDDD", kernel)
    assert madvise(space, 0, SLOT, MADV_DONTNEED) is None
    assert madvise(space, SLOT + P, 3 * P, MADV_DONTNEED) is None
    assert madvise(space, 2 * SLOT, 3 * P, MADV_DONTNEED) is None
    assert madvise(space, 3 * SLOT, 3 * P, MADV_DONTNEED) is None
    assert strip_tables(space, 0, 4) == after


def test_free_without_pressure_keeps_contents() -> None:
    space = scene("AAAA")
    assert madvise(space, 0, 4 * P, MADV_FREE) is None
    assert tags(space) == {0: 1, 1: 2, 2: 3, 3: 4}


@pytest.mark.parametrize("flags", [MAP_PRIVATE, MAP_SHARED], ids=["private", "shared"])
def test_without_swap_only_the_mapping_of_shared_pages_goes(flags: int) -> None:
    space = mapped(flags)
    assert not touch(space, 16 * P, 20 * P)
    assert madvise(space, 16 * P, 2 * P, MADV_PAGEOUT) is None
    assert strip(space, 16, 4) == ("AAAA" if flags == MAP_PRIVATE else "aaAA")
    assert tags(space) == {16: 1, 17: 2, 18: 3, 19: 4}
    assert not check_state(space)


def test_what_is_mapped_twice_is_not_paged_out() -> None:
    space = shared()
    assert mremap(space, 16 * P, 0, SLOT, MOVE, 32 * P) == 32 * P
    assert not touch(space, 32 * P, 33 * P)
    assert madvise(space, 16 * P, SLOT, MADV_PAGEOUT) is None
    assert strip(space, 16, 4) + strip(space, 32, 4) == "AaaaBbbb"


def test_what_was_never_written_leaves_the_object_when_it_is_paged_out() -> None:
    space = mapped(MAP_SHARED)
    assert not peek(space, 16 * P, 17 * P)
    assert not touch(space, 17 * P, 18 * P)
    assert madvise(space, 16 * P, 2 * P, MADV_PAGEOUT) is None
    (vma,) = space.vmas
    assert sorted(vma.backing.pages) == [1]


def test_a_hole_in_the_object_is_one_in_every_mapping() -> None:
    space = shared()
    assert mremap(space, 16 * P, 0, SLOT, MOVE, 33 * P) == 33 * P
    assert not touch(space, 33 * P, 37 * P)
    assert madvise(space, 17 * P, 2 * P, MADV_REMOVE) is None
    assert strip(space, 16, 4) + strip(space, 33, 4) == "AaaABbbB"
    assert tags(space) == {16: 5, 19: 8, 33: 5, 36: 8}
    assert space.tree.rss_shmem == 4
    assert not check_state(space)


# --- large folios ---------------------------------------------------------------------------------


@pytest.mark.parametrize("advice", [MADV_FREE, MADV_COLD])
@pytest.mark.parametrize(
    ("first", "pages", "stays"), [(16, 4, True), (16, 2, False), (18, 2, False)]
)
def test_a_huge_page_is_split_if_a_part_is_named(
    advice: int, first: int, pages: int, stays: bool
) -> None:
    space = huge()
    assert madvise(space, first * P, pages * P, advice) is None
    assert bool(space.frames.large) is stays
    assert strip_tables(space, 4, 1) == ("H" if stays else "T")
    assert tags(space) == {16: 1, 17: 2, 18: 3, 19: 4}
    assert not check_state(space)


def test_pageout_splits_a_huge_page_that_it_covers_too() -> None:
    space = huge()
    assert madvise(space, 16 * P, SLOT, MADV_PAGEOUT) is None
    assert not space.frames.large
    assert bits(space, 16, 17, 18, 19) == "PWDSX PWDSX PWDSX PWDSX"


@pytest.mark.parametrize("first", [16, 17])
def test_a_large_folio_in_small_entries_is_covered_by_all_of_them(first: int) -> None:
    space = huge()
    space.split_huge_leaf(16 * P)
    assert madvise(space, first * P, (20 - first) * P, MADV_COLD) is None
    assert bool(space.frames.large) is (first == 16)


# --- populate -------------------------------------------------------------------------------------


def test_populate_for_reading_and_for_writing() -> None:
    space = scene("aaaa")
    assert madvise(space, 0, P, MADV_POPULATE_READ) is None
    assert madvise(space, P, P, MADV_POPULATE_WRITE) is None
    assert bits(space, 0, 1, 2) == "P PWDSX -"
    assert tags(space) == {}


@pytest.mark.parametrize(
    ("prot", "for_reading", "for_writing"),
    [(RW, None, None), (READ, None, EINVAL), (0, EINVAL, EINVAL)],
)
def test_populate_needs_the_right(
    prot: int, for_reading: Errno | None, for_writing: Errno | None
) -> None:
    space = mapped(MAP_PRIVATE, prot)
    assert madvise(space, 16 * P, P, MADV_POPULATE_READ) is for_reading
    assert madvise(space, 16 * P, P, MADV_POPULATE_WRITE) is for_writing


@pytest.mark.parametrize(
    ("kernel", "after"), [("linux-6.8", "aA.B Bb.."), ("linux-6.9", "aA.b bb..")]
)
def test_since_6_9_a_hole_ends_populating(kernel: str, after: str) -> None:
    space = scene("aa.b bb..", kernel)
    assert madvise(space, P, 4 * P, MADV_POPULATE_WRITE) is ENOMEM
    assert shown(space, 2) == after


def test_what_cannot_be_populated_is_a_bad_address() -> None:
    space = mapped(MAP_SHARED)
    (vma,) = space.vmas
    vma.pgoff = 2  # the last two pages lie beyond the object
    assert madvise(space, 16 * P, SLOT, MADV_POPULATE_WRITE) is Errno.EFAULT
    assert strip(space, 16, 4) == "AAaa"


# --- guards ---------------------------------------------------------------------------------------


def guarded(kernel: str = "linux-6.18") -> AddressSpace:
    """Four written pages, the middle ones guards now."""
    space = scene("AAAA", kernel)
    assert madvise(space, P, 2 * P, MADV_GUARD_INSTALL) is None
    return space


def test_a_guard_takes_the_place_of_a_page_and_cannot_be_accessed() -> None:
    space = guarded()
    assert [is_guard(entry(space, page)) for page in range(4)] == [False, True, True, False]  # type: ignore[arg-type]
    assert tags(space) == {0: 1, 3: 4}
    assert space.tree.rss_anon == 2
    assert touch(space, 0, 4 * P).segv == [(P, 2)]
    assert madvise(space, 0, 4 * P, MADV_POPULATE_READ) is Errno.EFAULT
    assert not check_state(space)


def test_guards_go_when_they_are_told_to_not_with_the_pages() -> None:
    space = guarded()
    assert madvise(space, 0, 4 * P, MADV_DONTNEED) is None
    assert shown(space, 1) == "aAAa"
    assert madvise(space, P, 3 * P, MADV_GUARD_REMOVE) is None
    assert shown(space, 1) == "aaaa"
    assert strip_tables(space, 0, 1) == "o"
    assert not touch(space, 0, 4 * P)


def test_removing_guards_leaves_pages() -> None:
    space = guarded()
    assert madvise(space, 0, 4 * P, MADV_GUARD_REMOVE) is None
    assert shown(space, 1) == "AaaA"


def test_guards_split_a_huge_page_and_leave_the_rest_of_it() -> None:
    space = huge("linux-6.18")
    assert madvise(space, 17 * P, P, MADV_GUARD_INSTALL) is None
    assert tags(space) == {16: 1, 18: 3, 19: 4}
    assert not check_state(space)


@pytest.mark.parametrize(("kernel", "result"), [("linux-6.14", EINVAL), ("linux-6.15", None)])
def test_guards_in_shared_memory(kernel: str, result: Errno | None) -> None:
    space = shared(kernel)
    assert madvise(space, 16 * P, P, MADV_GUARD_INSTALL) is result
    assert tags(space)[16] == 1  # the object keeps its page
    assert bool(touch(space, 16 * P, 17 * P)) is (result is None)


def test_read_only_memory_may_have_guards() -> None:
    space = scene("AAAA", "linux-6.18")
    assert mprotect(space, 0, 4 * P, READ) is None
    assert madvise(space, 0, P, MADV_GUARD_INSTALL) is None
    assert peek(space, 0, 4 * P).segv == [(0, 1)]
