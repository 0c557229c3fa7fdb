"""What a picture shows: the call that breaks a rule, moment by moment.

A run is watched twice.  The first time only notes at which points the call was; then the moments
worth a look are chosen, and the second run, which does the same, stops at them and looks.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.base.address import Range
from engine.base.kernel import Kernel
from engine.base.points import (
    ACTED,
    ACTS,
    ALLOC_FAILED,
    ENTER,
    FREE_PGTABLES,
    HUGE_MOVED,
    HUGE_SPLIT,
    ITERATION,
    LEAVE,
    MOVE_HUGE,
    MOVE_PMD,
    MOVE_PTES,
    MOVE_PUD,
    PMD_MOVED,
    PMD_OCCUPIED,
    PTES_MOVED,
    PUD_MOVED,
    PUD_OCCUPIED,
    RELOCATE_VMA_DOWN,
    SKIPPED,
    VMA_COPIED,
    Point,
)
from engine.base.violation import Violation
from engine.move import MovePoint, extent_bytes
from engine.state.space import AddressSpace
from engine.state.table import Picture
from engine.state.vma import VM_HUGETLB
from fuzz.calls.actors import Actor, Deed
from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Does
from fuzz.case import Case, Result
from fuzz.execute import execute
from fuzz.picture.seen import Seen, details_asked, details_that_matter, look
from fuzz.rules.index import BY_SLUG
from fuzz.rules.rule import Rule
from fuzz.rules.tlb import TLB_UNLOCK
from fuzz.showing import Showing, showing
from fuzz.tell.deeds import in_words
from fuzz.tell.details import Detail

BEFORE, END, UNLOCKED = "before", "end", "unlocked"  # beside the names of points
MOVERS = {
    PTES_MOVED: "move_ptes",
    PMD_MOVED: "move_normal_pmd",
    PUD_MOVED: "move_normal_pud",
    HUGE_MOVED: "move_huge_pmd",
}
_BEGUN = {
    MOVE_PTES: "move_ptes",
    MOVE_PMD: "move_normal_pmd",
    MOVE_PUD: "move_normal_pud",
    MOVE_HUGE: "move_huge_pmd",
}
REFUSED = frozenset((PMD_OCCUPIED, PUD_OCCUPIED))
_PASSED = frozenset((*_BEGUN, SKIPPED, ACTS))  # told of what comes next
_NOTED = frozenset(
    (
        VMA_COPIED,
        RELOCATE_VMA_DOWN,
        ENTER,
        ITERATION,
        ALLOC_FAILED,
        HUGE_SPLIT,
        LEAVE,
        FREE_PGTABLES,
        ACTED,
        *MOVERS,
        *_PASSED,
        *REFUSED,
    )
)
NOWHERE = Range(0, 0)
_MOST_BITES = 12  # of more, some stand for others
_MOST_MOMENTS = 26  # of more, some are left out


class Bite(NamedTuple):
    """What one mover took at once: from where to where; `back`: on the way back after a failure.

    `refused`: it came to nothing, for the entry is occupied, or (no `mover`) there was no memory
    for a table.  `many` are the bites of the same mover, side by side, that it stands for;
    `skipped` the bytes right before it that had no table.
    """

    mover: str
    source: Range
    target: Range
    back: bool
    refused: bool
    many: int = 1
    skipped: int = 0


class Way(NamedTuple):
    """A move of page tables: from where to where, lowered by realignment, and as requested."""

    source: Range
    target: Range
    requested: Range
    back: bool


class Mark(NamedTuple):
    """A point that the call was at: its place among them, the locks held, what had been broken.

    `deed` is what somebody else has done there.
    """

    number: int
    name: str
    where: Range
    held: int
    broken: int
    bite: Bite | None
    deed: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment: what it is (a point, `before` or `end`), and all that was to be seen.

    `broken` are the rules that were first found broken here, `deed` is what somebody else has done.
    """

    kind: str
    where: Range
    held: int
    bite: Bite | None
    seen: Seen
    broken: tuple[Violation, ...] = ()
    deed: str = ""


@dataclass(frozen=True, slots=True)
class Film:
    """A call of a case on a kernel, in moments.

    `call` is its index; `violation` the worst that the finding broke in it, None: none; `failing`
    the index of the moment at which that was noticed.  `ways` are its moves, in order; `result` is
    None if it did not return.
    """

    shown: Showing
    call: int
    result: Result | None
    violation: Violation | None
    rule: Rule | None
    ways: tuple[Way, ...]
    moments: tuple[Moment, ...]
    failing: int | None
    details: tuple[Detail, ...]

    @property
    def severity(self) -> str:
        """How bad it is that the rule is broken, "" if none is."""
        return str(self.rule.severity) if self.rule is not None else ""

    @property
    def kernel(self) -> Kernel:
        """The kernel that it ran on."""
        return self.shown.kernel


