"""Rules around one call: mremap and the stack move, the state before against the state after."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.base.address import Range, round_up
from engine.base.entry import ANON, MIGRATION, PFN_SHIFT, PRESENT, SOFT_DIRTY
from engine.base.geometry import Geometry
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, Errno
from engine.base.violation import Violation
from engine.state.backing import Backing
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_SEALED,
    VM_UFFD,
    Vma,
)
from fuzz.rules.facts import Area, Facts
from fuzz.rules.leaves import Leaves, carried, clipped, differing, pages, picture, shifted
from fuzz.rules.limits import check_populated

_UNLOCKED = ~(VM_LOCKED | VM_LOCKONFAULT)


class Mapped(NamedTuple):
    """What one stretch of memory maps; stretches are joined wherever they look alike."""

    start: int
    end: int
    flags: int
    backing: Backing
    offset: int  # of the object, minus the address, in pages: constant along a mapping


class Snapshot:
    """The state before or after a call: what rules know of it, its mappings and leaves."""

    __slots__ = ("_mapped", "count", "facts", "geometry", "high_water", "slots")

    def __init__(self, space: AddressSpace) -> None:
        self.geometry = space.geometry
        self.high_water = max(space.hiwater_vm, space.total_vm)
        self.facts = Facts.of(space)
        self.count = len(self.facts.areas)
        self.slots = picture(space)
        self._mapped: list[Mapped] | None = None

    @property
    def mapped(self) -> list[Mapped]:
        """The mappings; see `mapped_of`."""
        if self._mapped is None:
            self._mapped = _mapped(self.facts.areas, self.geometry)
        return self._mapped

    def equals(self, other: "Snapshot") -> bool:
        """Are VMAs and leaves the same?"""
        return self.facts.areas == other.facts.areas and self.slots == other.slots

    def pages(self, within: Range) -> Leaves:
        """The leaves inside a range."""
        return pages(self.geometry, self.slots, within)


def mapped_of(space: AddressSpace) -> list[Mapped]:
    """The mappings of a space.  VMA boundaries between equal neighbours do not show."""
    return _mapped(space.vmas, space.geometry)


def _mapped(vmas: Iterable[Vma | Area], geometry: Geometry) -> list[Mapped]:
    shift = geometry.page_shift
    return _merged(
        [
            Mapped(
                vma.start,
                vma.end,
                vma.flags,
                vma.backing,
                0 if vma.backing.is_anonymous else vma.pgoff - (vma.start >> shift),
            )
            for vma in vmas
        ]
    )


def _merged(mapped: Iterable[Mapped]) -> list[Mapped]:
    """Stretches in order, neighbours that look alike as one."""
    result: list[Mapped] = []
    for m in mapped:
        if result and result[-1].end == m.start and result[-1][2:] == m[2:]:
            m = m._replace(start=result.pop().start)
        result.append(m)
    return result


def clip(mapped: list[Mapped], within: Range) -> list[Mapped]:
    """The parts of mappings inside a range; none if the range is empty."""
    low, high = within
    if low >= high:
        return []
    return [
        m
        if low <= m.start and m.end <= high
        else m._replace(start=max(m.start, low), end=min(m.end, high))
        for m in mapped
        if m.start < high and low < m.end
    ]


def without(mapped: list[Mapped], hole: Range) -> list[Mapped]:
    """Mappings with a range cut out."""
    top = 1 << 64
    return clip(mapped, Range(0, hole.start)) + clip(mapped, Range(hole.end, top))


class Request(NamedTuple):
    """An mremap as the caller wrote it, real addresses and bytes."""

    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int


def check_mremap(
    space: AddressSpace,
    before: Snapshot,
    request: Request,
    result: int | Errno,
    after: Snapshot | None = None,
) -> Iterator[Violation]:
    """S-02 to S-08 and I-11 for one mremap that returned `result`.

    Arguments: `after` the state now, if it was looked at already.
    """
    page, mask = space.geometry.page_bytes, space.geometry.word_mask
    old_len, new_len = (round_up(n, page) & mask for n in (request.old_len, request.new_len))
    # Huge pages go whole: those at the start, or, when several VMAs may move, those at the end.
    may_be_several = request.flags & MREMAP_FIXED and old_len == new_len
    is_huge = _in_huge_page(before, request.addr)
    at_end = _in_huge_page(before, request.addr + max(old_len, page) - 1)
    if may_be_several and at_end != is_huge and space.kernel.multi_vma_move:
        is_huge = at_end
    if is_huge:
        start, huge = request.addr, space.geometry.slot_bytes
        old_len, new_len = (round_up(start + n, huge) - start for n in (old_len, new_len))
    source = Range(request.addr, request.addr + old_len)
    target = Range(request.new_addr, request.new_addr + new_len)
    after = after or Snapshot(space)
    high_water = max(before.high_water, space.total_vm)
    # With DONTUNMAP each of several VMAs counts before the next one's destination is unmapped.
    if after.high_water > high_water and not (
        may_be_several and request.flags & MREMAP_DONTUNMAP and space.kernel.multi_vma_move
    ):
        yield Violation(
            "high-water", space.arena, f"a peak of {after.high_water} pages", f"{high_water}"
        )
    if isinstance(result, Errno):
        if after.equals(before):
            return
        yield from check_populated(space, before.slots, after.slots)
        yield from _check_error(space, before, after, request, source, target, result)
        return
    if request.flags & MREMAP_FIXED and result != request.new_addr:
        yield Violation("fixed-address", target, f"{result:#x}", f"{request.new_addr:#x}")
    moved = Range(result, result + new_len)
    if (
        not request.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
        and result == request.addr
        and old_len >= new_len
    ):
        tail = Range(request.addr + new_len, request.addr + old_len)
        yield from _unchanged_outside(before, after, [tail], page, "resize-exact")
        if clip(after.mapped, tail):
            yield Violation("resize-exact", tail, "something mapped", "nothing after a shrink")
    if not old_len:
        yield from _unchanged_outside(before, after, [moved], page, "duplicate-keeps-source")
    if request.flags & MREMAP_FIXED and old_len:
        yield from _check_moved(before, after, source, target, min(old_len, new_len))
    # A source that is its own copy cannot be as it should (V-11).
    own_copy = any(violation.rule == "dontunmap-two-vmas" for violation in space.violations)
    if request.flags & MREMAP_DONTUNMAP and old_len and not own_copy:
        yield from _check_dontunmap(before, after, source)
        yield from _check_emptied(space, before, source, moved)


def _check_error(
    space: AddressSpace,
    before: Snapshot,
    after: Snapshot,
    request: Request,
    source: Range,
    target: Range,
    error: Errno,
) -> Iterator[Violation]:
    """What an error may leave behind: with FIXED the destination and a shrink's tail, late only."""
    traces: list[Range] = []
    # A failed move has a copy step behind it: the rollback's own rule speaks for it.
    failed = error is Errno.ENOMEM and not _full(space, before, request)
    rule = "rollback-restores" if failed else "error-traceless"
    page = space.geometry.page_bytes
    if not any(_unchanged_outside(before, after, [], page, rule)):
        return
    if request.flags & MREMAP_FIXED and not _refused_early(space, before, source, target, request):
        traces.append(target)
        if source.length > target.length:
            traces.append(Range(request.addr + target.length, source.end))
        if source.length == target.length and space.kernel.multi_vma_move:
            traces.append(_moved_prefix(before, after, source, target))
    yield from _unchanged_outside(before, after, traces, page, rule)


