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


def look(space: AddressSpace, details: Sequence[Detail], last: Seen | None = None) -> Seen:
    """What is there now.

    Arguments: `details` which of these to look for; `last` what was seen before, part of which may
    serve again.
    """
    tags = space.frames.tag
    levels = range(PTE, min(PMD + 1, space.geometry.levels))
    return Seen(
        tuple(
            Mapping(vma.range, terms.protection(vma.flags), tuple(vma_notes(vma)))
            for vma in space.vmas
        ),
        {(t.level, base): t.count for base, t in space.tree.tables() if t.level in levels},
        space.tree.frozen(),
        last.tags if last is not None and last.tags == tags else tags.copy(),
        tuple(kept(space)),
        {detail.title: tuple(detail.rows(space)) for detail in details},
        frozenset(detail.title for detail in details if detail.matters(space)),
    )


def details_asked(rules: Collection[str]) -> tuple[Detail, ...]:
    """Those that broken rules are about, and those that may be drawn anyway."""
    return tuple(
        detail for detail in DETAILS if detail.title in STRIPS or not detail.rules.isdisjoint(rules)
    )


def details_that_matter(rules: Collection[str], before: Seen, after: Seen) -> tuple[Detail, ...]:
    """Those that broken rules are about, and those that a call changes and that are drawn."""
    return tuple(
        detail
        for detail in details_asked(rules)
        if not detail.rules.isdisjoint(rules)
        or (
            detail.title in before.matter | after.matter
            and before.rows[detail.title] != after.rows[detail.title]
        )
    )


class Reader:
    """Reads runs of pages out of what was seen.

    What a table holds is read once: moments share what was not written between them.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._read: dict[tuple[int, int], list[_Run]] = {}

    def runs(self, seen: Seen, within: Range) -> list[Run]:
        """The pages of a range, in order; those of a huge page are cut off at its ends."""
        geometry, shift = self._geometry, self._geometry.page_shift
        found = []
        for base, held in sorted(seen.leaves.items()):
            if base < within.end and within.start < base + geometry.slot_bytes:
                huge = isinstance(held, int)
                for first, pages, kind, tag, step in self._runs(seen, held):
                    start = base + (first << shift)
                    found.append(Run(Range(start, start + (pages << shift)), kind, tag, step, huge))
        inside = [clipped(geometry, run, within) for run in found if run.where.overlaps(within)]
        joined: list[Run] = []
        for run in inside:
            if joined and _continues(geometry, joined[-1], run):
                start = joined[-1].where.start
                joined[-1] = joined[-1]._replace(where=Range(start, run.where.end), step=1)
            else:
                joined.append(run)
        return joined

    def _runs(self, seen: Seen, held: dict[int, int] | int) -> list["_Run"]:
        """Those of a PTE table, or of a huge leaf."""
        if isinstance(held, int):
            step = 0 if is_zero_page(held) else 1 << PFN_SHIFT
            pages = range(self._geometry.slot_pages)
            return _joined({index: held + index * step for index in pages}, seen.tags)
        key = id(held), id(seen.tags)  # both are kept by what was seen
        if key not in self._read:
            self._read[key] = _joined(held, seen.tags)
        return self._read[key]


def _continues(geometry: Geometry, one: Run, other: Run) -> bool:
    """Does a run go on in the next slot?"""
    pages = one.where.length >> geometry.page_shift
    return (
        one.where.end == other.where.start
        and one.kind == other.kind
        and not (one.huge or other.huge)
        and bool(one.tag)
        and (pages == 1 or one.step == 1)
        and other.tag == one.tag + pages
        and (other.where.length == geometry.page_bytes or other.step == 1)
    )


def clipped(geometry: Geometry, run: Run, within: Range) -> Run:
    """The part of a run that lies in a range."""
    where = Range(max(run.where.start, within.start), min(run.where.end, within.end))
    ahead = (where.start - run.where.start) >> geometry.page_shift
    return run._replace(where=where, tag=run.tag + ahead * run.step)


_Run = tuple[int, int, str, int, int]  # first index, pages, kind, content of the first, step


def _joined(held: dict[int, int], tags: list[int]) -> list[_Run]:
    """Entries by index, as runs."""
    found: list[_Run] = []
    first, pages, kind, tag, step = -1, 0, "", 0, 0
    for index in sorted(held):
        entry = held[index]
        what, holds = _kind(entry), _tag(tags, entry)
        if pages and index == first + pages and what == kind:
            due = holds - tag
            if pages == 1 and due in (0, 1):
                pages, step = 2, due
                continue
            if pages > 1 and due == step * pages:
                pages += 1
                continue
        if pages:
            found.append((first, pages, kind, tag, step))
        first, pages, kind, tag, step = index, 1, what, holds, 0
    return [*found, (first, pages, kind, tag, step)] if pages else found


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


def _tag(tags: list[int], entry: int) -> int:
    """The content of the page that an entry leads to; 0 if it leads to none."""
    if entry & MARKER or is_zero_page(entry):
        return 0
    pfn = entry >> PFN_SHIFT
    return tags[pfn] if pfn < len(tags) else 0
