"""hugetlb: huge pages from a pool, reserved when they are mapped; never split, never swapped.

A mapping of them is a mapping of a file that lives as long as it is mapped, private ones too.
Model: one size, that of a slot; PMD tables are not shared; the pages count as shared memory in the
rss.

A mapping that is not NORESERVE is promised its pages when it is made, and each page that is
faulted in turns a promise into a page:

    pool       free 8  reserved 4     mmap of 4: all of them still free
    touch one  free 7  reserved 3
    munmap     free 8  reserved 0     the page, and the reservations of the other three, come back

Who gives reservations back: for shared memory the file, when nothing maps it any more; for private
memory each VMA that owns them.
Source: mm/hugetlb.c, fs/hugetlbfs/inode.c, Linux 6.1 to 6.18.
"""

import itertools

from engine.base.address import round_down
from engine.base.entry import (
    ACCESSED,
    DIRTY,
    HUGE,
    HUGE_WP_MARKER,
    PFN_SHIFT,
    PRESENT,
    UFFD_WP,
    WRITE,
    is_wp_marker,
    leaf,
)
from engine.base.geometry import PMD
from engine.base.points import HANDLE_MM_FAULT, MMAP_READ
from engine.pages.protect import change_entries
from engine.state.hugepool import HugeFile, file_of
from engine.state.space import AddressSpace
from engine.state.vma import VM_NORESERVE, VM_SHARED, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE, Vma


