"""Inputs: planned ones are programs of few bytes, all of them can be spelled out and changed."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.geometry import GEOMETRIES
from fuzz.forms import text, wire
from fuzz.inputs import inputs
from fuzz.inputs.inputs import PLANNED_BYTES, PLANS, Inputs, plans_version, shared_out

BOTH = Inputs([GEOMETRIES["x86-64"], GEOMETRIES["small"]])


@given(st.binary(max_size=4 * wire.WIDTH + 1))
def test_any_bytes_are_a_program_and_stay_one_when_they_are_cut_into_records(data: bytes) -> None:
    program = BOTH.decode(data)
    assert BOTH.decode(BOTH.joined(*BOTH.records(data), 999)) == program


@pytest.mark.parametrize("geometry", [0, 1])
@pytest.mark.parametrize("plan", PLANS)
def test_a_planned_program_is_the_same_spelled_out(plan: inputs.Plan, geometry: int) -> None:
    random = Random(f"{plan} {geometry}")
    for _ in range(100):
        data = BOTH.planned(plan, geometry, random)
        assert len(data) == PLANNED_BYTES
        spelled = BOTH.spelled_out(data)
        assert spelled is not data and BOTH.spelled_out(spelled) is spelled
        number, case = BOTH.decode(data)
        assert (number, case.calls) == (geometry, BOTH.decode(spelled).case.calls)
        assert case.calls


def test_equal_seeds_are_equal_programs() -> None:
    first, again = (BOTH.planned(PLANS[0], 0, Random(5)) for _ in range(2))
    assert first == again
    assert text.dump(BOTH.decode(first).case) == text.dump(BOTH.decode(again).case)


def test_only_wanted_calls_are_made() -> None:
    few = Inputs([GEOMETRIES["x86-64"]], frozenset(("mmap", "touch", "mremap")), max_calls=4)
    random = Random(1)
    for _ in range(100):
        calls = few.decode(few.planned(PLANS[0], 0, random)).case.calls
        assert len(calls) <= 4
        assert {call.name for call in calls} <= {"mmap", "touch", "mremap"}


def test_the_geometry_is_kept_in_what_is_joined() -> None:
    case = text.parse("mmap(0x20000, 0x20000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n")
    for geometry in (0, 1):
        data = BOTH.encode(case, geometry)
        assert BOTH.decode(data) == (geometry, case)
        number, records = BOTH.records(data)
        assert BOTH.joined(number, records, 999) == data
        assert len(BOTH.joined(number, records, len(data) - 1)) < len(data)
        assert BOTH.joined(number, records, 0) == b""


def test_an_input_of_a_plan_that_changed_is_known_and_still_some_program() -> None:
    data = bytearray(BOTH.planned(PLANS[0], 1, Random(3)))
    assert not BOTH.is_outdated(bytes(data))
    data[0] ^= 1
    assert bytes(data[:2]) != plans_version()
    assert BOTH.is_outdated(bytes(data))
    BOTH.decode(bytes(data))


def test_smaller_tables_get_a_share_of_the_usual_geometry_only() -> None:
    shared = {name: [one.name for one in shared_out(one)] for name, one in GEOMETRIES.items()}
    assert shared.pop("x86-64") == ["x86-64", "small"]
    assert all(names == [name] for name, names in shared.items())
