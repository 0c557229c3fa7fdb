"""Calls of mremap(2), after which the state must be sound, and what their tests begin with."""

from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
    MREMAP_FIXED,
    Errno,
)
from engine.calls.mmap import mmap
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from engine.state.vma import VM_LOCKED
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import tiny

FIRST, LAST = "linux-6.1", "linux-6.18"
ALL = ("linux-6.1", "linux-6.12", "linux-6.18")
CLASSIC = ("linux-6.1", "linux-6.12")
TOP = 1 << 20  # end of user space on tiny


def run(space: AddressSpace, *request: int) -> int | Errno:
    """The call, after which the state must be sound.

    A FIXED move that shrinks leaks commit charge since 6.17: that alone is let pass.
    """
    _, old_len, new_len, flags, _ = request
    leaks = space.kernel.shrink_charges_delta and flags & MREMAP_FIXED and old_len > new_len
    result = mremap(space, *request)
    assert not space.violations
    assert {v.rule for v in check_state(space)} <= ({"committed"} if leaks else set())
    return result


def lock(space: AddressSpace, extra: int = 0) -> None:
    """Lock the first VMA, as mlock2 does, but without populating it."""
    vma = next(iter(space.vmas))
    vma.flags |= VM_LOCKED | extra
    space.locked_vm += (vma.end - vma.start) // P


def shared(kernel: str) -> AddressSpace:
    """Four pages of shared memory at page 4, all touched, in a tiny space."""
    space = AddressSpace(tiny(kernel))
    flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, 4 * P, 4 * P, 3, flags) == 4 * P
    assert not touch(space, 4 * P, 8 * P)
    return space
