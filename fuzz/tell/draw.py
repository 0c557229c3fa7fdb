"""An address space as text, for people.

`draw` lists the VMAs and the page tables that exist; `draw_change` marks what a call changed.
Cost and output follow what is there, never the size of the arena.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from engine.base.address import Range
from engine.base.entry import MARKER, PRESENT
from engine.base.geometry import PMD, PTE, Geometry
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import (
    VM_EXEC,
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_NOHUGEPAGE,
    VM_PKEY_BIT0,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    Vma,
)

LEVEL_NAMES = ("page", "PTE", "PMD", "PUD", "P4D", "PGD")  # by level of a table; 0 is no table
EMPTIED = "emptied"
NO_VMA = "no VMA"
HERE = "<=="

_VMA_LINES = 12  # longer lists lose their middle
_TABLE_LINES = 24
_BAR_CELLS = 16
_SHOWN_FLAGS = (
    (VM_LOCKED, "locked"),
    (VM_HUGEPAGE, "huge"),
    (VM_NOHUGEPAGE, "nohuge"),
    (VM_PKEY_BIT0, "pkey"),
)
_Mapped = Callable[[Range], bool]  # true if a VMA lies in the range (real addresses)
_STYLES = {"-": "31", "+": "32", "~": "33"}


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a drawing; lines of equal `body` at adjacent addresses are drawn as one."""

    start: int  # arena offset, bytes
    end: int
    label: str
    body: str
    notes: tuple[str, ...] = ()


def draw(space: AddressSpace, *, where: Range | None = None, width: int = 78) -> str:
    """The VMAs and page tables of `space`, as lines of at most `width` columns.

    A bar shows a table's entries from low to high addresses: `#` all of them used, `+` some, `.`
    none but a VMA lies there, blank neither.  Addresses are arena offsets.  `<==` points at the PTE
    tables of the slots that `where` (real addresses) touches.  Cost is linear in VMAs, tables and
    leaves.
    """
    vmas = list(space.vmas)
    tables = _table_lines(space, where)
    lines = [
        f"{space.kernel.name} on {space.geometry.name}: {_count(len(vmas), 'VMA')}, "
        f"page tables {readable_bytes(space.tree.bytes_used())}"
    ]
    if vmas:
        span = _address_width(space.geometry) * 2 + 1
        lines.append(f"{'VMAs':{span}}  {'size':>9}  prot  {'pages':>8}  pgoff")
        lines += _elided(_vma_lines(space, vmas), _VMA_LINES, "VMA")
    if tables:
        lines.append("tables")
        address = _address_width(space.geometry)
        label = space.geometry.levels - 2 + len("PTE table x512")
        shown = []
        for run in _runs(tables):
            first = run[0]
            times = f" x{len(run)}" if len(run) > 1 else ""
            notes = ", ".join(first.notes).replace(f", {HERE}", f" {HERE}")
            named = first.label + times
            shown.append(f"{first.start:>#{address}x} {named:<{label}}  {first.body}  {notes}")
        lines += _elided(shown, _TABLE_LINES, "table")
    return "\n".join(_cut(line, width) for line in lines)


def draw_change(before: str, after: str, *, colour: bool = False) -> str:
    """The drawing `after`, its lines marked by how they differ from the drawing `before`.

    `+` a new line, `-` a line that is gone, `~` the same VMA or table in another state.
    """
    old, new = before.splitlines(), after.splitlines()
    matcher = SequenceMatcher(None, [_key(x) for x in old], [_key(x) for x in new], autojunk=False)
    marked: list[tuple[str, str]] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            marked += [
                (" " if left == right else "~", right)
                for left, right in zip(old[old_from:old_to], new[new_from:new_to], strict=True)
            ]
        else:
            marked += [("-", line) for line in old[old_from:old_to]]
            marked += [("+", line) for line in new[new_from:new_to]]
    return "\n".join(
        _styled(f"{mark} {line}".rstrip(), _STYLES.get(mark), colour) for mark, line in marked
    )


def readable_bytes(value: int) -> str:
    """`value` bytes in the largest unit that leaves at least 1, with at most one decimal."""
    size, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size == int(size) else f"{size:.1f} {unit}"


def _vma_lines(space: AddressSpace, vmas: Sequence[Vma]) -> list[str]:
    """One line a VMA: range, size, protection, pages present, pgoff and what is worth a word."""
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
    width = _address_width(geometry)
    lines = []
    for number, vma in enumerate(vmas):
        notes = [word for flag, word in _SHOWN_FLAGS if vma.flags & flag]
        if markers[number]:
            notes.append(_count(markers[number], "marker"))
        if vma.is_anonymous:
            notes.insert(0, "unfaulted" if vma.anon_vma is None else "faulted")
        else:
            notes.insert(0, f"object {vma.backing.number}")
        where = f"{vma.start - space.arena.start:#x}-{vma.end - space.arena.start:#x}"
        lines.append(
            f"{where:{2 * width + 1}}  {readable_bytes(vma.end - vma.start):>9}  "
            f"{_protection(vma.flags)}  {pages[number]:>8}  {vma.pgoff:#x}  {' '.join(notes)}"
        )
    return lines


