"""What a table of trials comes to: who found how much, when, and how sure that is.

A trial that found nothing took longer than it was given: how much longer is unknown, but that it
did counts (it is censored).  So medians come from the estimate of Kaplan and Meier, with intervals
of 95 %.  Of two contestants, A12 is the chance that a trial of the first finds a bug sooner than
one of the second, a tie counting half (Vargha and Delaney).
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import median
from typing import Literal, NamedTuple

from scipy.stats import CensoredData, ecdf

from fuzz.contest.trial import Played, Task

Axis = Literal["executions", "seconds"]
Row = tuple[Task, Played]
Stage = Literal["reached", "triggered", "found"]
CONFIDENCE = 0.95
SOON = 100  # executions: what is found in so many is found by one of the first programs


class Curve(NamedTuple):
    """The share of trials `left` behind each of the times, and between which it lies."""

    times: tuple[float, ...]
    left: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Median(NamedTuple):
    """When half of the trials have come so far, and the interval it lies in; inf: not yet."""

    value: float
    low: float
    high: float


class Cell(NamedTuple):
    """One contestant with one bug; counts of trials."""

    trials: int
    reached: int
    triggered: int
    found: int
    executions: Median
    seconds: Median


class Duel(NamedTuple):
    """This fuzzer beside another one.

    `both` bugs that either finds in half of its trials or more, `ratio` the median, over these, of
    its executions divided by the other's; `a12` the median over all bugs, by CPU time.  `late` of
    these the other finds after more than `SOON` executions; `late_ratio` is the median over them.
    """

    other: str
    both: int
    ratio: float
    late: int
    late_ratio: float
    seconds_ratio: float
    a12: float


def survival(rows: Iterable[Row], axis: Axis, stage: Stage = "found") -> Curve:
    """The share of trials that have not come so far yet."""
    seen: list[float] = []
    censored: list[float] = []
    for _, played in rows:
        moment = getattr(played, stage)
        (censored if moment is None else seen).append(getattr(moment or played.spent, axis))
    if not seen:
        return Curve((), (), (), ())
    left = ecdf(CensoredData(seen, right=censored)).sf
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        band = left.confidence_interval(
            CONFIDENCE, method="log-log"
        )  # undefined where none is left
    sides = (left, band.low, band.high)
    return Curve(tuple(left.quantiles), *(tuple(side.probabilities) for side in sides))


def median_of(rows: Sequence[Row], axis: Axis) -> Median:
    """When half of the trials have found it."""
    curve = survival(rows, axis)
    return Median(*(_until_half(curve.times, shares) for shares in curve[1:]))


def _until_half(times: Sequence[float], shares: Sequence[float]) -> float:
    return next((t for t, share in zip(times, shares, strict=True) if share <= 0.5), math.inf)


def cells(rows: Iterable[Row]) -> dict[tuple[str, str], Cell]:
    """By bug and contestant."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row[0].bug, row[0].contestant), []).append(row)
    return {
        key: Cell(
            len(some),
            _count(some, "reached"),
            _count(some, "triggered"),
            _count(some, "found"),
            median_of(some, "executions"),
            median_of(some, "seconds"),
        )
        for key, some in grouped.items()
    }


def _count(rows: Iterable[Row], stage: Stage) -> int:
    return sum(getattr(played, stage) is not None for _, played in rows)


def a12(rows: Sequence[Row], others: Sequence[Row]) -> float:
    """The chance that a trial of the first finds sooner, by CPU time, than one of the others."""
    if not rows or not others:
        return math.nan
    one, two = (
        [math.inf if played.found is None else played.found.seconds for _, played in some]
        for some in (rows, others)
    )
    won = sum(1.0 if a < b else 0.5 * (a == b) for a, b in product(one, two))
    return won / (len(one) * len(two))


def duel(rows: Sequence[Row], first: str, other: str) -> Duel:
    """One contestant beside another one, over all bugs."""
    known = cells(rows)
    ratios, late, seconds, chances = [], [], [], []
    for bug in sorted({task.bug for task, _ in rows}):
        a, b = known.get((bug, first)), known.get((bug, other))
        if a is None or b is None:
            continue
        sides = ([row for row in rows if row[0][:2] == (who, bug)] for who in (first, other))
        chances.append(a12(*sides))
        if math.isfinite(a.executions.value) and math.isfinite(b.executions.value):
            ratios.append(a.executions.value / b.executions.value)
            seconds.append(a.seconds.value / b.seconds.value)
            if b.executions.value > SOON:
                late.append(ratios[-1])
    ratio, late_ratio, seconds_ratio, chance = (
        median(some) if some else math.nan for some in (ratios, late, seconds, chances)
    )
    return Duel(other, len(ratios), ratio, len(late), late_ratio, seconds_ratio, chance)


def tables(rows: Sequence[Row], contestants: Mapping[str, str]) -> list[list[tuple[str, ...]]]:
    """What to print: each bug, each contestant, and this fuzzer beside each of the others."""
    known = cells(rows)
    names = [name for name in contestants if any(task.contestant == name for task, _ in rows)]
    bugs = list(dict.fromkeys(task.bug for task, _ in rows))
    each: list[tuple[str, ...]] = [("bug", *names)]
    for bug in bugs:
        there = (known.get((bug, name)) for name in names)
        each.append((bug, *("" if cell is None else _told(cell) for cell in there)))
    whole: list[tuple[str, ...]] = [
        ("contestant", "trials", "reached", "triggered", "found", "bugs found", "in all trials")
    ]
    for name in names:
        mine = [known[bug, name] for bug in bugs if (bug, name) in known]
        counts = (sum(column) for column in zip(*(cell[:4] for cell in mine), strict=True))
        some = sum(cell.found > 0 for cell in mine)
        every = sum(cell.found == cell.trials for cell in mine)
        whole.append((name, *map(str, counts), f"{some} of {len(mine)}", str(every)))
    beside: list[tuple[str, ...]] = [
        (
            f"{names[0]} beside",
            "bugs both find",
            "executions",
            f"after {SOON} programs",
            "executions",
            "CPU time",
            "A12",
        )
    ]
    for name in names[1:]:
        one = duel(rows, names[0], name)
        ratios = (f"{value:.3f}" for value in (one.ratio, one.late_ratio, one.seconds_ratio))
        ratio, late_ratio, seconds_ratio = ratios
        late = (str(one.late), late_ratio, seconds_ratio, f"{one.a12:.2f}")
        beside.append((name, str(one.both), ratio, *late))
    return [each, whole, beside]


def _told(cell: Cell) -> str:
    """How often it was found, and the median of executions."""
    value = cell.executions.value
    return f"{cell.found}/{cell.trials} {'-' if math.isinf(value) else f'{value:.0f}'}"
