"""Page faults: what accessing memory brings into the page tables.

One access may run through memory of all kinds, slot by slot, so they are all here: private and
shared, one page or many at once.  What it takes to have a huge page, a copy or a larger stack, and
what is mapped besides, is elsewhere.
"""

from collections.abc import Iterable, Iterator, Sequence

from engine.base.address import Range, round_down, round_up
from engine.base.entry import (
    MARKER,
    PFN_SHIFT,
    PRESENT,
    UFFD_WP,
    WRITE,
    ZERO_ENTRY,
    is_guard,
    is_wp_marker,
    is_zero_page,
)
from engine.base.geometry import PMD, PTE
from engine.base.points import HANDLE_MM_FAULT, MMAP_READ
from engine.base.uapi import UFFD_FEATURE_RWP_ASYNC, UFFD_FEATURE_SIGBUS, UFFD_FEATURE_WP_ASYNC
from engine.pages.cow import COPIED, DONE, end_rwp, make_present, written
from engine.pages.expand import grow_down
from engine.pages.faulted import Faulted, enter_new, note, slots_of
from engine.pages.huge import access_huge, covers_slot
from engine.pages.hugetlb import access_hugetlb
from engine.pages.object_fault import access_object, fault_past_object
from engine.pages.protect import change_entries
from engine.pages.rmap import prepare_anon_vma
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import (
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_LOCKONFAULT,
    VM_SHARED,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_RWP,
    VM_UFFD_WP,
    VM_WRITE,
    Vma,
)


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
    vma = space.vmas.lookup(start)
    if vma is not None and end <= vma.end:  # mostly there is nothing but this one
        if start < end:
            _access_vma(space, vma, start, end, first_tag, faulted, write=write)
        return faulted
    cursor = start
    for vma in [*_reachable(space, start, end), None]:
        if vma is not None and cursor < min(vma.start, end) and vma.flags & VM_GROWSDOWN:
            grow_down(space, vma, cursor, end)
        hole_end = end if vma is None else min(max(vma.start, start), end)
        if cursor < hole_end:
            note(faulted.segv, cursor, (hole_end - cursor) >> shift, shift)
            cursor = hole_end
        if vma is None:
            break
        low, high = max(vma.start, start), min(vma.end, end)
        if low < high:
            cursor = high
            tag = first_tag + ((low - start) >> shift) if first_tag else 0
            _access_vma(space, vma, low, high, tag, faulted, write=write)
    return faulted


