"""The signs and words of a drawing, and what they mean: `show --help` is made from these."""

from collections.abc import Iterator
from typing import Self


class Sign(str):
    """A sign as it is drawn, and its `meaning`."""

    __slots__ = ("meaning",)

    meaning: str

    def __new__(cls, text: str, meaning: str) -> Self:
        """Make one."""
        sign = super().__new__(cls, text)
        sign.meaning = meaning
        return sign


# Before a line: how it differs from the drawing before.
NEW = Sign("+", "new")
GONE = Sign("-", "gone")
CHANGED = Sign("~", "the same VMA or table in another state")
# Behind it.
HERE = Sign("<==", "where the rule is broken")

# In the bar of a table, its entries from low to high addresses.
FULL = Sign("#", "all entries of this part in use")
SOME = Sign("+", "some in use")
MAPPED = Sign(".", "none, but a VMA lies there")
BLANK = Sign(" ", "none, and no VMA")

# Behind the bar.
EMPTIED = Sign("emptied", "no entry is left, the table is still linked")
PREALLOCATED = Sign("preallocated", "linked from the start, as i386 PAE does")
IN_STORE = Sign("in store", "PTE tables kept for the day its huge pages are split")
NO_VMA = Sign("no VMA", "no VMA has a byte in the span of the table, or in the huge page")

# Behind a VMA.
UNFAULTED = Sign("unfaulted", "private memory that never had a page: no anon_vma")
FAULTED = Sign("faulted", "private memory that has an anon_vma")
OBJECT = Sign("object", "shared memory, and the number of its object")
FILE = Sign("file", "a file, and its letter")
MARKER = Sign("marker", "entries that are guards or uffd-wp markers")
LOCKED = Sign("locked", "VM_LOCKED")
HUGE = Sign("huge", "VM_HUGEPAGE")
NOHUGE = Sign("nohuge", "VM_NOHUGEPAGE")
PKEY = Sign("pkey", "a protection key forbids to read it")

# Titles.
VMAS = Sign("VMAs", "range, size, protection, pages that are present, page offset")
TABLES = Sign("tables", "address of the first entry, level (x3: three alike), entries in use")
FLAGS = Sign("flags", "other flags of VMAs; VM_ACCOUNT is among the counters")
CONTENTS = Sign("contents", "which page holds what: the number that touch wrote last")
MLOCKED = Sign("mlocked", "pages that stay locked, though their mapping is not locked any more")
SWAPPED = Sign("swapped out", "pages in swap")
UFFD_WP = Sign("uffd-wp", "entries that are write-protected for a userfaultfd")
SOFT_DIRTY = Sign("soft-dirty", "what was written since clear_refs, as /proc/PID/pagemap shows it")
TLBS = Sign("TLBs", "what other CPUs translate: frame, its content, permission")
STALE = Sign("stale", "the page tables say something else by now")
COUNTERS = Sign("counters", "what is counted, and the VMAs that count (VM_ACCOUNT)")

_LEGEND = {
    "before a line": (NEW, GONE, CHANGED),
    "behind a line": (HERE,),
    "VMAs": (VMAS, UNFAULTED, FAULTED, OBJECT, FILE, MARKER, LOCKED, HUGE, NOHUGE, PKEY),
    "tables": (TABLES, FULL, SOME, MAPPED, BLANK, EMPTIED, PREALLOCATED, IN_STORE, NO_VMA),
    "where they change or are what is wrong": (
        FLAGS,
        CONTENTS,
        MLOCKED,
        SWAPPED,
        UFFD_WP,
        SOFT_DIRTY,
        TLBS,
        STALE,
        COUNTERS,
    ),
}


def legend() -> Iterator[str]:
    """What each sign means, in lines."""
    width = max(len(sign) for signs in _LEGEND.values() for sign in signs)
    for where, signs in _LEGEND.items():
        yield f"{where}:"
        for sign in signs:
            shown = sign if sign.strip() else "blank"
            yield f"  {shown:{width}}  {sign.meaning}"
