"""What an mremap leaves behind, at both its places and elsewhere: before against after."""

from collections.abc import Iterator

from engine.base.address import Range
from engine.base.entry import ANON, MARKER, MIGRATION, PFN_SHIFT, PRESENT, SOFT_DIRTY
from engine.base.geometry import PTE
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, Errno
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_SEALED,
    VM_UFFD,
)
from fuzz.rules.failures import page_count
from fuzz.rules.picture import Leaves, carried, clipped, differing, misfits, pages, shifted
from fuzz.rules.rule import CONTRACT, COURSE, ENGINE, HARM, LEAVES, VMAS, Rule, after, elsewhere
from fuzz.rules.sight import Mapped, Request, Sight, Snapshot, clip, mapped_of, merged, without
from fuzz.rules.vmas import ANON_VMA_LINKED

ROLLBACK_RESTORES = Rule(
    "I-11",
    "rollback-restores",
    "a move that fails puts every entry back, and its destination is gone",
    "the error path of move_vma(); B-08",
    HARM,
)

ROLLBACK_COMPLETE = Rule(
    "I-31",
    "rollback-complete",
    "the way back of a move that fails goes all the way",
    "move_vma(), which does not look at what move_page_tables() returns then",
    HARM,
)

ERROR_TRACELESS = Rule(
    "S-02",
    "error-traceless",
    "an error found before anything is unmapped leaves everything as it was",
    "as S-01; B-53, B-69",
    CONTRACT,
)

FIXED_ADDRESS = Rule(
    "S-03",
    "fixed-address",
    "with MREMAP_FIXED success returns the new address",
    "mremap_to(); B-52",
    CONTRACT,
)

FIXED_EXACT = Rule(
    "S-04",
    "fixed-exact",
    "after a FIXED move the destination holds exactly what was moved",
    "mremap_to()",
    HARM,
)

DONTUNMAP_SOURCE = Rule(
    "S-05",
    "dontunmap-source",
    "DONTUNMAP leaves the source mapped, empty, unlocked, else with its flags",
    "dontunmap_complete(); B-33, B-35",
    CONTRACT,
)

RESIZE_EXACT = Rule(
    "S-06",
    "resize-exact",
    "a no-op changes nothing, a shrink unmaps the tail and nothing else",
    "do_mremap(); B-53",
    HARM,
)

DUPLICATE_KEEPS_SOURCE = Rule(
    "S-07",
    "duplicate-keeps-source",
    "old_len 0 leaves the source unchanged",
    "vma_to_resize(), copy_vma()",
    HARM,
)

MULTI_GAPS = Rule(
    "S-08",
    "multi-gaps",
    "a move of several VMAs keeps their gaps, and what was mapped at a gap's destination",
    "remap_move(), 6.17; B-51",
    HARM,
)

POPULATE_ON_SUCCESS = Rule(
    "S-10",
    "populate-on-success",
    "a call that failed has brought no page in",
    "mm_populate() in mremap(); B-58",
    CONTRACT,
)

MOVED_UNMAPPED = Rule(
    "S-15",
    "moved-unmapped",
    "what pages have moved away from is unmapped: the source, or the copy of a failed move",
    "move_vma(), which tells nobody that do_vmi_munmap() failed",
    HARM,
)

LEFT_LOCKED = Rule(
    "I-34",
    "left-locked",
    "pages that MREMAP_DONTUNMAP leaves in a mapping that it unlocks stay locked, and no others",
    "dontunmap_complete(): no mlock_fixup() comes to them",
    COURSE,
)

ERROR_KEEPS_PAGES = Rule(
    "S-19",
    "error-keeps-pages",
    "an error found before anything is unmapped leaves every page where it was",
    "as S-02; B-51, B-57, B-62, B-66, B-69",
    HARM,
)
LOCK_KEPT = Rule(
    "S-16",
    "lock-kept",
    "a call that fails leaves memory locked as it was",
    "dontunmap_complete(), 6.15",
    HARM,
)

DONTUNMAP_TWO_VMAS = Rule(
    "V-11",
    "dontunmap-two-vmas",
    "the source of DONTUNMAP and its copy are two VMAs",
    "copy_vma(); B-35",
    CONTRACT,
)

elsewhere(ENGINE, DONTUNMAP_TWO_VMAS, ROLLBACK_COMPLETE, MOVED_UNMAPPED)

