"""The matrix of findings and kernels: a strip for each finding, a column for each kernel.

In a strip, a block stands where runs have met the finding, and a line where its case shows it.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, Self

from engine.base.kernel import base_of, releases
from engine.base.release import OLDEST, Release, release
from fuzz.matrix import in_short

STEP, HEIGHT = 6, 14  # of a column, and of a strip, in units that the page scales
_LABEL_COLUMNS = 5  # that a label takes
_LONG_TERM = ("5.4", "5.10", "5.15", "6.1", "6.6", "6.12", "6.18")  # releases that many still run


class Label(NamedTuple):
    """What stands above a column."""

    at: int
    text: str


class Strip(NamedTuple):
    """The row of a finding: paths as SVG has them, its columns, and the same in words."""

    met: str
    shows: str
    columns: tuple[int, ...]
    words: str


@dataclass(frozen=True)
class Columns:
    """The kernels, by name: releases first, as they came, then all others."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, met: Iterable[str]) -> Self:
        """All releases that differ from the one before, and what else was `met`."""
        names = {*(kernel.name for kernel in releases()), *met}
        return cls(tuple(sorted(names, key=_order)))

    @property
    def width(self) -> int:
        """Of a strip."""
        return STEP * len(self.names)

    @property
    def labels(self) -> Iterator[Label]:
        """Those that have room, above the columns that they are about."""
        free = 0
        first, *_, last = range(len(self.names))
        series = [_label(name) for name in self.names]
        known = [series.index(name) for name in _LONG_TERM if name in series]
        for at in (first, *known, last):
            if at >= free and (at == last or at + _LABEL_COLUMNS <= last):
                yield Label(at * STEP, series[at])
                free = at + _LABEL_COLUMNS

    @cached_property
    def grid(self) -> str:
        """Lines below the labels, as SVG has paths: in each strip, as a <use> takes longer."""
        return "".join(f"M{label.at - 0.5} 0v{HEIGHT}" for label in self.labels)

    def strip(self, met: Collection[str], shows: Collection[str]) -> Strip:
        """That of a finding."""
        columns = {name: number for number, name in enumerate(self.names)}
        met_at = sorted(columns[name] for name in met if name in columns)
        shows_at = sorted(columns[name] for name in shows if name in columns)
        words = [
            f"{what} {told(names)}"
            for what, names in (("met on", met), ("shows on", shows))
            if names
        ]
        return Strip(
            _path(met_at, 3, HEIGHT - 6),
            _path(shows_at, HEIGHT // 2 - 1, 2),
            tuple(sorted({*met_at, *shows_at})),
            "; ".join(words) or "not known",
        )


def told(names: Iterable[str]) -> str:
    """Names of kernels for people: 5.0 to 6.6, 6.12."""
    return ", ".join(name.removeprefix("linux-") for name in in_short(names))


def _path(columns: Sequence[int], top: int, height: int) -> str:
    """Rectangles over columns, those side by side as one."""
    parts = []
    for _, run in groupby(enumerate(columns), lambda one: one[1] - one[0]):
        together = [column for _, column in run]
        width = STEP * len(together) - 1
        parts.append(f"M{together[0] * STEP} {top}h{width}v{height}h-{width}z")
    return "".join(parts)


def _order(name: str) -> tuple[bool, Release, str]:
    """Releases as they came, then others as their bases came."""
    own = _at(name)
    return own is None, own or _at(base_of(name)) or Release(OLDEST, 0), name


def _at(name: str) -> Release | None:
    """The release of that name; None if it is none."""
    with suppress(ValueError):
        return release(name.removeprefix("linux-"))
    return None


def _label(name: str) -> str:
    """The series that a kernel is of."""
    at = _at(name)
    return str(at.series) if at else "own"
