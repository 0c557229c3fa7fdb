"""mremap(2): which ranges move where, what is refused, and in which order that is found out.

The order matters: until 6.16 a FIXED call unmaps its destination (and a shrinking one the tail of
its source) before the source is checked, so an error may leave a hole behind.  6.17 checks first,
and moves several VMAs in one call.  Both orders are here, to be read beside each other.
Source: mm/mremap.c, Linux 5.0 to 6.18.
"""

from dataclasses import dataclass, field, replace

from engine.base.address import Range, round_up
from engine.base.entry import PFN_SHIFT, PRESENT
from engine.base.failures import HOOK, MAPS, VMA, VmaRefused
from engine.base.geometry import PTE
from engine.base.points import MMAP_WRITE, MREMAP_UNLOCKED, NONE, VMA_COPIED
from engine.base.seam import seam
from engine.base.uapi import (
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    UFFD_FEATURE_SIGBUS,
    Errno,
)
from engine.base.violation import Violation
from engine.move import Move, move_page_tables
from engine.move_hugetlb import move_hugetlb
from engine.pages import uffd
from engine.pages.fault import populate_locked
from engine.pages.hugetlb import abandon_copy, drop_reservation, fail_copy
from engine.pages.rmap import folio_of
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
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


@dataclass(slots=True)
class Remap:
    """One request.  Addresses and lengths in bytes; the lengths become page multiples."""

    space: AddressSpace
    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int
    asked: int = field(init=False)  # the old length before anything is cut off
    delta: int = field(init=False)  # as requested: growth, or negative

    def __post_init__(self) -> None:
        self.asked = self.old_len
        self.delta = self.new_len - self.old_len

    @property
    def implies_new_addr(self) -> bool:
        """FIXED or DONTUNMAP: the call moves, whatever the lengths."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))

    @property
    @seam
    def overlaps(self) -> bool:
        """Do old and new range overlap?  The sums wrap, so a huge range may pass (B-69)."""
        top = self.space.geometry.word_mask
        old_end, new_end = self.addr + self.old_len, self.new_addr + self.new_len
        if (old_end > top or new_end > top) and not self.space.kernel.wrap_safe_overlap:
            old_end, new_end = old_end & top, new_end & top
        return old_end > self.new_addr and new_end > self.addr


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
        if counted or (_mapped_by_others(space, remap.addr) if vma is None else uffd.is_armed(vma)):
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
    return asks and _too_many_maps(remap, 2, isolates=False)


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
    return not uffd.is_armed(vma)


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
        _start_write(space, behind)  # cut off there
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
        and _too_many_maps(remap, 2, isolates=bool(remap.flags & MREMAP_DONTUNMAP))
    ):
        return Errno.ENOMEM  # mark: target-too-many-maps
    return None


def _too_many_maps(remap: Remap, more: int, *, isolates: bool) -> bool:
    """Would `more` VMAs leave too little room for those that a move makes?

    Arguments: `isolates` the source may be made a VMA of its own before (DONTUNMAP).
    Source: move_vma(), mremap_to(), until 7.0; __check_map_count_against_split(), since 7.1.
    """
    space = remap.space
    if space.failures.fails(MAPS):
        return True
    room = space.limits.map_count - len(space.vmas) - more
    if room >= 4 or room < 2:  # the same on all kernels
        return room < 2
    if not space.kernel.map_count_before_all:
        return True
    return room == 2 and isolates and space.kernel.dontunmap_splits_locked


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
        vma.flags & VM_HUGETLB or (not space.kernel.dontunmap_any and not vma.is_anonymous)
    ):
        # mark: source-cannot-be-kept
        return Errno.EINVAL  # hugetlb: VM_DONTEXPAND
    if min(remap.old_len, remap.new_len) > vma.end - remap.addr:
        return Errno.EFAULT  # mark: source-beyond-its-vma
    if remap.new_len > remap.old_len:
        pgoff = space.page_index(vma, remap.addr)
        if (
            pgoff + (remap.new_len >> space.geometry.page_shift)
        ) & space.geometry.word_mask < pgoff:
            # mark: growth-wraps-pgoff, unreachable: offsets of cases end far below
            return Errno.EINVAL
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


def move_vma(remap: Remap, vma: Vma) -> int | Errno:
    """Move `old_len` bytes of one VMA to the free range at `new_addr`, `new_len` long.

    Source: move_vma(), 6.1 to 6.18; the steps of the specification's 6.4.
    """
    space, kernel = remap.space, remap.space.kernel
    keep = bool(remap.flags & MREMAP_DONTUNMAP)
    if _too_many_maps(remap, 0, isolates=keep and bool(vma.flags & VM_LOCKED)):
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

    _start_write(space, source, new_vma)
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


def _start_write(space: AddressSpace, *vmas: Vma) -> None:
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
                f"all {terms.size(moved)} that had moved",
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
    if kernel.merge_asks_anon_pgoff and vma.copies_object and vma.anon_vma:
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
