"""Inputs are changed call by call, within bounds, and equally for equal seeds."""

from collections import Counter

import pytest

from engine.base.geometry import GEOMETRIES
from fuzz.calls.registry import CALLS, DIRECTIVES
from fuzz.forms import wire
from fuzz.inputs.inputs import Inputs
from fuzz.inputs.mutator import Mutator

INPUTS = Inputs([GEOMETRIES["x86-64"]])
MUTATOR = Mutator(INPUTS)
SOME = bytes(range(4 * wire.WIDTH))


@pytest.mark.parametrize("data", [b"", b"x", SOME[:-5], SOME], ids=len)
def test_results_are_programs_within_the_limit(data: bytes) -> None:
    for seed in range(300):
        for limit in (0, wire.WIDTH, 3 * wire.WIDTH + 1, 24 * wire.WIDTH):
            assert len(MUTATOR.mutate(data, limit, seed)) <= limit
            assert len(MUTATOR.cross_over(data, SOME, limit, seed)) <= limit
        INPUTS.decode(MUTATOR.mutate(data, 24 * wire.WIDTH, seed))


def test_equal_seeds_give_equal_results() -> None:
    for seed in range(100):
        assert MUTATOR.mutate(SOME, 999, seed) == MUTATOR.mutate(SOME, 999, seed)
        joined = MUTATOR.cross_over(SOME, SOME, 999, seed)
        assert joined == MUTATOR.cross_over(SOME, SOME, 999, seed)
    assert len({MUTATOR.mutate(SOME, 999, seed) for seed in range(100)}) > 90


def test_most_of_a_program_stays_what_it_is() -> None:
    """Calls keep their place among the bytes, so those that are not meant do not change."""
    records = [SOME[at : at + wire.WIDTH] for at in range(0, len(SOME), wire.WIDTH)]
    kept = []
    for seed in range(400):
        changed = MUTATOR.mutate(SOME, 999, seed)
        now = [changed[at : at + wire.WIDTH] for at in range(0, len(changed), wire.WIDTH)]
        kept.append(sum(record in now for record in records))
    made_anew = kept.count(0)
    assert 250 < made_anew < 350
    assert sum(kept) > (len(kept) - made_anew) * len(records) * 0.6


@pytest.mark.slow
def test_programs_do_not_grow_for_ever() -> None:
    data = b""
    longest = 0
    for seed in range(3000):
        data = MUTATOR.mutate(data, 256 * wire.WIDTH, seed)
        longest = max(longest, len(data) // wire.WIDTH)
    assert longest < 64


def test_every_kind_of_call_comes_up() -> None:
    seen: Counter[str] = Counter()
    for seed in range(3000):
        case = INPUTS.decode(MUTATOR.mutate(SOME, 999, seed)).case
        seen.update(call.name for call in case.calls)
    assert set(seen) == set(CALLS)


def test_only_allowed_calls_come_up() -> None:
    calls = frozenset(("mmap", "touch"))
    inputs = Inputs([GEOMETRIES["x86-64"]], calls)
    mutator = Mutator(inputs)
    for seed in range(300):
        case = inputs.decode(mutator.mutate(SOME, 999, seed)).case
        assert {call.name for call in case.calls} <= calls
    assert DIRECTIVES.isdisjoint(calls)
