"""mmap, munmap and mprotect as pictures: places, errors, splits and merges."""

from dataclasses import replace

import pytest

from engine.base.kernel import kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_GROWSDOWN,
    PROT_SEM,
    Errno,
)
from engine.calls.syscalls import mlock, mmap, mprotect, munmap
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_EXEC,
    VM_LOCKED,
    VM_NORESERVE,
    VM_PKEY_BIT0,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
)
from fuzz.rules.state import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, tags, tiny

PLAIN = MAP_PRIVATE | MAP_ANONYMOUS
FIXED = PLAIN | MAP_FIXED
R, RW = 1, 3
TOP = 1 << 20
WORD = 1 << 64
ALL = ("linux-6.1", "linux-6.12", "linux-6.18")


def vmas(space: AddressSpace) -> list[tuple[int, int]]:
    return [(vma.start // P, vma.end // P) for vma in space.vmas]


# --- mmap ----------------------------------------------------------------------------------------


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
    assert first.file is not second.file
    assert (second.pgoff, second.file.size_pages) == (0, 4)  # type: ignore[union-attr]


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


# --- munmap --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addr", "length", "error"),
    [
        (1, P, "EINVAL"),
        (0, 0, "EINVAL"),
        (TOP + P, P, "EINVAL"),
        (0, TOP + P, "EINVAL"),
        (0, WORD - 1, "EINVAL"),
    ],
)
def test_munmap_errors(addr: int, length: int, error: str) -> None:
    space = scene("AAAA")
    assert munmap(space, addr, length) is Errno[error]
    assert shown(space, 1) == "AAAA"


@pytest.mark.parametrize(
    ("picture", "addr", "pages", "after"),
    [
        ("AAAA", 0, 4, "...."),
        ("AAAA", 1, 2, "A..B"),
        ("AAAA", 0, 1, ".AAA"),
        ("AAAA", 3, 1, "AAA."),
        ("AABB .CC.", 1, 5, "A... ..B."),
        ("A..B", 1, 2, "A..B"),
        ("AAAA", 4, 4, "AAAA"),
    ],
)
def test_munmap(picture: str, addr: int, pages: int, after: str) -> None:
    space = scene(picture)
    assert munmap(space, addr * P, pages * P) is None
    assert shown(space, len(after) // 5 + 1) == after
    assert not check_state(space)


def test_munmap_rounds_its_length_up() -> None:
    space = scene("AAAA")
    assert munmap(space, 0, P + 1) is None
    assert shown(space, 1) == "..AA"


def test_a_split_must_not_pass_the_map_count() -> None:
    space = scene("AAAA")
    space.max_map_count = 1
    assert munmap(space, P, P) is Errno.ENOMEM
    assert shown(space, 1) == "AAAA"
    assert munmap(space, 0, P) is None
    assert munmap(space, 3 * P, P) is None
    assert shown(space, 1) == ".AA."


# --- mprotect ------------------------------------------------------------------------------------


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
