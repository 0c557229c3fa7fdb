"""The minimizer on toy findings, whose simplest cases are known."""

import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.address import Range
from engine.base.geometry import GEOMETRIES, Geometry
from fuzz.calls.operand import Operand, Symbols
from fuzz.calls.registry import CALLS, call
from fuzz.case import Call, Case, Expectation
from fuzz.forms.text import format_call, parse_call
from fuzz.minimize.search import minimize
from fuzz.minimize.simplicity import simplicity
from tests.lib.constants import PAGE
from tests.lib.programs import limits_first

X86 = GEOMETRIES["x86-64"]
SLOT = 0x200000
PUD = 0x40000000
RW, RWX = 3, 7
FIXED_ANON, SHARED_ANON, POPULATED = 0x32, 0x31, 0x8032
MAYMOVE_FIXED = 3


def program(*calls: Call, kernel: str | None = None) -> Case:
    return Case(calls, kernel=kernel)


def moves_touched_slots(case: Case) -> bool:
    """mmap, a touch inside, then a PMD-aligned move of at least two slots of that mapping."""
    mapped: list[Range] = []
    touched: list[Range] = []
    for name, args, _ in case.calls:
        span = Range(args[0], args[0] + args[1])
        if name == "mmap" and span.length:
            mapped.append(span)
        elif name == "touch" and span.length and any(area.contains(span) for area in mapped):
            touched.append(span)
        elif name == "mremap":
            old, old_size, new_size, flags, new = args
            if (
                flags == MAYMOVE_FIXED
                and old % SLOT == new % SLOT == 0
                and old_size == new_size >= 2 * SLOT
                and not span.overlaps(Range(new, new + new_size))
                and any(area.contains(span) for area in mapped)
                and any(span.contains(area) for area in touched)
            ):
                return True
    return False


CLUTTERED = program(
    call("mmap", 0x7000, 0x3000, RW, SHARED_ANON),
    call("mmap", 0x40A00000, 0x1234000, RWX, POPULATED, 5, 0x3000),
    call("peek", 0x40A00000, 0x5000),
    call("mmap", 0x3FE00000, 0x300000, RW, FIXED_ANON),
    call("touch", 0x40A01000, 0x3000),
    call("touch", 0x41001000, 0x12000),
    call("mprotect", 0x7000, 0x1000, 1),
    call("mremap", 0x40C00000, 0xA00000, 0xA00000, MAYMOVE_FIXED, 0x1FFE00000),
    call("madvise", 0x1FFE00000, 0x10000, 4),
    call("munmap", 0, 0x7F0000000000),
)


def test_finds_the_known_minimum() -> None:
    assert moves_touched_slots(CLUTTERED)
    assert minimize(CLUTTERED, moves_touched_slots, X86).calls == (
        call("mmap", 0, 2 * SLOT, RW, FIXED_ANON),
        call("touch", 0, PAGE),
        call("mremap", 0, 2 * SLOT, 2 * SLOT, MAYMOVE_FIXED, 2 * SLOT),
    )


def test_keeps_the_header_and_drops_asserted_results() -> None:
    case = Case(
        (call("peek", 0, 0), Call("touch", (0x3000, 0x5000), 0)),
        kernel="linux-6.1",
        geometry="x86-64",
        expects=(Expectation(None, "dest-entry-none"),),
        found=("run 1",),
        hypothetical=True,
        comments=("why",),
    )
    result = minimize(case, lambda c: any(x.name == "touch" for x in c.calls), X86)
    assert result == replace(case, calls=(call("touch", 0, 0),))


