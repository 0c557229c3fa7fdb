"""mremap(2) as pictures: what it returns, in which order it refuses, and what is left behind.

One character a page (see tests/lib/drawn.py).  Numbers are pages unless they have a P.
"""

from random import Random

import pytest

from engine.base.failures import COMMIT, MAPS
from engine.base.kernel import kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFDIO_REGISTER_MODE_MISSING,
    Errno,
)
from engine.calls.mmap import mmap
from engine.calls.mseal import mseal
from engine.mremap import _move_several, mremap
from engine.pages.fault import touch
from engine.pages.uffd import uffd_register
from engine.remap import Remap
from engine.state.space import AddressSpace
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, tags
from tests.lib.explains import explains
from tests.lib.remapping import ALL, CLASSIC, LAST, TOP, run

EINVAL, EFAULT, ENOMEM = Errno.EINVAL, Errno.EFAULT, Errno.ENOMEM

Request = tuple[int, int, int, int, int]  # addr, old_len, new_len, flags, new_addr in bytes


# --- errors, in the order of 6.2 and 6.3 ----------------------------------------------------------

# Source at page 0, a hole behind it, the usual destination at page 12.
HERE = "AAAA .... .... bbbb"
GONE = "AAAA .... .... ...."
WORD = 1 << 64

# Each request is wrong in the named way and in a later one, so that the order shows: (id, picture,
# request, what 6.1 and 6.12 return and leave, what 6.18 returns and leaves).
ERRORS: list[tuple[str, str, Request, tuple[int | Errno, str], tuple[int | Errno, str]]] = [
    # Before anything is looked up.
    ("1 flags", HERE, (64 * P, P, P, 8, 0), (EINVAL, HERE), (EINVAL, HERE)),
    ("2 FIXED alone", HERE, (64 * P, P, P, MREMAP_FIXED, 12 * P), (EINVAL, HERE), (EINVAL, HERE)),
    (
        "3 DONTUNMAP alone",
        HERE,
        (64 * P, P, P, MREMAP_DONTUNMAP, 0),
        (EINVAL, HERE),
        (EINVAL, HERE),
    ),
    (
        "3 FIXED DONTUNMAP",
        HERE,
        (0, P, P, MREMAP_FIXED | MREMAP_DONTUNMAP, 12 * P),
        (EINVAL, HERE),
        (EINVAL, HERE),
    ),
    ("3 DONTUNMAP sizes", HERE, (64 * P, P, 2 * P, KEEP, 12 * P), (EINVAL, HERE), (EINVAL, HERE)),
    ("4 addr", HERE, (64 * P + 1, P, P, MOVE, 12 * P), (EINVAL, HERE), (EINVAL, HERE)),
    ("5 new_len 0", HERE, (64 * P, P, 0, 0, 0), (EINVAL, HERE), (EINVAL, HERE)),
    ("5 new_len wraps", HERE, (64 * P, P, WORD - 1, 0, 0), (EINVAL, HERE), (EINVAL, HERE)),
    # The VMA of addr; 6.18 has tested the destination before.
    ("7 no VMA", HERE, (64 * P, P, P, 0, 0), (EFAULT, HERE), (EFAULT, HERE)),
    ("7 no VMA, FIXED", HERE, (64 * P, P, P, MOVE, 12 * P), (EFAULT, HERE), (EFAULT, HERE)),
    ("7 and 10", HERE, (64 * P, P, P, MOVE, 12 * P + 1), (EFAULT, HERE), (EINVAL, HERE)),
    ("7 and 11", HERE, (64 * P, P, P, MOVE, TOP), (EFAULT, HERE), (EINVAL, HERE)),
    ("7 and 12", HERE, (64 * P, P, P, MOVE, 64 * P), (EFAULT, HERE), (EINVAL, HERE)),
    # The destination; nothing is unmapped yet.
    ("10 new_addr", HERE, (0, 2 * P, 2 * P, MOVE, 12 * P + 1), (EINVAL, HERE), (EINVAL, HERE)),
    (
        "10 with DONTUNMAP",
        HERE,
        (0, P, P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 1),
        (EINVAL, HERE),
        (EINVAL, HERE),
    ),
    ("11 end", HERE, (0, P, 2 * P, MOVE, TOP - P), (EINVAL, HERE), (EINVAL, HERE)),
    ("11 wraps", HERE, (0, P, P, MOVE, WORD - P), (EINVAL, HERE), (EINVAL, HERE)),
    ("11 new_len", HERE, (0, P, TOP + P, MOVE, 0), (EINVAL, HERE), (EINVAL, HERE)),
    ("12 overlap above", HERE, (0, 4 * P, 4 * P, MOVE, 3 * P), (EINVAL, HERE), (EINVAL, HERE)),
    ("12 overlap below", HERE, (1 * P, P, 2 * P, MOVE, 0), (EINVAL, HERE), (EINVAL, HERE)),
    ("12 onto itself", HERE, (0, 4 * P, 4 * P, MOVE, 0), (EINVAL, HERE), (EINVAL, HERE)),
    # The source; until 6.12 the destination is gone by then.
    ("17 old_len 0", HERE, (0, 0, 4 * P, MOVE, 12 * P), (EINVAL, GONE), (EINVAL, HERE)),
    ("17 and 19", HERE, (4 * P - P, 0, 4 * P, MOVE, 12 * P), (EINVAL, GONE), (EINVAL, HERE)),
    ("19 growing", HERE, (0, 5 * P, 6 * P, MOVE, 10 * P), (EFAULT, GONE), (EFAULT, HERE)),
    (
        "19 same size",
        HERE,
        (0, 6 * P, 6 * P, MOVE, 10 * P),
        (EFAULT, GONE),
        (10 * P, ".... .... ..AA AAbb"),
    ),
    (
        "19 DONTUNMAP",
        HERE,
        (0, 6 * P, 6 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 8 * P),
        (EFAULT, HERE),
        (EFAULT, HERE),
    ),
    # Neither FIXED nor DONTUNMAP.
    ("17 plain", HERE, (0, 0, P, MREMAP_MAYMOVE, 0), (EINVAL, HERE), (EINVAL, HERE)),
    ("19 plain", HERE, (0, 5 * P, 6 * P, MREMAP_MAYMOVE, 0), (EFAULT, HERE), (EFAULT, HERE)),
    ("14' no MAYMOVE", HERE, (0, 2 * P, 3 * P, 0, 0), (ENOMEM, HERE), (ENOMEM, HERE)),
    ("14' in the way", HERE, (0, 4 * P, 13 * P, 0, 0), (ENOMEM, HERE), (ENOMEM, HERE)),
    (
        "15' no room",
        HERE,
        (0, 4 * P, TOP - 8 * P, MREMAP_MAYMOVE, 0),
        (ENOMEM, HERE),
        (ENOMEM, HERE),
    ),
    ("15' too long", HERE, (0, 4 * P, TOP + P, MREMAP_MAYMOVE, 0), (ENOMEM, HERE), (EINVAL, HERE)),
    ("10' too long", HERE, (0, TOP + P, TOP + P, 0, 0), (0, HERE), (EINVAL, HERE)),
    (
        "3 rounding",
        HERE,
        (0, P, P - 1, KEEP, 12 * P),
        (EINVAL, HERE),
        (12 * P, "aAAA .... .... Bccc"),
    ),
]