_UNLOCKED = ~(VM_LOCKED | VM_LOCKONFAULT)


@after("mremap", POPULATE_ON_SUCCESS, before=LEAVES)
def nothing_populated(sight: Sight) -> Iterator[Violation]:
    """A call that failed has brought no page in."""
    if sight.error is None or sight.after.equals(sight.before):
        return
    space = sight.space
    were, now = page_count(space, sight.before.slots), page_count(space, sight.after.slots)
    if now > were:
        yield POPULATE_ON_SUCCESS.broken(
            space.arena,
            f"{terms.count(now, 'page')} after an error",
            f"no more than the {were} before it",
        )


@after("mremap", ROLLBACK_RESTORES, ERROR_TRACELESS, ERROR_KEEPS_PAGES, LOCK_KEPT, before=LEAVES)
def traceless(sight: Sight) -> Iterator[Violation]:
    """What an error may leave behind: with FIXED the destination and a shrink's tail, late only."""
    space, before, after, request = sight.space, sight.before, sight.after, sight.request
    if sight.error is None or after.equals(before):
        return
    source, target = sight.sides
    traces: list[Range] = []
    # A failed move has a copy step behind it: the rollback's own rule speaks for it.
    failed = sight.error is Errno.ENOMEM and not _full(before, request)
    rule = ROLLBACK_RESTORES if failed else ERROR_TRACELESS
    if not any(_unchanged_outside(before, after, [], rule)):
        return
    evicted = request.flags & MREMAP_FIXED and not _refused_early(before, source, target, request)
    if evicted:
        traces.append(target)
        if source.length > target.length:
            traces.append(Range(request.addr + target.length, source.end))
    broken = list(_unchanged_outside(before, after, traces, rule))
    several = evicted and source.length == target.length
    if broken and several and space.kernel.multi_vma_move:
        traces.append(_moved_prefix(sight))
        broken = list(_unchanged_outside(before, after, traces, rule))
    yield from broken
    if broken and rule is ERROR_TRACELESS:
        yield from _pages_left(before, after, traces)


@after("mremap", FIXED_ADDRESS, before=VMAS)
def at_the_address(sight: Sight) -> Iterator[Violation]:
    """What has its place given goes there."""
    request, result, geometry = sight.request, sight.address, sight.space.geometry
    if result is not None and request.flags & MREMAP_FIXED and result != request.new_addr:
        yield FIXED_ADDRESS.broken(
            sight.sides[1],
            terms.address(geometry, result),
            terms.address(geometry, request.new_addr),
        )


@after("mremap", RESIZE_EXACT, LOCK_KEPT, before=LEAVES)
def resized(sight: Sight) -> Iterator[Violation]:
    """Without a move only the tail of a shrink goes."""
    request = sight.request
    if sight.address != request.addr or request.places:
        return
    source, target = sight.sides
    if source.length < target.length:
        return
    tail = Range(request.addr + target.length, source.end)
    yield from _unchanged_outside(sight.before, sight.after, [tail], RESIZE_EXACT)
    if clip(sight.after.mapped, tail):
        yield RESIZE_EXACT.broken(tail, "something mapped", "nothing after a shrink")


@after("mremap", DUPLICATE_KEEPS_SOURCE, LOCK_KEPT, before=LEAVES)
def duplicated(sight: Sight) -> Iterator[Violation]:
    """Where nothing was to move, nothing but the destination has changed."""
    if sight.address is None or sight.request.old:
        return
    source, target = sight.sides
    if not source.length:
        copy = Range(sight.address, sight.address + target.length)
        populates = any(m.flags & VM_LOCKED for m in clip(sight.after.mapped, copy))
        yield from _unchanged_outside(
            sight.before, sight.after, [copy], DUPLICATE_KEEPS_SOURCE, populates=populates
        )


@after("mremap", FIXED_EXACT, MULTI_GAPS, before=LEAVES)
def moved_there(sight: Sight) -> Iterator[Violation]:
    """What a FIXED move leaves at the destination."""
    if sight.address is None or not sight.request.flags & MREMAP_FIXED:
        return
    source, target = sight.sides
    if source.length:
        length = min(source.length, target.length)
        yield from _check_moved(sight.before, sight.after, source, target, length)


