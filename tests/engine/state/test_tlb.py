"""The TLBs of other CPUs: what a flush takes away, and one that is put off."""

import pytest

from engine.state.tlb import Tlb, Translation
from tests.lib.drawn import PAGE, SLOT


def tlb() -> Tlb:
    """CPU 0 keeps pages 0 to 7, CPU 1 page 2 and page 9, of a huge one; their frames are 100 on."""
    made = Tlb()
    made.cached = {(0, i * PAGE): Translation(100 + i, True, PAGE) for i in range(8)}
    made.cached[1, 2 * PAGE] = Translation(102, False, PAGE)
    made.cached[1, 2 * SLOT + PAGE] = Translation(109, True, SLOT)
    return made


def kept(tlb: Tlb) -> list[tuple[int, int]]:
    """CPU and page of what is still there."""
    return sorted((cpu, addr // PAGE) for cpu, addr in tlb.cached)


@pytest.mark.parametrize(
    ("first", "last", "gone"),
    [
        pytest.param(0, 0, [], id="nothing"),
        pytest.param(1, 2, [(0, 1)], id="a page"),
        pytest.param(2, 4, [(0, 2), (0, 3), (1, 2)], id="of every CPU"),
        pytest.param(7, 8, [(0, 7)], id="up to the huge page"),
        pytest.param(8, 9, [(1, 9)], id="another page of the huge one"),
        pytest.param(11, 30, [(1, 9)], id="its last page"),
        pytest.param(12, 30, [], id="behind it"),
    ],
)
def test_a_flush_takes_what_it_overlaps(first: int, last: int, gone: list[tuple[int, int]]) -> None:
    flushed = tlb()
    flushed.flush(first * PAGE, last * PAGE)
    assert sorted([*kept(flushed), *gone]) == kept(tlb())


@pytest.mark.parametrize(
    ("first", "count", "gone"),
    [(102, 1, [(0, 2), (1, 2)]), (106, 3, [(0, 6), (0, 7)]), (108, 4, [(1, 9)]), (110, 9, [])],
)
def test_frames_are_flushed_wherever_they_are_mapped(
    first: int, count: int, gone: list[tuple[int, int]]
) -> None:
    flushed = tlb()
    flushed.flush_frames(first, count)
    assert sorted([*kept(flushed), *gone]) == kept(tlb())


def test_a_flush_that_was_put_off_comes_once_and_takes_everything() -> None:
    late = tlb()
    late.flush_pending()
    assert kept(late) == kept(tlb())
    late.put_off()
    assert late.pending
    assert kept(late) == kept(tlb())
    late.flush_pending()
    assert not late.cached
    assert not late.pending


def test_there_is_nothing_to_put_off_where_nothing_is_kept() -> None:
    empty = Tlb()
    empty.put_off()
    assert not empty.pending


def test_a_flush_of_everything_leaves_nothing_for_later() -> None:
    late = tlb()
    late.put_off()
    late.flush_all()
    assert not late.cached
    assert not late.pending
