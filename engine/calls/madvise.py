"""madvise(2): what each advice does to VMAs, pages and page tables, and when it is refused.

Order of the checks, the same on all kernels: unknown advice, unaligned address, a length that
rounds to 0 or wraps, length 0; then VMA by VMA.  A hole lets the call go on and fail with ENOMEM
at the end; a VMA that refuses ends it at once.  Source: mm/madvise.c, Linux 6.1 to 6.18.

Each advice is a few lines, and shares these checks with all others: so they are all here.
"""

from collections.abc import Callable

from engine.base.address import round_up
from engine.base.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    MARKER,
    PFN_SHIFT,
    PRESENT,
    SWAP,
    is_guard,
    is_wp_marker,
)
from engine.base.failures import VmaRefused
from engine.base.geometry import PMD, PTE
from engine.base.kernel import Kernel
from engine.base.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    Errno,
)
from engine.calls.mseal import may_discard
from engine.calls.reclaim import drop, page_out
from engine.pages.collapse import collapse
from engine.pages.fault import populate_range
from engine.pages.faulted import slots_of
from engine.pages.hugetlb import discard_hugetlb, punch_hugetlb
from engine.pages.pageout import (
    advised,
    split_partial_folios,
    split_partial_shared,
    unmap_shared,
)
from engine.pages.rmap import folio_of, prepare_anon_vma
from engine.pages.truncate import punch_hole
from engine.pages.uffd import removing
from engine.state.backing import BpfMap
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MERGEABLE,
    VM_NEVER_WRITE,
    VM_NOHUGEPAGE,
    VM_RAND_READ,
    VM_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    VM_WRITE,
    Vma,
)
from engine.vmas.merge import modify

# (flags set, flags cleared) by advice that only changes the VMA.
_FLAGS = {
    MADV_NORMAL: (0, VM_RAND_READ | VM_SEQ_READ),
    MADV_RANDOM: (VM_RAND_READ, VM_SEQ_READ),
    MADV_SEQUENTIAL: (VM_SEQ_READ, VM_RAND_READ),
    MADV_DONTFORK: (VM_DONTCOPY, 0),
    MADV_DOFORK: (0, VM_DONTCOPY),
    MADV_DONTDUMP: (VM_DONTDUMP, 0),
    MADV_DODUMP: (0, VM_DONTDUMP),
    MADV_WIPEONFORK: (VM_WIPEONFORK, 0),
    MADV_KEEPONFORK: (0, VM_WIPEONFORK),
    MADV_MERGEABLE: (VM_MERGEABLE, 0),
    MADV_UNMERGEABLE: (0, VM_MERGEABLE),
    MADV_HUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
    MADV_NOHUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
}

_OF_KSM = (MADV_MERGEABLE, MADV_UNMERGEABLE)
# What special mappings refuse: VM_SPECIAL, VM_NO_KHUGEPAGED.
_NOT_SPECIAL = (MADV_DODUMP, MADV_COLLAPSE, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE)
# What memory that may be dropped does not give up.
_FOR_DROPPABLE = (MADV_DODUMP, MADV_KEEPONFORK)

_PRIVATE_PAGE = ANON | PRESENT

# What throws contents away.  Source: is_madv_discard(), mm/mseal.c.
_DISCARDS = frozenset(
    (
        MADV_FREE,
        MADV_DONTNEED,
        MADV_DONTNEED_LOCKED,
        MADV_REMOVE,
        MADV_DONTFORK,
        MADV_WIPEONFORK,
        MADV_GUARD_INSTALL,
    )
)

Behaviour = Callable[[AddressSpace, Vma, int, int], "Errno | None"]


