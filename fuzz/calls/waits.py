"""What others wait for who are to make a call in the middle of another one, and so cannot be there.

What each call asks for:

=====================  ==================================================================  ========
who                    waits for                                                           source
=====================  ==================================================================  ========
mmap(), munmap(),      mmap_lock for writing                                               1
mremap(), fork() …
uffd_wp(), uffd_rwp()  mmap_lock for reading                                               1
madvise()              the same, or for writing where it changes VMAs; since 6.17          7
                       DONTNEED and FREE of one VMA without a userfaultfd just the lock of
                       that (64 bits)
touch(), peek()        nothing where the page tables, or a TLB, say enough.  A fault:      2
                       mmap_lock for reading; since 6.4 in private memory that has an
                       anon_vma, and since 6.7 in shared memory, just the lock of its
                       VMA (64 bits): a move holds those of source and copy, of what
                       they merge with, and of what was split off to make room
touch_on()             nothing: the hardware walks the tables
swapout()              anon_vma lock or i_mmap_rwsem of the pages, page table lock         3
migrate_begin(),       the same                                                            4
migrate_end()
collapse_file()        i_mmap_rwsem and page table lock; of the mmap lock no more than     5
                       a try (until 6.5), without which it leaves the tables
ftruncate(),           i_mmap_rwsem and page table lock, for each mapping that loses       6
fallocate()            pages; none of the mmap lock
=====================  ==================================================================  ========

1 mmap_write_lock_killable(), mmap_read_lock(): mm/mmap.c, mm/madvise.c, fs/userfaultfd.c,
dup_mmap().  2 lock_vma_under_rcu(), 6.4; vmf_can_call_fault(), 6.7; __vmf_anon_prepare() tries the
mmap lock (6.12, 7.3).  vma_start_write(): move_vma(), vma_link(), vma_expand(), __split_vma(), the
same in 6.12 and 7.3; it ends with mmap_write_unlock().  3 rmap_walk_anon(), __rmap_walk_file(),
try_to_unmap_one(): mm/rmap.c, 7.3; folio_referenced() before them tries the lock, and lets a page
be that it does not get.  4 the same, try_to_migrate_one(), remove_migration_pte().  5
retract_page_tables(), without any mmap lock since 1d65b771bc08.  6 unmap_mapping_pages(),
zap_page_range_single(): mm/memory.c, 6.12, 7.3; a page that migrates is waited for by its lock.
7 get_lock_mode(), is_vma_lock_sufficient(): mm/madvise.c, 7.3; madvise_need_mmap_write(), 6.12,
which knows no such lock; that 6.17 and 6.18 have it is inferred.  7.3 does without the mmap lock
for guard pages, too.

Exec has no other thread when it moves its stack.  Migration passes that over (try_to_migrate(),
vma_is_temporary_stack()); reclaim does not, but it looks at the new place of a page only: its VMA
covers both places with the offset of the new one (relocate_vma_down()).  `relocate`, which no
kernel makes elsewhere, has nobody come in between.

What a monitor does to pages, UFFDIO_COPY, ZEROPAGE, MOVE, is no call of the model: it takes the
lock of the VMA, or of both (uffd_mfill_lock(), uffd_move_lock(), 6.12, 7.3), which a move holds,
and is refused (mmap_changing) until the monitor has read of the move.  So it may come in beside.
MADV_COLLAPSE and khugepaged want the mmap lock for private memory, fork for writing.

At mremap-unlocked the mmap lock is dropped, and neither monitors are told nor is locked memory
populated: all may come that change no VMA.  Who faults where a monitor is yet to be told waits for
it, since its answers are refused (mmap_changing, EAGAIN); what the call has left is not judged then
but by the rules on states and by the oracle.

Model: calls that change VMAs, and advice that does or has to do with guard pages, wait always;
locks for reading are taken for those for writing, any of the locks of the reverse map for
that of the pages in question, VMAs beside source and copy for such as were split.  Reclaim leaves
all of a stack alone that is on its way; faults under userfaultfd (which 6.6 lets go on), of pages
in swap, and reads where there is no anon_vma wait.  So some that would not wait do not run.
"""

from collections.abc import Sequence

from engine.base.entry import MIGRATION, SWAP
from engine.base.points import (
    ALWAYS_HELD,
    ANON_VMA,
    I_MMAP,
    MMAP_READ,
    MMAP_WRITE,
    PAGE_TABLES,
    RELOCATE_VMA_DOWN,
    RMAP,
    Point,
)
from engine.base.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_WILLNEED,
)
from engine.move import MovePoint
from engine.pages.access import translation
from engine.pages.rmap import may_migrate
from engine.state.space import AddressSpace
from engine.state.vma import VM_HUGETLB, VM_SHARED, VM_UFFD, Vma
from fuzz.calls.syscall import Syscall

