"""The rules of the stack that exec moves: each fires where one went wrong, and only there."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.base.geometry import PTE
from engine.base.limits import Limits
from engine.base.uapi import Errno
from engine.stack import execve_stack, relocate, relocate_vma_down
from engine.state.space import AddressSpace
from engine.state.vma import VM_STACK_INCOMPLETE, VM_WRITE, Vma
from fuzz.rules.judge import MoveRules
from fuzz.rules.sight import Sight
from fuzz.rules.stack import refused
from tests.lib.breaks import breaks, looked
from tests.lib.drawn import PAGE, scene, tiny
from tests.lib.told import told

OPERANDS = (200 * PAGE, 208 * PAGE, 5 * PAGE)
A = 16 * PAGE
Sabotage = Callable[[AddressSpace], object]


def vma_at(space: AddressSpace, page: int) -> Vma:
    vma = space.vmas.lookup(page * PAGE)
    assert vma is not None
    return vma


def take(space: AddressSpace, page: int) -> int:
    """Drop a leaf."""
    table = space.tree.find(page * PAGE, PTE)
    assert table is not None
    return space.tree.lift(table, (page & 3,))[0]


def exchange(space: AddressSpace, one: int, other: int) -> None:
    """Exchange two leaves."""
    leaves = take(space, one), take(space, other)
    for page, leaf in zip((other, one), leaves, strict=True):
        space.tree.lay(space.tree.make(page * PAGE, PTE), {page & 3: leaf})


def read_only(space: AddressSpace) -> None:
    vma_at(space, 199).flags &= ~VM_WRITE


def moved(sabotage: Sabotage | None, warnings: int = 0) -> list[str]:
    """Which rules are broken once the stack is at its place, and something was done to it."""
    space = AddressSpace(tiny())
    sight = Sight(space, "execve_stack", OPERANDS)
    assert execve_stack(space, *OPERANDS) is None
    if sabotage is not None:
        sabotage(space)
    return [violation.rule for violation in told(sight, None, occupied=warnings)]


@pytest.mark.parametrize(
    ("slug", "sabotage"),
    [
        pytest.param(slug, sabotage, id=name, marks=breaks(slug))
        for name, slug, sabotage in (
            ("too short", "stack-placed", lambda s: s.unmap(195 * PAGE, 196 * PAGE)),
            ("a page lost", "stack-placed", lambda s: take(s, 199)),
            ("pages exchanged", "stack-placed", lambda s: exchange(s, 196, 197)),
            ("offset of its place", "stack-pgoff", lambda s: setattr(vma_at(s, 199), "pgoff", 195)),
            ("read-only", "mapping-kept", read_only),
        )
    ],
)
def test_a_stack_that_went_wrong_is_told(slug: str, sabotage: Sabotage) -> None:
    assert moved(None) == []
    assert slug in moved(sabotage)


@breaks("stack-warn-count")
def test_a_warning_where_none_is_due_is_told() -> None:
    assert moved(None) == []
    assert moved(None, warnings=1) == ["stack-warn-count"]


@breaks("mapping-kept")
def test_what_is_too_late_to_go_back_leaves_nothing() -> None:
    space = AddressSpace(tiny())
    operands = (A, A + 4 * PAGE, 16 * PAGE)
    sight = Sight(space, "execve_stack", operands)
    error = execve_stack(space, *operands)
    assert error is Errno.ENOMEM
    assert told(sight, error) == []
    space.vmas.insert(Vma(A, A + PAGE, 0, 0))
    assert "mapping-kept" in [violation.rule for violation in told(sight, error)]


# --- results --------------------------------------------------------------------------------------


@breaks("error-order")
@pytest.mark.parametrize(
    ("operands", "error"),
    [
        pytest.param((1, 3 * PAGE, PAGE), "EINVAL", id="start"),
        pytest.param((PAGE, 3 * PAGE + 1, PAGE), "EINVAL", id="end"),
        pytest.param((PAGE, 3 * PAGE, 1), "EINVAL", id="shift"),
        pytest.param((3 * PAGE, 3 * PAGE, PAGE), "EINVAL", id="empty"),
        pytest.param((3 * PAGE, 257 * PAGE, PAGE), "EINVAL", id="above user space"),
        pytest.param((PAGE, 3 * PAGE, 3 * PAGE), "ENOMEM", id="below user space"),
        pytest.param((200 * PAGE, 208 * PAGE, 0), None, id="in place"),
    ],
)
def test_what_a_stack_deserves(operands: tuple[int, int, int], error: str | None) -> None:
    space = AddressSpace(tiny())
    sight = Sight(space, "execve_stack", operands)
    found = execve_stack(space, *operands)
    assert found is (Errno[error] if error else None)
    assert told(sight, found) == []
    other = None if error else Errno.EINVAL
    assert "error-order" in [violation.rule for violation in told(sight, other, "stack")]


@breaks("error-order")
@pytest.mark.parametrize(
    ("picture", "operands", "error"),
    [
        pytest.param(".b.. .AAA", (5, 8, 5), "EFAULT", id="something in the way"),
        pytest.param(".... .AAA B", (5, 9, 2), "EFAULT", id="not alone in its range"),
        pytest.param(".... .aaa", (5, 8, 2), "EFAULT", id="never used"),
        pytest.param(".... ....", (5, 8, 2), "EFAULT", id="nothing"),
        pytest.param(".... .AAA", (8, 8, 2), "EINVAL", id="empty"),
        pytest.param(".... .AAA", (5, 8, 6), "EINVAL", id="below the arena"),
        pytest.param(".... .AAA B", (5, 8, 4), None, id="free"),
    ],
)
def test_what_a_stack_among_neighbours_deserves(
    picture: str, operands: tuple[int, ...], error: str | None
) -> None:
    space = scene(picture)
    start, end, shift = (page * PAGE for page in operands)
    sight = Sight(space, "relocate", (start, end, shift))
    found = relocate(space, start, end, shift)
    assert found is (Errno[error] if error else None)
    assert told(sight, found) == []
    other = None if error else Errno.EINVAL
    assert "error-order" in [violation.rule for violation in told(sight, other, "stack")]


@breaks("stack-fits")
def test_a_stack_shifted_below_zero_is_told() -> None:
    for shift, broken in ((3, []), (6, ["stack-fits"])):
        space = scene(".... .AAA")
        relocate_vma_down(space, vma_at(space, 5), shift * PAGE)
        assert [violation.rule for violation in looked(space.violations)] == broken


@breaks("exec-alone")
def test_exec_moves_its_stack_alone() -> None:
    for picture, broken in ((".... .AAA", []), (".... .AAA ..b.", ["exec-alone"])):
        space = scene(picture, listeners=[MoveRules()])
        stack = vma_at(space, 5)
        stack.flags |= VM_STACK_INCOMPLETE
        relocate_vma_down(space, stack, 3 * PAGE)
        assert [violation.rule for violation in looked(space.violations)] == broken


def test_arguments_are_too_long_beyond_a_limit_only() -> None:
    space = AddressSpace(tiny())
    for name in ("address_space", "commit", "request"):
        space.limits = replace(Limits(), **{name: 10 * PAGE})
        longer = Sight(space, "execve_stack", (A, A + 11 * PAGE, 0)).returned(Errno.E2BIG)
        assert not list(refused(longer))
        sight = Sight(space, "execve_stack", (A, A + 10 * PAGE, 0))
        assert not list(refused(sight.returned(None)))
        (found,) = refused(sight.returned(Errno.E2BIG))
        assert found.rule == "stack-fits"
