"""Defects that kernels are known to have: found again, they are reported by name.

Each is told here once.  What a run has broken is put down to them in `fuzz.defects.attribute`.  Put
back into a kernel without it, a defect is an exhibit of the museum (`fuzz.defects.catalogue`).
"""

from collections.abc import Iterable
from functools import lru_cache

from engine.base.geometry import UnknownName
from engine.base.kernel import Kernel
from fuzz.defects.defect import Defect

KNOWN: tuple[Defect, ...] = (
    Defect(
        "B-01",
        "the stack's move meets the table that it has just emptied",
        "dest-entry-none",
        {"move_pmd": True, "realign_stack": False},
        {"realign_stack": True, "negative_result_is_zero": True},
        text=(
            "exec moves the stack over itself; the PMD mover meets the table that the PTE mover "
            "has just emptied, and warns. Realignment ended it."
        ),
        case="museum/b-01-stack-warning",
        shown_on="linux-6.1",
    ),
    Defect(
        "B-05",
        "whole tables move without the rmap locks",
        "table-move-locked",
        {"move_pmd": True, "table_moves_lock_rmap": False},
        {"table_moves_lock_rmap": True},
        cve="CVE-2022-41222",
        text=(
            "Whole tables move without the rmap locks: who waits for the lock of a table then "
            "changes entries of another address, and flushes the wrong one."
        ),
        case="museum/b-05-table-unlocked",
        shown_on="linux-5.0",
    ),
    Defect(
        "B-06",
        "a table that a collapse has freed is moved",
        "table-not-leaf",
        {"move_pmd": True, "collapse_frees_all_tables": True, "pmd_recheck": False},
        {"pmd_recheck": True},
        cve="CVE-2024-50066",
        text=(
            "The PMD mover looks for a table before it takes its locks, and not again. If another "
            "process collapses the object in between, nothing is moved as if it were a table."
        ),
        case="museum/b-06-freed-table",
        shown_on="linux-6.7",
    ),
    Defect(
        "B-07",
        "what moves keeps the uffd-wp of the userfaultfd it leaves",
        "uffd-wp-stray",
        {"uffd_write_protects": True, "uffd_wp_cleared": False},
        {"uffd_wp_cleared": True},
        cve="CVE-2025-21696",
        text=(
            "Memory that userfaultfd write-protects moves without it; its entries keep the mark, "
            "and become writable and marked at once."
        ),
        case="museum/b-07-entries",
        shown_on="linux-6.7",
    ),
    Defect(
        "B-08",
        "a rollback moves tables that were not moved as tables",
        "rollback-dest-none",
        {"uffd_write_protects": True, "uffd_checks_both": False},
        {"uffd_checks_both": True},
        cve="CVE-2025-39775",
        text=(
            "Whether tables may move is asked of the old VMA only. In a rollback that is the "
            "copy, which says yes: the table goes back to where an emptied one is."
        ),
        case="museum/b-08-rollback-warns",
        shown_on="linux-6.12.43",
    ),
    Defect(
        "B-09",
        "the result check wraps on 32 bits",
        "move-result",
        {"negative_result_is_zero": True, "wrap_safe_result": False},
        {"wrap_safe_result": True},
        cve="CVE-2024-53111",
        text=(
            "The check of the result adds addresses; on 32 bits the sum wraps, and a move that is "
            "complete counts as none: its pages are unmapped."
        ),
        case="museum/b-09-result-wraps",
        shown_on="linux-6.7",
    ),
    Defect(
        "B-31",
        "DONTUNMAP leaves its source linked to the anon_vma of its pages",
        "anon-vma-linked",
        {"dontunmap": True, "dontunmap_unlinks_anon_vma": False},
        {"dontunmap_unlinks_anon_vma": True},
        text=(
            "A source that has given its pages away keeps their anon_vma, and later faults and "
            "merges go by it."
        ),
        case="museum/b-31-anon-vma-kept",
        shown_on="linux-5.10",
    ),
    Defect(
        "B-32",
        "DONTUNMAP leaves an unfaulted VMA with the page offset of its old place",
        "unfaulted-pgoff",
        {"dontunmap": True, "dontunmap_resets_pgoff": False},
        {"dontunmap_resets_pgoff": True},
        text=(
            "A source that DONTUNMAP has emptied counts as never faulted, but keeps the page "
            "offset of the time before an earlier move."
        ),
        case="museum/b-32-pgoff-kept",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-33",
        "DONTUNMAP takes VM_ACCOUNT from its source",
        "dontunmap-source",
        {"dontunmap": True, "dontunmap_keeps_account": False},
        {"dontunmap_keeps_account": True},
        text="The source loses the flag by which its commit charge is given back later.",
        case="regressions/dontunmap-keeps-pgoff",
        shown_on="linux-6.17.5",
    ),
    Defect(
        "B-34",
        "DONTUNMAP miscounts locked memory",
        "locked-vm",
        {"dontunmap": True, "dontunmap_counts_locked": True},
        {"dontunmap_counts_locked": False},
        text=(
            "The copy is counted as locked before the source's lock is taken away, which nobody "
            "counts."
        ),
        case="museum/b-34-locked-twice",
        shown_on="linux-6.18",
    ),
    Defect(
        "dontunmap-unlocks",
        "DONTUNMAP unlocks the whole source VMA, even if the call then fails",
        "lock-kept",
        {"dontunmap": True, "dontunmap_splits_locked": False},
        {"dontunmap_splits_locked": True},
        case="regressions/dontunmap-unlocks-the-rest",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-35",
        "DONTUNMAP merges the copy with its source",
        "dontunmap-two-vmas",
        {"dontunmap": True, "dontunmap_no_self_merge": False},
        {"dontunmap_no_self_merge": True},
        text="Source and destination become one VMA, which then loses what only the source should.",
        case="museum/b-35-self-merge",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-39",
        "DONTUNMAP asks nobody whether another accountable mapping is granted",
        "limits-hold",
        {"dontunmap": True, "dontunmap_asks_overcommit": False},
        {"dontunmap_asks_overcommit": True},
        text="A second accountable mapping appears without a question to the overcommit code.",
        case="museum/b-39-not-asked",
        shown_on="linux-5.10",
    ),
    Defect(
        "B-43",
        "a merge forgets the anon_vma that a moved range brings",
        "anon-vma-linked",
        {"merge_faulted_source": True, "merge_links_source": False},
        {"merge_links_source": True},
        cve="CVE-2026-23077",
        text=(
            "A faulted range merges into an unfaulted neighbour without bringing its anon_vma "
            "along, which is freed while pages use it."
        ),
        crashes="what has been freed is used when such a page is reclaimed, or goes",
        case="museum/b-43-unlinked",
        shown_on="linux-6.18.7",
    ),
    Defect(
        "soft-dirty-merge",
        "memory that was never clean is clean when it merges with what was",
        "soft-dirty",
        {"merge_keeps_soft_dirty": False},
        {"merge_keeps_soft_dirty": True},
        text=(
            "VM_SOFTDIRTY does not keep VMAs apart, and the merged one has it as one of them had: "
            "who follows writes by it misses those to the other."
        ),
        case="regressions/soft-dirty-lost-by-merge",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-49",
        "a batch spreads the write bit of its first entry",
        "entry-bits-kept",
        {"pte_batching": True, "batch_keeps_write": False},
        {"batch_keeps_write": True},
        text=(
            "The entries of a batch are made from its first one, and the write bit was not looked "
            "at: a shared page becomes writable."
        ),
        case="museum/b-49-write",
        shown_on="linux-6.17.8",
    ),
    Defect(
        "B-57",
        "that there are too many VMAs is found when FIXED has unmapped the destination",
        "error-traceless",
        {"map_count_first": False},
        {"map_count_first": True},
        text="That there are too many VMAs is noticed when FIXED has unmapped the destination.",
        case="museum/b-57-map-count-late",
        shown_on="linux-5.0",
    ),
    Defect(
        "B-63",
        "the PUD mover warns of a PMD table that is empty: PAE has them from the start",
        "dest-entry-none",
        {"move_pud": True, "swaps_empty_pmd_table": False},
        {"swaps_empty_pmd_table": True},
        reason=(
            "An empty PMD table stands for nothing. The two tables can change places: then none "
            "is freed under PAE, where each entry must have one."
        ),
        text=(
            "PMD tables of PAE exist from the start; the PUD mover takes an empty one at its "
            "destination for a mistake, and warns."
        ),
        case="museum/b-63-pae-gigabyte",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-69",
        "the overlap test wraps, so EINVAL comes after something was unmapped",
        "error-traceless",
        {"wrap_safe_overlap": False},
        {"wrap_safe_overlap": True},
        reason="A range that wraps overlaps: check_add_overflow() says so at the price of a flag.",
        text=(
            "Address plus length wraps for a huge length, so ranges that overlap pass; the error "
            "comes after something was unmapped."
        ),
        case="regressions/wrapping-overlap",
        shown_on="linux-6.18",
    ),
    Defect(
        "shrink-leak",
        "a FIXED move that shrinks leaks commit charge",
        "committed",
        {"shrink_charges_delta": True},
        {"shrink_charges_delta": False},
        text=(
            "The difference of the lengths is charged as if the mapping grew, and never given back."
        ),
        case="museum/shrink-leak",
        shown_on="linux-6.18",
    ),
    Defect(
        "refused-mmap-leak",
        "a mapping that its driver refuses leaks commit charge",
        "committed",
        {"refused_mmap_leaks_charge": True},
        {"refused_mmap_leaks_charge": False},
        text=(
            "A private mapping takes over the charge of what it replaces. If the driver behind it "
            "refuses, all that is given back is what was charged beyond that."
        ),
        case="regressions/refused-mmap-leaks-commit",
        shown_on="linux-6.18",
    ),
    Defect(
        "stack-growth-leak",
        "a stack that is not charged is charged for its growth, for good",
        "committed",
        {"stack_growth_charges_accountable": False},
        {"stack_growth_charges_accountable": True},
        reason="Without VM_ACCOUNT nothing gives the charge back: then there should be none.",
        text=(
            "A mapping with MAP_GROWSDOWN that may not be written, or with MAP_NORESERVE, has no "
            "VM_ACCOUNT; acct_stack_growth() does not ask for it."
        ),
        case="regressions/stack-growth-leaks-commit",
        shown_on="linux-6.18",
    ),
    Defect(
        "uffd-neighbour",
        "a copy that merges takes the userfaultfd from all of the VMA it merges with",
        "uffd-kept-elsewhere",
        {"uffd_copy_unmerged": False},
        {"uffd_copy_unmerged": True},
        case="regressions/uffd-neighbour-unregistered",
        shown_on="linux-6.18",
    ),
    Defect(
        "uffd-rollback",
        "a move that is put back loses the uffd-wp of what had moved",
        "rollback-keeps-wp",
        {"uffd_wp_cleared": True, "uffd_wp_cleared_last": False},
        {"uffd_wp_cleared_last": True},
        reason=(
            "Nobody faults while the mmap lock is held, so the marks may go when nothing can fail "
            "any more. A way back takes them along."
        ),
        case="regressions/uffd-wp-lost-by-rollback",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-37",
        "a growing move that is put back leaks the charge for its growth",
        "committed",
        {"uncharge_on_rollback": False},
        {"uncharge_on_rollback": True},
        text=(
            "The charge for the growth is not given back when the move fails: Committed_AS stays "
            "too high for ever."
        ),
        case="museum/b-37-rollback-leaks",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-46",
        "a copy of hugetlb that cannot be completed gives back its source's reservations",
        "hugetlb-reserve",
        {"hugetlb_moves": True, "hugetlb_copy_keeps_reservation": False},
        {"hugetlb_copy_keeps_reservation": True},
        text="A copy that could not be completed releases reservations that belong to its source.",
        case="museum/b-46-reservation",
        shown_on="linux-6.7",
    ),
    Defect(
        "hugetlb-unreserved",
        "a move of hugetlb that fails takes the reservations of its source",
        "reservation-kept",
        {"hugetlb_rollback_unreserves": True},
        {"hugetlb_rollback_unreserves": False},
        text=(
            "What was promised is given back when the copy goes, or leaks if only a part was to "
            "move: the mapping may be killed by SIGBUS where it has pages reserved."
        ),
        case="regressions/hugetlb-unreserved-by-a-failed-move",
        shown_on="linux-6.18",
    ),
    Defect(
        "hugetlb-child",
        "a huge page that a child still maps is promised again",
        "hugetlb-reserve",
        {"hugetlb_reserves_mapped": True},
        {"hugetlb_reserves_mapped": False},
        text=(
            "What the parent unmaps counts as reserved for it at once, but the page is free only "
            "when the child is gone: until then more is promised than there is, or less than none."
        ),
        case="regressions/hugetlb-reserved-while-a-child-maps-it",
        shown_on="linux-6.18",
    ),
    Defect(
        "B-45",
        "hugetlb: the two cursors part over a missing table",
        "cursor-lockstep",
        {"hugetlb_moves": True, "hugetlb_skips_apart": True},
        {"hugetlb_skips_apart": False},
        text=(
            "Over a missing table each address is rounded up by itself: what lies behind lands "
            "elsewhere, outside of every VMA perhaps, where nobody frees it or the tables above."
        ),
        crashes=(
            "pages stay mapped where no VMA is; the kernel comes upon them when the process, or "
            "the file, goes"
        ),
        case="museum/b-45-hugetlb-skip",
        shown_on="linux-6.18.15",
    ),
    Defect(
        "hugetlb-part",
        "moving a part of a hugetlb mapping leaks the reservations of the rest",
        "hugetlb-reserve",
        {"hugetlb_moves": True, "hugetlb_rest_keeps_reservation": False},
        {"hugetlb_rest_keeps_reservation": True},
        reason=(
            "If what has moved is cut off first, clear_vma_resv_huge_pages() is done to that part "
            "alone."
        ),
        case="regressions/hugetlb-part-moved",
        shown_on="linux-6.18",
    ),
    Defect(
        "rollback-short",
        "a move that fails loses pages if there is no memory for a page table on the way back",
        "rollback-complete",
        {"rollback_nofail": False},
        {"rollback_nofail": True},
        reason="There is no other way out, and a table is one page: what __GFP_NOFAIL is for.",
        case="regressions/rollback-loses-a-page",
        shown_on="linux-6.18",
    ),
    Defect(
        "not-cut-off",
        "what a move leaves stays mapped if there is no memory to split its VMA",
        "moved-unmapped",
        {"unmap_moved_nofail": False},
        {"unmap_moved_nofail": True},
        reason=(
            "There is no other way out once pages have moved, and two VMAs are small objects: "
            "what __GFP_NOFAIL is for."
        ),
        case="regressions/hugetlb-not-cut-off",
        shown_on="linux-6.18",
    ),
    Defect(
        "hypothetical",
        "the stack's move with neighbours, which no kernel caller makes",
        "dest-entry-none",
        {"move_pmd": True, "stack_expects_emptied": False},
        {"stack_expects_emptied": True},
        reason=(
            "The fallback is right, the warning is not: what neighbours keep from realigning, or "
            "a userfaultfd from moving whole, leaves its first table where it has to go."
        ),
        case="regressions/relocate-neighbour-below-new",
        shown_on="linux-6.18",
    ),
)


DEFECTS = {defect.id: defect for defect in KNOWN}


def repaired(kernel: Kernel, defects: Iterable[Defect] = KNOWN) -> Kernel:
    """The kernel with these known defects put right; its name tells the switches."""
    return _repaired(kernel, tuple(defects))


@lru_cache(maxsize=1024)
def _repaired(kernel: Kernel, defects: tuple[Defect, ...]) -> Kernel:
    for defect in defects:
        kernel = defect.repaired_on(kernel)
    return kernel


def defects_named(name: str) -> list[Defect]:
    """The known defects with that id, or with that number in the list of CVEs.

    Errors raised: UnknownName.
    """
    wanted = name.upper()
    found = [one for one in KNOWN if wanted in (one.id.upper(), one.cve.upper())]
    if not wanted or not found:
        raise UnknownName("defect", name, list(DEFECTS))
    return found


def told(ids: str) -> str:
    """The known defects of a bucket (`fuzz.findings.bucket`), each with what it is."""
    return "; ".join(f"{id_}, {DEFECTS[id_].headline}" for id_ in ids.split("+"))
