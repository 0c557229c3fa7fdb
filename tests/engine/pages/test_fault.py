"""What touching and reading memory brings into the tables."""

import pytest

from engine.base.address import Range
from engine.base.entry import (
    ANON,
    DIRTY,
    MARKER,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    WRITE,
    ZERO_ENTRY,
    leaf,
)
from engine.base.geometry import PMD, PTE
from engine.base.kernel import kernel_named
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_SHARED
from engine.calls.mmap import mmap, munmap
from engine.pages.fault import access_range, peek, populate_locked, touch
from engine.state.space import AddressSpace
from engine.state.vma import VM_ACCOUNT, VM_LOCKED, VM_LOCKONFAULT, VM_READ, VM_WRITE
from fuzz.rules.judge import check_state
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, strip_tables, tags, tiny


def entries(space: AddressSpace) -> dict[int, int]:
    return {address // P: entry for address, _, entry in space.tree.leaves()}


def test_touching_gives_every_page_a_frame_a_tag_and_its_index() -> None:
    space = scene(".aaa aaa.")
    assert not touch(space, 2 * P, 6 * P)
    assert shown(space, 2) == ".aAA AAa."
    assert tags(space) == {2: 1, 3: 2, 4: 3, 5: 4}
    found = entries(space)
    assert len({entry >> PFN_SHIFT for entry in found.values()}) == 4
    assert all(entry & (PRESENT | WRITE | DIRTY | SOFT_DIRTY | ANON) for entry in found.values())
    assert [space.frames.index[entry >> PFN_SHIFT] for entry in found.values()] == [2, 3, 4, 5]
    (vma,) = space.vmas
    assert {space.frames.owner[entry >> PFN_SHIFT] for entry in found.values()} == {vma.anon_vma}
    assert space.tree.rss_anon == 4
    assert not check_state(space)


def test_touching_again_writes_the_page_that_is_there() -> None:
    space = scene("AAaa")
    before = entries(space)
    assert not touch(space, P, 3 * P)
    assert tags(space) == {0: 1, 1: 3, 2: 4}
    after = entries(space)
    assert {page: after[page] >> PFN_SHIFT for page in before} == {
        page: entry >> PFN_SHIFT for page, entry in before.items()
    }
    assert space.tree.rss_anon == 3


def test_pages_that_cannot_be_written_take_a_tag_all_the_same() -> None:
    space = scene("aa.b c...")
    space.vmas.lookup(4 * P).flags &= ~VM_WRITE  # type: ignore[union-attr]
    faulted = touch(space, 0, 6 * P)
    assert faulted.segv == [(2 * P, 1), (4 * P, 2)]
    assert not faulted.bus
    assert tags(space) == {0: 1, 1: 2, 3: 4}
    assert space.next_tag == 7


def test_reading_maps_the_zero_page() -> None:
    space = scene("aaaa")
    assert not peek(space, P, 3 * P)
    assert entries(space) == {1: ZERO_ENTRY, 2: ZERO_ENTRY}
    assert space.tree.rss_anon == space.tree.rss_shmem == 0
    assert next(iter(space.vmas)).anon_vma is None
    assert tags(space) == {}
    assert not touch(space, 2 * P, 3 * P)
    assert tags(space) == {2: 1}
    assert not check_state(space)


@pytest.mark.parametrize(
    ("access", "readable", "writable"),
    [
        (0, False, False),
        (VM_READ, True, False),
        (VM_WRITE, True, True),
        (VM_READ | VM_WRITE, True, True),
    ],
)
def test_protection(access: int, readable: bool, writable: bool) -> None:
    space = scene("aaaa")
    next(iter(space.vmas)).flags = access
    assert bool(peek(space, 0, P)) is not readable
    assert bool(touch(space, P, 2 * P)) is not writable
    if not (readable or writable):
        assert space.tree.bytes_used() == 0


def test_a_marker_faults_and_stays() -> None:
    space = scene("Aaaa")
    table = space.tree.find(0, PTE)
    assert table is not None
    space.tree.put(table, 1, leaf(0, MARKER))
    assert touch(space, 0, 3 * P).segv == [(P, 1)]
    assert peek(space, 0, 3 * P).segv == [(P, 1)]
    assert entries(space)[1] == leaf(0, MARKER)


def test_a_fault_makes_the_tables_of_its_slot_only() -> None:
    space = scene("aaaa aaaa aaaa")
    touch(space, 5 * P, 6 * P)
    assert strip_tables(space, 0, 3) == ".T."


def test_vmas_share_an_anon_vma_if_they_might_merge() -> None:
    space = scene("aabb .cc.")
    touch(space, 0, 4 * P)
    a, b, c = space.vmas
    assert a.anon_vma is b.anon_vma is not None
    touch(space, 5 * P, 6 * P)
    assert c.anon_vma not in (None, a.anon_vma)


# --- shared memory -------------------------------------------------------------------------------


def shared(pages: int, geometry: str = "tiny") -> AddressSpace:
    space = AddressSpace(kernel_named("linux-6.12", geometry))
    flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
    page = space.geometry.page_bytes
    assert mmap(space, space.arena.start, pages * page, 3, flags) == space.arena.start
    return space


def test_shared_pages_belong_to_the_object() -> None:
    space = shared(4)
    assert not touch(space, P, 3 * P)
    (vma,) = space.vmas
    assert sorted(vma.backing.pages) == [1, 2]
    assert (space.tree.rss_anon, space.tree.rss_shmem) == (0, 2)
    assert vma.anon_vma is None
    assert not check_state(space)


def test_beyond_the_object_is_a_bus_error_and_brings_no_pte_table() -> None:
    space = shared(2)
    (vma,) = space.vmas
    space.vmas.resize(vma, 0, 8 * P)
    faulted = touch(space, 0, 8 * P)
    assert faulted.bus == [(2 * P, 6)]
    assert not faulted.segv
    assert strip_tables(space, 0, 2) == "T."
    assert tags(space) == {0: 1, 1: 2}
    space = shared(2)
    (vma,) = space.vmas
    vma.pgoff = 2
    assert peek(space, 0, P).bus == [(0, 1)]
    assert strip_tables(space, 0, 1) == "."
    assert space.tree.find(0, PMD) is not None


def test_reading_maps_neighbours_the_object_has() -> None:
    """Fault-around: 64 KiB, aligned, cut to the table."""
    space = shared(64, "x86-64")
    base = space.arena.start
    assert not touch(space, base + 10 * P, base + 20 * P)
    assert munmap(space, base + 63 * P, P) is None
    space.zap(base, base + 63 * P)
    assert space.tree.rss_shmem == 0
    assert not peek(space, base + 17 * P, base + 18 * P)
    assert sorted((a - base) // P for a, _, _ in space.tree.leaves()) == [16, 17, 18, 19]
    assert space.tree.rss_shmem == 4
    # Writing maps the one page.
    space.zap(base, base + 63 * P)
    assert not touch(space, base + 17 * P, base + 18 * P)
    assert len(list(space.tree.leaves())) == 1


@pytest.mark.parametrize(("geometry", "mapped"), [("arm64-16k-47", 4), ("arm64-64k-48", 1)])
def test_pages_that_are_larger_have_fewer_neighbours(geometry: str, mapped: int) -> None:
    space = shared(64, geometry)
    base, page = space.arena.start, space.geometry.page_bytes
    touch(space, base, base + 64 * page)
    space.zap(base, base + 64 * page)
    peek(space, base + 21 * page, base + 22 * page)
    first = 21 - 21 % mapped
    found = [(addr - base) // page for addr, _, _ in space.tree.leaves()]
    assert sorted(found) == list(range(first, first + mapped))


def test_two_views_show_one_page() -> None:
    space = shared(4)
    (vma,) = space.vmas
    view = vma.clone()
    view.start, view.end = 8 * P, 12 * P
    space.vmas.insert(view)
    touch(space, P, 2 * P)
    assert tags(space) == {1: 1, 9: 1}
    touch(space, 9 * P, 10 * P)
    assert tags(space) == {1: 2, 9: 2}
    assert len(space.frames.tag) == 2


# --- populate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "anonymous", "zero"),
    [(VM_READ | VM_WRITE, 4, 0), (VM_READ, 0, 4), (0, 0, 0)],
    ids=["writable", "read-only", "no access"],
)
def test_populate(access: int, anonymous: int, zero: int) -> None:
    space = scene("aaaa")
    (vma,) = space.vmas
    vma.flags = access | VM_ACCOUNT
    assert populate_locked(space, vma, 0, 4 * P) is bool(access)
    assert space.tree.rss_anon == anonymous
    assert list(entries(space).values()).count(ZERO_ENTRY) == zero
    assert tags(space) == {}
    assert space.next_tag == 1
    assert not check_state(space)


def test_populate_keeps_what_is_there() -> None:
    space = scene("aAaA")
    (vma,) = space.vmas
    peek(space, 0, P)
    assert populate_locked(space, vma, 0, 4 * P)
    assert shown(space, 1) == "AAAA"
    assert tags(space) == {1: 1, 3: 2}
    assert space.tree.rss_anon == 4


@pytest.mark.parametrize(
    ("addr", "length", "pages"),
    [
        (0x1000, 0, (1, 1)),
        (0x1000, 1, (1, 2)),
        (0x1000, 0x1000, (1, 2)),
        (0x1FFF, 1, (1, 2)),
        (0x1FFF, 2, (1, 3)),
        (0x1800, 0, (1, 1)),
    ],
)
def test_an_access_concerns_whole_pages(addr: int, length: int, pages: tuple[int, int]) -> None:
    space = AddressSpace(tiny())
    assert access_range(space, addr, length) == Range(pages[0] * P, pages[1] * P)


@pytest.mark.parametrize("rights", [VM_READ | VM_WRITE, VM_READ, 0])
def test_what_is_locked_on_fault_only_is_not_populated(rights: int) -> None:
    space = scene("aaaa")
    (vma,) = space.vmas
    vma.flags = vma.flags & ~(VM_READ | VM_WRITE) | rights | VM_LOCKED | VM_LOCKONFAULT
    assert populate_locked(space, vma, 0, 4 * P)
    assert shown(space, 1) == "aaaa"
    old = scene("aaaa", "linux-5.0")
    old_vma = next(iter(old.vmas))
    old_vma.flags = vma.flags
    assert populate_locked(old, old_vma, 0, 4 * P) is bool(rights)
    assert shown(old, 1) == "aaaa"
    vma.flags &= ~VM_LOCKONFAULT
    assert populate_locked(space, vma, 0, 4 * P) is bool(rights)
