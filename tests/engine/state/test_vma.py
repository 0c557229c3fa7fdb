"""The VMA tree: lookups against a plain list, splits, resizing, free space."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.address import Range
from engine.base.failures import Failures
from engine.base.limits import Limits
from engine.state.backing import Shmem
from engine.state.vma import VM_READ, VM_SHARED, VM_WRITE, AnonVma, Vma, VmaTree
from tests.lib.constants import PAGE

RW = VM_READ | VM_WRITE


def tree_of(*ranges: tuple[int, int]) -> VmaTree:
    """VMAs over the given pages."""
    tree = VmaTree(12, Failures(), Limits())
    for start, end in ranges:
        tree.insert(Vma(start * PAGE, end * PAGE, RW, start))
    return tree


@st.composite
def disjoint(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Disjoint page ranges, some of them adjacent, in any order."""
    cuts = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
    pairs = list(pairwise(cuts))
    kept = [pair for pair in pairs if draw(st.booleans())]
    return draw(st.permutations(kept))


@given(disjoint(), st.integers(0, 41), st.integers(1, 10))
def test_lookups_agree_with_a_search_through_all(
    ranges: list[tuple[int, int]], page: int, pages: int
) -> None:
    tree = tree_of(*ranges)
    ordered = sorted(ranges)

    def of(vma: Vma | None) -> tuple[int, int] | None:
        return None if vma is None else (vma.start // PAGE, vma.end // PAGE)

    def first(matching: list[tuple[int, int]]) -> tuple[int, int] | None:
        return matching[0] if matching else None

    address, end = page * PAGE, (page + pages) * PAGE
    hits = [r for r in ordered if r[0] < page + pages and page < r[1]]
    assert [of(vma) for vma in tree] == ordered
    assert len(tree) == len(ordered)
    assert of(tree.find(address)) == first([r for r in ordered if page < r[1]])
    assert of(tree.lookup(address)) == first([r for r in ordered if r[0] <= page < r[1]])
    assert of(tree.lookup(address + 1)) == of(tree.lookup(address))
    assert of(tree.before(address)) == first([r for r in reversed(ordered) if r[0] < page])
    assert of(tree.after(address)) == first([r for r in ordered if r[0] >= page])
    assert [of(vma) for vma in tree.intersecting(address, end)] == hits
    assert of(tree.intersection(address, end)) == first(hits)


@given(disjoint(), st.integers(1, 30))
def test_free_space_is_the_highest_hole_at_its_top(
    ranges: list[tuple[int, int]], pages: int
) -> None:
    tree = tree_of(*ranges)
    busy = {page for start, end in ranges for page in range(start, end)}
    low, high = 3, 38
    fits = [
        start
        for start in range(low, high - pages + 1)
        if busy.isdisjoint(range(start, start + pages))
    ]
    expected = max(fits) * PAGE if fits else None
    assert tree.free_space(Range(low * PAGE, high * PAGE), pages * PAGE) == expected


def test_a_vma_that_overlaps_or_is_empty_is_a_mistake_of_ours() -> None:
    tree = tree_of((4, 8))
    for start, end in ((7, 9), (3, 5), (5, 6), (4, 8), (0, 20), (9, 9)):
        with pytest.raises(AssertionError):
            tree.insert(Vma(start * PAGE, end * PAGE, RW, 0))
    tree.insert(Vma(8 * PAGE, 9 * PAGE, RW, 8))
    tree.insert(Vma(3 * PAGE, 4 * PAGE, RW, 3))


def test_a_split_shares_everything_but_range_and_offset() -> None:
    tree = tree_of()
    vma = Vma(4 * PAGE, 8 * PAGE, RW | VM_SHARED, 10, AnonVma(1), Shmem(1, 4))
    tree.insert(vma)
    upper = tree.split(vma, 5 * PAGE)
    assert list(tree) == [vma, upper]
    assert (vma.range, upper.range) == ((4 * PAGE, 5 * PAGE), (5 * PAGE, 8 * PAGE))
    assert (vma.pgoff, upper.pgoff) == (10, 11)
    assert (upper.flags, upper.anon_vma, upper.backing) == (vma.flags, vma.anon_vma, vma.backing)


def test_moving_the_start_keeps_every_page_at_its_offset() -> None:
    tree = tree_of((4, 8))
    (vma,) = tree
    tree.resize(vma, 2 * PAGE, 9 * PAGE)
    assert (vma.range, vma.pgoff) == ((2 * PAGE, 9 * PAGE), 2)
    assert tree.lookup(2 * PAGE) is vma
    tree.resize(vma, 5 * PAGE, 6 * PAGE)
    assert (vma.range, vma.pgoff) == ((5 * PAGE, 6 * PAGE), 5)
    assert tree.lookup(4 * PAGE) is None


@pytest.mark.parametrize(
    ("ranges", "free"), [([], True), ([(3, 4)], True), ([(4, 5)], False), ([(5, 6)], False)]
)
def test_the_head_of_a_slot_is_free_if_no_vma_is_in_it(
    ranges: list[tuple[int, int]], free: bool
) -> None:
    tree = tree_of((6, 8), *ranges)
    vma = tree.lookup(6 * PAGE)
    assert vma is not None
    assert tree.head_is_free(vma, 6 * PAGE, 4 * PAGE) is free


def test_removal() -> None:
    tree = tree_of((0, 1), (2, 3))
    first, second = tree
    tree.remove(first)
    assert list(tree) == [second]
    with pytest.raises(AssertionError):
        tree.remove(first)
    assert len(tree) == 1


def test_what_a_vma_looks_like() -> None:
    vma = Vma(0x1000, 0x2000, VM_READ | VM_SHARED, 1)
    assert repr(vma) == "<Vma [0x1000, 0x2000) r--s pgoff 0x1>"
    assert vma.is_anonymous
    assert not Vma(0, PAGE, 0, 0, None, Shmem(3, 1)).is_anonymous
    assert repr(AnonVma(2)) == "anon_vma 2"
    assert repr(Shmem(3, 1)) == "shared object 3"
