"""Rules on what a process shares with others: TLBs, the reverse map, locks, secondary MMUs.

Each fault replaces one small function of the engine, or takes one fix away from a kernel; the same
program without the fault must be sound.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import engine.move
import engine.move_hugetlb
import engine.move_vma
import engine.mremap
import engine.vmas.merge
from engine.base.entry import WRITE
from engine.base.failures import MAPS, PAGETABLE, VMA, Failures
from engine.base.geometry import PTE
from engine.base.kernel import KERNELS, Kernel, kernel_named
from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_GUARD_INSTALL,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
)
from engine.calls.fork import fork
from engine.calls.madvise import madvise
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import migrate_begin, soft_dirty_clear, swapout
from engine.move import Move, move_page_tables
from engine.mremap import mremap
from engine.pages.access import touch_on
from engine.pages.fault import touch
from engine.stack import execve_stack
from engine.state.space import AddressSpace
from engine.state.table import TableTree
from engine.state.tlb import Tlb
from engine.state.vma import VM_GROWSDOWN, VM_HUGEPAGE, Vma, VmaTree
from fuzz.rules.failures import vmas_asked_for
from fuzz.rules.judge import MoveRules, check_state
from fuzz.rules.sight import Area, Sight
from fuzz.rules.tlb import check_tlb
from tests.lib.breaks import breaks, looked
from tests.lib.constants import KEEP, MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tiny
from tests.lib.told import told

MAP = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


def judged(space: AddressSpace) -> set[str]:
    """The rules that are found broken by now."""
    found = [*space.violations, *check_state(space), *check_tlb(space)]
    return {violation.rule for violation in looked(found)}


def remap(space: AddressSpace, old: int, pages: int, new: int, flags: int = MOVE) -> None:
    """Move whole pages, with the rules around the call."""
    request = (old * PAGE, pages * PAGE, pages * PAGE, flags, new * PAGE)
    sight = Sight(space, "mremap", request)
    result = mremap(space, *request)
    assert result == new * PAGE
    space.violations += told(sight, result, "mremap", "accounts")


def watched(space: AddressSpace, *pages: int) -> AddressSpace:
    """The space with the rules around moves, its pages in the TLB of CPU 1."""
    space.listen(MoveRules())
    for page in pages:
        touch_on(space, 1, page * PAGE)
    return space


def nothing(*_: object) -> None:
    """In place of a function that does something."""


# --- TLBs ----------------------------------------------------------------------------------------


def ptes() -> AddressSpace:
    space = watched(scene("AAAA"), 1)
    remap(space, 0, 3, 17)
    return space


def table() -> AddressSpace:
    space = watched(scene("AAAA"), 1)
    remap(space, 0, 4, 16)
    return space


def huge() -> AddressSpace:
    space = scene("aaaa")
    next(iter(space.vmas)).flags |= VM_HUGEPAGE
    touch(space, 0, PAGE)
    watched(space, 2)
    remap(space, 0, 4, 16)
    assert space.tree.huge
    return space


def swapped() -> AddressSpace:
    """Reclaim has put its flush off; the page is swapped out when it is moved."""
    space = watched(scene("aAaa"), 1)
    swapout(space, PAGE, PAGE)
    remap(space, 0, 3, 17)
    return space


@breaks("tlb-unlock")
@pytest.mark.parametrize(
    ("program", "flush"),
    [
        (ptes, "_flush_ptes"),
        (table, "_flush_table"),
        (huge, "_flush_huge"),
        (swapped, "_flush_pending"),
    ],
)
def test_a_mover_flushes_before_it_drops_its_locks(
    program: Callable[[], AddressSpace], flush: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = program()
    assert not judged(space)
    assert not space.tlb.cached
    monkeypatch.setattr(engine.move, flush, nothing)
    assert "tlb-unlock" in judged(program())


def test_a_flush_after_the_locks_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2018-18281: the end of the move is soon enough for the call, not for the locks."""
    whole = engine.move.move_page_tables

    def late(move: Move) -> int:
        done = whole(move)
        move.space.flush_tlb(move.requested_old, move.old_end)
        return done

    monkeypatch.setattr(engine.move, "_flush_ptes", nothing)
    monkeypatch.setattr(engine.move_vma, "move_page_tables", late)
    assert judged(ptes()) == {"tlb-unlock"}


