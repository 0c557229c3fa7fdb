"""The pool of huge pages: what is promised, what is taken, and that files give it all back."""

import pytest

from engine.base.kernel import KERNELS
from engine.state.hugepool import POOL_PAGES, HugeFile, HugePool, file_of
from engine.state.vma import VM_HUGETLB, VM_SHARED, Vma

PAGE, HUGE = 0x1000, 4
H = HUGE * PAGE


def huge_file(pool: HugePool, pages: int = 2) -> HugeFile:
    """A file of so many huge pages."""
    return HugeFile(1, pages * HUGE, HUGE, PAGE, pool)


def counters(pool: HugePool) -> tuple[int, int]:
    """How many pages were taken, and how many are promised."""
    return POOL_PAGES - pool.free, pool.reserved


# --- the pool -------------------------------------------------------------------------------------


def test_no_more_is_promised_than_there_is() -> None:
    pool = HugePool(KERNELS["linux-7.3"])
    assert not pool.reserve(POOL_PAGES + 1)
    assert counters(pool) == (0, 0)
    assert pool.reserve(POOL_PAGES - 1)
    assert not pool.reserve(2)
    assert pool.reserve(1)
    assert counters(pool) == (0, POOL_PAGES)


def test_what_is_promised_to_others_cannot_be_taken() -> None:
    pool = HugePool(KERNELS["linux-7.3"])
    assert pool.reserve(POOL_PAGES - 1)
    assert pool.take(promised=False)
    assert not pool.take(promised=False)
    assert counters(pool) == (1, POOL_PAGES - 1)
    for taken in range(2, POOL_PAGES + 1):
        assert pool.take(promised=True)
        assert counters(pool) == (taken, POOL_PAGES - taken)


# --- a file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "pages", "reserves", "promised"),
    [(0, 4, True, 2), (0, 2, True, 1), (2, 2, True, 1), (1, 2, True, 2), (0, 4, False, 0)],
)
def test_a_private_mapping_owns_what_it_never_faulted_in(
    first: int, pages: int, reserves: bool, promised: int
) -> None:
    file = huge_file(HugePool(KERNELS["linux-7.3"]), 4)
    file.faulted |= {0, 3}
    vma = Vma(0, pages * H, VM_HUGETLB, first * HUGE, backing=file)
    vma.reserves = reserves
    assert file_of(vma) is file
    assert file.huge_pages(vma) == pages
    assert file.promised_to(vma) == promised


@pytest.mark.parametrize(("reserved", "promised"), [(True, 3), (False, 0)])
def test_a_shared_file_is_promised_what_it_does_not_have(reserved: bool, promised: int) -> None:
    file = huge_file(HugePool(KERNELS["linux-7.3"]), 4)
    file.faulted.add(1)
    file.reserved = reserved
    assert file.promised == promised


def test_a_private_mapping_gives_back_its_pages_and_promises() -> None:
    pool = HugePool(KERNELS["linux-7.3"])
    file = huge_file(pool, 3)
    vma = Vma(0, 3 * H, VM_HUGETLB, 0, backing=file)
    vma.reserves = pool.reserve(3)
    assert pool.take(promised=True)
    file.faulted.add(1)
    assert counters(pool) == (1, 2)
    file.close(vma, [512], elsewhere=[vma])
    assert counters(pool) == (0, 0)


def test_only_huge_pages_stay_whole() -> None:
    file = huge_file(HugePool(KERNELS["linux-7.3"]))
    assert [file.may_split(at) for at in (0, PAGE, H - PAGE, H, 5 * H)] == [1, 0, 0, 1, 1]


def test_a_shared_file_goes_with_its_last_mapping() -> None:
    pool = HugePool(KERNELS["linux-7.3"])
    file, vma = huge_file(pool), Vma(0, 2 * HUGE * PAGE, VM_SHARED | VM_HUGETLB, 0)
    assert pool.reserve(2)
    file.reserved = True
    assert pool.take(promised=True)
    file.faulted.add(0)
    before = pool.free, pool.reserved
    file.close(vma, [512], [vma])
    assert (pool.free, pool.reserved) == before
    for _ in range(2):  # gone is gone
        file.close(vma, [512], [])
        assert (pool.free, pool.reserved) == (before[0] + 1, 0)
