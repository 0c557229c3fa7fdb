"""What rules see of a call: operands in whole pages, what was before it, what is there now."""

import pytest

from engine.base.address import Range
from engine.base.entry import UFFD_WP
from engine.base.failures import PAGETABLE, VMA
from engine.base.geometry import PTE
from engine.base.kernel import kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    UFFDIO_REGISTER_MODE_WP,
    Errno,
)
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap
from engine.pages.uffd import uffd_register, uffd_wp
from engine.state.backing import ANONYMOUS, Shmem
from engine.state.space import AddressSpace
from engine.state.vma import VM_LOCKED, VM_READ
from fuzz.rules.rule import LEAVES, NOTHING, VMAS
from fuzz.rules.sight import Attempts, Mapped, Request, Sight, Snapshot, clip, merged, without
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import SLOT, scene, tiny

X86, I386 = (kernel_named("linux-6.18", name).geometry for name in ("x86-64", "i386"))


# --- an mremap ------------------------------------------------------------------------------------


def request(old: int, new: int, flags: int, addr: int = 16 * P, to: int = 64 * P) -> Request:
    return Request.of(X86, addr, old, new, flags, to)


@pytest.mark.parametrize(
    ("length", "whole", "on_32_bits"),
    [
        (0, 0, 0),
        (1, P, P),
        (P, P, P),
        (P + 1, 2 * P, 2 * P),
        ((1 << 32) - 1, 1 << 32, 0),
        ((1 << 64) - 1, 0, 0),
    ],
)
def test_lengths_are_those_of_whole_pages_in_a_word(
    length: int, whole: int, on_32_bits: int
) -> None:
    for geometry, expected in ((X86, whole), (I386, on_32_bits)):
        found = Request.of(geometry, 0, length, length, 0, 0)
        assert (found.old, found.new) == (expected, expected)
        assert (found.old_len, found.new_len) == (length, length)


@pytest.mark.parametrize(
    ("old", "new", "flags", "evicts"),
    [
        pytest.param(4, 4, MREMAP_MAYMOVE, [], id="nothing"),
        pytest.param(4, 5, MREMAP_MAYMOVE, [], id="growth goes where nothing is"),
        pytest.param(4, 3, 0, [(19, 20)], id="the tail of a shrink"),
        pytest.param(4, 5, MOVE, [(64, 69)], id="the destination"),
        pytest.param(4, 3, MOVE, [(64, 67), (19, 20)], id="both"),
        pytest.param(4, 4, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, [], id="a hint"),
    ],
)
def test_what_is_unmapped_first(
    old: int, new: int, flags: int, evicts: list[tuple[int, int]]
) -> None:
    found = request(old * P, new * P, flags)
    assert found.evicts == [Range(low * P, high * P) for low, high in evicts]
    assert found.growth == max(new - old, 0) * P
    assert found.source == Range(16 * P, 16 * P + old * P)


@pytest.mark.parametrize(
    ("flags", "places", "keeps"),
    [
        (0, False, False),
        (MREMAP_MAYMOVE, False, False),
        (MREMAP_FIXED, True, False),
        (MREMAP_DONTUNMAP, True, True),
        (KEEP, True, True),
    ],
)
def test_what_flags_ask_for(flags: int, places: bool, keeps: bool) -> None:
    assert (request(P, P, flags).places, request(P, P, flags).keeps) == (places, keeps)


@pytest.mark.parametrize(
    ("kernel", "old", "new", "sides"),
    [
        pytest.param("linux-6.18", 1, 1, (SLOT, SLOT), id="huge pages go whole"),
        pytest.param("linux-6.18", 5, 2, (2 * SLOT, SLOT), id="each length by itself"),
        pytest.param("linux-6.16", 9, 9, (3 * SLOT, 3 * SLOT), id="those at the start"),
        pytest.param("linux-6.18", 9, 9, (9 * P, 9 * P), id="those at the end"),
    ],
)
def test_sides_of_a_move_of_huge_pages(
    kernel: str, old: int, new: int, sides: tuple[int, int]
) -> None:
    """Two huge pages of hugetlb, and small ones behind them."""
    space = AddressSpace(tiny(kernel))
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, 4 * SLOT, 2 * SLOT, 3, flags | MAP_HUGETLB) == 4 * SLOT
    assert mmap(space, 6 * SLOT, SLOT, 3, flags) == 6 * SLOT
    sight = Sight(space, "mremap", (4 * SLOT, old * P, new * P, MOVE, 16 * SLOT))
    source, target = sight.sides
    assert (source.start, target.start) == (4 * SLOT, 16 * SLOT)
    assert (source.length, target.length) == sides


# --- stretches ------------------------------------------------------------------------------------

FILE, OTHER = Shmem(1, 64), Shmem(2, 64)


def stretch(start: int, end: int, flags: int = VM_READ, **more: object) -> Mapped:
    return Mapped(start * P, end * P, flags, ANONYMOUS, 0)._replace(**more)


