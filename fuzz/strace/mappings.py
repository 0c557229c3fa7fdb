"""What a traced process has mapped, as far as its log tells: ranges of real addresses, in bytes."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.base.uapi import (
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
)

# Advice that stays with a mapping: which other advice each takes the place of.
_LASTING = (
    (MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL),
    (MADV_HUGEPAGE, MADV_NOHUGEPAGE),
    (MADV_DOFORK, MADV_DONTFORK),
    (MADV_DODUMP, MADV_DONTDUMP),
    (MADV_KEEPONFORK, MADV_WIPEONFORK),
    (MADV_UNMERGEABLE, MADV_MERGEABLE),
)
_GROUPS = {advice: group for group in _LASTING for advice in group}
_USUAL = frozenset(group[0] for group in _LASTING if group[0] != MADV_HUGEPAGE)


class Kind(NamedTuple):
    """How something is mapped: with which operands of mmap, and what was done to it since.

    `file` tells the file from others, "" if there is none; `base` the address at which it begins,
    or would.
    """

    prot: int
    flags: int
    advice: tuple[int, ...] = ()
    locked: bool = False
    sealed: bool = False
    file: str = ""
    base: int = 0

    def advised(self, advice: int) -> "Kind":
        """The same after madvise, if that leaves a trace."""
        group = _GROUPS.get(advice)
        if group is None:
            return self
        left = [each for each in self.advice if each not in group]
        return self._replace(advice=tuple(left if advice in _USUAL else sorted([*left, advice])))


UNSEEN = Kind(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)  # what was there before a log


class Mapping(NamedTuple):
    """A range [start, end) and how it is mapped."""

    start: int
    end: int
    kind: Kind


class Mappings:
    """Disjoint mappings in the order of their addresses; neighbours of one kind are one."""

    __slots__ = ("_all", "_starts")

    def __init__(self, mappings: "Mappings | None" = None) -> None:
        """Empty, or a copy of others."""
        self._all: list[Mapping] = list(mappings._all) if mappings else []
        self._starts: list[int] = list(mappings._starts) if mappings else []

    def __len__(self) -> int:
        return len(self._all)

    def over(self, start: int, end: int) -> Iterator[Mapping]:
        """The mappings of which a part lies in [start, end)."""
        first, last = self._touched(start, end)
        yield from self._all[first:last]

    def holes(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges in [start, end) where nothing is mapped."""
        found = []
        for each in self.over(start, end):
            if start < each.start:
                found.append((start, each.start))
            start = each.end
        if start < end:
            found.append((start, end))
        return found

    def put(self, start: int, end: int, kind: Kind) -> None:
        """Map a range, in place of what was there."""
        if start < end:
            self._replace(start, end, [Mapping(start, end, kind)])

    def cut(self, start: int, end: int) -> None:
        """Unmap a range."""
        if start < end:
            self._replace(start, end, [])

    def change(self, start: int, end: int, how: Callable[[Kind], Kind]) -> None:
        """Change what is mapped in a range."""
        self._replace(
            start,
            end,
            [
                Mapping(max(each.start, start), min(each.end, end), how(each.kind))
                for each in self.over(start, end)
            ],
        )

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        """The first and the last index, exclusive, of those that a range overlaps."""
        first = bisect_right(self._starts, start)
        if first and self._all[first - 1].end > start:
            first -= 1
        return first, max(bisect_left(self._starts, end), first)

    def _replace(self, start: int, end: int, by: list[Mapping]) -> None:
        first, last = self._touched(start, end)
        if first < last:
            low, high = self._all[first], self._all[last - 1]
            if low.start < start:
                by.insert(0, low._replace(end=start))
            if high.end > end:
                by.append(high._replace(start=end))
        # Those beside it may become one with it.
        if first and self._all[first - 1].end == (by[0].start if by else start):
            first -= 1
            by.insert(0, self._all[first])
        if last < len(self._all) and by and by[-1].end == self._all[last].start:
            by.append(self._all[last])
            last += 1
        joined: list[Mapping] = []
        for each in by:
            if joined and joined[-1].end == each.start and joined[-1].kind == each.kind:
                joined[-1] = joined[-1]._replace(end=each.end)
            else:
                joined.append(each)
        self._all[first:last] = joined
        self._starts[first:last] = [each.start for each in joined]
