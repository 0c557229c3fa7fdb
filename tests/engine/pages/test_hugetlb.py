"""hugetlb: what is aligned, what moves, and that every reserved page belongs to somebody.

The sequences of free and reserved pages were observed on Linux 6.18.
"""

from dataclasses import replace

import pytest

from engine.base.failures import PAGETABLE, VMA
from engine.base.kernel import KERNELS, Kernel, kernel_named
from engine.base.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.state.hugepool import POOL_PAGES
from engine.state.space import AddressSpace
from fuzz.rules.judge import MoveRules, check_state
from tests.lib.constants import MOVE

P, H = 0x1000, 0x200000
PLAIN = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
PRIVATE, SHARED = PLAIN | MAP_HUGETLB, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB
MOVING = [kernel for kernel in KERNELS.values() if kernel.hugetlb_moves]
A = MOVING[0].geometry.arena.start
B = A + (1 << 30)
kernels = pytest.mark.parametrize("kernel", MOVING, ids=lambda kernel: kernel.name)


def used(space: AddressSpace) -> tuple[int, int]:
    """Pages taken out of the pool, and reserved."""
    return POOL_PAGES - space.pool.free, space.pool.reserved


def mapped(kernel: Kernel, pages: int = 4, flags: int = PRIVATE) -> AddressSpace:
    """A space with so many huge pages at A."""
    space = AddressSpace(kernel, [MoveRules()])
    assert mmap(space, A, pages * H, 3, flags) == A
    return space


