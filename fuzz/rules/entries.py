"""What entries carry besides their page: permission, dirtiness, marks; and tables in store."""

from collections.abc import Iterator, Mapping

from engine.base.address import Range
from engine.base.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    EXCLUSIVE,
    HUGE,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    is_wp_marker,
    is_zero_page,
)
from engine.base.geometry import PMD
from engine.base.points import LEAVE
from engine.base.violation import Violation
from engine.move import Move
from engine.state import terms
from engine.state.table import Picture
from engine.state.vma import VM_HUGETLB, VM_WRITE
from fuzz.rules.picture import alike
from fuzz.rules.rule import CONTRACT, HARM, STATE, VMAS, Rule, after, at, on
from fuzz.rules.sight import Moving, Sight, Snapshot
from fuzz.rules.view import State
from fuzz.rules.walk import not_told_of_moves

HUGE_DEPOSIT = Rule(
    "I-20",
    "huge-deposit",
    "each huge page of private memory has a PTE table in store, with its own PMD table",
    "pgtable_trans_huge_deposit(); B-16",
    HARM,
)

SOFT_DIRTY_KEPT = Rule(
    "I-21",
    "soft-dirty",
    "what moved alone is soft-dirty, what moved in its table is as it was; no memory becomes clean",
    "move_soft_dirty_pte(), VM_SOFTDIRTY; B-61",
    CONTRACT,
)

ENTRY_BITS_KEPT = Rule(
    "I-23",
    "entry-bits-kept",
    "a move changes no permission, no exclusiveness, no swap slot; a batch is dirty as a whole",
    "move_ptes(), 04d1c9d60c6e; B-49",
    HARM,
)

WRITABLE_FITS = Rule(
    "I-28",
    "writable-fits",
    "no entry permits more than its VMA",
    "change_protection()",
    HARM,
)


@at((LEAVE,), SOFT_DIRTY_KEPT, ENTRY_BITS_KEPT)
def bits_kept(sight: Moving) -> Iterator[Violation]:
    """What the entries of a move carry at its end.

    Pages that are not where they belong are left to the rules on places.
    """
    if sight.all_as_due:
        return
    move, before, after, delta = sight.move, sight.before, sight.after, sight.delta
    whole, moved = sight.whole, sight.moved
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


@after("mremap", SOFT_DIRTY_KEPT, before=VMAS)
def never_clean(sight: Sight) -> Iterator[Violation]:
    """Is memory that was never clean soft-dirty still, where it was and where it went?"""
    if not sight.after.cleaned:
        return
    source, target = sight.sides
    if sight.address is not None:
        target = Range(sight.address, sight.address + target.length)
    dirty = _never_clean(sight.before)
    stay = [part for one in dirty for part in _outside(one, source, target)]
    if sight.address is not None:
        away, length = target.start - source.start, min(source.length, target.length)
        moved = Range(source.start, source.start + length)
        stay += [
            Range(max(one.start, moved.start) + away, min(one.end, moved.end) + away)
            for one in dirty
            if one.overlaps(moved)
        ]
    yield from _still_dirty(sight, stay)


@after("mprotect", SOFT_DIRTY_KEPT, before=VMAS)
@after("madvise", SOFT_DIRTY_KEPT, before=VMAS)
@after("mlock", SOFT_DIRTY_KEPT, before=VMAS)
@after("mlock2", SOFT_DIRTY_KEPT, before=VMAS)
@after("munlock", SOFT_DIRTY_KEPT, before=VMAS)
@after("mseal", SOFT_DIRTY_KEPT, before=VMAS)
@after("uffd_register", SOFT_DIRTY_KEPT, before=VMAS)
def not_cleaned(sight: Sight) -> Iterator[Violation]:
    """Is memory that was never clean soft-dirty still?"""
    if sight.after.cleaned:
        yield from _still_dirty(sight, _never_clean(sight.before))


def _never_clean(before: Snapshot) -> list[Range]:
    """What counts as soft-dirty whatever its entries say."""
    cleaned = set(before.cleaned)
    areas = [Range(area.start, area.end) for area in before.areas]
    return [area for area in areas if area not in cleaned]


def _outside(one: Range, *holes: Range) -> list[Range]:
    """What is left of a range without others."""
    left = [one]
    for hole in holes:
        left = [
            part
            for rest in left
            for part in (
                Range(rest.start, min(rest.end, hole.start)),
                Range(max(rest.start, hole.end), rest.end),
            )
            if part.start < part.end
        ]
    return left