@explains(
    "flags-or-address-refused",
    "request-refused",
    "move-checked-first",
    "first-page-unmapped",
    "resize-checked-first",
    "resize-first-page-refuses",
    "classic-target-refused",
    "checked-target-refused",
    "target-unaligned",
    "target-outside-or-over-source",
    "source-private-duplicate",
    "source-beyond-its-vma",
)
@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("row", ERRORS, ids=[row[0] for row in ERRORS])
def test_errors_come_in_order_and_leave_what_they_leave(
    row: tuple[str, str, Request, tuple[int | Errno, str], tuple[int | Errno, str]], kernel: str
) -> None:
    _, picture, request, classic, checking = row
    result, after = checking if kernel == LAST else classic
    space = scene(picture, kernel)
    assert run(space, *request) == result
    assert shown(space, 4) == after


@explains("target-too-many-maps")
@pytest.mark.parametrize(
    ("request_", "classic", "checking"),
    [
        ((0, P, P, MOVE, 12 * P), ENOMEM, ENOMEM),  # 13, before anything is unmapped
        ((0, P, P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 12 * P), ENOMEM, ENOMEM),
        ((0, P, P, MOVE, 0), EINVAL, EINVAL),  # 12 comes first
        ((0, 5 * P, 6 * P, MOVE, 10 * P), ENOMEM, ENOMEM),  # 19 later
        ((64 * P, P, P, MOVE, 12 * P), EFAULT, ENOMEM),  # 7 earlier, or later
    ],
)
@pytest.mark.parametrize("kernel", ALL)
def test_the_map_count_is_tested_before_anything_is_unmapped(
    request_: Request, classic: Errno, checking: Errno, kernel: str
) -> None:
    space = scene(HERE, kernel)
    space.max_map_count = len(space.vmas) + 5
    assert run(space, *request_) is (checking if kernel == LAST else classic)
    assert shown(space, 4) == HERE


