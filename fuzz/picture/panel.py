"""One moment of a picture: what happens, its ribbons, the arrows between them."""

from collections.abc import Sequence

from engine.base.violation import Violation
from engine.state import terms
from fuzz.picture import stale, svg
from fuzz.picture.arrows import BELOW, BETWEEN, Arrows
from fuzz.picture.lost import Lost
from fuzz.picture.moments import Moment
from fuzz.picture.paper import PAD
from fuzz.picture.ribbon import RibbonDrawing, Rows
from fuzz.picture.scene import Scene
from fuzz.picture.svg import Element
from fuzz.picture.words import caption, found, locks
from fuzz.tell import signs
from fuzz.tell.details import Row

_HEAD, _LINE = 32.0, 17.0
_APART = 14.0  # ribbons without an arrow between them
_CAPTION = 18.0  # a line of a heading
_BOLD = 15.0  # what a letter of a heading takes, for its size


class Panel:
    """Draws a moment into a group, from `top` on; `height` is what it took.

    Arguments: `number` what it is called; `alike`: all panels of the film are as high, so that
    nothing jumps when they are leafed through.
    """

    def __init__(
        self, scene: Scene, lost: Lost, index: int, number: int, *, alike: bool = False
    ) -> None:
        self.scene, self.film, self.lost, self.paper = scene, scene.film, lost, scene.paper
        self.index, self.number, self.alike = index, number, alike
        self.moment: Moment = scene.film.moments[index]
        self.used: set[str] = set()
        self.height = 0.0

    @property
    def is_failing(self) -> bool:
        """Is this where the rule breaks?"""
        return self.index == self.film.failing

    def draw(self, parent: Element, top: float) -> None:
        """Draw it."""
        group = svg.group(parent)
        css = "panel failing" if self.is_failing else "panel"
        frame = svg.rect(group, PAD / 2, top, self.paper.width - PAD, 10, css, 7)
        y = self._heading(group, top)
        places: list[Rows] = []
        for number, ribbon in enumerate(self.scene.ribbons):
            if number:
                arrows = number == 1 and self.scene.apart and self._has_arrows()
                y += BETWEEN if arrows else _APART
            places.append(Rows(self.scene, ribbon, y))
            y = places[-1].bottom
        drawings = [
            RibbonDrawing(self.scene, self.lost, self.index, rows, group, self.used)
            for rows in places
        ]
        for drawing in drawings:
            drawing.draw()
        for drawing in drawings:
            drawing.reach(rows for rows in places if rows is not drawing.rows)
        if self.scene.moving:
            Arrows(self.scene, self.index, places, group, self.used).draw()
            if not self.scene.apart and self._has_arrows():
                y = max(y, places[0].bottom + BELOW)
        y = self._consequence(group, y)
        y = self._counted(group, y)
        self.height = y + 10 - top
        frame.set("height", svg.number(self.height))

    def _has_arrows(self) -> bool:
        """Is there room to be left for arrows?"""
        return self.alike or self.moment.bite is not None

    def _heading(self, group: Element, top: float) -> float:
        """What happens, the locks, and what is wrong.  Returns: where it ends."""
        x, y = PAD + 4, top + 21
        if self.is_failing:
            svg.badge(group, x + 6, y - 5, 10, self.film.severity)
            self.used.add("failing")
            x += 24
        svg.text(group, x, y, f"{self.number}", "head soft")
        for line in self._caption(self.index):
            svg.text(group, x + 20, y, line, "head bad" if self.is_failing else "head")
            y += _CAPTION
        y = top + 21 + _CAPTION * (max(len(self._caption(n)) for n in self._alike) - 1)
        below = _LINE if self._locks_below() else 0
        if held := locks(self.film, self.index):
            right = self.paper.width - PAD
            svg.text(group, right, y + below, held, "small soft", "end")
        y += _HEAD - 21 + below
        violation = self.film.violation
        if violation is None or not (self.alike or self.is_failing):
            return y
        return self._wrong(group if self.is_failing else None, violation, y)

    def _locks_below(self) -> bool:
        """Is there no room for the locks beside what happens?"""
        return any(
            svg.width_of(self._caption(index)[-1], _BOLD) + svg.width_of(held, 12)
            > self.paper.room - 66
            for index in self._alike
            if (held := locks(self.film, index))
        )

    @property
    def _alike(self) -> Sequence[int]:
        """The moments whose panels are to be as high as this one."""
        return range(len(self.film.moments)) if self.alike else (self.index,)

    def _caption(self, index: int) -> list[str]:
        """What happens at a moment, in lines."""
        before = 48 if index == self.film.failing else 24
        return svg.wrapped(caption(self.film, index), self.paper.room - before, _BOLD)

    def _wrong(self, group: Element | None, violation: Violation, y: float) -> float:
        """What is there, and what should be; None: only the room for it."""
        for label, words in (("found", found(self.film)), ("expected", violation.expected)):
            for line in svg.wrapped(svg.clean(words), self.paper.width - 126, 12):
                if group is not None:
                    svg.text(group, PAD + 22, y + 11, label, "small bad strong")
                    svg.text(group, PAD + 90, y + 11, line, "small")
                label, y = "", y + _LINE
        return y + 5

    def _consequence(self, group: Element, y: float) -> float:
        """What may come of a stale translation.  Returns: where it ends."""
        if all(stale.reaching(self.scene, index) is None for index in self._alike):
            return y
        if one := stale.reaching(self.scene, self.index):
            stale.Consequence(self.scene, self.index, group).draw(one, y)
        return y + stale.HEIGHT

    def _counted(self, group: Element, y: float) -> float:
        """What is counted, and flags, if the rule is about that.  Returns: where it ends."""
        for title in (signs.COUNTERS, signs.FLAGS):
            before = {row.text for row in self.scene.first.seen.rows.get(title, ())}
            rows = self.moment.seen.rows.get(title, ())
            label = title
            for row in [row for row in rows if self._is_meant(row)] or rows:
                y += _LINE
                where = f"{terms.span(self.scene.geometry, row.where)} " if row.where else ""
                css = "small" if row.text in before else "small strong"
                if self.is_failing and row.where is None and self._is_meant(row):
                    css = "small strong bad"
                    svg.badge(group, self.paper.left - 14, y - 4, 8, self.film.severity)
                svg.text(group, self.paper.left, y, f"{where}{row.text}", css)
                svg.text(group, PAD, y, label, "small soft")
                label = signs.Sign("", "")
        return y

    def _is_meant(self, row: Row) -> bool:
        """Is it about what a broken rule names?"""
        violation = self.film.violation
        name = row.text.split(",")[0].split()[0]
        return violation is not None and name in f"{violation.found} {violation.expected}"
