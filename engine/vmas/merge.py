"""When VMAs become one: the rules, and the two situations they are applied in.

A range merges with a neighbour if both agree in flags, backing and linear page offset, and their
anon_vmas are compatible.  `merge_new` serves a range that is not mapped yet (mmap, the copy of a
moved VMA, growth in place); `merge_modified` part of a VMA whose flags change.
Source: mm/vma.c, mm/mmap.c, Linux 6.1, 6.12, 6.18.
"""

from collections.abc import Sequence
from typing import NamedTuple

from engine.base.address import Range
from engine.base.kernel import Kernel
from engine.base.violation import Violation
from engine.state import terms
from engine.state.backing import ANONYMOUS, Backing
from engine.state.vma import VM_HUGETLB, VM_SPECIAL, AnonVma, UffdContext, Vma, VmaTree


class Proposal(NamedTuple):
    """A range that asks for neighbours to merge with; `pgoff` in pages, the rest in bytes.

    `source` is the VMA it is copied from or a part of; None for a new mapping.  `uffd` is the
    userfaultfd it is about to be registered with, if that is not the one of the source.
    `anon_shift` as in `Vma`.
    """

    start: int
    end: int
    flags: int
    pgoff: int
    anon_vma: AnonVma | None = None
    backing: Backing = ANONYMOUS
    source: Vma | None = None
    uffd: UffdContext | None = None
    anon_shift: int = 0


def _uffd(proposal: Proposal) -> UffdContext | None:
    """The userfaultfd that the merged VMA would have."""
    return proposal.uffd or (proposal.source.uffd if proposal.source else None)


def anon_vmas_compatible(kernel: Kernel, ours: AnonVma | None, neighbours: AnonVma | None) -> bool:
    """May a range with anon_vma `ours` be absorbed by a neighbour?  (is_mergeable_anon_vma)

    An unfaulted range may join a faulted neighbour.  The other way round only since 6.16: before,
    the neighbour's empty anon_vma chain fails the test "has exactly one link".
    """
    if ours is neighbours:
        return True  # mark: merge-same-anon-vma
    if ours is None:
        return True  # mark: merge-unfaulted
    return neighbours is None and kernel.merge_faulted_source


def _agrees(kernel: Kernel, proposal: Proposal, vma: Vma) -> bool:
    return (
        vma.flags == proposal.flags
        and not vma.flags & (VM_HUGETLB | VM_SPECIAL)  # hugetlb has VM_DONTEXPAND
        and vma.backing is proposal.backing
        and vma.uffd is _uffd(proposal)
        and vma.anon_shift == proposal.anon_shift
        and anon_vmas_compatible(kernel, proposal.anon_vma, vma.anon_vma)
    )


def _left(kernel: Kernel, tree: VmaTree, proposal: Proposal) -> Vma | None:
    """The neighbour that ends where the proposal starts, if it can take the proposal in."""
    vma = tree.before(proposal.start)
    if vma is None or vma.end != proposal.start:
        return None
    pages = (vma.end - vma.start) >> tree.page_shift
    continues = vma.pgoff + pages == proposal.pgoff
    return vma if continues and _agrees(kernel, proposal, vma) else None


def _right(kernel: Kernel, tree: VmaTree, proposal: Proposal) -> Vma | None:
    """The neighbour that starts where the proposal ends, if it can take the proposal in."""
    vma = tree.after(proposal.end)
    if vma is None or vma.start != proposal.end:
        return None
    pages = (proposal.end - proposal.start) >> tree.page_shift
    continues = proposal.pgoff + pages == vma.pgoff
    return vma if continues and _agrees(kernel, proposal, vma) else None


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
    if left and right and right.anon_vma and right.anon_vma is not left.anon_vma:
        if mmap and not kernel.merge_new_range:
            if not anon_vmas_compatible(kernel, right.anon_vma, left.anon_vma):
                left = None  # mark: merge-new-prefers-right
        elif left.anon_vma:
            # mark: merge-new-leaves-right
            right = None  # all three do not fit together
    if left:
        _check(kernel, tree, left, proposal)
        end = proposal.end
        if right:
            _check(kernel, tree, right, proposal)
            end = right.end
            tree.remove(right)  # mark: merge-new-three
        tree.resize(left, left.start, end)
        left.adopt_anon_vma(right)
        _link_source(kernel, left, proposal)
        left.tracked = _tracked(kernel, left.tracked, [right, proposal.source])
        return left  # mark: merge-new-left
    if right:
        _check(kernel, tree, right, proposal)
        tree.resize(right, proposal.start, right.end)
        _link_source(kernel, right, proposal)
        right.tracked = _tracked(kernel, right.tracked, [proposal.source])
        return right  # mark: merge-new-right
    return None


def _tracked(kernel: Kernel, usual: bool, parts: Sequence[Vma | None]) -> bool:
    """Are writes to what `parts` have become tracked, all of it clean till then (no VM_SOFTDIRTY)?

    The flag does not keep VMAs apart, and until 6.18 the merged one has that of one of them, as is
    `usual`; since 6.19 it is sticky.  Measured on 6.1.176, 6.12.43, 6.18.15, 6.19.14 and 7.3.4.
    Source: VM_IGNORE_MERGE in 6.18, VM_STICKY in 6.19.
    """
    everywhere = all(part.tracked for part in parts if part)
    return usual and (everywhere or not kernel.merge_keeps_soft_dirty)


