"""Which calls the kernel refuses, and with which error.

The order of the checks of mremap, as the manual and the specification's tables 6.2 and 6.3 have it,
on plain intervals and integers that nothing wraps in.  What was refused on demand is an error;
where one may or may not come (sums that wrap, a guard gap in the way) nothing is said.
"""

from collections.abc import Iterator

from engine.base.address import Range, round_up
from engine.base.failures import MAPS, VMA
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, Errno
from engine.base.violation import Violation
from engine.pages.faulted import Faulted
from engine.state.vma import (
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_HUGETLB,
    VM_LOCKED,
    VM_SEALED,
    VM_SHARED,
)
from fuzz.rules.places import STRUCK, Granted, Promise, compared, placed, removed, told
from fuzz.rules.rule import (
    CONTRACT,
    VMAS,
    Rule,
    after,
)
from fuzz.rules.sight import Area, Request, Sight, Snapshot

ERROR_ORDER = Rule(
    "S-01",
    "error-order",
    "a call is granted, or refused with the error of the first check that fails",
    "do_mremap(), mremap_to(), vma_to_resize(), check_prep_vma()",
    CONTRACT,
)


@after("mremap", ERROR_ORDER, before=VMAS)
def deserved(sight: Sight) -> Iterator[Violation]:
    """Is the result of an mremap the one that its operands deserve?"""
    before, remap, result = sight.before, sight.request, sight.result
    assert not isinstance(result, Faulted)
    where = Range(remap.addr, remap.addr + max(remap.old, before.geometry.page_bytes))
    if refused := _refused(sight):
        if result not in refused.values():
            what = " and ".join(f"{error} (@fail {kind})" for kind, error in refused.items())
            yield ERROR_ORDER.broken(where, told(before.geometry, result), what)
        return
    last = max(remap.addr + remap.old_len, remap.new_addr + remap.new_len)
    if last > before.geometry.word_mask:
        return
    late, first = (
        list(
            compared(
                before, where, _promise(before, remap, checks_first=order), result, ERROR_ORDER
            )
        )
        for order in (False, True)
    )
    yield from first if first != late and before.kernel.check_before_unmap else late


def _refused(sight: Sight) -> dict[str, Errno]:
    """What the call has asked for in vain and cannot do without, and the error that this is.

    Without a VMA, or a place for one, a move may have to leave its source mapped.
    """
    left = sight.space.failures.left() if sight.before.failing else {}
    return {
        kind: STRUCK[kind]
        for kind, failing in sight.before.failing.items()
        if kind not in (VMA, MAPS) and len(left.get(kind, ())) < len(failing)
    }


def _promise(before: Snapshot, remap: Request, *, checks_first: bool) -> Promise:
    """The first check that fails if the source is looked at first, or after what goes.

    Until 6.16 destination and tail went first.
    """
    kernel = before.kernel
    known = MREMAP_MAYMOVE | MREMAP_FIXED
    if remap.flags & MREMAP_DONTUNMAP and kernel.dontunmap:
        known |= MREMAP_DONTUNMAP
    if remap.flags & ~known or remap.addr % kernel.geometry.page_bytes or not remap.new:
        return Errno.EINVAL
    area = before.at(remap.addr)
    if checks_first:
        if remap.new > kernel.geometry.user_top or _wrong_target(before, remap):
            return Errno.EINVAL
        if _crowded(before, remap):
            return Errno.ENOMEM
        if remap.flags & MREMAP_FIXED and remap.old == remap.new:
            return _several(before, remap)
    elif remap.places and (
        not remap.flags & MREMAP_MAYMOVE or (remap.keeps and remap.old_len != remap.new_len)
    ):
        return Errno.EINVAL
    if area is None:
        if not before.others_at(remap.addr):
            return Errno.EFAULT
        return Errno.EINVAL if _wrong_target(before, remap) else None
    if area.flags & VM_SEALED and not kernel.seals_asked_first:
        return Errno.EPERM
    if area.flags & VM_HUGETLB:
        huge = kernel.geometry.slot_bytes
        remap = remap._replace(old=round_up(remap.old, huge), new=round_up(remap.new, huge))
        if remap.addr % huge or remap.new_addr % huge or remap.growth or not kernel.hugetlb_moves:
            return Errno.EINVAL
    if not checks_first:
        if _wrong_target(before, remap):
            return Errno.EINVAL
        if _crowded(before, remap):
            return Errno.ENOMEM
    parts = before.inside(remap.addr, remap.addr + remap.old)
    if any(part.flags & VM_SEALED for part in parts) and kernel.seals_asked_first:
        return Errno.EPERM
    if remap.old >= remap.new and not remap.places:
        return _lost(before, remap) or Granted(remap.addr)
    gone = [] if checks_first else remap.evicts
    checks = [_lost(before, remap), _wrong_source(before, remap, area, gone)]
    for error in reversed(checks) if checks_first else checks:
        if error is not None:
            return error
    if remap.places:
        return _placed(before, remap, area)
    return _grown(before, remap, area)


