"""Addresses above a ribbon: which are told, and where each has room."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.state import terms
from fuzz.picture import svg
from fuzz.picture.moments import Moment
from fuzz.picture.scene import Ribbon, Scene
from fuzz.picture.seen import Run

LINES = 2  # of labels, if one does not do
_SIZE = 11.5


class Label(NamedTuple):
    """An address: what it reads, its place on the axis, the middle of its label, in which line."""

    words: str
    at: float
    x: float
    line: int


def labels(scene: Scene, ribbon: Ribbon, moment: Moment) -> Iterator[Label]:
    """Those that have room; what the call names comes first, and lower lines before upper ones."""
    named, paper = _named(moment, ribbon), scene.paper
    taken: list[tuple[int, float, float]] = []
    wanted = dict.fromkeys(_wanted(scene, ribbon, moment), LINES)
    edges = {
        edge: 1
        for edge in _edges(moment, (*scene.runs(moment, ribbon), *scene.runs(scene.first, ribbon)))
        if edge not in wanted
    }
    for addr, lines in {**wanted, **edges}.items():
        if not ribbon.window.start <= addr <= ribbon.window.end:
            continue
        words = terms.address(scene.geometry, addr)
        wide = svg.width_of(words, _SIZE, mono=True) + 2.5 * (len(words) // 3) + 4
        at = scene.x(ribbon, addr)
        near = [scene.x(ribbon, other) - at for other in named - {addr}]
        lower, higher = (any(0 <= side * gap < wide for gap in near) for side in (-1, 1))
        # Of two that are close, one ends at its place, and the other begins there.
        sides = (lower - higher, 0, 1, -1) if addr in named else (0,)
        for line, side in ((line, side) for line in range(lines) for side in sides):
            x = at + side * (wide / 2 - 3)
            x = min(max(x, paper.left - 4 + wide / 2), paper.width - 8 - wide / 2)
            if all(line != its or abs(x - it) >= (wide + w) / 2 - 0.1 for its, it, w in taken):
                taken.append((line, x, wide))
                yield Label(words, at, x, line)
                break


def _named(moment: Moment, ribbon: Ribbon) -> set[int]:
    """What the call names, or what is moved just now."""
    bite = moment.bite
    ranges = [*((bite.source, bite.target) if bite else ())]
    ranges += [one for span in ribbon.spans for one in (span.where, span.lowered) if one]
    return {edge for where in ranges for edge in where}


def _wanted(scene: Scene, ribbon: Ribbon, moment: Moment) -> Iterator[int]:
    """What may be told, the most important first."""
    if bite := moment.bite:
        yield from (bite.source.start, bite.target.start)
    for span in ribbon.spans:
        yield from (*span.where, *(span.lowered or ()))
    if bite:
        yield from (bite.source.end, bite.target.end)
    for where, _ in scene.slots(ribbon):
        yield from where
    film = scene.film
    if film.violation and film.failing is not None and moment is film.moments[film.failing]:
        yield from film.violation.where


def _edges(moment: Moment, runs: Iterable[Run]) -> Iterator[int]:
    """What is told if there is room for it in the lowest line."""
    for mapping in moment.seen.mappings:
        yield from mapping.where
    for run in runs:
        yield from run.where
