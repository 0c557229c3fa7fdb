"""Programs made to a plan are legal, short, differ, and bring about what random calls seldom do."""

from collections import Counter
from random import Random

import pytest

from engine.geometry import GEOMETRIES
from engine.kernel import kernel_named
from fuzz import wire
from fuzz.case import SIGNATURES
from fuzz.execute import execute
from fuzz.known import shown
from fuzz.scene import scene


@pytest.mark.parametrize("name", GEOMETRIES)
def test_scenes_are_programs_that_bytes_can_express(name: str) -> None:
    geometry = GEOMETRIES[name]
    codec = wire.Codec(geometry, max_calls=64)
    for seed in range(100):
        case = scene(Random(seed), geometry)
        assert 1 < len(case.calls) <= 64
        assert codec.decode(codec.encode(case)).calls == case.calls


def test_equal_seeds_give_equal_scenes_and_others_do_not() -> None:
    geometry = GEOMETRIES["x86-64"]
    scenes = [scene(Random(seed), geometry) for seed in range(100)]
    assert scenes == [scene(Random(seed), geometry) for seed in range(100)]
    assert len(set(scenes)) > 95


def test_every_call_comes_up() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1500):
        seen.update(call.name for call in scene(Random(seed), GEOMETRIES["x86-64"]).calls)
    assert set(seen) == set(SIGNATURES)


@pytest.mark.parametrize("geometry", ["x86-64", "tiny"])
def test_most_moves_are_not_refused_and_nothing_unknown_breaks(geometry: str) -> None:
    kernel = kernel_named("linux-6.18", geometry)
    moved = moves = 0
    for seed in range(300):
        case = scene(Random(seed), kernel.geometry)
        outcome = execute(case, kernel, stop=False)
        for call, result in zip(case.calls, outcome.results, strict=False):
            moves += call.name == "mremap"
            moved += call.name == "mremap" and isinstance(result, int)
        found = shown(outcome)
        assert found is None or found.bucket.defect, f"seed {seed}: {found}"
    assert moved > moves / 3