def _refused_early(
    space: AddressSpace, before: Snapshot, source: Range, target: Range, request: Request
) -> bool:
    """Is the request refused by a check that comes before anything is unmapped?

    Plain integers, no wrap-around: what the checks mean, not what they compute.
    """
    page, top = space.geometry.page_bytes, space.geometry.user_top
    first = next((m for m in before.mapped if m.start <= source.start < m.end), None)
    if first is not None and (
        first.flags & VM_SEALED
        # One that must move alone, with more behind it: only a call for several VMAs gets there.
        or (
            source.length == target.length
            and first.flags & VM_UFFD
            and first.end < source.end
            and space.kernel.multi_vma_move
        )
    ):
        return True
    if _full(space, before, request):
        return True
    mapped = _is_mapped(before, source, min(source.length, target.length))
    if not mapped and space.kernel.check_before_unmap:
        # Only the range of one VMA counts unless the call may move several.
        return source.length != target.length or not _is_mapped(before, source, page)
    return (
        bool(request.flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
        or not request.flags & MREMAP_MAYMOVE
        or bool((request.addr | request.new_addr) & (page - 1))
        or not target.length
        or target.end > top
        or source.overlaps(target)
        or not _is_mapped(before, source, page)
        or (bool(request.flags & MREMAP_DONTUNMAP) and source.length != target.length)
    )


def _in_huge_page(before: Snapshot, addr: int) -> bool:
    """Is the address in a huge page of hugetlb?"""
    return any(m.flags & VM_HUGETLB for m in clip(before.mapped, Range(addr, addr + 1)))


def _full(space: AddressSpace, before: Snapshot, request: Request) -> bool:
    """Are there too many VMAs for a call that has to make room first?"""
    makes_room = request.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    return bool(makes_room) and before.count + 2 >= space.max_map_count - 3


def _is_mapped(before: Snapshot, source: Range, length: int) -> bool:
    parts = clip(before.mapped, Range(source.start, source.start + max(length, 1)))
    return (
        bool(parts)
        and parts[0].start == source.start
        and sum(m.end - m.start for m in parts) >= length
    )


def _moved_prefix(before: Snapshot, after: Snapshot, source: Range, target: Range) -> Range:
    """The part of the source that a failed move of several VMAs has completely moved (S-08)."""
    now = {m.start for m in clip(after.mapped, target)}
    end = source.start
    for m in clip(before.mapped, source):
        if m.start - source.start + target.start not in now:
            break
        end = m.end
    return Range(source.start, end)


def _unchanged_outside(
    before: Snapshot, after: Snapshot, changed: list[Range], page: int, rule: str
) -> Iterator[Violation]:
    """Mappings and leaves outside some ranges are what they were."""
    old_mapped, new_mapped = before.mapped, after.mapped
    geometry = before.geometry
    old_slots, new_slots = differing(before.slots, after.slots, geometry.slot_bytes)
    if old_mapped == new_mapped and not old_slots and not new_slots:
        return
    old_leaves, new_leaves = pages(geometry, old_slots), pages(geometry, new_slots)
    for hole in changed:
        old_mapped, new_mapped = without(old_mapped, hole), without(new_mapped, hole)
        old_leaves = {a: e for a, e in old_leaves.items() if not hole.start <= a < hole.end}
        new_leaves = {a: e for a, e in new_leaves.items() if not hole.start <= a < hole.end}
    old_leaves = _without_split(before, old_leaves, new_leaves, 0)
    for addr in [a for a, entry in old_leaves.items() if entry & MIGRATION]:
        if new_leaves.get(addr, 0) & PRESENT:
            # The migration has ended, as the call populated something: it is in another frame.
            del old_leaves[addr], new_leaves[addr]
    if old_mapped != new_mapped:
        lost = next((m for m in old_mapped if m not in new_mapped), None)
        odd = lost or next(m for m in new_mapped if m not in old_mapped)
        found = "changed or gone" if lost else "newly mapped"
        if _unlocked(old_mapped) == _unlocked(new_mapped):
            rule = "lock-kept"
        yield Violation(rule, Range(odd.start, odd.end), found, "what was mapped before the call")
    elif old_leaves != new_leaves:
        wrong = sorted(
            a
            for a in old_leaves.keys() | new_leaves.keys()
            if old_leaves.get(a) != new_leaves.get(a)
        )
        yield Violation(
            rule, Range(wrong[0], wrong[-1] + page), f"{len(wrong)} entries changed", "none changed"
        )


def _unlocked(mapped: list[Mapped]) -> list[Mapped]:
    """What is mapped, locked or not."""
    in_order = sorted(mapped, key=lambda m: m.start)
    return _merged(m._replace(flags=m.flags & _UNLOCKED) for m in in_order)


def _check_moved(
    before: Snapshot, after: Snapshot, source: Range, target: Range, length: int
) -> Iterator[Violation]:
    """S-04 and S-08: the destination holds the moved parts, its gaps what they held before."""
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
        if length < target.length and any(
            m.flags & VM_LOCKED and not m.backing.is_anonymous for m in moved
        ):
            # What it grew by is populated; a fault there brings shared pages around it along.
            found = {
                addr: entry
                for addr, entry in found.items()
                if addr in expected or entry & ANON or not entry >> PFN_SHIFT
            }
        if found != expected:
            yield Violation(
                "fixed-exact",
                target,
                f"{len(found)} leaves",
                f"exactly the {len(expected)} that belong there",
            )
    now = [(m.start, m.end) for m in _joined(clip(after.mapped, gaps))]
    wanted = _joined([m._replace(start=m.start + delta, end=m.end + delta) for m in moved] + kept)
    if now != [(m.start, m.end) for m in wanted]:
        yield Violation(
            "multi-gaps",
            gaps,
            ", ".join(str(Range(*m)) for m in now) or "nothing mapped",
            ", ".join(str(Range(m.start, m.end)) for m in wanted) or "nothing",
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
    """S-05."""
    was = [m._replace(flags=m.flags & _UNLOCKED) for m in clip(before.mapped, source)]
    now = clip(after.mapped, source)
    left = after.pages(source)
    if [(m.start, m.end) for m in _joined(now)] != [(m.start, m.end) for m in _joined(was)]:
        yield Violation(
            "dontunmap-source", source, "a hole in the source", "the source still mapped"
        )
    elif left:
        yield Violation("dontunmap-source", source, f"{len(left)} leaves", "an empty source")
    elif {m.flags for m in now} != {m.flags for m in was}:
        yield Violation("dontunmap-source", source, "other flags", "the flags it had, but unlocked")


def _check_emptied(
    space: AddressSpace, before: Snapshot, source: Range, target: Range
) -> Iterator[Violation]:
    """V-05: what DONTUNMAP has emptied as a whole is unfaulted again.

    What the target has cut may be the rest of a VMA of which a part has moved only.
    """
    for vma in space.vmas.intersecting(source.start, source.end):
        edges = {vma.start} & {target.end} | {vma.end} & {target.start}
        cut = any(m.start < edge < m.end for edge in edges for m in before.mapped)
        if vma.link is not None and source.contains(vma.range) and not cut:
            yield Violation(
                "anon-vma-linked", vma.range, f"{vma!r} linked to {vma.link}", "no link any more"
            )


def expected_stack_warnings(space: AddressSpace, start: int, end: int, shift: int) -> int:
    """How often a stack move finds its destination entry occupied, by arithmetic alone.

    At each level whose tables move whole: the first entry must be partial, so that its emptied
    table stays, and the shift k whole entries, k >= 1; then m whole entries above it meet
    floor(m / k) occupied ones.  Realignment makes the first slot whole, which ends it for PMD
    entries.  It does not look at PUD entries: a stack longer than a gigabyte, which no program has,
    would still meet them.
    """
    kernel, geometry = space.kernel, space.geometry
    slot, mutual = geometry.slot_bytes, not shift % geometry.slot_bytes
    head = start % slot
    may_be_whole = head and mutual and end - start >= slot - head
    if may_be_whole and kernel.realign and kernel.realign_stack:
        start -= head
    count = _occupied_entries(start, end, shift, slot) if kernel.move_pmd else 0
    if kernel.moves_puds():
        count += _occupied_entries(start, end, shift, geometry.pud_bytes)
    return count


def _occupied_entries(start: int, end: int, shift: int, entry_bytes: int) -> int:
    if not start % entry_bytes or shift % entry_bytes or not shift:
        return 0
    return max(end - round_up(start, entry_bytes), 0) // entry_bytes // (shift // entry_bytes)


def check_execve_stack(
    space: AddressSpace, start: int, end: int, shift: int, first_tag: int, warnings: int
) -> Iterator[Violation]:
    """X-02 to X-04 for a stack move that succeeded.

    Arguments: bytes; `first_tag` the tag of the stack's lowest page; `warnings` how many occupied
    entries were met.
    """
    place = Range(start - shift, end - shift)
    shift_bits = space.geometry.page_shift
    vmas = list(space.vmas)
    if [vma.range for vma in vmas] != [place]:
        yield Violation("stack-placed", place, f"VMAs {vmas}", f"one VMA {place}")
        return
    if vmas[0].pgoff != start >> shift_bits:
        yield Violation("stack-pgoff", place, f"{vmas[0].pgoff:#x}", f"{start >> shift_bits:#x}")
    wanted = place.length >> shift_bits
    tags, present = space.frames.tag, 0
    misplaced: list[int] = []
    for base, held in picture(space).items():
        if isinstance(held, dict):
            offset = first_tag + ((base - place.start) >> shift_bits)
            present += len(held)
            misplaced += [i for i, e in held.items() if tags[e >> PFN_SHIFT] != i + offset]
    # Tags are consecutive, so pages of the right number with the right tags are all in place.
    if misplaced or present != wanted:
        yield Violation("stack-placed", place, f"{present} pages", f"{wanted} pages in their order")
    expected = expected_stack_warnings(space, start, end, shift)
    if warnings != expected:
        yield Violation("stack-warn-count", place, f"{warnings} occupied entries", f"{expected}")
