"""mremap(2): which ranges move where, what is refused, and in which order that is found out.

The order matters: until 6.16 a FIXED call unmaps its destination (and a shrinking one the tail of
its source) before the source is checked, so an error may leave a hole behind.  6.17 checks first,
and moves several VMAs in one call.  Both orders are here, to be read beside each other.
Source: mm/mremap.c, Linux 5.0 to 6.18.
"""

from dataclasses import replace

from engine.base.address import Range, round_up
from engine.base.failures import MAPS
from engine.base.points import MREMAP_UNLOCKED, NONE
from engine.base.seam import seam
from engine.base.uapi import (
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    UFFD_FEATURE_SIGBUS,
    Errno,
)
from engine.move_vma import move_vma, start_write
from engine.pages import uffd
from engine.pages.fault import populate_locked
from engine.remap import Remap, too_many_maps
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_DONTEXPAND,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_SEALED,
    VM_SHARED,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    Vma,
)
from engine.vmas.merge import Proposal, merge_new
from engine.vmas.place import find_address
from engine.vmas.unmap import unmap


def mremap(
    space: AddressSpace, addr: int, old_len: int, new_len: int, flags: int, new_addr: int = 0
) -> int | Errno:
    """Resize or move the mapping at `addr`.

    Arguments: bytes; `flags` of MAYMOVE, FIXED, DONTUNMAP; `new_addr` counts with FIXED, and as a
    hint with DONTUNMAP.
    Returns: the address of the mapping, or the error.
    """
    page, mask = space.geometry.page_bytes, space.geometry.word_mask
    remap = Remap(
        space, addr, round_up(old_len, page) & mask, round_up(new_len, page) & mask, flags, new_addr
    )
    return do_mremap(remap, differ=old_len != new_len)


@seam
def do_mremap(remap: Remap, *, differ: bool) -> int | Errno:
    """The call, its lengths rounded up.  Arguments: `differ` the lengths did before that."""
    space, flags = remap.space, remap.flags
    known = MREMAP_MAYMOVE | MREMAP_FIXED
    if flags & MREMAP_DONTUNMAP and space.kernel.dontunmap:
        known |= MREMAP_DONTUNMAP
    if flags & ~known or remap.addr & (space.geometry.page_bytes - 1):
        return Errno.EINVAL  # mark: flags-or-address-refused
    unequal = flags & MREMAP_DONTUNMAP and differ
    if (
        not remap.new_len
        or (remap.implies_new_addr and not flags & MREMAP_MAYMOVE)
        or (unequal and remap.delta)
    ):
        result: int | Errno = Errno.EINVAL  # mark: request-refused
    elif not remap.implies_new_addr:
        result = _resize(remap)  # mark: resize
    elif (unequal or _order_matters(remap)) and space.kernel.check_before_unmap:
        result = _move_checking_first(remap)  # mark: move-checked-first
    elif unequal:  # by less than a page
        result = Errno.EINVAL  # mark: lengths-differ-in-a-page
    else:
        result = _check_first_page(remap) or _move_classic(remap)  # mark: move-classic
    space.write_locked.clear()
    if not isinstance(result, Errno):  # else the call is as good as over
        space.announce(MREMAP_UNLOCKED, remap.addr, remap.addr + remap.old_len, NONE)
    if space.uffds:
        space.endless |= _waits_for_itself(remap, result)
        # mark: monitors-told
        evicted = Range(remap.new_addr, remap.new_addr + remap.new_len * bool(flags & MREMAP_FIXED))
        uffd.call_ended(space, failed=isinstance(result, Errno), evicted=evicted)
    _populate_growth(remap, result)
    return result


