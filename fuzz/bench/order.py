"""What keeping things in order costs: `python -m fuzz.bench order`.

VMAs lie in plain lists that are searched by bisect, the pages of an object in a plain dictionary.
The alternative for both is a SortedDict.  Each line does the same with either, for some number of
VMAs, or of pages.
"""

import argparse
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, MutableMapping
from itertools import chain
from random import Random
from typing import NamedTuple

from sortedcontainers import SortedDict

VMAS = (10, 100, 1_000, 10_000, 65_000)
PAGES = (512, 4_096, 16_384)
_SLOT = 512  # pages that come at once
_TIMES, _REPEATS = 1_000, 5

Pages = MutableMapping[int, int]


class Row(NamedTuple):
    """What is done, and the nanoseconds that it takes in a plain list or dict, and in order."""

    what: str
    plain: float
    ordered: float


def nanoseconds(work: Callable[[], object], times: int = 1) -> float:
    """CPU time of one of the `times` pieces of `work`; the best of a few trials."""
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.process_time_ns()
        work()
        best = min(best, time.process_time_ns() - start)
    return best / times


def vma_rows(count: int) -> Iterator[Row]:
    """With `count` VMAs: find one, add one and take it out."""
    random = Random(1)
    starts = sorted(random.sample(range(1 << 40), count))
    vmas, tree = starts.copy(), SortedDict(zip(starts, starts, strict=True))
    probes = random.sample(range(starts[0] + 1, 1 << 40), _TIMES)
    new = [probe for probe in probes if probe not in tree]

    def find_in_lists() -> None:
        for at in probes:
            vmas[bisect_right(starts, at) - 1]

    def find_in_tree() -> None:
        for at in probes:
            tree.peekitem(tree.bisect_right(at) - 1)

    def change_lists() -> None:
        for at in new:
            position = bisect_left(starts, at)
            starts.insert(position, at)
            vmas.insert(position, at)
        for at in new:
            position = bisect_left(starts, at)
            del starts[position], vmas[position]

    def change_tree() -> None:
        for at in new:
            tree[at] = at
        for at in new:
            del tree[at]

    find = nanoseconds(find_in_lists, _TIMES), nanoseconds(find_in_tree, _TIMES)
    yield Row(f"find the VMA at an address, of {count}", *find)
    change = nanoseconds(change_lists, len(new)), nanoseconds(change_tree, len(new))
    yield Row(f"add one and remove it, of {count}", *change)


def page_rows(count: int) -> Iterator[Row]:
    """An object of `count` pages: fill it, list what is to go when its second half is cut off."""

    def filled(pages: Pages) -> Pages:
        for first in range(0, count, _SLOT):
            slot = range(first, first + _SLOT)
            pages.update(zip(slot, slot, strict=True))
        return pages

    plain, ordered, low = filled({}), SortedDict(filled({})), count // 2
    yield Row(
        f"fill an object of {count} pages, each",
        nanoseconds(lambda: filled({}), count),
        nanoseconds(lambda: filled(SortedDict()), count),
    )
    yield Row(
        f"list its second half, {count - low} pages, each",
        nanoseconds(lambda: sorted(page for page in plain if low <= page), count - low),
        nanoseconds(lambda: list(ordered.irange(low)), count - low),
    )


def order(_: argparse.Namespace) -> None:
    """Print the table."""
    print(f"nanoseconds, best of {_REPEATS}, Python {sys.version.split()[0]}")
    print(f"{'':48}{'plain':>10}{'SortedDict':>12}")
    for what, plain, ordered in chain(*map(vma_rows, VMAS), *map(page_rows, PAGES)):
        print(f"{what:48}{plain:10.0f}{ordered:12.0f}")
