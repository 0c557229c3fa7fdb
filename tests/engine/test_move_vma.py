"""Moving a VMA as pictures: the copy, what it merges with, and a source that stays.

One character a page (see tests/lib/drawn.py).  Numbers are pages unless they have a P.
"""

from dataclasses import replace

import pytest

from engine.base.entry import PFN_SHIFT
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
    Errno,
)
from engine.calls.mmap import mmap
from engine.move_vma import copy_vma
from engine.mremap import mremap
from engine.remap import Remap
from engine.state.space import AddressSpace
from engine.state.vma import VM_ACCOUNT, VM_LOCKED
from fuzz.rules.judge import check_state
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import scene, shown, tags, tiny
from tests.lib.explains import explains
from tests.lib.remapping import ALL, LAST, lock, run, shared

EINVAL = Errno.EINVAL
HERE = "AAAA .... .... bbbb"


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
