"""The table tree: walking, counting, and which tables an unmap frees."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.entry import ANON, HUGE, PRESENT, leaf
from engine.base.failures import Failures
from engine.base.geometry import GEOMETRIES, GIB, PMD, PTE, PUD, geometry_named
from engine.base.kernel import kernel_named
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE
from engine.calls.mmap import mmap, munmap
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from engine.state.table import OutOfTables, Table, TableTree
from fuzz.rules.judge import check_state
from tests.lib.constants import PAGE

PLAIN = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
TINY = GEOMETRIES["tiny"]


def spans(tree: TableTree) -> set[tuple[int, int]]:
    """(level, base address) of every table below the root."""
    return {(table.level, base) for base, table in tree.tables() if table is not tree.root}


# --- walking and counting ------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_page_needs_one_table_a_level(name: str) -> None:
    geometry = geometry_named(name)
    tree = TableTree(geometry, Failures())
    address = geometry.arena.start + geometry.slot_bytes
    assert tree.find(address, PTE) is None
    table = tree.make(address, PTE)
    assert tree.find(address, PTE) is table
    assert tree.make(address, PTE) is table
    assert table.level == PTE
    path = [t for base, t in tree.tables() if base <= address < base + geometry.span_bytes[t.level]]
    assert [t.level for t in path] == list(range(geometry.levels, 0, -1))
    assert [tree.find(address, t.level) for t in path] == path


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        ("x86-64", 3),
        ("x86-64-la57", 3),
        ("i386", 1),
        ("i386-pae", 4),
        ("arm64-4k-39", 2),
        ("arm64-4k-52", 3),
        ("arm64-16k-47", 2),
        ("arm64-16k-52", 2),  # the PUD table is that of the program, too
        ("tiny", 3),
    ],
)
def test_vm_pte_counts_pte_pmd_and_pud_tables(name: str, pages: int) -> None:
    """Neither the root nor P4D tables count; on PAE three PMD tables are there from the start."""
    tree = TableTree(geometry_named(name), Failures())
    tree.make(0, PTE)
    assert tree.bytes_used() == pages * tree.geometry.page_bytes


def test_tables_and_leaves_come_in_address_order() -> None:
    tree = TableTree(TINY, Failures())
    pages = [200, 3, 77, 0, 5, 78]
    for number, page in enumerate(pages):
        table = tree.make(page * PAGE, PTE)
        tree.put(table, tree.index(page * PAGE, PTE), leaf(number, PRESENT))
    tree.put(tree.make(0x50000, PMD), 1, leaf(99, PRESENT | HUGE))
    found = list(tree.leaves())
    assert [address // PAGE for address, _, _ in found] == [0, 3, 5, 77, 78, 84, 200]
    assert [level for _, level, _ in found] == [1, 1, 1, 1, 1, 2, 1]
    assert [address // PAGE for address, _, _ in tree.leaves(3 * PAGE, 78 * PAGE)] == [3, 5, 77]
    bases = [base for base, table in tree.tables() if table.level == PTE]
    assert bases == sorted(bases)
    by_table = {base: set(table.leaves) for base, table in tree.leaf_tables()}
    assert by_table[0x4D000 // 0x4000 * 0x4000] == {1, 2}
    assert list(by_table[0x50000]) == [1]


@given(st.sets(st.integers(0, 255), max_size=12), st.integers(0, 256), st.integers(0, 256))
def test_leaves_of_a_range_are_those_in_it(pages: set[int], start: int, end: int) -> None:
    tree = TableTree(TINY, Failures())
    for page in pages:
        tree.put(tree.make(page * PAGE, PTE), page & 3, leaf(page, PRESENT))
    found = [address // PAGE for address, _, _ in tree.leaves(start * PAGE, end * PAGE)]
    assert found == sorted(page for page in pages if start <= page < end)
    for page in range(256):
        table = tree.root
        later = [p for p in pages if p // 64 > page // 64]
        expected = min((p // 64 * 64 for p in later), default=256)
        assert tree.next_entry(table, page * PAGE) == expected * PAGE


def test_a_refused_allocation_leaves_what_was_allocated_before_it() -> None:
    tree = TableTree(TINY, Failures())
    tree.refuse = lambda number: number == 1
    with pytest.raises(OutOfTables):
        tree.make(0, PTE)
    assert spans(tree) == {(PUD, 0)}
    assert tree.counts == [0, 0, 0, 1]
    tree.make(0, PTE)
    assert tree.counts == [0, 1, 1, 1]


def test_a_freed_table_is_not_counted() -> None:
    tree = TableTree(TINY, Failures())
    tree.make(0, PTE)
    parent = tree.find(0, PMD)
    assert parent is not None
    tree.free(parent, 0)
    assert tree.counts == [0, 0, 1, 1]
    assert tree.find(0, PTE) is None


# --- freeing by floor and ceiling ----------------------------------------------------------------


def tree_for(start: int, end: int, floor: int, ceiling: int) -> TableTree:
    """All tables of a mapping of pages [start, end), of what is below floor and above ceiling."""
    tree = TableTree(TINY, Failures())
    for page in (*range(floor), *range(start, end), *range(ceiling, 256)):
        tree.make(page * PAGE, PTE)
    return tree


def free(tree: TableTree, start: int, end: int, floor: int, ceiling: int) -> list[object]:
    """Free the tables of pages [start, end); a ceiling of 256 is none."""
    top = ceiling * PAGE if ceiling < 256 else 0
    return [*tree.free_range(start * PAGE, end * PAGE, floor * PAGE, top)]


@given(st.lists(st.integers(0, 256), min_size=4, max_size=4).map(sorted), st.booleans())
def test_a_table_goes_if_neither_neighbour_reaches_into_its_span(
    bounds: list[int], top_is_free: bool
) -> None:
    """Against a definition that knows no rounding: floor <= start < end <= ceiling, in pages."""
    floor, start, end, ceiling = bounds
    if start == end:
        return
    ceiling = 256 if top_is_free else ceiling
    tree = tree_for(start, end, floor, ceiling)
    before = spans(tree)
    assert free(tree, start, end, floor, ceiling) == []
    for level, base in before:
        low, high = base // PAGE, (base + TINY.span_bytes[level]) // PAGE
        goes = low < end and start < high and floor <= low and high <= ceiling
        assert ((level, base) in spans(tree)) is not goes, (level, low, high)
    assert sum(tree.counts) == len(spans(tree))


FREED = [
    # start, end, floor, ceiling in pages; slots whose PTE table goes, number of PMD tables that go
    pytest.param(4, 8, 0, 256, {1}, 1, id="nothing else mapped"),
    pytest.param(5, 8, 4, 256, {1}, 0, id="a neighbour below in the slot before"),
    pytest.param(6, 8, 5, 256, set(), 0, id="a neighbour below in the slot"),
    pytest.param(4, 7, 4, 7, set(), 0, id="a neighbour above in the slot"),
    pytest.param(4, 7, 4, 8, {1}, 0, id="a neighbour above in the slot behind"),
    pytest.param(
        1, 31, 1, 256, {1, 2, 3, 4, 5, 6, 7}, 1, id="the first slot and its PMD table stay"
    ),
    pytest.param(0, 16, 0, 16, {0, 1, 2, 3}, 1, id="a whole PMD table"),
    pytest.param(0, 15, 0, 15, {0, 1, 2}, 0, id="one page above keeps the PMD table"),
    pytest.param(0, 2, 0, 3, set(), 0, id="a ceiling in the first slot keeps everything"),
]


@pytest.mark.parametrize(("start", "end", "floor", "ceiling", "slots", "pmd_tables"), FREED)
def test_freeing_step_by_step(
    start: int, end: int, floor: int, ceiling: int, slots: set[int], pmd_tables: int
) -> None:
    tree = tree_for(start, end, floor, ceiling)
    before, pmds = spans(tree), tree.counts[PMD]
    free(tree, start, end, floor, ceiling)
    gone = before - spans(tree)
    assert {base // TINY.slot_bytes for level, base in gone if level == PTE} == slots
    assert pmds - tree.counts[PMD] == pmd_tables


def test_a_table_freed_in_use_is_told() -> None:
    tree = tree_for(0, 4, 0, 256)
    table = tree.find(0, PTE)
    assert table is not None
    tree.put(table, 1, leaf(1, PRESENT | ANON))
    assert free(tree, 0, 4, 0, 256) == [(0, table)]
    assert spans(tree) == set()


Op = tuple[str, int, int]
operations = st.lists(
    st.tuples(
        st.sampled_from(["map", "map", "touch", "unmap"]), st.integers(0, 255), st.integers(1, 40)
    ),
    min_size=2,
    max_size=10,
)


@given(operations)
def test_no_vma_no_table(ops: list[Op]) -> None:
    """After any unmapping exactly the tables are gone in whose span nothing is mapped any more."""
    space = AddressSpace(kernel_named("linux-6.12", "tiny"))
    tables: set[tuple[int, int]] = set()
    for name, first, pages in ops:
        start, end = first * PAGE, min(first + pages, 256) * PAGE
        if name == "touch":
            touch(space, start, end)
            for vma in space.vmas.intersecting(start, end):
                for address in range(max(vma.start, start), min(vma.end, end), PAGE):
                    tables |= {
                        (level, address - address % TINY.span_bytes[level]) for level in (1, 2, 3)
                    }
            continue
        if name == "map":
            mmap(space, start, end - start, 3, PLAIN)
        if name == "unmap":
            space.unmap(start, end)
            mapped = [vma.range for vma in space.vmas]
        else:
            # MAP_FIXED unmaps first: what is mapped without the new range decides.
            mapped = [vma.range for vma in space.vmas]
            mapped = [
                part
                for low, high in mapped
                for part in ((low, min(high, start)), (max(low, end), high))
                if part[0] < part[1]
            ]
        tables = {
            (level, base)
            for level, base in tables
            if any(low < base + TINY.span_bytes[level] and base < high for low, high in mapped)
        }
        assert spans(space.tree) == tables
    assert not check_state(space)


# --- PAE -----------------------------------------------------------------------------------------


def test_pae_has_its_pmd_tables_until_a_gigabyte_is_emptied() -> None:
    space = AddressSpace(kernel_named("linux-6.12", "i386-pae"))
    assert spans(space.tree) == {(PMD, 0), (PMD, GIB), (PMD, 2 * GIB)}
    mmap(space, GIB, 2 * PAGE, 3, PLAIN)
    touch(space, GIB, GIB + 2 * PAGE)
    assert space.tree.bytes_used() == 4 * PAGE
    munmap(space, GIB, PAGE)
    assert space.tree.bytes_used() == 4 * PAGE
    munmap(space, GIB + PAGE, PAGE)
    assert spans(space.tree) == {(PMD, 0), (PMD, 2 * GIB)}
    assert not check_state(space)


def test_pae_keeps_a_pmd_table_while_the_gigabyte_has_another_mapping() -> None:
    space = AddressSpace(kernel_named("linux-6.12", "i386-pae"))
    for address in (GIB, 2 * GIB - PAGE):
        mmap(space, address, PAGE, 3, PLAIN)
        touch(space, address, address + PAGE)
    munmap(space, GIB, PAGE)
    assert (PMD, GIB) in spans(space.tree)
    munmap(space, 2 * GIB - PAGE, PAGE)
    assert (PMD, GIB) not in spans(space.tree)


# --- cost ----------------------------------------------------------------------------------------


@contextmanager
def counted_lines(limit: int) -> Iterator[None]:
    """Fails when the block executes more than `limit` lines of the engine: a measure of work that
    does not depend on the machine."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.settrace(before)
    assert lines < limit


