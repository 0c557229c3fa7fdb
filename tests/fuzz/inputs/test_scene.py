"""Programs made to a plan are legal, short, differ, and bring about what random calls seldom do."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from engine.base.geometry import GEOMETRIES, Geometry
from engine.base.kernel import kernel_named
from fuzz.calls.registry import CALLS
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.forms import wire
from fuzz.inputs.edges import edge
from fuzz.inputs.rows import row
from fuzz.inputs.scene import disturbed, scene
from tests.lib.judged import unexplained

each_plan = pytest.mark.parametrize("plan", [scene, edge, row])


@each_plan
@pytest.mark.parametrize("name", GEOMETRIES)
def test_plans_make_programs_that_bytes_can_express(
    name: str, plan: Callable[[Random, Geometry], Case]
) -> None:
    geometry = GEOMETRIES[name]
    codec = wire.Codec(geometry, max_calls=64)
    for seed in range(60):
        case = plan(Random(seed), geometry)
        assert 0 < len(case.calls) <= 64
        assert codec.decode(codec.encode(case)).calls == case.calls


@each_plan
def test_equal_seeds_give_equal_programs_and_others_do_not(
    plan: Callable[[Random, Geometry], Case],
) -> None:
    geometry = GEOMETRIES["x86-64"]
    programs = [plan(Random(seed), geometry) for seed in range(100)]
    assert programs == [plan(Random(seed), geometry) for seed in range(100)]
    assert len(set(programs)) > 90


def test_what_is_disturbed_does_the_same_calls_and_more() -> None:
    geometry = GEOMETRIES["x86-64"]
    inserted: set[str] = set()
    for seed in range(200):
        case = scene(Random(seed), geometry)
        other = disturbed(Random(seed), geometry, case)
        more = len(other.calls) - len(case.calls)
        assert more > 0
        at = next(
            i for i in range(len(case.calls) + 1) if case.calls[i:] == other.calls[i + more :]
        )
        assert case.calls[:at] == other.calls[:at]
        inserted.update(call.name for call in other.calls[at : at + more])
    assert inserted >= {"@fail", "uffd_register", "fork", "touch_on", "mprotect"}


def test_every_call_comes_up() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1500):
        seen.update(call.name for call in scene(Random(seed), GEOMETRIES["x86-64"]).calls)
    assert not CALLS.keys() - seen, "say how likely a scene is about it: Syscall.theme"


@each_plan
@pytest.mark.parametrize("geometry", ["x86-64", "tiny"])
def test_many_moves_are_granted_and_nothing_unknown_breaks(
    geometry: str, plan: Callable[[Random, Geometry], Case]
) -> None:
    kernel = kernel_named("linux-6.18", geometry)
    moved = moves = 0
    for seed in range(300):
        case = plan(Random(seed), kernel.geometry)
        outcome = execute(case, kernel, stop=False)
        for call, result in zip(case.calls, outcome.results, strict=False):
            moves += call.name == "mremap"
            moved += call.name == "mremap" and isinstance(result, int)
        found = unexplained(outcome)
        assert found is None, f"seed {seed}: {found}"
    assert moved > moves / 3
