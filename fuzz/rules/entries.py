"""Rules on what entries carry besides their page: permission, dirtiness, userfaultfd's marks.

Rules I-20, I-22, S-09 and `writable-fits` look at a whole state, I-21 and I-23 at the entries of
one page-table move, before and after; `UffdState` at what one mremap did to registrations.
"""

from collections.abc import Iterator, Mapping, Sequence

from engine.base.address import Range, round_up
from engine.base.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    EXCLUSIVE,
    HUGE,
    MARKER,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    is_wp_marker,
    is_zero_page,
)
from engine.base.geometry import PMD
from engine.base.uapi import UFFD_FEATURE_EVENT_REMAP, UFFD_FEATURE_EVENT_UNMAP, Errno
from engine.base.violation import Violation
from engine.move import Move
from engine.state.space import AddressSpace
from engine.state.vma import VM_HUGETLB, VM_UFFD, VM_UFFD_WP, VM_WRITE, UffdContext
from fuzz.rules.leaves import Picture, alike, picture
from fuzz.rules.view import State
from fuzz.rules.walk import not_told_of_moves

# --- one move ------------------------------------------------------------------------------------


def check_entries(
    move: Move, before: Picture, after: Picture, whole: set[int], moved: Range, delta: int
) -> Iterator[Violation]:
    """I-21 and I-23 at the end of a move.

    Arguments: `before` and `after` all leaves then and now; `whole` the slots whose table moved;
    `moved` what was moved, `delta` how far, bytes.  Pages that are not where they belong are left
    to the rules on places.
    """
    judge = _Judge(move)
    geometry, pages = move.space.geometry, move.space.geometry.slot_pages
    slot, shift = geometry.slot_bytes, geometry.page_shift
    for base, held in before.items():
        if base in whole:
            if not alike(after.get(base + delta), held):
                yield from judge.slot(base, held, after, delta, alone=False)
        elif base + slot <= moved.start or base >= moved.end:
            if not alike(after.get(base), held):
                yield from judge.slot(base, held, after, 0, alone=False)
        elif (
            judge.large
            or judge.hugetlb
            or not _moved_alone(held, after, base, delta, moved, pages, shift)
        ):
            yield from judge.slot(base, held, after, delta, alone=True, moved=moved)


def _moved_alone(
    held: dict[int, int] | int,
    after: Picture,
    base: int,
    delta: int,
    moved: Range,
    pages: int,
    shift: int,
) -> bool:
    """Are all entries of a slot at their new places, soft-dirty and else as they were?

    Those that were not to move are where they were.
    """
    if isinstance(held, int):
        return after.get(base + delta) == held | SOFT_DIRTY
    first, stop = max(moved.start - base, 0) >> shift, min((moved.end - base) >> shift, pages)
    stay = {i: e for i, e in held.items() if not first <= i < stop}
    if not _holds(after.get(base, {}), stay):
        return False
    offset = (delta >> shift) % pages
    for part, low, high in ((0, 0, pages - offset), (1, pages - offset, pages)):
        target = after.get((base + delta >> shift) - offset + part * pages << shift, {})
        add, low, high = offset - part * pages, max(low, first), min(high, stop)
        due = {i + add: e | SOFT_DIRTY for i, e in held.items() if low <= i < high}
        if not _holds(target, due):
            return False
    return True


def _holds(held: dict[int, int] | int, due: Mapping[int, int]) -> bool:
    """Are the entries `due` among those of a slot?"""
    return not due or (isinstance(held, dict) and due.items() <= held.items())


# In these the entries of a batch may differ.
_SPREADS = DIRTY | ACCESSED | SOFT_DIRTY | EXCLUSIVE