def test_every_call_that_is_left_is_needed() -> None:
    """Findings of three calls spread over a long program."""
    calls = [call("peek", i * PAGE, PAGE) for i in range(100)]
    calls[3], calls[50], calls[98] = (
        call("mlock", 0, PAGE),
        call("touch", 0, PAGE),
        call("munlock", 0, PAGE),
    )

    def same(case: Case) -> bool:
        names = [c.name for c in case.calls]
        return all(name in names for name in ("mlock", "touch", "munlock"))

    runs = 0

    def counted(case: Case) -> bool:
        nonlocal runs
        runs += 1
        return same(case)

    result = minimize(program(*calls), counted, X86)
    assert [c.name for c in result.calls] == ["mlock", "touch", "munlock"]
    assert runs < 150, "chunks should go before single calls"
    for index in range(3):
        assert not same(result.with_calls(result.calls[:index] + result.calls[index + 1 :]))


def test_calls_that_go_only_together_go() -> None:
    """Neither call of a pair can be dropped alone."""

    def same(case: Case) -> bool:
        names = [c.name for c in case.calls]
        return "touch" in names and names.count("mlock") == names.count("munlock")

    case = program(call("mlock", 0, PAGE), call("touch", 0, PAGE), call("munlock", 0, PAGE))
    assert minimize(case, same, X86).calls == (call("touch", 0, 0),)


def test_equal_lengths_shrink_together() -> None:
    """The finding needs three lengths to stay equal, above a threshold that is no boundary."""

    def same(case: Case) -> bool:
        if [c.name for c in case.calls] != ["mmap", "mremap"]:
            return False
        mapped, moved = (c.args for c in case.calls)
        return mapped[1] == moved[1] == moved[2] >= 5 * PAGE and mapped[0] == moved[0]

    size = 0x1234000
    case = program(
        call("mmap", 0, size, RW, FIXED_ANON),
        call("mremap", 0, size, size, MAYMOVE_FIXED, 0x10000000),
    )
    assert minimize(case, same, X86).calls == (
        call("mmap", 0, 5 * PAGE, RW, FIXED_ANON),
        call("mremap", 0, 5 * PAGE, 5 * PAGE, 0, 0),
    )


def test_addresses_move_together() -> None:
    """Every call must lie in the mapping, at its distance from the start; the chain must hold."""
    base, there, beyond = 0x123456000, 0x7654321000, 0x3456789000
    size, inside = 0x10000, 0x4000

    def same(case: Case) -> bool:
        if [c.name for c in case.calls] != ["mmap", "mremap", "mremap", "touch"]:
            return False
        mapped, first, second, touched = (c.args for c in case.calls)
        return (
            mapped[:2] == first[:2]
            and second[0] == first[4]
            and first[1] == first[2] == second[1] == second[2]
            and touched[0] == second[4] + inside
            and touched[1] > 0
            and mapped[1] > inside
            and len({mapped[0], first[4], second[4]}) == 3
        )

    case = program(
        call("mmap", base, size, RW, FIXED_ANON),
        call("mremap", base, size, size, MAYMOVE_FIXED, there),
        call("mremap", there, size, size, MAYMOVE_FIXED, beyond),
        call("touch", beyond + inside, PAGE),
    )
    calls = minimize(case, same, X86).calls
    assert {calls[0].args[0], calls[1].args[4], calls[2].args[4]} == {0, PAGE, 2 * PAGE}
    assert calls[0].args[1] == inside + PAGE


def test_a_fault_at_the_far_end_comes_to_the_front() -> None:
    """A long move of which only the last slot matters becomes a short one at a low address."""

    def same(case: Case) -> bool:
        """A page is mapped, touched and moved to a place that differs in its offset in the PUD."""
        mapped: list[Range] = []
        touched: list[int] = []
        for name, args, _ in case.calls:
            span = Range(args[0], args[0] + args[1])
            if name == "mmap":
                mapped.append(span)
            elif name == "touch" and any(area.contains(span) for area in mapped):
                touched += [span.start] if span.length == PAGE else []
            elif name == "mremap" and args[1] == args[2] and args[1] % SLOT == 0:
                aligned_alike = args[0] % PUD == args[4] % PUD
                moved = any(area.contains(span) for area in mapped) and not aligned_alike
                return moved and any(span.start <= page < span.end for page in touched)
        return False

    case = program(
        call("mmap", 0, 4 * PUD, RW, FIXED_ANON),
        call("touch", 4 * PUD - 3 * PAGE, PAGE),
        call("mremap", 0, 4 * PUD, 4 * PUD, MAYMOVE_FIXED, 16 * PUD + SLOT),
    )
    assert minimize(case, same, X86).calls == (
        call("mmap", 0, SLOT, RW, FIXED_ANON),
        call("touch", 0, PAGE),
        call("mremap", 0, SLOT, SLOT, 0, PAGE),
    )


