"""MAP_DROPPABLE: what may be dropped is private memory, but for what every call makes of that."""

import pytest

from engine.base.kernel import kernel_named
from engine.base.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DONTDUMP,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_PAGEOUT,
    MADV_UNMERGEABLE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MLOCK_ONFAULT,
    MREMAP_DONTUNMAP,
    UFFDIO_REGISTER_MODE_WP,
    Errno,
)
from engine.calls.fork import fork
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock, mlock2, munlock
from engine.calls.mmap import mmap
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import migrate_begin, swapout
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.pages.uffd import uffd_register
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_NORESERVE,
    VM_READ,
    VM_WIPEONFORK,
    VM_WRITE,
)
from fuzz.rules.judge import check_state
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import SLOT, tags, tiny
from tests.lib.entries import bits

FIXED = MAP_ANONYMOUS | MAP_FIXED
DROPPABLE = MAP_DROPPABLE | FIXED
RW = 3


def droppable(
    pages: int, kernel: str = "linux-6.18", more: int = 0, *, touched: int = 0
) -> AddressSpace:
    """So many pages from page 16 on, the first `touched` written."""
    space = AddressSpace(tiny(kernel))
    assert mmap(space, 16 * P, pages * P, RW, DROPPABLE | more) == 16 * P
    touch(space, 16 * P, (16 + touched) * P)
    return space


def test_it_is_not_charged_dumped_or_inherited() -> None:
    space = droppable(4)
    (vma,) = space.vmas
    kept_out = VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
    assert vma.flags == VM_READ | VM_WRITE | VM_DROPPABLE | kept_out
    assert vma.is_anonymous
    assert space.committed == 0
    assert mprotect(space, 16 * P, 4 * P, 1) is None
    assert mprotect(space, 16 * P, 4 * P, RW) is None
    assert space.committed == 0


@pytest.mark.parametrize(
    ("kernel", "kind", "result"),
    [
        ("linux-6.10", MAP_DROPPABLE, Errno.EINVAL),
        ("linux-6.11", MAP_DROPPABLE, 0),
        ("linux-6.11", MAP_DROPPABLE | MAP_NORESERVE, 0),
        ("linux-6.18", MAP_DROPPABLE | MAP_LOCKED, Errno.EINVAL),
        ("linux-6.18", MAP_DROPPABLE | MAP_GROWSDOWN, Errno.EINVAL),
        ("linux-6.18", MAP_DROPPABLE | MAP_HUGETLB, Errno.EINVAL),
        ("linux-6.18", MAP_DROPPABLE | MAP_PRIVATE, Errno.EINVAL),
        ("linux-6.18", MAP_DROPPABLE | MAP_SHARED, Errno.EINVAL),
    ],
)
def test_what_there_is(kernel: str, kind: int, result: Errno | int) -> None:
    assert mmap(AddressSpace(tiny(kernel)), 0, SLOT, RW, kind | FIXED) == result


@pytest.mark.parametrize(
    ("more", "error"),
    [(0, "EOPNOTSUPP"), (MAP_LOCKED, "EOPNOTSUPP"), (MAP_HUGETLB, "EINVAL")],
)
def test_words_of_32_bits_have_no_flag_for_it(more: int, error: str) -> None:
    space = AddressSpace(kernel_named("linux-6.18", "i386-pae"))
    assert mmap(space, 0x200000, P, RW, DROPPABLE | more) is Errno[error]