@pytest.mark.parametrize("kernel", ALL)
def test_the_overlap_test_wraps(kernel: str) -> None:
    """B-69: EINVAL from the tail's munmap, but the destination, inside the source, is gone."""
    space = scene(".... .... AAAA", kernel)
    assert mremap(space, 8 * P, WORD - 8 * P, 2 * P, MOVE, 9 * P) is EINVAL
    assert shown(space, 3) == ".... .... A..B"


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("flags", [MOVE, KEEP])
def test_a_failed_allocation_leaves_the_source_but_not_the_destination(
    flags: int, kernel: str
) -> None:
    far = " ".join(["...."] * 19)
    space = scene(f".AAA A... {far} bbbb bb..", kernel)
    space.tree.refuse = lambda number: True
    assert run(space, P, 4 * P, 4 * P, flags, 85 * P) is ENOMEM
    assert shown(space, 23) == f".AAA A... {far} b... .c.."
    assert tags(space) == {1: 1, 2: 2, 3: 3, 4: 4}


@pytest.mark.parametrize("kernel", ALL)
def test_a_failed_shrinking_move_has_lost_its_tail_too(kernel: str) -> None:
    far = " ".join(["...."] * 14)
    space = scene(f"AAAA AAAA {far} .bbb", kernel)
    space.tree.refuse = lambda number: True
    assert run(space, 0, 8 * P, 3 * P, MOVE, 65 * P) is ENOMEM
    assert shown(space, 17) == f"AAA. .... {far} ...."
    assert tags(space) == {0: 1, 1: 2, 2: 3}


# --- when it matters what is checked first --------------------------------------------------------

Trace = tuple[object, ...]


