"""Unmapping as munmap does: what is refused, what is left, and that a seal keeps all of it."""

import pytest

from engine.base.failures import VMA
from engine.base.uapi import Errno
from engine.calls.mseal import mseal
from engine.vmas.unmap import make_removable, unmap
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, tags
from tests.lib.explains import explains

TOP = 1 << 20
WORD = 1 << 64


@explains("unmap-unaligned-or-outside", "unmap-of-nothing")
@pytest.mark.parametrize(
    ("addr", "length", "error"),
    [
        (1, P, "EINVAL"),
        (0, 0, "EINVAL"),
        (TOP + P, P, "EINVAL"),
        (0, TOP + P, "EINVAL"),
        (0, WORD - 1, "EINVAL"),
    ],
)
def test_errors(addr: int, length: int, error: str) -> None:
    space = scene("AAAA")
    assert unmap(space, addr, length) is Errno[error]
    assert shown(space, 1) == "AAAA"


@explains("free-nothing-below-neighbour", "free-less-above", "unmap-of-a-hole")
@pytest.mark.parametrize(
    ("picture", "addr", "pages", "after"),
    [
        ("AAAA", 0, 4, "...."),
        ("AAAA", 1, 2, "A..B"),
        ("AAAA", 0, 1, ".AAA"),
        ("AAAA", 3, 1, "AAA."),
        ("AABB .CC.", 1, 5, "A... ..B."),
        ("A..B", 1, 2, "A..B"),
        ("AAAA", 4, 4, "AAAA"),
    ],
)
def test_what_is_left(picture: str, addr: int, pages: int, after: str) -> None:
    space = scene(picture)
    assert unmap(space, addr * P, pages * P) is None
    assert shown(space, len(after) // 5 + 1) == after
    assert not check_state(space)


def test_a_length_is_rounded_up() -> None:
    space = scene("AAAA")
    assert unmap(space, 0, P + 1) is None
    assert shown(space, 1) == "..AA"


@explains("unmap-cuts-too-many")
def test_a_split_must_not_pass_the_map_count() -> None:
    space = scene("AAAA")
    space.max_map_count = 1
    assert unmap(space, P, P) is Errno.ENOMEM
    assert shown(space, 1) == "AAAA"
    assert unmap(space, 0, P) is None
    assert unmap(space, 3 * P, P) is None
    assert shown(space, 1) == ".AA."


@explains("unmap-cut-before-seal")
@pytest.mark.parametrize(
    ("first", "pages", "after"),
    [
        pytest.param(0, 8, "AABB CCDD", id="everything"),
        pytest.param(1, 2, "ABCC DDEE", id="reaching into it"),
        pytest.param(2, 1, "AABB CCDD", id="a part of it"),
        pytest.param(3, 2, "AABB CCDD", id="out of it"),
        pytest.param(4, 3, "AABB ...C", id="behind it"),
        pytest.param(0, 2, "..AA BBCC", id="below it"),
    ],
)
def test_a_seal_keeps_all_that_is_named(first: int, pages: int, after: str) -> None:
    """What comes before it is cut where the range begins."""
    space = scene("AABB CCDD")
    assert mseal(space, 2 * P, 2 * P) is None
    sealed = "." not in after
    assert unmap(space, first * P, pages * P) is (Errno.EPERM if sealed else None)
    assert shown(space, 2) == after
    assert not check_state(space)


def test_the_count_is_asked_before_the_seals() -> None:
    """Cutting one VMA in three: vms_gather_munmap_vmas()."""
    space = scene("AAAA")
    assert mseal(space, 0, 4 * P) is None
    space.max_map_count = 1
    assert make_removable(space, P, 2 * P) is Errno.ENOMEM
    assert make_removable(space, 0, 2 * P) is Errno.EPERM
    space.max_map_count = 2
    assert make_removable(space, P, 2 * P) is Errno.EPERM


def test_what_may_be_unmapped_is_not_cut_off_yet() -> None:
    space = scene("AAAA")
    assert make_removable(space, P, 2 * P) is None
    assert len(space.vmas) == 1


@explains("unmap-end-refused", "unmap-split-refused")
@pytest.mark.parametrize(
    ("attempt", "after"),
    [(1, "AABB CC.."), (2, "AABB CC.."), (3, "ABCC DD.."), (4, "ABCC DD.."), (5, "A... .B..")],
)
def test_without_memory_to_cut_it_off_nothing_is_unmapped(attempt: int, after: str) -> None:
    """Each cut takes a VMA and the links to its anon_vma; the first is not undone."""
    space = scene("AABB CC..")
    contents = tags(space)
    space.failures.arm(VMA, attempt)
    assert unmap(space, P, 4 * P) is (Errno.ENOMEM if attempt < 5 else None)
    assert shown(space, 2) == after
    assert attempt == 5 or tags(space) == contents
    assert not check_state(space)
