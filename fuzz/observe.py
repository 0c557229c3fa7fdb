"""What a program showed, in the format in which real kernels are recorded; and how two differ.

An observation is a plain dictionary that JSON can hold: results, page-table bytes after each call,
and at the end the VMAs and the pages, all as arena offsets.  States of pages: `P` private, `S`
shared, `Z` the zero page, `H` a page of a huge leaf, `T` a shared one, `z` the huge zero page, `G`
a marker, `W` a page that is swapped out.
"""

from collections.abc import Iterator, Mapping

from engine.entry import ANON, MARKER, PFN_SHIFT, SWAP
from engine.geometry import PTE
from engine.space import AddressSpace
from engine.table import Table
from engine.vma import VM_EXEC, VM_READ, VM_SHARED, VM_WRITE
from fuzz.case import Faults, Result
from fuzz.execute import Outcome
from fuzz.text import format_call

FIELDS = ("ret", "pt", "vmas", "pages", "pgtable_bytes", "rss_pages", "warn")  # what is compared

# Where the kernel has a WARN_ON; other rules are promises that it keeps without looking.
_KERNEL_WARNS = frozenset(("dest-entry-none", "rollback-dest-none"))
_RESIDENT = frozenset("PSHTA")
_STEP = 1 << PFN_SHIFT  # between entries of neighbouring frames

_Run = tuple[int, int, str, int]  # first page in the arena, pages, state, first tag


def observation(outcome: Outcome, id: str) -> dict[str, object]:
    """What a run showed, under the name `id`.

    The run must not have stopped at a violation, or the last calls are missing.
    """
    space = outcome.space
    runs = _page_runs(space)
    page_bytes = space.geometry.page_bytes
    return {
        "id": id,
        "ops": [format_call(call, page_bytes) for call in outcome.case.program().calls],
        "ret": [_plain(result) for result in outcome.results],
        "pt": list(outcome.page_tables),
        "vmas": _vmas(space),
        "pages": [list(run) for run in runs],
        "pgtable_bytes": outcome.page_tables[-1] if outcome.page_tables else 0,
        "rss_pages": sum(count for _, count, state, _ in runs if state in _RESIDENT),
        "warn": _warned(outcome),
    }


def differences(expected: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    """How `found` differs from `expected`, one line a field; empty if it does not.

    Both must be of the same program: its name and the spelling of its calls do not count.
    """
    lines = []
    for name in FIELDS:
        want, got = expected.get(name), found.get(name)
        if want == got:
            continue
        if isinstance(want, list) and isinstance(got, list):
            lines.append(f"{name}{_first_difference(want, got)}")
        else:
            lines.append(f"{name}: expected {_shown(want)}, found {_shown(got)}")
    return lines


def _first_difference(want: list[object], got: list[object]) -> str:
    pairs = zip(want, got, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(want), len(got)))
    expected, found = (_shown(side[at]) if at < len(side) else "nothing" for side in (want, got))
    return f"[{at}]: expected {expected}, found {found}"


def _shown(value: object) -> str:
    """Large integers in hex, as in the calls; everything else as Python prints it."""
    if isinstance(value, list):
        return f"[{', '.join(_shown(part) for part in value)}]"
    big = isinstance(value, int) and value >= 0x1000
    return f"{value:#x}" if big else repr(value)


def _plain(result: Result) -> object:
    if not isinstance(result, Faults):
        return result
    runs = {"segv": result.segv, "bus": result.bus}
    return {kind: [list(run) for run in found] for kind, found in runs.items() if found}


def _warned(outcome: Outcome) -> bool:
    """Did the kernel print a warning?  The PTE mover has one since 6.16 only."""
    page_bytes = outcome.space.geometry.page_bytes
    return any(
        violation.rule in _KERNEL_WARNS
        and (outcome.kernel.warn_pte_occupied or violation.where.length > page_bytes)
        for _, violation in outcome.violations
    )