@pytest.mark.parametrize("length", [GIB, 64 * GIB, 255 * GIB])
@pytest.mark.parametrize("skew", [0, PAGE])
@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_a_sparse_move_costs_what_is_there_not_what_is_covered(
    kernel: str, skew: int, length: int
) -> None:
    """Three pages in up to 255 GiB; a walk by slots would take 130,000 steps."""
    space = AddressSpace(kernel_named(kernel))
    old = space.arena.start
    new = old + 256 * GIB + skew
    mmap(space, old, length, 3, PLAIN)
    for address in (old, old + length // 2, old + length - PAGE):
        touch(space, address, address + PAGE)
    with counted_lines(4000):
        assert mremap(space, old, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, new) == new
    assert [(a - new) // PAGE for a, _, _ in space.tree.leaves()] == [
        0,
        length // 2 // PAGE,
        length // PAGE - 1,
    ]
    with counted_lines(2000):
        assert munmap(space, new, length) is None
    assert space.tree.bytes_used() == 0


def test_an_empty_arena_costs_nothing_to_move_walk_and_free() -> None:
    tree = TableTree(geometry_named("x86-64"), Failures())
    top = tree.geometry.user_top
    with counted_lines(100):
        assert not list(tree.leaves())
        assert tree.free_range(0, top, 0, 0) == []
        assert [table for _, table in tree.tables()] == [tree.root]


def test_repr_names_the_level() -> None:
    assert repr(Table(2)) == "<Table level 2, 0 entries>"
