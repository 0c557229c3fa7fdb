"""userfaultfd: what can be registered, what write protection marks, what a move takes along."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.base.address import Range
from engine.base.entry import MARKER, PRESENT, SWAP, UFFD_WP, WRITE, is_wp_marker
from engine.base.failures import PAGETABLE
from engine.base.geometry import PTE
from engine.base.kernel import Kernel, kernel_named
from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_HUGEPAGE,
    MADV_POPULATE_READ,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    PROT_READ,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_REMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFD_FEATURE_RWP,
    UFFD_FEATURE_RWP_ASYNC,
    UFFD_FEATURE_SIGBUS,
    UFFD_FEATURE_WP_ASYNC,
    UFFD_FEATURE_WP_UNPOPULATED,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_RWP,
    UFFDIO_REGISTER_MODE_WP,
    Errno,
)
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import swapout
from engine.mremap import mremap
from engine.pages.access import touch_on
from engine.pages.fault import peek, touch
from engine.pages.uffd import uffd_register, uffd_rwp, uffd_wp
from engine.state.space import AddressSpace
from engine.state.vma import VM_UFFD, VM_UFFD_MISSING, VM_UFFD_WP
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene, shown, strip_tables, tags, tiny
from tests.lib.entries import entry, huge, mapped
from tests.lib.explains import explains

FOLLOWS = UFFD_FEATURE_EVENT_REMAP


def armed(
    picture: str, kernel: str | Kernel = "linux-6.12", *, pages: int = 4, features: int = 0
) -> AddressSpace:
    """The space that is drawn, its first pages registered for write protection, and protected."""
    space = scene(picture, kernel)
    assert uffd_register(space, 0, pages * PAGE, UFFDIO_REGISTER_MODE_WP, features) is None
    assert uffd_wp(space, 0, pages * PAGE, 1) is None
    return space


def marks(space: AddressSpace, first: int, pages: int) -> str:
    """Each page: `w` protected, `m` a mark for later, `W` writable, `r` read-only, `.` none."""
    return "".join(_mark(entry(space, page)) for page in range(first, first + pages))


def _mark(found: int | None) -> str:
    if found is None:
        return "."
    if is_wp_marker(found):
        return "m"
    if found & SWAP:
        return "s"
    return "w" if found & UFFD_WP else "W" if found & WRITE else "r"


def registered(space: AddressSpace) -> list[tuple[int, int]]:
    """The first and last page but one of each VMA that is registered."""
    return [(vma.start // PAGE, vma.end // PAGE) for vma in space.vmas if vma.flags & VM_UFFD]


def to(space: AddressSpace, old: int, new: int, pages: int, flags: int = MOVE) -> int | Errno:
    return mremap(space, old * PAGE, pages * PAGE, pages * PAGE, flags, new * PAGE)


def shared(kernel: str | Kernel = "linux-6.12") -> AddressSpace:
    """Four pages of shared memory at page 0, the first two of them there."""
    space = AddressSpace(tiny(kernel))
    assert mmap(space, 0, SLOT, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == 0
    touch(space, 0, 2 * PAGE)
    return space


# --- registering ---------------------------------------------------------------------------------


def test_registering_splits_and_merges() -> None:
    space = scene("aaaa aaaa bb..")
    assert uffd_register(space, PAGE, 2 * PAGE, UFFDIO_REGISTER_MODE_MISSING, 0) is None
    assert registered(space) == [(1, 3)]
    assert uffd_register(space, 3 * PAGE, PAGE, UFFDIO_REGISTER_MODE_MISSING, 0) is None
    assert registered(space) == [(1, 4)]
    assert (
        uffd_register(space, 0, 8 * PAGE, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP, 0)
        is None
    )
    assert registered(space) == [(0, 8)]
    assert space.vmas.lookup(0).flags & VM_UFFD == VM_UFFD_MISSING | VM_UFFD_WP  # type: ignore[union-attr]


def test_another_context_is_no_neighbour_to_merge_with() -> None:
    space = scene("aaaa aaaa")
    assert uffd_register(space, 0, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_register(space, SLOT, SLOT, UFFDIO_REGISTER_MODE_WP, FOLLOWS) is None
    assert registered(space) == [(0, 4), (4, 8)]


@pytest.mark.parametrize(
    ("addr", "length", "mode", "features", "error"),
    [
        (0, SLOT, 0, 0, Errno.EINVAL),
        (0, SLOT, 8, 0, Errno.EINVAL),
        (0, SLOT, UFFDIO_REGISTER_MODE_MISSING, 1 << 40, Errno.EINVAL),
        (1, SLOT, UFFDIO_REGISTER_MODE_MISSING, 0, Errno.EINVAL),
        (0, SLOT + 1, UFFDIO_REGISTER_MODE_MISSING, 0, Errno.EINVAL),
        (0, 0, UFFDIO_REGISTER_MODE_MISSING, 0, Errno.EINVAL),
        (8 * SLOT, SLOT, UFFDIO_REGISTER_MODE_MISSING, 0, Errno.EINVAL),
        (0, 1 << 60, UFFDIO_REGISTER_MODE_MISSING, 0, Errno.EINVAL),
        (0, SLOT, UFFDIO_REGISTER_MODE_MINOR, 0, Errno.EINVAL),
        (0, 2 * SLOT, UFFDIO_REGISTER_MODE_WP, 0, Errno.EBUSY),
    ],
)
def test_what_cannot_be_registered(
    addr: int, length: int, mode: int, features: int, error: Errno
) -> None:
    space = scene("aaaa aaaa ....")
    assert uffd_register(space, SLOT, SLOT, UFFDIO_REGISTER_MODE_MISSING, FOLLOWS) is None
    assert uffd_register(space, addr, length, mode, features) is error
    assert registered(space) == [(4, 8)]


def test_write_protection_and_minor_faults_need_64_bits() -> None:
    space = AddressSpace(kernel_named("linux-6.12", "i386"))
    assert mmap(space, SLOT * 8, SLOT, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == SLOT * 8
    for mode in (UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MINOR):
        assert uffd_register(space, SLOT * 8, SLOT, mode, 0) is Errno.EINVAL
    assert uffd_register(space, SLOT * 8, SLOT, UFFDIO_REGISTER_MODE_MISSING, 0) is None


# --- write protection ----------------------------------------------------------------------------


def test_private_pages_are_protected_holes_are_not() -> None:
    space = armed("AA.. bbbb", pages=2)
    assert marks(space, 0, 3) == "ww."
    touch(space, 0, PAGE)
    peek(space, PAGE, 2 * PAGE)
    assert marks(space, 0, 2) == "Ww"
    assert uffd_wp(space, 0, 2 * PAGE, 0) is None
    assert marks(space, 0, 2) == "WW"
    assert tags(space) == {0: 3, 1: 2}


def test_shared_memory_is_marked_where_nothing_is() -> None:
    space = shared()
    assert uffd_register(space, 0, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, 0, SLOT, 1) is None
    assert marks(space, 0, 4) == "wwmm"
    peek(space, 2 * PAGE, 3 * PAGE)
    touch(space, 3 * PAGE, 4 * PAGE)
    assert marks(space, 0, 4) == "wwwW"
    assert madvise(space, 0, SLOT, MADV_DONTNEED) is None
    assert marks(space, 0, 4) == "mmm."
    assert uffd_wp(space, 0, SLOT, 0) is None
    assert marks(space, 0, 4) == "...."


def test_a_huge_page_is_protected_whole_or_split() -> None:
    for length, after, left in ((SLOT, "wwww", "Wwww"), (PAGE, "wWWW", "WWWW")):
        space = huge()
        assert uffd_register(space, 4 * SLOT, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
        assert uffd_wp(space, 4 * SLOT, length, 1) is None
        assert marks(space, 16, 4) == after
        touch(space, 4 * SLOT, 4 * SLOT + PAGE)
        assert marks(space, 16, 4) == left


def test_swapped_pages_stay_protected() -> None:
    space = armed("AAAA")
    assert swapout(space, 0, 2 * PAGE) is None
    assert marks(space, 0, 4) == "ssww"
    peek(space, 0, PAGE)
    touch(space, PAGE, 2 * PAGE)
    assert marks(space, 0, 4) == "wWww"


def test_mprotect_gives_no_right_to_write_past_the_monitor() -> None:
    space = armed("AAAA")
    touch(space, 0, PAGE)
    assert mprotect(space, 0, SLOT, 1) is None
    assert mprotect(space, 0, SLOT, 3) is None
    assert marks(space, 0, 4) == "Wwww"


@pytest.mark.parametrize(("kernel", "result"), [("linux-6.1", Errno.ENOENT), ("linux-6.12", None)])
def test_protection_over_several_vmas(kernel: str, result: Errno | None) -> None:
    space = scene("AAAA BBBB CCCC", kernel)
    assert uffd_register(space, 0, 2 * SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, 0, 2 * SLOT, 1) is result
    assert uffd_wp(space, 2 * SLOT, SLOT, 1) is Errno.ENOENT
    assert uffd_wp(space, SLOT, 1, 1) is Errno.EINVAL


def test_requests_have_to_wait_while_mappings_change() -> None:
    space = armed("AAAA")
    space.uffds[0].prepare("remap", Range(0, SLOT))
    assert uffd_wp(space, 0, SLOT, 0) is Errno.EAGAIN
    space.uffds[0].complete()
    assert uffd_wp(space, 0, SLOT, 0) is None


def test_missing_pages_come_small_and_with_an_anon_vma() -> None:
    space = scene("aaaa")
    assert madvise(space, 0, SLOT, MADV_HUGEPAGE) is None
    assert uffd_register(space, 0, SLOT, UFFDIO_REGISTER_MODE_MISSING, 0) is None
    peek(space, 0, PAGE)
    assert space.vmas.lookup(0).anon_vma is not None  # type: ignore[union-attr]
    touch(space, 0, 2 * PAGE)
    assert not space.tree.huge
    assert shown(space, 1) == "AAaa"


def test_populating_stops_at_the_first_page_that_is_kept_out() -> None:
    space = AddressSpace(tiny("linux-6.1"))
    assert mmap(space, 0, 2 * SLOT, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) == 0
    missing = (UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_SIGBUS)
    assert uffd_register(space, 0, 2 * SLOT, *missing) is None
    assert madvise(space, 0, 2 * SLOT, MADV_POPULATE_READ) is Errno.EFAULT
    assert strip_tables(space, 0, 2) == "o."


def test_collapse_neither_fills_holes_nor_drops_protections() -> None:
    space = armed("AAAA", "linux-6.18")
    assert madvise(space, 0, SLOT, MADV_COLLAPSE) is Errno.EINVAL
    assert marks(space, 0, 4) == "wwww"
    assert uffd_wp(space, 0, SLOT, 0) is None
    assert madvise(space, 0, SLOT, MADV_COLLAPSE) is None


@pytest.mark.parametrize("holes", [0, 1])
def test_collapse_fills_no_hole_of_an_object_that_is_watched_elsewhere(holes: int) -> None:
    space = mapped(MAP_SHARED, 3, "linux-6.18", 8)
    assert mremap(space, 16 * PAGE, 0, 2 * SLOT, MOVE, 32 * PAGE) == 32 * PAGE
    touch(space, 16 * PAGE, (24 - holes) * PAGE)
    assert uffd_register(space, 20 * PAGE, PAGE, UFFDIO_REGISTER_MODE_MISSING, 0) is None
    assert madvise(space, 32 * PAGE, SLOT, MADV_COLLAPSE) is None
    assert madvise(space, 36 * PAGE, SLOT, MADV_COLLAPSE) is (Errno.EBUSY if holes else None)
    assert strip_tables(space, 8, 2) == ("H." if holes else "HH")


# --- moves ---------------------------------------------------------------------------------------


@explains("moved-leaves-uffd")
@pytest.mark.parametrize("new", [32, 33])
def test_a_move_without_its_event_leaves_protection_behind(new: int) -> None:
    space = armed("AAAA")
    assert to(space, 0, new, 4) == new * PAGE
    assert marks(space, new, 4) == "rrrr"
    assert registered(space) == []


@explains("remap-event-as-asked", "moved-told")
@pytest.mark.parametrize("new", [32, 33])
def test_a_move_with_its_event_takes_protection_along(new: int) -> None:
    space = armed("AAAA", features=FOLLOWS)
    assert to(space, 0, new, 4) == new * PAGE
    assert marks(space, new, 4) == "wwww"
    assert registered(space) == [(new, new + 4)]
    context = space.uffds[FOLLOWS]
    assert context.events == [("remap", Range(new * PAGE, (new + 4) * PAGE), 0)]
    assert context.changing == 0


def test_marks_for_later_are_dropped_with_the_protection() -> None:
    for features, after in ((0, "rr.."), (FOLLOWS, "wwmm")):
        space = shared()
        assert uffd_register(space, 0, SLOT, UFFDIO_REGISTER_MODE_WP, features) is None
        assert uffd_wp(space, 0, SLOT, 1) is None
        assert to(space, 0, 33, 4) == 33 * PAGE
        assert marks(space, 33, 4) == after


def test_a_huge_page_and_a_swapped_one_lose_their_protection() -> None:
    space = huge()
    assert uffd_register(space, 4 * SLOT, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, 4 * SLOT, SLOT, 1) is None
    assert to(space, 16, 32, 4) == 32 * PAGE
    assert entry(space, 32) & (UFFD_WP | PRESENT) == PRESENT  # type: ignore[operator]
    space = armed("AAAA")
    assert swapout(space, 0, SLOT) is None
    assert to(space, 0, 33, 4) == 33 * PAGE
    assert not entry(space, 33) & (UFFD_WP | MARKER)  # type: ignore[operator]


@explains("uffd-keeps-tables")
def test_no_whole_table_moves_where_protection_is_to_be_cleared() -> None:
    """An emptied table of its own stays behind with DONTUNMAP."""
    for features, tables in ((0, 4), (FOLLOWS, 2)):
        space = armed("AAAA AAAA", pages=8, features=features)
        assert to(space, 0, 32, 8, MOVE | MREMAP_DONTUNMAP) == 32 * PAGE
        assert space.tree.counts[PTE] == tables
        assert registered(space)[0] == (0, 8)


LAST = replace(tiny("linux-6.12"), uffd_wp_cleared_last=True)


@explains("marks-put-back")
@pytest.mark.parametrize(("new", "last_table"), [(32, 3), (33, 4)])
def test_protection_may_be_cleared_when_all_has_moved(new: int, last_table: int) -> None:
    space = armed("AAAA AAAA", LAST, pages=8)
    assert swapout(space, 0, PAGE) is None
    space.failures.arm(PAGETABLE, last_table)
    assert to(space, 0, new, 8) is Errno.ENOMEM
    assert (marks(space, 0, 8), registered(space)) == ("swwwwwww", [(0, 8)])
    assert to(space, 0, new, 8) == new * PAGE
    assert (marks(space, new, 8), registered(space)) == ("srrrrrrr", [])
    assert not entry(space, new) & UFFD_WP  # type: ignore[operator]


def test_marks_for_later_may_go_last_as_well() -> None:
    space = shared(LAST)
    assert uffd_register(space, 0, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, 0, SLOT, 1) is None
    assert to(space, 0, 33, 4) == 33 * PAGE
    assert marks(space, 33, 4) == "rr.."


@pytest.mark.parametrize(
    ("apart", "features", "left"),
    [(False, 0, []), (True, 0, [(4, 8)]), (True, FOLLOWS, [(0, 8)])],
)
def test_a_copy_that_leaves_its_userfaultfd_may_merge_with_nobody(
    apart: bool, features: int, left: list[tuple[int, int]]
) -> None:
    """The copy of the first half comes back to the second one, which has not moved."""
    space = scene("aaaa aaaa", replace(tiny("linux-6.12"), uffd_copy_unmerged=apart))
    assert to(space, 0, 32, 4) == 32 * PAGE
    for first in (4, 32):
        mode = UFFDIO_REGISTER_MODE_WP
        assert uffd_register(space, first * PAGE, SLOT, mode, features) is None
    assert to(space, 32, 0, 4) == 0
    assert registered(space) == left


def rules_of_a_move_that_fails(kernel: Kernel) -> list[str]:
    """Of a move whose second slot finds no table."""
    space = armed("AAAA AAAA AAAA", kernel, pages=12)
    space.failures.arm(PAGETABLE, 3)
    assert to(space, 0, 32, 12) is Errno.ENOMEM
    assert tags(space) == {page: 1 + page for page in range(12)}
    return [violation.rule for violation in space.violations]


@explains("uffd-keeps-tables-late", "marks-lost-by-rollback")
def test_a_rollback_decides_as_the_move_did() -> None:
    """CVE-2025-39775: the old VMA was looked at only, and after the warning (B-08)."""
    assert rules_of_a_move_that_fails(tiny("linux-6.12")) == []
    old = replace(tiny("linux-6.12"), uffd_checks_both=False)
    assert rules_of_a_move_that_fails(old) == ["rollback-dest-none"]
    assert "rollback-dest-none" in rules_of_a_move_that_fails(tiny("linux-6.1"))


@explains("monitors-told")
def test_what_a_move_unmaps_is_announced() -> None:
    space = scene("AAAA BBBB")
    assert (
        uffd_register(space, SLOT, SLOT, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_EVENT_UNMAP)
        is None
    )
    assert to(space, 0, 4, 4) == SLOT
    context = space.uffds[UFFD_FEATURE_EVENT_UNMAP]
    assert context.events == [("unmap", Range(SLOT, 2 * SLOT), 0)]
    assert context.changing == 0
    both = FOLLOWS | UFFD_FEATURE_EVENT_UNMAP
    assert uffd_register(space, SLOT, SLOT, UFFDIO_REGISTER_MODE_MISSING, both) is None
    assert to(space, 4, 32, 4) == 32 * PAGE
    assert [event.kind for event in space.uffds[both].events] == ["remap", "unmap"]
    assert munmap(space, 32 * PAGE, PAGE) is None
    assert space.uffds[both].events == [("unmap", Range(32 * PAGE, 33 * PAGE), 0)]


@explains("several-watched")
def test_armed_memory_moves_alone() -> None:
    space = scene("AAAA BBBB", "linux-6.18")
    assert uffd_register(space, SLOT, SLOT, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert to(space, 0, 32, 8) is Errno.EFAULT
    assert shown(space, 10) == ".... AAAA .... .... .... .... .... .... BBBB ...."
    assert to(space, 4, 16, 5) is Errno.EFAULT
    assert to(space, 4, 16, 4) == 16 * PAGE


# --- features ------------------------------------------------------------------------------------

UNPOPULATED = UFFD_FEATURE_WP_UNPOPULATED


@pytest.mark.parametrize(
    ("name", "bits"),
    [("linux-5.0", 0b1_1111_1110), ("linux-6.1", 0x1FFF), ("linux-6.7", 0xFFFF)]
    + [(name, 0x1FFFF) for name in ("linux-6.12", "linux-6.18")],
)
def test_the_features_of_a_release(name: str, bits: int) -> None:
    """Measured on 6.1.176, 6.12.43 and 6.18.44."""
    kernel = kernel_named(name, "tiny")
    granted = 0
    for bit in range(64):
        error = uffd_register(
            scene("aaaa", kernel), 0, PAGE, UFFDIO_REGISTER_MODE_MISSING, 1 << bit
        )
        granted |= (error is None) << bit
        assert error in (None, Errno.EINVAL)
    assert granted == bits


def test_marks_where_nothing_is() -> None:
    space = armed("aAaa", features=UNPOPULATED)
    assert marks(space, 0, 4) == "mwmm"
    assert not peek(space, 0, PAGE)
    assert not touch(space, 2 * PAGE, 3 * PAGE)
    assert marks(space, 0, 4) == "wwWm"
    assert uffd_wp(space, 0, 4 * PAGE, 0) is None
    assert marks(space, 3, 1) == "."


@pytest.mark.parametrize(
    ("features", "there"), [(UNPOPULATED, "...."), (UNPOPULATED | FOLLOWS, "mmmm")]
)
def test_marks_move_with_the_registration(features: int, there: str) -> None:
    space = armed("aaaa ....", features=features)
    assert to(space, 0, 4, 4) == 4 * PAGE
    assert marks(space, 0, 8) == "...." + there


def test_what_throws_private_pages_away_takes_their_marks_but_no_guards() -> None:
    space = scene("aAaa", "linux-6.18")
    assert madvise(space, 2 * PAGE, PAGE, MADV_GUARD_INSTALL) is None
    assert uffd_register(space, 0, 4 * PAGE, UFFDIO_REGISTER_MODE_WP, UNPOPULATED) is None
    assert uffd_wp(space, 0, 4 * PAGE, 1) is None
    assert madvise(space, 0, 4 * PAGE, MADV_DONTNEED) is None
    assert [entry(space, page) for page in range(4)] == [None, None, MARKER, None]


def test_a_monitor_of_missing_pages_copies_one_over_a_mark() -> None:
    space = scene("aaaa", "linux-6.12")
    both = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP
    assert uffd_register(space, 0, 4 * PAGE, both, UNPOPULATED) is None
    assert uffd_wp(space, 0, 4 * PAGE, 1) is None
    assert not peek(space, 0, PAGE)
    assert marks(space, 0, 4) == "Wmmm"


@pytest.mark.parametrize("features", [UFFD_FEATURE_WP_ASYNC, 0])
def test_a_protected_huge_page_is_written_a_page_at_a_time(features: int) -> None:
    space = huge("linux-6.12")
    assert uffd_register(space, 16 * PAGE, 4 * PAGE, UFFDIO_REGISTER_MODE_WP, features) is None
    assert uffd_wp(space, 16 * PAGE, 4 * PAGE, 1) is None
    assert not touch(space, 17 * PAGE, 18 * PAGE)
    assert marks(space, 16, 4) == "wWww"


@pytest.mark.parametrize(
    ("mode", "write", "refused", "left"),
    [
        (UFFDIO_REGISTER_MODE_MISSING, True, [0, 2, 3], ".W.."),
        (UFFDIO_REGISTER_MODE_MISSING, False, [0, 2, 3], ".W.."),
        (UFFDIO_REGISTER_MODE_WP, True, [0, 1, 2, 3], "wwww"),
        (UFFDIO_REGISTER_MODE_WP, False, [], "wwww"),
    ],
)
def test_told_by_signal(mode: int, write: bool, refused: list[int], left: str) -> None:
    space = scene("aAaa", "linux-6.12")
    features = UFFD_FEATURE_SIGBUS | UNPOPULATED
    assert uffd_register(space, 0, 4 * PAGE, mode, features) is None
    if mode == UFFDIO_REGISTER_MODE_WP:
        assert uffd_wp(space, 0, 4 * PAGE, 1) is None
    faulted = (touch if write else peek)(space, 0, 4 * PAGE)
    pages = [at // PAGE + i for at, count in faulted.bus for i in range(count)]
    assert (pages, faulted.segv) == (refused, [])
    assert marks(space, 0, 4) == left


def test_what_is_told_by_signal_is_not_populated() -> None:
    space = scene("Aaaa", "linux-6.12")
    features = UFFD_FEATURE_SIGBUS
    assert uffd_register(space, 0, 4 * PAGE, UFFDIO_REGISTER_MODE_MISSING, features) is None
    assert madvise(space, 0, 4 * PAGE, MADV_POPULATE_READ) is Errno.EFAULT
    assert mlock(space, 0, 4 * PAGE) is Errno.ENOMEM
    assert marks(space, 0, 4) == "W..."


# --- read-write protection -----------------------------------------------------------------------


def closed(space: AddressSpace, *, features: int = 0) -> AddressSpace:
    """The space, its first four pages registered for read-write protection, and protected."""
    mode, features = UFFDIO_REGISTER_MODE_RWP, features | UFFD_FEATURE_RWP
    assert uffd_register(space, 0, 4 * PAGE, mode, features) is None
    assert uffd_rwp(space, 0, 4 * PAGE, 1) is None
    return space


def test_what_is_there_is_protected_until_it_is_accessed() -> None:
    space = closed(scene("AAA. ....", "linux-7.3"))
    assert marks(space, 0, 4) == "www."
    assert not peek(space, PAGE, 2 * PAGE)
    assert marks(space, 0, 4) == "wWw."
    assert not touch(space, 2 * PAGE, 3 * PAGE)
    assert marks(space, 0, 4) == "wWW."
    assert uffd_rwp(space, 0, 4 * PAGE, 0) is None
    assert marks(space, 0, 4) == "WWW."


def test_another_cpu_does_not_get_at_a_protected_page() -> None:
    space = closed(scene("AAAA", "linux-7.3"))
    touch_on(space, 1, 0)
    assert not space.tlb.cached
    assert uffd_rwp(space, 0, PAGE, 0) is None
    touch_on(space, 1, 0)
    assert space.tlb.cached


def test_it_is_kept_in_swap_and_told_once_the_page_is_back() -> None:
    space = closed(scene("AAAA", "linux-7.3"), features=UFFD_FEATURE_SIGBUS)
    assert swapout(space, 0, 2 * PAGE) is None
    assert marks(space, 0, 4) == "ssww"
    assert peek(space, 0, PAGE).bus == [(0, 1)]
    assert marks(space, 0, 4) == "wsww"


@pytest.mark.parametrize(("features", "told"), [(0, [(0, 4)]), (UFFD_FEATURE_RWP_ASYNC, [])])
def test_a_signal_tells_of_reads_unless_the_kernel_lets_them_in(
    features: int, told: list[tuple[int, int]]
) -> None:
    space = closed(scene("AAAA", "linux-7.3"), features=UFFD_FEATURE_SIGBUS | features)
    assert peek(space, 0, 4 * PAGE).bus == told


def test_a_protected_page_of_an_object_leaves_no_mark() -> None:
    space = closed(shared("linux-7.3"))
    assert marks(space, 0, 4) == "ww.."
    assert madvise(space, 0, 4 * PAGE, MADV_DONTNEED) is None
    assert marks(space, 0, 4) == "...."


@pytest.mark.parametrize(("features", "left"), [(0, "rrrr"), (FOLLOWS, "wwww")])
def test_what_moves_is_protected_if_its_monitor_follows(features: int, left: str) -> None:
    space = closed(scene("AAAA .... ....", "linux-7.3"), features=features)
    assert to(space, 0, 8, 4) == 8 * PAGE
    assert marks(space, 8, 4) == left


@pytest.mark.parametrize("protect", [uffd_wp, uffd_rwp])
def test_each_protection_wants_its_own_registration(
    protect: Callable[[AddressSpace, int, int, int], Errno | None],
) -> None:
    space = scene("AAAA AAAA", "linux-7.3")
    other = UFFDIO_REGISTER_MODE_WP if protect is uffd_rwp else UFFDIO_REGISTER_MODE_RWP
    mode = UFFDIO_REGISTER_MODE_RWP if protect is uffd_rwp else UFFDIO_REGISTER_MODE_WP
    assert uffd_register(space, 0, SLOT, mode, UFFD_FEATURE_RWP) is None
    assert uffd_register(space, SLOT, SLOT, other, UFFD_FEATURE_RWP) is None
    assert protect(space, 0, 2 * SLOT, 1) is Errno.ENOENT
    # Write protection stops where it may not go on, read-write protection does not begin.
    assert marks(space, 0, 4) == ("WWWW" if protect is uffd_rwp else "wwww")


def test_read_write_protection_is_of_7_3() -> None:
    assert uffd_rwp(scene("AAAA", "linux-7.2"), 0, SLOT, 1) is Errno.EINVAL
    assert uffd_rwp(scene("AAAA", "linux-7.3"), 0, SLOT, 1) is Errno.ENOENT
    assert uffd_rwp(AddressSpace(tiny("linux-7.3")), 0, SLOT, 1) is Errno.ENOENT
    assert uffd_rwp(scene("AAAA", "linux-7.3"), 1, SLOT, 1) is Errno.EINVAL


def test_a_refused_madv_free_is_announced_if_the_memory_is_shared() -> None:
    """madvise_dontneed_free() tells the monitor before it asks whether the memory is private."""
    space = AddressSpace(tiny("linux-6.12"))
    assert mmap(space, 0, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == 0
    register = (UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_EVENT_REMOVE)
    assert uffd_register(space, 0, 4 * PAGE, *register) is None
    assert madvise(space, 0, 2 * PAGE, MADV_FREE) is Errno.EINVAL
    context = space.uffds[UFFD_FEATURE_EVENT_REMOVE]
    assert context.events == [("remove", Range(0, 2 * PAGE), 0)]
