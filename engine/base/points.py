"""Points: moments of a call at which another actor may come in between, or something is told.

The model runs one call at a time, the kernel does not.  Whoever takes or drops locks announces the
moments that matter, with the range that is worked on and the locks that are held there.  Rules,
state feedback and drawings listen, each to the points that it names; a point that nobody listens to
is not even made.

What may happen at a point follows from `held`.  Without the mmap lock nobody is kept away; with
MMAP_READ those that change VMAs are, with MMAP_WRITE faults are, too.  A walk of the reverse map
(reclaim, migration, collapse of a shared object) asks for neither, but for the ANON_VMA or I_MMAP
of the pages in question.  With PAGE_TABLES nobody else changes their entries; other CPUs always
reach memory through their TLBs.  Model: locks for reading are told from those for writing of the
mmap lock only; a VMA's own lock (6.4) counts as MMAP_READ; that munmap goes on with MMAP_READ once
the VMAs are out is not told.

======================  =======================================  ==================================
point                   where                                    held
======================  =======================================  ==================================
enter, realigned,       move_page_tables(), move_hugetlb_page_   MMAP_WRITE; hugetlb: I_MMAP, too
iteration, skipped,     tables(): in the loop, between the
allocated, leave,       steps
alloc-failed,
huge-split
move-ptes, move-        those functions begin, with tables on    the same
normal-pmd, -pud,       both sides that were looked at without
move-huge-pmd           a lock
pmd-, pud-occupied      they refuse: the destination is not      and the rmap locks, if it takes any
                        none
ptes-, pmd-, pud-,      they are about to drop their locks       and PAGE_TABLES
huge-moved
vma-copied              move_vma(): both are there, nothing has  MMAP_WRITE
                        moved yet
mremap-unlocked         do_mremap(): monitors of userfaultfd     none
                        are told, locked memory is populated
relocate-vma-down       exec: the stack does not cover both      MMAP_WRITE
                        places yet
unmap-vmas              VMAs are taken out, pages still mapped   MMAP_WRITE
free-pgtables           pages are gone, tables still there       MMAP_WRITE
handle-mm-fault         before the tables of a slot are looked   MMAP_READ
                        at
alloc-charge-folio      MADV_COLLAPSE has looked at a slot and   none
                        lets go of it
collapse-huge-page      the PTE table is about to be taken away  MMAP_WRITE, ANON_VMA
collapse-file           the same of a shared object begins       none
retract-page-tables     one of its mappings loses the pages,     I_MMAP
                        maybe the table
try-to-unmap            reclaim comes to a VMA                   ANON_VMA
try-to-unmap-flush      entries are gone, TLBs are not flushed   none
try-to-migrate,         migration comes to a place where the     ANON_VMA or I_MMAP
remove-migration-ptes   folio may be mapped
acts, acted             somebody else begins, or has done, what  as at the point where that is
                        a program has planned for a point
======================  =======================================  ==================================
"""

from dataclasses import dataclass

from engine.base.address import Range

# Of a move
ENTER = "enter"  # before the first iteration, after realignment was decided
REALIGNED = "realigned"  # the starts were lowered
ITERATION = "iteration"
SKIPPED = "skipped"  # the source entry is none
ALLOCATED = "allocated"  # a destination table was allocated
ALLOC_FAILED = "alloc-failed"
MOVE_PTES = "move-ptes"
MOVE_PMD = "move-normal-pmd"
MOVE_PUD = "move-normal-pud"
MOVE_HUGE = "move-huge-pmd"
PTES_MOVED = "ptes-moved"
PMD_MOVED = "pmd-moved"
PUD_MOVED = "pud-moved"
HUGE_MOVED = "huge-moved"
HUGE_SPLIT = "huge-split"
PMD_OCCUPIED = "pmd-occupied"  # refused: the destination entry is not none
PUD_OCCUPIED = "pud-occupied"
LEAVE = "leave"

STEPS = frozenset(  # what a move has done so far
    (
        ENTER,
        REALIGNED,
        ITERATION,
        SKIPPED,
        ALLOCATED,
        ALLOC_FAILED,
        PTES_MOVED,
        PMD_MOVED,
        PUD_MOVED,
        HUGE_MOVED,
        HUGE_SPLIT,
        PMD_OCCUPIED,
        PUD_OCCUPIED,
        LEAVE,
    )
)

# Of the calls that move
VMA_COPIED = "vma-copied"
MREMAP_UNLOCKED = "mremap-unlocked"
RELOCATE_VMA_DOWN = "relocate-vma-down"

# Of everybody else
UNMAP_VMAS = "unmap-vmas"
FREE_PGTABLES = "free-pgtables"
HANDLE_MM_FAULT = "handle-mm-fault"
ALLOC_CHARGE_FOLIO = "alloc-charge-folio"
COLLAPSE_HUGE_PAGE = "collapse-huge-page"
COLLAPSE_FILE = "collapse-file"
RETRACT_PAGE_TABLES = "retract-page-tables"
TRY_TO_UNMAP = "try-to-unmap"
TRY_TO_UNMAP_FLUSH = "try-to-unmap-flush"
TRY_TO_MIGRATE = "try-to-migrate"
REMOVE_MIGRATION_PTES = "remove-migration-ptes"

# Of who comes in between
ACTS = "acts"
ACTED = "acted"

# Locks
NONE = 0
MMAP_READ = 1
MMAP_WRITE = 2
ANON_VMA = 4  # of the anon_vma that the pages belong to
I_MMAP = 8  # of the object that is mapped
PAGE_TABLES = 16  # those of the tables on both sides

RMAP = ANON_VMA | I_MMAP

# Points at which the model lets somebody else come in between, in the order in which a call comes
# to them, and the locks that are always held there; others may be held, too, as a `Point` says.
ALWAYS_HELD = {
    RELOCATE_VMA_DOWN: MMAP_WRITE,
    VMA_COPIED: MMAP_WRITE,
    ENTER: MMAP_WRITE,
    ITERATION: MMAP_WRITE,
    SKIPPED: MMAP_WRITE,
    ALLOCATED: MMAP_WRITE,
    MOVE_PTES: MMAP_WRITE,
    MOVE_PMD: MMAP_WRITE,
    MOVE_PUD: MMAP_WRITE,
    MOVE_HUGE: MMAP_WRITE,
    HUGE_SPLIT: MMAP_WRITE,
    PTES_MOVED: MMAP_WRITE | PAGE_TABLES,
    PMD_MOVED: MMAP_WRITE | PAGE_TABLES,
    PUD_MOVED: MMAP_WRITE | PAGE_TABLES,
    HUGE_MOVED: MMAP_WRITE | PAGE_TABLES,
    LEAVE: MMAP_WRITE,
    MREMAP_UNLOCKED: NONE,
}


@dataclass(slots=True)
class Point:
    """One moment: its name, the range [start, end) that is worked on, bytes, the locks held."""

    name: str
    start: int
    end: int
    held: int

    @property
    def where(self) -> Range:
        """The range that is worked on."""
        return Range(self.start, self.end)
