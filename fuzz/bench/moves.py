"""What a move costs: `python -m fuzz.bench moves`.

The cost of a move should follow the pages and tables that exist, not the length of the range.  Each
line moves one mapping on an x86-64 kernel, without rules; setting it up is not timed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence

from engine.base.kernel import kernel_named
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE
from engine.calls.mmap import mmap
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace

PAGE, SLOT, GIB = 1 << 12, 1 << 21, 1 << 30
OLD, NEW = 1 << 40, 1 << 42  # 512 GiB aligned, 3 TiB apart
_REPEATS = 15


def microseconds(length: int, pages: Sequence[int], offset: int = 0) -> float:
    """Median time of one move of `length` bytes with the given pages touched.

    Arguments: bytes; `pages` offsets from the start; `offset` of the destination from a place that
    is aligned to everything, so PAGE makes old and new differ in their slots.
    """
    kernel, new = kernel_named("linux-6.18"), NEW + offset
    samples = []
    for _ in range(_REPEATS):
        # A fresh space each time: an unaligned move leaves more tables than it found.
        space = AddressSpace(kernel)
        mmap(space, OLD, length, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
        for page in pages:
            touch(space, OLD + page, OLD + page + PAGE)
        start = time.perf_counter()
        moved = mremap(space, OLD, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, new)
        samples.append(time.perf_counter() - start)
        assert moved == new
    return statistics.median(samples) * 1e6


def spread(count: int, length: int) -> list[int]:
    """`count` page offsets spread evenly over `length` bytes."""
    return [i * (length // count) & -PAGE for i in range(count)]


def rows() -> Iterator[tuple[str, float]]:
    """What was moved, and the microseconds of one move."""
    yield "1 page", microseconds(PAGE, [0])
    yield "10 pages in a row", microseconds(10 * PAGE, spread(10, 10 * PAGE))
    yield "512 GiB, nothing touched", microseconds(512 * GIB, [])
    yield "512 GiB, 1 page touched", microseconds(512 * GIB, [0])
    yield "512 GiB by PUD entries, 10 pages touched", microseconds(512 * GIB, spread(10, 512 * GIB))
    yield (
        "512 GiB page by page, 10 pages touched",
        microseconds(512 * GIB, spread(10, 512 * GIB), PAGE),
    )


def slope(what: str, counts: Sequence[int], lengths: Sequence[int], offset: int) -> str:
    """Cost per further item between the smallest and the largest number of them."""
    times = [
        microseconds(length, spread(count, length), offset)
        for count, length in zip(counts, lengths, strict=True)
    ]
    each = (times[-1] - times[0]) / (counts[-1] - counts[0])
    listed = ", ".join(f"{count}: {time:.0f}" for count, time in zip(counts, times, strict=True))
    return f"{what:<42}{each:9.2f} us each   ({listed})"


def moves(_: argparse.Namespace) -> None:
    """Print the table."""
    print(f"one move, median of {_REPEATS}, Python {sys.version.split()[0]}")
    for what, time_us in rows():
        print(f"{what:<42}{time_us:9.1f} us")
    print("slopes (number of items: us)")
    counts = [1, 8, 64, 511]
    print(slope("pages of one slot, moved by PTE", counts, [SLOT] * 4, PAGE))
    print(slope("PTE tables, moved by PMD entry", counts, [n * SLOT for n in counts], 0))
    print(slope("PMD tables, moved by PUD entry", counts, [n * GIB for n in counts], 0))
