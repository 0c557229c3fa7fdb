"""mremap(2) as pictures: what it returns, in which order it refuses, and what is left behind.

One character a page (see tests/lib/drawn.py).  Numbers are pages unless they have a P.
"""

from dataclasses import replace
from random import Random

import pytest

from engine.base.entry import PFN_SHIFT
from engine.base.failures import COMMIT, MAPS
from engine.base.kernel import Kernel, kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFDIO_REGISTER_MODE_MISSING,
    Errno,
)
from engine.calls.mmap import mmap
from engine.calls.mseal import mseal
from engine.mremap import Remap, _move_several, copy_vma, mremap
from engine.pages.fault import touch
from engine.pages.uffd import uffd_register
from engine.state.space import AddressSpace
from engine.state.vma import VM_ACCOUNT, VM_LOCKED, VM_LOCKONFAULT
from fuzz.rules.judge import check_state
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, tags, tiny
from tests.lib.explains import explains

FIRST, LAST = "linux-6.1", "linux-6.18"
ALL = ("linux-6.1", "linux-6.12", "linux-6.18")
CLASSIC = ("linux-6.1", "linux-6.12")
EINVAL, EFAULT, ENOMEM = Errno.EINVAL, Errno.EFAULT, Errno.ENOMEM

Request = tuple[int, int, int, int, int]  # addr, old_len, new_len, flags, new_addr in bytes


def run(space: AddressSpace, *request: int) -> int | Errno:
    """The call, after which the state must be sound.

    A FIXED move that shrinks leaks commit charge since 6.17: that alone is let pass.
    """
    _, old_len, new_len, flags, _ = request
    leaks = space.kernel.shrink_charges_delta and flags & MREMAP_FIXED and old_len > new_len
    result = mremap(space, *request)
    assert not space.violations
    assert {v.rule for v in check_state(space)} <= ({"committed"} if leaks else set())
    return result


def lock(space: AddressSpace, extra: int = 0) -> None:
    """Lock the first VMA, as mlock2 does, but without populating it."""
    vma = next(iter(space.vmas))
    vma.flags |= VM_LOCKED | extra
    space.locked_vm += (vma.end - vma.start) // P


# --- errors, in the order of 6.2 and 6.3 ----------------------------------------------------------

# Source at page 0, a hole behind it, the usual destination at page 12.
HERE = "AAAA .... .... bbbb"
GONE = "AAAA .... .... ...."
TOP = 1 << 20  # end of user space on tiny
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


# --- old_len = 0 ---------------------------------------------------------------------------------


def shared(kernel: str) -> AddressSpace:
    """Four pages of shared memory at page 4, all touched, in a tiny space."""
    space = AddressSpace(tiny(kernel))
    flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, 4 * P, 4 * P, 3, flags) == 4 * P
    assert not touch(space, 4 * P, 8 * P)
    return space


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


# --- DONTUNMAP -----------------------------------------------------------------------------------


def test_dontunmap_is_an_unknown_flag_before_5_7() -> None:
    space = scene(HERE, "linux-5.0")
    assert run(space, 0, 4 * P, 4 * P, KEEP, 12 * P) is EINVAL
    assert shown(space, 4) == HERE


