"""The picture of a case: what one call does to page tables, and where it goes wrong.

`picture(case, kernel)` runs the case; `still` has the decisive moments below each other, `sheet` in
two columns, and `film` all of them in one place, to be leafed through.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from engine.base.kernel import Kernel
from engine.base.points import ALLOC_FAILED, FREE_PGTABLES, RELOCATE_VMA_DOWN
from fuzz.case import Case
from fuzz.defects.known import DEFECTS
from fuzz.picture import svg
from fuzz.picture.legend import legend
from fuzz.picture.lost import Lost
from fuzz.picture.meaning import WEIGHT, consequence
from fuzz.picture.moments import Film, film
from fuzz.picture.panel import Panel
from fuzz.picture.paper import NARROW, PAD, WIDE, Paper
from fuzz.picture.scene import Scene
from fuzz.picture.svg import Element
from fuzz.picture.words import called, caption

_MOST_PANELS, _MOST_ON_SHEET = 5, 4
_BETWEEN = 8.0  # panels


class Step(NamedTuple):
    """A moment of a film: what it is called, what happens, whether the rule breaks there."""

    kind: str
    caption: str
    failing: bool


@dataclass(frozen=True)
class Picture:
    """The picture of a case on a kernel.

    `name` is what the case is called, "" if nothing; any text will do.  `about` says in a line
    where the bug comes from, else that is told of known defects.
    """

    made: Film
    name: str = ""
    about: str = ""
    _scenes: dict[Paper, tuple[Scene, Lost]] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """The rule in words; plain text."""
        if self.made.rule is not None:
            return self.made.rule.statement
        return "no rule is broken"

    @property
    def subtitle(self) -> str:
        """The kernel."""
        kernel = self.made.kernel
        return f"{kernel.name} on {kernel.geometry.name}"

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The moments of the film."""
        made = self.made
        return tuple(
            Step(moment.kind, caption(made, index), index == made.failing)
            for index, moment in enumerate(made.moments)
        )

    @property
    def failing(self) -> int:
        """The index of the step to be shown first: where the rule breaks, else the last."""
        found = self.made.failing
        return len(self.steps) - 1 if found is None else found

    def still(self, *, styled: bool = True) -> str:
        """The decisive moments below each other, as SVG.

        Arguments: `styled` false: without its style, for a page that has that already.
        """
        root, ground = self._root(WIDE.width, styled=styled)
        y, used = self._head(root), set[str]()
        most = _MOST_PANELS + (_loss(self.made) is not None)
        for number, index in enumerate(_decisive(self.made, most), 1):
            panel = self._panel(WIDE, index, number)
            panel.draw(root, y)
            y += panel.height + _BETWEEN
            used |= panel.used
        return self._finished(root, ground, y, used, WIDE.width)

    def sheet(self, *, styled: bool = True) -> str:
        """Fewer of them, in two columns, as fits on paper, without what is told above them.

        Arguments: as of `still`.
        """
        groups, panels, used = [], [], set[str]()
        root, ground = self._root(2 * NARROW.width, styled=styled)
        for number, index in enumerate(_decisive(self.made, _MOST_ON_SHEET), 1):
            groups.append(svg.group(root))
            panels.append(self._panel(NARROW, index, number))
            panels[-1].draw(groups[-1], 0)
            used |= panels[-1].used
        heights = [panel.height + _BETWEEN for panel in panels]
        first = min(
            range(1, len(heights) + 1),
            key=lambda many: max(sum(heights[:many]), sum(heights[many:])),
        )
        for column, members in enumerate((range(first), range(first, len(heights)))):
            y = 4.0
            for number in members:
                svg.place(groups[number], column * NARROW.width, y)
                y += heights[number]
        bottom = 4 + max(sum(heights[:first]), sum(heights[first:]))
        return self._finished(root, ground, bottom, used, 2 * NARROW.width)

    def film(self, *, styled: bool = True) -> str:
        """All moments as SVG, a group of class `step` each, of which that with `now` is seen.

        What is told above them is `weight`, `means` and `title`.

        Arguments: as of `still`.
        """
        root, ground = self._root(WIDE.width, styled=styled)
        bottom, used = 0.0, set[str]()
        for index, step in enumerate(self.steps):
            css = "step now" if index == self.failing else "step"
            parent = svg.group(root, css, step=str(index), caption=svg.clean(step.caption))
            panel = self._panel(WIDE, index, index + 1, alike=True)
            panel.draw(parent, 4)
            bottom = max(bottom, panel.height + 4 + _BETWEEN)
            used |= panel.used
        return self._finished(root, ground, bottom, used, WIDE.width)

    def _root(self, width: float, *, styled: bool) -> tuple[Element, Element]:
        """A sheet that is not high yet."""
        told = " ".join(self._told())
        return svg.picture(width, self.title, told, self.made.severity, styled=styled)

    def _panel(self, paper: Paper, index: int, number: int, *, alike: bool = False) -> Panel:
        if paper not in self._scenes:
            scene = Scene(self.made, paper)
            self._scenes[paper] = scene, Lost(scene)
        return Panel(*self._scenes[paper], index, number, alike=alike)

    def _finished(
        self, root: Element, ground: Element, bottom: float, used: set[str], width: float
    ) -> str:
        """The picture as text, with its legend, and as high as it takes."""
        height = legend(root, bottom, used, self.made.severity, width)
        root.set("viewBox", f"0 0 {svg.number(width)} {svg.number(height)}")
        ground.set("height", svg.number(height))
        return svg.told(root)

    def _told(self) -> Iterator[str]:
        """What is read out in place of the picture."""
        yield f"{self.subtitle}."
        if self.means:
            yield f"{self.made.severity}: {self.means}."
        for step in self.steps:
            yield f"{step.caption}{' (here the rule is broken)' if step.failing else ''}."

    @property
    def weight(self) -> str:
        """How bad it is; "" if no rule is broken."""
        made = self.made
        return f"{made.severity.upper()}: {WEIGHT[made.rule.severity]}" if made.rule else ""

    @cached_property
    def means(self) -> str:
        """Why it matters; "" if no rule is broken."""
        return consequence(self.made, Lost(Scene(self.made, WIDE)))

    def _origin(self) -> str:
        """Where the bug comes from, in a line, "" if that is not known."""
        found = self.made.shown.found
        if self.about or found is None or not found.bucket.defect:
            return self.about
        defects = [DEFECTS[id_] for id_ in found.bucket.defect.split("+")]
        told = "; ".join(f"{defect.headline} ({defect.id})" for defect in defects)
        return f"a known defect of {self.made.kernel.name}: {told}"

    def _head(self, root: Element) -> float:
        """How bad it is and what it means, which rule is broken; the kernel, the call."""
        made, y = self.made, 30.0
        if made.rule is None:
            svg.text(root, PAD, y, self.title, "h1")
        else:
            svg.badge(root, PAD + 9, y - 5, 10, made.severity)
            svg.text(root, PAD + 26, y, self.weight, "h1 bad")
            y += 5
            for line in svg.wrapped(self.means, WIDE.room, 15.5):
                y += 19
                svg.text(root, PAD, y, line, "means")
            y += 2
            for line in svg.wrapped(f"broken rule: “{self.title}”", WIDE.room, 14):
                y += 18
                svg.text(root, PAD, y, line)
        y += 3
        rule = f"rule {made.rule.id} {made.rule.slug}" if made.rule else ""
        parts = (rule, self.subtitle, svg.clean(self.name, 40))
        for words in filter(None, (" · ".join(filter(None, parts)), svg.clean(self._origin()))):
            for line in svg.wrapped(words, WIDE.room, 13):
                y += 17
                svg.text(root, PAD, y, line, "sub")
        if made.call >= 0:
            words = svg.clean(called(made))
            y += 3
            for line in svg.wrapped(words, WIDE.room, 12.5, mono=True):
                y += 17
                svg.text(root, PAD, y, line, "code")
        return y + 10


