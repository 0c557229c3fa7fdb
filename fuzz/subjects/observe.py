"""What a program showed, in the format in which real kernels are recorded; and how two differ.

An observation is a plain dictionary that JSON can hold: results, page-table bytes after each call,
and at the end the VMAs and the pages, all as arena offsets.  States of pages: `P` private, `S`
shared, `Z` the zero page, `H` a page of a huge leaf, `T` a shared one, `z` the huge zero page, `G`
a guard, `W` a page that is swapped out, or a mark for later: machines cannot tell these apart, and
nobody looks at what is in swap.
"""

from engine.base.entry import ANON, MARKER, PFN_SHIFT, PRESENT, SWAP, WP_MARKER
from engine.base.geometry import PTE
from engine.state import terms
from engine.state.hugepool import HugeFile
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import VM_EXEC, VM_READ, VM_SHARED, VM_WRITE
from fuzz.case import Faults, Result
from fuzz.execute import Outcome
from fuzz.forms.text import format_call
from fuzz.subjects import extended

FIELDS = ("ret", "pt", "vmas", "pages", "pgtable_bytes", "rss_pages", "warn")  # what is compared
# What only some subjects have; compared where both have it.  `contents` is of those that do not say
# which pages are there: first page, how many, the first tag, of the pages that are not all zero.
OPTIONAL = (*extended.OPTIONAL, "contents")

# Where the kernel has a WARN_ON; other rules are promises that it keeps without looking.
_KERNEL_WARNS = frozenset(("dest-entry-none", "rollback-dest-none"))
_RESIDENT = frozenset("PSHTA")
_STEP = 1 << PFN_SHIFT  # between entries of neighbouring frames
_SHOWN = VM_READ | VM_WRITE | VM_EXEC | VM_SHARED  # the lowest bits
_PROTECTION = tuple(map(terms.protection, range(_SHOWN + 1)))

_Run = tuple[int, int, str, int]  # first page in the arena, pages, state, first tag


def observation(outcome: Outcome, id: str) -> dict[str, object]:
    """What a run showed, under the name `id`.

    The run must not have stopped at a violation, or the last calls are missing.
    """
    page_bytes = outcome.space.geometry.page_bytes
    ops = [format_call(call, page_bytes) for call in outcome.case.program().calls]
    return {"id": id, "ops": ops, **compared(outcome, more=True)}


def compared(outcome: Outcome, *, more: bool) -> dict[str, object]:
    """The part of an observation that is compared: `FIELDS`; `crash` if a call did not return.

    Arguments: `more` the optional fields, too, as far as the model has them.
    """
    if (ending := outcome.ending) is not None:
        return {"crash": f"the model fails: {ending.rule}, {ending.found}"}
    space = outcome.space
    runs = _page_runs(space)
    at_first = space.geometry.bytes_at_first
    tables = [after - at_first for after in outcome.page_tables]
    astray = any(not state for _, _, state, _ in runs)
    runs = [run for run in runs if run[2]] if astray else runs
    found = {
        "ret": [_plain(result) for result in outcome.results],
        "pt": tables,
        "vmas": _vmas(space),
        "pages": [list(run) for run in runs],
        "pgtable_bytes": tables[-1] if tables else 0,
        "rss_pages": sum(count for _, count, state, _ in runs if state in _RESIDENT),
        "warn": _warned(outcome),
        **(extended.extended(space) if more else {}),
    }
    if astray and (left := _left(space)):
        found["left"] = left
    return found


def _left(space: AddressSpace) -> int:
    """Bytes of page tables that stay when all is unmapped, which is done here: the program is over.

    They lie above pages that are outside of every VMA.
    """
    space.unmap(space.arena.start, space.arena.end)
    return space.tree.bytes_used() - space.geometry.bytes_at_first


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
        row: list[object] = [vma.start - base, vma.end - base, _PROTECTION[vma.flags & _SHOWN]]
        if vma.flags & VM_SHARED or vma.copies_object:
            row += [numbers.setdefault(vma.backing.inode, len(numbers)), vma.pgoff << shift]
        rows.append(row)
    return rows


