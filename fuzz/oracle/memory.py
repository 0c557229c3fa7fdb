"""Memory as the oracle sees it: what is mapped, and page number -> tag.

All positions are page numbers in the arena.  The cost of a change follows the pages with a tag and
the mappings, never the length of a range.
"""

import sys
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Span = tuple[int, int]  # half-open, in pages unless a name says bytes


@dataclass(slots=True, eq=False)
class Origin:
    """What a mapping shows where it has no page of its own: tags by page offset.

    It lives as long as a mapping of it, that of a file as long as its descriptor, too.
    """

    size: int  # pages; accesses beyond it end in SIGBUS
    tags: dict[int, int] = field(default_factory=dict)
    collapsed: bool = False  # may have a huge page, which goes on past its end
    driver: bool = False  # it may refuse a mapping, when what was in its place is gone
    refills: bool = True  # a page that a mapping has thrown away comes back


class Zeroes(Origin):
    """What anonymous memory begins with: no tags, and no end.  There is one, also for copies."""

    def __deepcopy__(self, memo: object) -> "Zeroes":
        return self


ZEROES = Zeroes(sys.maxsize)


class Area(NamedTuple):
    """Pages [start, end) that are mapped alike, by calls that named all of them or none."""

    start: int
    end: int
    prot: int | None  # None: not known
    origin: Origin = ZEROES
    private: bool = True  # what is written stays in this mapping; else it goes to the origin
    offset: int = 0  # page of the origin at `start`
    grows: bool = False  # downwards, when a page below it is accessed
    guarded: bool = False  # may hold guard pages, on which every access fails
    huge: int = 0  # pages of each of its huge pages, which the pool may run out of; 0: usual ones
    droppable: bool = False  # reclaim may throw its pages away
    watched: bool = False  # a userfaultfd may be told of accesses by SIGBUS
    copied: bool = False  # may have copies of pages of a file that nobody has written to

    @property
    def copies(self) -> bool:
        """Is it a private mapping of a file: pages that were not written are those of the file?"""
        return self.private and self.origin is not ZEROES

    def overlaps(self, lo: int, hi: int) -> bool:
        """Is a page of [lo, hi) in it?"""
        return max(self.start, lo) < min(self.end, hi)

    def at(self, page: int) -> int:
        """The page of the origin that `page` shows."""
        return self.offset + page - self.start

    def clip(self, lo: int, hi: int) -> "Area":
        """The part inside [lo, hi), which it overlaps."""
        if lo <= self.start and self.end <= hi:
            return self
        start = max(lo, self.start)
        return self._replace(start=start, end=min(hi, self.end), offset=self.at(start))

    def outside(self, lo: int, hi: int) -> "list[Area]":
        """The parts that are not in [lo, hi)."""
        if not self.overlaps(lo, hi):
            return [self]
        spans = ((self.start, lo), (hi, self.end))
        return [self.clip(start, end) for start, end in spans if start < end]

    def spread(self, lo: int, hi: int) -> "Area":
        """The part inside [lo, hi), which it overlaps; huge pages partly in it go whole."""
        unit = self.huge or 1
        return self.clip(lo // unit * unit, -(-hi // unit) * unit)

    def placed(self, page: int, start: int, count: int) -> "Area":
        """`count` pages at `start` that show what this area would show from `page` on."""
        return self._replace(start=start, end=start + count, offset=self.at(page), guarded=False)


@dataclass(slots=True)
class Memory:
    """Contents, mappings and the tag counter.

    `pages` holds what is visible: tags of private pages, and those of an origin through each of
    its mappings.  Where that may be gone the tag is negative; `doubtful` says that there may be
    such pages.  `given_up` are the tags of pages that reclaim may drop though the mapping is not
    droppable; a write gives a page another tag.  `areas` are disjoint and in address order.
    `own` are the pages that are copies of those of a file; `unsure` those of which that is not
    known, with what they show if they are.  `files` are the open ones, by descriptor.
    """

    pages: dict[int, int] = field(default_factory=dict)
    areas: list[Area] = field(default_factory=list)
    next_tag: int = 1
    doubtful: bool = False
    given_up: set[int] = field(default_factory=set)
    own: set[int] = field(default_factory=set)
    unsure: dict[int, set[int]] = field(default_factory=dict)
    files: dict[int, Origin] = field(default_factory=dict)

    def copy(self) -> "Memory":
        """A copy that can be remapped freely; origins are shared with the original."""
        return Memory(
            self.pages.copy(),
            self.areas.copy(),
            self.next_tag,
            self.doubtful,
            self.given_up.copy(),
            self.own.copy(),
            self.unsure.copy(),
            self.files.copy(),
        )

    def inside(self, lo: int, hi: int) -> list[Area]:
        """The mapped parts of [lo, hi)."""
        if lo >= hi:
            return []
        return [
            area if lo <= area.start and area.end <= hi else area.clip(lo, hi)
            for area in self.areas
            if area.start < hi and lo < area.end and area.start < area.end
        ]

    def holes(self, lo: int, hi: int) -> list[Span]:
        """The parts of [lo, hi) that are not mapped."""
        return minus((lo, hi), [(area.start, area.end) for area in self.areas if area.end > lo])

    def mapped(self) -> list[Span]:
        """What is mapped: disjoint ranges with a gap between each two."""
        return joined([(area.start, area.end) for area in self.areas])

    def is_huge(self, page: int) -> bool:
        """Do huge pages lie at `page`?"""
        return any(area.huge and area.start <= page < area.end for area in self.areas)

    def whole_huge(self, end: int) -> int:
        """Where a move of several mappings ends: the last one's huge pages go whole."""
        huge = next((area.huge for area in self.areas if area.start < end <= area.end), 0)
        return -(-end // huge) * huge if huge else end

    def tagged(self, lo: int, hi: int) -> list[int]:
        """Pages of [lo, hi) with a tag, in order; the cost follows what there is less of."""
        if hi - lo <= len(self.pages):
            return [page for page in range(lo, hi) if page in self.pages]
        return sorted(page for page in self.pages if lo <= page < hi)

    def take(self, lo: int, hi: int, ahead: int = 0) -> dict[int, int]:
        """Nothing is visible in [lo, hi) any more.  Returns: what was, `ahead` pages further."""
        pages = self.pages
        if self.own or self.unsure:
            self.own = {page for page in self.own if not lo <= page < hi}
            self.unsure = {p: tags for p, tags in self.unsure.items() if not lo <= p < hi}
        if hi - lo <= len(pages):
            taken = {p + ahead: pages.pop(p) for p in range(lo, hi) if p in pages}
        else:
            gone = [page for page in pages if lo <= page < hi]
            taken = {page + ahead: pages.pop(page) for page in gone}
        return taken

    def unmap(self, lo: int, hi: int) -> None:
        """Remove every mapping of [lo, hi), and what it showed."""
        if self._detach(lo, hi):
            self.take(lo, hi)

    def _detach(self, lo: int, hi: int) -> bool:
        """Remove every mapping of [lo, hi), not what it showed.  Returns: if there was one."""
        if not self.inside(lo, hi):
            return False
        self.areas = [rest for area in self.areas for rest in area.outside(lo, hi)]
        return True

    def map(self, area: Area) -> None:
        """Add a mapping where there is none."""
        insort(self.areas, area)
        self.show(area)

    def show(self, area: Area) -> None:
        """What is behind a mapping shows through it."""
        if shown := area.origin.tags:
            shift, (lo, hi) = area.start - area.offset, area[:2]
            own = self.own
            self.pages |= {
                page: tag
                for at, tag in shown.items()
                if lo <= (page := at + shift) < hi and page not in own
            }

    def move(self, lo: int, hi: int, to: int, keep: bool = False) -> None:
        """Move what is mapped in [lo, hi) to `to`, holes included: they keep what is behind them.

        Each mapped part evicts what is in its own way only.  `keep` leaves the source mapped,
        with no private page in it.  The two ranges may overlap if the move goes down.
        """
        for area in self.inside(lo, hi):
            shift = to - lo
            own = {page + shift for page in self.own if area.start <= page < area.end}
            unsure = {p + shift: t for p, t in self.unsure.items() if area.start <= p < area.end}
            tags = self.take(area.start, area.end, shift)
            self._detach(area.start, area.end)
            if keep:
                self.map(area)
            target = area._replace(start=area.start + shift, end=area.end + shift)
            self.unmap(target.start, target.end)
            self.own |= own  # these do not show the file
            self.map(target)
            self.unsure |= unsure
            self.pages |= tags

    def change(self, lo: int, hi: int, change: Callable[[Area], Area]) -> None:
        """Replace the mapped parts of [lo, hi); contents stay.  Huge pages change as a whole."""
        changed: list[Area] = []
        for area in self.areas:
            if area.overlaps(lo, hi):
                part = area.spread(lo, hi)
                changed += [change(part), *area.outside(part.start, part.end)]
            else:
                changed.append(area)
        self.areas = sorted(changed)

    def cut(self, page: int) -> None:
        """A mapping ends at a page, and the next begins; those of huge pages stay whole."""
        for index, area in enumerate(self.areas):
            if area.start < page < area.end and not area.huge:
                halves = area.clip(area.start, page), area.clip(page, area.end)
                self.areas[index : index + 1] = halves
                return

    def write(self, area: Area, tags: Iterable[int]) -> None:
        """Write a tag into each page of a mapping."""
        if area.private:
            pages = range(area.start, area.end)
            self.pages.update(zip(pages, tags, strict=True))
            if area.copies:
                self.own.update(pages)
                self.unsure = {p: was for p, was in self.unsure.items() if p not in pages}
        else:
            offsets = range(area.offset, area.at(area.end))
            self.store(area.origin, dict(zip(offsets, tags, strict=True)))

    def discard(self, lo: int, hi: int) -> None:
        """Throw private pages away: what is behind them shows again, if it can."""
        for area in self.inside(lo, hi):
            if area.private:
                self.take(area.start, area.end)
                self.show(area)
            elif not area.origin.refills:
                self.take(area.start, area.end)
                nothing = Origin(0)
                self.change(area.start, area.end, lambda one: one._replace(origin=nothing))  # noqa: B023

    def give_up(self, lo: int, hi: int) -> None:
        """Reclaim may drop the private pages of [lo, hi) until they are written again."""
        for area in self.inside(lo, hi):
            if area.private:
                self.given_up |= {abs(self.pages[p]) for p in self.tagged(area.start, area.end)}
        self.doubt(lo, hi)  # what is in swap is dropped at once

    def doubt(self, lo: int, hi: int) -> None:
        """What may be dropped of [lo, hi) may be gone from now on."""
        for area in self.inside(lo, hi):
            if area.droppable or (area.private and self.given_up):
                pages = {p: -abs(self.pages[p]) for p in self.tagged(area.start, area.end)}
                if not area.droppable:
                    pages = {p: tag for p, tag in pages.items() if -tag in self.given_up}
                self.doubtful |= bool(pages)
                self.pages |= pages

    def settled(self, contents: Mapping[int, int]) -> dict[int, int]:
        """The pages when `contents` say which of those that may be gone are gone."""
        pages = self.pages
        settled = {page: abs(tag) for page, tag in pages.items() if tag > 0 or page in contents}
        for page, copies in self.unsure.items():
            if (shown := contents.get(page, 0)) in copies:
                put(settled, page, shown)
        return settled

    def settle(self, contents: Mapping[int, int]) -> None:
        """Learn from `contents` what is gone, and what is a copy."""
        self.pages, self.doubtful = self.settled(contents), False
        self.own |= {p for p, copies in self.unsure.items() if contents.get(p, 0) in copies}
        self.unsure = {}

    def store(self, origin: Origin, tags: Mapping[int, int]) -> None:
        """Write tags into what mappings share, 0 to punch a hole: all show it but for copies."""
        for offset, tag in tags.items():
            put(origin.tags, offset, tag)
        for area in self.areas:
            if area.origin is origin:
                for offset, tag in tags.items():
                    page = area.start + offset - area.offset
                    if not area.start <= page < area.end or page in self.own:
                        continue
                    if area.copied:
                        self.unsure.setdefault(page, set()).add(self.pages.get(page, 0))
                    put(self.pages, page, tag)

    def truncate(self, origin: Origin, size: int) -> None:
        """A file has `size` pages from now on: what it loses is lost, copies included."""
        origin.size = size
        for at in [at for at in origin.tags if at >= size]:
            del origin.tags[at]
        for area in self.areas:
            if area.origin is origin:
                self.take(max(area.start + size - area.offset, area.start), area.end)

    def agrees(self, contents: Mapping[int, int] | None, mapped: list[Span] | None) -> bool:
        """True if the implementation holds this, as far as that is known (None: it is not)."""
        if contents is not None:
            pages = self.settled(contents) if self.doubtful or self.unsure else self.pages
            if pages != contents:
                return False
        return mapped is None or self.mapped() == mapped


def put(tags: dict[int, int], key: int, tag: int) -> None:
    """Set a tag; 0 removes it."""
    if tag:
        tags[key] = tag
    else:
        tags.pop(key, None)


def minus(span: Span, taken: Iterable[Span]) -> list[Span]:
    """What is left of a range without others, which are disjoint and in order."""
    lo, hi = span
    left = []
    for start, end in taken:
        if start >= hi or lo >= hi:
            break
        if lo < start:
            left.append((lo, start))
        if end > lo:
            lo = end
    if lo < hi:
        left.append((lo, hi))
    return left


def joined(spans: Iterable[Span]) -> list[Span]:
    """Ranges in order, those that touch each other made one."""
    joined: list[Span] = []
    first = last = 0  # of the range at hand
    for start, end in spans:
        if start == last and first < last:
            last = end
        elif start < end:
            if first < last:
                joined.append((first, last))
            first, last = start, end
    if first < last:
        joined.append((first, last))
    return joined