def picture(case: Case, kernel: Kernel, name: str = "", about: str = "") -> Picture:
    """The picture of a case on a kernel.

    Arguments: `name` what the case is called; `about` where its bug comes from, if it was put back.
    Errors raised: those of `fuzz.showing.showing`.
    """
    return Picture(film(case, kernel), name, about)


def _decisive(made: Film, most: int) -> Iterator[int]:
    """The moments that tell the story, `most` of them."""
    moments = made.moments
    last = len(moments) - 1
    failing = made.failing
    unmapped = _loss(made)
    replaced = [n for n, one in enumerate(moments) if one.kind == RELOCATE_VMA_DOWN]
    chosen = [failing] if failing is not None else []
    chosen += [unmapped if unmapped is not None else last]
    chosen += [last] * (most > _MOST_ON_SHEET)
    bites = [n for n, one in enumerate(moments) if one.bite]
    chosen += reversed([n for n, one in enumerate(moments) if one.deed])
    chosen += replaced[:1] or [0]
    if failing is not None:
        chosen += reversed([n for n in bites if n < failing])
    chosen += [n for n, one in enumerate(moments) if one.kind == ALLOC_FAILED]
    chosen += [*bites, last]
    kept: list[int] = []
    for index in dict.fromkeys(chosen):
        if len(kept) < most:
            kept.append(index)
    yield from sorted(kept)


def _loss(made: Film) -> int | None:
    """The moment after a way back that came short at which what has not come back is unmapped."""
    moments, back = made.moments, [way for way in made.ways if way.back]
    if made.failing is None or not back:
        return None
    for index in range(made.failing + 1, len(moments)):
        one = moments[index]
        if one.kind == FREE_PGTABLES and one.where.overlaps(back[-1].source):
            return index
    return None
