"""Moving a VMA for mremap(2): its copy, its pages, and what becomes of the source.

A move that fails half-way goes back the same way.
Source: move_vma(), mm/mremap.c, copy_vma(), mm/vma.c, Linux 5.0 to 6.18.
"""

from engine.base.address import Range
from engine.base.entry import PFN_SHIFT, PRESENT
from engine.base.failures import HOOK, VMA, VmaRefused
from engine.base.geometry import PTE
from engine.base.points import MMAP_WRITE, VMA_COPIED
from engine.base.seam import seam
from engine.base.uapi import MREMAP_DONTUNMAP, Errno
from engine.base.violation import Violation
from engine.move import Move, move_page_tables
from engine.move_hugetlb import move_hugetlb
from engine.pages import uffd
from engine.pages.hugetlb import abandon_copy, drop_reservation, fail_copy
from engine.pages.rmap import folio_of
from engine.remap import Remap, too_many_maps
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import VM_ACCOUNT, VM_HUGETLB, VM_LOCKED, VM_LOCKONFAULT, Vma
from engine.vmas.merge import Proposal, merge_new


def move_vma(remap: Remap, vma: Vma) -> int | Errno:
    """Move `old_len` bytes of one VMA to the free range at `new_addr`, `new_len` long.

    Source: move_vma(), 6.1 to 6.18; the steps of the specification's 6.4.
    """
    space, kernel = remap.space, remap.space.kernel
    keep = bool(remap.flags & MREMAP_DONTUNMAP)
    if too_many_maps(remap, 0, isolates=keep and bool(vma.flags & VM_LOCKED)):
        return Errno.ENOMEM  # mark: move-too-many-maps
    charge = _charge(remap, vma, keep)
    asks = not keep or kernel.dontunmap_asks_overcommit
    try:
        if keep and vma.flags & VM_LOCKED and kernel.dontunmap_splits_locked:
            # mark: kept-locked-source-isolated
            vma = _isolate(space, vma, remap.addr, remap.addr + remap.old_len)
        if asks and not space.may_commit(charge, vma.flags):
            return Errno.ENOMEM  # mark: move-over-commit
        flags = vma.flags
        new_vma, source, need_rmap_locks = copy_vma(remap, vma, keep)
    except VmaRefused:
        return Errno.ENOMEM  # mark: copy-refused
    if keep and new_vma is source:
        # mark: kept-source-is-its-copy
        space.report(
            Violation(
                "dontunmap-two-vmas",
                source.range,
                f"source and copy in one, {terms.vma(space.geometry, source)}",
                "a source that stays as a VMA of its own",
            )
        )
    # The charge is for what the call adds; the copy takes the rest over from the source.
    space.account(flags & VM_ACCOUNT, charge)
    space.total_vm += (remap.new_len - charge) >> space.geometry.page_shift

    start_write(space, source, new_vma)
    space.announce(VMA_COPIED, remap.addr, remap.addr + remap.old_len, MMAP_WRITE)
    move = Move(
        space, source, new_vma, remap.addr, remap.new_addr, remap.old_len, False, need_rmap_locks
    )
    marks = uffd.marks(source, space, remap.addr, remap.old_len)
    moved = _move_entries(move)
    error = Errno.ENOMEM if moved < remap.old_len else _hook_error(space, source)
    # Locked memory: the copy counts, unless it just takes the lock over from a source that stays.
    if flags & VM_LOCKED and (not keep or error or kernel.dontunmap_counts_locked):
        space.locked_vm += remap.new_len >> space.geometry.page_shift
    if error:
        _move_back(move, moved)  # mark: rollback
        uffd.put_back(space, (mark for mark in marks if mark.start < remap.addr + moved))
        fail_copy(space, source, new_vma)
        if flags & VM_ACCOUNT and not keep and kernel.uncharge_on_rollback:
            # mark: rollback-uncharges
            space.committed -= charge >> space.geometry.page_shift  # else it stays for ever (B-37)
        _unmap_moved(new_vma, space, remap.new_addr, remap.new_len, keep_commit=not keep)
        return error
    told = remap.old_len
    if new_vma.uffd is not None and kernel.remap_event_as_asked:
        told = remap.asked  # mark: remap-event-as-asked
    uffd.moved(new_vma, Range(remap.addr, remap.addr + told), remap.new_addr)
    if keep:
        _keep_emptied(remap, source)  # mark: source-kept
    elif remap.old_len:
        # mark: source-unmapped-behind
        _unmap_moved(source, space, remap.addr, remap.old_len, keep_commit=True)
    return remap.new_addr


