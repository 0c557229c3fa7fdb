"""Accesses of other CPUs: what the tables say about a page, and what a TLB keeps of that."""

from engine.base.entry import ACCESSED, DIRTY, HUGE, PFN_SHIFT, PRESENT, UFFD_WP, WRITE
from engine.base.geometry import PTE
from engine.base.limits import CPUS
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.tlb import Translation
from engine.state.vma import VM_UFFD_RWP, VM_WRITE


def touch_on(space: AddressSpace, cpu: int, addr: int) -> None:
    """Another CPU reads the page at `addr`, or writes to it where that is allowed.

    The contents stay as they are, and a page that is not present is not cached: there is no fault.
    """
    found = translation(space, addr)
    if found is None:
        return
    table, index, kept = found
    gained = ACCESSED | (DIRTY if kept.writable else 0)
    space.tree.put(table, index, table.leaves[index] | gained)
    page = addr & -space.geometry.page_bytes
    space.tlb.cached[cpu % CPUS, page] = kept


def translation(space: AddressSpace, addr: int) -> tuple[Table, int, Translation] | None:
    """What the tables say about the page at `addr`: the entry's place, and the translation.

    Returns: None if there is no access.
    """
    vma, geometry = space.vmas.lookup(addr), space.geometry
    place = space.tree.leaf_place(addr)
    if vma is None or place is None or not vma.readable:
        return None
    table, index = place
    entry = table.leaves[index]
    if not entry & PRESENT or (entry & UFFD_WP and vma.flags & VM_UFFD_RWP):
        return None
    pfn = entry >> PFN_SHIFT
    if entry & HUGE and pfn:
        pfn += addr >> geometry.page_shift & geometry.index_mask[PTE]
    writable = bool(entry & WRITE and vma.flags & VM_WRITE)
    reach = geometry.span_bytes[table.level - 1]
    return table, index, Translation(pfn, writable, reach)
