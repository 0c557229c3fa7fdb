"""Geometries against the table of architectures, computed another way, and what is refused."""

from dataclasses import replace

import pytest

from engine.base.address import Range
from engine.base.geometry import GEOMETRIES, GIB, Geometry, UnknownName, geometry_named

KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40

# name: page, slot, PUD entry, levels, user space top
SHAPES = {
    "x86-64": (4 * KIB, 2 * MIB, GIB, 4, (1 << 47) - 4096),
    "x86-64-pku": (4 * KIB, 2 * MIB, GIB, 4, (1 << 47) - 4096),
    "x86-64-la57": (4 * KIB, 2 * MIB, GIB, 5, (1 << 56) - 4096),
    "i386": (4 * KIB, 4 * MIB, 4 * MIB, 2, 3 * GIB),
    "i386-pae": (4 * KIB, 2 * MIB, GIB, 3, 3 * GIB),
    "i386-pae-2g": (4 * KIB, 2 * MIB, GIB, 3, 3 * GIB),
    "arm64-4k-39": (4 * KIB, 2 * MIB, GIB, 3, 1 << 39),
    "arm64-4k-48": (4 * KIB, 2 * MIB, GIB, 4, 1 << 48),
    "arm64-4k-52": (4 * KIB, 2 * MIB, GIB, 5, 1 << 52),
    "arm64-16k-36": (16 * KIB, 32 * MIB, 32 * MIB, 2, 1 << 36),
    "arm64-16k-47": (16 * KIB, 32 * MIB, 64 * GIB, 3, 1 << 47),
    "arm64-16k-48": (16 * KIB, 32 * MIB, 64 * GIB, 4, 1 << 48),
    "arm64-16k-52": (16 * KIB, 32 * MIB, 64 * GIB, 4, 1 << 52),
    "arm64-64k-42": (64 * KIB, 512 * MIB, 512 * MIB, 2, 1 << 42),
    "arm64-64k-48": (64 * KIB, 512 * MIB, 4 * TIB, 3, 1 << 48),
    "arm64-64k-52": (64 * KIB, 512 * MIB, 4 * TIB, 3, 1 << 52),
    "small": (4 * KIB, 128 * KIB, 4 * MIB, 4, (1 << 39) - 4096),
    "tiny": (4 * KIB, 16 * KIB, 64 * KIB, 4, 1 * MIB),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_shapes(name: str) -> None:
    geometry = geometry_named(name)
    shape = geometry.page_bytes, geometry.slot_bytes, geometry.pud_bytes, geometry.levels
    assert (*shape, geometry.user_top) == SHAPES[name]
    assert geometry.name == name
    assert geometry.description


@pytest.mark.parametrize("name", GEOMETRIES)
def test_an_address_is_the_sum_of_its_indices(name: str) -> None:
    """Shifts and masks of all levels take an address apart without loss or overlap."""
    geometry = GEOMETRIES[name]
    for address in (0, geometry.user_top - geometry.page_bytes, geometry.user_top // 3):
        address -= address % geometry.page_bytes
        parts = [
            (address >> geometry.entry_shift[level] & geometry.index_mask[level])
            << geometry.entry_shift[level]
            for level in range(1, geometry.levels + 1)
        ]
        assert sum(parts) == address
    for level in range(1, geometry.levels + 1):
        entries = geometry.index_mask[level] + 1
        assert entries << geometry.entry_shift[level] == geometry.span_bytes[level]
        assert 1 << geometry.entry_shift[level] == geometry.span_bytes[level - 1]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_arena_lies_in_user_space_on_a_boundary_of_its_own_size(name: str) -> None:
    geometry = GEOMETRIES[name]
    arena = geometry.arena
    assert Range(0, geometry.user_top).contains(arena)
    if geometry.arena_bytes < 512 * GIB:
        assert arena == (0, geometry.arena_bytes)
    elif geometry.user_top <= 512 * GIB:
        assert arena == (0, geometry.user_top)
    else:
        assert arena.length == 512 * GIB
        assert arena.start % (512 * GIB) == 0
        assert arena.start > 0


def test_the_arena_of_x86_64_is_where_the_recordings_were_made() -> None:
    assert GEOMETRIES["x86-64"].arena.start == 1 << 44


@pytest.mark.parametrize(
    ("geometry", "pages"), [("x86-64", 16), ("arm64-16k-47", 4), ("arm64-64k-48", 1)]
)
def test_a_read_maps_64_kib_around_it(geometry: str, pages: int) -> None:
    assert GEOMETRIES[geometry].fault_around_pages == pages


def test_only_pku_has_keys_for_what_may_only_be_executed() -> None:
    assert [g.name for g in GEOMETRIES.values() if g.exec_only_keys] == ["x86-64-pku"]


def test_only_pae_has_tables_from_the_start() -> None:
    with_tables = [g.name for g in GEOMETRIES.values() if g.prealloc_pmd_tables]
    assert with_tables == ["i386-pae", "i386-pae-2g"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"page_shift": 3}, "page_shift"),
        ({"page_shift": 21}, "page_shift"),
        ({"index_bits": (9,)}, "levels"),
        ({"index_bits": (9,) * 6}, "levels"),
        ({"index_bits": (9, 0, 9, 9)}, "index bits"),
        ({"index_bits": (9, 14, 9, 9)}, "index bits"),
        ({"user_top": (1 << 47) - 1}, "page aligned"),
        ({"user_top": 0}, "beyond the tree"),
        ({"user_top": 1 << 49}, "beyond the tree"),
        ({"word_bits": 32}, "wider word"),
        ({"prealloc_pmd_tables": True}, "three levels"),
    ],
)
def test_shapes_no_machine_has_are_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=rf"x86-64: .*{why}"):
        replace(GEOMETRIES["x86-64"], **change)


def test_the_description_does_not_tell_geometries_apart() -> None:
    tiny = GEOMETRIES["tiny"]
    assert replace(tiny, description="another") == tiny
    assert replace(tiny, user_top=1 << 19) != tiny
    assert hash(replace(tiny)) == hash(tiny)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown geometry 'sparc'; known: x86-64, .*tiny"):
        geometry_named("sparc")
    assert issubclass(UnknownName, ValueError)


def test_one_level_more_covers_more() -> None:
    small = Geometry("small", 12, (2, 2), 1 << 16)
    large = Geometry("large", 12, (2, 2, 2), 1 << 16)
    assert large.slot_bytes == small.slot_bytes
    assert large.pud_bytes == 4 * small.pud_bytes
