"""What is to be seen of an address space at one moment, kept while the program goes on."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from engine.base.address import Range
from engine.base.entry import (
    MARKER,
    MIGRATION,
    PFN_SHIFT,
    SWAP,
    is_guard,
    is_zero_page,
)
from engine.base.geometry import PMD, PTE, Geometry
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.table import Picture
from fuzz.tell import signs
from fuzz.tell.details import DETAILS, Detail, Kept, Row, kept
from fuzz.tell.draw import vma_notes
from fuzz.tell.signs import Sign

# Details that are drawn as a strip below the pages.
STRIPS = (signs.UFFD_WP, signs.SOFT_DIRTY, signs.SWAPPED, signs.MLOCKED)

PAGE, ZERO, SWAPPED, MIGRATING, GUARD, WP_MARK = (
    "page",
    "zero",
    "swap",
    "migration",
    "guard",
    "wp mark",
)


class Mapping(NamedTuple):
    """A VMA: its protection, and what else is worth a word; the first of that is what is behind."""

    where: Range
    protection: str
    notes: tuple[str, ...]


class Run(NamedTuple):
    """Pages side by side that are alike, and whose contents count up by `step`.

    `kind` says what the entries hold; `tag` is the content of the first page, 0: zeroes, or none;
    `huge`: a huge page maps them.
    """

    where: Range
    kind: str
    tag: int
    step: int
    huge: bool


class Seen(NamedTuple):
    """An address space at one moment.

    `tables` are the PTE and PMD tables that are linked, by level and first address, and how many
    entries each has; `tlbs` what other CPUs keep; `rows` what is said beyond that, by title;
    `matter` the titles of what is worth a look if it changes.
    """

    mappings: tuple[Mapping, ...]
    tables: dict[tuple[int, int], int]
    leaves: Picture
    tags: list[int]
    tlbs: tuple[Kept, ...]
    rows: dict[Sign, tuple[Row, ...]]
    matter: frozenset[Sign]


def look(space: AddressSpace, details: Sequence[Detail] = DETAILS) -> Seen:
    """What is there now.  Arguments: `details` which of these to look for."""
    levels = range(PTE, min(PMD + 1, space.geometry.levels))
    return Seen(
        tuple(
            Mapping(vma.range, terms.protection(vma.flags), tuple(vma_notes(vma)))
            for vma in space.vmas
        ),
        {(t.level, base): t.count for base, t in space.tree.tables() if t.level in levels},
        space.tree.frozen(),
        space.frames.tag.copy(),
        tuple(kept(space)),
        {detail.title: tuple(detail.rows(space)) for detail in details},
        frozenset(detail.title for detail in details if detail.matters(space)),
    )


def details_that_matter(rules: Collection[str], before: Seen, after: Seen) -> tuple[Detail, ...]:
    """Those that a broken rule is about, and those that the call changes and that are drawn."""
    return tuple(
        detail
        for detail in DETAILS
        if not detail.rules.isdisjoint(rules)
        or (
            detail.title in STRIPS
            and detail.title in before.matter | after.matter
            and before.rows[detail.title] != after.rows[detail.title]
        )
    )


def runs(geometry: Geometry, seen: Seen, within: Range) -> list[Run]:
    """The pages of a range, in order; those of a huge page are cut off at its ends."""
    found: list[Run] = []
    for base, held in sorted(seen.leaves.items()):
        if base >= within.end or base + geometry.slot_bytes <= within.start:
            continue
        if isinstance(held, int):
            pages = _of_huge(geometry, seen, held)
        else:
            pages = [(index, _kind(held[index]), _tag(seen, held[index])) for index in sorted(held)]
        found += _joined(geometry, base, pages, huge=isinstance(held, int))
    return [clipped(geometry, run, within) for run in found if run.where.overlaps(within)]


def clipped(geometry: Geometry, run: Run, within: Range) -> Run:
    """The part of a run that lies in a range."""
    where = Range(max(run.where.start, within.start), min(run.where.end, within.end))
    ahead = (where.start - run.where.start) >> geometry.page_shift
    return run._replace(where=where, tag=run.tag + ahead * run.step)


def _of_huge(geometry: Geometry, seen: Seen, entry: int) -> list[tuple[int, str, int]]:
    """The pages of a huge leaf: index, kind, content."""
    kind, step = _kind(entry), 0 if is_zero_page(entry) else 1 << PFN_SHIFT
    return [(index, kind, _tag(seen, entry + index * step)) for index in range(geometry.slot_pages)]


def _joined(
    geometry: Geometry, base: int, pages: list[tuple[int, str, int]], *, huge: bool
) -> list[Run]:
    """Pages of one slot, each by index, kind and content, as runs."""
    shift = geometry.page_shift
    found: list[Run] = []
    for index, kind, tag in pages:
        where = Range(base + (index << shift), base + (index + 1 << shift))
        last = found[-1] if found else None
        if last is not None and last.where.end == where.start and last.kind == kind:
            before = last.where.length >> shift
            step = tag - last.tag if before == 1 else last.step
            if step in (0, 1) and tag == last.tag + before * step:
                found[-1] = last._replace(where=Range(last.where.start, where.end), step=step)
                continue
        found.append(Run(where, kind, tag, 0, huge))
    return found


def _kind(entry: int) -> str:
    """What an entry holds."""
    if entry & MARKER:
        return GUARD if is_guard(entry) else WP_MARK
    if is_zero_page(entry):
        return ZERO
    if entry & SWAP:
        return SWAPPED
    if entry & MIGRATION:
        return MIGRATING
    return PAGE


def _tag(seen: Seen, entry: int) -> int:
    """The content of the page that an entry leads to; 0 if it leads to none."""
    if entry & MARKER or is_zero_page(entry):
        return 0
    pfn = entry >> PFN_SHIFT
    return seen.tags[pfn] if pfn < len(seen.tags) else 0
