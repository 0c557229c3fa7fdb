"""What fails on demand: which attempt it is, what the call returns, and what is left behind."""

from dataclasses import replace

import pytest

from engine.base.failures import COMMIT, HOOK, MAPS, PAGETABLE, VMA, Failures
from engine.base.kernel import KERNELS, Kernel, kernel_named
from engine.base.uapi import (
    MADV_NORMAL,
    MADV_RANDOM,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from fuzz.rules.judge import check_state

P = 0x1000
SLOT = 0x200000
A = kernel_named("linux-6.12").geometry.arena.start
B = A + (1 << 30)
PRIVATE, SHARED = (kind | MAP_ANONYMOUS | MAP_FIXED for kind in (MAP_PRIVATE, MAP_SHARED))
CURRENT = [kernel_named(name) for name in ("linux-6.1", "linux-6.12", "linux-6.18")]


def ranges(space: AddressSpace) -> list[tuple[int, int]]:
    """The VMAs, in pages from A."""
    return [((vma.start - A) // P, (vma.end - A) // P) for vma in space.vmas]


def mapped(kernel: Kernel, pages: int = 8, flags: int = PRIVATE) -> AddressSpace:
    """A space with `pages` at A, the first four touched."""
    space = AddressSpace(kernel)
    assert mmap(space, A, pages * P, 3, flags) == A
    assert not touch(space, A, A + 4 * P)
    return space


def test_a_shortage_lasts_and_says_what_it_has_reached() -> None:
    failures = Failures()
    failures.lasting = True
    failures.arm(PAGETABLE, 2)
    assert [failures.fails(VMA), failures.reached] == [False, False]
    assert [failures.fails(PAGETABLE) for _ in range(4)] == [False, True, True, True]
    assert [failures.fails(VMA), failures.reached] == [False, True]
    failures.end()
    assert not failures.armed
    assert not failures.fails(PAGETABLE)


def test_the_nth_attempt_from_arming_fails_once() -> None:
    failures = Failures()
    assert not failures.armed and not failures.fails(VMA)
    failures.arm(VMA, 2)
    failures.arm(COMMIT, 1)
    assert [failures.fails(VMA) for _ in range(3)] == [False, True, False]
    assert failures.armed
    failures.arm(COMMIT, 2)
    assert [failures.fails(COMMIT) for _ in range(3)] == [True, True, False]
    assert not failures.armed


@pytest.mark.parametrize("kernel", CURRENT, ids=lambda kernel: kernel.name)
def test_a_split_that_fails_leaves_everything_mapped(kernel: Kernel) -> None:
    for nth in (1, 2, 3, 4):  # a VMA and its links, for each end
        space = mapped(kernel)
        space.failures.arm(VMA, nth)
        assert munmap(space, A + 2 * P, 2 * P) is Errno.ENOMEM
        assert sum(end - start for start, end in ranges(space)) == 8
        assert not check_state(space)
    space.failures.arm(VMA, 5)
    assert munmap(space, A + 2 * P, 2 * P) is None


@pytest.mark.parametrize("kernel", CURRENT, ids=lambda kernel: kernel.name)
def test_calls_that_split_say_so_in_their_own_way(kernel: Kernel) -> None:
    space = mapped(kernel)
    committed = space.committed
    for call, error in (
        (lambda: mprotect(space, A + P, P, 0), Errno.ENOMEM),
        (lambda: mlock(space, A + P, P), Errno.ENOMEM),
        (lambda: madvise(space, A + P, P, MADV_RANDOM), Errno.EAGAIN),
    ):
        for kind in (VMA, MAPS):
            space.failures.arm(kind, 1)
            assert call() is error
            assert (space.committed, space.locked_vm) == (committed, 0)
            assert not check_state(space)
    assert madvise(space, A, 8 * P, MADV_NORMAL) is None


@pytest.mark.parametrize("kernel", CURRENT, ids=lambda kernel: kernel.name)
def test_a_copy_that_fails_leaves_the_source(kernel: Kernel) -> None:
    before = mapped(kernel)
    for nth in (1, 2, 3):  # the VMA, its links, its place in the tree
        space = mapped(kernel)
        space.failures.arm(VMA, nth)
        assert mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.ENOMEM
        assert ranges(space) == ranges(before)
        assert space.contents() == before.contents()
        assert not check_state(space)
    space.failures.arm(VMA, 4)
    assert mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) == B


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda kernel: kernel.name)
def test_a_source_that_cannot_be_cut_off_stays_empty_and_charged(kernel: Kernel) -> None:
    space = mapped(kernel)
    space.failures.arm(VMA, 4)  # after those of the copy
    assert mremap(space, A + P, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) == B
    assert ranges(space)[0] == (0, 8)
    assert space.contents() == {0: 1, 3: 4, (B - A) // P: 2, (B - A) // P + 1: 3}
    assert space.committed == 10
    assert not check_state(space)


@pytest.mark.parametrize("nth", range(4, 8))  # a VMA and its links, for each end
def test_a_source_may_be_cut_off_whatever_happens(nth: int) -> None:
    space = mapped(replace(CURRENT[1], unmap_moved_nofail=True))
    space.failures.arm(VMA, nth)
    assert mremap(space, A + P, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) == B
    assert ranges(space)[:2] == [(0, 1), (3, 8)]
    assert not space.failures.armed
    assert space.committed == 8
    assert not space.violations and not check_state(space)


@pytest.mark.parametrize("kernel", CURRENT, ids=lambda kernel: kernel.name)
def test_mmap_that_gets_no_vma_has_unmapped_what_was_there(kernel: Kernel) -> None:
    space = mapped(kernel)
    space.failures.arm(VMA, 1)
    assert mmap(space, A, 8 * P, 3, SHARED) is Errno.ENOMEM
    assert ranges(space) == []
    assert (space.total_vm, space.committed) == (0, 0)


def test_a_driver_that_refuses_has_a_complete_move_put_back() -> None:
    space = mapped(CURRENT[1], flags=SHARED)
    before = space.contents()
    space.failures.arm(HOOK, 1)
    assert mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.EPERM
    assert ranges(space) == [(0, 8)]
    assert space.contents() == before
    assert not check_state(space)
    private = mapped(CURRENT[1])
    private.failures.arm(HOOK, 1)  # nobody to ask
    assert mremap(private, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) == B


def test_faults_try_again_until_they_have_a_table() -> None:
    space = AddressSpace(CURRENT[1])
    assert mmap(space, A, 4 * SLOT, 3, PRIVATE) == A
    space.failures.arm(PAGETABLE, 1)
    assert not touch(space, A, A + 4 * SLOT)
    assert mremap(space, A + P, SLOT, SLOT, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.ENOMEM


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda kernel: kernel.name)
def test_growth_that_is_put_back_keeps_its_charge_since_5_16(kernel: Kernel) -> None:
    space = mapped(kernel)
    space.failures.arm(PAGETABLE, 1)
    assert mremap(space, A, 8 * P, 16 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.ENOMEM
    leaked = 0 if kernel.uncharge_on_rollback else 8
    assert space.committed == 8 + leaked
    assert [v.rule for v in check_state(space)] == ["committed"] * bool(leaked)


@pytest.mark.parametrize(("kernel", "gone"), [("linux-5.0", True), ("linux-6.1", False)])
def test_fixed_looks_at_the_number_of_maps_first_since_5_1(kernel: str, gone: bool) -> None:
    space = mapped(kernel_named(kernel))
    assert mmap(space, B, 8 * P, 3, PRIVATE) == B
    space.failures.arm(MAPS, 1)
    assert mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.ENOMEM
    assert (space.vmas.lookup(B) is None) == gone
