"""Which calls stay in the arena: the model and machines are told by one rule."""

from random import Random

import pytest

from engine.base.geometry import GEOMETRIES, Geometry
from engine.base.kernel import kernel_named
from fuzz.calls.arena import Arena
from fuzz.calls.registry import CALLS, as_made, operands
from fuzz.calls.syscall import Makes
from fuzz.case import Call, Case
from fuzz.execute import execute
from fuzz.forms.text import parse, parse_call
from tests.lib.boundaries import END, GEOMETRY, MOST, STAYS, calls_at_edges
from tests.lib.machine import line as line_of

ARENA = Arena.of(GEOMETRY)


def runs(call: Call) -> bool:
    """Does the rule let the call run?"""
    declared = CALLS[call.name]
    return declared.may_run(ARENA, *operands(ARENA, declared, as_made(call, GEOMETRY).args))


def told(*lines: str) -> list[str]:
    """What the agent is told of each call."""
    calls = line_of(parse_call(line) for line in lines)
    return calls.rstrip("\n").removeprefix("\t").split(";")


@pytest.mark.parametrize(("line", "stays"), STAYS.items())
def test_calls_at_the_edges(line: str, stays: bool) -> None:
    call = parse_call(line)
    assert runs(call) is stays
    outcome = execute(Case((call,)), kernel_named("linux-6.18"), stop=False)
    assert (outcome.results == ["SKIP"]) is not stays
    assert (told(line) == ["skip"]) is not stays


def test_machines_are_told_of_what_runs_on_the_model() -> None:
    for call in calls_at_edges(Random(1), 5_000):
        outcome = execute(Case((call,)), kernel_named("linux-6.18"), check=False, stop=False)
        skipped = line_of([call]) == "\tskip\n"
        assert (outcome.results == ["SKIP"]) is skipped, call


def test_what_is_refused_changes_nothing_and_all_else_lies_inside() -> None:
    """All of the arena is mapped, and what runs though it names more is refused or does nothing."""
    everything = parse(f"mmap(0, {END:#x}, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)").calls
    kernel = kernel_named("linux-6.18")
    seen = 0
    for call in calls_at_edges(Random(2), 5_000):
        declared = CALLS[call.name]
        if not runs(call) or declared.span is None:
            continue
        start, length = declared.span.of(call.args)
        if start + length <= END or call.name in ("mmap", "mremap"):
            continue
        seen += 1
        outcome = execute(Case((*everything, call)), kernel, check=False, stop=False)
        assert outcome.results[1] == 0 or str(outcome.results[1]).startswith("-E"), call
        if outcome.results[1] == 0:
            assert not length or length > MOST, call  # empty, or it rounds to 0 or wraps
    assert seen > 500


def test_growth_of_locked_memory_is_kept_small() -> None:
    lines = (
        "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)",
        "mremap(0, 0x1000, 0x4001000, MREMAP_MAYMOVE)",
        "mremap(0, 0x1000, 0x4001001, MREMAP_MAYMOVE)",
    )
    start = GEOMETRY.arena.start
    assert [text.split()[0] for text in told(*lines)] == ["mmap", "mremap", "unlocked"]
    assert told(lines[2])[0].startswith(f"unlocked {start:x} mremap {start:x} 1000 4001001 1 ")
    for locked, result in (("", 0x8000000), ("|MAP_LOCKED", "SKIP")):
        mapped = (
            f"mmap(0x8000000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED{locked})\n"
            "mremap(0x8000000, 0x1000, 0x4001001, MREMAP_MAYMOVE)\n"
        )
        assert execute(parse(mapped), kernel_named("linux-6.18"), stop=False).results[1] == result


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("uffd_wp(0x200000, 0x4000000, 1)", True),
        ("uffd_wp(0x200000, 0x4001000, 1)", False),
        ("uffd_wp(0x200000, 0x4001000, 0)", True),
        ("uffd_wp(0x200001, 0x4001000, 1)", True),  # refused
    ],
)
def test_a_marker_is_as_much_as_a_page(line: str, stays: bool) -> None:
    assert runs(parse_call(line)) is stays


@pytest.mark.parametrize("line", ["fork()", "execve_stack(0x1fff000, 0x2200000, 0x200000)"])
def test_machines_are_not_asked_for_what_only_the_model_has(line: str) -> None:
    assert told(line) == ["skip"]
    assert CALLS[line.partition("(")[0]].made_by in (Makes.MODEL, Makes.EXEC)


def test_machines_are_not_asked_for_flags_that_only_the_model_has() -> None:
    assert told("mmap(0, 0x200000, 1, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB)") == ["skip"]


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=str)
def test_arena_is_that_of_the_geometry(geometry: Geometry) -> None:
    arena = Arena.of(geometry)
    assert arena.end - arena.start == geometry.arena.length
    assert arena.inside(arena.start, geometry.arena.length)
    assert not arena.inside(arena.start, geometry.arena.length + 1)