def _order_matters(remap: Remap) -> bool:
    """May it matter whether the source of a move is checked before anything is unmapped (6.17)?

    Not if nothing is wrong with it, nor if what is wrong comes out either way.
    """
    space = remap.space
    vma = space.vmas.lookup(remap.addr)
    counted = space.failures.armed and MAPS in space.failures.left()  # what _check_target asks
    refused: Errno | None = Errno.EFAULT
    if vma is not None:
        # The check rounds the range to huge pages: in a copy.
        refused = _check_vma(replace(remap) if vma.flags & VM_HUGETLB else remap, vma)
    if vma is None or refused:  # before the destination is looked at, or just after that
        if counted or (
            _mapped_by_others(space, remap.addr) if vma is None else not _may_be_part(vma)
        ):
            return True
        return _check_target(remap) not in (None, refused)
    if vma.flags & VM_HUGETLB:
        return True  # the range grows with the check
    target = range(remap.new_addr, remap.new_addr + remap.new_len)
    if remap.addr not in target and not isinstance(_source(remap), Errno):
        return False
    if counted:
        return True
    if _check_target(remap):
        return False
    fixed = remap.flags & MREMAP_FIXED
    if fixed and remap.old_len == remap.new_len > vma.end - remap.addr:
        return True  # may move several
    evicts = fixed and space.vmas.intersection(target.start, target.stop) is not None
    return bool(evicts) or remap.old_len > remap.new_len


def _check_first_page(remap: Remap) -> Errno | None:
    """What the first page says before the request is looked at any further, until 6.16."""
    vma = remap.space.vmas.lookup(remap.addr)
    if vma is not None:
        return _check_vma(remap, vma)
    # mark: first-page-unmapped
    return None if _mapped_by_others(remap.space, remap.addr) else Errno.EFAULT


@seam
def _check_vma(remap: Remap, vma: Vma) -> Errno | None:
    """What the VMA at `addr` says before the request is looked at any further."""
    if vma.flags & VM_SEALED and not remap.space.kernel.seals_asked_first:
        return Errno.EPERM  # mark: first-page-sealed
    return _align_hugetlb(remap, vma) if vma.flags & VM_HUGETLB else None


def _source_sealed(remap: Remap) -> bool:
    """Is any of the source sealed, where that is asked of all of it (6.10, 6.11)?"""
    space = remap.space
    sealed = space.vmas.sealed(remap.addr, remap.addr + remap.old_len)
    return sealed and space.kernel.seals_asked_first


def _align_hugetlb(remap: Remap, vma: Vma) -> Errno | None:
    """Round to huge pages; new_addr counts even if it is not used.  Source: align_hugetlb()."""
    huge, mask = vma.backing.huge_bytes, remap.space.geometry.word_mask
    if not remap.space.kernel.hugetlb_moves:
        return Errno.EINVAL  # mark: hugetlb-does-not-move-yet
    remap.old_len, remap.new_len = (
        round_up(length, huge) & mask for length in (remap.old_len, remap.new_len)
    )
    remap.asked = remap.old_len
    if (remap.addr | remap.new_addr) & (huge - 1) or remap.new_len > remap.old_len:
        return Errno.EINVAL  # mark: hugetlb-unaligned-or-grows
    return None


def _mapped_by_others(space: AddressSpace, addr: int) -> bool:
    """Is there a VMA that is not ours?  Model: all of user space outside the arena is mapped."""
    in_arena = space.arena.start <= addr < space.arena.end
    return not in_arena and space.geometry.min_addr <= addr < space.geometry.user_top


def _populate_growth(remap: Remap, result: int | Errno) -> None:
    """Locked memory is present: fill what a locked mapping grew by, if the call succeeded.

    Source: mm_populate() in mremap(); d456fb9e5254 (4.3) for the condition (B-58).
    """
    if isinstance(result, Errno) or remap.new_len <= remap.old_len:
        return
    space, start, end = remap.space, result + remap.old_len, result + remap.new_len
    vma = space.vmas.lookup(start)
    assert vma is not None, "what has grown is mapped"
    if vma.flags & VM_LOCKED and not vma.flags & VM_LOCKONFAULT:
        populate_locked(space, vma, start, end)  # mark: locked-growth-populated