def start_write(space: AddressSpace, *vmas: Vma) -> None:
    """Whoever faults in these VMAs waits until the mmap lock is dropped.

    Source: vma_start_write() of the source in move_vma(), of the copy in vma_link() or
    vma_expand(), of both parts in __split_vma(), 6.4 to 7.3.
    """
    space.write_locked += vmas


def _charge(remap: Remap, vma: Vma, keep: bool) -> int:
    """What a move adds to the commit charge if the mapping is accountable, bytes."""
    if keep:
        return remap.new_len
    growth, delta = remap.new_len - remap.old_len, abs(remap.delta)
    differs = delta != growth and vma.flags & VM_ACCOUNT
    return delta if differs and remap.space.kernel.shrink_charges_delta else growth


def _hook_error(space: AddressSpace, vma: Vma) -> Errno | None:
    """Does the driver behind a mapping refuse to have it moved, now that all of it has moved?

    Source: vm_ops->mremap(), such as that of uacce since 02695347be53.
    """
    refuses = not vma.is_anonymous and space.failures.fails(HOOK)
    return Errno.EPERM if refuses else None


@seam
def _move_back(move: Move, moved: int) -> None:
    """Put the `moved` bytes back, with the roles swapped.

    What lies in the first slot may never have had a table at its old place, and the way back asks
    for one.  Kernels do not look at what it returns: if it comes short, pages are lost.
    """
    start = move.requested_old
    returned = _move_entries(_way_back(move, moved))
    if returned < moved:
        # mark: rollback-short
        move.space.report(
            Violation(
                "rollback-complete",
                Range(start, start + moved),
                f"{terms.size(returned)} moved back",
                f"all {terms.size(moved)}, moved or skipped",
            )
        )


@seam
def _way_back(move: Move, moved: int) -> Move:
    """The move of the first `moved` bytes back, which goes against the order of the reverse map."""
    start = move.requested_old
    return Move(
        move.space,
        move.new_vma,
        move.old_vma,
        start + move.new - move.old,
        start,
        moved,
        False,
        True,
        rollback=True,
    )


def _move_entries(move: Move) -> int:
    """Move the pages of one VMA.  Returns: bytes done."""
    huge = move.old_vma.flags & VM_HUGETLB
    return move_hugetlb(move) if huge else move_page_tables(move)


@seam
def _unmap_moved(
    vma: Vma, space: AddressSpace, start: int, length: int, *, keep_commit: bool
) -> None:
    """Unmap what pages have been moved away from.

    If there is no memory to cut it off from the rest of its VMA, it stays mapped, empty, and is
    charged for again: nobody is told.
    """
    end = start + length
    if vma.reserves and not space.kernel.hugetlb_rest_keeps_reservation:
        # mark: hugetlb-rest-unreserved
        drop_reservation(vma)  # that of the rest as well
    try:
        vma = _cut_off(space, start, end)
    except VmaRefused:
        drop_reservation(vma)
        # mark: source-not-cut-off
        space.report(
            Violation(
                "moved-unmapped",
                Range(start, end),
                "still mapped, for want of memory to cut it off",
                "nothing where pages have been moved away",
            )
        )
        if keep_commit and vma.flags & VM_ACCOUNT:
            space.committed += length >> space.geometry.page_shift  # mark: source-charged-twice
        return
    drop_reservation(vma)
    space.unmap(start, end, keep_commit=keep_commit)


def _cut_off(space: AddressSpace, start: int, end: int) -> Vma:
    """Make [start, end), which lies in one VMA, a VMA of its own, however many there are.

    Errors raised: VmaRefused, unless the kernel goes on asking (__GFP_NOFAIL).
    """
    while True:
        try:
            space.split_at(start)
            space.split_at(end)
        except VmaRefused:
            if not space.kernel.unmap_moved_nofail:
                raise  # mark: cut-off-refused
        else:
            vma = space.vmas.lookup(start)
            assert vma is not None
            return vma


def _isolate(space: AddressSpace, vma: Vma, start: int, end: int) -> Vma:
    """Make [start, end) a VMA of its own."""
    if vma.start < start:
        vma = space.vmas.split_counted(vma, start)  # mark: isolated-from-below
    if end < vma.end:
        space.vmas.split_counted(vma, end)  # mark: isolated-from-above
    return vma