@after("mremap", DONTUNMAP_SOURCE, ANON_VMA_LINKED, before=LEAVES)
def source_kept(sight: Sight) -> Iterator[Violation]:
    """What DONTUNMAP leaves behind."""
    if sight.address is None or not sight.request.keeps:
        return
    source, target = sight.sides
    if source.length:
        yield from _check_dontunmap(sight.before, sight.after, source)
        copy = Range(sight.address, sight.address + target.length)
        yield from _check_emptied(sight.space, sight.before, source, copy)


@after("mremap", LEFT_LOCKED, before=VMAS)
def left_locked(sight: Sight) -> Iterator[Violation]:
    """The pages of the source that were not named; of a large folio only if it is mapped as one."""
    space, request, area = sight.space, sight.request, sight.before.at(sight.request.addr)
    vma = space.vmas.lookup(request.addr)
    if sight.address is None or area is None:
        return
    frames, pages = space.frames, space.geometry.slot_pages
    left = set()
    if vma is not None and request.keeps and area.flags & ~vma.flags & VM_LOCKED:
        start, end = max(area.start, vma.start), min(area.end, vma.end)
        for addr, level, entry in space.tree.leaves(start, end):
            pfn = entry >> PFN_SHIFT
            if not entry & PRESENT or not pfn:
                continue
            if level > PTE or pfn - pfn % pages not in frames.large:
                left.add(pfn)
                if pfn not in frames.mlocked:
                    yield LEFT_LOCKED.broken(
                        Range(addr, addr + space.geometry.span_bytes[level - 1]),
                        f"{terms.entry(entry)}, not locked any more",
                        "a page that nobody has unlocked",
                    )
    others = len(frames.mlocked - sight.before.left_locked - left)
    if others and request.source.end <= area.end:
        found = f"{terms.count(others, 'page')} more that nobody will unlock"
        yield LEFT_LOCKED.broken(request.source, found, "only those that a locked mapping leaves")


