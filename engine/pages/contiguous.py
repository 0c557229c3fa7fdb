"""The contiguous bit of arm64: blocks of entries that map a large folio in a row.

The kernel sets the bit in all entries of a block where it can, and takes it from all of them when
one alone changes.  It shows: entries with and without it are no batch, so MADV_FREE, MADV_COLD and
MADV_PAGEOUT take a folio for mapped in part that has blocks of both kinds.  Model: a move, which
gives the bit to blocks that it moves as a whole, leaves it as it was.
Source: arch/arm64/mm/contpte.c, arch/arm64/include/asm/pgtable.h set_ptes(), since 6.9; measured on
7.3.4 (4 KiB pages).
"""

from collections.abc import Sequence

from engine.base.entry import ACCESSED, DIRTY, PFN_SHIFT, PRESENT, SOFT_DIRTY
from engine.state.space import AddressSpace
from engine.state.table import Table

_MAY_DIFFER = DIRTY | ACCESSED | SOFT_DIRTY


def entries_set(space: AddressSpace, table: Table, indices: Sequence[int]) -> None:
    """Entries of a PTE table were set anew, ascending: blocks set as a whole have the bit again.

    So has one of which the last entry is set alone, if it fits the others; until 6.16 each is.
    """
    size = space.geometry.contiguous_pages
    if size == 1 or not space.frames.large or not space.kernel.contiguous_entries:
        return
    there = set(indices)
    for block in dict.fromkeys(index // size for index in indices):
        first = block * size
        pfn = table.leaves.get(first, 0) >> PFN_SHIFT
        folio = pfn - pfn % space.geometry.slot_pages
        if folio not in space.frames.large:
            continue
        whole = there.issuperset(range(first, first + size))
        last, alone = first + size - 1, first + size - 2 not in there
        by_one = alone or not space.kernel.protects_batches
        parted = space.frames.parted.setdefault(folio, set())
        if whole or (last in there and by_one):
            parted.discard(pfn // size)
        else:
            parted.add(pfn // size)


def entry_set(space: AddressSpace, table: Table, index: int) -> None:
    """One entry alone has got other rights: its block loses the bit."""
    size = space.geometry.contiguous_pages
    if size == 1 or not space.frames.large or not space.kernel.contiguous_entries:
        return
    pfn = table.leaves[index] >> PFN_SHIFT
    folio = pfn - pfn % space.geometry.slot_pages
    if folio in space.frames.large:
        space.frames.parted.setdefault(folio, set()).add(pfn // size)


def are_alike(space: AddressSpace, table: Table, first: int, folio: int) -> bool:
    """Have all entries of a large folio the bit, or none?

    Arguments: `first` index of its entries, which follow each other in a PTE table.
    """
    size = space.geometry.contiguous_pages
    if size == 1 or first % size or folio not in space.frames.parted:
        return True
    leaves, parted = table.leaves, space.frames.parted[folio]

    def has_bit(at: int) -> bool:
        flags = {(leaves[i] & ((1 << PFN_SHIFT) - 1)) & ~_MAY_DIFFER for i in range(at, at + size)}
        return (
            (folio + at - first) // size not in parted
            and len(flags) == 1
            and min(flags) & PRESENT != 0
        )

    blocks = range(first, first + space.geometry.slot_pages, size)
    return len({has_bit(at) for at in blocks}) == 1