def _crowded(before: Snapshot, remap: Request) -> bool:
    """Does the call fail for the number of VMAs, or because that check is to fail?

    Until 7.0 that was asked of FIXED and DONTUNMAP alone.
    """
    struck = 1 in before.failing.get(MAPS, ())
    if not struck and not before.crowded(remap):
        return False
    return before.kernel.map_count_before_all or (remap.places and before.kernel.map_count_first)


def _wrong_target(before: Snapshot, remap: Request) -> bool:
    """Is the destination of FIXED or DONTUNMAP impossible?"""
    geometry = before.kernel.geometry
    return remap.places and (
        not remap.flags & MREMAP_MAYMOVE
        or (remap.keeps and remap.old != remap.new)
        or bool(remap.new_addr % geometry.page_bytes)
        or remap.new_addr + remap.new > geometry.user_top
        or (remap.addr < remap.new_addr + remap.new and remap.new_addr < remap.addr + remap.old)
    )


def _lost(before: Snapshot, remap: Request) -> Errno | None:
    """Is something wrong with what goes first?"""
    for where in remap.evicts:
        beyond = where.end > before.kernel.geometry.user_top
        error = Errno.EINVAL if beyond else removed(before, where.start, where.end)
        if error is not None:
            return error
    covered = remap.new_addr <= remap.addr < remap.new_addr + remap.new
    return Errno.EFAULT if remap.flags & MREMAP_FIXED and covered else None


def _wrong_source(before: Snapshot, remap: Request, area: Area, gone: list[Range]) -> Errno | None:
    """May this be resized or moved at all, when the ranges that are `gone` count no more?"""
    kernel = before.kernel
    shared = bool(area.flags & VM_SHARED)
    if not remap.old and not shared:
        return Errno.EINVAL
    of_object = not area.backing.is_anonymous
    fixed_size = area.flags & (VM_HUGETLB | VM_DONTEXPAND)
    if remap.keeps and (fixed_size or (of_object and not kernel.dontunmap_any)):
        return Errno.EINVAL
    if remap.addr + min(remap.old, remap.new) > area.end:
        return Errno.EFAULT
    if remap.growth:
        shift = kernel.geometry.page_shift
        first = area.pgoff + (remap.addr - area.start >> shift)
        if first + (remap.new >> shift) > kernel.geometry.word_mask:
            return Errno.EINVAL
        if fixed_size:
            return Errno.EFAULT
        if area.flags & VM_LOCKED and _passes(before, "locked", remap.growth, gone):
            return Errno.EAGAIN
        if _passes(before, "address_space", remap.growth, gone):
            return Errno.ENOMEM
    return None


_COUNTERS = {"address_space": (0, 0), "locked": (1, VM_LOCKED), "commit": (2, VM_ACCOUNT)}


def _passes(before: Snapshot, limit: str, more: int, gone: list[Range]) -> bool:
    """Would `more` bytes pass a limit, when the ranges that are `gone` count no more?"""
    bound = None if before.limits is None else getattr(before.limits, limit)
    number, flag = _COUNTERS[limit]
    return bound is not None and (
        before.in_use[number] - sum(before.held(where, flag) for where in gone) + more > bound
    )