def madvise(space: AddressSpace, addr: int, length: int, advice: int) -> Errno | None:
    """Give advice on [addr, addr + length), bytes.  Returns: None or the error."""
    geometry = space.geometry
    if not _is_known(space.kernel, advice):
        return Errno.EINVAL
    rounded = round_up(length, geometry.page_bytes) & geometry.word_mask
    end = (addr + rounded) & geometry.word_mask
    if addr & (geometry.page_bytes - 1) or (length and not rounded) or end < addr:
        return Errno.EINVAL
    if end == addr:
        return None
    kept = advice in _DISCARDS and not all(map(may_discard, space.vmas.intersecting(addr, end)))
    if kept and space.kernel.seals_asked_first:
        return Errno.EPERM
    if advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
        return _populate(space, addr, end, write=advice == MADV_POPULATE_WRITE)
    behaviour = _BEHAVIOURS.get(advice)
    hole: Errno | None = None
    cursor = addr
    while cursor < end:
        vma = space.vmas.find(cursor)
        if vma is None:
            return Errno.ENOMEM
        if cursor < vma.start:
            hole, cursor = Errno.ENOMEM, vma.start
            if cursor >= end:
                break
        stop = min(vma.end, end)
        if vma.flags & (VM_SEALED | VM_HUGETLB | VM_SPECIAL):
            error = _refused(space, vma, cursor, advice)
            if error:
                return error
        error = (
            behaviour(space, vma, cursor, stop)
            if behaviour
            else _change_flags(space, vma, cursor, stop, advice)
        )
        if error:
            return error
        cursor = stop
    return hole


def _is_known(kernel: Kernel, advice: int) -> bool:
    """Is there such an advice?  Some came after the oldest kernel, each with its switch."""
    if advice in (MADV_COLD, MADV_PAGEOUT):
        return kernel.madv_cold
    if advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
        return kernel.madv_populate
    if advice == MADV_DONTNEED_LOCKED:
        return kernel.madv_dontneed_locked
    if advice == MADV_COLLAPSE:
        return kernel.madv_collapse
    if advice in (MADV_GUARD_INSTALL, MADV_GUARD_REMOVE):
        return kernel.guard_markers
    return advice in _FLAGS or advice in _BEHAVIOURS


def _refused(space: AddressSpace, vma: Vma, start: int, advice: int) -> Errno | None:
    """What sealed mappings, huge pages of hugetlb and special mappings refuse.

    Source: can_modify_vma_madv(), madvise_dontneed_free_valid_vma(), can_madv_lru_vma(),
    madvise_remove(): private memory is of a file, but may not change it.
    """
    if advice in _DISCARDS and not may_discard(vma):
        return Errno.EPERM
    if vma.flags & VM_SPECIAL:
        refused = advice in _NOT_SPECIAL or (
            advice == MADV_DOFORK and space.kernel.dofork_not_hugetlb
        )
        return Errno.EINVAL if refused else None
    if not vma.flags & VM_HUGETLB:
        return None
    if advice in (MADV_DONTNEED, MADV_DONTNEED_LOCKED):
        aligned = not start & (space.geometry.slot_bytes - 1)
        return None if aligned and space.kernel.hugetlb_dontneed else Errno.EINVAL
    if advice == MADV_REMOVE:
        return None if vma.flags & VM_SHARED else Errno.EACCES
    if advice == MADV_WIPEONFORK or (advice == MADV_DOFORK and space.kernel.dofork_not_hugetlb):
        return Errno.EINVAL
    return None if advice in _FLAGS or advice == MADV_WILLNEED else Errno.EINVAL


def _change_flags(space: AddressSpace, vma: Vma, start: int, end: int, advice: int) -> Errno | None:
    if advice == MADV_WIPEONFORK and not vma.is_anonymous:
        return Errno.EINVAL
    if vma.flags & (VM_SHARED | VM_HUGETLB) and advice in _OF_KSM:
        return None
    if vma.flags & VM_DROPPABLE and advice in (*_OF_KSM, *_FOR_DROPPABLE):
        return Errno.EINVAL if advice in _FOR_DROPPABLE else None
    added, removed = _FLAGS[advice]
    try:
        modify(space.kernel, space.vmas, vma, start, end, (vma.flags & ~removed) | added)
    except VmaRefused as refused:
        # What is short now may be there at the next attempt: so the kernel says it.
        return Errno.EAGAIN if refused.error == "ENOMEM" else Errno(refused.error)
    return None


