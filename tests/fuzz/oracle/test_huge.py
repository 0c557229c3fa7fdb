"""Huge pages in the oracle: what is rounded to them, and what goes whole."""

import pytest

from engine.base.uapi import MAP_HUGETLB, PROT_READ, PROT_WRITE
from fuzz.case import Faults
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import FIXED, PRIVATE, SHARED, TO, advise, mmap, mremap, on

HUGE = MAP_HUGETLB


def huge_oracle() -> Oracle:
    """Four pages make a huge one; [4, 12) is mapped with them."""
    oracle = Oracle(PAGE, 64, 4 * PAGE)
    assert not oracle.apply(mmap(4, 5, flags=PRIVATE | FIXED | HUGE), 4 * PAGE)
    assert not oracle.apply(on("touch", 4, 8), 0)
    return oracle


def test_huge_pages_are_rounded_to() -> None:
    oracle = huge_oracle()
    assert oracle.mapped == [(4, 12)]
    assert not oracle.apply(mremap(4, 1, 1, TO, 20), 20 * PAGE)
    assert oracle.mapped == [(8, 12), (20, 24)]
    assert oracle.contents == {8: 5, 9: 6, 10: 7, 11: 8, 20: 1, 21: 2, 22: 3, 23: 4}
    assert not oracle.apply(advise(8, 3, "DONTNEED"), 0)
    assert oracle.contents.keys() == {8, 9, 10, 11, 20, 21, 22, 23}  # less than a huge page
    assert not oracle.apply(advise(20, 4, "DONTNEED"), 0)
    assert oracle.contents.keys() == {8, 9, 10, 11}


@pytest.mark.parametrize(
    ("whole", "left"), [(False, {4, 9, 10, 11}), (True, {4, 5, 6, 7, 8, 9, 10, 11})]
)
def test_a_hole_in_huge_pages(whole: bool, left: set[int]) -> None:
    oracle = Oracle(huge_bytes=4 * PAGE, whole_holes=lambda: whole)
    assert oracle.apply(mmap(4, 8, flags=SHARED | FIXED | MAP_HUGETLB), 4 * PAGE) == []
    assert oracle.apply(on("touch", 4, 8), 0) == []
    assert oracle.apply(advise(5, 4, "REMOVE"), 0) == []
    assert oracle.contents.keys() == left
    assert oracle.apply(advise(4, 5, "REMOVE"), 0) == []
    assert oracle.contents.keys() == {9, 10, 11} | ({8} if whole else set())


def test_huge_pages_may_run_out() -> None:
    oracle = huge_oracle()
    assert not oracle.apply(on("touch", 4, 8), Faults(bus=((8, 4),)))
    assert [m.kind for m in oracle.apply(on("touch", 4, 8), Faults(segv=((8, 4),)))] == ["access"]


def test_a_huge_page_is_not_cut_but_what_lies_before_may_have_changed() -> None:
    oracle = huge_oracle()
    assert not oracle.apply(on("mprotect", 4, 6, PROT_READ), "-EINVAL")
    assert not oracle.apply(on("touch", 4, 4), Faults(segv=((4, 4),)))
    assert not oracle.apply(on("touch", 4, 4), 0)


def test_a_huge_page_is_not_cut_by_the_protection_it_has() -> None:
    oracle = huge_oracle()
    assert not oracle.apply(on("mprotect", 5, 4, PROT_READ | PROT_WRITE), 0)
    assert not oracle.apply(advise(4, 4, "DONTNEED"), 0)
    assert oracle.contents.keys() == {8, 9, 10, 11}