def test_a_touch_is_narrowed_to_the_page_that_matters() -> None:
    """The mapping has to stay as long as it is, so no space can be cut out."""

    def same(case: Case) -> bool:
        if [c.name for c in case.calls] != ["mmap", "touch"]:
            return False
        mapped, touched = (c.args for c in case.calls)
        page = mapped[0] + SLOT
        return mapped[1] >= 2 * SLOT and touched[0] <= page < touched[0] + touched[1]

    case = program(call("mmap", SLOT, 2 * SLOT, RW, FIXED_ANON), call("touch", SLOT, 2 * SLOT))
    assert minimize(case, same, X86).calls == (
        call("mmap", 0, 2 * SLOT, RW, FIXED_ANON),
        call("touch", SLOT, PAGE),
    )


def test_a_stack_shrinks_under_its_end() -> None:
    """The thread's case: overlapping move by whole slots, of more than the shift."""

    def same(case: Case) -> bool:
        return any(
            c.name == "execve_stack"
            and c.args[1] % PUD == 0 != c.args[1]
            and c.args[2] >= SLOT
            and c.args[2] % SLOT == 0
            and c.args[1] - c.args[0] > c.args[2]
            for c in case.calls
        )

    case = program(call("execve_stack", 0x9FB07000, 0xC0000000, 0x1400000))
    expected = call("execve_stack", PUD - 0x300000, PUD, SLOT)  # 0x201000 has more digits
    assert minimize(case, same, X86).calls == (expected,)


