"""Where pages are after a move of page tables, against where they were before it.

The cost follows the tables that there are, and the pages of those that did not move as a whole.
"""

from collections.abc import Iterable

from engine.base.address import Range
from engine.base.entry import ANON, PFN_SHIFT
from engine.base.points import (
    LEAVE,
)
from engine.base.violation import Violation
from fuzz.rules.picture import Leaves, carried, differing, misfits, pages
from fuzz.rules.rule import (
    ENGINE,
    HARM,
    Rule,
    at,
    elsewhere,
)
from fuzz.rules.sight import Moving

PAGES_KEPT = Rule(
    "I-05",
    "pages-kept",
    "a move loses no page and maps none twice",
    "check_mm(), the rss counters; B-64",
    HARM,
)

ENTRIES_AT_NEW = Rule(
    "I-06",
    "entries-at-new",
    "after a move the entry for old + x is at new + x",
    "selftests/mm/mremap_test.c; B-09, B-45",
    HARM,
)

OTHERS_UNTOUCHED = Rule(
    "I-07",
    "others-untouched",
    "no entry outside the requested range changes place",
    "can_align_down(); B-12",
    HARM,
)

elsewhere(ENGINE, PAGES_KEPT)


@at((LEAVE,), PAGES_KEPT, ENTRIES_AT_NEW, OTHERS_UNTOUCHED)
def places(sight: Moving) -> Iterable[Violation]:
    """Every page is at its new place, or where it was if it was not to move.

    A huge page of a shared object that had to be split is gone until the next access.
    """
    if sight.all_as_due:
        return ()
    geometry, moved, delta = sight.space.geometry, sight.moved, sight.delta
    left, found = carried(sight.before, sight.after, geometry.slot_bytes, moved, delta)
    left, found = differing(left, found, geometry.slot_bytes, moved)
    if not left and not found:
        return ()
    before, after = pages(geometry, left), pages(geometry, found)
    expected = _expected(before, moved, delta)
    if after == expected and len(expected) == len(before):
        return ()
    if sight.unmapped:
        lost = {
            a for a, e in expected.items() if not e & ANON and e >> PFN_SHIFT and a not in after
        }
        before = {a: e for a, e in before.items() if a not in lost and a + delta not in lost}
        expected = {a: e for a, e in expected.items() if a not in lost}
        if after == expected:
            return ()
    return (_explained(before, expected, after, moved, geometry.page_bytes),)


def _expected(before: Leaves, moved: Range, delta: int) -> Leaves:
    """Where the pages have to be after the move."""
    return {
        addr + delta if moved.start <= addr < moved.end else addr: entry
        for addr, entry in before.items()
    }


def _explained(
    before: Leaves, expected: Leaves, after: Leaves, requested: Range, page: int
) -> Violation:
    """Which of the three is broken; the pages are those of slots that are not as due."""
    if sorted(before.values()) != sorted(after.values()):
        rule = PAGES_KEPT
    else:
        outside = [
            addr
            for addr, entry in before.items()
            if not requested.start <= addr < requested.end and after.get(addr) != entry
        ]
        rule = OTHERS_UNTOUCHED if outside else ENTRIES_AT_NEW
    wrong = [a for a in sorted(expected.keys() | after.keys()) if expected.get(a) != after.get(a)]
    first = wrong[0] if wrong else requested.start
    return rule.broken(
        Range(first, (wrong[-1] if wrong else first) + page),
        misfits(expected, after),
        "old + x at new + x, and all else where it was",
    )
