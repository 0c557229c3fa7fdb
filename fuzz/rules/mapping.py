"""S-11 and S-10: what a call that succeeds has mapped where, by plain intervals."""

from collections.abc import Iterator

from engine.base.address import Range, round_up
from engine.base.uapi import Errno
from engine.base.violation import Violation
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_READ,
    VM_UFFD,
    VM_WRITE,
)
from fuzz.rules.mremap import Mapped, Request, Snapshot, clip, mapped_of

_STACK = VM_READ | VM_WRITE | VM_GROWSDOWN | VM_ACCOUNT


def check_mapping(
    space: AddressSpace,
    before: Snapshot,
    request: Request,
    result: int | Errno,
    after: Snapshot | None = None,
) -> Iterator[Violation]:
    """After an mremap: the mappings of the source are where it says, as they were.

    What it grew by shows what follows the last old page.  Gaps are not spoken of.
    Arguments: `after` the state now, if it was looked at already.
    """
    if isinstance(result, Errno):
        return
    if any(violation.rule == "dontunmap-two-vmas" for violation in space.violations):
        return  # one VMA cannot be as source and copy should be
    page, mask = space.geometry.page_bytes, space.geometry.word_mask
    old_len, new_len = (round_up(n, page) & mask for n in (request.old_len, request.new_len))
    source = Range(request.addr, request.addr + old_len)
    target = Range(result, result + new_len)
    page_shift = space.geometry.page_shift
    delta = target.start - source.start
    moved = clip(before.mapped, Range(source.start, source.start + min(old_len, new_len)))
    if new_len > old_len:
        last = max(source.start, source.end - 1)
        moved += [
            m._replace(start=source.end, end=source.start + new_len)
            for m in before.mapped
            if m.start <= last < m.end
        ]
    expected = [
        Mapped(
            m.start + delta,
            m.end + delta,
            m.flags & ~VM_UFFD,
            m.backing,
            0 if m.backing.is_anonymous else m.offset - (delta >> page_shift),
        )
        for m in moved
    ]
    if any(m.flags & VM_HUGETLB for m in moved):
        return  # lengths mean huge pages there
    mapped = after.mapped if after else mapped_of(space)
    for wanted in expected:
        place = Range(wanted.start, wanted.end)
        for found in clip(mapped, place):
            if (found.flags & ~VM_UFFD, found.backing, found.offset) != wanted[2:]:
                yield Violation(
                    "mapping-kept",
                    Range(found.start, found.end),
                    f"flags {found.flags:#x}, {found.backing} at {found.offset:#x}",
                    f"flags {wanted.flags:#x}, {wanted.backing} at {wanted.offset:#x}",
                )
                return


def check_growth(space: AddressSpace, request: Request, result: int | Errno) -> Iterator[Violation]:
    """S-10: private memory that an mremap has added is present if it is locked, and else empty."""
    page, mask = space.geometry.page_bytes, space.geometry.word_mask
    old_len, new_len = (round_up(n, page) & mask for n in (request.old_len, request.new_len))
    if isinstance(result, Errno) or new_len <= old_len:
        return
    growth = Range(result + old_len, result + new_len)
    vma = space.vmas.lookup(growth.start)
    if vma is None or not vma.is_anonymous or vma.flags & VM_HUGETLB or space.failures.armed:
        return
    present = sum(
        min(addr + (1 << space.geometry.entry_shift[level]), growth.end) - max(addr, growth.start)
        for addr, level, _ in space.tree.leaves(growth.start, growth.end)
    )
    locked = vma.flags & VM_LOCKED and not vma.flags & VM_LOCKONFAULT
    wanted = growth.length if locked and vma.readable else 0
    if present != wanted:
        yield Violation(
            "populate-on-success", growth, f"{present:#x} bytes present", f"{wanted:#x}"
        )


def check_stack_mapping(
    space: AddressSpace, place: Range, result: Errno | None
) -> Iterator[Violation]:
    """After exec: a stack as every program gets it; or nothing, if it is too late to go back."""
    vmas = list(space.vmas)
    if result is None and [vma.flags for vma in vmas] != [_STACK]:
        yield Violation("mapping-kept", place, f"{[hex(v.flags) for v in vmas]}", f"{_STACK:#x}")
    if result is Errno.ENOMEM and vmas:
        yield Violation("mapping-kept", place, f"{vmas}", "nothing mapped")