@explains("source-cannot-be-kept")
def test_dontunmap_is_for_private_anonymous_memory_before_5_13() -> None:
    kernel = replace(tiny("linux-6.1"), dontunmap_any=False)
    space = scene(HERE, kernel)
    assert run(space, 0, 4 * P, 4 * P, KEEP, 12 * P) == 12 * P
    space = AddressSpace(kernel)
    for page in (4, 12):
        mmap(space, page * P, 4 * P, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    assert run(space, 4 * P, 4 * P, 4 * P, KEEP, 12 * P) is EINVAL
    assert shown(space, 4) == ".... aaaa .... ...."  # found out after the destination went


@pytest.mark.parametrize("kernel", ALL)
def test_dontunmap_of_shared_memory_leaves_it_to_fault_in_again(kernel: str) -> None:
    space = shared(kernel)
    assert run(space, 4 * P, 4 * P, 4 * P, KEEP, 16 * P) == 16 * P
    assert shown(space, 5) == ".... aaaa .... .... BBBB"
    assert tags(space)[4] == 1  # the object still has the page


@explains("kept-source-is-its-copy", "copy-of-unfaulted")
@pytest.mark.parametrize(
    ("kernel", "ranges"),
    [
        ("linux-6.1", [(0, 4), (4, 8), (8, 12)]),  # next to its source nothing merges
        ("linux-6.12", [(0, 4), (4, 12)]),  # all but the source may take part
        ("linux-6.18", [(0, 12)]),  # all
    ],
)
def test_an_unfaulted_copy_beside_its_source(kernel: str, ranges: list[tuple[int, int]]) -> None:
    space = scene("aaaa .... cccc", kernel)
    assert mremap(space, 0, 4 * P, 4 * P, KEEP, 4 * P) == 4 * P
    assert [vma.range for vma in space.vmas] == [(a * P, b * P) for a, b in ranges]
    together = ["dontunmap-two-vmas"] if kernel == LAST else []  # B-35
    assert [v.rule for v in space.violations] == together
    assert not check_state(space)


@pytest.mark.parametrize("kernel", ALL)
def test_without_dontunmap_an_unfaulted_vma_may_merge_with_its_own_copy(kernel: str) -> None:
    space = scene("..aa aa..", kernel)
    assert run(space, 3 * P, 3 * P, 3 * P, MOVE, 6 * P) == 6 * P
    assert shown(space, 3) == "..a. ..bb b..."
    space = scene("..aa aa..", kernel)
    assert run(space, 2 * P, 4 * P, 4 * P, MOVE, 6 * P) == 6 * P
    assert shown(space, 3) == ".... ..aa aa.."


@explains("source-kept", "kept-source-unlinked", "kept-source-pgoff-reset")
@pytest.mark.parametrize(
    ("kernel", "sound"), [("linux-6.1", True), ("linux-6.12", True), (LAST, False)]
)
def test_dontunmap_of_a_whole_vma_resets_its_page_offset(kernel: str, sound: bool) -> None:
    """B-32: on 6.18 a moved VMA keeps the offset of its old place though nothing needs it."""
    space = scene("AAAA", kernel)
    assert run(space, 0, 4 * P, 4 * P, MOVE, 8 * P) == 8 * P
    assert mremap(space, 8 * P, 4 * P, 4 * P, KEEP, 16 * P) == 16 * P
    source, copy = space.vmas
    assert source.anon_vma is None
    assert source.pgoff == (8 if sound else 0)
    assert copy.pgoff == 0
    assert [v.rule for v in check_state(space)] == ([] if sound else ["unfaulted-pgoff"])


@explains("kept-source-unaccounted")
def test_dontunmap_took_accounting_from_its_source() -> None:
    """B-33, from 6.15 to 6.17.5."""
    space = scene("AAAA", "linux-6.16")
    assert mremap(space, 0, 4 * P, 4 * P, KEEP, 8 * P) == 8 * P
    source, copy = space.vmas
    assert not source.flags & VM_ACCOUNT
    assert copy.flags & VM_ACCOUNT


@explains("growth-wraps-pgoff")
@pytest.mark.parametrize("kernel", ALL)
def test_growth_must_not_pass_the_last_page_offset(kernel: str) -> None:
    space = scene("a...", kernel)
    (vma,) = space.vmas
    vma.pgoff = WORD - 2
    assert mremap(space, 0, P, 2 * P, 0) is EINVAL
    assert shown(space, 1) == "a..."


@pytest.mark.parametrize("kernel", ALL)
def test_dontunmap_of_a_part_keeps_the_anon_vma(kernel: str) -> None:
    space = scene("AAAA", kernel)
    assert run(space, P, 2 * P, 2 * P, KEEP, 9 * P) == 9 * P
    assert shown(space, 3) == "AaaA .... .BB."
    source, copy = space.vmas
    assert source.anon_vma is copy.anon_vma is not None
    assert copy.pgoff == 1


@explains(
    "kept-locked-source-isolated",
    "isolated-from-below",
    "isolated-from-above",
    "kept-pages-stay-locked",
)
@pytest.mark.parametrize(
    ("kernel", "locked"),
    [
        ("linux-6.1", [(0, 1), (3, 4), (9, 11)]),
        ("linux-6.12", [(0, 1), (3, 4), (9, 11)]),
        ("linux-6.18", [(9, 11)]),  # the whole source loses its lock
    ],
)
def test_dontunmap_of_a_part_of_locked_memory(kernel: str, locked: list[tuple[int, int]]) -> None:
    space = scene("AAAA", kernel)
    lock(space)
    assert mremap(space, P, 2 * P, 2 * P, KEEP, 9 * P) == 9 * P
    assert [vma.range for vma in space.vmas if vma.flags & VM_LOCKED] == [
        (a * P, b * P) for a, b in locked
    ]
    # B-34: 6.18 counts the locked pages twice.
    assert [v.rule for v in check_state(space)] == (["locked-vm"] if kernel == LAST else [])


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


# --- the copied VMA ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "addr", "new_addr", "locks"),
    [
        pytest.param("AAAA .... ....", 0, 8, False, id="a new VMA: later in the rmap order"),
        pytest.param("bbbb .... .... aaaa", 12, 4, True, id="merged with what has lower offsets"),
        pytest.param("aaaa .... .... bbbb", 0, 8, False, id="merged with what has higher offsets"),
    ],
)
def test_rmap_locks_are_needed_when_the_destination_comes_first(
    picture: str, addr: int, new_addr: int, locks: bool
) -> None:
    space = scene(picture)
    vma = space.vmas.lookup(addr * P)
    assert vma is not None
    remap = Remap(space, addr * P, 4 * P, 4 * P, MOVE, new_addr * P)
    _, source, need_rmap_locks = copy_vma(remap, vma, keep=False)
    assert source is vma
    assert need_rmap_locks is locks