@dataclass(slots=True)
class _Scout:
    """Notes the points of one call, and the state before and after it."""

    call: int
    details: Sequence[Detail]
    marks: list[Mark] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    before: Seen | None = None
    after: Seen | None = None
    hears: Collection[str] = _NOTED
    _now: int = -1
    _mover: str = ""
    _skipped: Range = NOWHERE
    _leaves: Picture = field(default_factory=dict)  # before somebody did something
    _stopped: Actor | None = None

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        if self._now != self.call - 1:
            return
        name = point.name
        if name in _BEGUN:
            self._mover = _BEGUN[name]
            return
        if isinstance(point, Deed) and name == ACTS:
            self._leaves = space.tree.frozen()
            return
        if name == SKIPPED:
            follows = self._skipped.end == point.where.start
            start = self._skipped.start if follows else point.where.start
            self._skipped = Range(start, point.where.end)
            return
        bite = None
        if isinstance(point, MovePoint):
            move = point.move
            if name == ENTER:
                self.ways.append(
                    Way(
                        Range(move.old, move.old_end),
                        Range(move.new, move.new + move.old_end - move.old),
                        Range(move.requested_old, move.old_end),
                        move.rollback,
                    )
                )
            if name in MOVERS or name in REFUSED:
                mover = MOVERS.get(name, self._mover)
                if move.old_vma.flags & VM_HUGETLB:
                    mover = "move_huge_pte"
                target = Range(move.new, move.new + point.end - point.start)
                bite = Bite(mover, point.where, target, move.rollback, name in REFUSED)
                if self._skipped.length and self._skipped.end == point.where.start:
                    bite = bite._replace(skipped=self._skipped.length)
            elif name == ALLOC_FAILED:
                extent = extent_bytes(move, space.geometry.slot_bytes)
                source, target = (Range(at, at + extent) for at in (move.old, move.new))
                bite = Bite("", source, target, move.rollback, True)
        broken = len(space.violations)
        deed = self._deed(space, point) if isinstance(point, Deed) else ""
        self.marks.append(Mark(len(self.marks), name, point.where, point.held, broken, bite, deed))

    def _deed(self, space: AddressSpace, deed: Deed) -> str:
        """What somebody else has done."""
        told = in_words(space, deed, self._leaves, resumed=deed.actor is self._stopped)
        if deed.actor.walk is not None:
            self._stopped = deed.actor
        return told

    def step(self, index: int, space: AddressSpace) -> None:
        """See `on_step` of `execute`."""
        self._now = index
        if index == self.call - 1:
            self.before = look(space, self.details)
        elif index == self.call:
            self.after = look(space, self.details)


@dataclass(slots=True)
class _Camera:
    """Looks at the address space at some of the points that a scout has noted."""

    call: int
    wanted: Collection[int]
    details: Sequence[Detail]
    taken: dict[int, Seen] = field(default_factory=dict)
    hears: Collection[str] = _NOTED
    _now: int = -1
    _number: int = 0

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        if self._now != self.call - 1 or point.name in _PASSED:
            return
        if self._number in self.wanted:
            self._take(self._number, space)
        self._number += 1

    def step(self, index: int, space: AddressSpace) -> None:
        """See `on_step` of `execute`."""
        self._now = index
        if index == self.call - 1:  # before the first call that is index -1
            self._take(-1, space)
        elif index == self.call:
            self._take(self._number, space)

    def _take(self, number: int, space: AddressSpace) -> None:
        last = self.taken[max(self.taken)] if self.taken else None
        self.taken[number] = look(space, self.details, last)


def film(case: Case, kernel: Kernel) -> Film:
    """The call of a case that breaks the worst rule of its finding; else the last that moves.

    Errors raised: those of `fuzz.showing.showing`.
    """
    shown = showing(case, kernel)
    found = shown.found
    call = found.call if found else _telling(shown)
    violation = found.violation if found else None
    broken = [one.violation for one in shown.violations if one.call == call]
    rules = {one.rule for one in broken}
    scout = _Scout(call, details_asked(rules))
    execute(case, kernel, stop=False, until=call, listeners=[scout], on_step=scout.step)
    chosen = list(_chosen(scout.marks, violation, broken))
    seen = [one for one in (scout.before, scout.after) if one]
    details = details_that_matter(rules, seen[0], seen[-1])
    camera = _Camera(call, {mark.number for mark in chosen}, details)
    execute(
        case,
        kernel,
        stop=False,
        until=call,
        listeners=[camera],
        on_step=camera.step,
        check=False,
    )
    first = camera.taken[min(camera.taken)]
    moments = [Moment(BEFORE, NOWHERE, 0, None, first)]
    told = 0
    for mark in chosen:
        kind = UNLOCKED if mark.name in (ITERATION, LEAVE) else mark.name
        news = tuple(broken[told : mark.broken])
        told = max(told, mark.broken)
        seen_then = camera.taken[mark.number]
        moments.append(Moment(kind, mark.where, mark.held, mark.bite, seen_then, news, mark.deed))
    returned = 0 <= call < len(shown.results)
    last = camera.taken.get(len(scout.marks), moments[-1].seen)
    moments.append(Moment(END, NOWHERE, 0, None, last, tuple(broken[told:])))
    failing = _failing(moments, violation) if violation else None
    return Film(
        shown,
        call,
        shown.results[call] if returned else None,
        violation,
        _rule(violation),
        tuple(scout.ways),
        tuple(moments),
        failing,
        details,
    )