def _random_move(random: Random) -> Trace:
    """A move on 6.18, most often one that something is wrong with, and all that it left."""
    space = AddressSpace(kernel_named(LAST))
    geometry, arena = space.geometry, space.arena
    slot = geometry.slot_bytes
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    for at, prot, more in ((1, 3, 0), (2, 1, 0), (4, 3, MAP_HUGETLB), (7, 3, 0)):
        assert isinstance(mmap(space, arena.start + at * slot, slot, prot, flags | more), int)
    armed, sealed = random.choice((0, 0, 1, 2, 4, 7)), random.choice((0, 0, 0, 1, 2, 4, 7))
    if armed:
        at = arena.start + armed * slot
        assert (
            uffd_register(space, at, slot, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_EVENT_UNMAP)
            is None
        )
    if sealed:
        assert mseal(space, arena.start + sealed * slot, slot) is None
    if fails := random.choice((0, 0, 1, 2)):
        space.failures.arm(random.choice((MAPS, MAPS, COMMIT)), fails)
    space.max_map_count = random.choice((65530, 65530, 9, 8))
    space.limits.address_space = random.choice((None, None, 5 * slot))

    inside = [arena.start + at * slot for at in (0, 1, 1, 2, 4, 7)]
    addr = random.choice([*inside, arena.start + slot + P, arena.start - slot])
    lengths = (P, slot - P, slot, slot, slot, slot, 2 * slot, 4 * slot, slot + P)
    old_len = random.choice((0, slot - 1, -addr % WORD, *lengths))
    new_len = old_len if random.random() < 0.6 else random.choice(lengths)
    target = arena.start + random.choice((0, 1, 2, 4, 7, 7, 10, 10, 12)) * slot
    target = random.choice((*[target] * 6, target + P, target + 1, geometry.user_top - P))
    what = random.choice((MOVE, MOVE, MOVE, KEEP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP))
    result = mremap(space, addr, old_len, new_len, what, target)
    vmas = [(vma.range, vma.flags, vma.pgoff, repr(vma.uffd)) for vma in space.vmas]
    events = [context.events for context in space.uffds.values()]
    counters = space.total_vm, space.hiwater_vm, space.committed, space.pool.free
    return result, vmas, events, counters, space.failures.left(), repr(space.violations)


