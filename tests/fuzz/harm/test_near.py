"""Which programs are near a program."""

from itertools import islice

from engine.base.geometry import geometry_named
from engine.base.uapi import MREMAP_MAYMOVE
from fuzz.case import Call, Case
from fuzz.forms.text import format_call, parse
from fuzz.harm.near import Near
from fuzz.minimize.ranges import is_writable, to_calls, to_search_form

GEOMETRY = geometry_named("x86-64")
MAP = "mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
MOVE = parse(f"{MAP}mremap(0x3ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1ff000)\n")


def near(case: Case, result: int = 0x1FF000, geometry: str = "x86-64") -> Near:
    """The programs near one whose last call breaks a rule."""
    calls = to_search_form(case.calls)
    return Near(calls, len(calls) - 1, result, geometry_named(geometry))


def added(case: Case, result: int = 0x1FF000) -> set[str]:
    """What is added alone, `|` for the last call of the case."""
    found = near(case, result)
    count = sum(map(len, found.kinds))
    texts = set()
    for program in islice(found.programs(), count):
        calls = list(to_calls(program))
        own = [calls.index(call) for call in case.calls]
        assert own == sorted(own)  # the program itself is there, in its order
        names = [
            "|" if index == own[-1] else format_call(call, GEOMETRY.page_bytes)
            for index, call in enumerate(calls)
            if index not in own[:-1]
        ]
        texts.add(" ".join(names))
    return texts


def test_pages_neighbours_and_others_come_around_the_call() -> None:
    texts = added(MOVE)
    flags = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE"
    assert {
        "touch(0x3fe000, 0x2000) |",  # all of the VMA
        f"mmap(0x200000, 0x1ff000, {flags}) touch(0x200000, 0x1ff000) |",  # below, in its slot
        f"mmap(0x0, 0x1000, {flags}) touch(0x0, 0x1000) |",  # in the destination's
        "touch_on(1, 0x3ff000) |",
        "fork() |",
        "@fail pagetable 2 |",
        "| peek(0x3fe000, 0x2000)",
        "| mremap(0x1ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x3ff000)",  # back
        "| mremap(0x1ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x9ff000)",  # onward
        "| munmap(0x1ff000, 0x1000)",
        f"| munmap(0x0, {GEOMETRY.arena.length:#x})",
    } <= texts


def test_where_the_kernel_has_chosen_a_place_is_known_by_the_result() -> None:
    anywhere = MOVE.with_calls(
        [*MOVE.calls[:1], Call("mremap", (0x3FF000, 0x1000, 0x2000, MREMAP_MAYMOVE, 0))]
    )
    assert "| touch(0x7000000, 0x2000)" in added(anywhere, 0x7000000)


def test_a_stack_has_gone_down() -> None:
    stack = parse("execve_stack(0x1fff000, 0x2200000, 0x200000)\n")
    assert "| peek(0x1dff000, 0x201000)" in added(stack, 0)


def test_the_programs_are_the_same_each_time_and_can_be_written() -> None:
    for geometry in ("x86-64", "i386"):
        first, second = (list(islice(near(MOVE, geometry=geometry).programs(), 400)) for _ in "ab")
        assert first == second
        assert len(set(first)) > 300
        assert all(map(is_writable, first))


def test_what_is_at_the_edge_of_the_arena_stays_inside() -> None:
    case = parse(
        "mmap(0x0, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "mremap(0x0, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x7ffffff000)\n"
    )
    for program in islice(near(case, 0x7FFFFFF000).programs(), 400):
        for call in program:
            if call.name in ("touch", "peek", "munmap"):
                assert 0 <= call.args[0] < call.args[0] + call.args[1] <= GEOMETRY.arena.length


def test_a_call_without_a_range_has_programs_near_it() -> None:
    program = next(near(parse("fork()\n"), 0).programs())
    assert [call.name for call in program] == ["fork", "fork"]
