"""What faults of all kinds share: pages that could not be had, ranges slot by slot, fresh pages."""

from collections.abc import Iterable, Sequence

from engine.base.address import round_down
from engine.base.entry import PFN_SHIFT, leaf
from engine.state.space import AddressSpace
from engine.state.table import Table


class Faulted:
    """Pages that an access could not reach, as runs of (first address in bytes, pages)."""

    __slots__ = ("bus", "segv")

    def __init__(self) -> None:
        self.segv: list[tuple[int, int]] = []
        self.bus: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self.segv or self.bus)


def note(runs: list[tuple[int, int]], start: int, pages: int, page_shift: int) -> None:
    """Append a run, joined to the last one if it follows it."""
    if runs and runs[-1][0] + (runs[-1][1] << page_shift) == start:
        runs[-1] = (runs[-1][0], runs[-1][1] + pages)
    else:
        runs.append((start, pages))


def slots_of(space: AddressSpace, start: int, end: int) -> list[tuple[int, int]]:
    """[start, end) cut at slot boundaries, bytes."""
    slot = space.geometry.slot_bytes
    stop = round_down(start, slot) + slot
    slots = []
    while stop < end:
        slots.append((start, stop))
        start, stop = stop, stop + slot
    if start < end:
        slots.append((start, end))
    return slots


def enter_new(
    space: AddressSpace,
    table: Table,
    indices: Sequence[int],
    linear: Iterable[int],
    tags: Iterable[int],
    owner: object,
    flags: int,
) -> int:
    """Put fresh frames into entries of a PTE table.

    Arguments: `indices` in the table, and as many `linear` page indices and contents.
    Returns: the number of the first frame; the others follow.
    """
    pfn = space.frames.allocate(tags, linear, owner)
    low, step = leaf(pfn, flags), 1 << PFN_SHIFT
    leaves = range(low, low + len(indices) * step, step)
    space.tree.put_all(table, indices, leaves)
    return pfn