def _refused_early(before: Snapshot, source: Range, target: Range, request: Request) -> bool:
    """Is the request refused by a check that comes before anything is unmapped?

    Plain integers, no wrap-around: what the checks mean, not what they compute.  Where it may go
    is checked before lengths are rounded to huge pages.
    """
    asked = Range(request.new_addr, request.new_addr + request.new)
    page, top = before.geometry.page_bytes, before.geometry.user_top
    first = next((m for m in before.mapped if m.start <= source.start < m.end), None)
    sealed = first is not None and bool(first.flags & VM_SEALED)
    somewhere = any(m.flags & VM_SEALED for m in clip(before.mapped, source))
    if sealed != somewhere and before.kernel.seals_asked_first:
        sealed = somewhere  # of all that moves, which may be nothing
    if sealed or (
        first is not None
        # One that must move alone, with more behind it: only a call for several VMAs gets there.
        and source.length == target.length
        and first.flags & VM_UFFD
        and first.end < source.end
        and before.kernel.multi_vma_move
    ):
        return True
    if _full(before, request):
        return True
    mapped = _is_mapped(before, source, min(source.length, target.length))
    if not mapped and before.kernel.check_before_unmap:
        # Only the range of one VMA counts unless the call may move several.
        return source.length != target.length or not _is_mapped(before, source, page)
    return (
        bool(request.flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
        or not request.flags & MREMAP_MAYMOVE
        or bool((request.addr | request.new_addr) & (page - 1))
        or not target.length
        or asked.end > top
        or request.source.overlaps(asked)
        or not _is_mapped(before, source, page)
        or (bool(request.flags & MREMAP_DONTUNMAP) and source.length != target.length)
    )


def _full(before: Snapshot, request: Request) -> bool:
    """Are there too many VMAs for a call that has to make room first?"""
    return request.places and before.crowded(request)


def _is_mapped(before: Snapshot, source: Range, length: int) -> bool:
    parts = clip(before.mapped, Range(source.start, source.start + max(length, 1)))
    return (
        bool(parts)
        and parts[0].start == source.start
        and sum(m.end - m.start for m in parts) >= length
    )


def _moved_prefix(sight: Sight) -> Range:
    """The part of the source that a failed move of several VMAs has completely moved (S-08).

    Each VMA goes by itself.  What has arrived may have merged with what lies in a gap.
    """
    source, target = sight.sides
    delta, geometry = target.start - source.start, sight.before.geometry
    end = source.start
    for area in sight.before.inside(source.start, source.end):
        (moved,) = clip(mapped_of([area], geometry), source)
        arrived = moved.ahead(delta, geometry)
        if clip(sight.after.mapped, Range(arrived.start, arrived.end)) != [arrived]:
            break
        end = moved.end
    return Range(source.start, end)


def _unchanged_outside(
    before: Snapshot, after: Snapshot, changed: list[Range], rule: Rule, *, populates: bool = False
) -> Iterator[Violation]:
    """Mappings and leaves outside some ranges are what they were.

    Arguments: `populates` the call brings pages in.
    """
    old_mapped, new_mapped = before.mapped, after.mapped
    geometry, page = before.geometry, before.geometry.page_bytes
    old_slots, new_slots = differing(before.slots, after.slots, geometry.slot_bytes)
    if old_mapped == new_mapped and not old_slots and not new_slots:
        return
    old_leaves, new_leaves = pages(geometry, old_slots), pages(geometry, new_slots)
    for hole in changed:
        old_mapped, new_mapped = without(old_mapped, hole), without(new_mapped, hole)
        old_leaves = {a: e for a, e in old_leaves.items() if not hole.start <= a < hole.end}
        new_leaves = {a: e for a, e in new_leaves.items() if not hole.start <= a < hole.end}
    old_leaves = _without_split(before, old_leaves, new_leaves, 0)
    _leave_out_migrated(old_leaves, new_leaves)
    if populates:
        new_leaves = _without_brought(old_leaves, new_leaves)
    if old_mapped != new_mapped:
        lost = next((m for m in old_mapped if m not in new_mapped), None)
        odd = lost or next(m for m in new_mapped if m not in old_mapped)
        if _unlocked(old_mapped) == _unlocked(new_mapped):
            rule = LOCK_KEPT
        where = Range(odd.start, odd.end)
        found, due = (
            "; ".join(m.told(geometry) for m in clip(mapped, where)) or "nothing mapped"
            for mapped in (new_mapped, old_mapped)
        )
        yield rule.broken(where, found, f"{due}, as before the call")
    elif old_leaves != new_leaves:
        wrong = sorted(
            a
            for a in old_leaves.keys() | new_leaves.keys()
            if old_leaves.get(a) != new_leaves.get(a)
        )
        yield rule.broken(
            Range(wrong[0], wrong[-1] + page),
            misfits(old_leaves, new_leaves),
            "every page where it was",
        )


def _without_brought(expected: Leaves, found: Leaves) -> Leaves:
    """Found leaves but new pages of shared objects: a fault brings those around it along."""
    return {
        addr: entry
        for addr, entry in found.items()
        if addr in expected or entry & ANON or not entry >> PFN_SHIFT
    }


def _leave_out_migrated(expected: Leaves, found: Leaves) -> None:
    """Take away the pages whose migration has ended, as the call populated something.

    They are in another frame now.
    """
    for addr in [a for a, entry in expected.items() if entry & MIGRATION]:
        if found.get(addr, 0) & PRESENT:
            del expected[addr], found[addr]


def _pages_left(before: Snapshot, after: Snapshot, traces: list[Range]) -> Iterator[Violation]:
    """Pages outside some ranges are where they were."""
    geometry = before.geometry
    old_slots, new_slots = differing(before.slots, after.slots, geometry.slot_bytes)
    were, now = pages(geometry, old_slots), pages(geometry, new_slots)
    gone = sorted(
        addr
        for addr, entry in were.items()
        if not entry & MARKER
        and addr not in now
        and not any(hole.start <= addr < hole.end for hole in traces)
    )
    if gone:
        where = Range(gone[0], gone[-1] + geometry.page_bytes)
        yield ERROR_KEEPS_PAGES.broken(where, f"{len(gone)} pages gone", "none after an error")


def _unlocked(mapped: list[Mapped]) -> list[Mapped]:
    """What is mapped, locked or not."""
    in_order = sorted(mapped, key=lambda m: m.start)
    return merged(m._replace(flags=m.flags & _UNLOCKED) for m in in_order)


def _check_moved(
    before: Snapshot, after: Snapshot, source: Range, target: Range, length: int
) -> Iterator[Violation]:
    """The destination holds the moved parts, its gaps what they held before."""
    delta = target.start - source.start
    part = Range(source.start, source.start + length)
    moved = clip(before.mapped, part)
    gaps = Range(target.start, target.start + length)
    geometry = before.geometry
    kept = clip(before.mapped, gaps)
    for m in moved:
        kept = without(kept, Range(m.start + delta, m.end + delta))
    left, now_there = carried(before.slots, after.slots, geometry.slot_bytes, part, delta)
    left, now_there = clipped(geometry, left, part), clipped(geometry, now_there, gaps)
    # Nearly always each entry is at its new place, marked as moved, and nothing else is there.
    if kept or shifted(geometry, left, part, delta, set(), SOFT_DIRTY) != now_there:
        expected = pages(geometry, left, part, delta)
        for m in kept:
            expected.update(before.pages(Range(m.start, m.end)))
        found = pages(geometry, now_there, gaps)
        if found != expected:
            expected = _without_split(before, expected, found, delta)
        locked = [m for m in moved if m.flags & VM_LOCKED] if length < target.length else []
        if any(not m.backing.is_anonymous for m in locked):
            found = _without_brought(expected, found)
            _leave_out_migrated(expected, found)
        edge = gaps.end & -geometry.slot_bytes
        brought = locked and isinstance(after.slots.get(edge), int)
        if brought and all(addr < edge for addr in expected):
            found = {addr: found[addr] for addr in found if addr < edge}  # one huge page
        if found != expected:
            yield FIXED_EXACT.broken(
                target,
                misfits(expected, found),
                "every page in its place, and no other",
            )
    now = [(m.start, m.end) for m in _joined(clip(after.mapped, gaps))]
    wanted = _joined([m._replace(start=m.start + delta, end=m.end + delta) for m in moved] + kept)
    if now != [(m.start, m.end) for m in wanted]:
        yield MULTI_GAPS.broken(
            gaps,
            f"{terms.spans(geometry, [Range(*m) for m in now])} mapped",
            terms.spans(geometry, [Range(m.start, m.end) for m in wanted]),
        )


def _without_split(before: Snapshot, expected: Leaves, found: Leaves, delta: int) -> Leaves:
    """Expected leaves but those of split huge pages of shared objects: they are gone until used."""
    slot = before.geometry.slot_bytes
    return {
        addr: entry
        for addr, entry in expected.items()
        if addr in found
        or entry & ANON
        or not entry >> PFN_SHIFT
        or not any(isinstance(before.slots.get(a & -slot), int) for a in (addr, addr - delta))
    }


def _joined(mapped: list[Mapped]) -> list[Mapped]:
    """Adjacent stretches as one, whatever they map."""
    result: list[Mapped] = []
    for m in sorted(mapped, key=lambda m: m.start):
        if result and result[-1].end == m.start:
            m = m._replace(start=result.pop().start)
        result.append(m)
    return result


def _check_dontunmap(before: Snapshot, after: Snapshot, source: Range) -> Iterator[Violation]:
    """The source is mapped, empty, and has its flags, but is not locked."""
    was = [m._replace(flags=m.flags & _UNLOCKED) for m in clip(before.mapped, source)]
    now = clip(after.mapped, source)
    left = after.pages(source)
    if [(m.start, m.end) for m in _joined(now)] != [(m.start, m.end) for m in _joined(was)]:
        yield DONTUNMAP_SOURCE.broken(source, "a hole in the source", "the source still mapped")
    elif left:
        yield DONTUNMAP_SOURCE.broken(source, terms.count(len(left), "page"), "an empty source")
    elif {m.flags for m in now} != {m.flags for m in was}:
        yield DONTUNMAP_SOURCE.broken(
            source, _flags(now), f"{_flags(was)}, as before but for locks"
        )


def _flags(mapped: list[Mapped]) -> str:
    return ", ".join(terms.flags(m.flags) for m in mapped)


def _check_emptied(
    space: AddressSpace, before: Snapshot, source: Range, target: Range
) -> Iterator[Violation]:
    """What DONTUNMAP has emptied as a whole is unfaulted again.

    What the target has cut may be the rest of a VMA of which a part has moved only.
    """
    for vma in space.vmas.intersecting(source.start, source.end):
        edges = {vma.start} & {target.end} | {vma.end} & {target.start}
        cut = any(m.start < edge < m.end for edge in edges for m in before.mapped)
        if vma.link is not None and source.contains(vma.range) and not cut:
            yield ANON_VMA_LINKED.broken(
                vma.range,
                f"{terms.vma(space.geometry, vma)}, linked to {vma.link}",
                "no link any more",
            )
