"""The error that an mremap deserves where something is just enough, or just not."""

import pytest

from engine.base.failures import COMMIT, HOOK, MAPS
from engine.base.kernel import KERNELS
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.calls.mmap import mmap
from engine.mremap import mremap
from engine.state.space import AddressSpace
from fuzz.rules.sight import Sight
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, tiny
from tests.lib.told import told

KEEP_ANYWHERE = MREMAP_MAYMOVE | MREMAP_DONTUNMAP
NAMES = ["linux-5.0", "linux-6.12", "linux-6.18"]
HERE, THERE, IN_USE = 0, 64, 128  # pages

CALLS = [
    pytest.param((HERE, 4, 6, 0, 0), id="growth in place"),
    pytest.param((HERE, 4, 6, MREMAP_MAYMOVE, 0), id="growth"),
    pytest.param((IN_USE, 4, 6, MREMAP_MAYMOVE, 0), id="growth elsewhere"),
    pytest.param((HERE, 4, 6, MOVE, THERE), id="growth there"),
    pytest.param((HERE, 4, 6, MOVE, IN_USE + 2), id="growth over others"),
    pytest.param((HERE, 4, 4, MOVE, IN_USE), id="over others"),
    pytest.param((HERE, 4, 4, KEEP_ANYWHERE, THERE), id="a source that stays"),
    pytest.param(
        (HERE, 4, 4, KEEP_ANYWHERE | MREMAP_FIXED, IN_USE), id="a source that stays, over others"
    ),
    pytest.param((HERE + 1, 2, 2, MOVE, IN_USE + 1), id="parts"),
    pytest.param((HERE, 4, 2, 0, 0), id="less"),
]


def judged(space: AddressSpace, *call: int) -> Errno | None:
    """Returns: the error.  The rule agrees with it, and with nothing else."""
    addr, old, new, flags, to = call
    request = (addr * PAGE, old * PAGE, new * PAGE, flags, to * PAGE)
    sight = Sight(space, "mremap", request)
    result = mremap(space, *request)
    assert not told(sight, result, "errors")
    for other in (Errno.EAGAIN, Errno.EINVAL, Errno.E2BIG, 3 * PAGE):
        if other != result:
            assert told(sight, other, "errors")
    return result if isinstance(result, Errno) else None


def mapped(name: str, kind: int) -> AddressSpace:
    """Four pages, and five with another mapping behind them."""
    space = AddressSpace(tiny(name))
    for start, length, prot in ((HERE, 4, 3), (IN_USE, 4, 3), (IN_USE + 4, 1, 1)):
        flags = kind | MAP_ANONYMOUS | MAP_FIXED
        assert mmap(space, start * PAGE, length * PAGE, prot, flags) == start * PAGE
    return space


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", ["address_space", "locked", "commit", "request"])
@pytest.mark.parametrize("call", CALLS)
def test_limits_are_known_to_the_page(name: str, limit: str, call: tuple[int, ...]) -> None:
    if call[3] & MREMAP_DONTUNMAP and not KERNELS[name].dontunmap:
        return
    refused = set()
    for pages in range(16):
        space = mapped(name, MAP_PRIVATE | MAP_LOCKED)
        setattr(space.limits, limit, pages * PAGE)
        refused.add(judged(space, *call))
    assert refused <= {None, Errno.ENOMEM, Errno.EAGAIN}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call", CALLS)
def test_the_number_of_vmas_is_known(name: str, call: tuple[int, ...]) -> None:
    if call[3] & MREMAP_DONTUNMAP and not KERNELS[name].dontunmap:
        return
    for limit in range(2, 12):
        space = mapped(name, MAP_PRIVATE)
        space.max_map_count = limit
        assert judged(space, *call) in (None, Errno.ENOMEM)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("start", [HERE, 32])
def test_room_for_vmas_is_asked_for_before_a_move(name: str, start: int) -> None:
    kernel = KERNELS[name]
    space = mapped(name, MAP_PRIVATE)
    space.failures.arm(MAPS, 1)
    request = (start * PAGE, 6 * PAGE, 5 * PAGE, MOVE, THERE * PAGE)  # no VMA is as long
    sight = Sight(space, "mremap", request)
    result = mremap(space, *request)
    asked = kernel.map_count_first and (kernel.check_before_unmap or start == HERE)
    assert result is (Errno.ENOMEM if asked else Errno.EFAULT)
    assert not told(sight, result, "errors")
    if asked:
        assert told(sight, Errno.EFAULT, "errors")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [MAP_PRIVATE, MAP_SHARED])
@pytest.mark.parametrize(
    "flags", [0, MREMAP_MAYMOVE, MOVE, KEEP_ANYWHERE, KEEP_ANYWHERE | MREMAP_FIXED]
)
@pytest.mark.parametrize("lengths", [(8, 8), (3, 3), (8, 4), (4, 8), (0, 4)])
@pytest.mark.parametrize("places", [(4, 64), (0, 66)])
def test_huge_pages_move_whole(
    name: str, kind: int, flags: int, lengths: tuple[int, int], places: tuple[int, int]
) -> None:
    space = AddressSpace(tiny(name))
    mmap(space, 0, 2 * SLOT, 3, kind | MAP_HUGETLB | MAP_ANONYMOUS | MAP_FIXED)
    addr, to = places
    request = (addr * PAGE, lengths[0] * PAGE, lengths[1] * PAGE, flags, to * PAGE)
    sight = Sight(space, "mremap", request)
    result = mremap(space, *request)
    assert not told(sight, result, "errors")


def test_a_failure_on_demand_gives_its_own_error_only() -> None:
    space = mapped("linux-6.12", MAP_PRIVATE)
    space.failures.arm(HOOK, 1)
    sight = Sight(space, "mremap", (0, 4 * PAGE, 4 * PAGE, MOVE, THERE * PAGE))
    assert not told(sight, Errno.EPERM, "errors")
    assert told(sight, Errno.ENOMEM, "errors")


@pytest.mark.parametrize(("kind", "error"), [(COMMIT, Errno.ENOMEM), (HOOK, Errno.EPERM)])
def test_what_was_refused_is_not_granted(kind: str, error: Errno) -> None:
    space = mapped("linux-6.12", MAP_PRIVATE)
    space.failures.arm(kind, 1)
    sight = Sight(space, "mremap", (0, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE, 0))
    assert not told(sight, 0, "errors")  # not asked for yet
    assert space.failures.fails(kind)
    assert not told(sight, error, "errors")
    assert told(sight, 0, "errors")