@kernels
@pytest.mark.parametrize("flags", [PRIVATE, SHARED])
def test_reservations_become_pages_and_move_along(kernel: Kernel, flags: int) -> None:
    space = mapped(kernel, flags=flags)
    assert used(space) == (0, 4)
    assert not touch(space, A, A + P)
    assert not peek(space, A + H, A + 2 * H)
    assert used(space) == (2, 2)
    assert mremap(space, A, 4 * H, 4 * H, MOVE, B + H) == B + H
    assert used(space) == (2, 2)
    assert space.contents() == {(B + H - A) // P: 1}
    assert not touch(space, B + H + P, B + 2 * H)
    assert not space.violations and not check_state(space)
    assert munmap(space, B + H, 2 * H) is None
    assert used(space) == ((2, 2) if flags == SHARED else (0, 2))
    assert munmap(space, B + 3 * H, 2 * H) is None
    assert used(space) == (0, 0)


@kernels
def test_a_hole_takes_pages_with_what_was_promised(kernel: Kernel) -> None:
    """What was never there stays promised; a page that comes back later is any page."""
    space = mapped(kernel, flags=SHARED)
    assert not touch(space, A, A + 2 * H)
    assert madvise(space, A + P, 2 * H, MADV_REMOVE) is None
    assert used(space) == (1, 2)
    zeroed = kernel.hugetlb_zeroes_parts
    assert space.contents() == {0: 1} | ({} if zeroed else {i: i + 1 for i in range(1, 512)})
    assert not check_state(space)
    assert not touch(space, A + H, A + H + P)
    assert used(space) == (2, 2)
    assert madvise(space, A, 4 * H, MADV_REMOVE) is None
    assert used(space) == (0, 2)
    assert not check_state(space)
    assert munmap(space, A, 4 * H) is None
    assert used(space) == (0, 0)


@kernels
def test_a_hole_is_one_at_every_place(kernel: Kernel) -> None:
    space = mapped(kernel, flags=SHARED)
    assert not touch(space, A, A + 4 * H)
    assert mremap(space, A + 2 * H, 2 * H, 2 * H, MOVE, B) == B
    assert madvise(space, B + H, H, MADV_REMOVE) is None
    assert used(space) == (3, 0)
    assert {page // 512 for page in space.contents()} == {0, 1, (B - A) // H}
    assert not check_state(space)


@kernels
def test_no_hole_in_what_is_private(kernel: Kernel) -> None:
    space = mapped(kernel)
    assert madvise(space, A, H, MADV_REMOVE) is Errno.EACCES


@kernels
def test_moving_a_part_loses_the_reservations_of_the_rest(kernel: Kernel) -> None:
    """An open defect: an unprivileged program can use up the pool for good."""
    space = mapped(kernel)
    assert mremap(space, A + H, H, H, MOVE, B) == B
    assert used(space) == (0, 4)
    assert [v.rule for v in check_state(space)] == ["hugetlb-reserve"]
    assert munmap(space, B, H) is None
    assert munmap(space, A, 4 * H) is None
    assert used(space) == (0, 3)


@pytest.mark.parametrize("part", [0, 1, 3])
def test_the_rest_may_keep_its_reservations(part: int) -> None:
    space = mapped(replace(MOVING[-1], hugetlb_rest_keeps_reservation=True))
    assert not touch(space, A, A + H)
    assert mremap(space, A + part * H, H, H, MOVE, B) == B
    assert used(space) == (1, 3)
    assert not check_state(space)
    assert munmap(space, A, 4 * H) is munmap(space, B, H) is None
    assert used(space) == (0, 0)


@kernels
def test_alignment(kernel: Kernel) -> None:
    space = mapped(kernel)
    assert mmap(space, B + P, H, 3, PRIVATE) is Errno.EINVAL
    assert mmap(space, B, H, 3, PRIVATE | MAP_GROWSDOWN) is Errno.EINVAL
    assert mmap(space, B, P, 3, PRIVATE) == B  # rounded up
    assert space.vmas.lookup(B + H - 1) is not None
    assert munmap(space, A + P, P) is Errno.EINVAL
    assert munmap(space, A, P) is Errno.EINVAL
    assert mprotect(space, A, P, 1) is Errno.EINVAL
    assert mmap(space, A + H, P, 3, PLAIN) is (
        Errno.EINVAL if kernel.merge_new_range else Errno.ENOMEM
    )
    assert mremap(space, A, H, H, MOVE, B + P) is Errno.EINVAL
    assert mremap(space, A + P, H, H, MOVE, B) is Errno.EINVAL
    assert mremap(space, A + 3 * H, H, P, 0, P) is Errno.EINVAL  # new_addr, though not used
    assert mremap(space, A + 3 * H, H, P, 0) == A + 3 * H  # rounded up: nothing to do
    assert mremap(space, A + 3 * H, P, P, MOVE, B + H) == B + H
    assert mremap(space, A, 3 * H, P, 0) == A
    assert [(vma.start, vma.end) for vma in space.vmas] == [
        (A, A + H),
        (B, B + H),
        (B + H, B + 2 * H),
    ]


@kernels
def test_what_is_refused(kernel: Kernel) -> None:
    space = mapped(kernel)
    assert mremap(space, A, H, 2 * H, MREMAP_MAYMOVE) is Errno.EINVAL
    assert mremap(space, A, 0, H, MOVE, B) is Errno.EINVAL
    assert mremap(space, A, 4 * H, 4 * H, MOVE | MREMAP_DONTUNMAP, B) is Errno.EINVAL
    for advice in (MADV_FREE, MADV_COLD, MADV_COLLAPSE):
        assert madvise(space, A, H, advice) is Errno.EINVAL
    assert madvise(space, A, H, MADV_HUGEPAGE) is None
    assert madvise(space, A + P, H, MADV_DONTNEED) is Errno.EINVAL
    assert mlock(space, A, H) is None
    assert (space.locked_vm, space.committed, used(space)) == (0, 0, (1, 3))
    assert madvise(space, A, H + P, MADV_DONTNEED) is None
    assert used(space) == (0, 4 if kernel.hugetlb_dontneed_reserves else 3)
    assert not check_state(space)


def test_the_pool_runs_out() -> None:
    space = mapped(MOVING[-1], POOL_PAGES - 1)
    assert mmap(space, B, 2 * H, 3, PRIVATE) is Errno.ENOMEM
    assert mmap(space, B, 2 * H, 3, PRIVATE | MAP_NORESERVE) == B
    assert touch(space, B, B + 2 * H).bus == [(B + H, H // P)]
    assert madvise(space, B, 2 * H, MADV_POPULATE_WRITE) is Errno.EFAULT
    assert used(space) == (1, POOL_PAGES - 1)


@kernels
def test_a_move_without_a_table_is_put_back(kernel: Kernel) -> None:
    space = mapped(kernel)
    assert not touch(space, A, A + 4 * H)
    before = space.contents()
    far = A + (1 << 38) - H  # its second page needs a PMD table of its own
    space.failures.arm(PAGETABLE, 3)
    assert mremap(space, A, 4 * H, 4 * H, MOVE, far - H) in (Errno.ENOMEM, far - H)
    space.failures.arm(PAGETABLE, 1)
    start = next(iter(space.vmas)).start
    assert mremap(space, start, 4 * H, 4 * H, MOVE, A + (1 << 37)) is Errno.ENOMEM
    assert sorted(space.contents().values()) == sorted(before.values())
    assert used(space) == (4, 0)
    assert not space.violations and not check_state(space)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_copy_that_fails_late_leaves_reservations_to_the_source(keeps: bool) -> None:
    """B-46."""
    space = mapped(replace(MOVING[-1], hugetlb_copy_keeps_reservation=keeps))
    space.failures.arm(VMA, 2)
    assert mremap(space, A, 4 * H, 4 * H, MOVE, B) is Errno.ENOMEM
    assert used(space) == (0, 4 if keeps else 0)
    assert [v.rule for v in check_state(space)] == ([] if keeps else ["hugetlb-reserve"])


def test_old_kernels_do_not_move_them() -> None:
    assert mremap(mapped(kernel_named("linux-5.0")), A, H, H, MOVE, B) is Errno.EINVAL
