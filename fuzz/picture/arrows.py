"""Arrows: what each mover takes from where to where."""

from engine.base.address import Range
from fuzz.picture import svg
from fuzz.picture.moments import Bite
from fuzz.picture.paper import PAD
from fuzz.picture.ribbon import Rows
from fuzz.picture.scene import Ribbon, Scene
from fuzz.picture.seen import clipped
from fuzz.picture.svg import Element
from fuzz.picture.words import WARNED

BETWEEN = 56.0  # two ribbons
BELOW = 70.0  # a ribbon that has both ranges
_TIP = 11.0

Ends = tuple[float, float]


def culprit(scene: Scene) -> Bite | None:
    """The bite that breaks the rule, if one does."""
    film = scene.film
    return film.moments[film.failing].bite if film.failing is not None else None


class Arrows:
    """Draws the bites up to a moment: that of the moment itself plainly, earlier ones faintly.

    What is refused, or stops, does not arrive: its arrow ends at a bar.  `used` as of a ribbon.
    """

    def __init__(
        self, scene: Scene, index: int, rows: list[Rows], group: Element, used: set[str]
    ) -> None:
        self.scene, self.index, self.rows, self.group = scene, index, rows, group
        self.used = used
        self._past: list[float] = []  # where the arrows of earlier bites are

    def draw(self) -> None:
        """Draw them, if there is one at the moment."""
        moments = self.scene.film.moments[: self.index + 1]
        if moments[-1].bite is None:
            return
        for moment in moments:
            bite = moment.bite
            if bite is None or (moment is not moments[-1] and not self._leads_here(bite)):
                continue
            self._bite(bite, current=moment is moments[-1])
            if moment is not moments[-1]:
                self.used.add("past")

    def _leads_here(self, bite: Bite) -> bool:
        """Is an earlier bite a part of what is going on?  On the way back the way there is over."""
        now = self.scene.film.moments[self.index].bite
        return now is not None and now.back == bite.back and not bite.refused

    def _ends(self, ribbon: Ribbon, where: Range) -> Ends:
        window = ribbon.window
        inside = Range(max(where.start, window.start), min(where.end, window.end))
        return self.scene.x(ribbon, inside.start), self.scene.x(ribbon, inside.end)

    def _bite(self, bite: Bite, *, current: bool) -> None:
        group = svg.group(self.group, "" if current else "past")
        css = " bad" if current and bite is culprit(self.scene) else ""
        if self.scene.apart:
            x, y = self._across(group, bite, css, current)
        else:
            x, y = self._along(group, bite, css, current)
        if not current:
            return
        words = bite.mover or "no memory for a table"
        if bite.many > 1:
            words += f" × {bite.many}"
        if bite.refused and bite.mover:
            words += " refused"
        self.used.add("refused" if bite.refused else "taken")
        label = f"code label strong{css}"
        if not self.scene.apart:
            svg.text(group, x, y + 22, words, label, "middle")
            return
        wide = svg.width_of(words, 13.5, mono=True) + 20
        to_right = [at for at in self._past if x < at < x + wide]
        if x + wide < self.scene.paper.width - PAD and (not to_right or x - wide < PAD):
            svg.text(group, x + 16, y + 4.5, words, label)
        else:
            svg.text(group, x - 18, y + 4.5, words, label, "end")

    def _across(self, group: Element, bite: Bite, css: str, current: bool) -> tuple[float, float]:
        """From one ribbon to the other.  Returns: the middle of the arrow."""
        above, below = (bite.target, bite.source) if bite.back else (bite.source, bite.target)
        a1, a2 = self._ends(self.scene.ribbons[0], above)
        b1, b2 = self._ends(self.scene.ribbons[1], below)
        top, bottom = self.rows[0].bottom + 3, self.rows[1].top - 1
        if current:
            svg.line(group, ((a1, top), (a2, top), (b2, bottom), (b1, bottom)), f"sweep{css}")
            self.used.add("sweep")
        way = self._page(bite)
        x1, x2 = ((a1 + a2) / 2, (b1 + b2) / 2) if way is None else (way, way)
        first, last = (x1, top), (x2, bottom)
        if bite.back:
            first, last = last, first
        if bite.refused:
            at = ((first[0] + last[0]) / 2, (first[1] + last[1]) / 2)
            svg.line(group, (first, at), f"bite{css}")
            svg.line(group, ((at[0] - 11, at[1]), (at[0] + 11, at[1])), f"stop{css}")
            self._warning(group, at, css)
        else:
            svg.line(group, (first, _short(first, last)), f"bite{css}")
            _tip(group, first, last, css)
        middle = (first[0] + last[0]) / 2
        if not current:
            self._past.append(middle)
        return middle, (top + bottom) / 2

    def _page(self, bite: Bite) -> float | None:
        """The middle of what it takes, if that is one run of pages."""
        scene, moments = self.scene, self.scene.film.moments
        number = next(n for n, moment in enumerate(moments) if moment.bite is bite)
        ribbon = scene.ribbons[1 if bite.back else 0]
        runs = scene.runs(moments[max(number - 1, 0)], ribbon)
        taken = [run for run in runs if run.where.overlaps(bite.source)]
        if bite.refused or bite.many > 1 or len(taken) != 1:
            return None
        return sum(self._ends(ribbon, clipped(scene.geometry, taken[0], bite.source).where)) / 2

    def _warning(self, group: Element, at: Ends, css: str) -> None:
        """The kernel's, where it finds something in the way."""
        violation = self.scene.film.violation
        if css and violation is not None and violation.rule in WARNED:
            svg.badge(group, at[0] - 24, at[1], 9, self.scene.film.severity)
            svg.text(group, at[0] - 37, at[1] + 4.5, "WARN", "small bad strong label", "end")

    def _along(self, group: Element, bite: Bite, css: str, current: bool) -> tuple[float, float]:
        """Below the ribbon that has both ranges.  Returns: the middle of the arrow."""
        ribbon, y = self.scene.ribbons[0], self.rows[0].bottom + 4
        a1, a2 = self._ends(ribbon, bite.source)
        b1, b2 = self._ends(ribbon, bite.target)
        (x1, x2), low = ((a1 + a2) / 2, (b1 + b2) / 2), y + (40 if current else 24)
        if current:
            for left, right in ((a1, a2), (b1, b2)):
                points = ((left + 2, y - 3), (left + 2, y), (right - 2, y), (right - 2, y - 3))
                svg.line(group, points, f"extent{css}")
        corner = min(14.0, abs(x1 - x2) / 3)
        toward = corner if x2 > x1 else -corner
        n = svg.number
        end = y + 14 if bite.refused else y + _TIP - 2
        svg.path(
            group,
            f"M{n(x1)} {n(y)}V{n(low - corner)}Q{n(x1)} {n(low)} {n(x1 + toward)} {n(low)}"
            f"H{n(x2 - toward)}Q{n(x2)} {n(low)} {n(x2)} {n(low - corner)}V{n(end)}",
            f"bite{css}",
        )
        if bite.refused:
            svg.line(group, ((x2 - 11, end), (x2 + 11, end)), f"stop{css}")
            self._warning(group, (x2, end), css)
        else:
            _tip(group, (x2, low), (x2, y), css)
        return (x1 + x2) / 2, low


def _short(first: Ends, last: Ends) -> Ends:
    """Where a shaft ends, so that it does not stick out of its head."""
    dx, dy = last[0] - first[0], last[1] - first[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1
    return last[0] - (_TIP - 2) * dx / length, last[1] - (_TIP - 2) * dy / length


def _tip(group: Element, first: Ends, last: Ends, css: str) -> None:
    """An arrow's head at `last`."""
    dx, dy = last[0] - first[0], last[1] - first[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1
    ux, uy = dx / length, dy / length
    x, y = last
    sides = [(x - _TIP * ux + s * 6 * uy, y - _TIP * uy - s * 6 * ux) for s in (1, -1)]
    svg.line(group, (last, *sides), f"tip{css}")