CHANGES: dict[str, Callable[[AddressSpace], object]] = {
    "munmap": lambda space: munmap(space, 0, SLOT),
    "read-only": lambda space: mprotect(space, 0, SLOT, 1),
    "inaccessible": lambda space: mprotect(space, 0, SLOT, 0),
    "dropped": lambda space: madvise(space, 0, SLOT, MADV_DONTNEED),
    "guarded": lambda space: madvise(space, 0, SLOT, MADV_GUARD_INSTALL),
    "collapsed": lambda space: madvise(space, 0, SLOT, MADV_COLLAPSE),
    "shared by fork": fork,
    "tracked": soft_dirty_clear,
    "migrating": lambda space: migrate_begin(space, PAGE),
}


@breaks("tlb-after")
@pytest.mark.parametrize("change", CHANGES)
def test_whoever_changes_entries_flushes(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed() -> AddressSpace:
        space = watched(scene("AAAA", "linux-6.18"), 1)
        CHANGES[change](space)
        return space

    assert not judged(changed())
    monkeypatch.setattr(Tlb, "flush", nothing)
    monkeypatch.setattr(Tlb, "flush_frames", nothing)
    assert judged(changed()) == {"tlb-after"}


@breaks("tlb-after")
def test_a_copied_page_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied() -> AddressSpace:
        space = scene("AAAA")
        fork(space)
        watched(space, 1)
        touch(space, PAGE, 2 * PAGE)
        return space

    assert not judged(copied())
    monkeypatch.setattr(Tlb, "flush", nothing)
    assert judged(copied()) == {"tlb-after"}


@breaks("tlb-after")
def test_a_flush_that_is_put_off_excuses_pages_that_are_gone_only() -> None:
    space = watched(scene("AAAA"), 0, 1)
    swapout(space, PAGE, PAGE)
    assert not judged(space)
    table = space.tree.find(0, PTE)
    assert table is not None
    space.tree.put(table, 0, table.leaves[0] & ~WRITE)
    assert judged(space) == {"tlb-after"}


def test_nothing_is_paid_where_no_cpu_keeps_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tlb, "flush", None)
    space = scene("AAAA BB..")
    remap(space, 0, 3, 17)
    remap(space, 17, 3, 24)
    munmap(space, 0, 8 * PAGE)


# --- the reverse map, its locks, secondary MMUs --------------------------------------------------


def without(kernel: str, switch: str) -> Kernel:
    """A kernel that lacks one behaviour."""
    return replace(tiny(kernel), **{switch: False})  # type: ignore[arg-type]


@breaks("table-move-locked")
def test_a_table_moves_under_the_rmap_locks() -> None:
    """CVE-2022-41222; what no reverse map leads to needs no lock."""
    for switched, rules in ((tiny("linux-6.12"), set()), (BEFORE_5_14, {"table-move-locked"})):
        space = watched(scene("AAAA aaaa", switched))
        remap(space, 0, 4, 16)
        assert judged(space) == rules
    untouched = watched(scene("aaaa", BEFORE_5_14))
    remap(untouched, 0, 4, 16)
    assert not judged(untouched)