def _waits_for_itself(remap: Remap, result: int | Errno) -> bool:
    """Does the kernel fill what a locked mapping grew by till its monitor has answered, for ever?

    The monitor is told of the move only afterwards, and may not map anything before that (EAGAIN).
    The process can be killed.  Model: the monitor is told first.
    Source: mremap(), 6.12, do_mremap(), 7.3: mm_populate() comes before
    mremap_userfaultfd_complete(); mfill_atomic(); measured on 6.18.44.
    """
    if isinstance(result, Errno) or remap.new_len <= remap.old_len:
        return False
    vma = remap.space.vmas.lookup(result + remap.old_len)
    if vma is None or vma.uffd is None or vma.uffd.features & UFFD_FEATURE_SIGBUS:
        return False
    filled = vma.flags & (VM_LOCKED | VM_LOCKONFAULT) == VM_LOCKED
    return bool(filled and vma.uffd.changing and vma.flags & (VM_UFFD_MISSING | VM_UFFD_MINOR))


# --- neither FIXED nor DONTUNMAP -----------------------------------------------------------------


def _resize(remap: Remap) -> int | Errno:
    """Shrink in place, or grow.

    Source: mremap(), 6.1 and 6.12; what 6.17 refuses before: check_mremap_params(),
    check_prep_vma().
    """
    space = remap.space
    too_long = remap.new_len > space.geometry.user_top
    foreign = _mapped_by_others(space, remap.addr)
    if not too_long and _too_many_maps_to_resize(remap):
        return Errno.ENOMEM  # mark: resize-too-many-maps
    if (too_long or foreign) and space.kernel.check_before_unmap:
        return Errno.EINVAL if too_long else Errno.EFAULT  # mark: resize-checked-first
    if error := _check_first_page(remap):
        return error  # mark: resize-first-page-refuses
    if _source_sealed(remap):
        return Errno.EPERM  # mark: resize-sealed-further-up
    if remap.old_len >= remap.new_len:
        # Nothing is checked but the first page: the rest of the range may be a hole, or other VMAs.
        return _cut_tail(remap) or remap.addr  # mark: shrink-in-place
    vma = _source(remap)
    return vma if isinstance(vma, Errno) else _grow(remap, vma)


def _too_many_maps_to_resize(remap: Remap) -> bool:
    """Are there too many VMAs even for a call that may stay in place (since 7.1)?"""
    space = remap.space
    counted = space.failures.armed and MAPS in space.failures.left()
    near = len(space.vmas) + 4 > space.limits.map_count
    asks = (counted or near) and space.kernel.map_count_before_all
    return asks and too_many_maps(remap, 2, isolates=False)


# --- FIXED or DONTUNMAP, until 6.16: unmap first -------------------------------------------------


def _move_classic(remap: Remap) -> int | Errno:
    """Source: mremap_to(), 6.1 and 6.12; measured on 6.16.12."""
    error = _check_target(remap)
    if error:
        return error  # mark: classic-target-refused
    if _source_sealed(remap):
        return Errno.EPERM  # mark: classic-sealed-further-up
    error, space = _make_room(remap), remap.space
    if not error and not space.vmas.lookup(remap.addr) and space.kernel.looks_again_for_source:
        error = Errno.EFAULT  # mark: classic-source-evicted
    error = error or _cut_tail(remap)
    if error:
        return error  # mark: classic-unmap-refused
    vma = _source(remap)
    return vma if isinstance(vma, Errno) else _place_and_move(remap, vma)


# --- FIXED or DONTUNMAP, since 6.17: check first -------------------------------------------------


def _move_checking_first(remap: Remap) -> int | Errno:
    """Source: do_mremap(), check_mremap_params(), 6.17."""
    if error := _check_target(remap):
        return error  # mark: checked-target-refused
    vma = remap.space.vmas.lookup(remap.addr)
    if (
        vma is not None
        and remap.flags & MREMAP_FIXED
        and remap.old_len == remap.new_len > vma.end - remap.addr
        and remap.space.kernel.multi_vma_move
    ):
        return _move_several(remap)  # mark: several-vmas
    return _check_prepared(remap, vma) or _move_to(remap)


def _check_prepared(remap: Remap, vma: Vma | None) -> Errno | None:
    """Source: check_prep_vma(), 6.17."""
    if vma is None:
        return Errno.EFAULT  # mark: checked-source-unmapped
    error = _check_vma(remap, vma)
    if error:
        return error  # mark: checked-first-page-refuses
    source = _source(remap)
    return source if isinstance(source, Errno) else None


