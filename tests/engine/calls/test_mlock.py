"""mlock, mlock2 and munlock as pictures: what is locked, what comes in, and what a hole leaves."""

import pytest

from engine.base.uapi import MLOCK_ONFAULT, Errno
from engine.calls.mlock import mlock, mlock2, munlock
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from engine.state.vma import VM_LOCKED, VM_LOCKONFAULT
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown

LOCKED, ON_FAULT = VM_LOCKED, VM_LOCKED | VM_LOCKONFAULT


def locked(space: AddressSpace) -> list[tuple[int, int, int]]:
    """First page, end and lock of each VMA that is locked."""
    return [
        (vma.start // P, vma.end // P, lock)
        for vma in space.vmas
        if (lock := vma.flags & (VM_LOCKED | VM_LOCKONFAULT))
    ]


def test_mlock_brings_all_in() -> None:
    space = scene("aaaa aaaa")
    assert mlock(space, P + 1, 3 * P) is None
    assert locked(space) == [(1, 5, LOCKED)]
    assert shown(space, 2) == "aBBB Bccc"
    assert space.locked_vm == 4
    assert munlock(space, 2 * P, P) is None
    assert locked(space) == [(1, 2, LOCKED), (3, 5, LOCKED)]
    assert not check_state(space)


def test_mlock2_brings_in_nothing_on_fault_only() -> None:
    space = scene("aaaa aaaa")
    assert mlock2(space, P, 4 * P, MLOCK_ONFAULT) is None
    assert locked(space) == [(1, 5, ON_FAULT)]
    assert shown(space, 2) == "abbb bccc"
    assert not touch(space, 2 * P, 3 * P)
    assert shown(space, 2) == "abBb bccc"
    assert space.locked_vm == 4
    assert not check_state(space)


def test_mlock2_without_flags_is_mlock() -> None:
    one, other = scene("aaaa aaaa"), scene("aaaa aaaa")
    assert mlock(one, 0, 3 * P) is mlock2(other, 0, 3 * P, 0) is None
    assert locked(one) == locked(other)
    assert shown(one, 2) == shown(other, 2) == "AAAb bbbb"


def test_a_lock_is_one_or_the_other() -> None:
    space = scene("aaaa", "linux-6.18")
    assert mlock2(space, 0, 4 * P, MLOCK_ONFAULT) is None
    assert mlock(space, P, P) is None
    assert locked(space) == [(0, 1, ON_FAULT), (1, 2, LOCKED), (2, 4, ON_FAULT)]
    assert shown(space, 1) == "aBcc"
    assert mlock2(space, 0, 4 * P, MLOCK_ONFAULT) is None
    assert locked(space) == [(0, 4, ON_FAULT)]
    assert space.locked_vm == 4
    assert munlock(space, 0, 4 * P) is None
    assert locked(space) == []
    assert space.locked_vm == 0


@pytest.mark.parametrize("flags", [2, 3, 1 << 31])
def test_other_flags_are_refused_before_anything_is_looked_at(flags: int) -> None:
    space = scene("aaaa")
    space.limits.locked = 0
    assert mlock2(space, 0, 4 * P, flags) is Errno.EINVAL
    assert mlock2(space, 0, 4 * P, MLOCK_ONFAULT) is Errno.EPERM
    space.limits.locked = 3 * P
    assert mlock2(space, 0, 4 * P, MLOCK_ONFAULT) is Errno.ENOMEM
    assert locked(space) == []


@pytest.mark.parametrize("flags", [0, MLOCK_ONFAULT])
def test_what_lies_before_a_hole_is_locked_but_not_brought_in(flags: int) -> None:
    space = scene("aa.a")
    assert mlock2(space, 0, 4 * P, flags) is Errno.ENOMEM
    assert locked(space) == [(0, 2, ON_FAULT if flags else LOCKED)]
    assert shown(space, 1) == "aa.b"
