"""Faults of an object: its pages are mapped, made if need be; a private mapping has copies of them.

Source: mm/memory.c do_fault(), wp_page_copy(), mm/shmem.c shmem_fault(), Linux 6.1 to 7.3.
"""

from engine.base.address import round_down
from engine.base.entry import (
    MARKER,
    PFN_SHIFT,
    PRESENT,
    UFFD_WP,
    WRITABLE,
    WRITE,
    ZERO_ENTRY,
    is_guard,
    is_wp_marker,
    is_zero_page,
    leaf,
)
from engine.base.geometry import PMD, PTE
from engine.base.points import HANDLE_MM_FAULT, MMAP_READ
from engine.pages.cow import COPIED, WRITTEN, make_present, make_writable, written
from engine.pages.fault_around import FAULT_AROUND, as_read, fault_around, map_whole_folio
from engine.pages.faulted import Faulted, enter_new, note, slots_of
from engine.pages.huge import map_shared_huge
from engine.pages.hugetlb import access_hugetlb
from engine.pages.rmap import prepare_anon_vma, settle_shared
from engine.pages.swapin import swap_in
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import (
    VM_HUGETLB,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    VM_WRITE,
    Vma,
)


def access_object(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access pages of an object, making them as needed; beyond its size is SIGBUS.

    Arguments: `tag` what the page at `start` gets, counting up; 0 changes no content.
    Returns: what could not be accessed is noted in `faulted`.
    """
    if vma.flags & VM_HUGETLB:
        shift, slot = space.geometry.page_shift, space.geometry.slot_bytes
        while (reached := access_hugetlb(space, vma, start, end, tag)) < end:
            behind = min(round_down(reached, slot) + slot, end)  # the next may be there
            note(faulted.bus, reached, (behind - reached) >> shift, shift)
            tag += (behind - start) >> shift if tag else 0
            start = behind
        return
    if space.migrating:
        settle_shared(space, vma, start, end)
    for low, high in slots_of(space, start, end):
        space.announce(HANDLE_MM_FAULT, low, high, MMAP_READ)
        if vma.makes_copies:
            _access_private_slot(space, vma, low, high, tag, faulted, write=write)
        elif space.frames.large and map_shared_huge(space, vma, low, write=write):
            _tag_shared(space, vma, low, high, tag)
        else:
            _access_shared_slot(space, vma, low, high, tag, faulted, write=write)
        if tag:
            tag += (high - low) >> space.geometry.page_shift


def _tag_shared(space: AddressSpace, vma: Vma, start: int, end: int, tag: int) -> None:
    """Write tags into pages that a huge leaf maps."""
    if tag:
        first = space.page_index(vma, start)
        for offset in range((end - start) >> space.geometry.page_shift):
            space.frames.tag[vma.backing.pages[first + offset]] = tag + offset


def _access_shared_slot(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access the shared pages [start, end) of one slot, which no huge leaf maps."""
    if _new_shared_pages(space, vma, start, end, tag, write=write):
        return
    shift, size, clean = space.geometry.page_shift, vma.backing.size_pages, vma.backing.clean
    pages, tags = vma.backing.pages, space.frames.tag
    needed = WRITABLE if write else PRESENT
    table = space.tree.find(start, PTE)
    first = start >> shift & space.geometry.index_mask[PTE]
    linear = space.page_index(vma, start)
    for offset in range((end - start) >> shift):
        index, addr = first + offset, start + (offset << shift)
        entry = None if table is None else table.leaves.get(index)
        if entry is None or entry & MARKER:
            if linear + offset >= size or (entry is not None and is_guard(entry)):
                _access_no_page(space, vma, addr, entry, faulted, write=write)
                table = space.tree.find(addr, PTE)
                continue
            if table is None:
                table = space.tree.make(addr, PTE)
            _fault_shared(space, vma, table, addr, write=write)
        elif entry & needed != needed:
            assert table is not None
            if write:
                make_writable(space, vma, table, index)
            else:
                make_present(space, vma, table, index)
        if write:
            clean.discard(linear + offset)
        if tag:
            tags[pages[linear + offset]] = tag + offset


def _access_private_slot(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, faulted: Faulted, *, write: bool
) -> None:
    """Access the pages [start, end) of one slot through a private mapping.

    A page that is only read is that of the object; the first write copies it, also one that the
    object has only now.
    Source: mm/memory.c do_cow_fault(), do_wp_page(); wp_huge_pmd(), which splits what is huge.
    """
    shift, size = space.geometry.page_shift, vma.backing.size_pages
    if space.frames.large:
        if not write and map_shared_huge(space, vma, start, write=False):
            return
        if write:
            space.split_huge_leaf(start)
    table = space.tree.find(start, PTE)
    first = start >> shift & space.geometry.index_mask[PTE]
    linear = space.page_index(vma, start)
    for offset in range((end - start) >> shift):
        index, addr = first + offset, start + (offset << shift)
        entry = None if table is None else table.leaves.get(index)
        if entry is None or entry & MARKER:
            if linear + offset >= size or (entry is not None and is_guard(entry)):
                _access_no_page(space, vma, addr, entry, faulted, write=write)
                table = space.tree.find(addr, PTE)
                continue
            if write:
                prepare_anon_vma(space, vma)
            table = table or space.tree.make(addr, PTE)
            if vma.flags & VM_UFFD_MISSING and _answered(space, vma, table, addr, write=write):
                entry = table.leaves[index]
            elif not write:
                _fault_shared(space, vma, table, addr, write=False)
                continue
            else:
                entry = _fault_copy(space, vma, table, addr)
        elif write:
            assert table is not None
            if is_zero_page(entry):  # from a monitor
                _enter_copy(space, vma, table, addr, 0, COPIED)
            entry = written(space, vma, table, index, marks=bool(tag))
        elif not entry & PRESENT:
            assert table is not None
            make_present(space, vma, table, index)
        if tag:
            space.frames.tag[entry >> PFN_SHIFT] = tag + offset
    space.flush_tlb(start, end)


def _access_no_page(
    space: AddressSpace, vma: Vma, addr: int, entry: int | None, faulted: Faulted, *, write: bool
) -> None:
    """Access the page at `addr`, bytes, where a guard is, or which lies past the end of the object.

    Arguments: `entry` what is there, none or a marker.
    Returns: what could not be accessed is noted in `faulted`.
    """
    shift = space.geometry.page_shift
    if entry is not None and is_guard(entry):
        note(faulted.segv, addr, 1, shift)
    elif not fault_past_object(space, vma, addr, write=write):
        note(faulted.bus, addr, 1, shift)


def _fault_copy(space: AddressSpace, vma: Vma, table: Table, addr: int) -> int:
    """Copy a page that has no entry yet, or only a mark; the object has it from now on.

    Returns: the entry.  Source: do_cow_fault(), set_pte_range().
    """
    frame = _page_of(space, vma, space.page_index(vma, addr))
    return _enter_copy(space, vma, table, addr, space.frames.tag[frame], COPIED)


def _enter_copy(
    space: AddressSpace, vma: Vma, table: Table, addr: int, tag: int, flags: int
) -> int:
    """Map a private page that holds a tag.  Returns: its entry."""
    index, linear = space.tree.index(addr, PTE), space.page_index(vma, addr)
    enter_new(space, table, [index], [linear], [tag], vma.anon_vma, flags)
    return table.leaves[index]


def _answered(space: AddressSpace, vma: Vma, table: Table, addr: int, *, write: bool) -> bool:
    """Has a monitor put a page of zeroes into a private mapping, where its file has no page?

    The file gets none then.  Where a mark is, it has to be a copy of such a page.
    Source: mfill_atomic_pte_zeropage(), mfill_atomic_pte_copy(), mfill_atomic_pte() of 6.1.
    """
    index = space.tree.index(addr, PTE)
    if not write:
        fault_around(space, vma, addr)
    if space.page_index(vma, addr) in vma.backing.pages:
        return False
    prepare_anon_vma(space, vma)
    if write or index in table.leaves:
        _enter_copy(space, vma, table, addr, 0, COPIED if vma.flags & VM_WRITE else COPIED & ~WRITE)
    else:
        space.tree.put(table, index, ZERO_ENTRY)
    return True


def _page_of(space: AddressSpace, vma: Vma, linear: int) -> int:
    """The frame of a page of the object of a VMA, which comes from swap or is made.

    Source: shmem_get_folio().
    """
    backing = vma.backing
    swap_in(space, backing, linear, alone=vma.uffd is not None)
    if linear not in backing.pages:
        backing.pages[linear] = space.frames.allocate((0,), (linear,), backing)
        backing.clean.add(linear)
    return backing.pages[linear]


def _new_shared_pages(
    space: AddressSpace, vma: Vma, start: int, end: int, tag: int, *, write: bool
) -> bool:
    """Access pages of one slot at once, if they are new: none has an entry, the object has none.

    Nor any so near that faulting around would map it.
    Returns: False if that is not so, and nothing was done.
    """
    geometry, backing, table = space.geometry, vma.backing, space.tree.find(start, PTE)
    first = start >> geometry.page_shift & geometry.index_mask[PTE]
    linear = space.page_index(vma, start)
    count = (end - start) >> geometry.page_shift
    indices, pages = range(first, first + count), range(linear, linear + count)
    if pages.stop > backing.size_pages:
        return False
    if table is not None and not table.leaves.keys().isdisjoint(indices):
        return False
    window = geometry.fault_around_pages
    near = range(linear - first % window, pages.stop + -indices.stop % window)
    if backing.pages and not backing.pages.keys().isdisjoint(near):
        return False
    table = table or space.tree.make(start, PTE)
    asked = vma.flags & VM_UFFD_MISSING
    flags = WRITTEN if write else _of_monitor(vma) if asked else FAULT_AROUND
    tags = range(tag, tag + count) if tag else [0] * count
    pfn = enter_new(space, table, indices, pages, tags, backing, flags)
    backing.pages.update(zip(pages, range(pfn, pfn + count), strict=True))
    if not write and not asked:
        backing.clean.update(pages)
    return True


def _fault_shared(space: AddressSpace, vma: Vma, table: Table, addr: int, *, write: bool) -> None:
    """Map a page of a shared object that has no entry, or only a mark that it is to be protected.

    A monitor that is asked for the page maps it as it wants: dirty, and not protected.
    Source: mm/memory.c do_read_fault(), do_shared_fault(), finish_fault(); mm/userfaultfd.c
    mfill_atomic_install_pte().
    """
    pages, leaves = vma.backing.pages, table.leaves
    index, linear = space.tree.index(addr, PTE), space.page_index(vma, addr)
    marked = index in leaves
    asked = vma.flags & (VM_UFFD_MINOR if linear in pages else VM_UFFD_MISSING)
    if not write:
        fault_around(space, vma, addr)
    swap_in(space, vma.backing, linear, alone=vma.uffd is not None)
    if linear in pages and index not in leaves:
        map_whole_folio(space, vma, table, addr, write=write)
    if marked or index not in leaves:
        _page_of(space, vma, linear)
        flags = _of_monitor(vma) if asked else as_read(space, vma, pages[linear])
        flags = WRITTEN if write else flags
        if asked:
            vma.backing.clean.discard(linear)
        elif marked and not write and vma.flags & VM_UFFD_WP:
            flags |= UFFD_WP
        space.tree.put(table, index, leaf(pages[linear], flags))


def _of_monitor(vma: Vma) -> int:
    """What the entry of a shared page says that a monitor has mapped.

    Measured on 7.3.4: it is soft-dirty, though it was only read.
    """
    return WRITTEN if vma.flags & VM_WRITE and not vma.makes_copies else WRITTEN & ~WRITE


def fault_past_object(space: AddressSpace, vma: Vma, addr: int, *, write: bool) -> bool:
    """A fault past the end of an object: what it leaves behind, though it mostly is refused.

    A write to private memory has prepared for the copy.  A mark that nobody waits for any more has
    gone first (pte_marker_clear).

    The levels above are there before the file is asked, the PTE table only afterwards, or if a read
    maps neighbours: faulting around comes first.  If a neighbour's large folio reaches to the page,
    that maps it, and the file is not asked.
    Returns: True if the page is there now.
    Source: mm/memory.c do_read_fault(); mm/filemap.c filemap_map_pages(): beyond the size of shmem
    a folio goes on as a huge page, by 6.18 also page by page.
    """
    space.tree.make(addr, PMD)
    marked = None if vma.flags & VM_UFFD_WP else space.tree.leaf_place(addr)
    if marked is not None and is_wp_marker(marked[0].leaves[marked[1]]):
        space.tree.take_all(marked[0], [marked[1]])
    if write:
        if vma.makes_copies:
            space.split_huge_leaf(addr)
            prepare_anon_vma(space, vma)
        return False
    fault_around(space, vma, addr)
    place = space.tree.leaf_place(addr)
    return place is not None and place[0].leaves[place[1]] & PRESENT != 0
