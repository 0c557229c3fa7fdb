"""Which VMAs there are after an mremap, and how many attempts it has made.

The kernel's own words for it are split, copy and merge.  Here a mapping is a piece of tape: what
goes is cut out, the copy is stuck in, and a seam is closed where both sides of it are alike:

    before    [ a a a a ]  .  .  [ b b ]        mremap of the last two pages of a, to b's left
    cut       [ a a ]      .  .  [ b b ]
    stuck in  [ a a ]      [ a a | b b ]        the seam stays if the two differ in anything
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from engine.base.address import Range, round_up
from engine.base.failures import HOOK, MAPS, VMA
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_LOCKED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    PROT_EXEC,
    UFFD_FEATURE_EVENT_REMAP,
    Errno,
)
from engine.base.violation import Violation
from engine.state import terms
from engine.state.backing import Backing, BpfMap
from engine.state.vma import (
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_SEALED,
    VM_SPECIAL,
    VM_UFFD,
    AnonVma,
    UffdContext,
)
from fuzz.rules.rule import (
    CONTRACT,
    COURSE,
    VMAS,
    Rule,
    after,
)
from fuzz.rules.sight import Area, Request, Sight, Snapshot

VMA_LAYOUT = Rule(
    "V-12",
    "vma-layout",
    "after an mremap VMAs are those of before, cut where something went, joined where alike; "
    "what a seal has kept is cut where it was to go from",
    "copy_vma(), vma_merge_new_range(), split_vma(); B-33, B-35, B-42",
    CONTRACT,
)

FAILURE_STRIKES = Rule(
    "S-14",
    "failure-strikes",
    "every attempt that may fail is counted, and the one that is to fail does",
    "the failures on demand of this model",
    COURSE,
)


_START = attrgetter("start")


class Piece(NamedTuple):
    """A VMA; `shift` is what its page offset is ahead of its page number: alike, if linear.

    `copies` is the same for the copies that a private mapping of a file has, where that counts.
    """

    start: int
    end: int
    flags: int
    backing: Backing
    shift: int
    anon: AnonVma | None
    uffd: UffdContext | None
    copies: int

    @property
    def fresh(self) -> bool:
        """Private memory that never had a page."""
        return self.backing.is_anonymous and self.anon is None

    @property
    def has_copies(self) -> bool:
        """A private mapping of a file that was written to, or so the kernel takes it."""
        return self.anon is not None and not self.backing.is_anonymous


def _touch(one: Piece, other: Piece) -> bool:
    """Does one begin where the other ends?"""
    return one.end == other.start or other.end == one.start


class Tape:
    """The VMAs as they should be, and the attempts to get something that it takes to get there."""

    __slots__ = ("attempts", "before", "page_shift", "pieces")

    def __init__(self, before: Snapshot) -> None:
        self.before = before
        self.page_shift = before.kernel.geometry.page_shift
        self.pieces = [self._piece(area) for area in before.areas]
        self.attempts = {VMA: 0, MAPS: 0, HOOK: 0}

    def _piece(self, area: Area) -> Piece:
        shift = area.pgoff - (area.start >> self.page_shift)
        return Piece(
            area.start,
            area.end,
            area.flags,
            area.backing,
            shift,
            area.anon_vma,
            area.uffd,
            area.anon_shift,
        )

    def at(self, addr: int) -> Piece | None:
        """The piece that covers an address."""
        for piece in self.pieces:
            if piece.start <= addr < piece.end:
                return piece
        return None

    def sever(self, addr: int) -> bool:
        """Let a piece end at an address.  Returns: True if one had to be cut for it."""
        piece = self.at(addr)
        if piece is None or piece.start == addr:
            return False
        self._replace([piece], [piece._replace(end=addr), piece._replace(start=addr)])
        self.attempts[VMA] += 1 if piece.anon is None else 2
        return True

    def cut(self, where: Range, *, asked: bool) -> None:
        """Take a range out; `asked`: as munmap does, which may find that there are too many."""
        if asked and any(p.start < where.start and where.end < p.end for p in self.pieces):
            self.attempts[MAPS] += 1
        self.sever(where.start)
        self.sever(where.end)
        low, high = where
        self._replace([p for p in self.pieces if low <= p.start and p.end <= high], [])

    def stick(self, new: Piece, *, apart: Piece | None = None) -> None:
        """Put a piece where nothing is; its seams close, but never one to the piece `apart`."""
        kernel = self.before.kernel
        beside = [p for p in self.pieces if p is not apart and _touch(p, new)]
        fitting = [p for p in beside if self._fits(p, new)]
        low = next((piece for piece in fitting if piece.end == new.start), None)
        high = next((piece for piece in fitting if piece.start == new.end), None)
        if low and high and low.anon and high.anon and low.anon is not high.anon:
            high = None  # all three together do not fit
        joined_beside = apart and (low or high) and _touch(apart, new)
        if joined_beside and not kernel.merge_new_range:
            low = high = None  # until 6.11 what touches it is not joined to anything
        taken = [piece for piece in (low, high) if piece]
        whole = [*taken, new]
        one = new._replace(
            start=min(p.start for p in whole),
            end=max(p.end for p in whole),
            anon=next((p.anon for p in whole if p.anon), None),
        )
        if taken:
            self._replace(taken, [one])
        else:
            self.lay(new)

    def lay(self, new: Piece) -> None:
        """Put a piece where nothing is, with a seam to each side."""
        self.attempts[VMA] += 2 if new.anon is None else 3
        self._replace([], [new])

    def _fits(self, old: Piece, new: Piece) -> bool:
        """Are two neighbours alike in all that a VMA says?  Huge pages are never joined.

        Memory without pages joins one with; the other way round since 6.16.
        """
        alike = (old.flags, old.shift, old.copies) == (new.flags, new.shift, new.copies)
        return (
            alike
            and not old.flags & (VM_HUGETLB | VM_SPECIAL)
            and old.backing is new.backing
            and old.uffd is new.uffd
            and (
                new.anon is None
                or old.anon is new.anon
                or (old.anon is None and self.before.kernel.merge_faulted_source)
            )
        )

    def move(self, source: Range, target: Range, flags: int) -> bool:
        """One mremap that moves, to a place that is known.  Returns: False if nothing is said."""
        kernel, keep = self.before.kernel, bool(flags & MREMAP_DONTUNMAP)
        if flags & MREMAP_FIXED:
            self.cut(target, asked=True)
        if target.length < source.length:
            self.cut(Range(source.start + target.length, source.end), asked=True)
            source = Range(source.start, source.start + target.length)
        piece = self.at(source.start)
        if piece is None:
            return False
        self.attempts[MAPS] += 1
        self.attempts[HOOK] += not piece.backing.is_anonymous
        if keep and piece.flags & VM_LOCKED and kernel.dontunmap_splits_locked:
            self.attempts[MAPS] += self.sever(source.start)
            self.attempts[MAPS] += self.sever(source.end)
            piece = self.at(source.start)
            assert piece is not None
        away = (target.start - source.start) >> self.page_shift
        copy = piece._replace(
            start=target.start, end=target.end, shift=0 if piece.fresh else piece.shift - away
        )
        if piece.has_copies and kernel.merge_asks_anon_pgoff:
            copy = copy._replace(copies=piece.copies - away)
        may_join_itself = keep and piece.fresh  # unless it is kept from it (B-35)
        followed = copy.uffd is None or copy.uffd.features & UFFD_FEATURE_EVENT_REMAP
        if not followed and kernel.uffd_copy_unmerged:
            self.lay(copy)
        else:
            self.stick(copy, apart=piece if may_join_itself else None)
        if keep:
            self._unlock(source)
        elif source.length > 0:
            self.cut(source, asked=False)
        return True

    def _unlock(self, source: Range) -> None:
        """What stays behind is not locked; all of a VMA without its pages was never used."""
        piece = self.at(source.start)
        assert piece is not None
        left = piece._replace(flags=piece.flags & ~(VM_LOCKED | VM_LOCKONFAULT))
        if (piece.start, piece.end) == (source.start, source.end):
            left = left._replace(anon=None, copies=0)
            if left.shift and left.fresh and self.before.kernel.dontunmap_resets_pgoff:
                left = left._replace(shift=0)
        self._replace([piece], [left])

    def _replace(self, old: list[Piece], new: list[Piece]) -> None:
        gone = {id(piece) for piece in old}
        self.pieces = [piece for piece in self.pieces if id(piece) not in gone] + new
        self.pieces.sort(key=_START)


def expected(before: Snapshot, request: Request, result: int) -> Tape | None:
    """The VMAs after an mremap that returned `result`.

    None if nothing is said: of huge pages, whose lengths mean something else, and of sums that
    wrap.
    """
    addr, flags = request.addr, request.flags
    page, kernel = before.geometry.page_bytes, before.kernel
    source = Range(addr, addr + round_up(request.old_len, page))
    target = Range(result, result + round_up(request.new_len, page))
    if max(source.end, target.end) > before.geometry.word_mask:
        return None
    if any(area.flags & VM_HUGETLB for area in before.inside(addr, max(source.end, addr + 1))):
        return None
    tape = Tape(before)
    places = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    if MAPS in before.failing and (
        kernel.map_count_before_all or (places and kernel.map_count_first)
    ):
        tape.attempts[MAPS] += 1
    if not places and result == addr:
        piece = tape.at(addr)
        if target.length < source.length:
            tape.cut(Range(target.end, source.end), asked=True)
        elif piece and target.length > source.length:
            tape.stick(piece._replace(start=source.end, end=target.end))
        return tape
    one = tape.at(source.start)
    several = source.length == target.length and not (one and one.end >= source.end)
    if several and flags & MREMAP_FIXED and kernel.multi_vma_move:
        for area in before.inside(source.start, source.end):
            part = Range(max(area.start, source.start), min(area.end, source.end))
            to = part.start - source.start + target.start
            if not tape.move(part, Range(to, to + part.length), flags):
                return None
        return tape
    return tape if tape.move(source, target, flags) else None


def _gone(tape: Tape, where: Range) -> bool:
    """Let a call unmap a range.  Returns: False if a seal keeps all of it.

    Then it is cut where it begins, unless that is sealed itself, or seals are asked for first.
    """
    parts = [p for p in tape.pieces if p.start < where.end and where.start < p.end]
    if not any(piece.flags & VM_SEALED for piece in parts):
        tape.cut(where, asked=True)
        return True
    if not parts[0].flags & VM_SEALED and not tape.before.kernel.seals_asked_first:
        tape.sever(where.start)
    return False


def _refused(before: Snapshot, request: Request) -> Tape | None:
    """The VMAs after an mremap that a seal has refused.  None if nothing is said."""
    kernel, tape, source = before.kernel, Tape(before), request.source
    first = tape.at(request.addr)
    several = request.flags & MREMAP_FIXED and request.old == request.new
    parts = before.inside(source.start, source.end)
    if first is None or max(source.end, request.new_addr + request.new) > kernel.geometry.word_mask:
        return None
    if first.flags & VM_HUGETLB or any(part.flags & VM_HUGETLB for part in parts):
        return None
    if first.flags & VM_SEALED or (
        any(part.flags & VM_SEALED for part in parts) and kernel.seals_asked_first
    ):
        return tape
    if not (several and kernel.multi_vma_move):
        all(_gone(tape, where) for where in request.evicts)
        return tape
    for area in parts:
        part = Range(max(area.start, source.start), min(area.end, source.end))
        to = part.start - source.start + request.new_addr
        if area.flags & VM_SEALED or not _gone(tape, Range(to, to + part.length)):
            return tape
        if not tape.move(part, Range(to, to + part.length), request.flags):
            return None
    return None


@after("munmap", VMA_LAYOUT, before=VMAS)
def kept_by_a_seal(sight: Sight) -> Iterator[Violation]:
    """Is a range that may not be unmapped still there, cut where it begins?"""
    start, length = sight.args
    yield from _kept(sight, Range(start, start + length))


@after("mmap", VMA_LAYOUT, before=VMAS)
def not_replaced(sight: Sight) -> Iterator[Violation]:
    """Is what may not be replaced still there, cut where the new mapping was to begin?"""
    start, length, prot, flags, *of = sight.args
    file = sight.space.files.get(of[0]) if of and not flags & MAP_ANONYMOUS else None
    if prot & PROT_EXEC and isinstance(file, BpfMap) and sight.before.kernel.anon_inodes_noexec:
        return  # no seal is asked
    if flags & MAP_FIXED and not flags & (MAP_LOCKED | MAP_HUGETLB):
        yield from _kept(sight, Range(start, start + length))


def _kept(sight: Sight, where: Range) -> Iterator[Violation]:
    if sight.error is Errno.EPERM and where.start >= sight.before.geometry.min_addr:
        tape = Tape(sight.before)
        _gone(tape, where)
        yield from _compare(sight.after, tape)


@after("mremap", VMA_LAYOUT, before=VMAS)
def not_moved(sight: Sight) -> Iterator[Violation]:
    """Has an mremap that a seal refused cut what it may have, and gone no further?"""
    before, request = sight.before, sight.request
    too_low = request.flags & MREMAP_FIXED and request.new_addr < before.geometry.min_addr
    if sight.error is not Errno.EPERM or before.failing or too_low:
        return
    tape = _refused(before, request)
    if tape is not None:
        yield from _compare(sight.after, tape)


@after("mremap", VMA_LAYOUT, FAILURE_STRIKES, before=VMAS)
def laid_out(sight: Sight) -> Iterator[Violation]:
    """Are the VMAs those that should be there, and was every attempt counted?

    Where a failure on demand has struck, memory may stay mapped that was to go.
    """
    space, before, result = sight.space, sight.before, sight.address
    if result is None:
        return
    tape = expected(before, sight.request, result)
    if tape is None:
        return
    left = space.failures.left() if before.failing else {}
    for kind, made in tape.attempts.items():
        due = before.failing.get(kind, ())
        if any(nth <= made for nth in due):
            if kind != VMA:
                yield FAILURE_STRIKES.broken(
                    Range(result, result + 1),
                    f"success, though the next failure (@fail {kind} {min(due)}) was to strike",
                    f"an error: it takes {terms.count(made, 'attempt')}",
                )
            return
        if due and left.get(kind, ()) != tuple(nth - made for nth in due):
            yield FAILURE_STRIKES.broken(
                Range(result, result + 1),
                f"failures to come (@fail {kind}): {_nths(left.get(kind, ()))}",
                f"{_nths(nth - made for nth in due)}, after {terms.count(made, 'attempt')}",
            )
            return
    yield from _compare(sight.after, tape)


def _nths(left: Iterable[int]) -> str:
    return ", ".join(map(str, left)) or "none"


def _compare(after: Snapshot, tape: Tape) -> Iterator[Violation]:
    """Registrations with userfaultfd, anon_vmas and page offsets of memory that never had a page
    have rules of their own."""
    now = after.areas
    for area, wanted in zip(now, tape.pieces, strict=False):
        found = Tape._piece(tape, area)
        if _seen(found, wanted) != _seen(wanted, wanted):
            yield VMA_LAYOUT.broken(
                Range(found.start, found.end), _told(tape, found), _told(tape, wanted)
            )
            return
    if len(now) != len(tape.pieces):
        longer: Sequence[Area | Piece] = max(now, tape.pieces, key=len)
        some = longer[min(len(now), len(tape.pieces))]
        yield VMA_LAYOUT.broken(
            Range(some.start, some.end),
            terms.count(len(now), "VMA"),
            terms.count(len(tape.pieces), "VMA"),
        )


def _seen(piece: Piece, wanted: Piece) -> tuple[object, ...]:
    """What is compared."""
    flags = piece.flags & ~VM_UFFD
    return piece.start, piece.end, flags, piece.backing, 0 if wanted.fresh else piece.shift


def _told(tape: Tape, piece: Piece) -> str:
    """A piece, for people."""
    geometry, where = tape.before.geometry, Range(piece.start, piece.end)
    pgoff = piece.shift + (piece.start >> tape.page_shift)
    return terms.mapping(geometry, where, piece.flags, piece.backing, pgoff)