def _vmas(space: AddressSpace) -> list[list[object]]:
    base, shift = space.arena.start, space.geometry.page_shift
    numbers: dict[object, int] = {}
    rows: list[list[object]] = []
    for vma in space.vmas:
        bits = ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x"))
        access = "".join(letter if vma.flags & bit else "-" for bit, letter in bits)
        kind = "s" if vma.flags & VM_SHARED else "p"
        row: list[object] = [vma.start - base, vma.end - base, access + kind]
        if vma.file is not None:
            row += [numbers.setdefault(vma.file, len(numbers)), vma.pgoff << shift]
        rows.append(row)
    return rows


def _page_runs(space: AddressSpace) -> list[_Run]:
    """The pages that have an entry, in address order, joined as far as state and tags go."""
    runs: list[_Run] = []
    pieces = [
        piece for base, table in space.tree.leaf_tables() for piece in _pieces(space, base, table)
    ]
    for page, count, state, tag in sorted(pieces):
        if runs:
            first, length, same, first_tag = runs[-1]
            goes_on = tag == first_tag + length if first_tag else tag == 0
            if first + length == page and same == state and goes_on:
                runs[-1] = (first, length + count, state, first_tag)
                continue
        runs.append((page, count, state, tag))
    return runs


def _pieces(space: AddressSpace, base: int, table: Table) -> Iterator[_Run]:
    """The leaves of one table, a run at a time where entries or tags count up."""
    geometry, tags = space.geometry, space.frames.tag
    first_page = (base - space.arena.start) >> geometry.page_shift
    pages_each = geometry.span_bytes[table.level - 1] >> geometry.page_shift
    leaves = sorted((i, e) for i, e in table.entries.items() if isinstance(e, int))
    if table.level > PTE:
        for index, entry in leaves:
            page, pfn = first_page + index * pages_each, entry >> PFN_SHIFT
            if pfn:
                state = "H" if entry & ANON else "T"
                yield from _tagged(page, state, tags[pfn : pfn + pages_each])
            else:
                yield page, pages_each, "z", 0
        return
    at = 0
    while at < len(leaves):
        index, entry = leaves[at]
        end = at + _alike(leaves, at, 0)
        if entry & MARKER or not entry >> PFN_SHIFT:
            yield first_page + index, end - at, "G" if entry & MARKER else "Z", 0
        else:
            end = at + _alike(leaves, at, _STEP)
            pfn = entry >> PFN_SHIFT
            state = "P" if entry & ANON else "W" if entry & SWAP else "S"
            yield from _tagged(first_page + index, state, tags[pfn : pfn + end - at])
        at = end


def _alike(leaves: list[tuple[int, int]], at: int, step: int) -> int:
    """How many leaves from `at` on are adjacent, each entry `step` more than the one before."""
    index, entry = leaves[at]
    rest = len(leaves) - at
    # Mostly a table is one run: that is seen without a loop over its pages.
    last_index, last_entry = leaves[-1]
    if last_index - index == rest - 1 and last_entry - entry == (rest - 1) * step:
        entries = range(entry, entry + rest * step, step) if step else [entry] * rest
        if leaves[at:] == list(zip(range(index, index + rest), entries, strict=True)):
            return rest
    count = 1
    while count < rest and leaves[at + count] == (index + count, entry + count * step):
        count += 1
    return count


def _tagged(page: int, state: str, tags: list[int]) -> Iterator[_Run]:
    """Adjacent pages in one state, split where their tags neither count up nor are all 0."""
    at = 0
    while at < len(tags):
        first, rest = tags[at], len(tags) - at
        step = 1 if first else 0
        if tags[-1] == first + (rest - 1) * step and (
            tags[at:] == list(range(first, first + rest)) if step else not any(tags[at:])
        ):
            count = rest
        else:
            count = 1
            while count < rest and tags[at + count] == first + count * step:
                count += 1
        yield page + at, count, state, first
        at += count
