"""Growth by mremap(2) as pictures: in place, elsewhere, from nothing; and where the kernel puts it.

One character a page (see tests/lib/drawn.py).  Numbers are pages unless they have a P.
"""

import pytest

from engine.base.kernel import Kernel
from engine.base.uapi import (
    MREMAP_DONTUNMAP,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from engine.state.vma import VM_LOCKONFAULT
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, tags
from tests.lib.explains import explains
from tests.lib.remapping import ALL, FIRST, LAST, TOP, lock, run, shared

EINVAL, ENOMEM = Errno.EINVAL, Errno.ENOMEM


# --- growth in place -----------------------------------------------------------------------------


@explains("resize", "grows-in-place")
@pytest.mark.parametrize(
    ("kernel", "picture", "addr", "pages", "after"),
    [
        pytest.param(FIRST, "AAAA ....", 0, (4, 6), "AAAA aa..", id="free space behind"),
        pytest.param(FIRST, "AAAA ....", 2, (2, 4), "AAAA aa..", id="from the middle to the end"),
        pytest.param(FIRST, "aaaa ..bb", 0, (4, 6), "aaaa aaaa", id="merges when it gets there"),
        pytest.param(FIRST, "aaaa ..BB", 0, (4, 6), "aaaa aaAA", id="unfaulted up to faulted"),
        pytest.param(FIRST, "AAAA ..bb", 0, (4, 6), "AAAA aabb", id="faulted up to unfaulted"),
        pytest.param(LAST, "AAAA ..bb", 0, (4, 6), "AAAA aaaa", id="the same since 6.16"),
        pytest.param(LAST, "AAAA ..BB", 0, (4, 6), "AAAA aaBB", id="two anon_vmas never merge"),
        pytest.param(FIRST, "aaaa ...b", 0, (4, 6), "aaaa aa.b", id="not quite there"),
    ],
)
def test_growth_in_place(
    kernel: str, picture: str, addr: int, pages: tuple[int, int], after: str
) -> None:
    space = scene(picture, kernel)
    assert run(space, addr * P, pages[0] * P, pages[1] * P, 0, 0) == addr * P
    assert shown(space, 2) == after


@explains(
    "growth-may-not-move", "growth-moves", "source-unmapped-behind", "copy-apart", "moved-unwatched"
)
@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("picture", "addr", "pages"),
    [
        pytest.param("AAAA .b..", 0, (4, 6), id="something behind"),
        pytest.param("AAAA ....", 0, (2, 3), id="not up to the end of the VMA"),
    ],
)
def test_growth_moves_where_it_cannot_stay(
    picture: str, addr: int, pages: tuple[int, int], kernel: str
) -> None:
    old, new = pages
    assert run(scene(picture, kernel), addr * P, old * P, new * P, 0, 0) is ENOMEM
    space = scene(picture, kernel)
    place = run(space, addr * P, old * P, new * P, MREMAP_MAYMOVE, 0)
    assert isinstance(place, int)
    assert place == TOP - new * P
    assert all(tags(space)[place // P + i] == 1 + i for i in range(old))


def test_growth_at_the_top_of_user_space_cannot_stay() -> None:
    space = scene("." * 252 + "AAAA")
    assert run(space, 252 * P, 4 * P, 5 * P, 0, 0) is ENOMEM
    assert run(space, 252 * P, 4 * P, 5 * P, MREMAP_MAYMOVE, 0) == 247 * P
    assert tags(space) == {247: 1, 248: 2, 249: 3, 250: 4}


@explains("locked-growth-populated")
@pytest.mark.parametrize(("extra", "present"), [(0, 6), (VM_LOCKONFAULT, 4)])
def test_locked_growth_is_populated_unless_on_fault_only(extra: int, present: int) -> None:
    space = scene("AAAA ....")
    lock(space, extra)
    assert run(space, 0, 4 * P, 6 * P, 0, 0) == 0
    assert space.tree.rss_anon == present
    assert run(space, 0, 6 * P, 8 * P, MOVE, 16 * P) == 16 * P
    assert space.tree.rss_anon == (8 if present == 6 else 4)


@explains("growth-wraps-pgoff")
@pytest.mark.parametrize("kernel", ALL)
def test_growth_must_not_pass_the_last_page_offset(kernel: str) -> None:
    space = scene("a...", kernel)
    (vma,) = space.vmas
    vma.pgoff = (1 << 64) - 2
    assert mremap(space, 0, P, 2 * P, 0) is EINVAL
    assert shown(space, 1) == "a..."


# --- old_len = 0 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ALL)
def test_old_len_0_makes_a_second_view_of_shared_memory(kernel: str) -> None:
    space = shared(kernel)
    assert run(space, 6 * P, 0, 3 * P, MOVE, 17 * P) == 17 * P
    assert shown(space, 5) == ".... AAAA .... .... .bbb"
    original, view = space.vmas
    assert view.backing is original.backing
    assert (original.pgoff, view.pgoff) == (0, 2)
    assert not touch(space, 17 * P, 18 * P)
    assert tags(space)[6] == tags(space)[17] == 5
    # The view is longer than what is left of the object.
    assert touch(space, 19 * P, 20 * P).bus == [(19 * P, 1)]


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("flags", "result"),
    [
        (0, ENOMEM),  # growth that would have to move
        (MREMAP_MAYMOVE, TOP - 2 * P),
        (MREMAP_MAYMOVE | MREMAP_DONTUNMAP, EINVAL),  # sizes differ
    ],
)
def test_old_len_0_is_a_growth(flags: int, result: int | Errno, kernel: str) -> None:
    space = shared(kernel)
    assert run(space, 4 * P, 0, 2 * P, flags, 0) == result
    assert shown(space, 2) == ".... AAAA"


# --- addresses the kernel chooses -----------------------------------------------------------------


def busy_top(kernel: str | Kernel, pages: int = 1) -> AddressSpace:
    """Four touched pages, hemmed in, and the last `pages` pages of the arena mapped."""
    return scene("AAAA b".replace(" ", "").ljust(256 - pages, ".") + "c" * pages, kernel)


@pytest.mark.parametrize(
    ("kernel", "pages", "place"),
    [
        ("linux-6.1", 8, 255 - 8),
        ("linux-6.7", 8, 252 - 8),  # aligned for a huge page
        ("linux-6.12", 8, 252 - 8),
        ("linux-6.18", 8, 252 - 8),
        ("linux-6.18", 7, 255 - 7),  # not a multiple of a slot: no huge page to gain
    ],
)
def test_growth_goes_to_the_highest_hole(kernel: str, pages: int, place: int) -> None:
    space = busy_top(kernel)
    assert run(space, 0, 4 * P, pages * P, MREMAP_MAYMOVE, 0) == place * P
    assert tags(space) == {place + i: 1 + i for i in range(4)}


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("hint", "place"),
    [
        (16 * P, 16 * P),  # free
        (4 * P, (255 - 4) * P),  # busy: top-down, and not aligned
        (TOP - 4 * P, (255 - 4) * P),  # busy at its end
    ],
)
def test_the_hint_of_dontunmap(hint: int, place: int, kernel: str) -> None:
    space = busy_top(kernel)
    assert run(space, 0, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, hint) == place


@explains("no-place-found")
def test_a_full_address_space_has_no_place() -> None:
    space = scene("AAAA" + "b" * 252)
    assert run(space, 0, 4 * P, 5 * P, MREMAP_MAYMOVE, 0) is ENOMEM
    assert run(space, 0, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 8 * P) is ENOMEM
    assert tags(space) == {0: 1, 1: 2, 2: 3, 3: 4}
