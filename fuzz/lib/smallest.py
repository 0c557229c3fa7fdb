"""Which of many changes it takes."""

from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def smallest(changes: Sequence[_T], shows: Callable[[Sequence[_T]], bool]) -> list[_T]:
    """A subset of `changes` that still `shows`, and none of which can be left out.

    As in delta debugging, halves are left out first, then quarters, down to single ones.
    Arguments: `shows` holds of all of them; it answers alike for equal subsets.
    """
    best = list(changes)
    size = max(len(best) // 2, 1)
    while True:
        start, found = 0, False
        while start < len(best):
            fewer = best[:start] + best[start + size :]
            if shows(fewer):
                best, found = fewer, True
            else:
                start += size
        if size == 1 and not found:
            return best
        size = max(size // 2, 1)
