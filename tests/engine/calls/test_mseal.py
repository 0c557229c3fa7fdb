"""mseal: what a sealed mapping refuses, and what has happened by then."""

import pytest

from engine.base.kernel import Kernel, kernel_named
from engine.base.uapi import (
    MADV_COLD,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_FREE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.calls.mseal import mseal
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from fuzz.rules.judge import check_state
from tests.lib.explains import explains

P = 0x1000
FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
SEALING = [kernel_named(name) for name in ("linux-6.12", "linux-6.18")]
A = SEALING[0].geometry.arena.start
B = A + (1 << 30)
kernels = pytest.mark.parametrize("kernel", SEALING, ids=lambda kernel: kernel.name)


def sealed(kernel: Kernel, prot: int = 3) -> AddressSpace:
    """Eight touched pages at A, of which the third and fourth are sealed, and eight at B."""
    space = AddressSpace(kernel)
    for place in (A, B):
        assert mmap(space, place, 8 * P, 3, FLAGS) == place
        assert not touch(space, place, place + 8 * P)
    assert mprotect(space, A, 8 * P, prot) is None
    assert mseal(space, A + 2 * P, 2 * P) is None
    return space


@explains("mseal-unknown")
def test_it_begins_with_6_10() -> None:
    assert mseal(AddressSpace(kernel_named("linux-6.7")), A, P) is Errno.ENOSYS


@kernels
def test_operands(kernel: Kernel) -> None:
    space = sealed(kernel)
    assert mseal(space, A + 1, P) is Errno.EINVAL
    assert mseal(space, A, (1 << 64) - 1) is Errno.EINVAL
    assert mseal(space, A, 0) is None
    assert mseal(space, A + 6 * P, 4 * P) is Errno.ENOMEM
    assert mseal(space, A + 8 * P, P) is Errno.ENOMEM
    assert munmap(space, A + 6 * P, 2 * P) is None  # the hole behind it: nothing was sealed
    assert mseal(space, A + 2 * P, 2 * P) is None  # again


@explains("first-page-sealed")
@kernels
def test_what_a_seal_refuses(kernel: Kernel) -> None:
    space = sealed(kernel)
    contents = space.contents()
    assert munmap(space, A, 8 * P) is Errno.EPERM
    assert mmap(space, A, 8 * P, 3, FLAGS) is Errno.EPERM
    assert mremap(space, A + 2 * P, P, 2 * P, MREMAP_MAYMOVE) is Errno.EPERM
    assert mremap(space, A + 3 * P, P, P, 0) is Errno.EPERM
    assert mremap(space, A, 8 * P, P, 0) is Errno.EPERM
    assert mlock(space, A, 8 * P) is None
    assert space.contents() == contents
    assert mprotect(space, A, 8 * P, 1) is Errno.EPERM
    assert [bool(vma.flags & 2) for vma in space.vmas] == [False, True, True, True]
    assert not check_state(space)


@explains("classic-unmap-refused")
@kernels
def test_a_sealed_destination_stays_whole(kernel: Kernel) -> None:
    """B-62."""
    space = sealed(kernel)
    contents = space.contents()
    assert mremap(space, B, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, A) is Errno.EPERM
    assert (
        mremap(space, B, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, A)
        is Errno.EPERM
    )
    assert space.contents() == contents


@explains("checked-first-page-refuses", "several-stop-half-way")
def test_a_sealed_later_part_stays_behind() -> None:
    space = sealed(kernel_named("linux-6.18"))
    target = B + (1 << 30)
    assert mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, target) is Errno.EPERM
    assert [vma.start for vma in space.vmas] == [A + 2 * P, A + 4 * P, B, target]


@kernels
def test_what_cannot_be_written_cannot_be_thrown_away(kernel: Kernel) -> None:
    for prot, refused in ((1, True), (3, False)):
        for advice in (MADV_DONTNEED, MADV_FREE, MADV_DONTFORK):
            result = madvise(sealed(kernel, prot), A, 8 * P, advice)
            assert result is (Errno.EPERM if refused else None)
        assert madvise(sealed(kernel, prot), A, 8 * P, MADV_COLD) is None
    space = AddressSpace(kernel)
    assert mmap(space, A, P, 1, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED) == A
    assert mseal(space, A, P) is None
    assert madvise(space, A, P, MADV_DONTNEED) is None  # the object keeps it


@kernels
def test_sealed_memory_does_not_merge_with_other(kernel: Kernel) -> None:
    space = sealed(kernel)
    assert len(space.vmas) == 4
    assert mseal(space, A, 8 * P) is None
    assert len(space.vmas) == 2


@explains("resize-sealed-further-up", "classic-sealed-further-up", "unmap-seal-asked-first")
def test_at_first_all_of_a_range_was_searched_before_anything_was_done() -> None:
    """can_modify_mm(), 6.10 and 6.11."""
    space = sealed(kernel_named("linux-6.11"))
    bounds = [vma.start for vma in space.vmas]
    assert munmap(space, A + P, 4 * P) is Errno.EPERM
    assert mmap(space, A + P, 4 * P, 3, FLAGS) is Errno.EPERM
    assert mprotect(space, A, 8 * P, 1) is Errno.EPERM
    assert mremap(space, A, 8 * P, P, 0) is Errno.EPERM
    assert mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE) is Errno.EPERM
    assert mremap(space, A, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.EPERM
    assert mremap(space, B, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, A) is Errno.EPERM
    assert [vma.start for vma in space.vmas] == bounds
    read_only = sealed(kernel_named("linux-6.11"), prot=1)
    assert madvise(read_only, A, 8 * P, MADV_DONTNEED) is Errno.EPERM
    assert len(read_only.contents()) == 16
    assert not check_state(space)
