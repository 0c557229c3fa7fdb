"""What a fault of an object maps besides the page that was asked for: its neighbours, its folio.

Source: mm/memory.c do_fault_around(), finish_fault(); mm/filemap.c filemap_map_pages().
"""

from engine.base.address import round_down
from engine.base.entry import ACCESSED, PRESENT, leaf
from engine.base.geometry import PTE
from engine.pages.cow import WRITTEN
from engine.pages.huge import map_shared_huge
from engine.pages.rmap import folio_of
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import VM_UFFD_MINOR, VM_UFFD_PROTECTED, VM_UFFD_WP, VM_WRITE, Vma

FAULT_AROUND = PRESENT | ACCESSED  # the entry of a neighbour


def fault_around(space: AddressSpace, vma: Vma, addr: int) -> None:
    """Map the neighbours of a page read that the object already has.

    Source: mm/memory.c do_fault_around(): an aligned window, cut to the VMA and the PTE table.
    """
    if vma.flags & (VM_UFFD_PROTECTED | VM_UFFD_MINOR) or not vma.backing.faults_around:
        return  # userfaultfd wants to be asked page by page
    geometry = space.geometry
    window = geometry.fault_around_pages
    if window == 1:
        return  # should_fault_around()
    index = addr >> geometry.page_shift & geometry.index_mask[PTE]
    in_vma = (addr - vma.start) >> geometry.page_shift
    vma_pages = (vma.end - vma.start) >> geometry.page_shift
    low = max(round_down(index, window), index - min(index, in_vma))
    high = min(low + window, geometry.slot_pages, index + vma_pages - in_vma)
    linear, pages = space.page_index(vma, addr), vma.backing.pages
    high = min(high, index + vma.backing.size_pages - linear)
    near = [(i, pages[linear + i - index]) for i in range(low, high) if linear + i - index in pages]
    if swapped := vma.backing.swapped:
        near = [(i, pfn) for i, pfn in near if linear + i - index not in swapped]
    if space.migrating:  # such pages are locked, which is not waited for here
        near = [(i, pfn) for i, pfn in near if pfn not in space.migrating]
    if near:
        first = addr + ((near[0][0] - index) << geometry.page_shift)
        if space.frames.large and map_shared_huge(space, vma, first, write=False):
            return  # filemap_map_pmd(): also if the page read is past the object
        table = space.tree.make(addr, PTE)
        if space.frames.large or space.frames.pieces:
            for i, _ in near:
                at = addr + ((i - index) << geometry.page_shift)
                map_whole_folio(space, vma, table, at, write=False, fill=True)
        near = [(i, pfn) for i, pfn in near if i not in table.leaves]
        fresh = [leaf(pfn, as_read(space, vma, pfn)) for _, pfn in near]
        space.tree.put_all(table, [i for i, _ in near], fresh)


def map_whole_folio(
    space: AddressSpace, vma: Vma, table: Table, addr: int, *, write: bool, fill: bool = False
) -> None:
    """Map all pages of a large folio if one of them was touched.

    Only inside one PTE table and one VMA; `fill`: also where some of its pages are mapped.
    Source: mm/memory.c finish_fault(), 6.11; mm/filemap.c filemap_map_folio_range(), 6.18.
    """
    frames = space.frames
    if vma.uffd is not None or not (frames.large or frames.pieces):
        return
    shift, all_pages = space.geometry.page_shift, space.geometry.slot_pages
    pfn = vma.backing.pages[space.page_index(vma, addr)]
    first, pages = frames.folio_at(pfn, all_pages)
    low = addr - (pfn - first << shift)
    index = space.tree.index(addr, PTE) - (pfn - first)
    if index < 0 or index + pages > all_pages or pages == 1:
        return
    if low < vma.start or low + (pages << shift) > vma.end:
        return
    absent = [i for i in range(pages) if index + i not in table.leaves]
    if not absent or not (fill or len(absent) == pages):
        return
    if space.kernel.faults_around_folio if fill else space.kernel.maps_whole_folio:
        flags = WRITTEN if write else as_read(space, vma, first)
        fresh = [leaf(first + i, flags) for i in absent]
        space.tree.put_all(table, [index + i for i in absent], fresh)


def as_read(space: AddressSpace, vma: Vma, pfn: int) -> int:
    """What the entry of a shared page says that is mapped for a read.

    The folio that MADV_COLLAPSE makes is dirty, and where writes need not be noticed its entries
    are, too.  Measured from 6.17.13 on, with the batches of mprotect; before, nobody can tell.
    Source: set_pte_range(), vma_wants_writenotify(), 7.2.
    """
    if not space.frames.large or vma.tracked or vma.makes_copies:
        return FAULT_AROUND
    if vma.flags & (VM_WRITE | VM_UFFD_WP) != VM_WRITE:
        return FAULT_AROUND
    return WRITTEN if len(folio_of(space, pfn)) > 1 else FAULT_AROUND
