"""Curves of a working directory: what runs have done and found, over the time they have fuzzed.

Time is that of all runs together: while nothing is fuzzed nothing is found, so the pauses between
runs are left out; where each run begins is marked.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import NamedTuple

from fuzz.findings.history import Minute, Run
from fuzz.lib.status import count, duration

# Of a chart, in units of its own; the page scales it.
WIDTH, HEIGHT = 360.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 10.0, 22.0
SIZE = (WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM)
_MOST_POINTS = 400  # of a line; more could not be told apart
_STEPS = (60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400)


class Tick(NamedTuple):
    """A mark at an axis."""

    at: float
    label: str


class Band(NamedTuple):
    """A run: where it begins and how wide it is; `odd` ones look otherwise than even ones."""

    at: float
    width: float
    label: str
    odd: bool


class Curve(NamedTuple):
    """A line of a chart: `path` as SVG has it, `end` its last point, `last` its last value."""

    name: str
    path: str
    end: tuple[float, float]
    last: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one or more lines that have one scale."""

    title: str
    curves: tuple[Curve, ...]
    times: tuple[Tick, ...]
    values: tuple[Tick, ...]
    bands: tuple[Band, ...]


Point = tuple[float, float]  # seconds, value


def charts(
    minutes: Sequence[Minute], runs: Sequence[Run], found: Iterable[tuple[float, bool]]
) -> list[Chart]:
    """Those of a history; none if it is shorter than two minutes.

    Arguments: `found` has of each finding when it was first seen, in seconds since 1970, and
    whether it is a known defect.
    """
    if len(minutes) < 2:
        return []
    scale = _Scale(minutes, runs)
    firsts = sorted(found)
    return [
        scale.chart("executions", {"": [(one.seconds, one.executions) for one in minutes]}),
        scale.chart("inputs", {"": [(one.seconds, one.inputs) for one in minutes]}),
        scale.chart("cells", {"": [(one.seconds, one.cells) for one in minutes]}),
        scale.chart(
            "findings",
            {
                name: scale.risen([at for at, known in firsts if known is of_known])
                for name, of_known in (("unknown", False), ("known", True))
            },
        ),
    ]


class _Scale:
    """The time axis that all charts share."""

    def __init__(self, minutes: Sequence[Minute], runs: Sequence[Run]) -> None:
        self._minutes = minutes
        self._end = max(minutes[-1].seconds, 1.0)
        step = next((step for step in _STEPS if self._end / step <= 5), _STEPS[-1])
        self._times = tuple(
            Tick(self._x(at), duration(at) if at else "0")
            for at in range(0, floor(self._end) + 1, step)
        )
        self._bands = tuple(
            Band(
                self._x(run.before.seconds),
                self._x(run.life.seconds) - self._x(run.before.seconds),
                run.about.name,
                number % 2 == 1,
            )
            for number, run in enumerate(runs)
        )

    def _x(self, seconds: float) -> float:
        share = min(max(seconds / self._end, 0.0), 1.0)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def fuzzed(self, at: float) -> float:
        """How many seconds had been fuzzed at a time."""
        number = bisect_right(self._minutes, at, key=lambda minute: minute.at)
        if number == 0:
            return 0.0
        minute = self._minutes[number - 1]
        before = self._minutes[number - 2].seconds if number > 1 else 0.0
        return min(before + at - minute.at, minute.seconds)

    def risen(self, times: Sequence[float]) -> list[Point]:
        """How many there were, as they came, in steps."""
        points: list[Point] = [(0.0, 0.0)]
        for number, at in enumerate(times):
            points += [(self.fuzzed(at), float(number)), (self.fuzzed(at), number + 1.0)]
        return [*points, (self._end, float(len(times)))]

    def chart(self, title: str, lines: dict[str, list[Point]]) -> Chart:
        """The chart of some lines, from zero to the highest of their values."""
        most = max((value for points in lines.values() for _, value in points), default=0.0)
        top, step = _round(most)

        def y(value: float) -> float:
            return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top, 1)

        values = [
            Tick(y(number * step), count(number * step)) for number in range(_ticks(top, step))
        ]
        curves = [self._curve(name, points, y) for name, points in lines.items()]
        return Chart(title, tuple(curves), self._times, tuple(values), self._bands)

    def _curve(self, name: str, points: Sequence[Point], y: Callable[[float], float]) -> Curve:
        placed = [(self._x(seconds), y(value)) for seconds, value in _thinned(points)]
        apart = [one for one, before in zip(placed, [None, *placed], strict=False) if one != before]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in apart)
        return Curve(name, path, placed[-1], count(points[-1][1]))


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """No more points than can be seen: of each stretch the first, and the last of all."""
    stride = -(-len(points) // _MOST_POINTS)
    return [*points[::stride], points[-1]]


def _round(most: float) -> tuple[float, float]:
    """The top of an axis and the step between its ticks, for values up to `most`."""
    if most <= 0:
        return 1.0, 1.0
    power = 10.0 ** floor(log10(most))
    step = next(one * power for one in (0.2, 0.5, 1.0, 2.0) if most / (one * power) <= 5)
    step = max(step, 1.0)
    return step * -(-most // step), step


def _ticks(top: float, step: float) -> int:
    return round(top / step) + 1
