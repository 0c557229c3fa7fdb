"""Kernels as sets of feature switches, plus a geometry.

A kernel version is nothing but a set of behaviours.  `SWITCHES` describes each behaviour and the
release it started in; a named kernel is a setting of all of them.  A kernel bug, fixed or open, is
a setting too.  Sources: the table of section 10 of the specification, checked against Linux
6.1.192, 6.12.117 and 6.18.44.
"""

from dataclasses import dataclass, field, fields, replace

from engine.base.geometry import GEOMETRIES, Geometry, UnknownName, geometry_named


def _switch(since: str, text: str) -> bool:
    """A switch that is off unless a kernel names it; its metadata feeds `pmdfuzz kernels`."""
    value: bool = field(default=False, metadata={"since": since, "text": text})
    return value


@dataclass(frozen=True, slots=True)
class Kernel:
    """A geometry and the behaviours of one kernel."""

    name: str
    geometry: Geometry = GEOMETRIES["x86-64"]
    move_pmd: bool = _switch("5.0", "whole PTE tables move (move_normal_pmd)")
    move_pud: bool = _switch("5.11", "whole PMD tables move (move_normal_pud), above two levels")
    may_retry: bool = _switch(
        "6.5", "the movers expect a PTE table to come or go under them (pte_offset_map_lock)"
    )
    dontunmap: bool = _switch("5.7", "MREMAP_DONTUNMAP, on private anonymous memory")
    dontunmap_any: bool = _switch("5.13", "DONTUNMAP on shared mappings as well")
    realign: bool = _switch(
        "6.7", "lower both starts to a slot boundary if nothing is mapped below"
    )
    realign_stack: bool = _switch("6.7", "realignment inside the stack VMA (for_stack)")
    negative_result_is_zero: bool = _switch(
        "6.7", "a move that fails below its start moved nothing"
    )
    wrap_safe_result: bool = _switch(
        "6.12", "the result check compares old_addr with old_end - len"
    )
    pmd_recheck: bool = _switch("6.12", "the PMD mover re-reads the entry under its lock")
    merge_new_range: bool = _switch(
        "6.12", "mmap joins left and right neighbour if they fit each other (vma_merge_new_range)"
    )
    mprotect_uncharges: bool = _switch(
        "6.5", "mprotect drops VM_ACCOUNT of never faulted memory that becomes read-only"
    )
    dontunmap_no_self_merge: bool = _switch(
        "7.3, stable 2026", "DONTUNMAP does not merge the copy with its source"
    )
    dontunmap_resets_pgoff: bool = _switch(
        "7.3, stable 2026", "DONTUNMAP of a whole anonymous VMA resets its vm_pgoff"
    )
    dontunmap_splits_locked: bool = _switch(
        "7.3, stable 2026", "DONTUNMAP splits a locked VMA at the ends of the range"
    )
    dontunmap_counts_locked: bool = _switch(
        "6.15 to 7.2", "DONTUNMAP counts locked pages twice (B-34)"
    )
    dontunmap_unlinks_anon_vma: bool = _switch(
        "5.13", "DONTUNMAP of a whole VMA unlinks it from its anon_vma (B-31)"
    )
    dontunmap_keeps_account: bool = _switch(
        "5.7, not 6.15 to 6.17", "DONTUNMAP leaves VM_ACCOUNT to the source (B-33)"
    )
    dontunmap_asks_overcommit: bool = _switch(
        "5.11", "DONTUNMAP asks whether another accountable mapping is granted (B-39)"
    )
    uncharge_on_rollback: bool = _switch(
        "until 5.15", "a growing move that fails gives the charge for its growth back (B-37)"
    )
    map_count_first: bool = _switch(
        "5.1", "FIXED looks at vm.max_map_count before it unmaps anything (B-57)"
    )
    wrap_safe_overlap: bool = _switch(
        "open", "the test for overlapping ranges does not wrap (B-69)"
    )
    mseal: bool = _switch("6.10", "mseal(2)")
    hugetlb_moves: bool = _switch("5.16", "mremap moves huge pages of hugetlb")
    hugetlb_copy_keeps_reservation: bool = _switch(
        "6.16, stable 2025", "a failed copy of a VMA leaves its reservations to the source (B-46)"
    )
    shrink_charges_delta: bool = _switch(
        "6.17", "a FIXED move that shrinks charges the difference and keeps it"
    )
    check_before_unmap: bool = _switch("6.17", "the source is checked before FIXED unmaps anything")
    multi_vma_move: bool = _switch("6.17", "FIXED moves of equal size span several VMAs")
    merge_faulted_source: bool = _switch(
        "6.16", "a faulted range merges into an unfaulted neighbour"
    )
    merge_links_source: bool = _switch(
        "6.19, stable 6.18.7", "such a range brings its anon_vma along (B-43, CVE-2026-23077)"
    )
    warn_pte_occupied: bool = _switch("6.16", "the PTE mover warns of an occupied destination")
    thp_aligned_search: bool = _switch("6.7", "kernel-chosen addresses are aligned for huge pages")
    zero_pages_on_split: bool = _switch(
        "6.12", "splitting a large folio maps the zero page where nothing was written"
    )
    populate_passes_holes: bool = _switch("5.14 to 6.8", "MADV_POPULATE_* goes on behind a hole")
    guard_markers: bool = _switch("6.13", "MADV_GUARD_INSTALL and MADV_GUARD_REMOVE")
    huge_zero_write_allocates: bool = _switch(
        "6.14", "writing to the huge zero page makes a huge page, not one small page"
    )
    refuses_shared_huge: bool = _switch(
        "6.12", "MADV_NOHUGEPAGE also keeps a shared huge page from being mapped as one"
    )
    maps_whole_folio: bool = _switch(
        "6.11", "a fault on a large folio of shared memory maps all of it if it can"
    )
    splits_by_halves: bool = _switch(
        "6.16", "splitting a folio for MADV_REMOVE keeps what is not removed in halves"
    )
    faults_around_folio: bool = _switch(
        "6.18", "faulting around maps all of a large folio of shared memory if it can"
    )
    guesses_mapped_shared: bool = _switch(
        "6.10", "whether a large folio is shared is guessed from the whole of it, not from one page"
    )
    collapse_frees_all_tables: bool = _switch(
        "6.6", "MADV_COLLAPSE frees the object's PTE tables in every mapping (retract_page_tables)"
    )
    collapse_makes_pmd_table: bool = _switch(
        "6.13 to 6.18", "MADV_COLLAPSE of shared memory makes the tables above the huge page"
    )
    collapses_without_write: bool = _switch(
        "6.17", "MADV_COLLAPSE needs no writable page in the slot"
    )
    reclaims_tables: bool = _switch("6.14", "MADV_DONTNEED frees PTE tables it empties")
    table_moves_lock_rmap: bool = _switch(
        "5.13.3", "whole-table moves always take the rmap locks (B-05)"
    )
    uffd_write_protects: bool = _switch("5.7", "userfaultfd has write-protect mode")
    uffd_wp_cleared: bool = _switch(
        "6.13, stable 2025", "mremap clears uffd-wp from what leaves its userfaultfd (B-07)"
    )
    uffd_checks_both: bool = _switch(
        "6.17, stable 2025", "whole tables stay if either VMA has such a userfaultfd (B-08)"
    )
    uffd_wp_spans_vmas: bool = _switch("6.4", "UFFDIO_WRITEPROTECT covers several VMAs")
    pte_batching: bool = _switch("6.17", "the PTE mover takes pages of a large folio in batches")
    batch_keeps_write: bool = _switch("6.18", "a batch ends where the write bit changes (B-49)")
    large_folio_reuse: bool = _switch(
        "6.15", "a write keeps a page of a large folio that no other process maps"
    )

    def on(self, geometry: Geometry) -> "Kernel":
        """The same behaviours on another geometry."""
        return self if geometry == self.geometry else replace(self, geometry=geometry)

    def moves_puds(self) -> bool:
        """True if the PUD mover is compiled in: d6655dff2e25 (5.14) leaves it out on two levels."""
        return self.move_pud and self.geometry.levels > 2