@explains("copy-merged")
@pytest.mark.parametrize("kernel", ALL)
def test_a_faulted_half_moved_away_and_back_merges_again(kernel: str) -> None:
    space = scene("AAAA AAAA", kernel)
    frames = [entry >> PFN_SHIFT for _, _, entry in space.tree.leaves()]
    assert run(space, 4 * P, 4 * P, 4 * P, MOVE, 64 * P) == 64 * P
    assert run(space, 64 * P, 4 * P, 4 * P, MOVE, 4 * P) == 4 * P
    assert shown(space, 2) == "AAAA AAAA"
    assert [entry >> PFN_SHIFT for _, _, entry in space.tree.leaves()] == frames


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize(
    ("picture", "after"),
    [
        ("aa.. bb..", ".... aaaa"),
        ("aa.. BB..", ".... AAaa"),
        ("AA.. bb..", ".... aaBB"),
    ],
)
def test_moved_beside_a_neighbour(picture: str, after: str, kernel: str) -> None:
    """Unfaulted memory takes the page offset of its new place and merges; faulted keeps its own."""
    space = scene(picture, kernel)
    assert run(space, 0, 2 * P, 2 * P, MOVE, 6 * P) == 6 * P
    assert shown(space, 2) == after


@pytest.mark.parametrize(
    ("kernel", "after"), [("linux-6.1", "AAbb"), ("linux-6.12", "AAbb"), ("linux-6.18", "AAaa")]
)
def test_faulted_memory_moved_back_beside_an_unfaulted_neighbour(kernel: str, after: str) -> None:
    space = scene("AAbb", kernel)
    assert run(space, 0, 2 * P, 2 * P, MOVE, 8 * P) == 8 * P
    assert run(space, 8 * P, 2 * P, 2 * P, MOVE, 0) == 0
    assert shown(space, 1) == after


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
