"""The picture of a case: what one call does to page tables, and where it goes wrong.

`picture(case, kernel)` runs the case; `still` has the decisive moments below each other, `film` all
of them in one place, to be leafed through.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from engine.base.kernel import Kernel
from engine.base.points import ALLOC_FAILED, RELOCATE_VMA_DOWN
from fuzz.case import Case
from fuzz.defects import known
from fuzz.forms.text import format_call
from fuzz.picture import svg
from fuzz.picture.legend import legend
from fuzz.picture.lost import Lost
from fuzz.picture.moments import Film, film
from fuzz.picture.panel import Panel
from fuzz.picture.ribbon import LEFT, PAD, RIGHT, WIDTH
from fuzz.picture.scene import Scene
from fuzz.picture.svg import Element
from fuzz.picture.words import caption

_MOST_PANELS = 5


class Step(NamedTuple):
    """A moment of a film: what it is called, what happens, whether the rule breaks there."""

    kind: str
    caption: str
    failing: bool


@dataclass(frozen=True)
class Picture:
    """The picture of a case on a kernel.

    `name` is what the case is called, "" if nothing; any text will do.
    """

    made: Film
    name: str = ""

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
        return self._drawn(list(_decisive(self.made)), leafed=False, styled=styled)

    def film(self, *, styled: bool = True) -> str:
        """All moments as SVG, a group of class `step` each, of which that with `now` is seen.

        Arguments: as of `still`.
        """
        return self._drawn(list(range(len(self.made.moments))), leafed=True, styled=styled)

    def _drawn(self, indices: list[int], *, leafed: bool, styled: bool) -> str:
        title, told = self.title, " ".join(self._told())
        root, sheet = svg.picture(WIDTH, title, told, styled=styled)
        top = self._head(root)
        used: set[str] = set()
        y = bottom = top
        for number, index in enumerate(indices):
            parent = root
            if leafed:
                step = self.steps[index]
                css = "step now" if index == self.failing else "step"
                parent = svg.group(root, css, step=str(index), caption=svg.clean(step.caption))
                y = top
            called = (index if leafed else number) + 1
            panel = Panel(self._scene, self._lost, index, called, alike=leafed)
            panel.draw(parent, y)
            y += panel.height + 8
            bottom = max(bottom, y)
            used |= panel.used
        height = legend(root, bottom, used)
        root.set("viewBox", f"0 0 {svg.number(WIDTH)} {svg.number(height)}")
        sheet.set("height", svg.number(height))
        return svg.told(root)

    @cached_property
    def _scene(self) -> Scene:
        return Scene(self.made, LEFT, RIGHT)

    @cached_property
    def _lost(self) -> Lost:
        return Lost(self._scene)

    def _told(self) -> Iterator[str]:
        """What is read out in place of the picture."""
        yield f"{self.subtitle}."
        for step in self.steps:
            yield f"{step.caption}{' (here the rule is broken)' if step.failing else ''}."

    def _head(self, root: Element) -> float:
        """The title, the call, the kernel."""
        made, y, left = self.made, 10.0, PAD
        if made.rule is not None:
            svg.cross(root, PAD + 9, y + 15, 10)
            svg.text(root, PAD + 26, y + 20, "broken:", "h1 bad")
            left += 112
        for line in svg.wrapped(self.title, WIDTH - left - PAD, 20):
            y += 21
            svg.text(root, left, y, line, "h1")
        y += 20
        rule = f"{made.rule.id} {made.rule.slug}" if made.rule else ""
        parts = (rule, self.subtitle, svg.clean(self.name, 40))
        svg.text(root, PAD, y, " · ".join(filter(None, parts)), "sub")
        found = made.shown.found
        if found and found.bucket.defect:
            words = svg.clean(f"known: {known.told(found.bucket.defect)}")
            for line in svg.wrapped(words, WIDTH - 2 * PAD, 13):
                y += 18
                svg.text(root, PAD, y, line, "sub")
        if made.call >= 0:
            call = made.shown.case.calls[made.call]._replace(result=made.result)
            words = svg.clean(format_call(call, made.kernel.geometry.page_bytes))
            y += 3
            for line in svg.wrapped(words, WIDTH - 2 * PAD, 12.5, mono=True):
                y += 17
                svg.text(root, PAD, y, line, "code")
        return y + 10


def picture(case: Case, kernel: Kernel, name: str = "") -> Picture:
    """The picture of a case on a kernel.

    Arguments: `name` what the case is called.
    Errors raised: those of `fuzz.showing.showing`.
    """
    return Picture(film(case, kernel), name)


def _decisive(made: Film) -> Iterator[int]:
    """The moments that tell the story: few enough to stand below each other."""
    moments = made.moments
    last = len(moments) - 1
    failing = made.failing
    replaced = [n for n, one in enumerate(moments) if one.kind == RELOCATE_VMA_DOWN]
    chosen = [failing] if failing is not None else []
    chosen += [*(replaced[:1] or [0]), last]
    bites = [n for n, one in enumerate(moments) if one.bite]
    if failing is not None:
        after = failing + 1  # where locks are dropped that should have kept others away
        if moments[failing].bite and any(one.stale for one in moments[after].seen.tlbs):
            chosen.append(after)
        chosen += reversed([n for n in bites if n < failing])
    chosen += [n for n, one in enumerate(moments) if one.kind == ALLOC_FAILED]
    chosen += bites
    kept: list[int] = []
    for index in dict.fromkeys(chosen):
        if len(kept) < _MOST_PANELS:
            kept.append(index)
    yield from sorted(kept)
