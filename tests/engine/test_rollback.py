"""A move that runs out of page-table pages puts everything back: I-11 and I-12, on every kernel.

Every move is tried with its n-th table allocation failing, for every n it makes, once with that
allocation alone refused and once with all from there on.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from engine.base.failures import PAGETABLE
from engine.base.kernel import KERNELS, Kernel, kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.calls.mmap import mmap
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from fuzz.rules.judge import MoveRules, check_state
from fuzz.rules.sight import Sight, mapped_of
from tests.lib.constants import PAGE
from tests.lib.explains import explains
from tests.lib.told import told

FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED

# (geometry, source start, length, touched (start, length) parts, target start), bytes from the
# arena's start; each crosses at least one boundary of the level it is about.
TINY_SLOT, TINY_PUD = 4 * PAGE, 16 * PAGE
MOVES = {
    "one page": ("tiny", 0x21000, PAGE, [(0, PAGE)], 0x52000),
    "unaligned, three slots": ("tiny", 0x21000, 9 * PAGE, [(0, 9 * PAGE)], 0x52000),
    "aligned slots": ("tiny", 0x20000, 3 * TINY_SLOT, [(0, 3 * TINY_SLOT)], 0x54000),
    "aligned slots over a PUD boundary": (
        "tiny",
        0x28000,
        4 * TINY_SLOT,
        [(0, 4 * TINY_SLOT)],
        0x5C000,
    ),
    "realigned": ("tiny", 0x21000, 11 * PAGE, [(0, 11 * PAGE)], 0x51000),
    "realigned, sparse": ("tiny", 0x23000, 9 * PAGE, [(0, PAGE), (8 * PAGE, PAGE)], 0x87000),
    "whole PUD entries": ("tiny", 0x40000, 2 * TINY_PUD, [(0, 2 * TINY_PUD)], 0x90000),
    "PUD entries, ragged ends": ("tiny", 0x3C000, 2 * TINY_PUD, [(0, 2 * TINY_PUD)], 0x8C000),
    "across the top level": ("tiny", 0x3F000, 2 * PAGE, [(0, 2 * PAGE)], 0x7F000),
    "realigned to PUD entries": (
        "tiny",
        0x41000,
        15 * PAGE + TINY_PUD,
        [(0, 15 * PAGE + TINY_PUD)],
        0x91000,
    ),
    "x86-64, realigned": (
        "x86-64",
        0x101000,
        0x800000,
        [(0, 0x3000), (0x7FE000, 0x2000)],
        0x40101000,
    ),
    "x86-64, unaligned over 1 GiB": ("x86-64", 0x3FFFF000, 0x4000, [(0, 0x4000)], 0x7FFFE000),
    "PAE, 1 GiB": ("i386-pae", 0x40000000, 0x40000000, [(0, PAGE), (0x3FFFF000, PAGE)], 0x80000000),
    "i386": ("i386", 0x10001000, 0x800000, [(0, 0x3000), (0x7FE000, 0x2000)], 0x20001000),
}


def prepare(
    kernel: Kernel, name: str, refuse: Callable[[int], bool] | None
) -> tuple[AddressSpace, int, int, int]:
    """The space before the move, with the allocator set to fail during it."""
    _, start, length, parts, target = MOVES[name]
    space = AddressSpace(kernel, [MoveRules()])
    base = space.arena.start
    assert mmap(space, base + start, length, 3, FLAGS) == base + start
    for offset, part in parts:
        assert not touch(space, base + start + offset, base + start + offset + part)
    if refuse is not None:
        made = space.tree.allocations
        space.tree.refuse = lambda number: refuse(number - made)
    return space, base + start, length, base + target


def allocations(kernel: Kernel, name: str, flags: int) -> int:
    """How many tables the move asks for when none is refused."""
    space, old, length, new = prepare(kernel, name, None)
    before = space.tree.allocations
    assert mremap(space, old, length, length, flags, new) == new
    return space.tree.allocations - before


def refusals(count: int) -> Iterator[tuple[str, Callable[[int], bool]]]:
    """Each way an allocator can fail: the n-th only, or from the n-th on."""
    for n in range(count):
        yield f"only {n}", lambda number, n=n: number == n
        yield f"from {n}", lambda number, n=n: number >= n


@explains("rollback-uncharges")
@pytest.mark.parametrize(
    "flags",
    [MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP],
    ids=["move", "dontunmap"],
)
@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("kernel_name", KERNELS)
def test_every_failing_allocation_is_rolled_back(kernel_name: str, name: str, flags: int) -> None:
    kernel = kernel_named(kernel_name, MOVES[name][0])
    if flags & MREMAP_DONTUNMAP and not kernel.dontunmap:
        space, old, length, new = prepare(kernel, name, None)
        assert mremap(space, old, length, length, flags, new) is Errno.EINVAL
        return
    count = allocations(kernel, name, flags)
    for how, refuse in refusals(count):
        space, old, length, new = prepare(kernel, name, refuse)
        leaves, mapped = space.tree.frozen(), mapped_of(space.vmas, space.geometry)
        sight = Sight(space, "mremap", (old, length, length, flags, new))
        assert mremap(space, old, length, length, flags, new) is Errno.ENOMEM, how
        space.tree.refuse = None
        assert space.tree.frozen() == leaves, how
        assert mapped_of(space.vmas, space.geometry) == mapped, how
        found = [
            *space.violations,
            *check_state(space),
            *told(sight, Errno.ENOMEM, "mremap", "accounts"),
        ]
        assert not [v for v in found if not expected(kernel, v.rule)], how


def expected(kernel: Kernel, rule: str) -> bool:
    """Violations that are the kernel's own, not the rollback's: B-05, and B-63 on PAE."""
    if rule == "table-move-locked":
        return not kernel.table_moves_lock_rmap
    return rule in ("dest-entry-none", "rollback-dest-none") and kernel.geometry.prealloc_pmd_tables


def test_the_set_reaches_every_level_and_both_alignments() -> None:
    """The moves above do fail at PTE, PMD and PUD tables, realigned and not."""
    kernel = kernel_named("linux-6.12", "tiny")
    counts = {
        name: allocations(kernel, name, MREMAP_MAYMOVE | MREMAP_FIXED)
        for name in MOVES
        if MOVES[name][0] == "tiny"
    }
    assert counts["aligned slots"] == 2  # a PUD table and a PMD table, no PTE table
    assert counts["unaligned, three slots"] == 5
    assert counts["realigned"] < allocations(
        kernel_named("linux-6.1", "tiny"), "realigned", MREMAP_MAYMOVE | MREMAP_FIXED
    )
    assert all(counts.values())


@explains("table-insisted-on", "rollback-short")
@pytest.mark.parametrize("nofail", [False, True])
def test_a_way_back_that_may_not_fail_goes_on_asking(nofail: bool) -> None:
    """The page before the first one that is there has no table; that of the last page fails."""
    space = AddressSpace(replace(kernel_named("linux-6.12"), rollback_nofail=nofail), [MoveRules()])
    base, slot = space.arena.start, space.geometry.slot_bytes
    old, length = base + 2 * slot - PAGE, slot + 2 * PAGE
    assert mmap(space, old, length, 3, FLAGS) == old
    assert not touch(space, old + PAGE, old + 2 * PAGE)
    assert not touch(space, old + length - PAGE, old + length)
    before = space.contents()
    for nth in (2, 3, 4):
        space.failures.arm(PAGETABLE, nth)
    assert mremap(space, old, length, length, 3, base + 64 * slot) is Errno.ENOMEM
    assert (space.contents() == before) is nofail
    assert [v.rule for v in space.violations] == ([] if nofail else ["rollback-complete"])
