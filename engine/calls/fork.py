"""fork(2), as far as the parent sees it: its private pages are shared with the child until written.

Model: children live on and do nothing, so all they are is the frames they hold.  A write by the
parent to such a page copies it (pages/cow.py); contents as the parent sees them never change.
Source: kernel/fork.c dup_mmap(), mm/memory.c copy_page_range(), Linux 6.1 to 6.18.
"""

from engine.base.entry import ANON, EXCLUSIVE, HUGE, PFN_SHIFT, PRESENT, SWAP, WRITE
from engine.base.geometry import PTE
from engine.base.uapi import UFFD_FEATURE_EVENT_FORK
from engine.pages.hugetlb import lend_hugetlb
from engine.pages.protect import change_entries
from engine.pages.uffd import forking
from engine.state.space import AddressSpace
from engine.state.vma import VM_DONTCOPY, VM_HUGETLB, VM_UFFD_PROTECTED, VM_WIPEONFORK, Vma

_NOT_SHARED = VM_DONTCOPY | VM_WIPEONFORK | VM_HUGETLB


def fork(space: AddressSpace) -> None:
    """Make a child: private pages lose WRITE and EXCLUSIVE, swapped ones and huge ones, too.

    A VMA that the child does not get, or gets empty, keeps its pages to itself.  Pages of shared
    memory are the child's as well if its userfaultfd goes on protecting them there, those of a file
    if the mapping has copies of some.
    Source: copy_present_pte(), copy_nonpresent_pte(), copy_huge_pmd(); vma_needs_copy().
    """
    pages = space.geometry.slot_pages

    def share(entries: list[int]) -> list[int]:
        shared = [e for e in entries if e & (ANON | SWAP) or (e & PRESENT and e >> PFN_SHIFT)]
        space.held.update([e >> PFN_SHIFT for e in shared])
        for pfn in [e >> PFN_SHIFT for e in shared if e & HUGE]:
            space.held.update(range(pfn, pfn + pages))
        return [e & ~(WRITE | EXCLUSIVE) if e & (ANON | SWAP) else e for e in entries]

    for vma in space.vmas:
        if vma.flags & VM_HUGETLB and not vma.flags & VM_DONTCOPY:
            lend_hugetlb(space, vma)
        # Without an anon_vma there is no page to share; shared memory just faults in again.
        if vma.anon_vma is not None and not vma.flags & _NOT_SHARED:
            change_entries(space, vma.start, vma.end, share)
        elif vma.flags & VM_UFFD_PROTECTED and not vma.flags & _NOT_SHARED and _is_followed(vma):
            for _, level, entry in space.tree.leaves(vma.start, vma.end):
                pfn = entry >> PFN_SHIFT
                space.held.update(range(pfn, pfn + pages) if level > PTE else (pfn,))
    if space.uffds:
        forking(space)


def _is_followed(vma: Vma) -> bool:
    """Is the child's memory registered as well?  Source: dup_userfaultfd()."""
    return vma.uffd is not None and bool(vma.uffd.features & UFFD_FEATURE_EVENT_FORK)


def exit_child(space: AddressSpace) -> None:
    """All children exit: what they held is the parent's alone; it learns of that when it writes."""
    space.held.clear()
    space.pool.end_children({vma.backing for vma in space.vmas})