class _Judge:
    """Says what is wrong with entries that changed on their way; each rule once a move."""

    def __init__(self, move: Move) -> None:
        self.geometry = move.space.geometry
        frames = move.space.frames
        self.large = frames.large
        self.kernel = move.space.kernel
        self.clearing = not_told_of_moves(move.old_vma)
        self.hugetlb = bool(move.old_vma.flags & VM_HUGETLB)  # its mover leaves soft-dirty alone
        self.said: set[str] = set()

    def slot(
        self,
        base: int,
        held: dict[int, int] | int,
        after: Picture,
        delta: int,
        *,
        alone: bool,
        moved: Range | None = None,
    ) -> Iterator[Violation]:
        """The entries of one slot of the source, which went `delta` bytes further."""
        page = self.geometry.page_bytes
        spread = {}
        if self.large and moved is not None and isinstance(held, dict):
            spread = self._spread(base, held, moved, delta)
        for addr, old in _by_page(base, held, page, self.geometry.slot_pages):
            is_moved = moved is None or moved.start <= addr < moved.end
            place = addr + delta if is_moved else addr
            new = self._found(after, place)
            if new is not None and new >> PFN_SHIFT == old >> PFN_SHIFT:
                due = old | spread.get(addr, 0)
                if due != old and not self.kernel.pte_batching:
                    due = old
                if new != (due | SOFT_DIRTY if alone and is_moved and not self.hugetlb else due):
                    where = Range(place, place + page)
                    yield from self._entry(where, due, new, alone and is_moved)
            elif new is None and is_wp_marker(old) and not (alone and is_moved and self.clearing):
                where = Range(place, place + page)
                yield from self._say("entry-bits-kept", where, "nothing", "the uffd-wp marker")

    def _spread(self, base: int, held: dict[int, int], moved: Range, delta: int) -> dict[int, int]:
        """What the entries of one slot get from their batches, by address: dirty and accessed.

        A batch is what moves at once: pages of one large folio that follow each other, on both
        sides in one table, and agree in all else.
        """
        slot, shift = self.geometry.slot_bytes, self.geometry.page_shift
        pages = self.geometry.slot_pages
        got: dict[int, int] = {}
        batch: list[int] = []
        due = 0  # what an entry that continues the batch looks like
        for index in sorted(held):
            entry, addr = held[index], base + (index << shift)
            pfn = entry >> PFN_SHIFT
            large = entry & PRESENT and pfn - pfn % pages in self.large
            if not large or not moved.start <= addr < moved.end:
                batch = []
                continue
            follows = batch and batch[-1] + (1 << shift) == addr and entry | _SPREADS == due
            if not follows or not pfn % pages or not (addr + delta) % slot:
                batch = []
            batch.append(addr)
            due = (entry | _SPREADS) + (1 << PFN_SHIFT)
            bits = entry & (DIRTY | ACCESSED) | got.get(batch[0], 0)
            got.update(dict.fromkeys(batch if bits != got.get(batch[0]) else [addr], bits))
        return got

    def _found(self, after: Picture, addr: int) -> int | None:
        slot = self.geometry.slot_bytes
        held = after.get(addr & -slot)
        index = (addr & (slot - 1)) // self.geometry.page_bytes
        if isinstance(held, int):
            return (held & ~HUGE) + (0 if is_zero_page(held) else index << PFN_SHIFT)
        return None if held is None else held.get(index)

    def _entry(self, where: Range, old: int, new: int, alone: bool) -> Iterator[Violation]:
        gained, lost = new & ~old, old & ~new
        dirties = alone and not self.hugetlb
        if not new & SOFT_DIRTY if dirties else (gained | lost) & SOFT_DIRTY:
            wanted = "soft-dirty" if dirties else "the soft-dirty bit it had"
            yield from self._say("soft-dirty", where, f"entry {new:#x}, was {old:#x}", wanted)
        may_lose = SOFT_DIRTY | (UFFD_WP if alone and self.clearing else 0)
        if gained & ~SOFT_DIRTY or lost & ~may_lose:
            yield from self._say(
                "entry-bits-kept", where, f"entry {new:#x}", f"the bits of {old:#x}"
            )

    def _say(self, rule: str, where: Range, found: str, expected: str) -> Iterator[Violation]:
        if rule not in self.said:
            self.said.add(rule)
            yield Violation(rule, where, found, expected)


def _by_page(
    base: int, held: dict[int, int] | int, page: int, pages: int
) -> Iterator[tuple[int, int]]:
    if isinstance(held, int):
        step = 0 if is_zero_page(held) else 1 << PFN_SHIFT
        for index in range(pages):
            yield base + index * page, (held & ~HUGE) + index * step
    else:
        for index, entry in held.items():
            yield base + index * page, entry


# --- a whole state -------------------------------------------------------------------------------