def new_huge_file(space: AddressSpace, length: int) -> HugeFile:
    """A file for a mapping of `length` bytes, a multiple of the huge page size."""
    geometry = space.geometry
    slot, page = geometry.slot_bytes, geometry.page_bytes
    return HugeFile(space.new_number(), length // page, slot // page, page, space.pool)


def reserve(space: AddressSpace, vma: Vma) -> bool:
    """Promise a new mapping its pages.

    Returns: False if the pool has not enough.  Source: hugetlb_reserve_pages().
    """
    if vma.flags & VM_NORESERVE:
        return True
    file = file_of(vma)
    if not space.pool.reserve(file.huge_pages(vma)):
        return False
    if vma.flags & VM_SHARED:
        file.reserved = True
    else:
        vma.reserves = True
    return True


def drop_reservation(vma: Vma) -> None:
    """What pages have been moved away from no longer owns reservations: the copy does.

    The kernel does this to a whole VMA, also when only a part of it has moved: the reservations of
    the rest belong to nobody then, and are never given back.  Measured on 6.18.
    Source: clear_vma_resv_huge_pages() in move_vma().
    """
    vma.reserves = False


def abandon_copy(space: AddressSpace, copy: Vma) -> None:
    """A copy that could not be completed goes; its reservations are the source's.

    Until ee40c9920ac2 closing it gave them back, and the source did so once more (B-46).
    Source: copy_vma(), fixup_hugetlb_reservations().
    """
    if copy.reserves and not space.kernel.hugetlb_copy_keeps_reservation:
        space.pool.reserved -= file_of(copy).promised_to(copy)


def fail_copy(space: AddressSpace, source: Vma, copy: Vma) -> None:
    """A move to the copy has failed, which is about to go: its reservations are the source's.

    From 6.15 to 7.2 it was the source that owned none any more, neither of what was to move nor of
    the rest: the copy gave its own back when it was closed.
    Source: fixup_hugetlb_reservations() in copy_vma_and_data(), 7.2 and 7.3.
    """
    if copy.reserves and space.kernel.hugetlb_rollback_unreserves:
        space.pool.reserved -= file_of(copy).promised_to(copy)
        drop_reservation(source)


def access_hugetlb(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, *, write: bool = False
) -> int:
    """Access [start, end) of a mapping, page aligned, faulting huge pages in.

    Arguments: `tag` what the page at `start` is to hold, counting up; 0: contents stay, also if
    they are written to (`write`).
    Returns: the end of what could be accessed: the page there is not to be had, which is SIGBUS.
    Source: hugetlb_fault(), hugetlb_no_page().
    """
    shift, slot = space.geometry.page_shift, space.geometry.slot_bytes
    while start < end:
        base = round_down(start, slot)
        stop = min(base + slot, end)
        space.announce(HANDLE_MM_FAULT, start, stop, MMAP_READ)
        table, index = space.tree.make(start, PMD), space.tree.index(start, PMD)
        marked = is_wp_marker(table.leaves.get(index, 0))
        if marked or index not in table.leaves:
            pfn = _page(space, vma, base)
            if pfn is None:
                return start
            allowed = WRITE if vma.flags & VM_WRITE else 0
            # What a monitor of missing pages copies there is not protected.
            kept = UFFD_WP if marked and not vma.flags & VM_UFFD_MISSING else 0
            entry = leaf(pfn, PRESENT | ACCESSED | DIRTY | HUGE | (kept or allowed))
            space.tree.put(table, index, entry)
        mapped = table.leaves[index]
        if (tag or write) and not mapped & WRITE:  # for userfaultfd, whose monitor gives way
            space.tree.put(table, index, mapped & ~UFFD_WP)
            if not _end_sharing(space, vma, base):
                return start
            mapped = table.leaves[index] | WRITE
            space.tree.put(table, index, mapped)
        if tag:
            first, pages = (mapped >> PFN_SHIFT) + (start - base >> shift), stop - start >> shift
            space.frames.tag[first : first + pages] = range(tag, tag + pages)
            tag += pages
        start = stop
    return end


def _page(space: AddressSpace, vma: Vma, addr: int) -> int | None:
    """First frame of the huge page at `addr`, made if need be; None if there is none left.

    A shared file keeps its pages; those of private memory are known to their mapping only.
    """
    file, linear = file_of(vma), space.page_index(vma, addr)
    shared = bool(vma.flags & VM_SHARED)
    if shared and linear in file.pages:
        return file.pages[linear]
    number = linear // file.huge_page
    owner = file.reserved if shared else vma.reserves
    promised = owner and number not in file.faulted and number not in file.punched
    if not space.pool.take(promised=promised):
        return None
    if shared or owner:
        file.faulted.add(number)
    pfn = space.frames.allocate_large(file.huge_page, linear, file)
    space.frames.large.discard(pfn)  # it is never split
    if shared:
        file.pages.update((linear + i, pfn + i) for i in range(file.huge_page))
    return pfn


def _end_sharing(space: AddressSpace, vma: Vma, base: int) -> bool:
    """Make the huge page at `base` the process' own before it is written to, if a child maps it.

    The copy is no page that was promised.  If there is none, who owns reservations takes the page
    from its children.  Until 7.2 that looks for it at the address of the process that writes: where
    a move has changed that, it never ends.  Model: it does as in 7.3.
    Returns: False if there is no page for a copy.  Source: hugetlb_wp(), unmap_ref_private().
    """
    file, pool, frames = file_of(vma), space.pool, space.frames
    table, index = space.tree.find(base, PMD), space.tree.index(base, PMD)
    assert table is not None
    entry = table.leaves[index]
    pfn = entry >> PFN_SHIFT
    if pfn not in pool.lent:
        return True
    if not pool.take(promised=False):
        if vma.reserves:
            pool.lent.remove(pfn)
        return vma.reserves
    pool.put(pfn, promised=False)
    copy = frames.allocate_large(file.huge_page, frames.index[pfn], file)
    frames.large.discard(copy)
    frames.tag[copy : copy + file.huge_page] = frames.tag[pfn : pfn + file.huge_page]
    space.tree.put(table, index, leaf(copy, PRESENT | ACCESSED | DIRTY | HUGE))
    space.flush_tlb(base, base + file.huge_bytes)
    return True


def lend_hugetlb(space: AddressSpace, vma: Vma) -> None:
    """A child gets the mapping, without reservations: its pages, or its file, are there for both.

    Private pages are copied when they are written.
    Source: copy_hugetlb_page_range(), hugetlb_dup_vma_private().
    """
    file = file_of(vma)
    if vma.flags & VM_SHARED:
        space.pool.files.add(file)
        return

    def lend(entries: list[int]) -> list[int]:
        space.pool.lent.update(entry >> PFN_SHIFT for entry in entries if entry & PRESENT)
        return [entry & ~WRITE for entry in entries]

    change_entries(space, vma.start, vma.end, lend)


def punch_hugetlb(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """MADV_REMOVE: huge pages leave the file and all its mappings; a part of one is zeroed.

    Measured on 6.1.176, 6.12.43, 6.18.44 and 7.3.4.  Until 5.19 the parts stayed as they were.
    Source: hugetlbfs_punch_hole(), hugetlbfs_zero_partial_page().
    """
    file, shift = file_of(vma), space.geometry.page_shift
    low, high, huge = space.page_index(vma, start), space.page_index(vma, end), file.huge_page
    whole = range(-(-low // huge), max(high // huge, -(-low // huge)))
    parts = (range(low, min(high, whole.start * huge)), range(max(low, whole.stop * huge), high))
    for index in itertools.chain(*parts) if space.kernel.hugetlb_zeroes_parts else ():
        if index in file.pages:
            space.frames.tag[file.pages[index]] = 0
    for number in sorted(file.faulted.intersection(whole)):
        for other in space.vmas.mapping(file):
            at = other.start + ((number * huge - other.pgoff) << shift)
            if other.start <= at < other.end:
                _zap(space, other, at, at + file.huge_bytes)
        file.punch(number)


def discard_hugetlb(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """MADV_DONTNEED: whole huge pages go; those of private memory are reserved again since 6.9.

    Source: zap_page_range_single(), __unmap_hugepage_range(); measured on 6.1.176.
    """
    file, shared = file_of(vma), vma.flags & VM_SHARED
    end = round_down(end, file.huge_bytes)
    leaves = space.tree.leaves(start, end) if start < end else ()
    gone = {addr: entry >> PFN_SHIFT for addr, _, entry in leaves if entry & PRESENT}
    for addr, pfn in gone.items() if not shared else ():
        promised = vma.reserves and space.pool.reserves_again(pfn)
        space.pool.put(pfn, promised=promised)
        if promised:
            file.faulted.discard(space.page_index(vma, addr) // file.huge_page)
    if gone:
        _zap(space, vma, start, end)


def _zap(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Unmap the huge pages of [start, end), bytes, of a VMA; marks stay.

    Write-protected pages leave one, those that are kept from reads, too, do not.
    Source: __unmap_hugepage_range() without ZAP_FLAG_DROP_MARKER, userfaultfd_wp(), 7.3.
    """
    for _, table, (index,) in list(space.tree.lowest(start, end)):
        entry = table.leaves[index]
        if not entry & PRESENT:
            continue
        if entry & UFFD_WP and vma.flags & VM_UFFD_WP:
            space.tree.put(table, index, HUGE_WP_MARKER)
        else:
            space.tree.clear_huge(table, index)
    space.flush_tlb(start, end)