def _link_source(kernel: Kernel, merged: Vma, proposal: Proposal) -> None:
    """Keep the anon_vma that a faulted range brings along: forgotten until 6.18.7 (B-43)."""
    if merged.anon_vma is None and proposal.anon_vma and kernel.merge_links_source:
        merged.adopt_anon_vma(proposal.source)  # mark: merge-links-source


def merge_modified(
    kernel: Kernel,
    tree: VmaTree,
    vma: Vma,
    start: int,
    end: int,
    flags: int,
    uffd: UffdContext | None = None,
    *,
    adds: bool = False,
) -> Vma | None:
    """Let neighbours absorb [start, end) of `vma`, whose flags become `flags`, see `modify`.

    Returns: the VMA that now covers the range with those flags, or None if no neighbour took it.
    Source: vma_merge_existing_range() in 6.12, vma_merge() in 6.1.
    """
    pgoff = vma.pgoff + ((start - vma.start) >> tree.page_shift)
    shift = vma.anon_shift
    proposal = Proposal(start, end, flags, pgoff, vma.anon_vma, vma.backing, vma, uffd, shift)
    left = _left(kernel, tree, proposal) if start == vma.start else None
    right = _right(kernel, tree, proposal) if end == vma.end else None
    if left and right and not _join(left.anon_vma, right.anon_vma):
        right = None  # mark: merge-modified-leaves-right
    for neighbour in (left, right):
        if neighbour:
            _check(kernel, tree, neighbour, proposal)
    if target := left or right:
        usual = target.tracked if adds else vma.tracked
        target.tracked = _tracked(kernel, usual, [left, right, vma])
    if left and right:
        tree.remove(vma)
        tree.remove(right)
        tree.resize(left, left.start, right.end)
        left.adopt_anon_vma(right)  # mark: merge-modified-three
        left.adopt_anon_vma(vma)
        return left
    if left:
        if end == vma.end:
            tree.remove(vma)
        else:
            tree.resize(vma, end, vma.end)
        tree.resize(left, left.start, end)
        left.adopt_anon_vma(vma)
        return left
    if right:
        if start == vma.start:
            tree.remove(vma)
        else:
            tree.resize(vma, vma.start, start)
        tree.resize(right, start, right.end)
        right.adopt_anon_vma(vma)
        return right
    return None


def _check(kernel: Kernel, tree: VmaTree, vma: Vma, proposal: Proposal) -> None:
    """V-06, as a merge takes place: the two agree in all that a VMA says about its pages."""
    offset = proposal.pgoff - (proposal.start >> tree.page_shift)
    theirs, ours = vma.anon_vma, proposal.anon_vma
    if (
        vma.pgoff - (vma.start >> tree.page_shift) != offset
        or vma.flags != proposal.flags
        or vma.backing is not proposal.backing
        or vma.uffd is not _uffd(proposal)
        or vma.anon_shift != proposal.anon_shift
        or not (theirs is ours or theirs is None or ours is None)
        or (vma.end != proposal.start and vma.start != proposal.end)
    ):
        geometry, where = kernel.geometry, Range(proposal.start, proposal.end)
        other = terms.mapping(geometry, where, proposal.flags, proposal.backing, proposal.pgoff)
        tree.report(
            Violation(
                "merge-agrees",
                Range(min(vma.start, proposal.start), max(vma.end, proposal.end)),
                f"{terms.vma(geometry, vma)}, merged with {other}",
                "what agrees in flags, object, page offset, userfaultfd and anon_vma",
            )
        )


def modify(
    kernel: Kernel,
    tree: VmaTree,
    vma: Vma,
    start: int,
    end: int,
    flags: int,
    uffd: UffdContext | None = None,
    *,
    adds: bool = False,
) -> Vma:
    """Give [start, end) of `vma` other flags, merging or splitting as needed.

    Arguments: `uffd` a userfaultfd to register it with at the same time; `adds`: the caller adds
    flags to those of the VMA that comes out, else it gives that all flags of the range, so that it
    is soft-dirty as the range was.
    Returns: the VMA that covers the range now.
    Errors raised: VmaRefused; boundaries may have come about, but no flags have changed.
    Source: vma_modify() in 6.12.
    """
    if flags == vma.flags and not uffd:
        return vma
    merged = merge_modified(kernel, tree, vma, start, end, flags, uffd, adds=adds)
    if merged is not None:
        return merged
    if vma.start < start:
        vma = tree.split_counted(vma, start)  # mark: modify-splits-below
    if end < vma.end:
        tree.split_counted(vma, end)  # mark: modify-splits-above
    vma.flags = flags
    vma.uffd = uffd or vma.uffd
    return vma


def reusable_anon_vma(tree: VmaTree, vma: Vma) -> AnonVma | None:
    """The anon_vma of an adjacent VMA that `vma` might merge with after an mprotect.

    Sharing it at the first fault keeps that merge possible.  Source: find_mergeable_anon_vma().
    """
    above = tree.after(vma.end)
    if above and above.anon_vma and above.link and _could_be_one(tree, vma, above):
        return above.anon_vma
    below = tree.before(vma.start)
    if below and below.anon_vma and below.link and _could_be_one(tree, below, vma):
        return below.anon_vma
    return None


def _could_be_one(tree: VmaTree, low: Vma, high: Vma) -> bool:
    """anon_vma_compatible(): adjacent and equal but for the protection."""
    return (
        low.end == high.start
        and low.backing is high.backing
        and not (low.flags ^ high.flags) & ~0x7
        and low.pgoff + ((low.end - low.start) >> tree.page_shift) == high.pgoff
        and low.anon_shift == high.anon_shift
    )
