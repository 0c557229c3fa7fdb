"""mmap and munmap as pictures: places, errors, splits and merges."""

import pytest

from engine.base.kernel import kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    Errno,
)
from engine.calls.mmap import mmap
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_LOCKED,
    VM_NORESERVE,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
)
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, tags, tiny, vmas

PLAIN = MAP_PRIVATE | MAP_ANONYMOUS
FIXED = PLAIN | MAP_FIXED
R, RW = 1, 3
TOP = 1 << 20
WORD = 1 << 64


@pytest.mark.parametrize(
    ("addr", "length", "flags", "error"),
    [
        pytest.param(0, 0, FIXED, "EINVAL", id="no length"),
        pytest.param(0, WORD - 1, FIXED, "ENOMEM", id="a length that wraps"),
        pytest.param(0, TOP + P, FIXED, "ENOMEM", id="longer than user space"),
        pytest.param(TOP, P, FIXED, "ENOMEM", id="above user space"),
        pytest.param(TOP - P, 2 * P, FIXED, "ENOMEM", id="past its end"),
        pytest.param(1, P, FIXED, "EINVAL", id="not page aligned"),
        pytest.param(0, P, MAP_ANONYMOUS | MAP_FIXED, "EINVAL", id="neither shared nor private"),
        pytest.param(8 * P, P, PLAIN | MAP_FIXED_NOREPLACE, "EEXIST", id="in the way"),
        pytest.param(0, TOP, PLAIN, "ENOMEM", id="no hole"),
    ],
)
def test_mmap_errors_change_nothing(addr: int, length: int, flags: int, error: str) -> None:
    picture = ".... .... AAAA"
    space = scene(picture)
    assert mmap(space, addr, length, RW, flags) is Errno[error]
    assert shown(space, 3) == picture


def test_mmap_below_the_lowest_address_is_eperm() -> None:
    space = AddressSpace(kernel_named("linux-6.12", "i386"))
    assert mmap(space, 0xF000, P, RW, FIXED) is Errno.EPERM
    assert mmap(space, 0x10000, P, RW, FIXED) == 0x10000


@pytest.mark.parametrize(
    ("picture", "addr", "pages", "flags", "place", "after"),
    [
        pytest.param("AAAA ....", 1, 2, FIXED, 1, "AaaA ....", id="FIXED replaces, merges"),
        pytest.param("aaaa ....", 4, 2, FIXED, 4, "aaaa aa..", id="merges with the left"),
        pytest.param(".... aaaa", 2, 2, FIXED, 2, "..aa aaaa", id="merges with the right"),
        pytest.param("aa.. bbbb", 2, 2, FIXED, 2, "aaaa aaaa", id="merges both"),
        pytest.param("AA.. ....", 2, 2, PLAIN, 2, "AAaa ....", id="the hint is free"),
        pytest.param("AA.. ....", 1, 2, PLAIN, 254, "AA.. ....", id="the hint is busy: top-down"),
        pytest.param(
            "AA.. ....", 2, 2, PLAIN | MAP_FIXED_NOREPLACE, 2, "AAaa ....", id="NOREPLACE"
        ),
        pytest.param("AA.. ....", 0, 2, PLAIN, 254, "AA.. ....", id="no hint"),
    ],
)
def test_mmap(picture: str, addr: int, pages: int, flags: int, place: int, after: str) -> None:
    space = scene(picture)
    assert mmap(space, addr * P, pages * P, RW, flags) == place * P
    assert shown(space, 2) == after
    assert not check_state(space)


def test_lengths_are_rounded_up_and_hints_down() -> None:
    space = AddressSpace(tiny())
    assert mmap(space, 3 * P + 1, P + 1, RW, PLAIN) == 3 * P
    assert vmas(space) == [(3, 5)]


@pytest.mark.parametrize(
    ("prot", "flags", "expected"),
    [
        (RW, FIXED, VM_READ | VM_WRITE | VM_ACCOUNT),
        (R, FIXED, VM_READ),
        (0, FIXED, 0),
        (RW, FIXED | MAP_NORESERVE, VM_READ | VM_WRITE | VM_NORESERVE),
        (R, FIXED | MAP_LOCKED, VM_READ | VM_LOCKED),
        (RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, VM_READ | VM_WRITE | VM_SHARED),
    ],
)
def test_flags_of_a_new_mapping(prot: int, flags: int, expected: int) -> None:
    space = AddressSpace(tiny())
    mmap(space, 0, P, prot, flags)
    assert next(iter(space.vmas)).flags == expected


def test_every_shared_mapping_is_an_object_of_its_own() -> None:
    space = AddressSpace(tiny())
    for page in (0, 4):
        mmap(space, page * P, 4 * P, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    first, second = space.vmas
    assert first.backing is not second.backing
    assert (second.pgoff, second.backing.size_pages) == (0, 4)


@pytest.mark.parametrize("flag", [MAP_POPULATE, MAP_LOCKED])
def test_populated_mappings(flag: int) -> None:
    space = AddressSpace(tiny())
    mmap(space, P, 6 * P, RW, FIXED | flag)
    assert shown(space, 2) == ".AAA AAA."
    assert tags(space) == {}


def test_mmap_at_the_map_count() -> None:
    space = scene("a.b.")
    space.max_map_count = 1
    assert mmap(space, 8 * P, P, RW, FIXED) is Errno.ENOMEM
    space.max_map_count = 2  # may pass it by one
    assert mmap(space, 8 * P, P, RW, FIXED) == 8 * P