def _still_dirty(sight: Sight, ranges: list[Range]) -> Iterator[Violation]:
    for cleaned in sight.after.cleaned:
        for one in ranges:
            if one.overlaps(cleaned):
                yield SOFT_DIRTY_KEPT.broken(
                    one, "memory that is clean", "memory that is soft-dirty, as it never was clean"
                )
                return


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
        self.said: set[Rule] = set()

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
        if isinstance(held, int) and not isinstance(after.get(base), int):
            held = self._split(held)
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
                yield from self._say(ENTRY_BITS_KEPT, where, "nothing", "the uffd-wp marker")

    def _split(self, held: int) -> int:
        """The huge leaf whose bits the pages have that a split leaves where they were.

        What was written is written and soft-dirty (pte_mkdirty), of the zero page nothing remains.
        """
        if is_zero_page(held):
            return held & ~SOFT_DIRTY
        dirty = held & (PRESENT | ANON | DIRTY) == PRESENT | ANON | DIRTY
        return held | SOFT_DIRTY if dirty and self.kernel.split_soft_dirty else held

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
            return (held & ~HUGE) + (index << PFN_SHIFT if held >> PFN_SHIFT else 0)
        return None if held is None else held.get(index)

    def _entry(self, where: Range, old: int, new: int, alone: bool) -> Iterator[Violation]:
        gained, lost = new & ~old, old & ~new
        dirties = alone and not self.hugetlb
        if not new & SOFT_DIRTY if dirties else (gained | lost) & SOFT_DIRTY:
            wanted = (
                f"{terms.entry(new | SOFT_DIRTY)}: it has moved by itself"
                if dirties
                else f"{terms.entry(old)}, as before"
            )
            yield from self._say(SOFT_DIRTY_KEPT, where, terms.entry(new), wanted)
        may_lose = SOFT_DIRTY | (UFFD_WP if alone and self.clearing else 0)
        if gained & ~SOFT_DIRTY or lost & ~may_lose:
            yield from self._say(ENTRY_BITS_KEPT, where, terms.entry(new), terms.entry(old))

    def _say(self, rule: Rule, where: Range, found: str, expected: str) -> Iterator[Violation]:
        if rule not in self.said:
            self.said.add(rule)
            yield rule.broken(where, found, expected)


def _by_page(
    base: int, held: dict[int, int] | int, page: int, pages: int
) -> Iterator[tuple[int, int]]:
    if isinstance(held, int):
        step = 1 << PFN_SHIFT if held >> PFN_SHIFT else 0  # the zero page, or a mark
        for index in range(pages):
            yield base + index * page, (held & ~HUGE) + index * step
    else:
        for index, entry in held.items():
            yield base + index * page, entry


@on(STATE, WRITABLE_FITS)
def writable_fits(state: State) -> Iterator[Violation]:
    """A writable entry lies in a writable VMA, and maps no private page that a child shares."""
    space, held = state.space, state.space.held
    for vma in state.vmas:
        if vma.flags & VM_WRITE and not (held and vma.makes_copies):
            continue
        for base, table, indices in space.tree.lowest(vma.start, vma.end):
            shift = space.geometry.entry_shift[table.level]
            leaves = table.leaves
            wrong = [i for i in indices if leaves[i] & WRITE]
            if wrong and vma.flags & VM_WRITE:
                wrong = [i for i in wrong if leaves[i] >> PFN_SHIFT in held]
            if wrong:
                addr = base + (wrong[0] << shift)
                yield WRITABLE_FITS.broken(
                    Range(addr, addr + (1 << shift)),
                    terms.entry(leaves[wrong[0]]),
                    "write-protected in read-only memory, and where a child has the page",
                )
                return


@on(STATE, HUGE_DEPOSIT)
def huge_deposit(state: State) -> Iterator[Violation]:
    """Huge pages of private memory, and tables in store, table by table."""
    if not state.space.tree.huge:
        return
    for base, table in state.holders:
        if table.level == PMD:
            kept = sum(1 for e in table.leaves.values() if e & ANON or is_zero_page(e))
            if kept != table.deposited:
                yield HUGE_DEPOSIT.broken(
                    state.span(base, table),
                    f"{terms.count(table.deposited, 'PTE table')} in store",
                    f"{kept}, one for each huge page of private memory",
                )
