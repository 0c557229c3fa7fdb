"""Page faults: what accessing memory brings into the page tables."""

from collections.abc import Iterable, Iterator, Sequence

from engine.address import Range, round_down
from engine.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    MARKER,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    WRITE,
    ZERO_ENTRY,
    is_zero_page,
    leaf,
)
from engine.geometry import PMD, PTE
from engine.huge import access_huge, map_shared_huge, prepare_anon_vma
from engine.space import STACK_LIMIT_BYTES, AddressSpace
from engine.table import Table
from engine.vma import STACK_GUARD_PAGES, VM_ACCESS, VM_GROWSDOWN, VM_HUGEPAGE, VM_WRITE, Vma

FAULT_AROUND_PAGES = 16  # fault_around_bytes, 64 KiB of 4 KiB pages

_ANON = PRESENT | WRITE | DIRTY | ACCESSED | SOFT_DIRTY | ANON
_SHARED = PRESENT | WRITE | DIRTY | ACCESSED | SOFT_DIRTY
_FAULT_AROUND = PRESENT | ACCESSED


class Faulted:
    """Pages that an access could not reach, as runs of (first address in bytes, pages)."""

    __slots__ = ("bus", "segv")

    def __init__(self) -> None:
        self.segv: list[tuple[int, int]] = []
        self.bus: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self.segv or self.bus)


def _note(runs: list[tuple[int, int]], start: int, pages: int, page_shift: int) -> None:
    """Append a run, joined to the last one if it follows it."""
    if runs and runs[-1][0] + (runs[-1][1] << page_shift) == start:
        runs[-1] = (runs[-1][0], runs[-1][1] + pages)
    else:
        runs.append((start, pages))


def touch(space: AddressSpace, start: int, end: int) -> Faulted:
    """Write a fresh tag into every page of [start, end), page aligned.

    Every page attempted takes a tag, also those that fault.
    Returns: the pages that could not be written.
    """
    tags = space.next_tag
    space.next_tag += (end - start) >> space.geometry.page_shift
    return _access(space, start, end, tags, write=True)


def peek(space: AddressSpace, start: int, end: int) -> Faulted:
    """Read every page of [start, end), page aligned.  Returns: those that could not be read."""
    return _access(space, start, end, 0, write=False)


def _access(space: AddressSpace, start: int, end: int, first_tag: int, *, write: bool) -> Faulted:
    faulted = Faulted()
    shift = space.geometry.page_shift
    needed = VM_WRITE if write else VM_ACCESS  # any access right implies reading here
    cursor = start
    for vma in [*_reachable(space, start, end), None]:
        if vma is not None and cursor < min(vma.start, end) and vma.flags & VM_GROWSDOWN:
            grow_down(space, vma, cursor, end)
        hole_end = end if vma is None else min(max(vma.start, start), end)
        if cursor < hole_end:
            _note(faulted.segv, cursor, (hole_end - cursor) >> shift, shift)
            cursor = hole_end
        if vma is None:
            break
        low, high = max(vma.start, start), min(vma.end, end)
        if low >= high:
            continue
        cursor = high
        if not vma.flags & needed:
            _note(faulted.segv, low, (high - low) >> shift, shift)
            continue
        tag = first_tag + ((low - start) >> shift) if first_tag else 0
        if vma.file is None:
            _access_anonymous(space, vma, low, high, tag, faulted, write=write)
        else:
            _access_shared(space, vma, low, high, tag, faulted, write=write)
    return faulted


def _reachable(space: AddressSpace, start: int, end: int) -> list[Vma]:
    """The VMAs of [start, end), and the one above it if that may grow down into it."""
    if start >= end:
        return []
    vmas = space.vmas.intersecting(start, end)
    above = space.vmas.after(end)
    if above is not None and above.flags & VM_GROWSDOWN:
        vmas.append(above)
    return vmas


