"""Releases of Linux, and intervals of them: when a behaviour held.

A release is a series, such as 6.12, and a point release of it.  What a series does is known from
the kernel it began with; stable releases change that when a fix is carried back to them.  So an
interval says from which series to which, and at which point releases older series joined or left.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

LATEST = 1 << 32  # the point of a release that is named without one: the last one known
LAST_MINOR = {5: 19, 6: 19}  # after 5.19 came 6.0, after 6.19 came 7.0
_RELEASE = re.compile(r"([1-9]\d*)\.(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?")


class Series(NamedTuple):
    """A kernel and its stable releases, such as 6.12."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Release(NamedTuple):
    """One release of a series; 6.12 itself is its point 0."""

    series: Series
    point: int

    def __str__(self) -> str:
        return str(self.series) if self.point == LATEST else f"{self.series}.{self.point}"


OLDEST = Series(5, 0)  # of those that are modelled


def release(text: str) -> Release:
    """The release that is written "6.12.44", or "6.12": the last one known of that series.

    Errors raised: ValueError for another form.
    """
    found = _RELEASE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no release; write 6.12 or 6.12.44")
    major, minor, point = found.groups()
    return Release(Series(int(major), int(minor)), LATEST if point is None else int(point))


def series(text: str) -> Series:
    """The series that is written "6.12".  Errors raised: ValueError for another form."""
    found = release(text)
    if found.point != LATEST:
        raise ValueError(f"{text!r} is a point release, not a series")
    return found.series


class By(NamedTuple):
    """A change that this point release has; some release before it may have been the first."""

    point: int


def by(point: int) -> By:
    """For `stable=` and `fixed=`: the exact release is not known, but this one has the change."""
    return By(point)


Stable = Mapping[str, int | By]  # by series


@dataclass(frozen=True, slots=True)
class Span:
    """From a series to a series.

    `first` and `last` are the first and last series that had it when they began; `last` None: it
    is still there.  `changes` are the stable releases at which other series joined, or series
    inside left; `guessed` those series of which only an upper bound is known; `unknown` those that
    may have changed, nobody knows when: they count as unchanged.
    """

    first: Series
    last: Series | None
    changes: Mapping[Series, int]
    guessed: frozenset[Series]
    unknown: tuple[Series, ...]

    def holds(self, at: Release) -> bool:
        """True if it held in that release."""
        began_so = self.first <= at.series and (self.last is None or at.series <= self.last)
        change = self.changes.get(at.series)
        return began_so if change is None or at.point < change else not began_so

    def series(self) -> Iterator[Series]:
        """Every series that it names."""
        yield self.first
        if self.last is not None:
            yield self.last
        yield from self.changes
        yield from self.unknown

    def __str__(self) -> str:
        if self.last is None:
            told = f"since {self.first}"
        elif self.first == self.last:
            told = f"{self.first}"
        elif self.first == OLDEST:
            told = f"until {self.last}"
        else:
            told = f"{self.first} to {self.last}"
        for name in sorted(self.changes, reverse=True):
            gone = "" if name < self.first else "gone in "
            bound = " at the latest" if name in self.guessed else ""
            told += f", {gone}{name}.{self.changes[name]}{bound}"
        if self.unknown:
            told += f" (not known of {', '.join(map(str, self.unknown))})"
        return told


@dataclass(frozen=True, slots=True)
class Interval:
    """When a behaviour held: in any of some spans.  None at all: in no release."""

    spans: tuple[Span, ...] = ()

    def holds(self, at: Release) -> bool:
        """True if it held in that release."""
        return any(span.holds(at) for span in self.spans)

    def series(self) -> Iterator[Series]:
        """Every series that it names."""
        for span in self.spans:
            yield from span.series()

    def __or__(self, other: "Interval") -> "Interval":
        return Interval(self.spans + other.spans)

    def __str__(self) -> str:
        return "; ".join(map(str, self.spans)) or "in no release"


def _span(first: Series, last: Series | None, changes: Stable, unknown: Iterable[str]) -> Interval:
    points = {series(name): at if isinstance(at, int) else at.point for name, at in changes.items()}
    guessed = frozenset(series(name) for name, at in changes.items() if isinstance(at, By))
    return Interval((Span(first, last, points, guessed, tuple(map(series, unknown))),))


def since(first: str, *, stable: Stable | None = None, unknown: Iterable[str] = ()) -> Interval:
    """From a series on.

    Arguments: `stable` the point releases of older series that it was carried back to; `unknown`
    series that may have it, too.
    """
    return _span(series(first), None, stable or {}, unknown)


def between(
    first: str, last: str, *, fixed: Stable | None = None, unknown: Iterable[str] = ()
) -> Interval:
    """From a series to a series, both included.

    Arguments: `fixed` the point releases at which it ended in series inside; `unknown` series in
    which it may have ended.
    """
    return _span(series(first), series(last), fixed or {}, unknown)


def until(last: str) -> Interval:
    """From before what is modelled to a series, that included."""
    return _span(OLDEST, series(last), {}, ())


never = Interval()  # a fix that no release has, or a defect that none had
