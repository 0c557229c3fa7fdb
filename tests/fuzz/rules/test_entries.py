"""Every rule on entries fires where a fault is planted, and is silent where there is none.

A plant replaces one function or sets one switch, as the exhibits of the museum do.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

import engine.calls.mprotect
import engine.move
import engine.move_vma
import engine.pages.rmap
import engine.pages.uffd
import engine.state.table
from engine.base.address import Range
from engine.base.entry import DIRTY, MARKER, UFFD_WP, WRITE, is_wp_marker
from engine.base.failures import PAGETABLE
from engine.base.geometry import PMD, PTE
from engine.base.kernel import kernel_named
from engine.base.points import PMD_MOVED, PUD_MOVED
from engine.base.uapi import (
    MADV_HUGEPAGE,
    MREMAP_DONTUNMAP,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_WP,
    Errno,
)
from engine.calls.fork import fork
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock
from engine.calls.mprotect import mprotect
from engine.calls.reclaim import migrate_begin, migrate_end, soft_dirty_clear, swapout
from engine.move import Move
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.pages.uffd import uffd_register, uffd_wp
from engine.stack import execve_stack
from engine.state.space import AddressSpace
from engine.state.vma import VM_UFFD_WP, UffdContext, UffdEvent
from fuzz.rules.accounts import fresh
from fuzz.rules.judge import MoveRules, check_state
from fuzz.rules.sight import Moving, Sight
from fuzz.rules.walk import whole_tables
from tests.lib.breaks import breaks, looked
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tiny
from tests.lib.entries import huge
from tests.lib.told import told

Plant = Callable[[pytest.MonkeyPatch, AddressSpace], None]


def broken(space: AddressSpace) -> list[str]:
    """What the rules on a state, and those already told of, find."""
    return sorted({found.rule for found in looked(space.violations + check_state(space))})


def after_move(space: AddressSpace, old: int, new: int, pages: int, flags: int = MOVE) -> list[str]:
    """The rules that break when `pages` pages move."""
    space.listen(MoveRules())
    request = (old * PAGE, pages * PAGE, pages * PAGE, flags, new * PAGE)
    sight = Sight(space, "mremap", request)
    result = mremap(space, *request)
    space.violations += told(sight, result, "uffd")
    return broken(space)


def switched(**switches: bool) -> Plant:
    """Another kernel from here on."""

    def plant(monkeypatch: pytest.MonkeyPatch, space: AddressSpace) -> None:
        space.kernel = replace(space.kernel, **switches)  # type: ignore[arg-type]

    return plant


def replaced(module: object, name: str, new: object) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch, space: AddressSpace) -> None:
        monkeypatch.setattr(module, name, new)

    return plant


def tracked() -> AddressSpace:
    space = scene("AAAA AAAA")
    soft_dirty_clear(space)
    return space


def tracked_huge() -> AddressSpace:
    space = huge()
    soft_dirty_clear(space)
    return space


def protected(features: int = 0) -> AddressSpace:
    space = scene("AAAA AAAA")
    assert swapout(space, 0, PAGE) is None
    assert uffd_register(space, 0, 2 * SLOT, UFFDIO_REGISTER_MODE_WP, features) is None
    assert uffd_wp(space, 0, 2 * SLOT, 1) is None
    return space


def announced_short(self: UffdContext, kind: str, where: Range, source: int = 0) -> None:
    """In place of UffdContext.prepare: the last page is left out."""
    self.changing += 1
    event = UffdEvent(kind, Range(where.start, where.end - PAGE), source)
    self.pending.append((len(self.pending), event))


def partly_clean_folio() -> AddressSpace:
    """Two pages of a large folio that agree in all but this, and two that differ in more."""
    space = large_folio()
    table = space.tree.find(4 * SLOT, PTE)
    assert table is not None
    for index, lost in ((0, DIRTY), (2, DIRTY | WRITE), (3, DIRTY)):
        space.tree.put(table, index, table.leaves[index] & ~lost)
    return space


def large_folio() -> AddressSpace:
    """Page by page; the first was written since writes are tracked."""
    space = huge("linux-6.18")
    space.split_huge_leaf(4 * SLOT)
    soft_dirty_clear(space)
    touch(space, 4 * SLOT, 4 * SLOT + PAGE)
    return space


def losing(bits: int) -> Callable[..., object]:
    """A PTE mover that loses some bits of each entry."""
    taken = engine.move._as_moved

    def lossy(*args: object) -> dict[int, int]:
        return {i: e & ~bits for i, e in taken(*args).items()}  # type: ignore[arg-type,operator]

    return lossy


def two_huge() -> AddressSpace:
    space = scene(".... .... .... .... aaaa bbbb")
    for page in (16, 20):
        assert madvise(space, page * PAGE, SLOT, MADV_HUGEPAGE) is None
    touch(space, 4 * SLOT, 5 * SLOT)
    return space


@pytest.mark.parametrize(
    ("make", "plant", "move", "rules"),
    [
        pytest.param(
            huge,
            replaced(engine.move, "_is_huge", lambda move: False),
            (16, 32, 4),
            {"table-not-leaf"},
            id="B-15 a leaf moved as a table",
        ),
        pytest.param(
            huge,
            replaced(engine.move, "_is_huge", lambda move: False),
            (16, 33, 3),
            {"table-not-leaf"},
            id="B-15 a leaf walked as a table",
        ),
        pytest.param(
            two_huge,
            replaced(engine.state.table, "carry_deposit", lambda source, target: None),
            (16, 48, 4),
            {"huge-deposit"},
            id="B-16 the deposit stays behind",
        ),
        pytest.param(
            tracked,
            replaced(engine.move, "_bits_to_set", lambda move: 0),
            (0, 33, 8),
            {"soft-dirty"},
            id="B-61 page by page",
        ),
        pytest.param(
            tracked_huge,
            replaced(engine.move, "_bits_to_set", lambda move: 0),
            (16, 32, 4),
            {"soft-dirty"},
            id="B-61 a huge page",
        ),
        pytest.param(
            protected,
            switched(uffd_wp_cleared=False, uffd_checks_both=False),
            (0, 32, 8),
            {"uffd-wp-stray"},
            id="B-07 in tables",
        ),
        pytest.param(
            protected,
            switched(uffd_wp_cleared=False, uffd_checks_both=False),
            (0, 33, 8),
            {"uffd-wp-stray"},
            id="B-07 page by page",
        ),
        pytest.param(
            protected,
            replaced(engine.move, "_must_look_at_entries", lambda move: False),
            (0, 32, 8),
            {"uffd-wp-stray"},
            id="B-07 tables move all the same",
        ),
        pytest.param(
            lambda: protected(UFFD_FEATURE_EVENT_REMAP),
            replaced(engine.move, "_as_moved", losing(UFFD_WP)),
            (0, 33, 8),
            {"entry-bits-kept"},
            id="protection lost",
        ),
        pytest.param(
            lambda: scene("AAAA AAAA"),
            replaced(engine.move, "_as_moved", losing(WRITE)),
            (0, 33, 8),
            {"entry-bits-kept"},
            id="the right to write lost",
        ),
        pytest.param(
            large_folio,
            switched(batch_keeps_write=False),
            (16, 33, 4),
            {"entry-bits-kept"},
            id="B-49 the right to write spread",
        ),
        pytest.param(
            partly_clean_folio,
            replaced(engine.move, "_batch_length", lambda *_: 1),
            (16, 33, 4),
            {"entry-bits-kept"},
            id="a batch is not dirty as a whole",
        ),
        pytest.param(
            partly_clean_folio,
            replaced(
                engine.move, "_as_batches", lambda move, hits, taken: [e | DIRTY for e in taken]
            ),
            (16, 33, 4),
            {"entry-bits-kept"},
            id="what is no batch becomes dirty",
        ),
        pytest.param(
            lambda: protected(UFFD_FEATURE_EVENT_REMAP),
            replaced(UffdContext, "complete", lambda self, but="", evicted=None: []),
            (0, 32, 8),
            {"uffd-changing"},
            id="B-54 the count is not given back",
        ),
        pytest.param(
            lambda: protected(UFFD_FEATURE_EVENT_REMAP),
            replaced(engine.pages.uffd, "moved", lambda space, new_vma, target: None),
            (0, 32, 8),
            {"uffd-changing"},
            id="B-55 a move is not announced",
        ),
        pytest.param(
            lambda: protected(UFFD_FEATURE_EVENT_REMAP),
            replaced(UffdContext, "prepare", announced_short),
            (0, 32, 8),
            {"uffd-changing"},
            id="a move is announced too short",
        ),
    ],
)
def test_a_planted_fault_is_found(
    make: Callable[[], AddressSpace],
    plant: Plant,
    move: tuple[int, int, int],
    rules: set[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request.node.add_marker(breaks(*rules))
    space = make()
    assert not after_move(space, *move)
    space = make()
    plant(monkeypatch, space)
    assert rules <= set(after_move(space, *move))


@breaks("rollback-keeps-wp")
def test_what_is_put_back_must_be_protected_as_it_was() -> None:
    """Without the remap event kernels clear the marks as they go, since the fix of B-07."""
    for features, rules in ((UFFD_FEATURE_EVENT_REMAP, []), (0, ["rollback-keeps-wp"])):
        space = protected(features)
        space.failures.arm(PAGETABLE, 3)
        assert after_move(space, 0, 33, 8) == rules
        assert not space.failures.armed


@breaks("uffd-changing")
def test_what_the_destination_loses_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """B-55: a monitor could not tell old pages from moved ones."""
    for keeps_quiet in (False, True):
        space = scene("AAAA BBBB")
        assert (
            uffd_register(space, SLOT, SLOT, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_EVENT_UNMAP)
            is None
        )
        if keeps_quiet:
            monkeypatch.setattr(UffdContext, "prepare", lambda self, what, where: None)
        assert after_move(space, 0, 4, 4) == (["uffd-changing"] if keeps_quiet else [])


@breaks("uffd-kept-elsewhere")
def test_a_copy_that_merges_takes_its_neighbour_out_of_userfaultfd() -> None:
    """As all kernels do: the context goes from the whole merged VMA."""
    space = scene("aaaa aaaa ....")
    assert uffd_register(space, 0, 2 * SLOT, UFFDIO_REGISTER_MODE_MISSING, 0) is None
    assert after_move(space, 0, 8, 4) == ["uffd-kept-elsewhere"]
    space = scene("aaaa aaaa ....")
    assert (
        uffd_register(space, 0, 2 * SLOT, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_EVENT_REMAP)
        is None
    )
    assert after_move(space, 0, 8, 4) == []


@breaks("writable-fits")
def test_nothing_is_writable_that_must_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    space = scene("AAAA")
    assert mprotect(space, 0, SLOT, 1) is None
    assert not broken(space)
    assert mprotect(space, 0, SLOT, 3) is None
    monkeypatch.setattr(engine.calls.mprotect, "protection_changed", lambda *args: None)
    assert mprotect(space, 0, SLOT, 1) is None
    assert broken(space) == ["writable-fits"]


@breaks("writable-fits")
def test_a_childs_page_is_not_writable() -> None:
    space = scene("AAAA")
    fork(space)
    assert not broken(space)
    table = space.tree.find(0, PTE)
    assert table is not None
    space.tree.put(table, 1, table.leaves[1] | WRITE)
    assert broken(space) == ["writable-fits"]


@breaks("huge-deposit")
def test_a_huge_page_without_deposit() -> None:
    space = huge()
    assert not broken(space)
    table = space.tree.find(4 * SLOT, PMD)
    assert table is not None
    table.deposited -= 1
    assert "huge-deposit" in broken(space)


@breaks("entry-bits-kept")
def test_a_marker_follows_its_page_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where userfaultfd is told of moves its marks go along, those of absent pages, too."""
    taken = engine.move._as_moved

    def marked() -> AddressSpace:
        space = scene("AAAA aaaa")
        assert (
            uffd_register(space, 0, 2 * SLOT, UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_EVENT_REMAP)
            is None
        )
        space.tree.put(space.tree.make(SLOT, PTE), 1, MARKER | UFFD_WP)
        return space

    assert after_move(marked(), 0, 33, 8) == []
    monkeypatch.setattr(
        engine.move,
        "_as_moved",
        lambda *args: {i: e for i, e in taken(*args).items() if not is_wp_marker(e)},  # type: ignore[arg-type]
    )
    assert after_move(marked(), 0, 33, 8) == ["entry-bits-kept"]