def _placed(before: Snapshot, remap: Request, area: Area) -> Promise:
    """A move of one VMA with FIXED or DONTUNMAP that nothing speaks against."""
    kernel = before.kernel
    if remap.keeps and _passes(before, "address_space", remap.old, remap.evicts):
        return Errno.ENOMEM
    if not remap.flags & MREMAP_FIXED:
        place = placed(before, remap.new, remap.new_addr, of_object=not area.backing.is_anonymous)
    elif remap.new_addr < kernel.geometry.min_addr:
        return Errno.EPERM
    else:
        place = Granted(remap.new_addr)
    isolates = remap.keeps and bool(area.flags & VM_LOCKED)
    if _overfull(before, _split_or_gone(before, remap), isolates=isolates):
        return Errno.ENOMEM
    return _charged(before, remap, area) or place


def _overfull(before: Snapshot, more: int, *, isolates: bool = False) -> bool:
    """Is there no room for the VMAs that a move makes, beside `more` others?

    Until 7.0 four had to fit; since then two, and one if it `isolates` its source.
    """
    kernel = before.kernel
    if not before.full(more + 4):
        return False
    if not kernel.map_count_before_all:
        return True
    return before.full(more + 2 + (isolates and kernel.dontunmap_splits_locked))


def _split_or_gone(before: Snapshot, remap: Request) -> int:
    """How many VMAs there are more when what goes first is gone: -1 for each of which all goes."""
    more = 0
    for where in remap.evicts:
        for one in before.inside(where.start, where.end):
            more += (one.start < where.start) + (where.end < one.end) - 1
    return more


def _charged(before: Snapshot, remap: Request, area: Area) -> Errno | None:
    """Is the charge for what a move adds refused?"""
    charge = remap.new if remap.keeps else remap.growth
    if before.limits is None or not area.flags & VM_ACCOUNT or not charge:
        return None
    request = before.limits.request
    refused = _passes(before, "commit", charge, remap.evicts)
    return Errno.ENOMEM if refused or (request is not None and charge > request) else None


def _several(before: Snapshot, remap: Request) -> Promise:
    """A move of every VMA in a range; the first must begin where the range does.

    What a userfaultfd watches moves alone (d5f416c7c364), as does a map of BPF.  Each part evicts,
    and is charged for, by itself.
    """
    end = remap.addr + remap.old
    parts = before.inside(remap.addr, end)
    if not parts or parts[0].start > remap.addr:
        return None if before.others_at(remap.addr) else Errno.EFAULT
    if len(parts) > 1 and before.full(8 + 3 * len(parts)):
        return None
    for number, area in enumerate(parts):
        start = max(area.start, remap.addr)
        length = min(area.end, end) - start
        alone = area.uffd is not None or not area.backing.may_be_part
        if alone and (number or area.end < end):
            return Errno.EFAULT
        if area.flags & VM_SEALED:
            return Errno.EPERM
        if remap.keeps and area.flags & VM_DONTEXPAND:
            return Errno.EINVAL
        to = start - remap.addr + remap.new_addr
        part = remap._replace(addr=start, new_addr=to, old=length, new=length)
        if area.flags & VM_HUGETLB:
            return None
        error = removed(before, to, to + length)
        if error is not None:
            return error
        if number and remap.keeps and before.limits is not None:
            return None  # the parts before it count, too
        promise = _placed(before, part, area)
        if isinstance(promise, Errno):
            return promise
    return Granted(remap.new_addr)


def _grown(before: Snapshot, remap: Request, area: Area) -> Promise:
    """Growth without a given place: where it is if there is room, else anywhere."""
    end = remap.addr + remap.new
    place: Promise
    if remap.addr + remap.old == area.end and (
        end <= before.arena.end and not before.inside(area.end, end)
    ):
        place = Granted(remap.addr)
    elif not remap.flags & MREMAP_MAYMOVE:
        return Errno.ENOMEM
    else:
        place = placed(before, remap.new, 0, of_object=not area.backing.is_anonymous)
        if _overfull(before, 0):
            return Errno.ENOMEM
    return _charged(before, remap, area) or place