@pytest.mark.parametrize("name", ["tiny", "i386", "arm64-64k-42"])
def test_boundaries_are_those_of_the_geometry(name: str) -> None:
    geometry = GEOMETRIES[name]
    slot = geometry.slot_bytes

    def same(case: Case) -> bool:
        return any(c.name == "peek" and c.args[0] // slot == 3 for c in case.calls)

    start = 3 * slot + geometry.page_bytes
    result = minimize(program(call("peek", start, slot)), same, geometry)
    assert result.calls == (call("peek", 3 * slot, 0),)


@pytest.mark.parametrize(
    ("flags", "needed", "expected"),
    [
        (0x10A131, 0x0, FIXED_ANON),  # nothing matters: the ordinary flags
        (0x10A131, 0x8000, POPULATED),  # MAP_POPULATE matters, MAP_SHARED gives way
        (0x10A131, 0x1, SHARED_ANON),  # MAP_SHARED matters
        (0xFFF00000DEADBEEF | 0x8000, 0x8000, POPULATED),  # unknown bits
    ],
)
def test_flags_become_ordinary(flags: int, needed: int, expected: int) -> None:
    def same(case: Case) -> bool:
        return any(
            c.args[3] & needed == needed and bool(c.args[3] & 1) != bool(c.args[3] & 2)
            for c in case.calls
        ) or case.calls == (call("mmap", 0, 0, RW, flags),)

    result = minimize(program(call("mmap", 0, 0, RW, flags)), same, X86)
    assert result.calls == (call("mmap", 0, 0, RW, expected),)


def test_optional_operands_go() -> None:
    case = program(
        call("mmap", 0, PAGE, RWX, 0x11, 7, 0x123000), call("mremap", 0, PAGE, PAGE, 3, 0x5000)
    )
    result = minimize(case, lambda c: len(c.calls) == 2, X86)
    assert result.calls == (call("mmap", 0, 0, RW, FIXED_ANON), call("mremap", 0, 0, 0, 0))


def test_huge_and_odd_numbers() -> None:
    """Any 64-bit number may be an operand, and the sizes of ranges that wrap."""
    top = (1 << 64) - 1
    case = program(call("munmap", top, top), call("execve_stack", top, 5, 1 << 63))
    kept = minimize(case, lambda c: len(c.calls) == 2, X86)
    assert kept.calls == (call("munmap", 0, 0), call("execve_stack", 0, 0, 0))
    odd = program(call("touch", 0x12345, 0x777))
    result = minimize(odd, lambda c: bool(c.calls) and c.calls[0].args[1] % 16 == 7, X86)
    assert result.calls[0].args == (0, 7)


def test_a_minimal_case_stays() -> None:
    once = minimize(CLUTTERED, moves_touched_slots, X86)
    calls: list[Case] = []
    assert minimize(once, moves_touched_slots, X86, progress=lambda c, _: calls.append(c)) == once
    assert not calls


def test_deterministic_and_nothing_twice() -> None:
    def trace() -> tuple[list[Case], Case]:
        asked: list[Case] = []

        def same(case: Case) -> bool:
            asked.append(case)
            return moves_touched_slots(case)

        return asked, minimize(CLUTTERED, same, X86)

    asked, result = trace()
    assert (asked, result) == trace()
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("budget", [1, 2, 10, 77])
def test_budget(budget: int) -> None:
    runs = 0

    def same(case: Case) -> bool:
        nonlocal runs
        runs += 1
        return moves_touched_slots(case)

    result = minimize(CLUTTERED, same, X86, budget=budget)
    assert runs == budget
    assert moves_touched_slots(result)


def test_budget_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="budget 0"):
        minimize(CLUTTERED, moves_touched_slots, X86, budget=0)


def test_a_case_without_the_finding_is_refused() -> None:
    with pytest.raises(ValueError, match="does not show"):
        minimize(CLUTTERED, lambda case: False, X86)


def test_progress_tells_every_step_and_survives_ctrl_c() -> None:
    """What progress was last told is what there is when the run is interrupted."""
    told: list[tuple[Case, int]] = []

    def same(case: Case) -> bool:
        if len(told) == 3:
            raise KeyboardInterrupt
        return moves_touched_slots(case)

    with pytest.raises(KeyboardInterrupt):
        minimize(CLUTTERED, same, X86, progress=lambda case, runs: told.append((case, runs)))
    ranks = [simplicity(CLUTTERED), *(simplicity(case) for case, _ in told)]
    assert ranks == sorted(ranks, reverse=True) and len(set(ranks)) == len(ranks)
    assert all(moves_touched_slots(case) for case, _ in told)
    runs = [run for _, run in told]
    assert runs == sorted(set(runs))


def test_never_slips_to_another_finding() -> None:
    """A simpler program shows another finding: the predicate keeps it out."""

    def finding(case: Case) -> str | None:
        names = [c.name for c in case.calls]
        if not case.calls:
            return None
        return "deep" if "mremap" in names and "touch" in names else "shallow"

    case = program(call("mmap", 0, PAGE, RW, FIXED_ANON), *CLUTTERED.calls)
    result = minimize(case, lambda c: finding(c) == "deep", X86)
    assert [c.name for c in result.calls] == ["touch", "mremap"]


