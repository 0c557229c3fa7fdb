"""What a call that succeeds has mapped where, by plain intervals."""

from collections.abc import Iterable, Iterator

from engine.base.address import Range
from engine.base.points import ENTER
from engine.base.uapi import UFFD_FEATURE_SIGBUS
from engine.base.violation import Violation
from engine.state import terms
from engine.state.vma import (
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_UFFD,
)
from fuzz.rules.mremap import POPULATE_ON_SUCCESS
from fuzz.rules.rule import (
    CONTRACT,
    HARM,
    VMAS,
    Rule,
    after,
    at,
)
from fuzz.rules.sight import Moving, Sight, clip

MAPPING_KEPT = Rule(
    "S-11",
    "mapping-kept",
    "a mapping that moves or grows keeps its flags, its object and its place in that",
    "copy_vma(), vma_merge()",
    HARM,
)


TRACKING_KEPT = Rule(
    "S-18",
    "tracking-kept",
    "a copy has its writes tracked as the mapping that it is made from",
    "copy_vma(), which takes VM_SOFTDIRTY along in vm_flags",
    CONTRACT,
)


@at((ENTER,), TRACKING_KEPT)
def tracked(sight: Moving) -> Iterable[Violation]:
    """What becomes part of another mapping is tracked as that is.  Exec moves one VMA as it is."""
    move = sight.move
    source, copy = move.old_vma, move.new_vma
    there = move.requested_old + sight.delta
    alone = (copy.start, copy.end) == (there, there + move.length)
    if move.rollback or source is copy or not alone or source.tracked == copy.tracked:
        return ()
    return (
        TRACKING_KEPT.broken(
            copy.range,
            "writes are tracked" if copy.tracked else "writes are not tracked",
            f"as in {terms.vma(move.space.geometry, source)}",
        ),
    )


@after("mremap", MAPPING_KEPT, before=VMAS)
def moved(sight: Sight) -> Iterator[Violation]:
    """The mappings of the source are where the call says, as they were.

    What it grew by shows what follows the last old page.  Gaps are not spoken of.
    """
    if sight.address is None:
        return
    space, before, request = sight.space, sight.before, sight.request
    source, old_len, new_len = request.source, request.old, request.new
    target = Range(sight.address, sight.address + new_len)
    delta = target.start - source.start
    moved = clip(before.mapped, Range(source.start, source.start + min(old_len, new_len)))
    if new_len > old_len:
        last = max(source.start, source.end - 1)
        moved += [
            m._replace(start=source.end, end=source.start + new_len)
            for m in before.mapped
            if m.start <= last < m.end
        ]
    expected = [m._replace(flags=m.flags & ~VM_UFFD).ahead(delta, space.geometry) for m in moved]
    if any(m.flags & VM_HUGETLB for m in moved):
        return  # lengths mean huge pages there
    mapped = sight.after.mapped
    for wanted in expected:
        place = Range(wanted.start, wanted.end)
        for found in clip(mapped, place):
            if (found.flags & ~VM_UFFD, found.backing, found.offset) != wanted[2:]:
                yield MAPPING_KEPT.broken(
                    Range(found.start, found.end),
                    found.told(space.geometry),
                    wanted.told(space.geometry),
                )
                return


@after("mremap", POPULATE_ON_SUCCESS, before=VMAS)
def grown(sight: Sight) -> Iterator[Violation]:
    """What was added is present if it is locked, as far as its object goes; else it is empty.

    Behind the end of an object there may be the rest of a huge page: nothing is said of that,
    nor of what a userfaultfd keeps out by SIGBUS.
    """
    space, request, result = sight.space, sight.request, sight.address
    if result is None or request.new <= request.old:
        return
    growth = Range(result + request.old, result + request.new)
    vma = space.vmas.lookup(result)
    if vma is None or vma.flags & VM_HUGETLB or space.failures.armed:
        return  # lengths of hugetlb mean huge pages
    if not vma.is_anonymous:
        pages = vma.backing.size_pages - vma.pgoff
        size_end = vma.start + (pages << space.geometry.page_shift)
        growth = Range(growth.start, max(min(growth.end, size_end), growth.start))
    present = sum(
        min(addr + (1 << space.geometry.entry_shift[level]), growth.end) - max(addr, growth.start)
        for addr, level, _ in space.tree.leaves(growth.start, growth.end)
    )
    locked = vma.flags & VM_LOCKED and not vma.flags & VM_LOCKONFAULT
    if locked and vma.uffd is not None and vma.uffd.features & UFFD_FEATURE_SIGBUS:
        return
    wanted = growth.length if locked and vma.readable else 0
    if present != wanted:
        yield POPULATE_ON_SUCCESS.broken(
            growth, f"{terms.size(present)} of it present", terms.size(wanted)
        )
