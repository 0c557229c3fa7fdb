"""What is behind a VMA, and what each kind of it refuses."""

from dataclasses import replace

import pytest

from engine.base.kernel import KERNELS, kernel_named
from engine.base.uapi import (
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP,
)
from engine.state.backing import ANONYMOUS, Backing, Shmem
from engine.state.hugepool import HugeFile, HugePool
from engine.state.vma import VM_HUGETLB, VM_SHARED, Vma

PAGE, HUGE = 0x1000, 4
MISSING, WP = UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP
MINOR = UFFDIO_REGISTER_MODE_MINOR
OLD = replace(kernel_named("linux-6.1"), uffd_wp_objects=False, uffd_minor_shared=False)


def huge_file(pool: HugePool | None = None) -> HugeFile:
    """A file of two huge pages."""
    return HugeFile(1, 2 * HUGE, HUGE, PAGE, pool or HugePool(KERNELS["linux-7.3"]))


def test_anonymous_memory_is_one_and_has_nothing_of_its_own() -> None:
    vma = Vma(0, PAGE, 0, 0)
    assert vma.backing is ANONYMOUS is vma.clone().backing
    assert vma.is_anonymous
    assert vma.makes_copies
    assert not ANONYMOUS.pages


@pytest.mark.parametrize("backing", [Shmem(1, 4), huge_file()])
@pytest.mark.parametrize("flags", [VM_SHARED, VM_HUGETLB, VM_SHARED | VM_HUGETLB])
def test_objects_are_not_anonymous(backing: Backing, flags: int) -> None:
    vma = Vma(0, PAGE, flags, 0, backing=backing)
    assert not vma.is_anonymous
    assert not vma.makes_copies


def test_only_huge_pages_stay_whole() -> None:
    assert ANONYMOUS.may_split(PAGE)
    assert Shmem(1, 4).may_split(PAGE)
    assert not huge_file().may_split(PAGE)
    assert huge_file().may_split(HUGE * PAGE)


@pytest.mark.parametrize(
    ("backing", "old", "new"),
    [
        (Backing(1, 4), 0, 0),
        (ANONYMOUS, MISSING | WP, MISSING | WP),
        (Shmem(1, 4), MISSING, MISSING | WP | MINOR),
        (huge_file(), MISSING | MINOR, MISSING | WP | MINOR),
    ],
)
def test_what_userfaultfd_may_have(backing: Backing, old: int, new: int) -> None:
    for kernel, allowed in ((OLD, old), (kernel_named("linux-6.18"), new)):
        for mode in (MISSING, WP, MINOR, MISSING | WP | MINOR):
            assert backing.can_userfault(kernel, mode) is (mode & ~allowed == 0)
