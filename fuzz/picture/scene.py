"""Where everything is in a picture: its ribbons, each a part of the address space on an axis.

The ribbon of the old range is above that of the new one, and what is to move is straight above the
place that it goes to.  If the slots of the two overlap they are one ribbon.
"""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from engine.base.address import Range, round_down, round_up
from engine.base.geometry import PTE, Geometry
from engine.base.points import RELOCATE_VMA_DOWN
from fuzz.calls.arena import Arena
from fuzz.calls.registry import CALLS, operands
from fuzz.picture.axis import Axis, axis
from fuzz.picture.moments import Film, Moment
from fuzz.picture.paper import Paper
from fuzz.picture.seen import Reader, Run, clipped

COLOURS = 8
OLD, NEW = "old range", "new range"  # what spans of a move are called
_SLOTS_APART = 8  # with no more slots in a ribbon than that, each stands alone


@dataclass(frozen=True, slots=True)
class Span:
    """A range that a call names; `lowered` is what it takes beside that, below (realignment)."""

    name: str
    where: Range
    lowered: Range | None = None


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A part of the address space: [start, end), and what the call names in it.

    `base` is the address at offset 0 of the axis.
    """

    window: Range
    base: int
    spans: tuple[Span, ...] = ()


class Scene:
    """The ribbons of a film, their common axis, and the colours of what pages hold."""

    def __init__(self, film: Film, paper: Paper) -> None:
        self.film, self.paper = film, paper
        self.geometry: Geometry = film.kernel.geometry
        self.ribbons = tuple(_ribbons(film))
        self._runs: dict[tuple[int, int], list[Run]] = {}
        self._reader = Reader(self.geometry)
        self.axis: Axis = axis(
            self._cuts(), self._optional(), self.geometry.page_bytes, paper.left, paper.right
        )
        shift = self.geometry.page_shift
        self._starts = sorted(
            {
                tag
                for found in self._runs.values()
                for run in found
                for tag in (run.tag, run.tag + (run.where.length >> shift) * run.step)
                if run.tag
            }
        )
        self._parted: dict[tuple[int, int], list[Run]] = {}

    def x(self, ribbon: Ribbon, addr: int) -> float:
        """The place of an address on a ribbon."""
        return self.axis.x(addr - ribbon.base)

    def colour(self, tag: int) -> int:
        """The colour of what holds that content, a number; pages that stay together share it."""
        return (bisect_right(self._starts, tag) - 1) % COLOURS

    def runs(self, moment: Moment, ribbon: Ribbon) -> list[Run]:
        """The pages that are there at a moment; those that stay together all the time are a run."""
        key = id(moment.seen), self.ribbons.index(ribbon)
        if key not in self._parted:
            parts = (part for run in self._whole(moment, ribbon) for part in self._parts(run))
            self._parted[key] = list(parts)
        return self._parted[key]

    def _parts(self, run: Run) -> Iterator[Run]:
        """A run, cut where it is parted at some moment."""
        start, end = run.where
        if run.step:
            pages = (end - start) >> self.geometry.page_shift
            first = bisect_right(self._starts, run.tag)
            last = bisect_left(self._starts, run.tag + pages)
            for tag in self._starts[first:last]:
                at = run.where.start + ((tag - run.tag) << self.geometry.page_shift)
                yield clipped(self.geometry, run, Range(start, at))
                start = at
        yield clipped(self.geometry, run, Range(start, end))

    def _whole(self, moment: Moment, ribbon: Ribbon) -> list[Run]:
        """The pages that are there, in runs as long as they are then."""
        key = id(moment.seen), self.ribbons.index(ribbon)
        if key not in self._runs:
            self._runs[key] = self._reader.runs(moment.seen, ribbon.window)
        return self._runs[key]

    @cached_property
    def moving(self) -> bool:
        """Does anything move?"""
        return bool(self.film.ways)

    @cached_property
    def apart(self) -> bool:
        """Have the old range and the new one a ribbon each?"""
        return self.moving and len(self.ribbons) > 1 and bool(self.ribbons[1].spans)

    @cached_property
    def first(self) -> Moment:
        """The moment before anything moves."""
        replaced = [one for one in self.film.moments if one.kind == RELOCATE_VMA_DOWN]
        return (replaced or self.film.moments)[0]

    def slots(self, ribbon: Ribbon) -> Iterator[tuple[Range, int]]:
        """The slots of a ribbon, those that are alike together: where, and how many."""
        slot = self.geometry.slot_bytes
        inner = {
            piece.start + ribbon.base
            for piece in self.axis.pieces
            if not (piece.start + ribbon.base) % slot
        }
        start, end = ribbon.window
        edges = sorted({start, end} | {edge for edge in inner if start < edge < end})
        for low, high in itertools.pairwise(edges):
            yield Range(low, high), -(-(high - low) // slot)

    def _cuts(self) -> set[int]:
        """Where the axis has to be cut."""
        cuts: set[int] = set()
        slot = self.geometry.slot_bytes
        for ribbon in self.ribbons:
            window, base = ribbon.window, ribbon.base
            places = {*window}
            for span in ribbon.spans:
                places.update((*span.where, *(span.lowered or ())))
            if window.length <= _SLOTS_APART * slot:
                places.update(range(round_up(window.start, slot), window.end, slot))
            if (broken := self.film.violation) and broken.where != self.film.kernel.geometry.arena:
                places.update(broken.where)
            cuts.update(place - base for place in places if window.start <= place <= window.end)
        return cuts

    def _optional(self) -> Iterator[int]:
        """Where it is to be cut as well, what matters most first."""
        for places in (
            self._of_bites(),
            self._of_mappings(),
            self._of_slots(),
            self._of_rows(),
            self._of_runs(),
        ):
            ordered: list[int] = []
            for place in dict.fromkeys(places):
                for ribbon in self.ribbons:
                    if ribbon.window.start < place < ribbon.window.end:
                        ordered.append(place - ribbon.base)
            yield from ordered

    def _of_bites(self) -> Iterator[int]:
        for moment in self.film.moments:
            if moment.bite:
                yield from moment.bite.source
                yield from moment.bite.target

    def _of_mappings(self) -> Iterator[int]:
        for moment in self.film.moments:
            for mapping in moment.seen.mappings:
                yield from mapping.where

    def _of_rows(self) -> Iterator[int]:
        for moment in self.film.moments:
            for rows in moment.seen.rows.values():
                for row in rows:
                    yield from row.where or ()

    def _of_runs(self) -> Iterator[int]:
        for moment in self.film.moments:
            for ribbon in self.ribbons:
                for run in self._whole(moment, ribbon):
                    yield from run.where

    def _of_slots(self) -> Iterator[int]:
        """The boundaries at which slots differ from those beside them, in any moment."""
        slot, found = self.geometry.slot_bytes, set()
        for moment in self.film.moments:
            tables, leaves = moment.seen.tables, moment.seen.leaves
            held = {base for level, base in tables if level == PTE} | leaves.keys()
            for base in held:
                state = self._state(moment, base)
                for edge, beside in ((base, base - slot), (base + slot, base + slot)):
                    if self._state(moment, beside) != state:
                        found.add(edge)
        return iter(sorted(found))

    def _state(self, moment: Moment, base: int) -> tuple[int | None, bool]:
        return moment.seen.tables.get((PTE, base)), isinstance(moment.seen.leaves.get(base), int)


def _ribbons(film: Film) -> Iterator[Ribbon]:
    """The parts of the address space that a film is about."""
    geometry = film.kernel.geometry
    ways = [way for way in film.ways if not way.back]
    if not ways:
        first_slot = Range(geometry.arena.start, geometry.arena.start + geometry.slot_bytes)
        window = _window(geometry, [*_changed(film), *_named(film)] or [first_slot])
        named = tuple(Span("named", where) for where in _spanned(film))
        yield Ribbon(window, window.start, named)
        return
    asked = _hull(way.requested for way in ways)
    taken = _hull(way.source for way in ways)
    delta = ways[0].target.start - ways[0].source.start
    spans = []
    for name, ahead in ((OLD, 0), (NEW, delta)):
        where = Range(asked.start + ahead, asked.end + ahead)
        lowered = Range(taken.start + ahead, where.start)
        spans.append(Span(name, where, lowered if lowered.length > 0 else None))
    bites = [one.bite for one in film.moments if one.bite]
    sources = [one.target if one.back else one.source for one in bites]
    targets = [one.source if one.back else one.target for one in bites]
    old, new = (
        _window(geometry, [span.where, span.lowered or span.where, *bitten])
        for span, bitten in zip(spans, (sources, targets), strict=True)
    )
    if old.overlaps(new):
        window = _hull([old, new])
        yield Ribbon(window, window.start, tuple(spans))
        low, seen = 0, [window]
    else:
        yield Ribbon(old, asked.start, (spans[0],))
        yield Ribbon(new, asked.start + delta, (spans[1],))
        low, seen = min(old.start - asked.start, new.start - asked.start - delta), [old, new]
    where = film.violation.where if film.violation else geometry.arena
    if where != geometry.arena and not any(where.overlaps(one) for one in seen):
        window = _window(geometry, [where])
        yield Ribbon(window, window.start - low)


def _window(geometry: Geometry, wheres: Iterable[Range]) -> Range:
    """Whole slots around some ranges, as far as there is memory."""
    hull, slot = _hull(wheres), geometry.slot_bytes
    return Range(
        max(round_down(hull.start, slot), 0), min(round_up(hull.end, slot), geometry.user_top)
    )


def _hull(wheres: Iterable[Range]) -> Range:
    """From the lowest start to the highest end."""
    ranges = list(wheres)
    return Range(min(one.start for one in ranges), max(one.end for one in ranges))


def _named(film: Film) -> Iterator[Range]:
    """What a call without a move is about: where the rule is broken, and what its operands name."""
    if film.violation and film.violation.where != film.kernel.geometry.arena:
        yield film.violation.where
    yield from _spanned(film)


def _spanned(film: Film) -> Iterator[Range]:
    """The range that a call names, if that is one in the arena."""
    if film.call < 0:
        return
    geometry, call = film.kernel.geometry, film.shown.case.calls[film.call]
    declared, arena = CALLS[call.name], film.kernel.geometry.arena
    if declared.span is not None:
        start, length = declared.span.of(operands(Arena.of(geometry), declared, call.args))
        if arena.start <= start < arena.end:
            yield Range(start, min(start + max(length, geometry.page_bytes), arena.end))


def _changed(film: Film) -> Iterator[Range]:
    """The mappings and slots that a call changes."""
    slot = film.kernel.geometry.slot_bytes
    first, last = film.moments[0].seen, film.moments[-1].seen
    for mapping in set(first.mappings) ^ set(last.mappings):
        yield mapping.where
    for base in first.leaves.keys() | last.leaves.keys():
        if first.leaves.get(base) != last.leaves.get(base):
            yield Range(base, base + slot)
