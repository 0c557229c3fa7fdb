"""Which VMAs there are after a move, where memory goes that has no place, and what is counted."""

from collections.abc import Callable

import pytest

from engine.base.failures import HOOK, MAPS, VMA
from engine.base.kernel import KERNELS, kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    Errno,
)
from engine.calls.mlock import mlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mseal import mseal
from engine.mremap import mremap
from engine.state.space import AddressSpace
from engine.state.vma import VM_EXEC, VM_SEALED
from fuzz.rules.sight import Sight
from tests.lib.breaks import breaks
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tiny
from tests.lib.told import told

NAMES = list(KERNELS)
BOTH_WAYS = ["linux-6.1", "linux-6.12", "linux-6.18"]


def moved(
    space: AddressSpace,
    *args: int,
    sabotage: Callable[[AddressSpace], object] | None = None,
) -> list[str]:
    """The rules that break in an mremap: arguments in pages, but for the flags."""
    addr, old, new, flags, to = args
    request = (addr * PAGE, old * PAGE, new * PAGE, flags, to * PAGE)
    sight = Sight(space, "mremap", request)
    result = mremap(space, *request)
    assert not isinstance(result, Errno)
    if sabotage is not None:
        sabotage(space)
    return [violation.rule for violation in told(sight, result, "layout")]


# --- VMAs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("picture", "call"),
    [
        pytest.param("AAAA .... ....", (0, 4, 4, MOVE, 8), id="all of it"),
        pytest.param("AAAA .... ....", (1, 2, 2, MOVE, 8), id="its middle"),
        pytest.param("aaaa .... ....", (2, 2, 2, MOVE, 4), id="beside itself"),
        pytest.param("aaaa .... ....", (0, 2, 2, MOVE, 6), id="two apart"),
        pytest.param("AAAA ..BB bb..", (0, 2, 2, MOVE, 7), id="over parts of another"),
        pytest.param(".aa. BBBB bbbb", (1, 2, 2, MOVE, 9), id="into the middle of another"),
        pytest.param("aaaa bbBB", (0, 2, 2, MOVE, 10), id="unfaulted behind faulted"),
        pytest.param("AAAA .... bb..", (0, 4, 2, MOVE, 12), id="shrinking"),
        pytest.param("AAAA .... bb..", (0, 4, 6, MOVE, 12), id="growing"),
        pytest.param("AAAA ..bb", (0, 4, 6, 0, 0), id="up to a neighbour"),
        pytest.param("AAAA ..bb", (0, 4, 2, 0, 0), id="less"),
        pytest.param("AAAA ..bb", (0, 4, 4, 0, 0), id="as it was"),
    ],
)
def test_the_layout_is_predicted(name: str, picture: str, call: tuple[int, ...]) -> None:
    assert moved(scene(picture, name), *call) == []


@pytest.mark.parametrize("name", BOTH_WAYS)
@pytest.mark.parametrize(
    ("picture", "call"),
    [
        pytest.param("AAAA .... ....", (0, 4, 4, KEEP, 8), id="all of it"),
        pytest.param("AAAA .... ....", (1, 2, 2, KEEP, 8), id="its middle"),
        pytest.param("aaaa ..bb", (0, 2, 2, KEEP, 8), id="unfaulted"),
        pytest.param("aaaa .... bb..", (0, 2, 2, KEEP, 10), id="unfaulted, behind another"),
    ],
)
def test_the_layout_of_a_source_that_stays(name: str, picture: str, call: tuple[int, ...]) -> None:
    assert moved(scene(picture, name), *call) == []


@pytest.mark.parametrize("name", ["linux-6.1", "linux-6.12"])
@pytest.mark.parametrize("to", [0, 6])
def test_a_copy_beside_a_source_that_stays(name: str, to: int) -> None:
    """6.1 then merges it with nothing; 6.12 with the neighbour on its other side."""
    space = scene("..aa aa.. bbbb", name)
    assert moved(space, 2, 2, 2, KEEP, to) == []
    assert [vma.start // PAGE for vma in space.vmas] == {
        ("linux-6.1", 0): [0, 2, 8],
        ("linux-6.12", 0): [0, 2, 8],
        ("linux-6.1", 6): [2, 6, 8],
        ("linux-6.12", 6): [2, 6],
    }[name, to]


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_what_is_locked_is_split_where_the_kernel_does(name: str) -> None:
    space = scene("AAAA ....", name)
    assert mlock(space, 0, 4 * PAGE) is None
    assert moved(space, 1, 2, 2, KEEP, 8) == []


