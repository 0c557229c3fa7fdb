"""A small choice of sets that has everything in it that all of them have."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def small_cover(sets: Mapping[_T, int]) -> list[_T]:
    """Some of the sets, which have together what all have, and none of which can be left out.

    As few as it takes is too much to ask for (it is NP-hard): the one that adds most is taken next,
    the first of equals, and what later ones have made needless is left out again.
    Arguments: `sets` are numbers, of which bit i stands for the i-th thing.
    Returns: those that are needed, in the order of `sets`.
    """
    # What one adds can only become less: so the best guess is looked at again, and the others,
    # whose guesses are lower, need not be.
    by_gain: dict[int, list[_T]] = {}
    for one, things in reversed(list(sets.items())):
        by_gain.setdefault(things.bit_count(), []).append(one)
    covered, chosen = 0, list[_T]()
    for gain in range(max(by_gain, default=0), 0, -1):
        waiting = by_gain.pop(gain, [])
        while waiting:
            one = waiting.pop()
            now = (sets[one] & ~covered).bit_count()
            if now == gain:
                chosen.append(one)
                covered |= sets[one]
            elif now:
                by_gain.setdefault(now, []).append(one)
    return _needed(sets, chosen)


def _needed(sets: Mapping[_T, int], chosen: Sequence[_T]) -> list[_T]:
    """Those without which something would be missing; the last ones added are asked first."""
    once = twice = 0  # what is in one of those left at least, and in two
    for one in chosen:
        twice |= once & sets[one]
        once |= sets[one]
    kept = set(chosen)
    for one in reversed(chosen):
        if not sets[one] & ~twice:
            kept.remove(one)
            once = twice = 0
            for other in chosen:
                if other in kept:
                    twice |= once & sets[other]
                    once |= sets[other]
    return [one for one in sets if one in kept]
