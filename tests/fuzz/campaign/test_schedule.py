"""Kernels and geometries are shared out among rounds: all are under way, the quietest first."""

import pytest

from fuzz.campaign.schedule import Ground, Schedule
from tests.lib.clock import Clock


@pytest.mark.parametrize("kernels", [1, 2, 3, 5])
@pytest.mark.parametrize("geometries", [1, 2, 3])
@pytest.mark.parametrize("places", [1, 2, 3, 4, 5, 6, 7, 20])
def test_at_any_time_everything_is_under_way(kernels: int, geometries: int, places: int) -> None:
    names = [f"k{i}" for i in range(kernels)], [f"g{i}" for i in range(geometries)]
    clock = Clock()
    schedule = Schedule(*names, clock)
    under_way = [schedule.begin(places) for _ in range(places)]
    for number in range(3 * places):
        pairs = {(k, g) for ground in under_way for k in ground.kernels for g in ground.geometries}
        assert len(pairs) == kernels * geometries
        clock.now += 1
        schedule.end(under_way.pop(number % places))
        under_way.append(schedule.begin(places))


def test_one_place_has_all() -> None:
    schedule = Schedule(["a", "b"], ["x", "y"])
    assert schedule.begin(1) == Ground(("a", "b"), ("x", "y"))


def test_two_share_two_kernels_or_two_geometries() -> None:
    schedule = Schedule(["a", "b"], ["x", "y"])
    assert schedule.begin(2) == (("a",), ("x", "y"))
    assert schedule.begin(2) == (("b",), ("x", "y"))
    schedule = Schedule(["a"], ["x", "y"])
    assert schedule.begin(2) == (("a",), ("x",))
    assert schedule.begin(2) == (("a",), ("y",))


def test_what_has_been_quiet_longest_comes_first() -> None:
    clock = Clock()
    schedule = Schedule(["a", "b", "c", "d"], ["x"], clock)
    first, second = schedule.begin(2), schedule.begin(2)
    assert (first.kernels, second.kernels) == (("a", "b"), ("c", "d"))
    schedule.end(second)
    clock.now += 1
    schedule.end(first)
    clock.now += 1
    schedule.news(Ground(("c",), ("x",)))
    assert schedule.begin(2).kernels == ("a", "d")  # d has rested longer, a as long as b
    assert schedule.begin(2).kernels == ("b", "c")