def writable_fits(state: State) -> Iterator[Violation]:
    """E-01: a writable entry lies in a writable VMA, and maps no page that a child shares."""
    space, held = state.space, state.space.held
    for vma in state.vmas:
        if vma.flags & VM_WRITE and not held:
            continue
        for base, table, indices in space.tree.lowest(vma.start, vma.end):
            shift = space.geometry.entry_shift[table.level]
            leaves = table.leaves
            wrong = [i for i in indices if leaves[i] & WRITE]
            if wrong and vma.flags & VM_WRITE:
                wrong = [i for i in wrong if leaves[i] >> PFN_SHIFT in held]
            if wrong:
                addr = base + (wrong[0] << shift)
                yield Violation(
                    "writable-fits",
                    Range(addr, addr + (1 << shift)),
                    f"writable entry {leaves[wrong[0]]:#x}",
                    "write-protected in read-only memory, and where a child has the page",
                )
                return


def huge_deposit(state: State) -> Iterator[Violation]:
    """I-20."""
    if not state.space.tree.huge:
        return
    for base, table in state.holders:
        if table.level == PMD:
            kept = sum(1 for e in table.leaves.values() if e & ANON or is_zero_page(e))
            if kept != table.deposited:
                yield Violation(
                    "huge-deposit",
                    state.span(base, table),
                    f"{table.deposited} PTE tables in store",
                    f"{kept}, one for each huge page of private memory",
                )


def uffd_changing(state: State) -> Iterator[Violation]:
    """S-09: between calls no change is pending."""
    for context in state.space.uffds.values():
        if context.changing:
            yield Violation(
                "uffd-changing",
                state.space.arena,
                f"{context!r} with {context.changing} changes pending",
                "none between calls",
            )


ENTRY_RULES = (writable_fits, huge_deposit, uffd_changing)


# --- one call ------------------------------------------------------------------------------------


class UffdState:
    """What is registered with userfaultfd before a call, and the entries with uffd-wp.

    Arguments: `slots` all leaves, if there is a picture of them already.
    """

    __slots__ = ("_areas", "_geometry", "_slots", "events", "registered")

    def __init__(self, space: AddressSpace, slots: Picture | None = None) -> None:
        self._geometry = space.geometry
        self._slots = picture(space) if slots is None else slots
        self._areas = [(vma.start, vma.end, vma.flags) for vma in space.vmas]
        self.registered = _registered(space)
        self.events = {context: context.events for context in space.uffds.values()}

    @property
    def protected(self) -> set[int]:
        """Addresses of entries with uffd-wp in memory that is registered for it."""
        return {addr for addr, _, flags in self._marked() if flags & VM_UFFD_WP}

    @property
    def stray(self) -> set[int]:
        """The frames of entries with uffd-wp in other memory; marks count as frame 0."""
        return {entry >> PFN_SHIFT for _, entry, flags in self._marked() if not flags & VM_UFFD_WP}

    def _marked(self) -> Iterator[tuple[int, int, int]]:
        """Entries with uffd-wp: the address, the entry, the flags of a VMA around it."""
        page, slot = self._geometry.page_bytes, self._geometry.slot_bytes
        for base, held in self._slots.items():
            if isinstance(held, int):
                size, marked = slot, [(base, held)] if held & UFFD_WP else []
            else:
                size = page
                marked = [(base + i * page, e) for i, e in held.items() if e & UFFD_WP]
            for addr, entry in marked:
                for start, end, flags in self._areas:
                    if start < addr + size and addr < end:
                        yield addr, entry, flags


def _registered(space: AddressSpace) -> list[tuple[Range, int, UffdContext]]:
    return [(vma.range, vma.flags & VM_UFFD, vma.uffd) for vma in space.vmas if vma.uffd]


def _check_still_protected(space: AddressSpace, before: UffdState) -> Iterator[Violation]:
    """I-30: memory that is still registered is write-protected where it was."""
    protected = before.protected
    if not protected:
        return
    now = UffdState(space, picture(space))
    lost = [
        addr
        for addr in sorted(protected - now.protected)
        if (vma := space.vmas.lookup(addr)) is not None and vma.flags & VM_UFFD_WP
    ]
    if lost:
        yield Violation(
            "rollback-keeps-wp",
            Range(lost[0], lost[-1] + space.geometry.page_bytes),
            f"{len(lost)} entries without uffd-wp",
            "what userfaultfd write-protects to stay so when a call fails",
        )