def _move_to(remap: Remap) -> int | Errno:
    """One VMA to a given address.  Source: mremap_to(), 6.17."""
    space = remap.space
    error = _make_room(remap)
    if error:
        return error  # mark: checked-room-refused
    if space.vmas.lookup(remap.addr) is None:
        return Errno.EFAULT  # mark: checked-source-evicted
    error = _cut_tail(remap)
    if error:
        return error  # mark: checked-tail-refused
    vma = space.vmas.lookup(remap.addr)
    assert vma is not None
    return _place_and_move(remap, vma)


@seam
def _move_several(remap: Remap) -> int | Errno:
    """FIXED at the same size: every VMA in the range, gaps kept.  Source: remap_move(), 6.17."""
    space = remap.space
    mask = space.geometry.word_mask
    start, end = remap.addr, (remap.addr + remap.old_len) & mask
    cursor, target = start, remap.new_addr
    first_result: int | None = None
    last_end = start
    while cursor < end and (vma := space.vmas.intersection(cursor, end)):
        addr = max(vma.start, start)
        length = min(vma.end, end) - addr
        if first_result is None and start < addr:
            # mark: several-begin-with-a-gap, unreachable: the first page was looked up
            return Errno.EFAULT  # no gap permitted at the start of the range
        if not _may_be_part(vma) and (first_result is not None or vma.end < end):
            return Errno.EFAULT  # mark: several-watched
        target += 0 if first_result is None else vma.start - last_end
        last_end = cursor = vma.end
        part = Remap(space, addr, length, length, remap.flags, target)
        result = _check_prepared(part, vma) or _move_to(part)
        if isinstance(result, Errno):
            return result  # mark: several-stop-half-way
        first_result = result if first_result is None else first_result
        target = result + length
    return Errno.EFAULT if first_result is None else first_result


def _may_be_part(vma: Vma) -> bool:
    """May the VMA move together with others?  Source: vma_multi_allowed(), 6.17."""
    return not uffd.is_armed(vma) and vma.backing.may_be_part


# --- common steps --------------------------------------------------------------------------------


@seam
def _make_room(remap: Remap) -> Errno | None:
    """FIXED: unmap what is at the destination.  An error ends the call (B-70)."""
    if not remap.flags & MREMAP_FIXED:
        return None
    return unmap(remap.space, remap.new_addr, remap.new_len)  # mark: destination-unmapped


@seam
def _cut_tail(remap: Remap) -> Errno | None:
    """Unmap what a shrinking call gives up of the source."""
    excess = remap.old_len - remap.new_len
    if excess <= 0:
        return None
    space, end = remap.space, remap.addr + remap.old_len
    error = unmap(space, end - excess, excess)  # mark: tail-unmapped
    remap.old_len = remap.new_len
    behind = space.vmas.lookup(end)
    if behind is not None:
        start_write(space, behind)  # cut off there
    return error


def _check_target(remap: Remap) -> Errno | None:
    """The destination of FIXED or DONTUNMAP: aligned, inside user space, not over the source."""
    space, top = remap.space, remap.space.geometry.user_top
    if remap.new_addr & (space.geometry.page_bytes - 1):
        return Errno.EINVAL  # mark: target-unaligned
    if remap.new_addr > top - remap.new_len or remap.overlaps:
        return Errno.EINVAL  # mark: target-outside-or-over-source
    # Unmapping may split twice before the move looks again; 6.2's check 13.
    may_fail = space.failures.armed or space.map_count_exceeded(6)
    if (
        may_fail
        and space.kernel.map_count_first
        and too_many_maps(remap, 2, isolates=bool(remap.flags & MREMAP_DONTUNMAP))
    ):
        return Errno.ENOMEM  # mark: target-too-many-maps
    return None