def grow_down(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Let a stack grow down to the first page of [start, end) that it may grow to, if there is one.

    Not nearer than the guard gap to an accessible VMA below that is no stack itself, and not beyond
    RLIMIT_STACK.  Only the first is looked at before the stack gets its anon_vma.
    Source: mm/mmap.c expand_downwards(), acct_stack_growth().
    """
    shift = space.geometry.page_shift
    below = space.vmas.before(vma.start)
    lowest, top = start, min(vma.start, end)
    if below is not None:
        guarded = below.flags & VM_ACCESS and not below.flags & VM_GROWSDOWN
        lowest = max(lowest, below.end + (STACK_GUARD_PAGES << shift if guarded else 0))
    if lowest < top:
        prepare_anon_vma(space, vma)
    lowest = max(lowest, vma.end - STACK_LIMIT_BYTES, vma.start - (vma.pgoff << shift))
    if lowest < top:
        space.account(vma.flags, vma.start - lowest)
        space.vmas.resize(vma, lowest, vma.end)


def populate(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Make every page of [start, end) of a private VMA present, with fresh tags."""
    tag = space.next_tag
    space.next_tag += (end - start) >> space.geometry.page_shift
    _access_anonymous(space, vma, start, end, tag, Faulted(), write=True)


def populate_range(space: AddressSpace, vma: Vma, start: int, end: int, *, write: bool) -> bool:
    """Fault in [start, end) of one VMA without changing what pages hold.

    Returns: False if a page could not be had; those before it are present.
    Source: populate_vma_page_range(), faultin_page_range().
    """
    stop = _first_refused(space, vma, start, end)
    faulted = Faulted()
    if vma.file is None:
        _access_anonymous(space, vma, start, stop, 0, faulted, write=write)
    else:
        _access_shared(space, vma, start, stop, 0, faulted, write=write)
        if stop < end:
            space.tree.make(stop, PMD)
    assert not faulted
    return stop == end


def populate_locked(space: AddressSpace, vma: Vma, start: int, end: int) -> bool:
    """Fault in [start, end) of one VMA as mlock and MAP_POPULATE do: for writing where allowed.

    Returns: False if a page could not be had, as with memory that nobody may access.
    Source: __mm_populate().
    """
    if not vma.flags & VM_ACCESS:
        return False
    return populate_range(space, vma, start, end, write=bool(vma.flags & VM_WRITE))


def _first_refused(space: AddressSpace, vma: Vma, start: int, end: int) -> int:
    """The first page of [start, end) that is a guard or past the object, or `end`."""
    shift = space.geometry.page_shift
    if vma.file is not None:
        size_end = vma.start + ((vma.file.size_pages - vma.pgoff) << shift)
        end = max(min(end, size_end), start)
    for base, table, indices in space.tree.lowest(start, end):
        for index in indices:
            if table.entries[index] & MARKER:  # type: ignore[operator]
                return base + (index << shift)
    return end


def slots_of(space: AddressSpace, start: int, end: int) -> Iterator[tuple[int, int]]:
    """[start, end) cut at slot boundaries, bytes."""
    slot = space.geometry.slot_bytes
    while start < end:
        stop = min(round_down(start, slot) + slot, end)
        yield start, stop
        start = stop


def _new_pages(
    space: AddressSpace, vma: Vma, table: Table, start: int, end: int, tag: int
) -> list[int]:
    """Anonymous pages for absent and zero-page entries of [start, end), inside one slot.

    Arguments: `tag` what the page at `start` holds, counting up; 0: all hold zeroes.
    Returns: the indices in the table that had an entry of another kind.
    Source: mm/memory.c do_anonymous_page(), wp_page_copy().
    """
    frames, geometry, entries = space.frames, space.geometry, table.entries
    first = start >> geometry.page_shift & geometry.index_mask[PTE]
    count = (end - start) >> geometry.page_shift
    linear = space.page_index(vma, start)
    indices: Sequence[int] = range(first, first + count)
    others: list[int] = []
    if entries and not entries.keys().isdisjoint(indices):
        absent: list[int] = []
        for i in indices:
            entry = entries.get(i, ZERO_ENTRY)
            (absent if is_zero_page(entry) else others).append(i)  # type: ignore[arg-type]
        if not absent:
            return others
        indices, count = absent, len(absent)
        tags: Iterable[int] = [tag + i - first for i in absent] if tag else [0] * count
        pfn = frames.allocate(tags, [linear + i - first for i in absent], vma.anon_vma)
    else:
        tags = range(tag, tag + count) if tag else [0] * count
        pfn = frames.allocate(tags, range(linear, linear + count), vma.anon_vma)
    low, step = leaf(pfn, _ANON), 1 << PFN_SHIFT
    entries.update(zip(indices, range(low, low + count * step, step), strict=True))
    space.rss_anon += count
    return others


def _access_anonymous(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access private pages; a write of tag 0 leaves their contents alone."""
    if write and start < end:
        prepare_anon_vma(space, vma)
    for low, high in slots_of(space, start, end):
        huge = space.tree.huge or vma.flags & VM_HUGEPAGE
        if not (huge and access_huge(space, vma, low, high, tag, write=write)):
            table = space.tree.make(low, PTE)
            if write:
                _write_slot(space, vma, table, low, high, tag, faulted)
            else:
                _read_slot(space, table, low, high, faulted)
        if tag:
            tag += (high - low) >> space.geometry.page_shift


def _write_slot(
    space: AddressSpace, vma: Vma, table: Table, start: int, end: int, tag: int, faulted: Faulted
) -> None:
    """Write tags into the anonymous pages [start, end) of one slot."""
    shift, entries, tags = space.geometry.page_shift, table.entries, space.frames.tag
    first = start >> shift & space.geometry.index_mask[PTE]
    for index in _new_pages(space, vma, table, start, end, tag):
        entry = entries[index]
        if entry & MARKER:  # type: ignore[operator]
            _note(faulted.segv, start + (index - first << shift), 1, shift)
        elif tag:
            tags[entry >> PFN_SHIFT] = tag + index - first  # type: ignore[operator]


def _read_slot(space: AddressSpace, table: Table, start: int, end: int, faulted: Faulted) -> None:
    """Read the anonymous pages [start, end) of one slot: absent ones become the zero page."""
    shift = space.geometry.page_shift
    first = space.geometry.index_mask[PTE] & (start >> shift)
    entries = table.entries
    for offset in range((end - start) >> shift):
        entry = entries.setdefault(first + offset, ZERO_ENTRY)
        if entry & MARKER:  # type: ignore[operator]
            _note(faulted.segv, start + (offset << shift), 1, shift)


def _access_shared(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access pages of a shared object, making them as needed; beyond its size is SIGBUS.

    Source: mm/shmem.c shmem_fault(), mm/memory.c do_fault().
    """
    for low, high in slots_of(space, start, end):
        if space.tree.huge and map_shared_huge(space, vma, low):
            _tag_shared(space, vma, low, high, tag)
        else:
            _access_shared_slot(space, vma, low, high, tag, faulted, write=write)
        if tag:
            tag += (high - low) >> space.geometry.page_shift


def _tag_shared(space: AddressSpace, vma: Vma, start: int, end: int, tag: int) -> None:
    """Write tags into pages that a huge leaf maps."""
    assert vma.file is not None
    if tag:
        first = space.page_index(vma, start)
        for offset in range((end - start) >> space.geometry.page_shift):
            space.frames.tag[vma.file.pages[first + offset]] = tag + offset


def _access_shared_slot(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    assert vma.file is not None
    geometry, frames, pages = space.geometry, space.frames, vma.file.pages
    shift = geometry.page_shift
    table = space.tree.find(start, PTE)
    for addr in range(start, end, geometry.page_bytes):
        linear = space.page_index(vma, addr)
        index = addr >> shift & geometry.index_mask[PTE]
        entry = None if table is None else table.entries.get(index)
        if entry is None and linear >= vma.file.size_pages:
            # The levels above are there before the file is asked, the PTE table only afterwards.
            space.tree.make(addr, PMD)
            _note(faulted.bus, addr, 1, shift)
        elif entry is not None and entry & MARKER:  # type: ignore[operator]
            _note(faulted.segv, addr, 1, shift)
        else:
            if table is None:
                table = space.tree.make(addr, PTE)
            if entry is None and not write:
                _fault_around(space, vma, table, addr)
            if index not in table.entries:
                if linear not in pages:
                    pages[linear] = frames.allocate((0,), (linear,), vma.file)
                table.entries[index] = leaf(pages[linear], _SHARED if write else _FAULT_AROUND)
                space.rss_shmem += 1
            if tag:
                frames.tag[pages[linear]] = tag
        if tag:
            tag += 1


def _fault_around(space: AddressSpace, vma: Vma, table: Table, addr: int) -> None:
    """Map the neighbours of a page read that the object already has.

    Source: mm/memory.c do_fault_around(): an aligned window, cut to the VMA and the PTE table.
    """
    assert vma.file is not None
    geometry = space.geometry
    index = addr >> geometry.page_shift & geometry.index_mask[PTE]
    in_vma = (addr - vma.start) >> geometry.page_shift
    vma_pages = (vma.end - vma.start) >> geometry.page_shift
    low = max(round_down(index, FAULT_AROUND_PAGES), index - min(index, in_vma))
    high = min(low + FAULT_AROUND_PAGES, geometry.index_mask[PTE] + 1, index + vma_pages - in_vma)
    linear = space.page_index(vma, addr)
    for near in range(low, high):
        pfn = vma.file.pages.get(linear + near - index)
        if pfn is not None and near not in table.entries:
            table.entries[near] = leaf(pfn, _FAULT_AROUND)
            space.rss_shmem += 1


def access_range(space: AddressSpace, addr: int, length: int) -> Range:
    """The whole pages that an access of [addr, addr + length) concerns; none if `length` is 0."""
    page = space.geometry.page_bytes
    if not length:
        return Range(round_down(addr, page), round_down(addr, page))
    return Range(round_down(addr, page), round_down(addr + length + page - 1, page))
