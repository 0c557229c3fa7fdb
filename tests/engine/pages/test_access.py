"""Accesses of other CPUs: what a TLB may keep of a page."""

from engine.base.entry import ACCESSED, DIRTY
from engine.calls.mprotect import mprotect
from engine.pages.access import touch_on, translation
from engine.pages.fault import touch
from engine.state.tlb import Translation
from engine.state.vma import VM_HUGEPAGE
from tests.lib.drawn import PAGE, SLOT, scene
from tests.lib.entries import entry, frame


def test_what_another_cpu_keeps() -> None:
    space = scene("aA.a")
    for page in range(4):
        touch_on(space, 7, page * PAGE + 12)
    assert space.tlb.cached == {(3, PAGE): Translation(1, True, PAGE)}
    mprotect(space, 0, 2 * PAGE, 0)
    touch_on(space, 0, PAGE)
    assert not space.tlb.cached
    mprotect(space, 0, 2 * PAGE, 1)
    touch_on(space, 0, PAGE)
    assert space.tlb.cached == {(0, PAGE): Translation(1, False, PAGE)}
    assert translation(space, 2 * PAGE) is None


def test_a_huge_translation_reaches_over_its_slot() -> None:
    space = scene("aaaa")
    next(iter(space.vmas)).flags |= VM_HUGEPAGE
    touch(space, 0, PAGE)
    touch_on(space, 0, 3 * PAGE)
    assert [kept.reach for kept in space.tlb.cached.values()] == [SLOT]
    space.flush_tlb(SLOT, 2 * SLOT)
    assert space.tlb.cached
    space.flush_tlb(0, PAGE)
    assert not space.tlb.cached


def test_the_walker_notes_the_access_and_the_write_only_where_it_may_write() -> None:
    for prot, noted in ((1, ACCESSED), (3, ACCESSED | DIRTY)):
        space = scene("AAAA")
        table = space.tree.find(0, 1)
        assert table is not None
        space.tree.put(table, 0, table.leaves[0] & ~(ACCESSED | DIRTY))
        assert mprotect(space, 0, PAGE, prot) is None
        touch_on(space, 0, 5)
        assert entry(space, 0) & (ACCESSED | DIRTY) == noted  # type: ignore[operator]


def test_a_huge_page_is_translated_page_by_page() -> None:
    space = scene("aaaa")
    next(iter(space.vmas)).flags |= VM_HUGEPAGE
    touch(space, 0, PAGE)
    for page in range(4):
        found = translation(space, page * PAGE)
        assert found is not None
        assert found[2] == Translation(frame(space, 0) + page, True, SLOT)
