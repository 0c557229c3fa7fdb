"""What has become of pages: which should be somewhere and are not, which nothing maps any more."""

import itertools
from collections.abc import Iterable, Iterator
from functools import cached_property

from engine.base.address import Range
from engine.base.geometry import Geometry
from fuzz.picture.scene import Ribbon, Scene
from fuzz.picture.seen import Run, clipped
from fuzz.tell import signs
from fuzz.tell.details import DETAILS

# The rules that are about where pages are, and what they hold.
_RULES = frozenset(
    rule for detail in DETAILS if detail.title == signs.CONTENTS for rule in detail.rules
)


class Lost:
    """What has become of the pages of a scene, by the index of the moment.

    Nothing is said of moments before the rule is broken, nor of rules that are about other things.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        film = scene.film
        asked = film.rule is not None and film.rule.slug in _RULES
        self._from = film.failing if asked and film.failing is not None else len(film.moments)
        self._missing: dict[int, list[Run]] = {}

    def shows(self, index: int) -> bool:
        """Is there anything to be seen at a moment?"""
        stray = (self.stray(index, ribbon) for ribbon in self.scene.ribbons)
        return bool(self.missing(index)) or any(stray)

    def missing(self, index: int) -> list[Run]:
        """Pages that should be there, and are neither there nor where they were before."""
        if index < self._from:
            return []
        if index not in self._missing:
            self._missing[index] = list(self._find_missing(index))
        return self._missing[index]

    def elsewhere(self, index: int, run: Run) -> bool:
        """Is a page that is missing somewhere in the picture?"""
        return any(tag == run.tag for _, tag in self._pages(self._all_runs(index)))

    def zeroes(self, index: int, run: Run) -> bool:
        """Does a program that reads where pages are missing get zeroes?"""
        moment = self.scene.film.moments[index]
        private = any(
            one.where.start <= run.where.start
            and run.where.end <= one.where.end
            and one.notes[0] in (signs.FAULTED, signs.UNFAULTED)
            for one in moment.seen.mappings
        )
        runs = (one for ribbon in self.scene.ribbons for one in self.scene.runs(moment, ribbon))
        return private and not any(one.where.overlaps(run.where) for one in runs)

    def stray(self, index: int, ribbon: Ribbon) -> list[Range]:
        """Where pages are without a VMA."""
        if index < self._from:
            return []
        moment = self.scene.film.moments[index]
        found: list[Range] = []
        for run in self.scene.runs(moment, ribbon):
            at = run.where.start
            for mapping in moment.seen.mappings:
                if mapping.where.overlaps(Range(at, run.where.end)):
                    if mapping.where.start > at:
                        found.append(Range(at, mapping.where.start))
                    at = mapping.where.end
            if at < run.where.end:
                found.append(Range(at, run.where.end))
        joined: list[Range] = []
        for where in found:
            if joined and joined[-1].end == where.start:
                joined[-1] = Range(joined[-1].start, where.end)
            else:
                joined.append(where)
        return joined

    def _find_missing(self, index: int) -> Iterator[Run]:
        shift = self.scene.geometry.page_shift
        there = set(self._pages(self._all_runs(index)))
        before = {tag: addr for addr, tag in self._pages(self._all_runs(None))}
        lost: Run | None = None
        for addr, tag in self._pages(self._due):
            if not tag or (addr, tag) in there or (before.get(tag, -1), tag) in there:
                continue
            if lost and lost.where.end == addr and lost.tag + (lost.where.length >> shift) == tag:
                lost = lost._replace(where=Range(lost.where.start, addr + (1 << shift)), step=1)
                continue
            if lost:
                yield lost
            lost = Run(Range(addr, addr + (1 << shift)), "page", tag, 0, False)
        if lost:
            yield lost

    def _all_runs(self, index: int | None) -> Iterator[Run]:
        """All pages at a moment; None: before anything moves."""
        moment = self.scene.first if index is None else self.scene.film.moments[index]
        for ribbon in self.scene.ribbons:
            yield from self.scene.runs(moment, ribbon)

    def _pages(self, runs: Iterable[Run]) -> Iterator[tuple[int, int]]:
        """Each page: its address, what it holds."""
        page = self.scene.geometry.page_bytes
        for run in runs:
            for number in range(run.where.length // page):
                yield run.where.start + number * page, run.tag + number * run.step

    @cached_property
    def _due(self) -> list[Run]:
        """What should be there when the call is over, as far as pages had been there before.

        A page that was to move is at its new place if the call succeeded, every other one where it
        was, unless nothing is mapped there any more, or something else was to come there.
        """
        film, geometry = self.scene.film, self.scene.geometry
        way = next((way for way in film.ways if not way.back), None)
        if way is None:
            return []
        succeeded = not isinstance(film.result, str)
        delta = way.target.start - way.source.start
        evicted = Range(way.requested.start + delta, way.requested.end + delta)
        found: list[Run] = []
        for run in self._all_runs(None):
            for part in _parts(geometry, run, (way.requested, evicted)):
                moves = part.where.overlaps(way.requested)
                if part.where.overlaps(evicted) and not moves:
                    continue
                if moves and succeeded:
                    start, end = part.where
                    part = part._replace(where=Range(start + delta, end + delta))
                found += [
                    clipped(geometry, part, mapping.where)
                    for mapping in film.moments[-1].seen.mappings
                    if mapping.where.overlaps(part.where)
                ]
        return found


def _parts(geometry: Geometry, run: Run, wheres: Iterable[Range]) -> Iterator[Run]:
    """A run, cut at the ends of some ranges."""
    cuts = sorted({edge for where in wheres for edge in where})
    start, end = run.where
    edges = [start, *(cut for cut in cuts if start < cut < end), end]
    for low, high in itertools.pairwise(edges):
        yield clipped(geometry, run, Range(low, high))