MMAP_LOCK, VMA_LOCK, PAGE_LOCK = "mmap_lock", "the VMA's lock", "the lock of the page"
MONITOR = "the monitor, which is told of the call first"
_LOCKS = {ANON_VMA: "the anon_vma lock", I_MMAP: "i_mmap_rwsem", PAGE_TABLES: "page table locks"}
# Advice that changes no VMA, and that of it which looks at one VMA only.
_OF_ONE_VMA = frozenset((MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE))
_WITHOUT_CHANGE = _OF_ONE_VMA | {
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_WILLNEED,
}


def conflict(held: int, needs: int) -> str:
    """The lock that somebody would wait for who `needs` these, while others are `held`; or ""."""
    if (needs & (MMAP_READ | MMAP_WRITE) and held & MMAP_WRITE) or (
        needs & MMAP_WRITE and held & MMAP_READ
    ):
        return MMAP_LOCK
    return next((name for lock, name in _LOCKS.items() if held & needs & lock), "")


def why_not(base: Syscall, point: str) -> str:
    """Why nobody can make that call at a point, whatever the program; "" if somebody can."""
    if lock := conflict(ALWAYS_HELD[point], base.needs):
        how = "for writing " if lock == MMAP_LOCK else ""
        return f"{base.name} waits for {lock}, which is held {how}at {point}"
    return "" if base.acts else f"{base.name} is not made in the middle of other calls yet"


def waits_for(space: AddressSpace, point: Point, base: Syscall, args: Sequence[int]) -> str:
    """The lock that the call, with these operands, would wait for now; or ""."""
    for_stack = point.name == RELOCATE_VMA_DOWN or (
        isinstance(point, MovePoint) and point.move.for_stack
    )
    passed_over = any(not may_migrate(vma) for vma in space.vmas)
    if (
        (for_stack or passed_over)
        and base.acts is not None
        and (base.acts.by_thread or base.name == "swapout" or not passed_over)
    ):
        return "the end of the exec"
    if lock := conflict(point.held, base.needs):
        return lock
    if space.walking and base.needs & RMAP:
        return PAGE_LOCK
    if base.name == "madvise":
        return _advice_waits(space, point.held, *args)
    if base.name in ("touch", "peek"):
        return _fault_waits(space, point.held, args, write=base.name == "touch")
    return ""


def _advice_waits(space: AddressSpace, held: int, addr: int, length: int, advice: int) -> str:
    """The lock that madvise waits for."""
    if space.walking:
        return PAGE_LOCK
    if advice not in _WITHOUT_CHANGE:
        return MMAP_LOCK
    if not held & MMAP_WRITE:
        return ""
    vma = space.vmas.lookup(addr)
    if (
        advice not in _OF_ONE_VMA
        or not space.kernel.vma_lock_madvise
        or vma is None
        or vma.end < addr + length
        or not _has_a_lock(space, vma)
    ):
        return MMAP_LOCK
    return VMA_LOCK if _is_write_locked(space, vma) else ""


def _fault_waits(space: AddressSpace, held: int, args: Sequence[int], *, write: bool) -> str:
    """The lock that an access waits for because of a fault at one of its pages."""
    page = space.geometry.page_bytes
    start, end = args[0] & -page, args[0] + args[1]
    for addr in range(start, end if args[1] else start, page):
        found = translation(space, addr)
        if found is not None and (found[2].writable or not write):
            continue
        if held & PAGE_TABLES:
            return _LOCKS[PAGE_TABLES]
        if space.walking:
            return PAGE_LOCK
        vma = space.vmas.lookup(addr)
        if vma is None:
            return MMAP_LOCK  # also where a stack may grow
        if not held & MMAP_WRITE:
            if vma.uffd is not None and vma.uffd.changing:
                return MONITOR
        elif not _takes_vma_lock(space, vma, addr):
            return MMAP_LOCK
        elif _is_write_locked(space, vma):
            return VMA_LOCK
    return ""


def _takes_vma_lock(space: AddressSpace, vma: Vma, addr: int) -> bool:
    """Does a fault there do with the lock of its VMA?"""
    if vma.flags & VM_HUGETLB or not _has_a_lock(space, vma):
        return False
    place = space.tree.leaf_place(addr)
    if place is not None and place[0].leaves[place[1]] & (SWAP | MIGRATION):
        return False
    if not vma.flags & VM_SHARED and vma.anon_vma is None:
        return False
    return space.kernel.vma_lock_faults if vma.is_anonymous else space.kernel.vma_lock_faults_shared


def _has_a_lock(space: AddressSpace, vma: Vma) -> bool:
    """Do others do with the lock of that VMA, while a move holds those of its own?"""
    if vma.flags & VM_UFFD or not space.write_locked:
        return False
    # ARCH_SUPPORTS_PER_VMA_LOCK: of x86 that of 64 bits only
    return space.geometry.word_bits == 64


def _is_write_locked(space: AddressSpace, vma: Vma) -> bool:
    """Is it source or copy of a move, or does it lie beside one?"""
    return any(
        vma is locked or vma.end == locked.start or vma.start == locked.end
        for locked in space.write_locked
    )
