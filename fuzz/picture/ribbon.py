"""A part of the address space at one moment, drawn row below row.

What the call names, addresses, VMAs, what each PMD entry holds, pages, and below them strips of
what matters beside that: bits of entries, TLBs.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from engine.base.address import Range, round_down
from engine.base.geometry import PMD, PTE
from engine.base.points import ENTER, PUD_MOVED
from engine.state import terms
from fuzz.picture import svg
from fuzz.picture.addresses import labels
from fuzz.picture.lost import Lost
from fuzz.picture.moments import MOVERS, Film, Moment
from fuzz.picture.paper import PAD
from fuzz.picture.scene import OLD, Ribbon, Scene, Span
from fuzz.picture.seen import GUARD, MIGRATING, STRIPS, SWAPPED, WP_MARK, ZERO, Run, clipped
from fuzz.picture.svg import Element
from fuzz.picture.words import through
from fuzz.tell import signs
from fuzz.tell.details import DETAILS, Kept

_SPAN, _ADDRESSES, _VMA, _TABLE, _PAGES, _STRIP, _TLB = 16.0, 16.0, 18.0, 22.0, 25.0, 14.0, 20.0
_GAP = 5.0
_MOST_PUDS = 16
_TO_SLOT = "realigned to the slot boundary"
_MARKED = {ZERO: ("zero page", "zero"), GUARD: ("guard", "G"), WP_MARK: ("wp mark", "wp")}
_BEHIND = (signs.FAULTED, signs.UNFAULTED)
# Rules that tell VMAs apart by what is behind them.
_OF_VMAS = frozenset(
    rule for detail in DETAILS if detail.title == signs.FLAGS for rule in detail.rules
)


class Rows:
    """Where the rows of a ribbon are, from `top` on; the same at all moments of a film."""

    def __init__(self, scene: Scene, ribbon: Ribbon, top: float) -> None:
        self.film, self.ribbon, self.top = scene.film, ribbon, top
        self.lines = 1 + max(
            (one.line for m in self.film.moments for one in labels(scene, ribbon, m)), default=0
        )
        self.spans = top
        self.addresses = top + _SPAN * len(ribbon.spans)
        self.vmas = self.addresses + _ADDRESSES * self.lines
        self.puds = self.vmas + _VMA + _GAP
        self.upper = _moves_puds(self.film, ribbon)
        self.tables = self.puds + (_TABLE + _GAP) * self.upper
        self.pages = self.tables + _TABLE + _GAP
        self.strips = self.pages + _PAGES + _GAP
        self.tlbs = self.strips + _STRIP * len(self.titles)
        self.bottom = self.tlbs + _TLB * len(self.cpus)

    @property
    def below(self) -> float:
        """The lower edge of the pages."""
        return self.pages + _PAGES

    @cached_property
    def titles(self) -> list[signs.Sign]:
        """The strips that it needs at some moment."""
        return [
            title
            for title in STRIPS
            if any(
                row.where and row.where.overlaps(self.ribbon.window)
                for moment in self.film.moments
                for row in moment.seen.rows.get(title, ())
            )
        ]

    @cached_property
    def cpus(self) -> list[int]:
        """The CPUs that keep something of it at some moment."""
        window = self.ribbon.window
        kept = (one for moment in self.film.moments for one in moment.seen.tlbs)
        return sorted({one.cpu for one in kept if one.where.overlaps(window)})


def _moves_puds(film: Film, ribbon: Ribbon) -> bool:
    """Are PMD tables moved whole, and few enough to be drawn?"""
    entries = ribbon.window.length // film.kernel.geometry.pud_bytes
    moved = any(one.bite and one.bite.mover == MOVERS[PUD_MOVED] for one in film.moments)
    return moved and entries <= _MOST_PUDS


class RibbonDrawing:
    """Draws a ribbon at a moment into a group.

    `used` are the signs that were drawn, which a legend has to explain.
    """

    def __init__(
        self, scene: Scene, lost: Lost, index: int, rows: Rows, group: Element, used: set[str]
    ) -> None:
        self.scene, self.lost, self.rows, self.ribbon = scene, lost, rows, rows.ribbon
        self.moment: Moment = scene.film.moments[index]
        self.index, self.group, self.used = index, group, used
        self._said: list[tuple[float, float, float]] = []  # in which line, from where to where

    def draw(self) -> None:
        """Draw it."""
        self._grid()
        self._label(self.rows.vmas + 13, "VMAs")
        if self.rows.upper:
            self._label(self.rows.puds + 15, "PMD tables")
            for where in self._puds():
                self._entry(where, self.rows.puds, PMD, 1)
        self._label(self.rows.tables + 15, "PTE tables")
        self._label(self.rows.pages + 17, "pages")
        self._spans()
        self._addresses()
        self._vmas()
        for where, many in self.scene.slots(self.ribbon):
            self._entry(where, self.rows.tables, PTE, many)
        self._baseline()
        self._ghosts()
        self._pages()
        self._lost()
        self._ring()
        self._strips()
        self._tlbs()

    def ends(self, where: Range) -> tuple[float, float]:
        """Where a range begins and ends on paper."""
        window = self.ribbon.window
        inside = Range(max(where.start, window.start), min(where.end, window.end))
        return self.scene.x(self.ribbon, inside.start), self.scene.x(self.ribbon, inside.end)

    def _label(self, y: float, words: str, css: str = "small soft") -> None:
        """What a row is, to its left."""
        svg.text(self.group, PAD, y, words, css)

    def _grid(self) -> None:
        """The boundaries of slots and, heavier, of PUD entries."""
        geometry = self.scene.geometry
        for edge in dict.fromkeys(e for where, _ in self.scene.slots(self.ribbon) for e in where):
            x = self.scene.x(self.ribbon, edge)
            heavy = geometry.pud_bytes > geometry.slot_bytes and not edge % geometry.pud_bytes
            ends = ((x, self.rows.vmas - 3), (x, self.rows.below + 3))
            svg.line(self.group, ends, "pud" if heavy else "slot")
            if heavy:
                self.used.add("pud")

    def _spans(self) -> None:
        """Brackets around what the call names, and what it takes beside that."""
        y = self.rows.spans + 9
        kinds = [moment.kind for moment in self.scene.film.moments[: self.index + 1]]
        begun = ENTER in kinds
        for span in self.ribbon.spans:
            self._label(y + 4, span.name, "strong")
            for where, css, words in (
                (span.where, "asked", terms.size(span.where.length)),
                (span.lowered if begun else None, "lowered", self._realigned(span)),
            ):
                if where is None:
                    continue
                left, right = self.ends(where)
                left, right, middle = left + 1, right - 1, (left + right) / 2
                longer = words.replace("realigned", _TO_SLOT)
                if svg.width_of(longer, 12) < right - left - 20:
                    words = longer
                half = svg.width_of(words, 12) / 2 + 5
                if middle - half < left + 4:
                    half = 0
                svg.line(self.group, ((left, y + 5), (left, y), (middle - half, y)), css)
                svg.line(self.group, ((middle + half, y), (right, y), (right, y + 5)), css)
                if half:
                    svg.text(self.group, middle, y + 4, words, "small", "middle")
            y += _SPAN

    def _realigned(self, span: Span) -> str:
        """What to say of the range that is taken beside the requested one."""
        before, lowered = self.scene.first.seen.mappings, span.lowered
        if lowered is None or not any(one.where.overlaps(lowered) for one in before):
            return "realigned: taken as well"
        return "realigned, " + ("not asked for" if span.name == OLD else "onto another VMA")

    def _addresses(self) -> None:
        """Labels where there is room; words are written over the lines of others."""
        bottom = self.rows.addresses + _ADDRESSES * self.rows.lines
        placed = [
            (one, bottom - 5 - _ADDRESSES * one.line)
            for one in labels(self.scene, self.ribbon, self.moment)
        ]
        for one, y in placed:
            svg.line(self.group, ((one.at, y + 1.5), (one.at, self.rows.vmas)), "tick")
        for one, y in placed:
            svg.address(self.group, one.x, y, one.words, "label", "middle")

    def _vmas(self) -> None:
        """Bars above the slots."""
        y = self.rows.vmas
        about_vmas = self.scene.film.rule is not None and self.scene.film.rule.slug in _OF_VMAS
        for mapping in self.moment.seen.mappings:
            if not mapping.where.overlaps(self.ribbon.window):
                continue
            left, right = self.ends(mapping.where)
            svg.rect(self.group, left + 1, y + 1, right - left - 2, _VMA - 2, "vma", 4)
            told = [n for n in mapping.notes if about_vmas or n not in _BEHIND]
            for words in (" ".join([mapping.protection, *told]), mapping.protection):
                if svg.width_of(words, 12) <= right - left - 6:
                    middle = (left + right) / 2
                    svg.text(self.group, middle, y + 13, words, "small", "middle")
                    break

    def _puds(self) -> Iterator[Range]:
        """What each PUD entry of the ribbon covers."""
        span = self.scene.geometry.pud_bytes
        at, end = round_down(self.ribbon.window.start, span), self.ribbon.window.end
        while at < end:
            yield Range(at, at + span)
            at += span

    def _entry(self, where: Range, y: float, level: int, many: int) -> None:
        """What the entry for a range holds, or `many` of them: tables of a level, huge pages."""
        seen, (left, right) = self.moment.seen, self.ends(where)
        left, wide = left + 2, right - left - 4
        tables = [
            entries
            for (its, base), entries in seen.tables.items()
            if its == level and where.start <= base < where.end
        ]
        huge = sum(
            isinstance(held, int) and level == PTE
            for base, held in seen.leaves.items()
            if where.start <= base < where.end
        )
        empty = tables.count(0)
        times = f"{many} × " if many > 1 else ""
        css, label = "table", "small"
        if not tables and not huge:
            css, label = "none", "small soft"
            words = [f"{times}no table", "none"]
        elif empty == many:
            css, label = "emptied", "small strong label"
            words = [f"{times}empty table, still linked", "empty, linked", "empty"]
            self.used.add("emptied")
        elif many > 1:
            counts = ((len(tables), "table"), (huge, "huge page"))
            told = [terms.count(number, what) for number, what in counts if number]
            told += [f"{empty} of them empty"] * bool(empty)
            words = [", ".join(told), told[0], f"{len(tables) + huge}"]
        elif huge:
            words = ["huge page", "huge"]
        else:
            entries = terms.count(tables[0], "entry")
            words = [f"table, {entries}", entries, f"{tables[0]}"]
        svg.rect(self.group, left, y, wide, _TABLE, css, 2)
        if css == "emptied":
            svg.path(self.group, svg.hatch(left, y, wide, _TABLE), "hatch")
        if huge == many:
            svg.rect(self.group, left + 3, y + 3, wide - 6, _TABLE - 6, "inner", 2)
        self._fitting(words, left + wide / 2, y + 15.5, wide - 4, label)

    def _fitting(
        self, choices: Sequence[str], x: float, y: float, room: float, css: str, size: float = 12
    ) -> None:
        """The first of some texts that fits, or none."""
        for words in choices:
            if words and svg.width_of(words, size) <= room:
                svg.text(self.group, x, y, words, css, "middle")
                return

    def _baseline(self) -> None:
        """A line below the pages, broken where more is left out than can be seen."""
        y, base, window = self.rows.below, self.ribbon.base, self.ribbon.window
        left, right = self.ends(window)
        svg.line(self.group, ((left, y), (right, y)), "slot")
        for piece in self.scene.axis.between(window.start - base, window.end - base):
            if not piece.broken or piece.width < 40:
                continue
            x = (piece.left + piece.right) / 2
            svg.line(self.group, ((x - 3, y), (x + 3, y)), "erase")
            svg.line(self.group, ((x - 5, y + 5), (x - 1, y - 5)), "cut")
            svg.line(self.group, ((x + 1, y + 5), (x + 5, y - 5)), "cut")
            self.used.add("break")

    def _ghosts(self) -> None:
        """Where the pages of the bite have been."""
        bite = self.moment.bite
        if bite is None or bite.refused or not bite.source.overlaps(self.ribbon.window):
            return
        before = self.scene.film.moments[self.index - 1]
        for run in self.scene.runs(before, self.ribbon):
            gone = any(one.where.overlaps(run.where) for one in self.lost.missing(self.index))
            if run.where.overlaps(bite.source) and not gone:
                left, right = self.ends(clipped(self.scene.geometry, run, bite.source).where)
                y = self.rows.pages
                svg.rect(self.group, left + 1, y + 1, right - left - 2, _PAGES - 2, "ghost", 2)
                (was, *_) = self._contents(run)
                told = (f"{was} was here", f"was {was}", f"({was})", f"({run.tag})")
                self._fitting(told, (left + right) / 2, y + 17, right - left - 2, "small soft")
                self.used.add("ghost")

    def _pages(self) -> None:
        """What is there; where too much is for the piece of paper, how much it is."""
        base, window, geometry = self.ribbon.base, self.ribbon.window, self.scene.geometry
        runs = self.scene.runs(self.moment, self.ribbon)
        edges = sorted({edge - base for run in runs for edge in run.where})
        crowded = []
        for piece in self.scene.axis.between(window.start - base, window.end - base):
            at = bisect_right(edges, piece.start)
            if at < len(edges) and edges[at] < piece.end:
                crowded.append(Range(piece.start + base, piece.end + base))
        for where in crowded:
            inside = [clipped(geometry, r, where) for r in runs if r.where.overlaps(where)]
            self._crowd(where, sum(run.where.length for run in inside) // geometry.page_bytes)
        for run in runs:
            at, end = run.where
            for where in crowded:
                if where.overlaps(Range(at, end)):
                    if at < where.start:
                        self._run(clipped(geometry, run, Range(at, where.start)))
                    at = where.end
            if at < end:
                self._run(clipped(geometry, run, Range(at, end)))

    def _crowd(self, where: Range, pages: int) -> None:
        """More than there is room for."""
        left, right = self.ends(where)
        y, wide = self.rows.pages, right - left
        svg.rect(self.group, left + 1, y, wide - 2, _PAGES, "plain", 2)
        svg.path(self.group, svg.hatch(left + 1, y, wide - 2, _PAGES, 4), "hatch")
        told = (terms.count(pages, "page"), f"{pages}")
        self._fitting(told, left + wide / 2, y + 17, wide - 2, "small label")
        self.used.add("crowd")

    def _run(self, run: Run) -> None:
        """Pages that are alike."""
        left, right = self.ends(run.where)
        y, wide = self.rows.pages, right - left
        css = f"page c{self.scene.colour(run.tag)}" if run.tag else "plain"
        if run.kind in (SWAPPED, MIGRATING):
            css += " away"
            self.used.add(run.kind)
        svg.rect(self.group, left + 0.5, y, wide - 1, _PAGES, css, 2)
        self._fitting(self._contents(run), (left + right) / 2, y + 17, wide - 2, "", 13)
        self.used.add("content" if run.tag else "zeroes")

    def _contents(self, run: Run) -> tuple[str, ...]:
        """What pages hold, in words that are shorter and shorter."""
        pages = run.where.length >> self.scene.geometry.page_shift
        if not run.tag:
            return _MARKED.get(run.kind, ("0",))
        several = run.step and pages > 1
        words = f"{run.tag}–{run.tag + pages - 1}" if several else f"{run.tag}"
        short = f"{run.tag}…" if several else words
        if run.kind in (SWAPPED, MIGRATING):
            what = "in swap" if run.kind == SWAPPED else "migrates"
            return f"{words} {what}", words, short
        return words, short

    def _badge(self, x: float, y: float) -> None:
        """The mark of what is wrong."""
        svg.badge(self.group, x, y, 8, self.scene.film.severity)

    def _lost(self) -> None:
        """Pages that should be here, and pages that nothing maps any more."""
        y = self.rows.pages
        for run in self.lost.missing(self.index):
            if not run.where.overlaps(self.ribbon.window):
                continue
            left, right = self.ends(run.where)
            middle, wide = (left + right) / 2, right - left
            svg.rect(self.group, left + 1, y + 1, wide - 2, _PAGES - 2, "missing", 2)
            svg.path(self.group, svg.hatch(left + 1, y + 1, wide - 2, _PAGES - 2), "hatch bad")
            (words, *_) = self._contents(run)
            rest = "belongs here" if self.lost.elsewhere(self.index, run) else "is lost"
            if self.index == len(self.scene.film.moments) - 1 and self.lost.zeroes(self.index, run):
                rest = self._that_fits(
                    right, f"{rest}: reads as zeroes", f"{rest}: reads as 0", rest
                )
            if svg.width_of(f"{words} {rest}", 14.5) <= wide - 20:
                words = f"{words} {rest}"
            else:
                self._beside(left - 10, right, y + 17, rest, "bad strong label", 14.5)
            svg.text(self.group, middle, y + 17, words, "bad strong label", "middle")
            self._badge(left, y + _PAGES)
            self.used.add("missing")
        for where in self.lost.stray(self.index, self.ribbon):
            left, right = self.ends(where)
            svg.rect(self.group, left - 2, y - 3, right - left + 4, _PAGES + 6, "ring", 4)
            self._badge(left, y + _PAGES)
            self._beside(left - 8, right, y + 17, "no VMA is here", "bad strong label", 14.5)

    def _that_fits(self, right: float, *choices: str) -> str:
        """The first of some words that has room beside a page, before the next one; or the last."""
        runs = self.scene.runs(self.moment, self.ribbon)
        edges = [x for one in runs if (x := self.ends(one.where)[0]) >= right]
        room = min(edges, default=self.scene.paper.right) - right - 8
        return next((one for one in choices if svg.width_of(one, 14.5) < room), choices[-1])

    def _ring(self) -> None:
        """Where the rule is broken, if nothing else shows that."""
        film = self.scene.film
        violation = film.violation
        if violation is None or self.index != film.failing or self.lost.shows(self.index):
            return
        where = violation.where
        if where == self.scene.geometry.arena or not where.overlaps(self.ribbon.window):
            return
        if any(one.stale and one.where.overlaps(where) for one in self.moment.seen.tlbs):
            return
        left, right = self.ends(where)
        top, bottom = self.rows.tables - 4, self.rows.below
        if film.rule is not None and film.rule.id.startswith("V"):  # it is about VMAs
            top, bottom = self.rows.vmas - 3, self.rows.vmas + _VMA - 1
        elif self.moment.bite is not None and self.moment.bite.refused:
            bottom = self.rows.tables + _TABLE
        svg.rect(self.group, left - 3, top, right - left + 6, bottom + 4 - top, "ring", 5)

    def _strips(self) -> None:
        """Bits of entries, and pages that are locked."""
        y = self.rows.strips
        for title in self.rows.titles:
            self._label(y + 10, title)
            left, right = self.ends(self.ribbon.window)
            svg.line(self.group, ((left, y + 7), (right, y + 7)), "none")
            for row in self.moment.seen.rows.get(title, ()):
                if row.where and row.where.overlaps(self.ribbon.window):
                    left, right = self.ends(row.where)
                    svg.rect(self.group, left + 1, y + 3, right - left - 2, 8, "strip", 2)
            y += _STRIP

    def _tlbs(self) -> None:
        """What other CPUs keep of the ribbon, and where it leads."""
        y = self.rows.tlbs
        for cpu in self.rows.cpus:
            self._label(y + 14, f"TLB of CPU {cpu}")
            left, right = self.ends(self.ribbon.window)
            svg.line(self.group, ((left, y + 18), (right, y + 18)), "slot")
            kept = sorted(self._kept(self.moment, cpu), key=lambda one: not one.stale)
            for one in kept:
                self._translation(one, y)
            there = {one.where for one in kept}
            earlier = self.scene.film.moments[: self.index]
            gone = {one.where for moment in earlier for one in self._kept(moment, cpu)} - there
            for where in sorted(gone):
                self._flushed(where, y)
            y += _TLB

    def _kept(self, moment: Moment, cpu: int) -> Iterator[Kept]:
        for one in moment.seen.tlbs:
            if one.cpu == cpu and one.where.overlaps(self.ribbon.window):
                yield one

    def _flushed(self, where: Range, y: float) -> None:
        """Where a TLB kept something that is flushed by now."""
        left, right = self.ends(where)
        right = max(right, left + 14)
        svg.rect(self.group, left + 1, y + 2, right - left - 2, _TLB - 5, "ghost", 2)
        if svg.width_of("flushed", 12) <= right - left - 4:
            svg.text(self.group, (left + right) / 2, y + 14, "flushed", "small", "middle")
        else:
            self._beside(left, right, y + 14, "flushed", "small soft", 12)

    def _translation(self, one: Kept, y: float) -> None:
        """What a TLB keeps of a page."""
        left, right = self.ends(one.where)
        wide = max(right - left, 14)
        failing = self.scene.film.failing
        wrong = failing is not None and self.index >= failing
        css = "stale" if one.stale else "kept"
        self.used.add(css)
        if one.stale and not wrong:
            css = "stale due"
        if one.tag:
            css += f" c{self.scene.colour(one.tag)}"
        svg.rect(self.group, left + 1, y + 2, wide - 2, _TLB - 5, css, 2)
        what = f"→ {one.tag}" if one.tag else "→ 0"
        self._fitting((what, what[2:]), left + wide / 2, y + 14, wide, "small")
        does, right = through(self.scene.geometry, one), left + wide
        if one.stale and wrong:
            words = f"stale: CPU {one.cpu} still {does}"
            end = self._reach(one, (left, right), y + 10)
            self._beside(left, max(right + 8, end), y + 14, words, "small bad strong label", 13.2)
            self._badge(right + 3, y + 10)
        elif one.stale:
            words = "stale: to be flushed before the locks are dropped"
            self._beside(left, right, y + 14, words, "small strong label", 13.2)
        else:
            self._beside(left, right, y + 14, f"CPU {one.cpu} {does}", "small soft", 12)

    def reach(self, others: Iterable[Rows]) -> None:
        """Arrows from stale translations to their pages on other ribbons, which are drawn."""
        failing = self.scene.film.failing
        if failing is None or self.index < failing:
            return
        for one in self.moment.seen.tlbs:
            if not one.stale or not one.where.overlaps(self.ribbon.window):
                continue
            left, right = self.ends(one.where)
            y = self.rows.tlbs + _TLB * self.rows.cpus.index(one.cpu)
            for rows in others:
                if (x := self._page(one.tag, rows.ribbon)) is None:
                    continue
                below = rows.top > self.rows.top
                start, end = (y + _TLB - 3, rows.pages) if below else (y + 2, rows.below)
                away = -9 if below else 9
                wide = max(right - left, 14)
                x -= wide / 4  # beside the words in the middle of bars
                ends = ((left + wide / 4, start), (x, end + away))
                svg.line(self.group, ends, "bite bad through")
                tip = ((x, end), (x - 6, end + away), (x + 6, end + away))
                svg.line(self.group, tip, "tip bad")

    def _reach(self, one: Kept, cell: tuple[float, float], y: float) -> float:
        """An arrow from a translation to the page, if that is on this ribbon.

        Returns: where what is to the right of it may begin.
        """
        x, end = self._page(one.tag, self.ribbon), self.rows.below + 1
        if x is None:
            return 0.0
        if cell[0] <= x <= cell[1]:
            x = cell[0] + 12  # beside what is written in the cell
        begin = cell[1] if x > cell[1] else cell[0] if x < cell[0] else x
        svg.line(self.group, ((begin, y), (x, y), (x, end + 8)), "bite bad through")
        svg.line(self.group, ((x, end), (x - 6, end + 9), (x + 6, end + 9)), "tip bad")
        return x + 8

    def _page(self, tag: int, ribbon: Ribbon) -> float | None:
        """The middle of the first page on a ribbon that holds that, if one does."""
        page = self.scene.geometry.page_bytes
        for run in self.scene.runs(self.moment, ribbon) if tag else ():
            pages, ahead = run.where.length // page, tag - run.tag
            if run.tag and (0 <= ahead < pages if run.step else not ahead):
                start = run.where.start + ahead * page
                ends = (self.scene.x(ribbon, at) for at in (start, start + page))
                return sum(ends) / 2
        return None

    def _beside(
        self, left: float, right: float, y: float, words: str, css: str, size: float
    ) -> None:
        """Words to the right of something, or to its left, or nowhere if others are there."""
        paper, wide = self.scene.paper, svg.width_of(words, size)
        for start, end, anchor in (
            (right + 6, right + 6 + wide, "start"),
            (left - 6 - wide, left - 6, "end"),
        ):
            free = all(y != its or end < low or high < start for its, low, high in self._said)
            if start >= paper.left - 6 and end <= paper.width - PAD and free:
                self._said.append((y, start, end))
                svg.text(self.group, start if anchor == "start" else end, y, words, css, anchor)
                return