def test_gaps_between_several() -> None:
    assert moved(scene("aa.B b.CC ....", "linux-6.18"), 0, 8, 8, MOVE, 12) == []


SEALED = [
    pytest.param("munmap", munmap, (1, 4), id="munmap"),
    pytest.param("mmap", mmap, (1, 4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0), id="mmap"),
    pytest.param("mremap", mremap, (0, 5, 1, 0, 0), id="a shrink"),
    pytest.param("mremap", mremap, (0, 5, 1, MOVE, 12), id="a shrink that moves"),
    pytest.param("mremap", mremap, (8, 4, 4, MOVE, 1), id="a destination"),
    pytest.param("mremap", mremap, (8, 3, 4, MOVE, 1), id="a destination of another size"),
    pytest.param("mremap", mremap, (8, 6, 6, MOVE, 0), id="the second destination"),
]


@breaks("vma-layout")
@pytest.mark.parametrize("name", ["linux-6.11", "linux-6.12", "linux-6.18"])
@pytest.mark.parametrize(("call", "run", "operands"), SEALED)
def test_what_a_seal_keeps_is_cut_where_it_begins(
    name: str,
    call: str,
    run: Callable[..., object],
    operands: tuple[int, ...],
) -> None:
    """The second of two mappings is sealed; 6.10 and 6.11 see that before they cut."""

    def refused(sabotage: Callable[[AddressSpace], object]) -> list[str]:
        space = scene("AAAA BBBB CCCD DDEE", name)
        assert mseal(space, 4 * PAGE, 4 * PAGE) is None
        args = [arg * PAGE for arg in operands]
        for index in (2, 3) if call == "mmap" else (3,) if call == "mremap" else ():
            args[index] = operands[index]
        sight = Sight(space, call, tuple(args))
        assert run(space, *args) is Errno.EPERM
        sabotage(space)
        return [violation.rule for violation in told(sight, Errno.EPERM, "layout")]

    assert refused(lambda space: None) == []
    assert refused(lambda space: space.split_at(2 * PAGE)) == ["vma-layout"]


def needless_split(space: AddressSpace) -> None:
    space.split_at(PAGE)


def missing_piece(space: AddressSpace) -> None:
    space.unmap(20 * PAGE, 21 * PAGE)


def other_flags(space: AddressSpace) -> None:
    for vma in space.vmas:
        vma.flags |= VM_EXEC


def other_offset(space: AddressSpace) -> None:
    for vma in space.vmas:
        vma.pgoff += 1


@breaks("vma-layout")
@pytest.mark.parametrize("sabotage", [needless_split, missing_piece, other_flags, other_offset])
def test_another_layout_is_noticed(sabotage: Callable[[AddressSpace], object]) -> None:
    for fault, rules in ((None, []), (sabotage, ["vma-layout"])):
        assert moved(scene("AA.B bb.. CCCC"), 8, 4, 4, MOVE, 20, sabotage=fault) == rules