@breaks("table-move-locked")
def test_hugetlb_moves_under_the_lock_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved() -> AddressSpace:
        space = watched(AddressSpace(tiny("linux-6.18")))
        assert mmap(space, 0, SLOT, 3, MAP | MAP_HUGETLB) == 0
        assert not touch(space, 0, PAGE)
        remap(space, 0, SLOT // PAGE, 16)
        return space

    assert not judged(moved())
    monkeypatch.setattr(engine.move_hugetlb, "I_MMAP", 0)
    assert judged(moved()) == {"table-move-locked"}


BEFORE_5_14 = without("linux-6.12", "table_moves_lock_rmap")


def there_and_back() -> AddressSpace:
    """The upper half goes away and merges again with the lower one, which a walk visits first."""
    space = watched(scene("AAAA"))
    remap(space, 2, 2, 10)
    remap(space, 10, 2, 2)
    assert len(space.vmas) == 1
    return space


@breaks("rmap-order")
def test_without_locks_the_destination_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not judged(there_and_back())
    copy = engine.move_vma.copy_vma
    monkeypatch.setattr(engine.move_vma, "copy_vma", lambda *a: (*copy(*a)[:2], False))
    assert judged(there_and_back()) == {"rmap-order"}


def test_a_mover_takes_the_locks_that_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said of each bite: what the caller has asked for is not always what the mover does."""
    monkeypatch.setattr(engine.move, "_takes_rmap_locks", lambda *_: False)
    assert judged(there_and_back()) == {"rmap-order"}


@breaks("rmap-locks-spared")
def test_locks_that_are_not_needed_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved() -> AddressSpace:
        space = watched(scene("AAAA"))
        remap(space, 0, 3, 9)
        return space

    def exec_moved() -> AddressSpace:
        space = watched(AddressSpace(tiny("linux-6.12")))
        assert execve_stack(space, 64 * PAGE, 70 * PAGE, 9 * PAGE) is None
        return space

    assert not judged(moved())
    assert not judged(exec_moved())
    monkeypatch.setattr(engine.move, "_takes_rmap_locks", lambda *_: True)
    assert judged(moved()) == {"rmap-locks-spared"}
    assert judged(exec_moved()) == {"rmap-locks-spared"}


@breaks("vma-alive")
def test_a_copy_of_the_whole_comes_after_its_source() -> None:
    """At the same page offset the VMA that was put into the tree last is visited last."""
    space = watched(scene("AAAA"))
    remap(space, 0, 4, 9, KEEP)
    assert not judged(space)
    source, copy = space.vmas
    back = Move(space, copy, Vma(0, SLOT, source.flags, 0), 9 * PAGE, 0, SLOT)
    back.new_vma.link_to(copy.link)
    move_page_tables(back)
    assert judged(space) >= {"rmap-order", "vma-alive"}


@breaks("notifier-range")
def test_the_notified_range_is_the_realigned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def realigned() -> AddressSpace:
        space = watched(scene(".AAA AAAA"))
        remap(space, 1, 7, 17)
        return space

    assert not judged(realigned())
    requested = engine.move.Range
    monkeypatch.setattr(
        engine.move, "_notified", lambda move: requested(move.requested_old, move.old_end)
    )
    assert judged(realigned()) == {"notifier-range"}


def test_what_is_announced_to_secondary_mmus_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    space = scene("AAAA")
    leave = engine.move._result

    def late(move: Move) -> int:
        move.notified = move.old_vma.range
        return leave(move)

    monkeypatch.setattr(engine.move, "_result", late)
    remap(watched(space), 0, 4, 16)
    assert judged(space) == {"notifier-range"}


# --- VMAs ----------------------------------------------------------------------------------------


def brought_along(kernel: Kernel) -> AddressSpace:
    """A faulted range moves next to an unfaulted mapping that it fits."""
    space = watched(scene("AAAA", kernel))
    remap(space, 0, 4, 16)
    assert mmap(space, 4 * PAGE, 4 * PAGE, 3, MAP) == 4 * PAGE
    remap(space, 16, 4, 0)
    assert len(space.vmas) == 1
    return space


@breaks("anon-vma-linked")
def test_a_merge_brings_the_anon_vma_along() -> None:
    """CVE-2026-23077, in linux-6.16 to 6.18.7."""
    space = brought_along(tiny("linux-6.18"))
    (vma,) = space.vmas
    assert vma.anon_vma is vma.link is not None
    assert not judged(space)
    broken = brought_along(without("linux-6.18", "merge_links_source"))
    assert "anon-vma-linked" in judged(broken)


@breaks("anon-vma-linked")
def test_dontunmap_unlinks_what_it_empties() -> None:
    """B-31; a part of a VMA stays linked, for the rest has pages."""
    for kernel, rules in (
        (tiny("linux-6.12"), set()),
        (without("linux-6.12", "dontunmap_unlinks_anon_vma"), {"anon-vma-linked"}),
    ):
        space = watched(scene("AAAA", kernel))
        remap(space, 0, 4, 16, KEEP)
        assert judged(space) == rules
        part = watched(scene("AAAA", kernel))
        remap(part, 1, 2, 17, KEEP)
        assert not judged(part)


def test_a_chain_without_a_link_is_told() -> None:
    space = scene("AAAA")
    (vma,) = space.vmas
    vma.link = None
    assert judged(space) == {"anon-vma-linked"}


def test_a_page_of_another_anon_vma_is_told() -> None:
    space = scene("AAAA BBBB")
    one, other = space.vmas
    one.link_to(other.anon_vma)
    assert judged(space) == {"anon-vma-linked"}


@breaks("merge-agrees")
def test_what_merges_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def beside() -> AddressSpace:
        space = scene("aaaa")
        assert mmap(space, 4 * PAGE, 4 * PAGE, 1, MAP) == 4 * PAGE
        return space

    assert not judged(beside())
    monkeypatch.setattr(engine.vmas.merge, "_agrees", lambda *_: True)
    assert "merge-agrees" in judged(beside())


@breaks("pgoff-wrap")
def test_a_page_offset_does_not_wrap() -> None:
    space = scene("aaaa")
    mmap(space, 4 * PAGE, 4 * PAGE, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
    shared = list(space.vmas)[1]
    shared.pgoff = (1 << 64) - 5
    assert not judged(space)
    shared.pgoff += 1
    assert judged(space) == {"pgoff-wrap"}


@breaks("dontunmap-two-vmas")
def test_dontunmap_keeps_two_vmas() -> None:
    """B-35: until 7.3 an unfaulted copy next to its source became one with it."""
    for kernel, rules in (("linux-6.12", set()), ("linux-6.18", {"dontunmap-two-vmas"})):
        space = scene("aaaa", kernel)
        remap(space, 0, 4, 4, KEEP)
        assert judged(space) == rules


@breaks("high-water")
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_move_does_not_raise_the_peak(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved() -> AddressSpace:
        space = scene("AAAA BBBB", kernel)
        remap(space, 0, 4, 16)
        return space

    assert not judged(moved())
    monkeypatch.setattr(engine.mremap, "_restore_high_water", nothing)
    assert judged(moved()) == {"high-water"}


# --- tables that are not needed any more ---------------------------------------------------------


@breaks("emptied-table-freed")
def test_dropping_a_whole_slot_drops_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for frees in (True, False):
        if not frees:
            monkeypatch.setattr(TableTree, "free", nothing)
        space = scene("AAAA AAaa", "linux-6.18")
        operands = (0, 2 * SLOT - PAGE, MADV_DONTNEED)
        sight = Sight(space, "madvise", operands)
        space.violations += told(sight, madvise(space, *operands))
        assert judged(space) == (set() if frees else {"emptied-table-freed"})


# --- what may run out ----------------------------------------------------------------------------


@breaks("allocation-asked")
@pytest.mark.parametrize(
    ("kind", "where", "name"),
    [
        (VMA, VmaTree, "claim"),
        (MAPS, VmaTree, "split_counted"),
        (PAGETABLE, TableTree, "new_table"),
    ],
)
def test_nothing_is_had_without_asking(
    kind: str, where: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(where, name)

    def without_asking(self: VmaTree | TableTree, *args: Any, **kwargs: Any) -> object:
        failures, self.failures = self.failures, Failures()
        made = original(self, *args, **kwargs)
        self.failures = failures
        return made

    for asking in (True, False):
        if not asking:
            monkeypatch.setattr(where, name, without_asking)
        space = watched(scene("AAAA"))
        space.failures.arm(kind, 9)
        sight = Sight(space, "mprotect", (PAGE, PAGE, 1))
        if kind is PAGETABLE:
            remap(space, 0, 3, 17)
        else:
            assert mprotect(space, PAGE, PAGE, 1) is None
        space.violations += vmas_asked_for(sight)
        assert judged(space) == (set() if asking else {"allocation-asked"})


# --- the place that the kernel chooses -----------------------------------------------------------


def test_a_chosen_place_is_free_and_clear_of_guard_gaps() -> None:
    space = AddressSpace(kernel_named("linux-6.12"))
    start = space.arena.end - PAGE
    stack = Area(start, space.arena.end, VM_GROWSDOWN, 0, None, None, None)
    sight = Sight(space, "mremap", (0, PAGE, PAGE, 0, 0))
    sight.before.areas = [stack]
    assert not told(sight, start - 257 * PAGE, "places")
    for wrong in (start - 256 * PAGE, start - PAGE, start):
        (found,) = told(sight, wrong, "places")
        assert found.rule == "place-chosen"
    other = stack._replace(start=start - 9 * PAGE, end=start - 8 * PAGE, flags=0)
    sight.before.areas = [other, stack]
    assert not told(sight, start - 10 * PAGE, "places")
    assert told(sight, start - 2 * PAGE, "places")