@dataclass(frozen=True, slots=True)
class Switch:
    """One behaviour by which kernels differ."""

    name: str
    since: str
    text: str


SWITCHES: tuple[Switch, ...] = tuple(
    Switch(f.name, f.metadata["since"], f.metadata["text"]) for f in fields(Kernel) if f.metadata
)

_SINCE_5_0 = ("move_pmd",)
_SINCE_5_13 = (
    *_SINCE_5_0,
    "move_pud",
    "dontunmap",
    "dontunmap_any",
    "dontunmap_unlinks_anon_vma",
    "dontunmap_keeps_account",
    "dontunmap_asks_overcommit",
    "map_count_first",
    "uffd_write_protects",
    "table_moves_lock_rmap",
)
_SINCE_5_16 = (*_SINCE_5_13, "hugetlb_moves")
_FIXES_OF_2026 = ("dontunmap_no_self_merge", "dontunmap_resets_pgoff", "dontunmap_splits_locked")
_SINCE_6_7 = (
    *_SINCE_5_16,
    "may_retry",
    "realign",
    "realign_stack",
    "negative_result_is_zero",
    "thp_aligned_search",
    "mprotect_uncharges",
    "collapse_frees_all_tables",
    "uffd_wp_spans_vmas",
)
_SINCE_6_12 = (
    *_SINCE_6_7,
    "wrap_safe_result",
    "mseal",
    "hugetlb_copy_keeps_reservation",
    "pmd_recheck",
    "guesses_mapped_shared",
    "maps_whole_folio",
    "refuses_shared_huge",
    "merge_new_range",
    "zero_pages_on_split",
    "uffd_wp_cleared",
    "uffd_checks_both",
)
_SINCE_6_18 = (
    *_SINCE_6_12,
    "dontunmap_counts_locked",
    "shrink_charges_delta",
    "check_before_unmap",
    "multi_vma_move",
    "merge_faulted_source",
    "merge_links_source",
    "warn_pte_occupied",
    "guard_markers",
    "huge_zero_write_allocates",
    "collapse_makes_pmd_table",
    "collapses_without_write",
    "reclaims_tables",
    "splits_by_halves",
    "faults_around_folio",
    "pte_batching",
    "batch_keeps_write",
    "large_folio_reuse",
)


def _named(name: str, *switches: str) -> Kernel:
    return Kernel(name, **dict.fromkeys(switches, True))  # type: ignore[arg-type]


KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        _named("linux-5.0", *_SINCE_5_0, "uncharge_on_rollback"),
        _named(
            "linux-6.1",
            *_SINCE_5_16,
            "populate_passes_holes",
            "uffd_wp_cleared",
            "hugetlb_copy_keeps_reservation",
            *_FIXES_OF_2026,
        ),
        _named("linux-6.7", *_SINCE_6_7, "populate_passes_holes"),
        _named("linux-6.12", *_SINCE_6_12, *_FIXES_OF_2026),
        _named("linux-6.18", *_SINCE_6_18),
    )
}


def kernel_named(name: str, geometry: str | None = None) -> Kernel:
    """The named kernel, on another geometry if one is named.

    Errors raised: UnknownName, which lists the known names.
    """
    try:
        kernel = KERNELS[name]
    except KeyError:
        raise UnknownName("kernel", name, list(KERNELS)) from None
    return kernel.on(geometry_named(geometry)) if geometry else kernel
