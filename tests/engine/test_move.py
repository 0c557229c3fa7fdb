"""Page-table moves as pictures: which mover takes which bite, and what is left behind.

One character a page (see tests/lib/drawn.py); a slot is 4 pages, a PUD entry 16.  The
destination VMA is drawn, too: these tests are below mremap, which would make it.
"""

from dataclasses import replace
from itertools import product

import pytest

from engine.base.entry import ANON, PRESENT, SOFT_DIRTY, leaf
from engine.base.geometry import PMD, PTE
from engine.base.kernel import Kernel, kernel_named
from engine.base.points import (
    ALLOC_FAILED,
    PMD_MOVED,
    PMD_OCCUPIED,
    PTES_MOVED,
    PUD_MOVED,
    PUD_OCCUPIED,
    REALIGNED,
    SKIPPED,
    Point,
)
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Errno,
)
from engine.calls.mmap import mmap
from engine.move import Move, extent_bytes, move_page_tables, move_ptes
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from engine.state.vma import Vma
from tests.lib.drawn import FLAGS, PAGE, SLOT, scene, shown, strip_tables, tags, tiny
from tests.lib.explains import explains

STEPS = {
    PTES_MOVED: "PTE",
    PMD_MOVED: "PMD",
    PUD_MOVED: "PUD",
    SKIPPED: "skip",
    PMD_OCCUPIED: "PMD!",
    PUD_OCCUPIED: "PUD!",
    ALLOC_FAILED: "no memory",
    REALIGNED: "realigned",
}


class Trace(list[str]):
    """What a move did: "PMD 4" is a PMD entry with 4 pages, "skip 16" a hole."""

    hears = frozenset(STEPS)

    def __call__(self, space: AddressSpace, point: Point) -> None:
        step, pages = STEPS[point.name], point.where.length // space.geometry.page_bytes
        self.append(f"{step} {pages}" if pages else step)


def trace(
    space: AddressSpace, old: int, new: int, pages: int, *, for_stack: bool = False
) -> list[str]:
    """Move `pages` pages from page `old` to page `new` of the VMAs that are there."""
    steps = Trace()
    space.listen(steps)
    source, target = space.vmas.lookup(old * PAGE), space.vmas.lookup(new * PAGE)
    assert source is not None
    assert target is not None
    move = Move(space, source, target, old * PAGE, new * PAGE, pages * PAGE, for_stack=for_stack)
    move_page_tables(move)
    return steps


# --- extents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry_pages", [4, 16])
def test_an_extent_ends_at_the_nearest_boundary_or_the_end(entry_pages: int) -> None:
    """Against the definition: a page at a time until one cursor is at a boundary."""
    space = AddressSpace(tiny())
    vma = Vma(0, PAGE, 0, 0)
    for old, new, pages in product(range(17), range(17), range(1, 34)):
        move = Move(space, vma, vma, old * PAGE, new * PAGE, pages * PAGE)
        steps = 1
        while steps < pages and (old + steps) % entry_pages and (new + steps) % entry_pages:
            steps += 1
        assert extent_bytes(move, entry_pages * PAGE) == steps * PAGE, (old, new, pages)


@pytest.mark.parametrize("word", [32, 64])
def test_the_distance_to_the_end_of_the_address_space_does_not_wrap(word: int) -> None:
    """The last boundary is 2^word, which a machine word stores as 0 (B-10)."""
    space = AddressSpace(tiny())
    vma = Vma(0, PAGE, 0, 0)
    top = 1 << word
    assert extent_bytes(Move(space, vma, vma, top - 3 * PAGE, 0, 3 * PAGE), SLOT) == 3 * PAGE
    assert extent_bytes(Move(space, vma, vma, 0, top - PAGE, SLOT), SLOT) == PAGE
    assert extent_bytes(Move(space, vma, vma, top - SLOT, 0, SLOT), SLOT) == SLOT


# --- movers --------------------------------------------------------------------------------------