def _failing(moments: Sequence[Moment], violation: Violation) -> int:
    """The index of the moment at which a rule breaks, mostly that at which it is noticed.

    What is noticed at the end of a move is put down to the last thing that it did, and a way back
    that came short to where it stopped.  A flush is due until the locks are dropped.
    """
    noticed = next(
        (n for n, one in enumerate(moments) if any(v.rule == violation.rule for v in one.broken)),
        len(moments) - 1,
    )
    bites = [(n, one.bite) for n, one in enumerate(moments[: noticed + 1]) if one.bite]
    if not bites:
        return noticed
    if violation.rule == TLB_UNLOCK.slug:
        after = range(noticed, len(moments))
        return next((n for n in after if moments[n].kind == UNLOCKED), noticed)
    last, where = bites[-1][0], violation.where
    if moments[noticed].kind == UNLOCKED:
        took = [n for n, one in bites if one.source.overlaps(where) or one.target.overlaps(where)]
        return (took or [last])[-1]
    stopped = moments[last].kind == ALLOC_FAILED and moments[noticed].kind == FREE_PGTABLES
    return last if stopped else noticed


def _rule(violation: Violation | None) -> Rule | None:
    return BY_SLUG[violation.rule] if violation else None


def _telling(shown: Showing) -> int:
    """The index of the call to draw where no rule is broken: the last that moves, or the last."""
    ran = [
        (index, CALLS[call.name])
        for index, (call, result) in enumerate(zip(shown.case.calls, shown.results, strict=False))
        if result != "SKIP" and not CALLS[call.name].is_directive
    ]
    moving = [index for index, declared in ran if declared.does & Does.MOVES]
    return (moving or [index for index, _ in ran] or [-1])[-1]


def _chosen(
    marks: Sequence[Mark], violation: Violation | None, broken: Sequence[Violation]
) -> Iterator[Mark]:
    """The points worth a look; of very many those at both ends, and around where a rule breaks."""
    first = next(
        (n for n, one in enumerate(broken, 1) if violation and one.rule == violation.rule), 0
    )
    culprit = next((m.number for m in marks if first and m.broken >= first), -1)
    found = list(_telling_points(marks, culprit))
    each = _MOST_MOMENTS // 3
    here = next((n for n, mark in enumerate(found) if mark.number == culprit), 0)
    for number, mark in enumerate(found):
        at_an_end = number < each or number >= len(found) - each
        if len(found) <= _MOST_MOMENTS or at_an_end or abs(number - here) <= each // 2:
            yield mark


def _telling_points(marks: Sequence[Mark], culprit: int) -> Iterator[Mark]:
    """The points at which there is something to be seen.

    Arguments: `culprit` the number of the one at which the rule is found broken, -1: none.
    """
    bites = [mark for mark in marks if mark.bite]
    spared = _spared(bites, culprit) if len(bites) > _MOST_BITES else {}
    after_bite = after_culprit = False
    for mark in marks:
        if mark.number == culprit or (mark.bite and mark.number not in spared):
            yield mark
        elif mark.number in spared:
            if (standing := spared[mark.number]) is not None:
                yield standing
        elif mark.name in (ITERATION, LEAVE):
            if after_bite and (after_culprit or len(bites) <= _MOST_BITES // 2):
                yield mark
        else:
            yield mark
        after_bite = mark.bite is not None and not mark.bite.refused
        after_culprit = mark.number == culprit


def _spared(bites: Sequence[Mark], culprit: int) -> dict[int, Mark | None]:
    """By number: bites that are not shown alone, or the one that stands for those before it."""
    spared: dict[int, Mark | None] = {}
    runs: list[list[Mark]] = []
    for mark in bites:
        last = runs[-1][-1] if runs else None
        if last is not None and mark.number != culprit and _continues(last, mark):
            runs[-1].append(mark)
        else:
            runs.append([mark])
    for _, *rest in runs:
        if len(rest) > 1:
            last, begun = rest[-1], rest[0]
            assert last.bite is not None and begun.bite is not None
            bite = last.bite._replace(
                source=Range(begun.bite.source.start, last.bite.source.end),
                target=Range(begun.bite.target.start, last.bite.target.end),
                many=len(rest),
            )
            spared.update({mark.number: None for mark in rest})
            spared[last.number] = last._replace(bite=bite)
    return spared


def _continues(last: Mark, mark: Mark) -> bool:
    """Is a bite one more of the same?"""
    one, other = last.bite, mark.bite
    assert one is not None and other is not None
    return (one.mover, one.back, one.refused) == (other.mover, other.back, other.refused) and (
        one.source.end <= other.source.start
    )