def _leave_locked(space: AddressSpace, vma: Vma) -> None:
    """Nobody will unlock the pages of a VMA that loses VM_LOCKED.

    A large folio is locked as long as a huge entry maps it.  Model: not if others do, though mlock
    takes what they map already, if it names all of that.
    Source: mlock_fixup(), allow_mlock_munlock(), __split_huge_pmd_locked().
    """
    for _, table, indices in space.tree.lowest(vma.start, vma.end):
        there = [e >> PFN_SHIFT for i in indices if (e := table.leaves[i]) & PRESENT]
        if table.level == PTE:
            there = [pfn for pfn in there if len(folio_of(space, pfn)) == 1]
        space.frames.mlocked.update(pfn for pfn in there if pfn)


def _keep_emptied(remap: Remap, source: Vma) -> None:
    """DONTUNMAP: the source stays, empty and unlocked.  Source: dontunmap_complete(), 6.15.

    If it is more than was named, pages are left that are locked for good.
    """
    if source.flags & VM_LOCKED:
        _leave_locked(remap.space, source)  # mark: kept-pages-stay-locked
    source.flags &= ~(VM_LOCKED | VM_LOCKONFAULT)
    if source.flags & VM_ACCOUNT and not remap.space.kernel.dontunmap_keeps_account:
        source.flags &= ~VM_ACCOUNT  # mark: kept-source-unaccounted
    whole = source.start == remap.addr and source.end == remap.addr + remap.old_len
    if whole:  # then it is no part of what it may have merged with
        if remap.space.kernel.dontunmap_unlinks_anon_vma:
            # mark: kept-source-unlinked
            source.link_to(None)  # unlink_anon_vmas(): it maps none of its pages any more
            source.anon_shift = 0
        pgoff = source.start >> remap.space.geometry.page_shift
        displaced = source.is_anonymous and source.pgoff != pgoff
        if displaced and remap.space.kernel.dontunmap_resets_pgoff:
            source.pgoff = pgoff  # mark: kept-source-pgoff-reset


@seam
def copy_vma(remap: Remap, vma: Vma, keep: bool) -> tuple[Vma, Vma, bool]:
    """Make the VMA of the destination, by merging with a neighbour or as a new one.

    Arguments: `keep` the source stays (DONTUNMAP).
    Returns: the destination; the source, which is the merged VMA if it took part itself (only an
    unfaulted one may); and whether the page mover needs the rmap locks.
    Errors raised: VmaRefused; nothing has changed.
    Source: mm/vma.c copy_vma().
    """
    space, kernel, vmas = remap.space, remap.space.kernel, remap.space.vmas
    start, end = remap.new_addr, remap.new_addr + remap.new_len
    pgoff = space.page_index(vma, remap.addr)
    unfaulted = vma.is_anonymous and vma.anon_vma is None
    if unfaulted:
        pgoff = start >> space.geometry.page_shift  # mark: copy-of-unfaulted
    proposal = Proposal(start, end, vma.flags, pgoff, vma.anon_vma, vma.backing, vma)
    if vma.copies_object and vma.anon_vma and kernel.merge_asks_anon_pgoff:
        # mark: copies-move-along
        away = (start - remap.addr) >> space.geometry.page_shift
        proposal = proposal._replace(anon_shift=vma.anon_shift - away)
    might_join_itself = keep and unfaulted and (vma.end == start or vma.start == end)
    avoid = vma if might_join_itself and kernel.dontunmap_no_self_merge else None
    merged: Vma | None = None
    apart = vma.uffd_stays_behind and kernel.uffd_copy_unmerged
    if not apart and (not avoid or kernel.merge_new_range):
        # 6.1 does not merge at all next to a source that stays; 6.12 just leaves the source out.
        merged = merge_new(kernel, vmas, proposal, avoid=avoid)
    if merged is None:
        copy = Vma(start, end, vma.flags, pgoff, backing=vma.backing)  # mark: copy-apart
        copy.adopt_anon_vma(vma)
        copy.uffd, copy.tracked = vma.uffd, vma.tracked
        copy.reserves, copy.anon_shift = vma.reserves, proposal.anon_shift
        vmas.claim(vma.anon_vma)
        if space.failures.fails(VMA):  # no memory to link it with
            abandon_copy(space, copy)  # mark: copy-not-linked
            raise VmaRefused
        vmas.insert(copy)
        return copy, vma, False
    if not vmas.holds(vma):  # its neighbour took both
        vma = merged  # mark: copy-takes-source
    assert unfaulted or merged is not vma, "only an unfaulted VMA may merge with its own copy"
    return merged, vma, merged.pgoff <= vma.pgoff  # mark: copy-merged