@explains("table-moved")
def test_a_whole_slot_moves_as_a_table() -> None:
    space = scene("AAAA .... bbbb")
    assert trace(space, 0, 8, 4) == ["PMD 4"]
    assert shown(space, 3) == "aaaa .... BBBB"
    assert strip_tables(space, 0, 3) == "..T"
    assert tags(space) == {8: 1, 9: 2, 10: 3, 11: 4}


def test_unaligned_slots_move_page_by_page() -> None:
    space = scene("AAAA AAAA .... .bbb bbbb b...")
    assert trace(space, 0, 13, 8) == ["PTE 3", "PTE 1", "PTE 3", "PTE 1"]
    assert shown(space, 6) == "aaaa aaaa .... .BBB BBBB B..."
    assert strip_tables(space, 0, 6) == "oo.TTT"
    assert tags(space) == {13 + i: 1 + i for i in range(8)}


@explains("pte-mover")
def test_mutually_aligned_ends_move_page_by_page_the_middle_as_tables() -> None:
    space = scene("..AA AAAA AAAA A... ..bb bbbb bbbb b...", "linux-6.1")
    assert trace(space, 2, 18, 11) == ["PTE 2", "PMD 4", "PMD 4", "PTE 1"]
    assert shown(space, 8) == "..aa aaaa aaaa a... ..BB BBBB BBBB B..."
    assert strip_tables(space, 0, 8) == "o..oTTTT"


@explains("realigned")
def test_the_same_with_realignment_leaves_no_emptied_table_at_the_start() -> None:
    space = scene("..AA AAAA AAAA A... ..bb bbbb bbbb b...", "linux-6.12")
    assert trace(space, 2, 18, 11) == ["realigned", "PMD 4", "PMD 4", "PMD 4", "PTE 1"]
    assert shown(space, 8) == "..aa aaaa aaaa a... ..BB BBBB BBBB B..."
    assert strip_tables(space, 0, 8) == "...oTTTT"


SPAN = "AAAA AAAA AAAA AAAA"  # one PUD entry
TARGET = SPAN.replace("A", "b")


@explains("pud-moved")
@pytest.mark.parametrize(
    ("kernel", "steps", "left"),
    [
        (tiny("linux-6.12"), ["PUD 16"], "...."),
        (tiny("linux-5.0"), ["PMD 4"] * 4, "...."),
        (replace(tiny("linux-6.12"), move_pmd=False), ["PUD 16"], "...."),
        (replace(tiny("linux-6.12"), move_pmd=False, move_pud=False), ["PTE 4"] * 4, "oooo"),
    ],
    ids=["PUD", "no PUD mover in 5.0", "no PMD mover", "no table mover"],
)
def test_a_whole_pud_entry_moves_as_the_largest_table_the_kernel_moves(
    kernel: Kernel, steps: list[str], left: str
) -> None:
    space = scene(f"{SPAN} {TARGET}", kernel)
    pmd_table = space.tree.find(0, PMD)
    assert trace(space, 0, 16, 16) == steps
    assert shown(space, 8) == f"{SPAN.lower()} {TARGET.upper()}"
    assert strip_tables(space, 0, 8) == f"{left}TTTT"
    assert (space.tree.find(16 * PAGE, PMD) is pmd_table) is (steps == ["PUD 16"])
    assert tags(space) == {16 + i: 1 + i for i in range(16)}


def test_slots_around_a_whole_pud_entry_move_as_pte_tables() -> None:
    part = ".... .... .... AAAA"
    space = scene(f"{part} {SPAN} AAAA {part[5:].replace('A', 'b')} {TARGET} bbbb")
    assert trace(space, 12, 44, 24) == ["PMD 4", "PUD 16", "PMD 4"]
    assert tags(space) == {44 + i: 1 + i for i in range(24)}