def test_it_merges_with_its_like_only() -> None:
    space = droppable(2)
    for page, kind in ((14, MAP_PRIVATE | MAP_NORESERVE), (18, MAP_DROPPABLE), (20, MAP_PRIVATE)):
        assert mmap(space, page * P, 2 * P, RW, kind | FIXED) == page * P
    assert [(vma.start // P, vma.end // P) for vma in space.vmas] == [(14, 16), (16, 20), (20, 22)]


def test_locking_brings_it_in_and_no_more() -> None:
    space = droppable(4)
    before = next(iter(space.vmas)).flags
    assert mlock(space, 17 * P, P) is None
    assert mlock2(space, 18 * P, P, MLOCK_ONFAULT) is None
    assert bits(space, 16, 17, 18, 19) == "- PWDSX PWDSX -"
    assert munlock(space, 16 * P, 4 * P) is None
    assert [vma.flags for vma in space.vmas] == [before]
    assert space.locked_vm == 0


@pytest.mark.parametrize(
    ("advice", "result"),
    [
        (MADV_DODUMP, Errno.EINVAL),
        (MADV_KEEPONFORK, Errno.EINVAL),
        (MADV_DONTDUMP, None),
        (MADV_WIPEONFORK, None),
        (MADV_MERGEABLE, None),
        (MADV_UNMERGEABLE, None),
        (MADV_COLD, None),
        (MADV_FREE, None),
    ],
)
def test_advice_that_changes_nothing(advice: int, result: Errno | None) -> None:
    space = droppable(4, touched=4)
    before = next(iter(space.vmas)).flags
    assert madvise(space, 16 * P, 2 * P, advice) is result
    assert [vma.flags for vma in space.vmas] == [before]
    assert tags(space) == {16: 1, 17: 2, 18: 3, 19: 4}


def test_reclaim_drops_it_though_it_was_written() -> None:
    space = droppable(6, touched=5)
    peek(space, 21 * P, 22 * P)
    assert madvise(space, 16 * P, P, MADV_PAGEOUT) is None
    assert swapout(space, 18 * P, P) is None
    assert tags(space) == {17: 2, 19: 4, 20: 5}
    assert bits(space, 16, 18, 21) == "- - P"  # the zero page is nobody's
    assert (space.tree.rss_anon, space.tree.rss_swap) == (3, 0)
    assert not check_state(space)
    touch(space, 16 * P, 17 * P)
    assert tags(space) == {16: 6, 17: 2, 19: 4, 20: 5}


def test_what_is_under_migration_stays() -> None:
    space = droppable(2, touched=2)
    assert migrate_begin(space, 16 * P) is None
    assert madvise(space, 16 * P, 2 * P, MADV_PAGEOUT) is None
    assert tags(space) == {16: 1}


@pytest.mark.parametrize(
    ("first", "pages", "left"),
    [
        pytest.param(16, 4, "- - - - P", id="all of the first"),
        pytest.param(17, 5, "P - P P -", id="parts of both"),
    ],
)
def test_huge_pages(first: int, pages: int, left: str) -> None:
    space = droppable(8)
    assert madvise(space, 16 * P, 2 * SLOT, MADV_HUGEPAGE) is None
    for page in (16, 17, 20, 21):
        touch(space, page * P, (page + 1) * P)
    tables = space.tree.bytes_used()
    assert madvise(space, first * P, pages * P, MADV_PAGEOUT) is None
    shown = bits(space, 16, 17, 18, 19, 20)
    assert " ".join(word[0] for word in shown.split()) == left
    assert space.tree.bytes_used() == tables  # the table in store is in use now
    assert not check_state(space)


def test_huge_pages_that_were_collapsed_go_whole() -> None:
    space = droppable(4, touched=3)
    assert madvise(space, 16 * P, SLOT, MADV_COLLAPSE) is None
    assert swapout(space, 16 * P, SLOT) is None
    assert not tags(space)
    assert madvise(space, 16 * P, SLOT, MADV_PAGEOUT) is None
    assert not check_state(space)


def test_a_child_shares_nothing_of_it() -> None:
    space = droppable(2, touched=2)
    fork(space)
    assert bits(space, 16, 17) == "PWDSX PWDSX"
    assert not space.held


def test_it_moves_as_other_memory_does() -> None:
    space = droppable(4, touched=4)
    flags = next(iter(space.vmas)).flags
    assert mremap(space, 16 * P, SLOT, SLOT, MOVE | MREMAP_DONTUNMAP, 33 * P) == 33 * P
    assert tags(space) == {33: 1, 34: 2, 35: 3, 36: 4}
    assert mremap(space, 33 * P, SLOT, 6 * P, 0) == 33 * P
    assert [vma.flags for vma in space.vmas] == [flags, flags]
    assert madvise(space, 34 * P, P, MADV_PAGEOUT) is None
    assert tags(space) == {33: 1, 35: 3, 36: 4}
    assert not check_state(space)


def test_it_may_be_populated() -> None:
    assert bits(droppable(2, more=MAP_POPULATE), 16, 17) == "PWDSX PWDSX"


@pytest.mark.parametrize(("kernel", "result"), [("linux-6.16", None), ("linux-6.17", Errno.EINVAL)])
def test_userfaultfd(kernel: str, result: Errno | None) -> None:
    space = droppable(2, kernel, touched=2)
    assert uffd_register(space, 16 * P, 2 * P, UFFDIO_REGISTER_MODE_WP, 0) is result
    assert madvise(space, 16 * P, P, MADV_PAGEOUT) is None
    assert tags(space) == {17: 2}
