"""MADV_COLLAPSE: make huge pages out of what is mapped, slot by slot.

Source: mm/khugepaged.c madvise_collapse(), hpage_collapse_scan_pmd(), collapse_file(), 6.1 to 7.3.
"""

from typing import NamedTuple

from engine.base.address import round_down, round_up
from engine.base.entry import (
    ANON,
    MARKER,
    PFN_SHIFT,
    PRESENT,
    SWAP,
    UFFD_WP,
    WRITE,
    is_guard,
    is_zero_page,
    leaf,
)
from engine.base.geometry import PMD, PTE
from engine.base.kernel import Kernel
from engine.base.points import (
    ALLOC_CHARGE_FOLIO,
    ANON_VMA,
    COLLAPSE_FILE,
    COLLAPSE_HUGE_PAGE,
    I_MMAP,
    MMAP_WRITE,
    NONE,
    RETRACT_PAGE_TABLES,
)
from engine.base.uapi import Errno
from engine.pages.cow import make_present
from engine.pages.huge import HUGE_ANON, covers_slot, map_shared_huge
from engine.pages.rmap import mappings_of, settle_object, settle_shared, unmap_object
from engine.pages.swapin import swap_in
from engine.state.backing import Backing
from engine.state.space import AddressSpace
from engine.state.table import Table
from engine.state.vma import (
    VM_HUGETLB,
    VM_NOHUGEPAGE,
    VM_SPECIAL,
    VM_UFFD,
    VM_UFFD_MISSING,
    VM_UFFD_PROTECTED,
    VM_WRITE,
    Vma,
)


