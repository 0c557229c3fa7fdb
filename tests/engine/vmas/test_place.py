"""Where a mapping goes if the kernel may choose."""

import pytest

from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, Errno
from engine.calls.mmap import mmap
from engine.state.vma import VM_GROWSDOWN, VM_SHARED
from engine.vmas.place import find_address
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import SLOT, scene
from tests.lib.explains import explains

TOP = 256 * P
KERNELS = ["linux-6.1", "linux-6.12", "linux-6.18"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("hint", "place"),
    [
        pytest.param(6 * P, 6 * P, id="free"),
        pytest.param(6 * P + 1, 6 * P, id="rounded down"),
        pytest.param(5 * P, 252 * P, id="mapped"),
        pytest.param(7 * P, 7 * P, id="up to the next mapping"),
        pytest.param(8 * P, 252 * P, id="reaching into it"),
        pytest.param(TOP - 3 * P, TOP - 3 * P, id="up to the top"),
        pytest.param(TOP - 2 * P, 252 * P, id="beyond it"),
        pytest.param(P - 1, 252 * P, id="none"),
    ],
)
def test_a_hint_is_taken_if_it_is_free(hint: int, place: int, kernel: str) -> None:
    space = scene("aaaa aa.. ..bb", kernel)
    place = TOP - 3 * P if place == 252 * P else place
    assert find_address(space, hint, 3 * P, VM_SHARED) == place


def test_a_hint_stays_clear_of_the_guard_gap_of_a_stack() -> None:
    """stack_guard_gap is 256 pages, so in the tiny arena a stack has all below it to itself."""
    space = scene("." * 200 + "b")
    assert find_address(space, 100 * P, P, 0) == 100 * P
    space.vmas.lookup(200 * P).flags |= VM_GROWSDOWN  # type: ignore[union-attr]
    assert find_address(space, 100 * P, P, 0) == TOP - P


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_highest_hole_that_is_large_enough(kernel: str) -> None:
    space = scene("aaaa ...." + "b" * 240 + ".." + "c" * 3 + "...", kernel)
    assert [find_address(space, 0, pages * P, 0) for pages in (1, 2, 3)] == [
        255 * P,
        254 * P,
        253 * P,
    ]
    assert find_address(space, 0, 4 * P, VM_SHARED) == 4 * P
    assert find_address(space, 0, 5 * P, 0) is Errno.ENOMEM


@explains("place-aligned")
@pytest.mark.parametrize(
    ("kernel", "pages", "place"),
    [
        pytest.param("linux-6.6", 8, 247, id="before it was"),
        pytest.param("linux-6.7", 8, 244, id="whole slots"),
        pytest.param("linux-6.7", 4, 248, id="a slot"),
        pytest.param("linux-6.7", 7, 248, id="no whole slots"),
    ],
)
def test_whole_slots_are_aligned_for_huge_pages(kernel: str, pages: int, place: int) -> None:
    space = scene("." * 255 + "c", kernel)
    assert find_address(space, 0, pages * P, 0) == place * P


def test_not_if_there_was_a_hint() -> None:
    space = scene("aaaa" + "." * 251 + "c", "linux-6.18")
    assert find_address(space, P, 8 * P, 0) == 247 * P


def test_without_room_for_the_alignment_the_plain_rule_holds() -> None:
    space = scene("aaaa b......cc", "linux-6.12")
    mmap(space, 13 * P, TOP - 13 * P, 1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    assert find_address(space, 0, 4 * P, 0) == 7 * P
    assert find_address(space, 0, 8 * P, 0) is Errno.ENOMEM


@pytest.mark.parametrize("kernel", KERNELS)
def test_shared_memory_is_never_aligned(kernel: str) -> None:
    space = scene("." * 255 + "c", kernel)
    assert find_address(space, 0, 8 * P, VM_SHARED) == (255 - 8) * P


@explains("place-hugetlb")
@pytest.mark.parametrize(
    ("hint", "slots", "place"),
    [
        pytest.param(0, 1, 62, id="highest"),
        pytest.param(0, 60, 3, id="all there is"),
        pytest.param(0, 61, None, id="more than there is"),
        pytest.param(10 * SLOT, 2, 10, id="a hint"),
        pytest.param(9 * SLOT + P, 2, 10, id="a hint, rounded up"),
        pytest.param(SLOT, 1, 62, id="a hint that is taken"),
    ],
)
def test_huge_pages_of_hugetlb_begin_at_slots(hint: int, slots: int, place: int | None) -> None:
    space = scene("aaaa aaaa a..." + "." * 240 + "bbbb", "linux-6.18")
    found = find_address(space, hint, slots * SLOT, 0, huge=SLOT)
    assert found == (Errno.ENOMEM if place is None else place * SLOT)
