"""What a page-table entry can hold.

A leaf is a plain int: flag bits below, the frame number above.  Entries that lead to a lower table
are kept apart (`engine.state.table`); what neither has is `p?d_none()`.  Ints, not flag objects: an
`IntFlag` operation costs forty times as much, and moves copy many entries.
"""

PRESENT = 1 << 0
WRITE = 1 << 1
DIRTY = 1 << 2
ACCESSED = 1 << 3
SOFT_DIRTY = 1 << 4
ANON = 1 << 5  # the frame is anonymous; otherwise the zero frame or a page of a shared object
HUGE = 1 << 6  # a leaf in a PMD table: maps a whole slot
MARKER = 1 << 7  # not present: a PTE marker; alone a guard, with UFFD_WP a mark for later
UFFD_WP = 1 << 8  # userfaultfd is to be told of writes, or of all accesses (VM_UFFD_RWP)
EXCLUSIVE = 1 << 9  # an anonymous page that no other process maps (PageAnonExclusive)
SWAP = 1 << 10  # not present: swapped out; the frame number is the swap slot
MIGRATION = 1 << 11  # not present: the page is being moved to another frame

PFN_SHIFT = 12
ZERO_PFN = 0  # the zero page, and as a huge leaf the huge zero page

WP_MARKER = MARKER | UFFD_WP  # a mark that says: write-protect the page once it is there
HUGE_WP_MARKER = WP_MARKER | HUGE  # the same of a huge page of hugetlb
ZERO_ENTRY = PRESENT | ACCESSED
WRITABLE = PRESENT | WRITE  # what a write needs; an entry under migration may have WRITE alone


def is_zero_page(entry: int) -> bool:
    """True for the shared zero page, whatever flags the entry has collected on its way."""
    return entry & PRESENT != 0 and entry >> PFN_SHIFT == ZERO_PFN


def is_guard(entry: int) -> bool:
    """True for a marker that makes access to the page an error."""
    return entry & (MARKER | UFFD_WP) == MARKER


def is_wp_marker(entry: int) -> bool:
    """True for a mark that says: write-protect the page once it is there."""
    return entry & WP_MARKER == WP_MARKER


def leaf(pfn: int, flags: int) -> int:
    """A leaf entry for frame `pfn`."""
    return pfn << PFN_SHIFT | flags