@pytest.mark.slow
def test_the_kernel_is_asked_wherever_the_order_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model does not ask whether 6.17 checks first, the way of 6.17 gives the same."""
    rounds = 10_000
    found = [_random_move(Random(seed)) for seed in range(rounds)]
    monkeypatch.setattr("engine.mremap._order_matters", lambda remap: True)
    for seed, trace in enumerate(found):
        assert _random_move(Random(seed)) == trace, f"seed {seed}"


@explains("source-unmapped")
@pytest.mark.parametrize("new_len", [P, 2 * P, 4 * P])
def test_a_resize_of_what_is_not_ours_is_refused_since_6_17(new_len: int) -> None:
    """Until 6.16 a shrink that finds something mapped succeeds; all else is EFAULT."""
    for kernel in ALL:
        space = AddressSpace(kernel_named(kernel))
        addr = space.arena.start - 4 * P
        shrinks = new_len <= 2 * P and kernel != LAST
        assert mremap(space, addr, 2 * P, new_len, MREMAP_MAYMOVE) == (addr if shrinks else EFAULT)


# --- flags ---------------------------------------------------------------------------------------

# "AAAA" at 0 and "bbbb" at 12; new_addr is page 12.  Per flags: result for the same size, one page
# more, one page less.
MIXES: dict[int, tuple[int | Errno, int | Errno, int | Errno]] = {
    0: (0, 0, 0),
    MREMAP_MAYMOVE: (0, 0, 0),
    MREMAP_FIXED: (EINVAL, EINVAL, EINVAL),
    MREMAP_MAYMOVE | MREMAP_FIXED: (12 * P, 12 * P, 12 * P),
    MREMAP_DONTUNMAP: (EINVAL, EINVAL, EINVAL),
    MREMAP_MAYMOVE | MREMAP_DONTUNMAP: (TOP - 4 * P, EINVAL, EINVAL),  # the hint is taken
    MREMAP_FIXED | MREMAP_DONTUNMAP: (EINVAL, EINVAL, EINVAL),
    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP: (12 * P, EINVAL, EINVAL),
}


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("flags", MIXES)
def test_every_mix_of_flags(flags: int, kernel: str) -> None:
    for new_pages, expected in zip((4, 5, 3), MIXES[flags], strict=True):
        assert run(scene(HERE, kernel), 0, 4 * P, new_pages * P, flags, 12 * P) == expected


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("flags", "new_pages", "after"),
    [
        (0, 5, "AAAA a... .... bbbb"),
        (0, 3, "AAA. .... .... bbbb"),
        (MOVE, 4, ".... .... .... AAAA"),
        (MOVE, 5, ".... .... .... AAAA a..."),
        (MOVE, 3, ".... .... .... AAAb"),
        (KEEP, 4, "aaaa .... .... BBBB"),
    ],
)
def test_what_is_where_afterwards(flags: int, new_pages: int, after: str, kernel: str) -> None:
    space = scene(HERE, kernel)
    run(space, 0, 4 * P, new_pages * P, flags, 12 * P)
    assert shown(space, len(after) // 5 + 1) == after
    moved = 12 if flags else 0
    assert tags(space) == {moved + i: 1 + i for i in range(min(new_pages, 4))}


@pytest.mark.parametrize("kernel", ALL)
def test_a_no_op_looks_at_the_first_page_only(kernel: str) -> None:
    for picture in ("A... bBbb", "AB.. ...."):
        space = scene(picture, kernel)
        assert run(space, 0, 8 * P, 8 * P, MREMAP_MAYMOVE, 0) == 0
        assert shown(space, 2) == picture


@explains("shrink-in-place", "tail-unmapped")
@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("picture", "after"),
    [
        ("AAAA AAAA AA", "AA.. .... .B"),
        ("AA.. BB.. cC", "AA.. .... .B"),
        ("AABB CCDD EE", "AA.. .... .B"),
        ("AA.. .... ..", "AA.. .... .."),
        ("A... .... bB", "A... .... .B"),
    ],
)
def test_a_shrink_unmaps_its_tail_across_vmas_and_holes(
    picture: str, after: str, kernel: str
) -> None:
    space = scene(picture, kernel)
    assert run(space, 0, 9 * P, 2 * P, 0, 0) == 0
    assert shown(space, 3) == after.ljust(14, ".")


@pytest.mark.parametrize("kernel", ALL)
def test_a_shrink_may_name_a_tail_beyond_user_space(kernel: str) -> None:
    """munmap refuses the tail: nothing has changed."""
    space = scene("AAAA", kernel)
    assert run(space, 0, TOP + P, 2 * P, 0, 0) is EINVAL
    assert shown(space, 1) == "AAAA"


# --- several VMAs --------------------------------------------------------------------------------

MANY = [
    # picture, pages from 0 to page 8, after
    pytest.param("AABB .... ....", 4, ".... .... AABB", id="adjacent"),
    pytest.param("AA.B .... ....", 4, ".... .... AA.B", id="a gap is kept"),
    pytest.param("AA.B .... cccc", 4, ".... .... AAbC", id="what is mapped at a gap stays"),
    pytest.param("AA.. .... cccc", 4, ".... .... AAbb", id="and behind the last VMA"),
    pytest.param("A..B .... CCCC", 4, ".... .... ABBC", id="with its pages"),
    pytest.param("AAbb .... .... ....", 3, "...a .... BBc. ....", id="part of the last VMA"),
]


@pytest.mark.parametrize(("picture", "pages", "after"), MANY)
def test_a_move_over_several_vmas(picture: str, pages: int, after: str) -> None:
    space = scene(picture, LAST)
    before = tags(space)
    assert run(space, 0, pages * P, pages * P, MOVE, 8 * P) == 8 * P
    assert shown(space, len(picture) // 5 + 1) == after
    moved = {8 + page: tag for page, tag in before.items() if page < pages}
    assert {page: tags(space)[page] for page in moved} == moved


@explains("move-classic", "destination-unmapped")
@pytest.mark.parametrize("kernel", CLASSIC)
def test_before_6_17_it_fails_and_has_unmapped_the_destination(kernel: str) -> None:
    space = scene("AA.B .... cccc", kernel)
    assert run(space, 0, 4 * P, 4 * P, MOVE, 8 * P) is EFAULT
    assert shown(space, 3) == "AA.B .... ...."


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param((4 * P, 5 * P, 5 * P, MOVE, 16 * P), id="a leading hole"),
        pytest.param((0, 4 * P, 5 * P, MOVE, 16 * P), id="growing"),
        pytest.param(
            (0, 4 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 16 * P), id="without FIXED"
        ),
        pytest.param((4 * P, P, P, MOVE, 16 * P), id="nothing but a hole"),
        pytest.param((0, 4 * P, 3 * P, MOVE, 16 * P), id="shrinking beyond its first VMA"),
    ],
)
def test_several_vmas_move_with_fixed_at_the_same_size_only(request_: Request) -> None:
    picture = "AABB .CCC .... .... dddd"
    space = scene(picture, LAST)
    assert run(space, *request_) is EFAULT
    assert shown(space, 5) == picture


@explains("several-begin-with-a-gap")
def test_several_vmas_begin_with_one() -> None:
    """Who asks for several has looked the first one up: there is no way here through mremap()."""
    space = scene(".AAB", LAST)
    assert _move_several(Remap(space, 0, 4 * P, 4 * P, MOVE, 8 * P)) is EFAULT
    assert shown(space, 1) == ".AAB"


@explains("several-vmas")
def test_several_vmas_with_dontunmap() -> None:
    space = scene("AA.B .... cccc", LAST)
    assert run(space, 0, 4 * P, 4 * P, KEEP, 8 * P) == 8 * P
    assert shown(space, 3) == "aa.b .... CCdE"


def test_when_a_later_part_fails_the_earlier_ones_have_moved() -> None:
    """Each part needs a table of its own; the second one cannot have it."""
    space = scene("A... B...", LAST)
    limit = space.tree.allocations + 3  # PUD, PMD and PTE table of the first part
    space.tree.refuse = lambda number: number >= limit
    assert run(space, 0, 5 * P, 5 * P, MOVE, 65 * P) is ENOMEM
    assert shown(space, 2) == ".... A..."
    assert tags(space) == {4: 2, 65: 1}


# --- limits --------------------------------------------------------------------------------------


@explains("move-too-many-maps")
@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("flags", "new_pages", "spare"),
    [
        (MOVE, 4, 6),
        (MOVE, 5, 6),
        (KEEP, 4, 6),
        (MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 4, 6),
        (MREMAP_MAYMOVE, 6, 4),
    ],
)
def test_moves_need_room_below_the_map_count(
    flags: int, new_pages: int, spare: int, kernel: str
) -> None:
    for limit in range(2, 12):
        space = scene("AAAA b... .... ....", kernel)
        space.max_map_count = limit
        result = run(space, 0, 4 * P, new_pages * P, flags, 12 * P)
        assert (result is ENOMEM) is (limit < 2 + spare), limit


@pytest.mark.parametrize("kernel", ALL)
def test_resizing_in_place_is_limited_by_splits_only(kernel: str) -> None:
    space = scene("AAAA ....", kernel)
    space.max_map_count = 1
    assert run(space, 0, 4 * P, 6 * P, 0, 0) == 0
    assert run(space, 0, 6 * P, 4 * P, 0, 0) == 0
    assert run(space, 0, 3 * P, 2 * P, 0, 0) is ENOMEM  # would leave two VMAs
    assert shown(space, 2) == "AAAA ...."
    space.max_map_count = 2
    assert run(space, 0, 3 * P, 2 * P, 0, 0) == 0
    assert shown(space, 2) == "AA.B ...."


# --- geometries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", ["x86-64", "x86-64-la57", "i386", "i386-pae", "arm64-64k-48"])
@pytest.mark.parametrize("kernel", ALL)
def test_the_same_calls_on_other_geometries(kernel: str, geometry: str) -> None:
    space = AddressSpace(kernel_named(kernel, geometry))
    page, slot = space.geometry.page_bytes, space.geometry.slot_bytes
    base = space.arena.start + 2 * slot
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, base + page, 2 * slot, 3, flags) == base + page
    assert not touch(space, base + page, base + 3 * page)
    target = base + 4 * slot + page
    assert run(space, base + page, 2 * slot, 2 * slot, MOVE, target) == target
    first = (target - space.arena.start) // page
    assert tags(space) == {first: 1, first + 1: 2}
    assert run(space, target, 2 * slot, page, 0, 0) == target
    assert tags(space) == {first: 1}
