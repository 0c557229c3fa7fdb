"""What mseal, mlock and advice leave behind, and how it is told where they forget a part."""

from collections.abc import Callable

import pytest

import engine.calls.madvise
import engine.calls.mlock
import engine.calls.mseal
from engine.base.uapi import (
    MADV_DONTFORK,
    MADV_HUGEPAGE,
    MADV_MERGEABLE,
    MADV_SEQUENTIAL,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_SHARED,
    MLOCK_ONFAULT,
)
from engine.calls.mmap import mmap
from engine.state.space import AddressSpace
from engine.state.vma import VM_LOCKED, VM_SEALED
from fuzz.calls.registry import CALLS as DECLARED
from fuzz.rules.sight import Sight
from tests.lib.breaks import breaks
from tests.lib.drawn import PAGE, scene
from tests.lib.told import told

Call = tuple[str, tuple[int, ...]]

CALLS: list[Call] = [
    ("mseal", (PAGE, 4 * PAGE)),
    ("mlock", (PAGE + 9, 4 * PAGE)),
    ("mlock2", (PAGE, 4 * PAGE, 0)),
    ("mlock2", (PAGE, 4 * PAGE, MLOCK_ONFAULT)),
    ("munlock", (PAGE, 4 * PAGE)),
    *(
        ("madvise", (PAGE, 4 * PAGE, advice))
        for advice in (MADV_HUGEPAGE, MADV_DONTFORK, MADV_SEQUENTIAL, MADV_MERGEABLE)
    ),
]


def open_around_a_seal() -> AddressSpace:
    """Six pages, the third and the last are locked, the third is sealed, too."""
    space = scene("aaaa aaaa ....", "linux-6.18")
    assert engine.calls.mlock.mlock(space, 2 * PAGE, PAGE) is None
    assert engine.calls.mlock.mlock(space, 4 * PAGE, PAGE) is None
    assert engine.calls.mseal.mseal(space, 2 * PAGE, PAGE) is None
    shared = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, 8 * PAGE, 2 * PAGE, 3, shared) == 8 * PAGE
    return space


def after(call: Call, sabotage: Callable[[AddressSpace], object] | None = None) -> list[str]:
    name, args = call
    space = open_around_a_seal()
    sight = Sight(space, name, args)
    result = DECLARED[name].model(space, *args)
    if sabotage is not None:
        sabotage(space)
    return [violation.rule for violation in told(sight, result, "flags")]


@breaks("flags-set")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
def test_a_range_has_what_was_asked_for_and_others_have_not(call: Call) -> None:
    assert after(call) == []

    def elsewhere(space: AddressSpace) -> None:
        next(iter(space.vmas)).flags ^= VM_SEALED | VM_LOCKED

    assert after(call, elsewhere) == ["flags-set"]


@breaks("flags-set")
@pytest.mark.parametrize(
    ("module", "call"),
    [
        (engine.calls.mseal, ("mseal", (PAGE, 4 * PAGE))),
        (engine.calls.mlock, ("mlock", (PAGE, 4 * PAGE))),
        (engine.calls.madvise, ("madvise", (PAGE, 4 * PAGE, MADV_DONTFORK))),
    ],
)
def test_a_part_that_is_left_as_it_was_is_told(
    module: object, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when what follows a merge is taken to have been merged, too."""
    assert after(call) == []
    modify = module.modify  # type: ignore[attr-defined]

    def forgetful(
        kernel: object, vmas: object, vma: object, start: int, *rest: object, **named: object
    ) -> object:
        if start > 2 * PAGE:
            return vma
        return modify(kernel, vmas, vma, start, *rest, **named)

    made = open_around_a_seal()
    sight = Sight(made, *call)
    monkeypatch.setattr(module, "modify", forgetful)
    result = DECLARED[call[0]].model(made, *call[1])
    assert [violation.rule for violation in told(sight, result, "flags")] == ["flags-set"]


@breaks("flags-set")
def test_a_hole_is_no_success() -> None:
    space = open_around_a_seal()
    sight = Sight(space, "mseal", (10 * PAGE, PAGE))
    (found,) = told(sight, None, "flags")
    assert found.rule == "flags-set"
    assert not told(sight, DECLARED["mseal"].model(space, 10 * PAGE, PAGE), "flags")


def test_shared_memory_is_not_merged() -> None:
    space = open_around_a_seal()
    args = (8 * PAGE, 2 * PAGE, MADV_MERGEABLE)
    sight = Sight(space, "madvise", args)
    assert not told(sight, DECLARED["madvise"].model(space, *args), "flags")


@pytest.mark.parametrize(
    ("name", "more"), [("madvise", (MADV_MERGEABLE,)), ("mlock", ()), ("munlock", ())]
)
def test_what_may_be_dropped_is_neither_merged_nor_locked(name: str, more: tuple[int, ...]) -> None:
    space = open_around_a_seal()
    droppable = MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, 8 * PAGE, 2 * PAGE, 3, droppable) == 8 * PAGE
    args = (7 * PAGE, 2 * PAGE, *more)
    sight = Sight(space, name, args)
    assert not told(sight, DECLARED[name].model(space, *args), "flags")
