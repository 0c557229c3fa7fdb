"""One moment of a picture, drawn."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.base.address import Range
from engine.base.geometry import PTE
from engine.base.violation import Violation
from engine.state import terms
from fuzz.picture import svg
from fuzz.picture.moments import Bite, Moment
from fuzz.picture.scene import Ribbon, Scene
from fuzz.picture.seen import (
    GUARD,
    MIGRATING,
    STRIPS,
    SWAPPED,
    WP_MARK,
    ZERO,
    Run,
    clipped,
)
from fuzz.picture.svg import Element
from fuzz.picture.words import caption, locks
from fuzz.tell import signs

WIDTH = 800.0
LEFT, RIGHT = 104.0, WIDTH - 18  # of the axis
PAD = 12.0
_HEAD = 30.0
_ADDRESSES, _VMA, _TABLE, _PAGES, _STRIP, _TLB, _GAP = 17.0, 18.0, 22.0, 24.0, 14.0, 19.0, 4.0
_BETWEEN = 58.0  # for arrows
_MARKED = {ZERO: "zero", GUARD: "guard", WP_MARK: "wp mark", MIGRATING: "migrates"}


class Rows(NamedTuple):
    """Where the rows of a ribbon are."""

    top: float
    vma: float
    table: float
    pages: float
    bottom: float


class Panel:
    """Draws a moment into a group, from `top` on; `height` is what it took.

    `used` are the signs that it drew, which a legend has to explain.
    """

    def __init__(self, scene: Scene, index: int, number: int) -> None:
        self.scene, self.film, self.index, self.number = scene, scene.film, index, number
        self.moment: Moment = scene.film.moments[index]
        self.used: set[str] = set()
        self.height = 0.0
        self.is_failing = index == scene.film.failing

    def draw(self, parent: Element, top: float) -> None:
        """Draw it."""
        group = svg.group(parent)
        frame = svg.rect(group, PAD / 2, top, WIDTH - PAD, 10, "panel", 6)
        if self.is_failing:
            frame.set("class", "panel failing")
        y = self._heading(group, top)
        places: list[Rows] = []
        for number, ribbon in enumerate(self.scene.ribbons):
            if number:
                y += _BETWEEN if self.scene.moving and number == 1 else 12
            rows = self._rows(ribbon, y)
            places.append(rows)
            y = rows.bottom
        self._grid(group, places)
        for ribbon, rows in zip(self.scene.ribbons, places, strict=True):
            self._ribbon(group, ribbon, rows)
        if self.scene.moving:
            self._bites(group, places[0], places[1])
        y = self._counters(group, y)
        self.height = y + 8 - top
        frame.set("height", svg.number(self.height))

    # --- Heading ----------------------------------------------------------------------------------

    def _heading(self, group: Element, top: float) -> float:
        """What happens, the locks, and what is wrong."""
        y = top + 20
        svg.text(group, PAD + 6, y, f"{self.number}", "head soft")
        words = caption(self.film, self.index)
        svg.text(group, PAD + 26, y, words, "head bad" if self.is_failing else "head")
        if held := locks(self.moment):
            told = f"locks: {held}"
            taken = PAD + 26 + svg.width_of(words, 15.5)
            if taken + svg.width_of(told, 12) < WIDTH - PAD - 8:
                svg.text(group, WIDTH - PAD - 6, y, told, "small soft", "end")
        y = top + _HEAD
        violation = self.film.violation
        if self.is_failing and violation is not None:
            self._cross(group, PAD + 10, y + 6, 8)
            for label, words in (("found", violation.found), ("expected", violation.expected)):
                for line in svg.wrapped(svg.clean(words), WIDTH - 130, 13):
                    svg.text(group, PAD + 26, y + 10, label, "small bad strong")
                    svg.text(group, PAD + 86, y + 10, line, "small")
                    label, y = "", y + 17
            y += 6
        return y

    def _counters(self, group: Element, y: float) -> float:
        """What is counted, if the rule is about that, and flags."""
        for title in (signs.COUNTERS, signs.FLAGS):
            before = {row.text for row in self.film.moments[0].seen.rows.get(title, ())}
            for row in self.moment.seen.rows.get(title, ()):
                y += 17
                where = f"{terms.span(self.scene.geometry, row.where)} " if row.where else ""
                changed = row.text not in before
                mark = "changed: " if changed and self.index else ""
                svg.text(
                    group, LEFT, y, f"{mark}{where}{row.text}", "small strong" if mark else "small"
                )
                svg.text(group, PAD + 6, y, title, "small soft")
        return y

    # --- Rows -------------------------------------------------------------------------------------

    def _rows(self, ribbon: Ribbon, top: float) -> Rows:
        """Where its rows go."""
        vma = top + _ADDRESSES
        table = vma + _VMA + _GAP
        pages = table + _TABLE + _GAP
        bottom = pages + _PAGES + _GAP
        bottom += _STRIP * len(self._strips(ribbon)) + _TLB * len(self._tlbs(ribbon))
        return Rows(top, vma, table, pages, bottom)

    def _strips(self, ribbon: Ribbon) -> list[tuple[str, list[Range]]]:
        """The strips that a ribbon needs in some moment, and where they are filled now."""
        needed = [
            title
            for title in STRIPS
            if any(
                row.where and row.where.overlaps(ribbon.window)
                for moment in self.film.moments
                for row in moment.seen.rows.get(title, ())
            )
        ]
        rows = self.moment.seen.rows
        return [
            (t, [r.where for r in rows.get(t, ()) if r.where and r.where.overlaps(ribbon.window)])
            for t in needed
        ]

    def _tlbs(self, ribbon: Ribbon) -> list[str]:
        """The CPUs whose TLBs hold something of a ribbon in some moment."""
        return sorted(
            {
                row.label.strip()
                for moment in self.film.moments
                for row in moment.seen.rows.get(signs.TLBS, ())
                if row.where and row.where.overlaps(ribbon.window)
            }
        )

    def _grid(self, group: Element, places: Sequence[Rows]) -> None:
        """The boundaries of slots and, heavier, of PUD entries."""
        geometry = self.scene.geometry
        for ribbon, rows in zip(self.scene.ribbons, places, strict=True):
            for where, _ in self.scene.slots(ribbon):
                for edge in where:
                    x = self.scene.x(ribbon, edge)
                    heavy = (
                        geometry.pud_bytes > geometry.slot_bytes and not edge % geometry.pud_bytes
                    )
                    svg.line(
                        group,
                        ((x, rows.vma - 4), (x, rows.pages + _PAGES + 3)),
                        "pud" if heavy else "slot",
                    )
                    self.used.add("pud" if heavy else "slot")

    def _ribbon(self, group: Element, ribbon: Ribbon, rows: Rows) -> None:
        """All rows of a ribbon."""
        svg.text(group, PAD + 6, rows.top + 12, ribbon.name, "strong")
        svg.text(group, PAD + 6, rows.vma + 13, "VMAs", "small soft")
        svg.text(group, PAD + 6, rows.table + 15, "PTE tables", "small soft")
        svg.text(group, PAD + 6, rows.pages + 16, "pages", "small soft")
        self._addresses(group, ribbon, rows)
        self._vmas(group, ribbon, rows)
        self._tables(group, ribbon, rows)
        self._ghosts(group, ribbon, rows)
        for run in self.scene.runs(self.moment, ribbon):
            self._run(group, ribbon, rows, run)
        self._breaks(group, ribbon, rows)
        y = rows.pages + _PAGES + _GAP
        for title, wheres in self._strips(ribbon):
            svg.text(group, PAD + 6, y + 10, title, "small soft")
            svg.line(group, ((LEFT, y + 10), (self.scene.axis.right, y + 10)), "none")
            for where in wheres:
                left, right = self._ends(ribbon, where)
                svg.rect(group, left, y + 3, right - left, 7, "strip", 2)
            y += _STRIP
        for cpu in self._tlbs(ribbon):
            self._tlb(group, ribbon, y, cpu)
            y += _TLB
        if (violation := self._here()) and violation.where.overlaps(ribbon.window):
            left, right = self._ends(ribbon, violation.where)
            svg.rect(
                group,
                left - 4,
                rows.table - 4,
                right - left + 8,
                rows.pages + _PAGES - rows.table + 8,
                "ring",
                5,
            )
            self.used.add("ring")

    def _here(self) -> Violation | None:
        """What is wrong, if it is at this moment, and somewhere."""
        violation = self.film.violation
        if violation is None or self.film.failing is None or self.index < self.film.failing:
            return None
        return None if violation.where == self.scene.geometry.arena else violation

    def _ends(self, ribbon: Ribbon, where: Range) -> tuple[float, float]:
        """Where a range begins and ends on paper."""
        inside = Range(max(where.start, ribbon.window.start), min(where.end, ribbon.window.end))
        return self.scene.x(ribbon, inside.start), self.scene.x(ribbon, inside.end)

    def _addresses(self, group: Element, ribbon: Ribbon, rows: Rows) -> None:
        """Labels where there is room, those of what the call names first; and what it names."""
        geometry = self.scene.geometry
        taken: list[tuple[float, float]] = []
        named = [edge for one in (ribbon.asked, ribbon.lowered) if one for edge in one]
        slots = [edge for where, _ in self.scene.slots(ribbon) for edge in where]
        bitten = [*self.moment.bite.source, *self.moment.bite.target] if self.moment.bite else []
        mapped = [edge for one in self.moment.seen.mappings for edge in one.where]
        for addr in dict.fromkeys([*named, *slots, *bitten, *mapped]):
            if not ribbon.window.start <= addr <= ribbon.window.end:
                continue
            words = terms.address(geometry, addr)
            wide = svg.width_of(words, 11.5, mono=True) + 10
            x = min(max(self.scene.x(ribbon, addr), LEFT - 10 + wide / 2), WIDTH - 10 - wide / 2)
            if any(abs(x - other) < (wide + its) / 2 for other, its in taken):
                continue
            taken.append((x, wide))
            svg.address(group, x, rows.top + 10, words, "", "middle")
        for css, where in (("lowered", ribbon.lowered), ("asked", ribbon.asked)):
            if where is not None:
                left, right = self._ends(ribbon, where)
                y = rows.vma - 2
                svg.line(group, ((left, y + 4), (left, y), (right, y), (right, y + 4)), css)
                self.used.add(css)

    def _vmas(self, group: Element, ribbon: Ribbon, rows: Rows) -> None:
        """Bars above the slots."""
        for mapping in self.moment.seen.mappings:
            if not mapping.where.overlaps(ribbon.window):
                continue
            left, right = self._ends(ribbon, mapping.where)
            svg.rect(group, left + 1, rows.vma + 1, right - left - 2, _VMA - 2, "vma", 4)
            words = mapping.text
            if svg.width_of(words, 12) > right - left - 8:
                words = words.split()[0]
            if svg.width_of(words, 12) <= right - left - 4:
                svg.text(group, (left + right) / 2, rows.vma + 13, words, "small", "middle")

    def _tables(self, group: Element, ribbon: Ribbon, rows: Rows) -> None:
        """What each PMD entry of the slots holds."""
        seen, y = self.moment.seen, rows.table
        for where, many in self.scene.slots(ribbon):
            left, right = self._ends(ribbon, where)
            left, right = left + 2, right - 2
            wide = right - left
            count = seen.tables.get((PTE, where.start))
            huge = isinstance(seen.leaves.get(where.start), int)
            times = f"{many} × " if many > 1 else ""
            if count is None and not huge:
                svg.rect(group, left, y, wide, _TABLE, "none", 2)
                words = f"{times}no table" if wide > 60 else ""
                svg.text(group, (left + right) / 2, y + 15, words, "small soft", "middle")
            elif huge:
                svg.rect(group, left, y, wide, _TABLE, "table", 2)
                svg.rect(group, left + 3, y + 3, wide - 6, _TABLE - 6, "none", 2)
                svg.text(group, (left + right) / 2, y + 15, f"{times}huge page", "small", "middle")
            elif count:
                svg.rect(group, left, y, wide, _TABLE, "table", 2)
                words = (
                    f"{times}{terms.count(count, 'entry')}"
                    if many > 1
                    else (f"table, {terms.count(count, 'entry')}")
                )
                if svg.width_of(words, 12) > wide:
                    words = str(count)
                svg.text(group, (left + right) / 2, y + 15, words, "small", "middle")
            else:
                svg.rect(group, left, y, wide, _TABLE, "emptied", 2)
                svg.path(group, svg.hatch(left, y, wide, _TABLE), "hatch")
                words = f"{times}emptied, still linked"
                for shorter in (words, "emptied", "0"):
                    if svg.width_of(shorter, 12) <= wide - 4:
                        svg.text(
                            group,
                            (left + right) / 2,
                            y + 15,
                            shorter,
                            "small strong label",
                            "middle",
                        )
                        break
                self.used.add("emptied")

    def _run(self, group: Element, ribbon: Ribbon, rows: Rows, run: Run) -> None:
        """Pages that are alike."""
        left, right = self._ends(ribbon, run.where)
        y, wide = rows.pages, right - left
        pages = run.where.length >> self.scene.geometry.page_shift
        css = f"page c{self.scene.colour(run.tag)}" if run.tag else "plain"
        box = svg.rect(group, left + 0.5, y, wide - 1, _PAGES, css, 2)
        words = f"{run.tag}"
        if run.tag and pages > 1 and run.step:
            words = f"{run.tag}–{run.tag + pages - 1}"
        if not run.tag:
            words = _MARKED.get(run.kind, "0")
        if run.kind in (SWAPPED, MIGRATING):
            box.set("class", f"{css} away")
            words = f"{words} {_MARKED.get(run.kind, 'swapped')}"
        for shorter in (words, words.partition("–")[0], words.split()[0]):
            if svg.width_of(shorter, 13) <= wide - 2:
                svg.text(group, (left + right) / 2, y + 16.5, shorter, "", "middle")
                break
        self.used.add("content" if run.tag else run.kind)

    def _ghosts(self, group: Element, ribbon: Ribbon, rows: Rows) -> None:
        """Where the pages of the bite have been."""
        bite = self.moment.bite
        if bite is None or bite.refused or not bite.source.overlaps(ribbon.window):
            return
        before = self.film.moments[self.index - 1]
        for run in self.scene.runs(before, ribbon):
            if run.where.overlaps(bite.source):
                run = clipped(self.scene.geometry, run, bite.source)
                left, right = self._ends(ribbon, run.where)
                svg.rect(group, left + 1, rows.pages + 1, right - left - 2, _PAGES - 2, "ghost", 2)
                self.used.add("ghost")

    def _breaks(self, group: Element, ribbon: Ribbon, rows: Rows) -> None:
        """Marks where a stretch is drawn shorter than it is."""
        base = ribbon.base
        for piece in self.scene.axis.between(ribbon.window.start - base, ribbon.window.end - base):
            if not piece.broken or piece.width < 40:
                continue
            x = piece.right - min(12, piece.width / 5)
            for y in (rows.pages + _PAGES,):
                svg.line(group, ((x - 4, y), (x + 4, y)), "erase")
                svg.line(group, ((x - 5, y + 4), (x - 1, y - 4)), "cut")
                svg.line(group, ((x + 1, y + 4), (x + 5, y - 4)), "cut")
            self.used.add("break")

    def _tlb(self, group: Element, ribbon: Ribbon, y: float, cpu: str) -> None:
        """What a CPU keeps of a ribbon."""
        svg.text(group, PAD + 6, y + 13, f"{cpu} TLB", "small soft")
        svg.line(group, ((LEFT, y + 16), (self.scene.axis.right, y + 16)), "none")
        for row in self.moment.seen.rows.get(signs.TLBS, ()):
            if row.label.strip() != cpu or not row.where or not row.where.overlaps(ribbon.window):
                continue
            left, right = self._ends(ribbon, row.where)
            stale = signs.STALE in row.text
            wide = max(right - left, 12)
            svg.rect(group, left + 1, y + 2, wide - 2, _TLB - 5, "stale" if stale else "kept", 2)
            words = row.text.replace(f", {signs.STALE}", "")
            svg.text(
                group,
                left + wide + 5,
                y + 13,
                f"{'STALE: ' if stale else ''}{words}",
                "small bad strong" if stale else "small",
            )
            self.used.add("stale" if stale else "kept")

    # --- Arrows -----------------------------------------------------------------------------------

    def _bites(self, group: Element, upper: Rows, lower: Rows) -> None:
        """An arrow a bite: that of this moment, and faint those before."""
        last = max(
            (n for n, m in enumerate(self.film.moments[: self.index + 1]) if m.bite), default=-1
        )
        for number, moment in enumerate(self.film.moments[: self.index + 1]):
            if moment.bite is not None:
                self._arrow(
                    group,
                    moment.bite,
                    upper,
                    lower,
                    current=number == self.index,
                    label=number == last,
                )

    def _arrow(
        self, group: Element, bite: Bite, upper: Rows, lower: Rows, *, current: bool, label: bool
    ) -> None:
        """One bite: what it takes, a shaft, the mover's name."""
        old, new = self.scene.ribbons[:2]
        above, below = (bite.target, bite.source) if bite.back else (bite.source, bite.target)
        a1, a2 = self._ends(old, above)
        b1, b2 = self._ends(new, below)
        top, bottom = upper.bottom + 2, lower.top - 3
        bad = bite is self._culprit()
        css = " bad" if bad and current else ""
        arrow = svg.group(group, "" if current else "past")
        if current:
            corners = ((a1, top), (a2, top), (b2, bottom), (b1, bottom))
            svg.line(arrow, corners, f"sweep{css}")
        x1, x2 = (a1 + a2) / 2, (b1 + b2) / 2
        y1, y2 = top, bottom
        if bite.back:
            x1, x2, y1, y2 = x2, x1, y2, y1
        svg.line(arrow, ((x1, y1), (x2, y2 + (6 if y1 > y2 else -6))), f"bite{css}")
        self._tip(arrow, x1, y1, x2, y2, css)
        if current:
            middle = (x1 + x2) / 2
            if css:
                self._cross(arrow, middle, (y1 + y2) / 2, 10)
            words = f"{bite.mover}{f' × {bite.many}' if bite.many > 1 else ''}"
            wide = svg.width_of(words, 13, mono=True)
            x = middle + 14
            anchor = "start"
            if x + wide > WIDTH - PAD:
                x, anchor = middle - 14, "end"
            svg.text(arrow, x, (y1 + y2) / 2 + 4, words, f"code label strong{css}", anchor)

    def _culprit(self) -> Bite | None:
        """What broke the rule: the bite of the failing moment, or the last one at the place."""
        film = self.film
        if film.failing is None or film.violation is None:
            return None
        own = film.moments[film.failing].bite
        if own is not None:
            return own
        where = film.violation.where
        bites = [m.bite for m in film.moments[: film.failing] if m.bite and not m.bite.refused]
        touching = [b for b in bites if where.overlaps(b.source) or where.overlaps(b.target)]
        return touching[-1] if touching and where != self.scene.geometry.arena else None

    def _tip(self, group: Element, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """An arrow's head at (x2, y2)."""
        dx, dy = x2 - x1, y2 - y1
        length = (dx * dx + dy * dy) ** 0.5 or 1
        ux, uy = dx / length, dy / length
        points = [(x2, y2)] + [
            (x2 - 11 * ux + side * 5.5 * uy, y2 - 11 * uy - side * 5.5 * ux) for side in (1, -1)
        ]
        d = "M" + "L".join(f"{svg.number(x)} {svg.number(y)}" for x, y in points) + "Z"
        svg.path(group, d, f"tip{css}")

    def _cross(self, group: Element, x: float, y: float, radius: float) -> None:
        """The mark of what is wrong: a cross in an octagon."""
        r, k = radius, radius * 0.414
        corners = ((-k, -r), (k, -r), (r, -k), (r, k), (k, r), (-k, r), (-r, k), (-r, -k))
        d = "M" + "L".join(f"{svg.number(x + a)} {svg.number(y + b)}" for a, b in corners) + "Z"
        svg.path(group, d, "badge")
        h = radius * 0.42
        for slope in (1, -1):
            svg.line(group, ((x - h, y - h * slope), (x + h, y + h * slope)), "cross")
        self.used.add("cross")
