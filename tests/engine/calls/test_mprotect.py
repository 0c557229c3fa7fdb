"""mprotect as pictures: errors, splits, what is charged, and what a protection permits."""

from dataclasses import replace

import pytest

from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_SEM,
    Errno,
)
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap
from engine.calls.mprotect import mprotect
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_EXEC,
    VM_PKEY_BIT0,
    VM_READ,
    VM_WRITE,
)
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, tags, tiny, vmas

PLAIN = MAP_PRIVATE | MAP_ANONYMOUS
FIXED = PLAIN | MAP_FIXED
R, RW = 1, 3
WORD = 1 << 64


@pytest.mark.parametrize(
    ("addr", "length", "prot", "error"),
    [
        (1, P, R, "EINVAL"),
        (0, WORD - 1, R, "ENOMEM"),
        (0, P, 0x10, "EINVAL"),
        (4 * P, P, R, "ENOMEM"),
    ],
)
def test_mprotect_errors(addr: int, length: int, prot: int, error: str) -> None:
    space = scene("AAAA")
    assert mprotect(space, addr, length, prot) is Errno[error]
    assert vmas(space) == [(0, 4)]
    assert next(iter(space.vmas)).flags & VM_WRITE


def test_mprotect_of_nothing_is_fine() -> None:
    assert mprotect(scene("AAAA"), 0, 0, 0) is None


def test_mprotect_changes_what_comes_before_a_hole() -> None:
    space = scene("AABB .CC.")
    assert mprotect(space, P, 5 * P, R) is Errno.ENOMEM
    assert vmas(space) == [(0, 1), (1, 2), (2, 4), (5, 7)]
    assert [bool(vma.flags & VM_WRITE) for vma in space.vmas] == [True, False, False, True]


def test_mprotect_there_and_back_leaves_one_vma() -> None:
    space = scene("AAAA")
    assert mprotect(space, P, 2 * P, R) is None
    assert vmas(space) == [(0, 1), (1, 3), (3, 4)]
    assert mprotect(space, P, 2 * P, RW) is None
    assert vmas(space) == [(0, 4)]
    assert tags(space) == {0: 1, 1: 2, 2: 3, 3: 4}
    assert not check_state(space)


@pytest.mark.parametrize(
    ("kernel", "count"), [("linux-6.1", 3), ("linux-6.12", 2), ("linux-6.18", 2)]
)
def test_memory_never_written_gives_its_charge_back(kernel: str, count: int) -> None:
    """Measured: it then merges with a neighbour that was read-only from the start."""
    space = AddressSpace(tiny(kernel))
    mmap(space, 0, 3 * P, RW, FIXED)
    mmap(space, 3 * P, 3 * P, R, FIXED)
    assert mprotect(space, 2 * P, P, R) is None
    assert len(space.vmas) == count


def test_memory_that_becomes_writable_is_charged() -> None:
    space = AddressSpace(tiny())
    mmap(space, 0, 3 * P, R, FIXED)
    assert mprotect(space, 0, 3 * P, RW) is None
    assert next(iter(space.vmas)).flags == VM_READ | VM_WRITE | VM_ACCOUNT


# What may only be executed, on a CPU with protection keys.


def with_keys(kernel: str = "linux-6.18") -> AddressSpace:
    """An empty space on a CPU that has them."""
    named = tiny(kernel)
    return AddressSpace(named.on(replace(named.geometry, exec_only_keys=True)))


@pytest.mark.parametrize(
    ("prot", "key"),
    [
        (VM_EXEC, True),
        (VM_EXEC | PROT_SEM, False),
        (VM_EXEC | VM_READ, False),
        (VM_EXEC | VM_WRITE, False),
        (0, False),
    ],
)
def test_only_for_executing_alone_there_is_a_key(prot: int, key: bool) -> None:
    space = with_keys()
    mmap(space, 0, P, prot, FIXED)
    mmap(space, 2 * P, P, VM_EXEC, FIXED)
    mmap(space, 4 * P, P, R, FIXED)
    assert mprotect(space, 2 * P, P, prot) is None
    assert mprotect(space, 4 * P, P, prot) is None
    for vma in space.vmas:
        assert bool(vma.flags & VM_PKEY_BIT0) is key
        assert vma.readable is (prot != 0 and not key)
    without = AddressSpace(tiny())
    mmap(without, 0, P, VM_EXEC, FIXED)
    assert next(iter(without.vmas)).readable


def test_where_a_change_begins_is_no_part_of_the_protection() -> None:
    space = with_keys()
    mmap(space, 0, P, R, FIXED | MAP_GROWSDOWN)
    assert mprotect(space, 0, P, VM_EXEC | PROT_GROWSDOWN) is None
    assert not next(iter(space.vmas)).readable


@pytest.mark.parametrize("addr", [0, 1, 8 * P])
@pytest.mark.parametrize("length", [0, P])
@pytest.mark.parametrize("prot", [R, R | 0x80])
def test_nothing_grows_both_ways(addr: int, length: int, prot: int) -> None:
    space = AddressSpace(tiny())
    mmap(space, 0, P, R, FIXED | MAP_GROWSDOWN)
    both = PROT_GROWSDOWN | PROT_GROWSUP
    assert mprotect(space, addr, length, prot | both) is Errno.EINVAL


def test_what_has_a_key_does_not_merge_with_what_has_none() -> None:
    space = with_keys()
    mmap(space, 0, 2 * P, VM_EXEC, FIXED)
    mmap(space, 2 * P, 2 * P, VM_EXEC | PROT_SEM, FIXED)
    assert vmas(space) == [(0, 2), (2, 4)]
    assert mprotect(space, 2 * P, 2 * P, VM_EXEC) is None
    assert vmas(space) == [(0, 4)]
    assert not check_state(space)


@pytest.mark.parametrize("shared", [0, MAP_SHARED ^ MAP_PRIVATE], ids=["private", "shared"])
def test_what_cannot_be_read_is_not_brought_in_but_locked(shared: int) -> None:
    space = with_keys()
    mmap(space, 0, P, VM_EXEC, FIXED ^ shared | MAP_POPULATE)
    mmap(space, P, P, VM_EXEC, FIXED ^ shared | MAP_LOCKED)
    mmap(space, 2 * P, P, VM_EXEC, FIXED ^ shared)
    assert mlock(space, 2 * P, P) is Errno.ENOMEM
    assert space.locked_vm == 2
    assert peek(space, 0, 3 * P).segv == [(0, 3)]
    assert not list(space.tree.leaves(0, 4 * P))


def test_what_is_there_can_be_read_again_when_the_key_goes() -> None:
    space = with_keys()
    mmap(space, 0, P, RW, FIXED)
    assert not touch(space, 0, P)
    assert mprotect(space, 0, P, VM_EXEC) is None
    assert peek(space, 0, P).segv == [(0, 1)]
    assert mprotect(space, 0, P, R) is None
    assert not peek(space, 0, P)
    assert tags(space) == {0: 1}