def test_neighbours_that_look_alike_are_one() -> None:
    apart = [
        stretch(0, 2),
        stretch(2, 3),
        stretch(4, 5),
        stretch(5, 6, VM_LOCKED),
        stretch(6, 7, VM_LOCKED, backing=FILE),
        stretch(7, 8, VM_LOCKED, backing=OTHER),
        stretch(8, 9, VM_LOCKED, backing=OTHER, offset=1),
    ]
    assert merged(apart) == [stretch(0, 3), *apart[2:]]
    assert merged([]) == []


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (0, 20, [(2, 4), (6, 9)]),
        (3, 7, [(3, 4), (6, 7)]),
        (4, 6, []),
        (7, 8, [(7, 8)]),
        (7, 7, []),
        (8, 7, []),
    ],
)
def test_what_lies_inside_a_range(low: int, high: int, inside: list[tuple[int, int]]) -> None:
    mapped, within = [stretch(2, 4), stretch(6, 9)], Range(low * P, high * P)
    assert clip(mapped, within) == [stretch(*each) for each in inside]
    if low <= high:
        rest = without(mapped, within)
        assert merged(sorted([*rest, *clip(mapped, within)])) == mapped
        assert clip(rest, within) == []


# --- a state --------------------------------------------------------------------------------------


def test_a_snapshot_stays_what_it_was() -> None:
    space = scene("AAAA .bb.")
    before, again = Snapshot(space), Snapshot(space)
    assert before.equals(again)
    space.zap(P, 2 * P)
    assert not before.equals(Snapshot(space))
    assert before.equals(again)
    assert Snapshot(space, leaves=False).slots == {}


def test_what_is_mapped_in_a_range() -> None:
    space = scene("AABB .CC. dd..")
    assert mlock(space, 2 * P, 2 * P) is None
    seen = Snapshot(space)
    where = Range(P, 7 * P)
    assert [area.start // P for area in seen.inside(*where)] == [0, 2, 5]
    assert (seen.held(where), seen.held(where, VM_LOCKED)) == (5 * P, 2 * P)
    assert seen.inside(4 * P, 5 * P) == seen.inside(7 * P, 2 * P) == []
    found = seen.at(6 * P)
    assert found is not None
    assert (found.start, found.end) == (5 * P, 7 * P)
    assert seen.at(7 * P) is None


def test_outside_the_arena_user_space_is_others() -> None:
    kernel = kernel_named("linux-6.18")
    seen, arena, top = Snapshot(AddressSpace(kernel)), X86.arena, X86.user_top
    assert [seen.others_at(at) for at in (0, X86.min_addr, arena.start - 1)] == [0, 1, 1]
    assert [seen.others_at(at) for at in (arena.start, arena.end - 1)] == [0, 0]
    assert [seen.others_at(at) for at in (arena.end, top - 1, top)] == [1, 1, 0]


def test_memory_is_scarce_under_a_limit_or_where_something_is_to_fail() -> None:
    space = scene("AAAA")
    space.max_map_count = 2  # as everywhere
    assert not Snapshot(space).scarce
    assert [Snapshot(space).full(more) for more in (0, 1, 2)] == [False, False, True]
    space.limits.locked = 5 * P
    assert Snapshot(space).scarce
    space.limits.locked = None
    space.failures.arm(PAGETABLE, 1)
    assert Snapshot(space).scarce


def test_what_is_write_protected_and_where_nobody_asked_for_it() -> None:
    space = scene("AAAA BBBB")
    assert uffd_register(space, 0, 2 * P, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert uffd_wp(space, P, P, 1) is None
    assert (Snapshot(space).protected, Snapshot(space).stray) == ({P}, set())
    table = space.tree.find(SLOT, PTE)
    assert table is not None
    space.tree.put(table, 2, table.leaves[2] | UFFD_WP)
    assert (Snapshot(space).protected, Snapshot(space).stray) == ({P}, {table.leaves[2] >> 12})
    (watched,) = Snapshot(space).registered
    assert watched[0] == Range(0, 2 * P)


# --- a call ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "error", "address"),
    [(Errno.EINVAL, Errno.EINVAL, None), (0x1000, None, 0x1000), (0, None, 0), (None, None, None)],
)
def test_what_a_call_has_returned(
    result: int | Errno | None, error: Errno | None, address: int | None
) -> None:
    space = scene("AAAA")
    sight = Sight(space, "munmap", (0, P))
    sight.returned(result, 3)
    assert (sight.result, sight.error, sight.address) == (result, error, address)
    assert (sight.occupied, sight.first_tag) == (3, 5)


def test_no_more_is_looked_at_than_was_asked_for() -> None:
    space = scene("AAAA")
    assert Sight(space, "munmap", (0, P), LEAVES).before.slots
    vmas = Sight(space, "munmap", (0, P), VMAS)
    assert vmas.before.areas and not vmas.before.slots and not vmas.after.slots
    with pytest.raises(AttributeError):
        _ = Sight(space, "munmap", (0, P), NOTHING).before


def test_attempts_are_counted_where_something_is_to_fail() -> None:
    space = scene("AAAA")
    assert Sight(space, "munmap", (0, P)).attempts is None
    space.failures.arm(VMA, 5)
    made = Attempts(space)
    assert (made.made(space.failures, VMA), made.made(space.failures, PAGETABLE)) == (0, None)
    space.split_at(2 * P)
    assert made.made(space.failures, VMA) == 2
    assert made.tables == sum(space.tree.counts)
