"""Entries are written by `engine/state/table.py` alone, so that counters and the clock are right.

Who writes is read from the syntax: whatever is called `leaves` or `tables` somewhere, or is a local
name for that.
"""

import ast
from collections.abc import Iterator
from random import Random

import pytest

from engine.base.kernel import kernel_named
from engine.state.space import AddressSpace
from engine.state.table import Table
from fuzz.execute import execute
from fuzz.forms import wire
from tests.lib.constants import ROOT

WRITER = ROOT / "engine" / "state" / "table.py"
DICTIONARIES = {"leaves", "tables"}
COUNTERS = {"deposited", "touched", "rss_anon", "rss_shmem", "rss_swap"}
WRITE = {"clear", "pop", "popitem", "setdefault", "update"}


def writes(tree: ast.AST, kept: set[str] = COUNTERS) -> Iterator[str]:
    """Each write into a dictionary of a table, and to an attribute of the names `kept`."""
    aliases = {
        name.id
        for node in ast.walk(tree)
        for name, value in bound(node)
        if isinstance(name, ast.Name) and is_dictionary(value, set())
    }
    for node in ast.walk(tree):
        match node:
            case (
                ast.Subscript(value=value, ctx=ast.Store() | ast.Del())
                | ast.AugAssign(target=ast.Name() as value)
            ) if is_dictionary(value, aliases):
                yield ast.unparse(node)
            case ast.Attribute(value=value, attr=attr) if attr in WRITE:
                if is_dictionary(value, aliases):
                    yield ast.unparse(node)
            case ast.Attribute(attr=attr, ctx=ast.Store()) if attr in kept or (
                attr in DICTIONARIES and ast.unparse(node.value) != "self"
            ):
                yield ast.unparse(node)


def bound(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The names that a statement gives to values."""
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
            yield from zip(names, values, strict=True)
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case ast.NamedExpr(target=target, value=value):
            yield target, value


def is_dictionary(node: ast.expr, aliases: set[str]) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="self")):
            return False  # of some other class: tables write nothing
        case ast.Attribute(attr=attr):
            return attr in DICTIONARIES
        case ast.Name(id=name):
            return name in aliases
    return False


@pytest.mark.parametrize("folder", ["engine", "fuzz", "tests"])
def test_only_one_file_writes_into_tables(folder: str) -> None:
    kept = COUNTERS if folder != "tests" else set()  # tests of rules break counters
    found = [
        f"{path.relative_to(ROOT)}: {write}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != WRITER
        for write in writes(ast.parse(path.read_bytes()), kept)
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("table.leaves[1] = 2", 1),
        ("table.leaves[1] |= 2", 1),
        ("del space.tree.find(0, PTE).tables[1]", 1),
        ("table.leaves |= more", 1),
        ("table.leaves = {}", 1),
        ("taken = list(map(table.leaves.pop, hits))", 1),
        ("pages, leaves = file.pages, table.leaves\nleaves.setdefault(1, 2)", 1),
        ("if found := table.tables:\n    found[1] = other", 1),
        ("leaves = table.leaves\nleaves |= more", 1),
        ("table.deposited -= 1", 1),
        ("space.tree.rss_anon += 1", 1),
        ("entry = table.leaves[1] | table.leaves.get(2)", 0),
        ("leaves = {}\nleaves[1] = 2", 0),
        ("self.tables = []\nself.tables.clear()", 0),
    ],
)
def test_what_a_write_is(source: str, count: int) -> None:
    assert len(list(writes(ast.parse(source)))) == count


def test_the_writer_is_found() -> None:
    assert len(list(writes(ast.parse(WRITER.read_bytes())))) > 10


@pytest.mark.parametrize("geometry", ["tiny", "x86-64"])
def test_what_changed_has_a_later_tick(geometry: str) -> None:
    """A table that was not touched is what it was; what is frozen stays what it was."""
    kernel, random = kernel_named("linux-6.18", geometry), Random(1)
    codec = wire.Codec(kernel.geometry)
    seen: dict[Table, tuple[int, dict[int, int], dict[int, int], dict[int, Table]]] = {}
    changed = 0

    def look(_: int, space: AddressSpace) -> None:
        nonlocal changed
        for table, (touched, frozen, leaves, tables) in seen.items():
            if table.touched == touched:
                assert table.leaves == leaves and table.tables == tables
                assert table.frozen() is frozen
            assert frozen == leaves
            changed += table.leaves != leaves
        for _, table in space.tree.tables():
            assert table.touched <= space.tree.clock
            frozen = table.frozen()
            seen[table] = table.touched, frozen, table.leaves.copy(), table.tables.copy()

    for _ in range(30):
        seen.clear()
        case = codec.decode(random.randbytes(300))
        execute(case, kernel, stop=False, check=False, on_step=look)
    assert changed > 50