def test_only_tables_that_a_kernel_moves_move_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for unable, expected in ((False, []), (True, ["largest-bite"])):
        space = scene("AAAA", "linux-5.0")
        vma = space.vmas.lookup(0)
        assert vma is not None
        move = Move(space, vma, vma, 0, 4 * SLOT, SLOT)
        point = PUD_MOVED if unable else PMD_MOVED
        sight = Moving(space, move)
        sight.point = point
        assert [v.rule for v in whole_tables(sight)] == expected


@breaks("table-has-source")
def test_a_hole_gets_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination table that is made before the source is looked at."""
    hole_end = engine.move.hole_end

    def late(move: Move, level: int) -> int:
        engine.move.destination_table(move, PTE)
        return hole_end(move, level)

    for wasteful in (False, True):
        if wasteful:
            monkeypatch.setattr(engine.move, "hole_end", late)
        found = after_move(scene("aaaa aaAA"), 0, 33, 8)
        assert found == (["table-has-source"] if wasteful else [])


@breaks("tracking-kept")
def test_a_copy_tracks_writes_as_its_source_does(monkeypatch: pytest.MonkeyPatch) -> None:
    copy_vma = engine.move_vma.copy_vma

    def forgetful(*args: object) -> object:
        copy, *others = copy_vma(*args)  # type: ignore[arg-type]
        copy.tracked = False
        return copy, *others

    for forgets in (False, True):
        if forgets:
            monkeypatch.setattr(engine.move_vma, "copy_vma", forgetful)
        assert after_move(tracked(), 0, 33, 8) == (["tracking-kept"] if forgets else [])
        assert after_move(scene("AAAA AAAA"), 0, 33, 8) == []


def test_a_huge_page_across_a_boundary() -> None:
    space = huge()
    assert not broken(space)
    (vma,) = space.vmas
    upper = vma.clone()
    upper.start, upper.pgoff = vma.start + PAGE, vma.pgoff + 1
    vma.end = upper.start
    space.vmas.insert(upper)
    assert broken(space) == ["leaf-has-vma"]


@pytest.mark.parametrize("counter", ["huge", "counts"])
def test_what_is_counted_is_there(counter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = huge()
    if counter == "huge":
        space.tree.huge += 1
    else:
        monkeypatch.setattr(engine.state.table.TableTree, "bytes_used", lambda self: 0)
    assert broken(space) == ["table-count"]


@pytest.mark.parametrize("name", ["tiny", "i386-pae"])
def test_the_tables_there_are_at_first(name: str) -> None:
    space = AddressSpace(kernel_named("linux-6.12", name))
    assert not list(fresh(space))
    if name == "tiny":
        space.tree.make(0, PMD)
    else:
        space.tree.free(space.tree.root, 2)
    assert [violation.rule for violation in fresh(space)] == ["table-count"]


def test_vmas_are_put_into_the_reverse_map_one_after_another() -> None:
    space = scene("AAAA .... BBBB")
    assert not broken(space)
    lower, upper = space.vmas
    upper.age = lower.age
    assert broken(space) == ["anon-vma-linked"]


def test_what_failed_is_not_announced() -> None:
    space = protected(UFFD_FEATURE_EVENT_REMAP)
    sight = Sight(space, "mremap", (0, SLOT, SLOT, MOVE, 32 * PAGE))
    assert not told(sight, Errno.ENOMEM, "uffd")
    next(iter(space.uffds.values())).events = [UffdEvent("remap", Range(32 * PAGE, 36 * PAGE))]
    (found,) = told(sight, Errno.ENOMEM, "uffd")
    assert found.rule == "uffd-changing"


@pytest.mark.parametrize("what", ["remap", "unmap"])
def test_a_monitor_is_told_what_it_asked_for(what: str) -> None:
    space = protected(UFFD_FEATURE_EVENT_REMAP)
    (context,) = space.uffds.values()
    context.events = [UffdEvent(what, Range(0, PAGE))]
    assert broken(space) == (["uffd-changing"] if what == "unmap" else [])


def test_registered_is_who_says_for_what() -> None:
    space = protected()
    assert not broken(space)
    space.vmas.lookup(0).flags &= ~VM_UFFD_WP  # type: ignore[union-attr]
    assert "uffd-changing" in broken(space)


@breaks("left-locked")
def test_what_dontunmap_leaves_stays_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    for forgetful in (False, True):
        if forgetful:
            monkeypatch.setattr(engine.move_vma, "_leave_locked", lambda space, vma: None)
        space = scene("AAAA", "linux-6.18")
        assert mlock(space, 0, 4 * PAGE) is None
        request = (0, 2 * PAGE, 2 * PAGE, MOVE | MREMAP_DONTUNMAP, 32 * PAGE)
        sight = Sight(space, "mremap", request)
        found = [violation.rule for violation in told(sight, mremap(space, *request), "mremap")]
        assert found == (["left-locked"] * 2 if forgetful else [])


@breaks("left-locked")
def test_what_dontunmap_leaves_unlocked_is_not_locked() -> None:
    space = scene("AAAA", "linux-6.18")
    request = (0, 2 * PAGE, 2 * PAGE, MOVE | MREMAP_DONTUNMAP, 32 * PAGE)
    sight = Sight(space, "mremap", request)
    result = mremap(space, *request)
    assert not told(sight, result, "mremap")
    space.frames.mlocked.add(3)
    assert [violation.rule for violation in told(sight, result, "mremap")] == ["left-locked"]


@breaks("migration-begins")
def test_a_page_that_is_there_can_be_migrated() -> None:
    space = scene("AA..")
    for page, refused in ((0, ["migration-begins"]), (2, [])):
        sight = Sight(space, "migrate_begin", (page * PAGE,))
        found = told(sight, Errno.EFAULT, "rmap")
        assert [violation.rule for violation in found] == refused


def test_a_migration_entry_is_left_where_the_reverse_map_does_not_look() -> None:
    space = scene("AAAA")
    assert migrate_begin(space, 0) is None
    space.vmas.lookup(0).pgoff += 1  # type: ignore[union-attr]
    assert migrate_end(space, 0) is None
    assert [violation.rule for violation in space.violations] == ["migration-left"]


@breaks("migration-left")
def test_compaction_leaves_a_temporary_stack_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """B-20."""
    for careless in (False, True):
        space = AddressSpace(tiny())
        if careless:
            monkeypatch.setattr(engine.pages.rmap, "may_migrate", lambda vma: True)
        assert execve_stack(space, 200 * PAGE, 208 * PAGE, 5 * PAGE) is None
        assert broken(space) == (["migration-left"] if careless else [])


def test_no_rule_minds_a_duplicate_or_an_emptied_source() -> None:
    space = protected()
    assert after_move(space, 0, 32, 8, MOVE | MREMAP_DONTUNMAP) == []


@breaks("soft-dirty")
@pytest.mark.parametrize(
    ("picture", "call", "run", "operands"),
    [
        pytest.param("a... .b..", "mremap", mremap, (5, 1, 1, MOVE, 1), id="a move"),
        pytest.param("ac.. ....", "mremap", mremap, (0, 1, 1, MOVE, 6), id="a neighbour"),
        pytest.param("a... .b..", "mlock", mlock, (5, 1), id="mlock"),
    ],
)
def test_what_was_never_clean_stays_soft_dirty(
    picture: str, call: str, run: Callable[..., object], operands: tuple[int, ...]
) -> None:
    """All but `a` was never clean."""
    args = tuple(arg * PAGE if i != 3 else arg for i, arg in enumerate(operands))

    def found(*, lost: bool) -> list[str]:
        space = scene(picture, "linux-6.19")
        next(iter(space.vmas)).tracked = True
        sight = Sight(space, call, args)
        result = run(space, *args)
        for vma in space.vmas:
            vma.tracked |= lost
        return [violation.rule for violation in told(sight, result, "entries")]

    assert found(lost=False) == []
    assert found(lost=True) == ["soft-dirty"]


@pytest.mark.parametrize("name", ["linux-6.12", "linux-6.18", "linux-6.19"])
def test_a_merge_of_clean_and_never_clean_memory(name: str) -> None:
    space = scene("a... b...", name)
    next(iter(space.vmas)).tracked = True
    sight = Sight(space, "mremap", (4 * PAGE, PAGE, PAGE, MOVE, PAGE))
    assert mremap(space, 4 * PAGE, PAGE, PAGE, MOVE, PAGE) == PAGE
    (merged,) = space.vmas
    found = [violation.rule for violation in told(sight, PAGE, "entries")]
    assert (merged.tracked, found) == (
        (False, []) if space.kernel.merge_keeps_soft_dirty else (True, ["soft-dirty"])
    )
