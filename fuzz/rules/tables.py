"""Page tables: linked once, needed by a VMA, and told from leaves."""

from collections.abc import Iterable, Iterator

from engine.base.address import Range
from engine.base.geometry import PMD, PTE
from engine.base.points import ALLOCATED
from engine.base.uapi import MADV_DONTNEED
from engine.base.violation import Violation
from engine.state import terms
from fuzz.rules.rule import (
    CONTRACT,
    COURSE,
    ENGINE,
    HARM,
    NOTHING,
    STATE,
    Rule,
    after,
    at,
    elsewhere,
    on,
    unchecked,
)
from fuzz.rules.sight import Moving, Sight
from fuzz.rules.view import State, tables_below

DEST_ENTRY_NONE = Rule(
    "I-01",
    "dest-entry-none",
    "a destination entry is none when something is stored there",
    "WARN_ON in move_normal_pmd(), move_normal_pud(), move_huge_pmd(); B-01, B-48, B-63",
    CONTRACT,
)

TABLE_LINKED_ONCE = Rule(
    "I-02",
    "table-linked-once",
    "every table has exactly one parent entry",
    "mm/pgtable-generic.c; B-05, B-06, B-14",
    HARM,
)

TABLE_HAS_VMA = Rule(
    "I-03",
    "table-has-vma",
    "a table's span holds part of a VMA (but for preallocated PMD tables)",
    "free_pgtables(): it should have released it; B-01, B-63, B-65",
    HARM,
)

ROLLBACK_DEST_NONE = Rule(
    "I-12",
    "rollback-dest-none",
    "moving back never finds a destination table entry occupied",
    "as I-01, on the way back; B-08, B-68",
    CONTRACT,
)

TABLE_NOT_LEAF = Rule(
    "I-18",
    "table-not-leaf",
    "what moves as a table is a table, what moves as a leaf is a leaf",
    "move_normal_pmd(), 6fa1066fc5d0; B-15",
    HARM,
)

TABLE_STILL_LINKED = Rule(
    "I-19",
    "table-still-linked",
    "a PTE table is worked on only while its PMD entry points to it",
    "pte_offset_map_rw_nolock(), 6.5; B-25",
    HARM,
    needs="to see which table the mover writes to; if it is another one, I-05 is broken",
)

EMPTIED_TABLE_FREED = Rule(
    "I-29",
    "emptied-table-freed",
    "MADV_DONTNEED of a whole slot leaves no PTE table there, since 6.14",
    "try_to_free_pte(), zap_pte_range()",
    COURSE,
)

unchecked(TABLE_STILL_LINKED)
elsewhere(ENGINE, DEST_ENTRY_NONE, ROLLBACK_DEST_NONE, TABLE_NOT_LEAF)


TABLE_HAS_SOURCE = Rule(
    "I-32",
    "table-has-source",
    "a move makes no table at a destination whose source has none",
    "get_old_pud(), get_old_pmd(), which come before alloc_new_pud() and alloc_new_pmd()",
    COURSE,
)


@on(STATE, TABLE_LINKED_ONCE)
def table_linked_once(state: State) -> Iterator[Violation]:
    """No table is met twice."""
    if len({id(table) for _, table in state.tables}) == len(state.tables):
        return
    seen: set[int] = set()
    for base, table in state.tables:
        if id(table) in seen:
            yield TABLE_LINKED_ONCE.broken(state.span(base, table), "a second link", "one parent")
        seen.add(id(table))


@on(STATE, TABLE_HAS_VMA)
def table_has_vma(state: State) -> Iterator[Violation]:
    """No table lies where nothing is mapped."""
    prealloc, spans = state.space.geometry.prealloc_pmd_tables, state.space.geometry.span_bytes
    for base, table in state.tables:
        if state.first_vma(base, base + spans[table.level]) is None:
            if prealloc and table.level == PMD and not table.count:
                continue
            yield TABLE_HAS_VMA.broken(
                state.span(base, table),
                terms.table(table.level, table.count),
                "no table where nothing is mapped",
            )


@after("madvise", EMPTIED_TABLE_FREED, before=NOTHING)
def emptied(sight: Sight) -> Iterator[Violation]:
    """No empty PTE table is left in a VMA's part of what MADV_DONTNEED was for."""
    space, (start, length, advice) = sight.space, sight.args
    if sight.error or advice != MADV_DONTNEED:
        return
    slot, end = space.geometry.slot_bytes, start + length
    for base, table in tables_below(space.tree.root, space.geometry.entry_shift):
        if table.level != PTE or table.count or base < start or base + slot > end:
            continue
        vma = space.vmas.lookup(base)
        if vma is not None and base + slot <= vma.end and space.kernel.reclaims_tables:
            yield EMPTIED_TABLE_FREED.broken(
                Range(base, base + slot), terms.table(PTE, 0), "no table"
            )


@at((ALLOCATED,), TABLE_HAS_SOURCE)
def made_for_a_table(sight: Moving) -> Iterable[Violation]:
    """The source has something where the lowest table is that the destination has now."""
    move, tree, geometry = sight.move, sight.space.tree, sight.space.geometry
    level = next(
        level for level in range(PTE, tree.root.level + 1) if tree.find(move.new, level) is not None
    )
    if not tree.hole_end(move.old, level + 1):
        return ()
    return (
        TABLE_HAS_SOURCE.broken(
            Range(move.new, move.new + geometry.page_bytes),
            f"a {terms.LEVELS[level]} table, for nothing at {terms.address(geometry, move.old)}",
            "no table where nothing can move to",
        ),
    )
