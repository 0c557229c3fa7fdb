"""Limits: which call a limit ends, with which error, and that it holds afterwards."""

from dataclasses import replace

import pytest

from engine.base.kernel import Kernel, kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.calls.mlock import mlock, munlock
from engine.calls.mmap import mmap
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.stack import execve_stack
from engine.state.space import AddressSpace
from fuzz.rules.judge import check_state

P = 0x1000
FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
CURRENT = [kernel_named(name) for name in ("linux-6.1", "linux-6.12", "linux-6.18")]
A = CURRENT[0].geometry.arena.start
B = A + (1 << 30)
kernels = pytest.mark.parametrize("kernel", CURRENT, ids=lambda kernel: kernel.name)


def mapped(kernel: Kernel, flags: int = FLAGS) -> AddressSpace:
    """A space with 8 pages at A."""
    space = AddressSpace(kernel)
    assert mmap(space, A, 8 * P, 3, flags) == A
    return space


@kernels
def test_address_space(kernel: Kernel) -> None:
    space = mapped(kernel)
    space.limits.address_space = 12 * P
    assert mmap(space, B, 5 * P, 3, FLAGS) is Errno.ENOMEM
    assert mmap(space, A + 4 * P, 8 * P, 3, FLAGS) == A + 4 * P  # replaces four
    assert mremap(space, A, 12 * P, 13 * P, MREMAP_MAYMOVE) is Errno.ENOMEM
    assert mremap(space, A, 12 * P, 12 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) == B
    assert (
        mremap(space, B, P, P, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, A) is Errno.ENOMEM
    )
    assert not check_state(space)
    space.limits.address_space = 11 * P
    assert {v.rule for v in check_state(space)} == {"limits-hold"}


@kernels
def test_growth_beyond_a_limit_unmaps_the_destination_until_6_16(kernel: Kernel) -> None:
    space = mapped(kernel)
    assert mmap(space, B, 2 * P, 3, FLAGS) == B
    space.limits.address_space = 10 * P
    assert mremap(space, A, 8 * P, 16 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.ENOMEM
    assert (space.vmas.lookup(B) is not None) == kernel.check_before_unmap


@kernels
def test_locked_memory(kernel: Kernel) -> None:
    space = mapped(kernel)
    space.limits.locked = 6 * P
    assert mlock(space, A, 7 * P) is Errno.ENOMEM
    assert mlock(space, A, 4 * P) is None
    assert mlock(space, A + 2 * P, 4 * P) is None  # two of them are locked already
    assert mremap(space, A, 6 * P, 7 * P, MREMAP_MAYMOVE | MREMAP_FIXED, B) is Errno.EAGAIN
    assert mmap(space, B, P, 3, FLAGS | MAP_LOCKED) is Errno.EAGAIN
    assert not check_state(space)
    assert munlock(space, A, 8 * P) is None
    space.limits.locked = 0
    assert mlock(space, A, P) is Errno.EPERM
    assert mmap(space, B, P, 3, FLAGS | MAP_LOCKED) is Errno.EPERM
    assert space.locked_vm == 0


@kernels
def test_commit(kernel: Kernel) -> None:
    space = mapped(kernel)
    space.limits.commit = 10 * P
    assert mmap(space, B, 3 * P, 3, FLAGS) is Errno.ENOMEM
    assert mmap(space, B, 64 * P, 1, FLAGS) == B  # read-only: not accountable
    assert mremap(space, A, 8 * P, 11 * P, MREMAP_MAYMOVE) is Errno.ENOMEM
    assert (
        mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, B)
        is Errno.ENOMEM
    )
    assert mremap(space, A, 8 * P, 10 * P, MREMAP_MAYMOVE) == A
    assert not check_state(space)


def test_dontunmap_passes_the_commit_limit_where_it_does_not_ask() -> None:
    """B-39, 5.7 to 5.10."""
    space = mapped(replace(CURRENT[0], dontunmap_asks_overcommit=False))
    space.limits.commit = 10 * P
    assert mremap(space, A, 8 * P, 8 * P, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, B) == B
    assert {v.rule for v in check_state(space)} == {"limits-hold"}


@kernels
def test_stacks(kernel: Kernel) -> None:
    space = mapped(kernel, FLAGS | MAP_GROWSDOWN)
    space.limits.address_space = 10 * P
    faulted = touch(space, A - 4 * P, A)
    assert faulted.segv == [(A - 4 * P, 2)]
    assert not check_state(space)
    assert execve_stack(space, A, A + 11 * P, 0) is Errno.E2BIG
    assert space.total_vm == 10
    assert execve_stack(space, B, B + 10 * P, 0) is None


@kernels
def test_splits_keep_to_the_number_of_maps(kernel: Kernel) -> None:
    space = mapped(kernel)
    space.max_map_count = 1
    assert mlock(space, A + P, P) is Errno.ENOMEM
    space.max_map_count = 3
    assert mlock(space, A + P, P) is None
    assert not check_state(space)
