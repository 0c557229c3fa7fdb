"""Where a mapping goes if the kernel may choose."""

import pytest

from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, Errno
from engine.calls.mmap import mmap
from engine.state.vma import VM_SHARED
from engine.vmas.place import find_address
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene

TOP = 256 * P


def test_without_room_for_the_alignment_the_plain_rule_holds() -> None:
    space = scene("aaaa b......cc", "linux-6.12")
    mmap(space, 13 * P, TOP - 13 * P, 1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    assert find_address(space, 0, 4 * P, 0) == 7 * P
    assert find_address(space, 0, 8 * P, 0) is Errno.ENOMEM


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_shared_memory_is_never_aligned(kernel: str) -> None:
    space = scene("." * 255 + "c", kernel)
    assert find_address(space, 0, 8 * P, VM_SHARED) == (255 - 8) * P