# --- failures on demand --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VMA, MAPS, HOOK])
@pytest.mark.parametrize("name", NAMES)
def test_every_attempt_is_counted(kind: str, name: str) -> None:
    space = scene("AAAA BBBB ....", name)
    mmap(space, 8 * PAGE, 4 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    space.failures.arm(kind, 40)
    assert moved(space, 1, 2, 2, MOVE, 5) == []
    assert moved(space, 9, 2, 2, MOVE, 20) == []
    assert moved(space, 20, 0, 2, MOVE, 30) == []


@breaks("failure-strikes")
@pytest.mark.parametrize("kind", [VMA, MAPS, HOOK])
def test_an_attempt_that_is_not_counted_is_noticed(kind: str) -> None:
    def forgotten(space: AddressSpace) -> None:
        space.failures.arm(kind, 1)

    for fault, rules in ((None, []), (forgotten, ["failure-strikes"])):
        space = AddressSpace(tiny())
        mmap(space, 0, 4 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
        space.failures.arm(kind, 40)
        assert moved(space, 0, 4, 4, MOVE, 20, sabotage=fault) == rules


def test_a_failure_that_does_not_strike_is_noticed() -> None:
    space = AddressSpace(tiny())
    mmap(space, 0, 4 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    request = (0, 4 * PAGE, 4 * PAGE, MOVE, 20 * PAGE)
    sight = Sight(space, "mremap", request)
    sight.before.failing = {HOOK: (1,)}
    result = mremap(space, *request)
    found = told(sight, result, "layout")
    assert [violation.rule for violation in found] == ["failure-strikes"]


# --- places --------------------------------------------------------------------------------------


@breaks("place-chosen")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_HUGETLB])
@pytest.mark.parametrize("hint", [0, 1, 9, 12, 252, 255, 256])
@pytest.mark.parametrize("length", [1, 4, 7, 8])
def test_the_place_is_predicted(name: str, kind: int, hint: int, length: int) -> None:
    space = AddressSpace(tiny(name))
    mmap(space, 9 * PAGE, 231 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    flags = kind | MAP_ANONYMOUS
    sight = Sight(space, "mmap", (hint * PAGE, length * PAGE, 3, flags))
    result = mmap(space, hint * PAGE, length * PAGE, 3, flags)
    assert not told(sight, result)
    found = told(sight, 10 * PAGE)
    assert [violation.rule for violation in found] == ["place-chosen"]


@breaks("place-chosen")
@pytest.mark.parametrize("below", [1, 2, 255, 256, 257, 300])  # pages between the two stacks
@pytest.mark.parametrize("length", [1, 2, 44, 45, 300])
def test_the_place_below_stacks_is_predicted(below: int, length: int) -> None:
    space = AddressSpace(kernel_named("linux-6.12"))
    upper = space.arena.end - 8 * PAGE
    lower = upper - (below + 4) * PAGE
    for start, pages, flags in ((upper, 8, MAP_GROWSDOWN), (lower, 4, MAP_GROWSDOWN)):
        mmap(space, start, pages * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags)
    mmap(space, lower - 500 * PAGE, PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    sight = Sight(space, "mmap", (0, length * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS))
    result = mmap(space, 0, length * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS)
    assert not told(sight, result)
    assert isinstance(result, int)
    for wrong in (result - PAGE, result + PAGE):
        found = told(sight, wrong)
        assert [violation.rule for violation in found] == ["place-chosen"]


@breaks("place-chosen")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("start", "length"), [(0, 4), (1, 1), (1, 3), (0, 1), (3, 2), (255, 2)])
@pytest.mark.parametrize("limit", [1, 2, 9])
def test_a_given_place_is_cleared_if_it_may_be(
    name: str, start: int, length: int, limit: int
) -> None:
    space = scene("AAAA ....", name)
    space.max_map_count = limit
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    sight = Sight(space, "mmap", (start * PAGE, length * PAGE, 3, flags))
    result = mmap(space, start * PAGE, length * PAGE, 3, flags)
    assert not told(sight, result)
    wrong = start * PAGE if isinstance(result, Errno) else Errno.ENOMEM
    found = told(sight, wrong)
    assert [violation.rule for violation in found] == ["place-chosen"]


def test_nothing_is_said_of_what_is_no_anonymous_memory() -> None:
    sight = Sight(scene("AAAA ...."), "mmap", (0, PAGE, 3, 0))
    assert not told(sight, Errno.EBADF)


@breaks("place-chosen")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("start", "length", "limit"),
    [
        (0, 4 * PAGE, 9),
        (0, 1, 9),
        (PAGE, PAGE, 2),
        (PAGE, PAGE, 3),
        (PAGE, 3 * PAGE, 2),
        (0, PAGE, 2),
        (1, PAGE, 9),
        (0, 0, 9),
        (8 * PAGE, SLOT, 9),
        (9 * PAGE, 3 * PAGE, 9),
        (8 * PAGE, 3 * PAGE, 9),
        (256 * PAGE, PAGE, 9),
        (255 * PAGE, PAGE, 9),
        (255 * PAGE, 2 * PAGE, 9),
    ],
)
def test_what_munmap_refuses_is_predicted(name: str, start: int, length: int, limit: int) -> None:
    space = scene("AAAA ....", name)
    mmap(space, 8 * PAGE, 8 * PAGE, 3, MAP_PRIVATE | MAP_HUGETLB | MAP_ANONYMOUS | MAP_FIXED)
    space.max_map_count = limit
    sight = Sight(space, "munmap", (start, length))
    result = munmap(space, start, length)
    assert not told(sight, result)
    wrong = None if result else Errno.EINVAL
    found = told(sight, wrong)
    assert [violation.rule for violation in found] == ["place-chosen"]


def test_sealed_memory_stays() -> None:
    space = scene("AAAA ....", kernel_named("linux-6.12"))
    for vma in space.vmas:
        vma.flags |= VM_SEALED
    sight = Sight(space, "munmap", (0, SLOT))
    assert not told(sight, munmap(space, 0, SLOT))
    assert told(sight, None)