def _access_vma(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access [start, end), which one VMA covers, if that allows it."""
    shift = space.geometry.page_shift
    if not (vma.flags & VM_WRITE if write else vma.readable):
        note(faulted.segv, start, (end - start) >> shift, shift)
        return
    if vma.uffd is not None and vma.uffd.features & UFFD_FEATURE_SIGBUS:
        first = start
        for low, high in _told_by_signal(space, vma, start, end, write=write):
            if start < low:
                part = tag + (start - first >> shift) if tag else 0
                _access_backed(space, vma, start, low, part, faulted, write=write)
            note(faulted.bus, low, (high - low) >> shift, shift)
            start = high
        tag += (start - first) >> shift if tag else 0
    if start < end:
        _access_backed(space, vma, start, end, tag, faulted, write=write)


def _access_backed(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access [start, end), which one VMA covers and allows."""
    end_rwp(space, vma, start, end)
    if vma.is_anonymous:
        _access_anonymous(space, vma, start, end, tag, faulted, write=write)
    else:
        access_object(space, vma, start, end, tag, faulted, write=write)


def _told_by_signal(
    space: AddressSpace, vma: Vma, start: int, end: int, *, write: bool
) -> list[tuple[int, int]]:
    """The parts of [start, end) that a userfaultfd with UFFD_FEATURE_SIGBUS is told of by SIGBUS.

    The access ends there, with the tables that it had come to; nobody answers it.
    Source: handle_userfault(); do_anonymous_page(), hugetlb_no_page(), shmem_get_folio_gfp().
    """
    page, parts = space.geometry.page_bytes, list[tuple[int, int]]()
    for addr in _told_pages(space, vma, start, end, write=write):
        if parts and parts[-1][1] == addr:
            parts[-1] = parts[-1][0], addr + page
        else:
            parts.append((addr, addr + page))
    return parts


def _told_pages(
    space: AddressSpace, vma: Vma, start: int, end: int, *, write: bool
) -> Iterator[int]:
    """The pages of which a userfaultfd is told, each with the tables that its fault has made."""
    for addr in range(start, end, space.geometry.page_bytes):
        place = space.tree.leaf_place(addr)
        entry = 0 if place is None else place[0].leaves[place[1]]
        if entry and not is_wp_marker(entry):
            told = bool(entry & UFFD_WP and _is_told(vma, write=write))
            if told and place is not None and not entry & PRESENT:
                make_present(space, vma, *place)
        elif vma.is_anonymous or vma.flags & (VM_HUGETLB | VM_SHARED) == VM_HUGETLB:
            told = bool(vma.flags & VM_UFFD_MISSING)
        else:
            there = space.page_index(vma, addr) in vma.backing.pages
            told = bool(vma.flags & (VM_UFFD_MINOR if there else VM_UFFD_MISSING))
        marked = bool(entry and is_wp_marker(entry) and vma.flags & VM_UFFD_WP)
        if marked and not told and _is_told(vma, write=write):
            _bring_in_protected(space, vma, addr)
            told = True
        if not told:
            continue
        if not entry:
            _tables_until_told(space, vma, addr, write=write)
        yield addr


def _is_told(vma: Vma, *, write: bool) -> bool:
    """Is somebody told of an access to a protected page, rather than the kernel letting it in?"""
    assert vma.uffd is not None
    features = vma.uffd.features
    if vma.flags & VM_UFFD_RWP:
        return not features & UFFD_FEATURE_RWP_ASYNC
    return bool(write and vma.flags & VM_UFFD_WP and not features & UFFD_FEATURE_WP_ASYNC)


def _bring_in_protected(space: AddressSpace, vma: Vma, addr: int) -> None:
    """A write brings a page in where a marker is; that it is write-protected is for the next try.

    Source: do_anonymous_page(), finish_fault().
    """
    if vma.flags & VM_HUGETLB:
        access_hugetlb(space, vma, addr, addr + space.geometry.page_bytes, 0)
        return
    if not vma.is_anonymous:
        end = addr + space.geometry.page_bytes
        access_object(space, vma, addr, end, 0, Faulted(), write=vma.makes_copies)
        if vma.makes_copies:
            change_entries(space, addr, end, _protect)
        return
    prepare_anon_vma(space, vma)
    table, index = space.tree.make(addr, PTE), space.tree.index(addr, PTE)
    linear, flags = space.page_index(vma, addr), COPIED & ~WRITE | UFFD_WP
    enter_new(space, table, [index], [linear], [0], vma.anon_vma, flags)


def _protect(entries: list[int]) -> list[int]:
    return [entry & ~WRITE | UFFD_WP for entry in entries]


def _tables_until_told(space: AddressSpace, vma: Vma, addr: int, *, write: bool) -> None:
    """What a fault has made when it finds that a page is missing."""
    huge = vma.flags & VM_HUGEPAGE and covers_slot(space, vma, addr)
    space.tree.make(addr, PTE if vma.is_anonymous and not huge else PMD)
    if vma.makes_copies and write:
        prepare_anon_vma(space, vma)


def _reachable(space: AddressSpace, start: int, end: int) -> list[Vma]:
    """The VMAs of [start, end), and the one above it if that may grow down into it."""
    if start >= end:
        return []
    vmas = space.vmas.intersecting(start, end)
    above = space.vmas.after(end)
    if above is not None and above.flags & VM_GROWSDOWN:
        vmas.append(above)
    return vmas


def populate(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Make every page of [start, end) of a private VMA present, with fresh tags."""
    tag = space.next_tag
    space.next_tag += (end - start) >> space.geometry.page_shift
    _access_anonymous(space, vma, start, end, tag, Faulted(), write=True)


def populate_range(
    space: AddressSpace, vma: Vma, start: int, end: int, *, write: bool, waits: bool = True
) -> bool:
    """Fault in [start, end) of one VMA without changing what pages hold.

    Arguments: `waits` false: nobody can wait for a userfaultfd (no FAULT_FLAG_ALLOW_RETRY).
    Returns: False if a page could not be had; those before it are present.
    Source: populate_vma_page_range(), faultin_page_range(), handle_userfault().
    """
    if vma.uffd is not None and (vma.uffd.features & UFFD_FEATURE_SIGBUS or not waits):
        told = next(_told_pages(space, vma, start, end, write=write), None)
        if told is not None:
            if start < told:
                populate_range(space, vma, start, told, write=write)
            return False
    end_rwp(space, vma, start, end)
    if vma.flags & VM_HUGETLB:
        return access_hugetlb(space, vma, start, end, 0, write=write) == end  # or the pool is empty
    stop = _first_refused(space, vma, start, end, write=write)
    faulted = Faulted()
    if vma.is_anonymous:
        _access_anonymous(space, vma, start, stop, 0, faulted, write=write)
    else:
        access_object(space, vma, start, stop, 0, faulted, write=write)
        if stop < end and (
            _first_refused(space, vma, stop, end, write=write) > stop  # in a huge page made now
            or (
                space.page_index(vma, stop) >= vma.backing.size_pages
                and fault_past_object(space, vma, stop, write=write)
            )
        ):
            return populate_range(space, vma, stop, end, write=write)
    assert not faulted, "what is refused is known"
    return stop == end


def populate_locked(
    space: AddressSpace, vma: Vma, start: int, end: int, *, waits: bool = True
) -> bool:
    """Fault in [start, end) of one VMA as mlock and MAP_POPULATE do; `waits` as populate_range.

    Private memory is written where that is allowed, to have the copies; shared memory only read.
    What is locked on fault only stays as it is; until 5.17 it was looked at all the same.
    Returns: False if a page could not be had, as with memory that the process may not read.
    Source: __mm_populate(), populate_vma_page_range(), b67bf49ce7aa (5.18), check_vma_flags(),
    arch_vma_access_permitted().
    """
    if not vma.readable:
        return bool(vma.flags & VM_LOCKONFAULT) and space.kernel.onfault_anywhere
    if vma.flags & VM_LOCKONFAULT:
        return True
    write = vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE
    return populate_range(space, vma, start, end, write=write, waits=waits)


def _first_refused(space: AddressSpace, vma: Vma, start: int, end: int, *, write: bool) -> int:
    """The first page of [start, end) that is a guard or past the object, or `end`."""
    shift = space.geometry.page_shift
    if not vma.is_anonymous:
        size_end = max(vma.start + ((vma.backing.size_pages - vma.pgoff) << shift), start)
        if space.tree.huge and size_end < vma.end and not (write and vma.makes_copies):
            parent = space.tree.find(size_end, PMD)
            if parent and space.tree.index(size_end, PMD) in parent.leaves:
                size_end = round_up(size_end, space.geometry.slot_bytes)  # a huge page goes on
        while size_end < end and _has_page_or_guard(space, size_end):
            size_end += space.geometry.page_bytes  # as do its pages where each has an entry
        end = max(min(end, size_end), start)
    for base, table, indices in space.tree.lowest(start, end):
        for index in indices:
            if is_guard(table.leaves[index]):
                return base + (index << shift)
    return end


def _has_page_or_guard(space: AddressSpace, addr: int) -> bool:
    """Is there an entry at `addr`, other than a mark for a page that is not there?"""
    table = space.tree.find(addr, PTE)
    entry = table.leaves.get(space.tree.index(addr, PTE)) if table is not None else None
    return entry is not None and (not entry & MARKER or is_guard(entry))


def _new_pages(
    space: AddressSpace, vma: Vma, table: Table, start: int, end: int, tag: int
) -> list[int]:
    """Anonymous pages for absent and zero-page entries of [start, end), inside one slot.

    Arguments: `tag` what the page at `start` holds, counting up; 0: all hold zeroes.
    Returns: the indices in the table that had an entry of another kind.
    Source: mm/memory.c do_anonymous_page(), wp_page_copy().
    """
    geometry, leaves = space.geometry, table.leaves
    first = start >> geometry.page_shift & geometry.index_mask[PTE]
    count = (end - start) >> geometry.page_shift
    linear = space.page_index(vma, start)
    indices: Sequence[int] = range(first, first + count)
    pages: Iterable[int] = range(linear, linear + count)
    tags: Iterable[int] = range(tag, tag + count) if tag else [0] * count
    others: list[int] = []
    if leaves and not leaves.keys().isdisjoint(indices):
        absent: list[int] = []
        for i in indices:
            entry = leaves.get(i, ZERO_ENTRY)
            (absent if is_zero_page(entry) or is_wp_marker(entry) else others).append(i)
        if not absent:
            return others
        indices, pages = absent, [linear + i - first for i in absent]
        tags = [tag + i - first for i in absent] if tag else [0] * len(absent)
    enter_new(space, table, indices, pages, tags, vma.anon_vma, COPIED)
    return others


def _access_anonymous(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access private pages; a write of tag 0 leaves their contents alone."""
    if write and start < end:
        prepare_anon_vma(space, vma)
    for low, high in slots_of(space, start, end):
        space.announce(HANDLE_MM_FAULT, low, high, MMAP_READ)
        huge = space.tree.huge or vma.flags & VM_HUGEPAGE
        if not (huge and access_huge(space, vma, low, high, tag, write=write)):
            table = space.tree.make(low, PTE)
            if write:
                _write_slot(space, vma, table, low, high, tag, faulted)
            else:
                _read_slot(space, vma, table, low, high, faulted)
        space.flush_tlb(low, high)  # a page may have been copied, or have replaced the zero page
        if tag:
            tag += (high - low) >> space.geometry.page_shift


def _write_slot(
    space: AddressSpace, vma: Vma, table: Table, start: int, end: int, tag: int, faulted: Faulted
) -> None:
    """Write tags into the anonymous pages [start, end) of one slot."""
    shift, leaves, tags = space.geometry.page_shift, table.leaves, space.frames.tag
    first = start >> shift & space.geometry.index_mask[PTE]
    for index in _new_pages(space, vma, table, start, end, tag):
        entry = leaves[index]
        if entry & DONE != DONE:
            if is_guard(entry):
                note(faulted.segv, start + (index - first << shift), 1, shift)
                continue
            entry = written(space, vma, table, index, marks=bool(tag))
        if tag:
            tags[entry >> PFN_SHIFT] = tag + index - first


def _read_slot(
    space: AddressSpace, vma: Vma, table: Table, start: int, end: int, faulted: Faulted
) -> None:
    """Read the anonymous pages [start, end) of one slot: absent ones become the zero page.

    With userfaultfd for missing pages it is the monitor that maps the zero page, and its ioctl
    prepares the anon_vma first: mm/userfaultfd.c mfill_atomic().
    """
    shift = space.geometry.page_shift
    first = space.geometry.index_mask[PTE] & (start >> shift)
    leaves, indices = table.leaves, range(first, first + ((end - start) >> shift))
    there = [index for index in indices if index in leaves]
    if len(there) < len(indices):
        if vma.flags & VM_UFFD_MISSING:
            prepare_anon_vma(space, vma)
        absent = [index for index in indices if index not in leaves]
        space.tree.put_all(table, absent, [ZERO_ENTRY] * len(absent))
    for index in there:
        entry = leaves[index]
        if not entry & PRESENT:
            if is_guard(entry):
                note(faulted.segv, start + ((index - first) << shift), 1, shift)
            elif is_wp_marker(entry):
                _read_marked(space, vma, table, index, start + ((index - first) << shift))
            else:
                make_present(space, vma, table, index)


def _read_marked(space: AddressSpace, vma: Vma, table: Table, index: int, addr: int) -> None:
    """Read a private page that is to be write-protected once it is there.

    A monitor of missing pages has to copy one with zeroes there: UFFDIO_ZEROPAGE wants no entry.
    Source: do_anonymous_page(); mfill_atomic_install_pte(), mfill_atomic_pte_zeropage().
    """
    if not vma.flags & VM_UFFD_MISSING:
        space.tree.put(table, index, ZERO_ENTRY | (UFFD_WP if vma.flags & VM_UFFD_WP else 0))
        return
    prepare_anon_vma(space, vma)
    flags = COPIED if vma.flags & VM_WRITE else COPIED & ~WRITE
    enter_new(space, table, [index], [space.page_index(vma, addr)], [0], vma.anon_vma, flags)


def access_range(space: AddressSpace, addr: int, length: int) -> Range:
    """The whole pages that an access of [addr, addr + length) concerns; none if `length` is 0."""
    page = space.geometry.page_bytes
    if not length:
        return Range(round_down(addr, page), round_down(addr, page))
    return Range(round_down(addr, page), round_down(addr + length + page - 1, page))