def _nothing(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """MADV_WILLNEED: nothing to read ahead without swap and files."""
    return None


def _dontneed(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    return Errno.EINVAL if vma.flags & VM_LOCKED else _drop(space, vma, start, end)


def _drop(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """MADV_DONTNEED: the pages go, guard markers stay, and PTE tables it empties may go, too."""
    removing(space, vma, start, end)
    if vma.flags & VM_HUGETLB:
        discard_hugetlb(space, vma, start, end)
        return None
    space.zap(start, end, keep=MARKER)
    if space.uffds and vma.is_anonymous:  # but marks of private memory go
        for _, table, indices in space.tree.lowest(start, end):
            space.tree.take_all(table, [i for i in indices if is_wp_marker(table.leaves[i])])
    # Only tables whose whole slot was in the range.  Source: mm/pt_reclaim.c
    slot = space.geometry.slot_bytes
    emptied = [
        base
        for base, table in space.tree.tables()
        if table.level == PTE and not table.leaves and start <= base and base + slot <= end
    ]
    if emptied and space.kernel.reclaims_tables:
        for base in emptied:
            parent = space.tree.find(base, PMD)
            assert parent is not None
            space.tree.free(parent, space.tree.index(base, PMD))
    return None


def _free(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """MADV_FREE: until they are written again, reclaim may drop the pages; swapped ones go at once.

    What a child maps, too, is left alone if it is large, or known to be dirty.
    Source: madvise_free_pte_range(), madvise_free_huge_pmd(), folio_mark_lazyfree().
    """
    if vma.flags & (VM_LOCKED | VM_HUGETLB):
        return Errno.EINVAL
    removing(space, vma, start, end)  # a monitor hears of it even if nothing comes of it
    if not vma.is_anonymous:
        return Errno.EINVAL
    split_partial_folios(space, start, end)
    frames, held = space.frames, space.held
    for _, table, indices in advised(space, start, end):
        freed, swapped = [], []
        for index in indices:
            entry = table.leaves[index]
            if entry & SWAP:
                swapped.append(index)
            elif entry & _PRIVATE_PAGE == _PRIVATE_PAGE:
                folio = folio_of(space, entry >> PFN_SHIFT)
                large_or_dirty = len(folio) > 1 or folio.start in frames.dirty
                if large_or_dirty and not held.isdisjoint(folio):
                    continue
                frames.dirty.discard(folio.start)
                if folio.start not in frames.mlocked:
                    frames.lazyfree.add(folio.start)
                freed.append(index)
        space.tree.change(table, freed, _clean)
        space.tree.take_all(table, swapped)
    space.flush_tlb(start, end)
    return None


def _clean(entries: list[int]) -> list[int]:
    return [entry & ~(DIRTY | ACCESSED) for entry in entries]


def _cold(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    if vma.flags & VM_LOCKED:
        return Errno.EINVAL
    split_partial_folios(space, start, end)
    split_partial_shared(space, start, end)
    return None


def _pageout(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """MADV_PAGEOUT.  Without swap private pages stay, unless they may be dropped.

    Shared ones mapped once are unmapped.
    """
    if vma.flags & VM_LOCKED:
        return Errno.EINVAL
    if not vma.backing.on_lru:
        return None
    if space.has_swap:
        page_out(space, vma, start, end)
        return None
    if vma.is_anonymous:
        split_partial_folios(space, start, end, for_swap=not vma.flags & VM_DROPPABLE)
        drop(space, vma, start, end)
        space.flush_tlb(start, end)
        return None
    split_partial_shared(space, start, end, pageout=True)
    unmap_shared(space, vma, start, end)
    space.flush_tlb(start, end)
    return None


def _remove(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """MADV_REMOVE: punch a hole into the object; its pages vanish from every mapping.

    Until 6.6 not through a mapping that may only be read, and never through a private one.
    Source: vma_is_shared_maywrite(), 6.1 to 6.18.
    """
    if vma.flags & VM_LOCKED or vma.is_anonymous:
        return Errno.EINVAL
    if vma.copies_object or not (vma.flags & VM_WRITE or space.kernel.removes_read_only):
        return Errno.EACCES
    if isinstance(vma.backing, BpfMap):
        if vma.flags & VM_NEVER_WRITE:
            return Errno.EACCES
        return Errno.ENODEV  # of vfs_fallocate()
    removing(space, vma, start, end)
    if vma.flags & VM_HUGETLB:
        punch_hugetlb(space, vma, start, end)
        return None
    low, high = space.page_index(vma, start), space.page_index(vma, end)
    punch_hole(space, vma.backing, low, high)
    return None


def _populate(space: AddressSpace, start: int, end: int, *, write: bool) -> Errno | None:
    """MADV_POPULATE_READ, MADV_POPULATE_WRITE.  Source: madvise_populate().

    Until 6.8 a hole did not end it: what lies behind was populated, too.
    """
    hole: Errno | None = None
    cursor = start
    while cursor < end:
        vma = space.vmas.find(cursor)
        if vma is None or vma.start >= end:
            return Errno.ENOMEM
        if cursor < vma.start:
            if not space.kernel.populate_passes_holes:
                return Errno.ENOMEM
            hole, cursor = Errno.ENOMEM, vma.start
        if not vma.flags & (VM_WRITE if write else VM_READ):
            return Errno.EINVAL
        stop = min(vma.end, end)
        if not populate_range(space, vma, cursor, stop, write=write):
            return Errno.EFAULT
        cursor = stop
    return hole


def _may_have_guards(kernel: Kernel, vma: Vma) -> bool:
    """is_valid_guard_vma()."""
    return vma.is_anonymous or kernel.guards_objects


def _guard_install(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """MADV_GUARD_INSTALL: every page becomes a marker; access to it is SIGSEGV."""
    if vma.flags & VM_LOCKED or not _may_have_guards(space.kernel, vma):
        return Errno.EINVAL
    if vma.is_anonymous:
        prepare_anon_vma(space, vma)
    space.zap(start, end)
    shift, mask = space.geometry.page_shift, space.geometry.index_mask[PTE]
    for low, high in slots_of(space, start, end):
        first, pages = low >> shift & mask, (high - low) >> shift
        table = space.tree.make(low, PTE)
        space.tree.put_all(table, range(first, first + pages), [MARKER] * pages)
    return None


def _guard_remove(space: AddressSpace, vma: Vma, start: int, end: int) -> Errno | None:
    """MADV_GUARD_REMOVE: markers go, pages and tables stay."""
    if not _may_have_guards(space.kernel, vma):
        return Errno.EINVAL
    for _, table, indices in space.tree.lowest(start, end):
        space.tree.take_all(table, [i for i in indices if is_guard(table.leaves[i])])
    return None


_BEHAVIOURS: dict[int, Behaviour | None] = {
    MADV_WILLNEED: _nothing,
    MADV_DONTNEED: _dontneed,
    MADV_DONTNEED_LOCKED: _drop,
    MADV_FREE: _free,
    MADV_REMOVE: _remove,
    MADV_COLD: _cold,
    MADV_PAGEOUT: _pageout,
    MADV_COLLAPSE: collapse,
    MADV_POPULATE_READ: None,
    MADV_POPULATE_WRITE: None,
    MADV_GUARD_INSTALL: _guard_install,
    MADV_GUARD_REMOVE: _guard_remove,
}
