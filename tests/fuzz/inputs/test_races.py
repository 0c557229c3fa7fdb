"""Races that are planted in the engine are found by programs of the fuzzer, and made short."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

import engine.move
import fuzz.calls.waits
from engine.base.geometry import GEOMETRIES, PTE
from engine.base.kernel import kernel_named
from engine.move import Move
from fuzz.case import Case
from fuzz.defects.known import repaired
from fuzz.execute import execute
from fuzz.inputs.scene import scene
from fuzz.minimize.search import minimize

GEOMETRY = GEOMETRIES["small"]
KERNEL = repaired(kernel_named("linux-6.18", "small"))
MOST = 20000  # programs


def programs() -> Iterator[Case]:
    """Those in which others come in between."""
    made = (scene(Random(seed), GEOMETRY) for seed in range(MOST))
    return (case for case in made if any(call.name.startswith("@at ") for call in case.calls))


def broken(case: Case) -> set[str]:
    """The rules that a program breaks."""
    return {violation.rule for _, violation in execute(case, KERNEL, stop=False).violations}


def no_vma_is_locked(patch: pytest.MonkeyPatch) -> None:
    """A move does not write-lock its VMAs: faults fill the destination."""
    patch.setattr(fuzz.calls.waits, "_is_write_locked", lambda *_: False)


def entries_read_too_early(patch: pytest.MonkeyPatch) -> None:
    """The PTE mover stores entries as they were before it had its locks."""
    early: dict[int, int] = {}
    make, as_moved = engine.move.destination_table, engine.move._as_moved

    def destination_table(move: Move, level: int) -> Any:
        table = make(move, level)
        source = move.space.tree.find(move.old, PTE)
        if level == PTE and source is not None:
            early.clear()
            early.update(source.leaves)
        return table

    def moved(move: Move, hits: list[int], taken: list[int], delta: int) -> dict[int, int]:
        there = [early.get(index, entry) for index, entry in zip(hits, taken, strict=True)]
        return as_moved(move, hits, there, delta)

    patch.setattr(engine.move, "destination_table", destination_table)
    patch.setattr(engine.move, "_as_moved", moved)


def huge_page_not_looked_at_again(patch: pytest.MonkeyPatch) -> None:
    """The mover of huge pages does not look again, once it has the lock, whether there is one."""
    patch.setattr(engine.move, "_still_huge", lambda _: True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "rules", "calls"),
    [
        (no_vma_is_locked, {"dest-entry-none", "pages-kept"}, 6),
        (entries_read_too_early, {"entry-bits-kept", "pages-kept"}, 7),
        (huge_page_not_looked_at_again, {"exception"}, 6),
    ],
)
def test_a_planted_race_is_found_and_made_short(
    plant: Any, rules: set[str], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        found = next(case for case in programs() if broken(case) & rules)
        rule = min(broken(found) & rules)
        least = minimize(found, lambda case: rule in broken(case), GEOMETRY, budget=400)
    assert broken(found) == broken(least) == set(), "without the bug nothing is wrong"
    assert len(least.calls) <= calls
    assert sum(call.name.startswith("@at ") for call in least.calls) == 1