def test_two_levels_have_no_pud_mover() -> None:
    """On i386 a PMD entry is the root's entry: moved once, as such."""
    space = AddressSpace(kernel_named("linux-6.12", "i386"))
    slot = space.geometry.slot_bytes
    for start in (0x10000000, 0x20000000):
        mmap(space, start, slot, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    touch(space, 0x10000000, 0x10001000)
    source, target = list(space.vmas)
    steps = Trace()
    space.listen(steps)
    assert move_page_tables(Move(space, source, target, 0x10000000, 0x20000000, slot)) == slot
    assert steps == ["PMD 1024"]


def test_overlapping_downward_moves_of_whole_slots_find_each_place_just_emptied() -> None:
    """Example (a) of the thread: everything aligned, one slot down."""
    space = scene("aaaa AAAA AAAA AAAA")
    assert trace(space, 4, 0, 12, for_stack=True) == ["PMD 4"] * 3
    assert shown(space, 4) == "AAAA AAAA AAAA aaaa"
    assert strip_tables(space, 0, 4) == "TTT."
    assert not space.violations


def test_overlapping_downward_moves_over_partial_slots_meet_the_emptied_table() -> None:
    """Example (c): the head's table is emptied but stays, and the next slot is due there."""
    space = scene("aaaa aaaA AAAA AAAA", replace(tiny("linux-6.12"), realign_stack=False))
    assert trace(space, 7, 3, 9, for_stack=True) == ["PTE 1", "PMD! 4", "PTE 4", "PMD! 4", "PTE 4"]
    assert [v.rule for v in space.violations] == ["dest-entry-none"] * 2
    assert [v.where for v in space.violations] == [(SLOT, 2 * SLOT), (2 * SLOT, 3 * SLOT)]
    # Everything arrives in spite of it.
    assert shown(space, 4) == "aaaA AAAA AAAA aaaa"
    assert tags(space) == {3 + i: 1 + i for i in range(9)}


# --- holes ---------------------------------------------------------------------------------------


@explains("pmd-hole")
def test_a_slot_without_a_table_gets_none_at_the_destination() -> None:
    space = scene("AAAA aaaa aaaa AAAA bbbb bbbb bbbb bbbb", "linux-5.0")
    assert trace(space, 0, 16, 16) == ["PMD 4", "skip 8", "PMD 4"]
    assert shown(space, 8) == "aaaa aaaa aaaa aaaa BBBB bbbb bbbb BBBB"
    assert strip_tables(space, 0, 8) == "....T..T"


@explains("table-allocated")
def test_a_slot_with_an_emptied_table_gets_one_at_the_destination() -> None:
    space = scene("aaaa .... .bbb b...")
    space.tree.make(0, PTE)
    assert trace(space, 0, 9, 4) == ["PTE 3", "PTE 1"]
    assert strip_tables(space, 0, 4) == "o.oo"
    assert shown(space, 4) == "aaaa .... .bbb b..."


def test_pages_missing_in_a_table_are_missing_at_the_destination() -> None:
    space = scene("AaaA aAaa .... .bbb bbbb b...")
    trace(space, 0, 13, 8)
    assert shown(space, 6) == "aaaa aaaa .... .Bbb BbBb b..."
    assert tags(space) == {13: 1, 16: 2, 18: 3}


@explains("pud-hole")
@pytest.mark.parametrize("new", [128, 132, 129, 143])
def test_a_hole_over_pud_entries_gets_no_table_at_the_destination(new: int) -> None:
    space = scene("A".ljust(61, "a") + "AAA")
    space.vmas.insert(Vma(128 * PAGE, 256 * PAGE, FLAGS, 128))
    steps = trace(space, 0, new, 64)
    assert sum(int(step.split()[1]) for step in steps) == 64
    assert sum(int(step.split()[1]) for step in steps if step.startswith("skip")) >= 32
    assert tags(space) == {new: 1, new + 61: 2, new + 62: 3, new + 63: 4}
    reached = {(new + page) // 4 for page in (*range(4), *range(60, 64))}
    tables = strip_tables(space)
    assert {slot for slot in range(32, 64) if tables[slot] != "."} == reached


def test_a_range_without_any_table_makes_none() -> None:
    space = scene("aaaa aaaa .... .bbb bbbb b...")
    assert trace(space, 0, 13, 8) == ["skip 8"]
    assert space.tree.bytes_used() == 0


@explains("move-of-nothing")
def test_an_empty_range_is_no_move_at_all() -> None:
    space = scene("AAAA .... bbbb")
    assert trace(space, 0, 8, 0) == []


# --- realignment: every condition of 4.2, and what follows of 4.3 ---------------------------------

REALIGNMENT = [
    # picture, old, new, pages, realigned?
    pytest.param(".AAA A... .bbb b...", 1, 9, 4, True, id="nothing below"),
    pytest.param(".AAA .... .bbb ....", 1, 9, 3, True, id="reaches the slot end exactly"),
    pytest.param("...A .... ...b ....", 3, 11, 1, True, id="one page that ends on a boundary"),
    pytest.param(".AA. .... .bb. ....", 1, 9, 2, False, id="one page short of the slot end"),
    pytest.param("AAAA AAAA bbbb bbbb", 0, 8, 8, False, id="already aligned"),
    pytest.param(".AAA A... bbbb ....", 1, 8, 4, False, id="different offsets in the slots"),
    pytest.param("cAAA A... .bbb b...", 1, 9, 4, False, id="VMA below old, touching"),
    pytest.param("c.AA AA.. ..bb bb..", 2, 10, 4, False, id="VMA below old, apart"),
    pytest.param("CAAA A... .bbb b...", 1, 9, 4, False, id="VMA with a page below old"),
    pytest.param(".AAA A... cbbb b...", 1, 9, 4, False, id="VMA below new"),
    pytest.param("c.AA AA.. c.bb bb..", 2, 10, 4, False, id="VMA below both"),
    pytest.param(
        "cccc .AAA A... .bbb b...", 5, 13, 4, True, id="VMA below old, in the slot before"
    ),
    pytest.param(
        ".AAA A... cccc .bbb b...", 1, 13, 4, True, id="VMA below new, in the slot before"
    ),
    pytest.param(".AAA Acc. .bbb b...", 1, 9, 4, True, id="VMA above old does not matter"),
    pytest.param(".AAA A... .bbb bcc.", 1, 9, 4, True, id="VMA above new does not matter"),
    pytest.param("aAAA A... .bbb b...", 1, 9, 4, False, id="source from the middle of its VMA"),
    pytest.param("aaaa aAAA Aaaa .bbb b...", 5, 13, 4, False, id="far inside its VMA"),
    pytest.param(".AAA A... bbbb b...", 1, 9, 4, False, id="destination merged with the VMA below"),
    pytest.param(".AAA A... .bbb bbbb", 1, 9, 4, True, id="destination merged with the VMA above"),
    pytest.param(
        ".... ..bb bbAA AA..", 10, 6, 4, False, id="the new VMA below the old, as in the thread"
    ),
    pytest.param(".... ..bb bb.. ..AA AA..", 14, 6, 4, True, id="the same, one slot apart"),
]


@explains("realign-gains-nothing", "realign-hemmed-in", "realign-inside-vma")
@pytest.mark.parametrize(("picture", "old", "new", "pages", "is_realigned"), REALIGNMENT)
def test_realignment(picture: str, old: int, new: int, pages: int, is_realigned: bool) -> None:
    space = scene(picture)
    before = tags(space)
    steps = trace(space, old, new, pages)
    assert (steps[0] == "realigned") is is_realigned
    assert not space.violations
    delta = new - old
    assert tags(space) == {
        page + delta if old <= page < old + pages else page: tag for page, tag in before.items()
    }
    if is_realigned:
        assert steps[1] == "PMD 4"
        assert strip_tables(space, old // 4, 1) == "."
        # The kernel without it ends with the same pages, and with the emptied table of the head.
        plain = scene(picture, "linux-6.1")
        assert trace(plain, old, new, pages)[0] == f"PTE {4 - old % 4}"
        assert tags(plain) == tags(space)
        assert strip_tables(plain, old // 4, 1) == "o"


@pytest.mark.parametrize("picture", [".AAA A... .bbb b...", "...A .... ...b ...."])
def test_a_realigned_head_keeps_its_table_for_what_is_mapped_there_later(picture: str) -> None:
    space = scene(picture)
    start, end = next(iter(space.vmas)).range
    trace(space, start // PAGE, start // PAGE + 8, (end - start) // PAGE)
    assert strip_tables(space, 2, 1) == "T"
    allocated = space.tree.allocations
    assert mmap(space, 8 * PAGE, PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) == 8 * PAGE
    assert not touch(space, 8 * PAGE, 9 * PAGE)
    assert space.tree.allocations == allocated


def test_realignment_may_lower_the_starts_to_a_pud_boundary() -> None:
    space = scene(f".{SPAN[1:]} .{TARGET[1:]}")
    assert trace(space, 1, 17, 15) == ["realigned", "PUD 16"]
    assert tags(space) == {17 + i: 1 + i for i in range(15)}
    assert strip_tables(space, 0, 8) == "....TTTT"


def test_a_realigned_move_without_table_mover_takes_the_empty_head_along() -> None:
    space = scene(".AAA A... .bbb b...", replace(tiny(), move_pmd=False))
    assert trace(space, 1, 9, 4) == ["realigned", "PTE 4", "PTE 1"]
    assert shown(space, 4) == ".aaa a... .BBB B..."


STACKS = [
    pytest.param("aaaa aaAA AAAA", 6, 2, 6, True, id="old slot inside the VMA, nothing below new"),
    pytest.param("..aa aaAA AAAA", 6, 2, 6, True, id="new start is the VMA's start"),
    pytest.param("c.aa aaAA AAAA", 6, 2, 6, False, id="VMA in the slot below the new start"),
    pytest.param("c... ..aa aaAA AAAA", 10, 6, 6, True, id="VMA in the slot before"),
    pytest.param("..aa aaA. ....", 6, 2, 1, False, id="not up to the slot end"),
    pytest.param("..aa aaAA AAAA", 6, 3, 6, False, id="shift not a multiple of a slot"),
]


@pytest.mark.parametrize(("picture", "old", "new", "pages", "is_realigned"), STACKS)
def test_realignment_of_the_stack(
    picture: str, old: int, new: int, pages: int, is_realigned: bool
) -> None:
    space = scene(picture)
    before = tags(space)
    steps = trace(space, old, new, pages, for_stack=True)
    assert (steps[0] == "realigned") is is_realigned
    assert tags(space) == {page + new - old: tag for page, tag in before.items() if tag}
    occupied = [v.rule for v in space.violations]
    # Refused by a neighbour, the move is as before 6.7: the emptied table is met again.
    assert occupied == (["dest-entry-none"] if picture.startswith("c.aa") else [])


def test_the_stack_switch_is_separate() -> None:
    kernel = replace(tiny(), realign_stack=False)
    assert trace(scene("..aa aaAA AAAA", kernel), 6, 2, 6, for_stack=True)[0] == "PTE 2"
    assert trace(scene(".AAA A... .bbb b...", kernel), 1, 9, 4)[0] == "realigned"


# --- partial results -----------------------------------------------------------------------------


def refuse_from(space: AddressSpace, allowed: int) -> None:
    """Let `allowed` more page-table pages be had, then none."""
    limit = space.tree.allocations + allowed
    space.tree.refuse = lambda number: number >= limit


def prepared(picture: str, old: int, new: int, pages: int, kernel: Kernel) -> Move:
    space = scene(picture, kernel)
    source, target = space.vmas.lookup(old * PAGE), space.vmas.lookup(new * PAGE)
    assert source is not None
    assert target is not None
    return Move(space, source, target, old * PAGE, new * PAGE, pages * PAGE)


# The destination lies under another top-level entry: it needs a PUD and a PMD table first.
FAR = " ".join(["...."] * 14)


@explains("move-out-of-tables", "table-refused")
@pytest.mark.parametrize(("allowed", "done"), [(0, 0), (1, 0), (2, 0), (3, 3), (4, 7), (5, 8)])
def test_a_failed_allocation_ends_the_move_where_it_is(allowed: int, done: int) -> None:
    picture = f"AAAA AAAA {FAR} .bbb bbbb b..."
    move = prepared(picture, 0, 65, 8, tiny())
    refuse_from(move.space, allowed)
    assert move_page_tables(move) == done * PAGE
    pages = "a" * done + "A" * (8 - done)
    assert shown(move.space, 2) == f"{pages[:4]} {pages[4:]}"
    assert tags(move.space) == {(65 if i < done else 0) + i: 1 + i for i in range(8)}


def test_tables_allocated_before_the_failure_stay() -> None:
    picture = f"AAAA AAAA {FAR} .bbb bbbb b..."
    move = prepared(picture, 0, 65, 8, tiny())
    refuse_from(move.space, 2)  # a PUD table and a PMD table
    before = move.space.tree.bytes_used()
    move_page_tables(move)
    assert move.space.tree.bytes_used() == before + 2 * PAGE


@explains("nothing-done")
@pytest.mark.parametrize("allowed", [0, 1])
def test_a_realigned_move_that_fails_in_its_first_slot_did_nothing(allowed: int) -> None:
    picture = f"..AA AAAA {FAR} ..bb bbbb"
    move = prepared(picture, 2, 66, 6, tiny())
    refuse_from(move.space, allowed)
    assert move_page_tables(move) == 0
    assert not move.space.violations
    assert tags(move.space) == {2 + i: 1 + i for i in range(6)}


@explains("result-wraps")
def test_without_the_check_its_result_is_negative() -> None:
    """B-11: two pages below the start, as an unsigned word."""
    picture = f"..AA AAAA {FAR} ..bb bbbb"
    move = prepared(picture, 2, 66, 6, replace(tiny(), negative_result_is_zero=False))
    refuse_from(move.space, 0)
    assert move_page_tables(move) == (1 << 64) - 2 * PAGE
    assert [v.rule for v in move.space.violations] == ["move-result"]


# The upper half of a 32-bit user space: the end of the range plus its length is 2^32.
WRAPPING = (0x80000000, 0x40000000)


@pytest.mark.parametrize(
    ("kernel", "is_right"), [("linux-6.1", True), ("linux-6.7", False), ("linux-6.12", True)]
)
def test_the_first_form_of_the_result_check_wraps_on_32_bits(kernel: str, is_right: bool) -> None:
    """B-09: a complete move counts as "nothing moved"."""
    start, length = WRAPPING
    space = AddressSpace(kernel_named(kernel, "i386"))
    source = Vma(start, start + length, FLAGS, start // PAGE)
    target = Vma(start - length, start, FLAGS, start // PAGE)
    space.vmas.insert(source)
    space.vmas.insert(target)
    touch(space, start, start + PAGE)
    done = move_page_tables(Move(space, source, target, start, start - length, length))
    assert done == (length if is_right else 0)
    assert tags(space) == {(start - length) // PAGE: 1}


@pytest.mark.parametrize(
    ("kernel", "is_right"), [("linux-6.1", True), ("linux-6.7", False), ("linux-6.12", True)]
)
def test_then_mremap_fails_and_takes_the_moved_pages_along(kernel: str, is_right: bool) -> None:
    start, length = WRAPPING
    space = AddressSpace(kernel_named(kernel, "i386"))
    mmap(space, start, length, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    touch(space, start, start + PAGE)
    result = mremap(space, start, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, start - length)
    assert result == (start - length if is_right else Errno.ENOMEM)
    assert (1 in tags(space).values()) is is_right


# --- single entries ------------------------------------------------------------------------------


def clean(space: AddressSpace) -> None:
    """Clear soft-dirty everywhere, as writing 4 to clear_refs does."""
    for _, table in space.tree.leaf_tables():
        space.tree.change(table, list(table.leaves), lambda old: [e & ~SOFT_DIRTY for e in old])


def soft_dirty(space: AddressSpace) -> set[int]:
    return {address // PAGE for address, _, entry in space.tree.leaves() if entry & SOFT_DIRTY}


def test_entries_moved_alone_become_soft_dirty_those_in_tables_do_not() -> None:
    space = scene("..AA AAAA A... ..bb bbbb b...", "linux-6.1")
    clean(space)
    assert trace(space, 2, 14, 7) == ["PTE 2", "PMD 4", "PTE 1"]
    assert soft_dirty(space) == {14, 15, 20}
    space = scene("..AA AAAA A... ..bb bbbb b...", "linux-6.12")
    clean(space)
    trace(space, 2, 14, 7)
    assert soft_dirty(space) == {20}


def test_nothing_else_in_an_entry_changes() -> None:
    space = scene("..AA AA.. ..bb bb..", "linux-6.1")
    table = space.tree.find(0, PTE)
    assert table is not None
    space.tree.put(table, 3, leaf(7, PRESENT | ANON))  # clean, read-only, not accessed
    entries = [entry for _, _, entry in space.tree.leaves()]
    trace(space, 2, 10, 4)
    moved = [entry for _, _, entry in space.tree.leaves()]
    assert [entry | SOFT_DIRTY for entry in entries] == moved


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.18"])
def test_an_occupied_destination_pte_is_reported(kernel: str) -> None:
    """Whether the kernel warns of it (6.16) or not: a page would be lost."""
    space = scene("AAAA .... .bBB b...", kernel)
    trace(space, 0, 9, 4)
    assert [(v.rule, v.where) for v in space.violations] == [
        ("dest-entry-none", (10 * PAGE, 11 * PAGE)),
        ("dest-entry-none", (11 * PAGE, 12 * PAGE)),
    ]
    assert all("in the PTE entry" in v.found for v in space.violations)


def test_an_occupied_destination_next_to_the_range_is_not() -> None:
    space = scene("AAAA .... Bbbb bB..")
    trace(space, 0, 9, 4)
    assert not space.violations
    assert shown(space, 4) == "aaaa .... BBBB BB.."


@explains("table-occupied", "dest-entry-occupied")
@pytest.mark.parametrize(("pages", "step", "size"), [(4, "PMD!", SLOT), (16, "PUD!", 4 * SLOT)])
def test_an_occupied_destination_table_entry_is_reported_and_the_pages_arrive(
    pages: int, step: str, size: int
) -> None:
    """The emptied table that nobody freed, at both levels."""
    space = scene("A" * pages + "." * (16 - pages) + "b" * pages)
    space.tree.make(16 * PAGE, PTE)
    steps = trace(space, 0, 16, pages)
    assert steps[0] == f"{step} {pages}"
    assert space.violations[0].rule == "dest-entry-none"
    assert space.violations[0].where == (16 * PAGE, 16 * PAGE + size)
    assert tags(space) == {16 + i: 1 + i for i in range(pages)}


def test_moving_pages_within_one_table() -> None:
    space = scene("AA.. .... ....")
    vma = space.vmas.lookup(0)
    table = space.tree.find(0, PTE)
    assert vma is not None
    assert table is not None
    move_ptes(Move(space, vma, vma, 0, PAGE, 2 * PAGE), table, table, 2 * PAGE)
    assert sorted(table.leaves) == [1, 2]
    assert not space.violations