@seam
def _source(remap: Remap) -> Vma | Errno:
    """The VMA to resize or move, if it can be.

    Source: vma_to_resize(), 6.12; the same tests in check_prep_vma(), 6.17, where a shrink is
    judged by its new length.
    """
    space = remap.space
    vma = space.vmas.lookup(remap.addr)
    if vma is None:
        return Errno.EFAULT  # mark: source-unmapped
    if not remap.old_len and not vma.flags & VM_SHARED:
        # mark: source-private-duplicate
        return Errno.EINVAL  # a second view exists of shared memory only
    if remap.flags & MREMAP_DONTUNMAP and (
        vma.flags & (VM_HUGETLB | VM_DONTEXPAND)
        or (not space.kernel.dontunmap_any and not vma.is_anonymous)
    ):
        # mark: source-cannot-be-kept
        return Errno.EINVAL
    if min(remap.old_len, remap.new_len) > vma.end - remap.addr:
        return Errno.EFAULT  # mark: source-beyond-its-vma
    if remap.new_len > remap.old_len:
        pgoff = space.page_index(vma, remap.addr)
        if (
            pgoff + (remap.new_len >> space.geometry.page_shift)
        ) & space.geometry.word_mask < pgoff:
            # mark: growth-wraps-pgoff, unreachable: offsets of cases end far below
            return Errno.EINVAL
        if vma.flags & VM_DONTEXPAND:
            return Errno.EFAULT  # mark: source-cannot-grow
        growth = remap.new_len - remap.old_len
        if vma.flags & VM_LOCKED and not space.may_lock(growth):
            return Errno.EAGAIN  # mark: growth-over-memlock
        if not space.may_expand(growth):
            return Errno.ENOMEM  # mark: growth-over-address-space
    return vma


@seam
def _grow(remap: Remap, vma: Vma) -> int | Errno:
    """Grow in place if the space behind is free, else move if that is allowed."""
    space = remap.space
    delta = remap.new_len - remap.old_len
    if remap.addr + remap.old_len == vma.end and _expandable(space, vma, delta):
        if not space.may_commit(delta, vma.flags):
            return Errno.ENOMEM  # mark: growth-over-commit
        proposal = Proposal(
            vma.end,
            vma.end + delta,
            vma.flags,
            space.page_index(vma, vma.end),
            vma.anon_vma,
            vma.backing,
            vma,
            anon_shift=vma.anon_shift,
        )
        space.account(vma.flags, delta)  # mark: grows-in-place
        # The VMA itself is the left neighbour of its extension, so somebody always takes it.
        merged = merge_new(space.kernel, space.vmas, proposal)
        assert merged is not None
        return remap.addr
    if not remap.flags & MREMAP_MAYMOVE:
        return Errno.ENOMEM  # mark: growth-may-not-move
    return _place_and_move(remap, vma)  # mark: growth-moves


def _expandable(space: AddressSpace, vma: Vma, delta: int) -> bool:
    """Is the space behind `vma` free for `delta` bytes?  Source: vma_expandable()."""
    end = vma.end + delta
    return end <= space.arena.end and space.vmas.intersection(vma.end, end) is None


def _place_and_move(remap: Remap, vma: Vma) -> int | Errno:
    """Fix the new address, then move.  Source: vrm_set_new_addr(), get_unmapped_area()."""
    space = remap.space
    if remap.flags & MREMAP_DONTUNMAP and not space.may_expand(remap.old_len):
        return Errno.ENOMEM  # mark: kept-source-over-address-space
    if not remap.flags & MREMAP_FIXED:
        hint = remap.new_addr if remap.flags & MREMAP_DONTUNMAP else 0
        found = find_address(space, hint, remap.new_len, not vma.is_anonymous)
        if isinstance(found, Errno):
            return found  # mark: no-place-found
        remap.new_addr = found
    elif remap.new_addr < space.geometry.min_addr:
        # mark: target-below-min-addr
        return Errno.EPERM  # security_mmap_addr(), after the destination was unmapped
    high_water = space.hiwater_vm
    result = move_vma(remap, vma)
    _restore_high_water(space, high_water)
    return result


def _restore_high_water(space: AddressSpace, pages: int) -> None:
    """Forget that a move counts its pages twice for a while: no more memory was mapped."""
    space.hiwater_vm = pages
