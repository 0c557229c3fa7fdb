"""Where in the arena the addresses of a traced process go.

An address space of 47 bits does not fit into an arena of 39.  What lies in one 512 GiB keeps its
place there.  Else what is used goes together: blocks of 1 GiB, which a PUD entry covers, keep their
order, stay neighbours if they were, and have a free one between them if they were not.  So each
place keeps its alignment to pages, slots and PUD entries.
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

ARENA = 1 << 39
BLOCK = 1 << 30


class Run(NamedTuple):
    """Blocks that are neighbours: they begin at `start` and go to the offset `at` of the arena."""

    start: int
    end: int
    at: int


def blocks_of(start: int, end: int) -> range:
    """The numbers of the blocks in which a range has a part."""
    return range(start // BLOCK, (max(end, start + 1) - 1) // BLOCK + 1)


def room(blocks: Iterable[int], block: int = BLOCK, arena: int = ARENA) -> int:
    """How many blocks of the arena these take, with what is free between them.

    Arguments: `block` and `arena` bytes of a block, and of what all of them go to.
    """
    used = sorted(blocks)
    if used and used[0] * block // arena == used[-1] * block // arena:
        return 0  # they stay where they are
    return len(used) + sum(after != before + 1 for before, after in pairwise(used))


class Rebase:
    """Where blocks go; see above."""

    def __init__(self, blocks: Iterable[int], block: int = BLOCK, arena: int = ARENA) -> None:
        """Arguments: see `room`.  Precondition: `room` is no more than the arena has."""
        used = sorted(blocks)
        self._arena = arena
        self.stays = not room(used, block, arena)
        self.runs: list[Run] = []
        at = 0
        for number in used:
            start = number * block
            last = self.runs[-1] if self.runs else None
            if last is not None and last.end == start:
                self.runs[-1] = last._replace(end=start + block)
            else:
                at += block if last is not None else 0
                place = start % arena if self.stays else at
                self.runs.append(Run(start, start + block, place))
            at += block
        self._starts = [run.start for run in self.runs]

    def run_of(self, address: int) -> Run | None:
        """The run that an address lies in, or at whose end."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address > self.runs[index].end:
            return None
        return self.runs[index]

    def __call__(self, address: int) -> int | None:
        """The offset of an address; None: it is not among those that are used."""
        run = self.run_of(address)
        return None if run is None else address - run.start + run.at

    def told(self) -> str:
        """What was done to the addresses, in words."""
        if self.stays:
            start = self.runs[0].start // self._arena * self._arena if self.runs else 0
            return f"addresses are less {start:#x}" if start else "addresses are those of the log"
        moved = ", ".join(f"{run.start:#x} to {run.at:#x}" for run in self.runs)
        return f"addresses were moved together: {moved}"
