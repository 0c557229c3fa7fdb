"""The byte form: total, exact in both directions, and mostly about something."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.address import Range
from engine.base.geometry import GEOMETRIES, Geometry
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_LOCKED, MAP_POPULATE, MAP_SHARED
from fuzz.calls.operand import Operand
from fuzz.calls.registry import CALLS, call
from fuzz.case import Call, Case
from fuzz.forms.text import dump, parse, parse_call
from fuzz.forms.wire import MAX_CALLS, POPULATED_PAGES, WIDTH, Codec, codec, decode, encode
from tests.lib.programs import limits_first

GEOMETRY = st.sampled_from(sorted(GEOMETRIES.values(), key=lambda geometry: geometry.name))
X86 = GEOMETRIES["x86-64"]
PAE = GEOMETRIES["i386-pae"]
SHARED = MAP_SHARED | MAP_FIXED
CASES = 2000


def programs(geometry: Geometry, calls: frozenset[str] | None = None) -> list[Case]:
    """What random bytes decode to: CASES programs of 1 to 12 records."""
    rng = random.Random(7)
    each = Codec(geometry, calls)
    return [each.decode(rng.randbytes(WIDTH * rng.randint(1, 12))) for _ in range(CASES)]


@pytest.fixture(scope="module", params=GEOMETRIES.values(), ids=GEOMETRIES)
def drawn(request: pytest.FixtureRequest) -> tuple[Geometry, list[Case]]:
    """Each geometry and such programs for it, which are made once."""
    return request.param, programs(request.param)


# Total, bounded, deterministic


@settings(deadline=None)
@given(st.binary(max_size=WIDTH * 30), GEOMETRY)
def test_any_bytes_are_a_valid_program(data: bytes, geometry: Geometry) -> None:
    case = decode(data, geometry)
    assert case == case.program()
    assert len(case.calls) <= min(MAX_CALLS, -(-len(data) // WIDTH))
    assert parse(dump(case)) == case
    assert Codec(geometry).decode(data) == case


@settings(deadline=None)
@given(st.binary(max_size=WIDTH * 30), GEOMETRY)
def test_a_decoded_program_survives_encoding(data: bytes, geometry: Geometry) -> None:
    case = decode(data, geometry)
    assert decode(encode(case, geometry), geometry) == case


@settings(deadline=None)
@given(st.binary(max_size=WIDTH * 12), st.sets(st.sampled_from(sorted(CALLS)), min_size=1))
def test_only_allowed_calls_are_decoded(data: bytes, allowed: set[str]) -> None:
    each = Codec(X86, frozenset(allowed))
    case = each.decode(data)
    assert {c.name for c in case.calls} <= allowed
    assert each.decode(Codec(X86).encode(case)) == case


@settings(deadline=None)
@given(st.binary(max_size=WIDTH * 8), st.integers(0, 4))
def test_decoding_stops_at_the_limit(data: bytes, limit: int) -> None:
    case = decode(data, X86, max_calls=limit)
    assert case.calls == decode(data, X86).calls[:limit]


def test_no_bytes_are_no_calls() -> None:
    assert decode(b"", X86) == Case()
    assert encode(Case(), X86) == b""


def test_a_record_cut_short_is_filled_with_zeros() -> None:
    data = random.Random(1).randbytes(WIDTH * 2)
    assert decode(data[:-5], X86) == decode(data[:-5] + bytes(5), X86)


def test_unknown_or_no_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown calls: clone"):
        Codec(X86, frozenset({"mmap", "clone"}))
    with pytest.raises(ValueError, match="no calls"):
        Codec(X86, frozenset())


def test_codecs_are_shared() -> None:
    assert codec(X86) is codec(X86)
    assert codec(X86) is not codec(PAE)


# Exact


def operand(kind: Operand) -> st.SearchStrategy[int]:
    """Any value of its kind: of most, 64 bits."""
    low, high = kind.low, kind.high
    if (low, high) != (0, 2**64 - 1):
        return st.integers(low, high)
    return st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**20).map(lambda n: n << 12))


@st.composite
def any_call(draw: st.DrawFn) -> Call:
    """Any call with any operands."""
    name = draw(st.sampled_from(sorted(CALLS)))
    return Call(name, tuple(draw(operand(param.kind)) for param in CALLS[name].params))


@settings(deadline=None)
@given(st.lists(any_call(), max_size=MAX_CALLS), GEOMETRY)
def test_any_program_can_be_encoded(calls: list[Call], geometry: Geometry) -> None:
    case = Case(limits_first(calls))
    assert decode(encode(case, geometry), geometry) == case


@pytest.mark.parametrize(
    ("flags", "fd", "offset", "records"),
    [
        (SHARED | MAP_ANONYMOUS, -1, 0, 1),  # of anonymous memory neither is read
        (SHARED | MAP_ANONYMOUS, 200, 0x1000, 3),
        (SHARED, 200, 0x1000, 1),
        (SHARED, 7, 0x123000, 3),
    ],
)
def test_files_have_bytes_of_their_own(flags: int, fd: int, offset: int, records: int) -> None:
    case = Case((call("mmap", 0x200000, 0x200000, 3, flags, fd, offset),))
    data = encode(case, X86)
    assert len(data) == records * WIDTH
    assert decode(data, X86) == case


def test_header_and_results_are_left_out() -> None:
    case = parse("@kernel linux-6.1\n# why\nmunmap(1, 2) = -EINVAL\n")
    assert decode(encode(case, X86), X86) == case.program()


@pytest.mark.parametrize(
    "bad",
    [
        Call("munmap", (1 << 64, 1)),
        Call("munmap", (-1, 1)),
        Call("mmap", (0, 1, 3, 2, 1 << 31, 0)),
        Call("touch_on", (4, 0)),
        Call("uffd_wp", (0, 1, 2)),
        Call("@fail", (0, 0)),
    ],
)
def test_operands_beyond_their_type_are_refused(bad: Call) -> None:
    with pytest.raises(ValueError, match="is out of range"):
        encode(Case((bad,)), X86)


@pytest.mark.parametrize("lines", ["fork()\n@limit as 1", "@limit as 1\n@limit as 2"])
def test_limits_out_of_place_are_refused(lines: str) -> None:
    calls = tuple(parse_call(line) for line in lines.splitlines())
    with pytest.raises(ValueError, match="before all calls"):
        encode(Case(calls), X86)


MOVE = """\
mmap(0x40200000, 0x400000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x40200000, 0x3000)
mremap(0x40200000, 0x400000, 0x400000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x80200000)
munmap(0x80201000, 0x3ff000)
execve_stack(0x7fffa00000, 0x8000000000, 0x400000)
"""


def test_programs_about_boundaries_need_no_literals() -> None:
    case = parse(MOVE)
    data = encode(case, X86)
    assert len(data) == WIDTH * len(case.calls)
    assert decode(data, X86) == case


def test_operands_follow_the_calls_they_refer_to() -> None:
    """Moving the first mapping of an encoded program takes the later calls along."""
    case = parse(MOVE).with_calls(parse(MOVE).calls[:3])
    data = encode(case, X86)
    for at in range(3, 6):  # the bytes of the mmap's address
        for value in range(256):
            moved = decode(data[:at] + bytes([value]) + data[at + 1 :], X86)
            start, length = moved.calls[0].args[:2]
            if start % X86.page_bytes or start + length > X86.arena.length:
                continue  # not mapped, so nothing for the others to refer to
            assert [c.args[0] for c in moved.calls] == [start] * 3
            assert moved.calls[2].args[4] % X86.slot_bytes == start % X86.slot_bytes


def test_a_program_starts_with_a_mapping_unless_meant_otherwise() -> None:
    firsts = Counter(case.calls[0].name for case in programs(X86) if case.calls)
    begin = ("mmap", "file", "bpf_map", "execve_stack")
    assert sum(firsts[name] for name in begin) > 0.95 * firsts.total()
    case = Case((call("touch", 0x1000, 0x1000),))
    assert decode(encode(case, X86), X86) == case


# About something


def moves_what_is_mapped(case: Case) -> bool:
    """True if some mremap starts inside what an earlier mmap mapped."""
    mapped: list[Range] = []
    for c in case.calls:
        if c.name == "mremap" and any(r.start <= c.args[0] < r.end for r in mapped):
            return True
        if c.name == "mmap":
            mapped.append(Range(c.args[0], c.args[0] + c.args[1]))
    return False


def test_random_bytes_are_about_something(drawn: tuple[Geometry, list[Case]]) -> None:
    geometry, cases = drawn
    assert sum(map(moves_what_is_mapped, cases)) > 0.4 * CASES
    calls = Counter(c.name for case in cases for c in case.calls)
    assert calls.keys() == CALLS.keys()
    rare = ("madvise", "mlock", "munlock", "relocate", "execve_stack")
    assert min(calls["mmap"], calls["touch"], calls["mremap"]) > max(calls[name] for name in rare)
    inside = [
        c.args[0] + c.args[1] <= geometry.arena.length
        for case in cases
        for c in case.calls
        if c.name in ("mmap", "touch")
    ]
    assert sum(inside) > 0.9 * len(inside)


@pytest.mark.parametrize("name", ["i386-pae", "i386", "x86-64", "arm64-4k-39", "tiny"])
def test_whole_pud_spans_move(name: str) -> None:
    """Random bytes alone come to moves that the PUD mover takes."""
    span = GEOMETRIES[name].pud_bytes
    aligned = [
        c
        for case in programs(GEOMETRIES[name], frozenset({"mmap", "mremap"}))
        for c in case.calls
        if c.name == "mremap"
        and c.args[1] == c.args[2] >= span
        and c.args[0] % span == c.args[4] % span == 0
        and c.args[0] != c.args[4]
        and c.args[3] & 2
    ]
    assert len(aligned) > 10


def test_calls_that_fill_pages_are_short(drawn: tuple[Geometry, list[Case]]) -> None:
    """Literals apart, which any value can come from."""
    geometry, cases = drawn
    few = many = 0
    for case in cases:
        for c in case.calls:
            fills = c.name in ("touch", "peek", "mlock") or (
                c.name == "mmap" and c.args[3] & (MAP_POPULATE | MAP_LOCKED)
            )
            if fills or c.name == "execve_stack":
                length = (c.args[1] - c.args[0] if c.name == "execve_stack" else c.args[1]) % 2**64
                few += length <= 16 * geometry.page_bytes
                many += length > min(4 * geometry.slot_bytes, POPULATED_PAGES * geometry.page_bytes)
    assert few > 20 * many


@pytest.mark.parametrize("name", ["i386-pae", "x86-64"])
def test_stack_moves_meet_their_own_tables(name: str) -> None:
    """Partial first slot, shift of whole slots, at least as many whole slots: I-01 before 6.7."""
    slot = GEOMETRIES[name].slot_bytes
    count = 0
    cases = programs(GEOMETRIES[name], frozenset({"execve_stack"}))
    for case in cases:
        for start, end, shift in (c.args for c in case.calls):
            whole = (end - -(-start // slot) * slot) // slot
            if start % slot and shift and shift % slot == 0 and whole >= shift // slot:
                count += shift <= start
    assert count > CASES // 100