def collapse(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """Collapse every whole slot of [start, end), bytes, in one VMA.

    Returns: None if every slot is huge afterwards, else what the last one failed by: EINVAL, EBUSY
    for a hole that a userfaultfd watches, EAGAIN.  A slot that cannot be collapsed for good ends
    the call, and until 6.18 one without a PMD entry does; others are passed over.
    Source: madvise_collapse_errno().
    """
    slot = space.geometry.slot_bytes
    if vma.is_anonymous and vma.anon_vma is None:
        return Errno.EINVAL
    if vma.flags & VM_NOHUGEPAGE or round_up(vma.start, slot) >= round_down(vma.end, slot):
        return Errno.EINVAL
    shift, pages = space.geometry.page_shift, space.geometry.slot_pages
    if not vma.is_anonymous and (vma.pgoff - (vma.start >> shift)) % pages:
        return Errno.EINVAL
    first, last = round_up(start, slot), round_down(end, slot)
    if first > last and not space.kernel.collapse_of_no_slot:
        return Errno.EINVAL
    collapse_slot = _collapse_anonymous if vma.is_anonymous else _collapse_shared
    last_fail: Errno | None = None
    for addr in range(first, last, slot):
        failed = collapse_slot(space, vma, addr)
        if failed is not None:
            last_fail = failed.error
            if failed.ends:
                break
    return last_fail


class _Failed(NamedTuple):
    """Why a slot was not collapsed; whether it `ends` the call."""

    error: Errno
    ends: bool


_PASSED = _Failed(Errno.EINVAL, ends=False)
_REFUSED = _Failed(Errno.EINVAL, ends=True)
_NOT_ON_LRU = _Failed(Errno.EAGAIN, ends=False)  # SCAN_DEL_PAGE_LRU


def _no_table(kernel: Kernel) -> _Failed:
    """SCAN_NO_PTE_TABLE."""
    return _PASSED if kernel.collapse_passes_slots else _REFUSED


def _watched_hole(kernel: Kernel) -> _Failed:
    """SCAN_EXCEED_NONE_PTE."""
    return _Failed(Errno.EBUSY, ends=True) if kernel.collapse_leaves_watched else _REFUSED


def _collapse_anonymous(space: AddressSpace, vma: Vma, addr: int) -> _Failed | None:
    """One slot of private memory."""
    tree = space.tree
    parent, index = tree.find(addr, PMD), tree.index(addr, PMD)
    if parent is None:
        return _PASSED
    if index in parent.leaves:
        return None
    table = parent.tables.get(index)
    if table is None:
        return _no_table(space.kernel)
    leaves = table.leaves
    if vma.flags & VM_UFFD:
        refused = _refused_by_uffd(space, table)
        if refused is not None:
            return refused
    if any(entry & MARKER for entry in leaves.values()):
        return _REFUSED
    # Until 6.17 a writable page is needed; read-only memory has none, whatever it has been before.
    written = vma.flags & VM_WRITE and any(e & WRITE for e in leaves.values())
    if not written and not space.kernel.collapses_without_write:
        return _PASSED
    frames, pages = space.frames, space.geometry.slot_pages
    end = addr + space.geometry.slot_bytes
    space.announce(ALLOC_CHARGE_FOLIO, addr, end, NONE)
    pfn = frames.allocate_large(pages, space.page_index(vma, addr), vma.anon_vma)
    space.announce(COLLAPSE_HUGE_PAGE, addr, end, MMAP_WRITE | ANON_VMA)
    for i, entry in list(leaves.items()):
        if not entry & PRESENT:
            entry = make_present(space, vma, table, i)
        if entry & ANON:
            frames.tag[pfn + i] = frames.tag[entry >> PFN_SHIFT]
    space.flush_tlb(addr, end)
    tree.take_all(table, list(leaves))
    # The PTE table is kept for the day the huge page is split.
    tree.free(parent, index)
    allowed = HUGE_ANON if vma.flags & VM_WRITE else HUGE_ANON & ~WRITE
    tree.set_huge(parent, index, leaf(pfn, allowed))
    return None


def _refused_by_uffd(space: AddressSpace, table: Table) -> _Failed | None:
    """What userfaultfd says against a collapse: it must not fill holes, nor lose protections."""
    for index in range(space.geometry.slot_pages):
        entry = table.leaves.get(index)
        if entry is None or is_zero_page(entry):
            return _watched_hole(space.kernel)
        if entry & UFFD_WP:
            return _PASSED
    return None


def _collapse_shared(space: AddressSpace, vma: Vma, addr: int) -> _Failed | None:
    """One slot of a shared object: its pages become one folio, other mappings lose theirs."""
    space.announce(COLLAPSE_FILE, addr, addr + space.geometry.slot_bytes, NONE)
    settle_shared(space, vma, addr, addr + space.geometry.slot_bytes)
    kernel, tree, pages = space.kernel, space.tree, space.geometry.slot_pages
    linear = space.page_index(vma, addr)
    backing = vma.backing
    if not any(linear <= i < linear + pages for i in backing.pages):
        return _REFUSED  # as if it had been truncated under the call
    parent = tree.find(addr, PMD)
    table_here = parent is not None and parent.entry(tree.index(addr, PMD)) is not None
    was_huge = backing.pages.get(linear) in space.frames.large
    if was_huge:
        swap_in(space, backing, linear)
    guarded = False
    if not was_huge:
        failed = _make_large(space, backing, linear)
        if failed is not None:
            return failed
    for other in space.vmas.mapping(backing):
        # If it was huge before, nothing is done to the other mappings: collapse_pte_mapped_thp().
        is_target = other is vma
        if is_target or not was_huge:
            frees = is_target or kernel.collapse_frees_all_tables
            kept = _retract(space, other, linear, frees, is_target=is_target)
            guarded |= kept and is_target
    if vma.copies_object and (refused := _copies_refuse(space, vma, addr, was_huge=was_huge)):
        return refused
    if parent is None and not kernel.collapse_makes_pmd_table:
        return _PASSED  # SCAN_PMD_NULL
    if not (was_huge or table_here or kernel.collapse_frees_all_tables):
        return _REFUSED  # SCAN_PMD_NONE: retract_page_tables() had to find a table here, too
    if vma.flags & VM_UFFD_PROTECTED:
        return _PASSED
    if guarded or tree.find(addr, PTE) is not None:
        return _no_table(kernel)
    return None if map_shared_huge(space, vma, addr, write=False) else _PASSED


def _copies_refuse(space: AddressSpace, vma: Vma, addr: int, *, was_huge: bool) -> _Failed | None:
    """What speaks against mapping a slot of a private mapping by a huge page of the file.

    The copies that it has there; until 6.5 that it may have any.
    Source: collapse_pte_mapped_thp(); SCAN_PAGE_ANON of retract_page_tables(), 6.1.
    """
    if vma.anon_vma is None:
        return None
    table = space.tree.find(addr, PTE)
    if table is not None and table.leaves:
        # The first one decides: one that is not there may be passed over, a page of another not.
        first = table.leaves[min(table.leaves)]
        return _REFUSED if first & PRESENT else _no_table(space.kernel)
    return None if was_huge or space.kernel.collapse_frees_all_tables else _REFUSED


def collapse_file(space: AddressSpace, addr: int) -> Errno | None:
    """Another process that maps the object at `addr`, bytes, collapses the slot of it there.

    Returns: None; EINVAL if no object is mapped there, it has no page in that slot, or all of them
    are one folio already; else what the collapse fails by.
    Source: collapse_file() for khugepaged or for MADV_COLLAPSE of that process; since 6.6
    retract_page_tables() asks for no mmap lock of ours.
    """
    vma, pages = space.vmas.lookup(addr), space.geometry.slot_pages
    if vma is None or vma.is_anonymous or vma.flags & (VM_HUGETLB | VM_SPECIAL):
        return Errno.EINVAL
    linear = round_down(space.page_index(vma, addr), pages)
    backing = vma.backing
    settle_object(space, backing, linear, linear + pages)
    if not any(linear <= i < linear + pages for i in backing.pages):
        return Errno.EINVAL
    if backing.pages.get(linear) in space.frames.large:
        return Errno.EINVAL
    failed = _make_large(space, backing, linear)
    if failed is not None:
        return failed.error
    for other in space.vmas.mapping(backing):
        _retract(space, other, linear, space.kernel.collapse_frees_all_tables, is_target=False)
    return None


def _make_large(space: AddressSpace, backing: Backing, linear: int) -> _Failed | None:
    """Make one folio of the object's pages of the slot from page `linear` on."""
    failed = _gather(space, backing, linear)
    if failed is not None:
        return failed
    pages = space.geometry.slot_pages
    first = space.frames.allocate_large(pages, linear, backing)
    for i in range(pages):
        old = backing.pages.get(linear + i)
        if old is not None:
            space.frames.tag[first + i] = space.frames.tag[old]
        backing.pages[linear + i] = first + i
        backing.clean.discard(linear + i)
    return None


def _gather(space: AddressSpace, backing: Backing, linear: int) -> _Failed | None:
    """Bring the object's pages of the slot from page `linear` on in, and out of all mappings.

    Until 6.3 the first one that comes from swap ends that: it is not on the LRU list yet.  Holes
    are not filled if a userfaultfd watches them in any mapping, or the page behind the slot: the
    kernel counts that in, as the end of an interval.  What is unmapped stays so.
    Source: collapse_file().
    """
    kernel, end = space.kernel, linear + space.geometry.slot_pages
    swapped = sorted(i for i in backing.swapped if linear <= i < end)
    if swapped and not kernel.collapse_drains:
        backing.swapped.remove(swapped[0])
        unmap_object(space, backing, linear, swapped[0])
        return _NOT_ON_LRU
    backing.swapped.difference_update(swapped)
    unmap_object(space, backing, linear, end)
    if kernel.collapse_leaves_watched and any(
        vma.flags & VM_UFFD_MISSING for vma, *_ in mappings_of(space, backing, linear, end + 1)
    ):
        holes = any(i not in backing.pages for i in range(linear, end))
        return _watched_hole(kernel) if holes else None
    return None


def _retract(space: AddressSpace, vma: Vma, linear: int, frees: bool, *, is_target: bool) -> bool:
    """Unmap the object's pages from `linear` on in one mapping.

    Arguments: `frees` the emptied PTE table goes, too; `is_target`: the call names this one.
    Returns: True if guard markers keep the table.
    """
    shift, slot = space.geometry.page_shift, space.geometry.slot_bytes
    start = vma.start + ((linear - vma.pgoff) << shift)
    low, high = max(start, vma.start), min(start + slot, vma.end)
    if low >= high:
        return False
    space.announce(RETRACT_PAGE_TABLES, low, high, I_MMAP)
    if space.tree.huge:
        parent, index = space.tree.find(low, PMD), space.tree.index(low, PMD)
        if parent is not None and index in parent.leaves:
            return False
    space.zap(low, high, keep=MARKER | ANON | SWAP)
    table = space.tree.find(low, PTE)
    if vma.anon_vma is not None and not is_target:
        return False  # it is likely to be split for copies later
    if table is None or vma.flags & VM_UFFD_PROTECTED:
        return False  # the table may hold marks of userfaultfd, now or later
    if table.leaves:
        return any(is_guard(entry) for entry in table.leaves.values())
    whole = low == round_down(low, slot) and high == low + slot
    if frees and whole and covers_slot(space, vma, low):
        parent = space.tree.find(low, PMD)
        assert parent is not None
        space.tree.free(parent, space.tree.index(low, PMD))
    return False
