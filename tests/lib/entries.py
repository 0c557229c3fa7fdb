"""Leaves of address spaces on the tiny geometry, and spaces with leaves of a kind."""

from engine.base.entry import (
    DIRTY,
    EXCLUSIVE,
    MIGRATION,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    SWAP,
    WRITE,
)
from engine.base.uapi import MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from engine.calls.madvise import madvise
from engine.calls.mmap import mmap
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from tests.lib.drawn import PAGE, SLOT, tiny

READ, RW = 1, 3
LETTERS = ((PRESENT, "P"), (WRITE, "W"), (DIRTY, "D"), (SOFT_DIRTY, "S"), (EXCLUSIVE, "X"))


def entry(space: AddressSpace, page: int) -> int | None:
    """The leaf of a page of the tiny geometry; for a huge one, that of its slot."""
    place = space.tree.leaf_place(page * PAGE)
    return None if place is None else place[0].leaves[place[1]]


def bits(space: AddressSpace, *pages: int) -> str:
    """The flags of some pages as letters, one word a page."""
    words = []
    for page in pages:
        found = entry(space, page)
        words.append("-" if found is None else "".join(c for bit, c in LETTERS if found & bit))
    return " ".join(words)


def mapped(kind: int, prot: int = RW, kernel: str = "linux-6.12", pages: int = 4) -> AddressSpace:
    """`pages` pages at page 16."""
    space = AddressSpace(tiny(kernel))
    size = pages * PAGE
    assert mmap(space, 4 * SLOT, size, prot, kind | MAP_ANONYMOUS | MAP_FIXED) == 4 * SLOT
    return space


def huge(kernel: str = "linux-6.12", slots: int = 1) -> AddressSpace:
    """Huge pages at page 16, written."""
    space = mapped(MAP_PRIVATE, RW, kernel, 4 * slots)
    assert madvise(space, 4 * SLOT, slots * SLOT, MADV_HUGEPAGE) is None
    assert not touch(space, 4 * SLOT, (4 + slots) * SLOT)
    return space


def frame(space: AddressSpace, page: int) -> int:
    """The frame that the leaf of a page of the tiny geometry is for."""
    found = entry(space, page)
    assert found is not None
    return found >> PFN_SHIFT


def kinds(space: AddressSpace, first: int, pages: int) -> str:
    """Each page: `P` present, `s` swapped, `m` under migration, `.` none."""
    found = [entry(space, page) for page in range(first, first + pages)]
    return "".join(
        "." if e is None else "s" if e & SWAP else "m" if e & MIGRATION else "P" for e in found
    )