def check_uffd(
    space: AddressSpace, before: UffdState, request: Sequence[int], result: int | Errno
) -> Iterator[Violation]:
    """I-22, I-30 and S-09 for an mremap(addr, old_len, new_len, flags, new_addr) and its `result`.

    A move takes the registration along, or ends it; nothing else is registered differently.
    """
    if isinstance(result, Errno):
        yield from _check_still_protected(space, before)
        for context in space.uffds.values():
            if context.events is before.events.get(context):
                continue  # refused before anything was to be told
            for kind, where in context.events:
                if kind == "remap":
                    yield Violation(
                        "uffd-changing", where, "a move told of that failed", "nothing of it"
                    )
        return
    addr, old_len, new_len, *_ = request
    page, mask = space.geometry.page_bytes, space.geometry.word_mask
    source = Range(addr, addr + (round_up(old_len, page) & mask))
    target = Range(result, result + (round_up(new_len, page) & mask))
    was, now = (_outside(r, [source, target]) for r in (before.registered, _registered(space)))
    if was != now:
        yield Violation(
            "uffd-kept-elsewhere",
            target,
            f"registered: {', '.join(str(where) for where, *_ in now) or 'nothing'}",
            ", ".join(str(where) for where, *_ in was) or "nothing outside of what moved",
        )
    if result == addr:
        return
    for vma in space.vmas.intersecting(target.start, target.end):
        if not vma.flags & VM_UFFD_WP:
            low, high = max(vma.start, target.start), min(vma.end, target.end)
            yield from _new_stray(space, before, low, high)
    moved = Range(addr, addr + min(source.length, target.length))  # a tail is cut off before
    yield from _check_events(space, before, moved, target)


def _new_stray(space: AddressSpace, before: UffdState, start: int, end: int) -> Iterator[Violation]:
    for base, table, indices in space.tree.lowest(start, end):
        shift = space.geometry.entry_shift[table.level]
        for index in indices:
            entry = table.leaves[index]
            if entry & UFFD_WP and entry >> PFN_SHIFT not in before.stray:
                addr = base + (index << shift)
                yield Violation(
                    "uffd-wp-stray",
                    Range(addr, addr + (1 << shift)),
                    f"a uffd-wp {'marker' if entry & MARKER else f'entry {entry:#x}'}",
                    "none where userfaultfd does not write-protect",
                )
                return


def _outside(
    registered: list[tuple[Range, int, UffdContext]], touched: list[Range]
) -> list[tuple[Range, int, UffdContext]]:
    """Registrations with some ranges cut out; what adjoins and looks alike is joined."""
    parts = registered
    for hole in touched:
        if hole.length > 0:
            parts = [
                (Range(low, high), flags, context)
                for where, flags, context in parts
                for low, high in (
                    (where.start, min(where.end, hole.start)),
                    (max(where.start, hole.end), where.end),
                )
                if low < high
            ]
    joined: list[tuple[Range, int, UffdContext]] = []
    for where, flags, context in parts:
        if joined and joined[-1][0].end == where.start and joined[-1][1:] == (flags, context):
            where = Range(joined.pop()[0].start, where.end)
        joined.append((where, flags, context))
    return joined


def _check_events(
    space: AddressSpace, before: UffdState, source: Range, target: Range
) -> Iterator[Violation]:
    """What was registered hears of its move, and of what the destination lost."""
    now = _registered(space)
    for where, flags, context in before.registered:
        if where.overlaps(target) and context.features & UFFD_FEATURE_EVENT_UNMAP:
            lost = Range(max(where.start, target.start), min(where.end, target.end))
            named = [at for kind, at in context.events if kind == "unmap"]
            # Gaps between several VMAs stay at the destination what they were.
            stayed = [at for at, f, c in now if (f, c) == (flags, context)]
            if not _covered(lost, named) and not (
                _covered(lost, named + stayed) and space.kernel.multi_vma_move
            ):
                yield _no_event("unmap", lost, context)
        moves = where.overlaps(source) and context.features & UFFD_FEATURE_EVENT_REMAP
        if moves and not any(k == "remap" and at.overlaps(target) for k, at in context.events):
            yield _no_event("remap", target, context)


def _covered(lost: Range, by: list[Range]) -> bool:
    """Do some ranges together cover all of another?"""
    start = lost.start
    for at in sorted(by):
        if at.start <= start:
            start = max(start, at.end)
    return start >= lost.end


def _no_event(kind: str, where: Range, context: UffdContext) -> Violation:
    return Violation(
        "uffd-changing", where, f"events {context.events}", f"one of kind {kind} for {context!r}"
    )