def _table_lines(space: AddressSpace, where: Range | None) -> list[_Line]:
    """Lines of every table below the root and every huge page, in address order, parents first."""
    geometry = space.geometry

    def mapped(span: Range) -> bool:
        return space.vmas.intersection(span.start, span.end) is not None

    digits = len(str(max(geometry.index_mask) + 1))
    lines = []
    for base, table in space.tree.tables():
        span = Range(base, base + geometry.span_bytes[table.level])
        depth = geometry.levels - 1 - table.level
        if table.level < geometry.levels:
            notes = []
            preallocated = geometry.prealloc_pmd_tables and table.level == PMD
            if not table.count:
                notes.append("preallocated" if preallocated else EMPTIED)
            if not mapped(span) and not preallocated:
                notes.append(NO_VMA)
            if where is not None and table.level == PTE and where.overlaps(span):
                notes.append(HERE)
            total = geometry.index_mask[table.level] + 1
            cells = _bar(table, span, total, mapped)
            body = f"{table.count:>{digits}}/{total:<{digits}} |{cells}|"
            label = f"{' ' * depth}{LEVEL_NAMES[table.level]} table"
            start = max(base, space.arena.start) - space.arena.start
            lines.append(_Line(start, start + span.length, label, body, tuple(notes)))
        if table.level >= PMD:
            lines += _huge_lines(space, base, table, depth + 1, mapped)
    # A huge page is met with its table, before the tables below; addresses put it among them.
    return sorted(lines, key=lambda line: (line.start, -line.end))


def _huge_lines(
    space: AddressSpace, base: int, table: Table, depth: int, mapped: _Mapped
) -> list[_Line]:
    """A line for every leaf of a table above the PTE tables."""
    size = space.geometry.span_bytes[table.level - 1]
    lines = []
    for index in table.leaves:
        address = base + index * size
        start = address - space.arena.start
        notes = () if mapped(Range(address, address + size)) else (NO_VMA,)
        label = f"{' ' * depth}huge page"
        lines.append(_Line(start, start + size, label, readable_bytes(size), notes))
    return lines


def _bar(table: Table, span: Range, total: int, mapped: _Mapped) -> str:
    """The entries of a table as a row of cells; see `draw`."""
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
            bar += "#" if count == per_cell else "+"
        else:
            bar += "." if mapped(Range(start, start + step)) else " "
    return bar


def _runs(lines: Sequence[_Line]) -> list[list[_Line]]:
    """The lines, equal ones at adjacent addresses together."""
    runs: list[list[_Line]] = []
    for line in lines:
        last = runs[-1][-1] if runs else None
        same = last is not None and (last.end, last.label, last.body, last.notes) == (
            line.start,
            line.label,
            line.body,
            line.notes,
        )
        if same:
            runs[-1].append(line)
        else:
            runs.append([line])
    return runs


def _elided(lines: list[str], limit: int, what: str) -> list[str]:
    """The lines, their middle replaced by a count if there are more than `limit`.

    The count tells of emptied tables and tables without a VMA, so that none is hidden.
    """
    if len(lines) <= limit:
        return lines
    head, tail = lines[: limit // 2], lines[-(limit - limit // 2 - 1) :]
    hidden = lines[len(head) : -len(tail)]
    notable = [
        f"{count} {note}" for note in (EMPTIED, NO_VMA) if (count := sum(note in x for x in hidden))
    ]
    lines_hidden = _count(len(hidden), f"{what} line")
    return [*head, "  ".join([f"... {lines_hidden} more", *notable]), *tail]


def _protection(flags: int) -> str:
    """Protection as /proc/PID/maps prints it."""
    bits = ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x"))
    access = "".join(letter if flags & bit else "-" for bit, letter in bits)
    return access + ("s" if flags & VM_SHARED else "p")


def _address_width(geometry: Geometry) -> int:
    """Columns of the highest arena offset, with its 0x: the same for every drawing of an arena."""
    return len(f"{geometry.arena.length:#x}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _cut(line: str, width: int) -> str:
    return line.rstrip() if len(line.rstrip()) <= width else line[: width - 1] + "…"


def _key(line: str) -> tuple[str, ...]:
    """What identifies a line in two drawings: its address or range, and the level of a table."""
    words = line.split()
    if len(words) > 1 and words[1] in (*LEVEL_NAMES, "huge"):
        return tuple(words[:2])
    return tuple(words[:1])


def _styled(text: str, code: str | None, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour and code else text
