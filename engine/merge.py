"""When VMAs become one: the rules, and the two situations they are applied in.

A range merges with a neighbour if both agree in flags, file and linear page offset, and their
anon_vmas are compatible.  `merge_new` serves a range that is not mapped yet (mmap, the copy of a
moved VMA, growth in place); `merge_modified` part of a VMA whose flags change.
Source: mm/vma.c, mm/mmap.c, Linux 6.1, 6.12, 6.18.
"""

from typing import NamedTuple

from engine.kernel import Kernel
from engine.vma import AnonVma, SharedObject, Vma, VmaTree


class Proposal(NamedTuple):
    """A range that asks for neighbours to merge with; `pgoff` in pages, the rest in bytes."""

    start: int
    end: int
    flags: int
    pgoff: int
    anon_vma: AnonVma | None
    file: SharedObject | None


def anon_vmas_compatible(kernel: Kernel, ours: AnonVma | None, neighbours: AnonVma | None) -> bool:
    """May a range with anon_vma `ours` be absorbed by a neighbour?  (is_mergeable_anon_vma)

    An unfaulted range may join a faulted neighbour.  The other way round only since 6.16: before,
    the neighbour's empty anon_vma chain fails the test "has exactly one link".
    """
    if ours is neighbours:
        return True
    if ours is None:
        return True
    return neighbours is None and kernel.merge_faulted_source


def _agrees(kernel: Kernel, proposal: Proposal, vma: Vma) -> bool:
    return (
        vma.flags == proposal.flags
        and vma.file is proposal.file
        and anon_vmas_compatible(kernel, proposal.anon_vma, vma.anon_vma)
    )


def _left(kernel: Kernel, tree: VmaTree, proposal: Proposal) -> Vma | None:
    """The neighbour that ends where the proposal starts, if it can take the proposal in."""
    vma = tree.before(proposal.start)
    if vma is None or vma.end != proposal.start or not _agrees(kernel, proposal, vma):
        return None
    pages = (vma.end - vma.start) >> tree.page_shift
    return vma if vma.pgoff + pages == proposal.pgoff else None


def _right(kernel: Kernel, tree: VmaTree, proposal: Proposal) -> Vma | None:
    """The neighbour that starts where the proposal ends, if it can take the proposal in."""
    vma = tree.after(proposal.end)
    if vma is None or vma.start != proposal.end or not _agrees(kernel, proposal, vma):
        return None
    pages = (proposal.end - proposal.start) >> tree.page_shift
    return vma if proposal.pgoff + pages == vma.pgoff else None


def _join(left: AnonVma | None, right: AnonVma | None) -> bool:
    """Left and right neighbour must be compatible with each other when all three become one."""
    return left is None or right is None or left is right


def merge_new(
    kernel: Kernel,
    tree: VmaTree,
    proposal: Proposal,
    *,
    avoid: Vma | None = None,
    mmap: bool = False,
) -> Vma | None:
    """Let neighbours absorb a range that is not mapped yet.

    Arguments: `avoid` a neighbour that must not take part; `mmap` the caller is mmap(2), which
    before 6.12 preferred the right neighbour when the two did not fit together.
    Returns: the VMA that now covers the range, or None if no neighbour took it.
    Source: vma_merge_new_range() in 6.12; vma_merge() and mmap_region() in 6.1.
    """
    left = _left(kernel, tree, proposal)
    right = _right(kernel, tree, proposal)
    left = None if left is avoid else left
    right = None if right is avoid else right
    if left and right and mmap and not kernel.merge_new_range:
        if not anon_vmas_compatible(kernel, right.anon_vma, left.anon_vma):
            left = None
    elif left and right and not _join(left.anon_vma, right.anon_vma):
        right = None
    if left:
        anon_vma = left.anon_vma or (right.anon_vma if right else None) or proposal.anon_vma
        end = proposal.end
        if right:
            end = right.end
            tree.remove(right)
        tree.resize(left, left.start, end)
        left.anon_vma = anon_vma
        return left
    if right:
        tree.resize(right, proposal.start, right.end)
        right.anon_vma = right.anon_vma or proposal.anon_vma
        return right
    return None


def merge_modified(
    kernel: Kernel, tree: VmaTree, vma: Vma, start: int, end: int, flags: int
) -> Vma | None:
    """Let neighbours absorb [start, end) of `vma`, whose flags become `flags`.

    Returns: the VMA that now covers the range with those flags, or None if no neighbour took it.
    Source: vma_merge_existing_range() in 6.12, vma_merge() in 6.1.
    """
    pgoff = vma.pgoff + ((start - vma.start) >> tree.page_shift)
    proposal = Proposal(start, end, flags, pgoff, vma.anon_vma, vma.file)
    left = _left(kernel, tree, proposal) if start == vma.start else None
    right = _right(kernel, tree, proposal) if end == vma.end else None
    if left and right and not _join(left.anon_vma, right.anon_vma):
        right = None
    if left and right:
        anon_vma = left.anon_vma or right.anon_vma or vma.anon_vma
        tree.remove(vma)
        tree.remove(right)
        tree.resize(left, left.start, right.end)
        left.anon_vma = anon_vma
        return left
    if left:
        if end == vma.end:
            tree.remove(vma)
        else:
            tree.resize(vma, end, vma.end)
        tree.resize(left, left.start, end)
        left.anon_vma = left.anon_vma or proposal.anon_vma
        return left
    if right:
        if start == vma.start:
            tree.remove(vma)
        else:
            tree.resize(vma, vma.start, start)
        tree.resize(right, start, right.end)
        right.anon_vma = right.anon_vma or proposal.anon_vma
        return right
    return None


def modify(kernel: Kernel, tree: VmaTree, vma: Vma, start: int, end: int, flags: int) -> Vma:
    """Give [start, end) of `vma` other flags, merging or splitting as needed.

    Returns: the VMA that covers the range now.  Source: vma_modify() in 6.12.
    """
    if flags == vma.flags:
        return vma
    merged = merge_modified(kernel, tree, vma, start, end, flags)
    if merged is not None:
        return merged
    if vma.start < start:
        vma = tree.split(vma, start)
    if end < vma.end:
        tree.split(vma, end)
    vma.flags = flags
    return vma


def reusable_anon_vma(tree: VmaTree, vma: Vma) -> AnonVma | None:
    """The anon_vma of an adjacent VMA that `vma` might merge with after an mprotect.

    Sharing it at the first fault keeps that merge possible.  Source: find_mergeable_anon_vma().
    """
    above = tree.after(vma.end)
    if above and above.anon_vma and _could_be_one(tree, vma, above):
        return above.anon_vma
    below = tree.before(vma.start)
    if below and below.anon_vma and _could_be_one(tree, below, vma):
        return below.anon_vma
    return None


def _could_be_one(tree: VmaTree, low: Vma, high: Vma) -> bool:
    """anon_vma_compatible(): adjacent and equal but for the protection."""
    return (
        low.end == high.start
        and low.file is high.file
        and not (low.flags ^ high.flags) & ~0x7
        and low.pgoff + ((low.end - low.start) >> tree.page_shift) == high.pgoff
    )
