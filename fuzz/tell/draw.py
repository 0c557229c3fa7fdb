"""An address space as text, for people.

`draw` lists the VMAs and the page tables that exist, and what else there is to see; `draw_change`
marks what a call changed.  Cost and output follow what is there, never the size of the arena.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import NamedTuple

from engine.base.address import Range
from engine.base.entry import MARKER, PRESENT, is_wp_marker
from engine.base.geometry import PMD, PTE, Geometry
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import VM_HUGEPAGE, VM_LOCKED, VM_NOHUGEPAGE, VM_PKEY_BIT0, Vma
from fuzz.tell import signs
from fuzz.tell.details import DETAILS, Row
from fuzz.tell.signs import EMPTIED, HERE, NO_VMA

_DETAILS = frozenset(detail.title for detail in DETAILS)
_BAR_CELLS = 16
WIDTH = 96  # columns of a drawing, unless others are asked for
_BESIDE_SPANS = 48  # that a VMA's line mostly needs beside its range
_SHOWN_FLAGS = (
    (VM_LOCKED, signs.LOCKED),
    (VM_HUGEPAGE, signs.HUGE),
    (VM_NOHUGEPAGE, signs.NOHUGE),
    (VM_PKEY_BIT0, signs.PKEY),
)
_Mapped = Callable[[Range], bool]  # true if a VMA lies in the range (real addresses)
_STYLES: dict[str, str] = {signs.GONE: "31", signs.NEW: "32", signs.CHANGED: "33"}


class Line(NamedTuple):
    """A line of a drawing; `here`: it is about a place that the drawing points at."""

    text: str
    here: bool = False

    def __str__(self) -> str:
        return f"{self.text} {HERE}" if self.here else self.text


class Part(NamedTuple):
    """Lines below a title; of more than `limit` some are left out, and `what` says of what."""

    lines: list[Line]
    limit: int
    what: str

    @property
    def texts(self) -> list[str]:
        """The lines, whether or not they are pointed at."""
        return [line.text for line in self.lines]


@dataclass(frozen=True, slots=True)
class Drawing:
    """An address space: its first line, and lines by title.

    `shown` are the titles that are always shown, `telling` those that are where they differ from
    the drawing before.
    """

    head: str
    parts: dict[str, Part]
    shown: Collection[str]
    telling: Collection[str]

    def __str__(self) -> str:
        lines = [self.head]
        for title, part in self.parts.items():
            if title in self.shown and part.lines:
                marked = [(" ", line) for line in part.lines]
                lines += [title, *(line for _, line in _elided(marked, part))]
        return "\n".join(lines)

    def tells(self, title: str, before: "Drawing") -> bool:
        """Is a part to be shown, after `before`?"""
        return title in self.shown or (
            (title in self.telling or title in before.telling)
            and self.parts[title].texts != before.parts[title].texts
        )

    def differs(self, before: "Drawing") -> bool:
        """Is there anything to see that was not before?"""
        return self.head != before.head or any(
            part.texts != before.parts[title].texts or any(line.here for line in part.lines)
            for title, part in self.parts.items()
            if self.tells(title, before)
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """What is drawn of a table; rows of equal `body` at adjacent addresses are drawn as one."""

    start: int  # arena offset, bytes
    end: int
    label: str
    body: str
    notes: tuple[str, ...] = ()
    here: bool = False


def draw(
    space: AddressSpace,
    *,
    where: Range | None = None,
    rules: Collection[str] = (),
    width: int = WIDTH,
) -> Drawing:
    """The VMAs and page tables of `space`, and details, as lines of at most `width` columns.

    What the signs mean is said by `fuzz.tell.signs`.  Cost is linear in VMAs, tables and leaves.
    Arguments: `where` real addresses that are pointed at, unless that is all of the arena; `rules`
    slugs of the broken ones, which say what has to be shown.
    """
    vmas, geometry = list(space.vmas), space.geometry
    if where == space.arena:
        where = None
    head = (
        f"{space.kernel.name} on {geometry.name}: {terms.count(len(vmas), 'VMA')}, "
        f"page tables {terms.size(space.tree.bytes_used())}"
    )
    spans = max(min(_span_width(geometry), width - _BESIDE_SPANS), 1)
    vma_title = f"{signs.VMAS:{spans}}  {'size':>9}  prot  {'pages':>7}  pgoff"
    parts: dict[str, Part] = {
        vma_title[:width]: Part(_vma_lines(space, vmas, where, spans), 12, "VMA line"),
        signs.TABLES: Part(_table_lines(space, where), 24, "table line"),
    }
    shown, telling = [*parts], []
    for detail in DETAILS:
        lines = [_detail_line(geometry, row, where, spans) for row in detail.rows(space)]
        parts[detail.title] = Part(lines, 16, "line")
        if not detail.rules.isdisjoint(rules):
            shown.append(detail.title)
        elif detail.matters(space):
            telling.append(detail.title)
    for part in parts.values():
        part.lines[:] = [_cut(line, width) for line in part.lines]
    return Drawing(_cut(Line(head), width).text, parts, shown, telling)


def draw_change(before: Drawing, after: Drawing, *, colour: bool = False) -> str:
    """The drawing `after`, its lines marked by how they differ from the drawing `before`."""
    marked: list[tuple[str, str]] = [
        (" " if before.head == after.head else signs.CHANGED, after.head)
    ]
    for title, new in after.parts.items():
        old = before.parts[title]
        if not after.tells(title, before):
            continue
        if old.lines or new.lines:
            marked += [(" ", title), *_elided(list(_changes(old.lines, new.lines)), new)]
        elif title in _DETAILS:
            marked.append((" ", f"{title}: none"))
    return "\n".join(
        _styled(f"{mark} {line}".rstrip(), _STYLES.get(mark), colour) for mark, line in marked
    )


def _changes(old: Sequence[Line], new: Sequence[Line]) -> Iterator[tuple[str, Line]]:
    """The lines of one part, each with its mark."""
    was, now = ([_key(line.text) for line in lines] for lines in (old, new))
    matcher = SequenceMatcher(None, was, now, autojunk=False)
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            for left, right in zip(old[old_from:old_to], new[new_from:new_to], strict=True):
                if left.text == right.text:
                    yield " ", right
                elif _has_place(right.text):
                    yield signs.CHANGED, right
                else:  # a counter
                    yield from ((signs.GONE, left), (signs.NEW, right))
        else:
            yield from ((signs.GONE, Line(line.text)) for line in old[old_from:old_to])
            yield from ((signs.NEW, line) for line in new[new_from:new_to])


def _vma_lines(
    space: AddressSpace, vmas: Sequence[Vma], where: Range | None, spans: int
) -> list[Line]:
    """One line a VMA: range, size, protection, pages present, pgoff and what is worth a word.

    Arguments: `spans` columns of the ranges.
    """
    geometry = space.geometry
    starts = [vma.start for vma in vmas]
    pages, markers = [0] * len(vmas), [0] * len(vmas)
    for address, level, entry in space.tree.leaves():
        number = bisect_right(starts, address) - 1
        if number < 0 or address >= vmas[number].end:
            continue
        if entry & PRESENT:
            pages[number] += geometry.span_bytes[level - 1] // geometry.page_bytes
        elif entry & MARKER:
            markers[number] += 1
    lines = []
    for number, vma in enumerate(vmas):
        notes = vma_notes(vma)
        if markers[number]:
            notes.append(terms.count(markers[number], signs.MARKER))
        text = (
            f"{terms.span(geometry, vma.range):{spans}}  "
            f"{terms.size(vma.end - vma.start):>9}  {terms.protection(vma.flags)}  "
            f"{pages[number]:>7}  {terms.page_offset(geometry, vma.backing, vma.pgoff)}  "
            f"{' '.join(notes)}"
        )
        lines.append(Line(text, _touches(where, vma.range)))
    return lines


def vma_notes(vma: Vma) -> list[str]:
    """What is worth a word about a VMA beside its range, protection and page offset."""
    if vma.is_anonymous:
        behind: str = signs.UNFAULTED if vma.anon_vma is None else signs.FAULTED
    elif vma.backing.name:
        behind = f"{signs.FILE} {vma.backing.name}"
    else:
        behind = f"{signs.OBJECT} {vma.backing.number}"
    return [behind, *(word for flag, word in _SHOWN_FLAGS if vma.flags & flag)]


def _detail_line(geometry: Geometry, row: Row, where: Range | None, spans: int) -> Line:
    """One line of a detail.  Arguments: see `_vma_lines`."""
    if row.where is None:
        return Line(row.text)
    place = f"{terms.span(geometry, row.where):{spans}}"
    return Line(f"{row.label}{place}  {row.text}", _touches(where, row.where))


def _table_lines(space: AddressSpace, where: Range | None) -> list[Line]:
    """One line for a table, a huge page or several that are alike."""
    address = _address_width(space.geometry)
    label = space.geometry.levels - 2 + len("PTE table x512")
    lines = []
    for run in _runs(_table_rows(space, where)):
        first = run[0]
        named = first.label + (f" x{len(run)}" if len(run) > 1 else "")
        text = f"{first.start:>#{address}x} {named:<{label}}  {first.body}"
        lines.append(Line(f"{text}  {', '.join(first.notes)}", first.here))
    return lines


def _table_rows(space: AddressSpace, where: Range | None) -> list[_Row]:
    """A row for every table below the root and every huge page, in order, parents first."""
    geometry = space.geometry

    def mapped(span: Range) -> bool:
        return space.vmas.intersection(span.start, span.end) is not None

    digits = len(str(max(geometry.index_mask) + 1))
    rows = []
    for base, table in space.tree.tables():
        span = Range(base, base + geometry.span_bytes[table.level])
        depth = geometry.levels - 1 - table.level
        if table.level < geometry.levels:
            notes: list[str] = []
            preallocated = geometry.prealloc_pmd_tables and table.level == PMD
            if not table.count:
                notes.append(signs.PREALLOCATED if preallocated else EMPTIED)
            if not mapped(span) and not preallocated:
                notes.append(NO_VMA)
            if table.deposited:
                notes.append(f"{table.deposited} {signs.IN_STORE}")
            total = geometry.index_mask[table.level] + 1
            cells = _bar(table, span, total, mapped)
            body = f"{table.count:>{digits}}/{total:<{digits}} |{cells}|"
            label = f"{' ' * depth}{terms.LEVELS[table.level]} table"
            start = max(base, space.arena.start) - space.arena.start
            here = table.level == PTE and _touches(where, span)
            rows.append(_Row(start, start + span.length, label, body, tuple(notes), here))
        if table.level >= PMD:
            rows += _huge_rows(space, base, table, " " * (depth + 1), mapped, where)
    # A huge page is met with its table, before the tables below; addresses put it among them.
    return sorted(rows, key=lambda row: (row.start, -row.end))


def _huge_rows(
    space: AddressSpace,
    base: int,
    table: Table,
    indent: str,
    mapped: _Mapped,
    where: Range | None,
) -> Iterator[_Row]:
    """A row for every leaf of a table above the PTE tables."""
    size = space.geometry.span_bytes[table.level - 1]
    for index, entry in table.leaves.items():
        label = indent + ("huge mark" if is_wp_marker(entry) else "huge page")
        span = Range(base + index * size, base + (index + 1) * size)
        start = span.start - space.arena.start
        notes = () if mapped(span) else (NO_VMA,)
        yield _Row(start, start + size, label, terms.size(size), notes, _touches(where, span))


def _bar(table: Table, span: Range, total: int, mapped: _Mapped) -> str:
    """The entries of a table as a row of cells."""
    cells = min(_BAR_CELLS, total)
    per_cell = total // cells
    used = [0] * cells
    for index in table.occupied():
        used[index // per_cell] += 1
    step = span.length // cells
    bar = ""
    for number, count in enumerate(used):
        start = span.start + number * step
        if count:
            bar += signs.FULL if count == per_cell else signs.SOME
        else:
            bar += signs.MAPPED if mapped(Range(start, start + step)) else signs.BLANK
    return bar


def _runs(rows: Sequence[_Row]) -> list[list[_Row]]:
    """The rows, equal ones at adjacent addresses together."""
    runs: list[list[_Row]] = []
    for row in rows:
        last = runs[-1][-1] if runs else None
        if last is not None and replace(last, start=last.end, end=row.end) == row:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _elided(marked: Sequence[tuple[str, Line]], part: Part) -> Iterator[tuple[str, str]]:
    """Marked lines of a part; if there are too many, what did not change is left out first.

    In place of what is left out stands how much it is; that tells of emptied tables and tables
    without a VMA, so that none is hidden.
    """
    count = len(marked)
    kept = set(range(count))
    if count > part.limit:
        # What matters most comes first; among equals what is nearest to either end.
        order = sorted(
            range(count),
            key=lambda n: (not marked[n][1].here, marked[n][0] == " ", min(n, count - 1 - n)),
        )
        kept = set(order[: part.limit - 1])
    hidden: list[Line] = []
    for number, (mark, line) in enumerate(marked):
        if number not in kept:
            hidden.append(line)
        if hidden and (number in kept or number == count - 1):
            yield " ", _left_out(hidden, part.what)
            hidden = []
        if number in kept:
            yield mark, str(line)


def _left_out(hidden: Sequence[Line], what: str) -> str:
    """A line in place of others."""
    notable = [
        f"{number} {note}"
        for note in (EMPTIED, NO_VMA)
        if (number := sum(note in line.text for line in hidden))
    ]
    return "  ".join([f"... {terms.count(len(hidden), what)} more", *notable])


def _touches(where: Range | None, span: Range) -> bool:
    """Is a place pointed at?"""
    return where is not None and where.overlaps(span)


def _address_width(geometry: Geometry) -> int:
    """Columns of the highest arena offset, with its 0x: the same for every drawing of an arena."""
    return len(f"{geometry.arena.length:#x}")


def _span_width(geometry: Geometry) -> int:
    """Columns of a range."""
    return 2 * _address_width(geometry) + len("[, )")


def _cut(line: Line, width: int) -> Line:
    """The line, if need be without its end; that it is pointed at stays."""
    text, room = line.text.rstrip(), width - (len(HERE) + 1) * line.here
    return Line(text if len(text) <= room else text[: room - 1] + "…", line.here)


def _has_place(line: str) -> bool:
    """Is a line about some addresses?"""
    return "[" in line or line.lstrip().startswith("0x")


def _key(line: str) -> str:
    """What identifies a line in two drawings: a range, a table's address and level, a counter."""
    if "[" in line:
        return line.partition(")")[0]
    return " ".join(line.split()[: 2 if _has_place(line) else 1])


def _styled(text: str, code: str | None, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour and code else text