@pytest.mark.parametrize(
    ("simpler", "than"),
    [
        ((call("peek", PUD, PUD),), (call("peek", 0, 0), call("peek", 0, 0))),
        ((call("peek", 0, PAGE),), (call("peek", 0, 1),)),
        ((call("peek", 0, 0),), (call("peek", 0, PAGE),)),
        ((call("peek", 0, SLOT),), (call("peek", 0, 2 * SLOT),)),
        ((call("peek", 0, 2 * SLOT),), (call("peek", 0, SLOT + PAGE),)),
        ((call("peek", SLOT, PAGE),), (call("peek", 0, SLOT),)),
        ((call("peek", PUD, PAGE),), (call("peek", SLOT + PAGE, PAGE),)),
        ((call("execve_stack", 0, PAGE, 0),), (call("execve_stack", 0, SLOT, 0),)),
        (
            (call("execve_stack", PUD - SLOT, PUD, 0),),
            (call("execve_stack", PUD - 2 * SLOT, PUD, 0),),
        ),
        ((call("mprotect", 0, 0, RW),), (call("mprotect", 0, 0, RWX),)),
        ((call("mmap", 0, 0, RW, FIXED_ANON),), (call("mmap", 0, 0, RW, FIXED_ANON, 3, 0),)),
    ],
)
def test_order(simpler: tuple[Call, ...], than: tuple[Call, ...]) -> None:
    assert simplicity(Case(simpler)) < simplicity(Case(than))


def _operands(kind: Operand) -> st.SearchStrategy[int]:
    low, high = kind.low, kind.high
    if (low, high) != (0, (1 << 64) - 1):
        return st.integers(low, min(high, max(low, 0) + 40))
    if isinstance(kind, Symbols):
        return st.lists(st.sampled_from(sorted(kind.names.values())), max_size=4).map(sum)
    near = st.builds(
        lambda unit, count, off: max(unit * count + off * PAGE, 0),
        st.sampled_from([PAGE, SLOT, PUD]),
        st.integers(0, 5),
        st.integers(-2, 2),
    )
    return near | st.integers(0, (1 << 64) - 1)


_CALLS = st.sampled_from(sorted(CALLS)).flatmap(
    lambda name: st.tuples(*(_operands(param.kind) for param in CALLS[name].params)).map(
        lambda args: Call(name, args)
    )
)
_CASES = st.lists(_CALLS, max_size=6).map(lambda calls: Case(limits_first(calls)))


def test_failures_and_limits_that_do_not_matter_go_and_the_others_come_down() -> None:
    lines = "@limit as 0x412345\n@limit map_count 9\nfork()\n@fail pagetable 7\n@fail vma 3\nfork()"
    case = Case(tuple(map(parse_call, lines.splitlines())))

    def same(candidate: Case) -> bool:
        """A limit on the address space, and an early failure of a VMA."""
        failing = any(c.name == "@fail" and c.args[0] == 1 for c in candidate.calls)
        limited = any(
            c.args[0] == 1 and c.args[1] > 4096 for c in candidate.calls if c.name == "@limit"
        )
        return failing and limited

    small = minimize(case, same, X86)
    assert [format_call(c) for c in small.calls] == ["@limit as 0x2000", "@fail vma 1"]


@settings(max_examples=60, deadline=None)
@given(
    case=_CASES,
    geometry=st.sampled_from([X86, GEOMETRIES["tiny"]]),
    modulus=st.integers(1, 40),
    budget=st.integers(1, 400),
)
def test_result_shows_the_finding_and_is_no_less_simple(
    case: Case, geometry: Geometry, modulus: int, budget: int
) -> None:
    """For predicates without any rhyme or reason: a checksum decides."""
    asked: list[Case] = []

    def same(candidate: Case) -> bool:
        asked.append(candidate)
        return candidate == case or zlib.crc32(repr(candidate.calls).encode()) % modulus == 0

    result = minimize(case, same, geometry, budget=budget)
    assert same(result)
    assert simplicity(result) <= simplicity(case)
    assert len(asked) - 1 <= budget
    assert len(set(asked[:-1])) == len(asked) - 1


@pytest.mark.slow
@given(case=_CASES, other=_CASES)
def test_order_is_total(case: Case, other: Case) -> None:
    """Two different programs are never equally simple."""
    assert (simplicity(case) == simplicity(other)) == (case.calls == other.calls)