def _page_runs(space: AddressSpace) -> list[_Run]:
    """The pages that have an entry, in address order, joined as far as state and tags go."""
    pieces: list[_Run] = []
    for base, table in space.tree.leaf_tables():
        first_page = (base - space.arena.start) >> space.geometry.page_shift
        if table.level > PTE:
            _add_huge(pieces, space, first_page, table)
        else:
            _add_small(pieces, space.frames.tag, first_page, table)
    pieces.sort()
    runs: list[_Run] = []
    end, state, tag = -1, "", 0  # what would go on with the last run
    for piece in pieces:
        page, count, same, first_tag = piece
        if page == end and same == state and first_tag == tag:
            first, length, _, its_tag = runs[-1]
            runs[-1] = (first, length + count, state, its_tag)
        else:
            runs.append(piece)
        end, state, tag = page + count, same, first_tag + count if first_tag else 0
    return runs


def _add_huge(pieces: list[_Run], space: AddressSpace, first_page: int, table: Table) -> None:
    """Add the huge leaves of a PMD table that begins at page `first_page`."""
    pages_each = space.geometry.slot_pages
    for index, entry in table.leaves.items():
        page, pfn = first_page + index * pages_each, entry >> PFN_SHIFT
        if pfn:
            state = "H" if entry & ANON else _shared_state(space, page, pfn)
            _add_tagged(pieces, page, state, space.frames.tag[pfn : pfn + pages_each])
        elif entry & PRESENT:  # machines do not tell of the marks of hugetlb
            pieces.append((page, pages_each, "z", 0))


def _shared_state(space: AddressSpace, page: int, pfn: int) -> str:
    """The state of a huge leaf of an object: private memory of hugetlb is private, files are not.

    Kernels have lost huge pages of hugetlb in the VMAs of others, and outside of every VMA, where
    nobody looks: then it is "".
    """
    vma = space.vmas.lookup(space.arena.start + (page << space.geometry.page_shift))
    if vma is None:
        return ""
    owner = space.frames.owner[pfn]
    shared = vma.flags & VM_SHARED or vma.copies_object
    if isinstance(owner, HugeFile) and vma.backing is not owner:
        shared = owner.pages.get(space.frames.index[pfn]) == pfn
    return "T" if shared else "H"


def _add_small(pieces: list[_Run], tags: list[int], first_page: int, table: Table) -> None:
    """Add the leaves of a PTE table, a run at a time where entries are equal or frames count up."""
    indices = sorted(table.leaves)
    leaves = [table.leaves[index] for index in indices]
    at = 0
    while at < len(leaves):
        page, entry = first_page + indices[at], leaves[at]
        pfn = entry >> PFN_SHIFT
        if entry & MARKER or not pfn:
            count = _alike(indices, leaves, at, 0)
            state = "Z" if not entry & MARKER else "W" if entry & WP_MARKER == WP_MARKER else "G"
            pieces.append((page, count, state, 0))
        elif entry & SWAP:
            count = _alike(indices, leaves, at, _STEP)
            pieces.append((page, count, "W", 0))
        else:
            count = _alike(indices, leaves, at, _STEP)
            _add_tagged(pieces, page, "P" if entry & ANON else "S", tags[pfn : pfn + count])
        at += count


def _alike(indices: list[int], leaves: list[int], at: int, step: int) -> int:
    """How many leaves from `at` on are adjacent, each entry `step` more than the one before."""
    index, entry = indices[at], leaves[at]
    rest = len(leaves) - at
    # Mostly a table is one run: that is seen without a loop over its pages.
    if indices[-1] - index == rest - 1 and leaves[-1] - entry == (rest - 1) * step:
        if rest <= 2:
            return rest
        run = list(range(entry, entry + rest * step, step)) if step else [entry] * rest
        if (leaves[at:] if at else leaves) == run:
            return rest
    count = 1
    while (
        count < rest
        and indices[at + count] == index + count
        and leaves[at + count] == entry + count * step
    ):
        count += 1
    return count


def _add_tagged(pieces: list[_Run], page: int, state: str, tags: list[int]) -> None:
    """Add adjacent pages in one state, split where their tags neither count up nor are all 0."""
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
        pieces.append((page + at, count, state, first))
        at += count
