"""Kernels as sets of feature switches, plus a geometry.

A kernel version is nothing but a set of behaviours.  A field of `Kernel` is one of them, and says
in which releases it held; the kernel of a release is computed from that.  A kernel bug, fixed or
open, is a setting too.

Sources: the table of section 10 of the specification, checked against Linux 6.1.192, 6.12.117 and
6.18.44; recordings of 6.12.43 to 7.3.4.  Stable releases: sources of 6.1.192 and 6.12.117 with
their changelogs; CVE records (2024-53111, 2025-21696, 2026-23077, 2022-41222); the patches that
went into review for 5.4.211, 5.13.3, 6.6.58, 6.11.5, 6.16.4 and 6.17.6.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, product
from typing import Annotated, Any, get_origin, get_type_hints

from engine.base.geometry import GEOMETRIES, Geometry, UnknownName, geometry_named
from engine.base.release import (
    LAST_MINOR,
    LATEST,
    OLDEST,
    Interval,
    Release,
    Series,
    Span,
    between,
    by,
    never,
    release,
    since,
    until,
)

_MOST_MINORS = 1 + max(LAST_MINOR.values())
_LONG_TERM = ("6.6", "5.15", "5.10")  # kept up in 2025 and 2026, sources not at hand


@dataclass(frozen=True, slots=True)
class Unread:
    """Why the model does not ask for a switch."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A geometry and the behaviours of one kernel.

    Every switch is off unless a kernel is made with it.  It is annotated with the releases that
    have it and with what it is; with `Unread`, too, if the model does not ask for it.
    """

    name: str
    geometry: Geometry = GEOMETRIES["x86-64"]
    move_pmd: Annotated[bool, since("5.0"), "whole PTE tables move (move_normal_pmd)"] = False
    move_pud: Annotated[
        bool, since("5.11"), "whole PMD tables move (move_normal_pud), above two levels"
    ] = False
    swaps_empty_pmd_table: Annotated[
        bool, never, "the PUD mover swaps a PMD table for an empty one at its destination (B-63)"
    ] = False
    may_retry: Annotated[
        bool,
        since("6.5"),
        "the movers expect a PTE table to come or go under them (pte_offset_map_lock)",
    ] = False
    dontunmap: Annotated[
        bool,
        since("5.7"),
        "MREMAP_DONTUNMAP, on private anonymous memory",
    ] = False
    dontunmap_any: Annotated[bool, since("5.13"), "DONTUNMAP on shared mappings as well"] = False
    realign: Annotated[
        bool,
        since("6.7"),
        "a move lowers both starts to a slot boundary if nothing is mapped below",
    ] = False
    realign_stack: Annotated[
        bool,
        since("6.7"),
        "the stack's move does so, inside the stack VMA (for_stack)",
    ] = False
    stack_expects_emptied: Annotated[
        bool, never, "a stack that may not move as whole tables expects those it has emptied"
    ] = False
    negative_result_is_zero: Annotated[
        bool, since("6.7"), "a move that fails below its start moved nothing"
    ] = False
    wrap_safe_result: Annotated[
        bool,
        since("6.12", stable={"6.11": 10}),
        "the result check compares old_addr with old_end - len",
    ] = False
    pmd_recheck: Annotated[
        bool,
        since("6.12", stable={"6.11": 5, "6.6": 58}),
        "the PMD mover re-reads the entry under its lock",
    ] = False
    vma_lock_faults: Annotated[
        bool, since("6.4"), "faults in private memory take the lock of their VMA alone"
    ] = False
    vma_lock_faults_shared: Annotated[
        bool, since("6.7"), "faults in shared memory take the lock of their VMA alone"
    ] = False
    vma_lock_madvise: Annotated[
        bool, since("6.17"), "MADV_DONTNEED and MADV_FREE of one VMA take its lock alone"
    ] = False
    merge_new_range: Annotated[
        bool,
        since("6.12"),
        "mmap joins left and right neighbour if they fit each other (vma_merge_new_range)",
    ] = False
    protects_batches: Annotated[
        bool,
        since("6.17"),  # not yet on 6.16.12
        "mprotect takes pages of a large folio in batches; those of a dirty one become soft-dirty",
    ] = False
    contiguous_entries: Annotated[
        bool, since("6.9"), "entries of a large folio have arm64's contiguous bit, block by block"
    ] = False
    mprotect_uncharges: Annotated[
        bool,
        since("6.5"),
        "mprotect drops VM_ACCOUNT of never faulted memory that becomes read-only",
    ] = False
    dontunmap_no_self_merge: Annotated[
        bool,
        since("7.3", stable={"7.2": by(13), "6.12": 114, "6.1": 191}, unknown=_LONG_TERM),
        "DONTUNMAP does not merge the copy with its source",
    ] = False
    dontunmap_resets_pgoff: Annotated[
        bool,
        since("7.3", stable={"7.2": by(6), "6.12": 112, "6.1": 191}, unknown=_LONG_TERM),
        "DONTUNMAP of a whole anonymous VMA resets its vm_pgoff",
    ] = False
    dontunmap_splits_locked: Annotated[
        bool,
        since("7.3", stable={"7.2": by(13), "6.12": 114, "6.1": 191}, unknown=_LONG_TERM),
        "DONTUNMAP splits a locked VMA at the ends of the range",
    ] = False
    dontunmap_counts_locked: Annotated[
        bool,
        between("6.15", "7.2", fixed={"7.2": by(13)}),
        "DONTUNMAP counts locked pages twice (B-34)",
    ] = False
    dontunmap_unlinks_anon_vma: Annotated[
        bool, since("5.13"), "DONTUNMAP of a whole VMA unlinks it from its anon_vma (B-31)"
    ] = False
    dontunmap_keeps_account: Annotated[
        bool,
        between("5.7", "6.14") | since("6.18", stable={"6.17": 6}),
        "DONTUNMAP leaves VM_ACCOUNT to the source (B-33)",
    ] = False
    dontunmap_asks_overcommit: Annotated[
        bool, since("5.11"), "DONTUNMAP asks whether another accountable mapping is granted (B-39)"
    ] = False
    uncharge_on_rollback: Annotated[
        bool,
        until("5.15") | since("7.3"),
        "a growing move that fails gives the charge for its growth back (B-37)",
    ] = False
    rollback_nofail: Annotated[
        bool, never, "the way back of a move that fails gets its page tables (__GFP_NOFAIL)"
    ] = False
    unmap_moved_nofail: Annotated[
        bool, never, "what a move leaves is cut off from its VMA whatever happens (__GFP_NOFAIL)"
    ] = False
    map_count_before_all: Annotated[
        bool,
        since("7.1"),  # not yet on 7.0.13
        "mremap looks at vm.max_map_count before all else, for as many VMAs as it may make",
    ] = False
    map_count_first: Annotated[
        bool, since("5.1"), "FIXED looks at vm.max_map_count before it unmaps anything (B-57)"
    ] = False
    wrap_safe_overlap: Annotated[
        bool, never, "the test for overlapping ranges does not wrap (B-69)"
    ] = False
    mseal: Annotated[bool, since("6.10"), "mseal(2)"] = False
    seals_asked_first: Annotated[
        bool,
        between("6.10", "6.11"),
        "all of a range is searched for seals before anything is done to it (can_modify_mm)",
    ] = False
    mseal_forgets_merge: Annotated[
        bool,
        between("6.17", "6.19", fixed={"6.19": by(14), "6.18": by(44)}),  # not yet on 6.18.15
        "mseal that has merged with what was sealed does not merge what lies behind",
    ] = False
    hugetlb_moves: Annotated[bool, since("5.16"), "mremap moves huge pages of hugetlb"] = False
    hugetlb_skips_apart: Annotated[
        bool,
        # 6.1.176, 6.12.107, 6.17.13, 6.18.15, 7.0.13, 7.1.13 and 7.2.6 have it.
        between(
            "6.0", "7.2", fixed={"7.2": by(9), "6.12": by(117)}, unknown=("6.18", "6.1", "6.6")
        ),
        "hugetlb goes over a missing table to the next one, on each side by itself (B-45)",
    ] = False
    hugetlb_hint_rounds_up: Annotated[
        bool,
        since("6.13"),  # not yet on 6.12.117
        "on x86, too, a hint for hugetlb is rounded up to huge pages, not down",
    ] = False
    hugetlb_copy_keeps_reservation: Annotated[
        bool,
        since(
            "6.16", stable={"6.12": by(117), "6.1": by(192)}, unknown=("6.15", "6.14", *_LONG_TERM)
        ),
        "a failed copy of a VMA leaves its reservations to the source (B-46)",
    ] = False
    hugetlb_dontneed_reserves: Annotated[
        bool, since("6.9"), "a huge page that MADV_DONTNEED takes away is reserved again"
    ] = False
    hugetlb_rollback_unreserves: Annotated[
        bool,
        between("6.15", "7.2"),  # measured from 6.16.12 to 7.2.13, and not on 6.12.117 and 7.3.4
        "a move of hugetlb that fails takes the reservations from its source, not from the copy",
    ] = False
    hugetlb_reserves_mapped: Annotated[
        bool,
        # 6.12.107, 6.18.15, 7.0.13 and 7.1.13 have it, 6.12.117 and 7.2.6 have it no more.
        between("6.9", "7.1", fixed={"6.12": by(117)}, unknown=("6.18",)),
        "a huge page that is taken away is reserved again also while a child maps it",
    ] = False
    hugetlb_rest_keeps_reservation: Annotated[
        bool, never, "moving a part of a hugetlb mapping leaves the rest its reservations"
    ] = False
    stack_growth_charges_accountable: Annotated[
        bool, never, "a stack that grows is charged only if its VMA gives that back (VM_ACCOUNT)"
    ] = False
    shrink_charges_delta: Annotated[
        bool,
        between("6.15", "7.2"),  # measured from 6.16.12 on
        "a FIXED move that shrinks charges the difference and keeps it",
    ] = False
    looks_again_for_source: Annotated[
        bool,
        since("6.15"),  # measured from 6.16.12 on
        "FIXED looks its source up again when its destination is unmapped",
    ] = False
    check_before_unmap: Annotated[
        bool, since("6.17"), "the source is checked before FIXED unmaps anything"
    ] = False
    multi_vma_move: Annotated[
        bool, since("6.17"), "FIXED moves of equal size span several VMAs"
    ] = False
    merge_faulted_source: Annotated[
        bool, since("6.16"), "a faulted range merges into an unfaulted neighbour"
    ] = False
    merge_keeps_soft_dirty: Annotated[
        bool,
        since("6.19"),
        "what was never clean stays soft-dirty when it merges with what was (VM_STICKY)",
    ] = False
    anon_inodes_noexec: Annotated[
        bool,
        since("6.16"),
        "what has no inode of its own, such as a map of BPF, cannot be mapped to be executed",
    ] = False
    refused_mmap_leaks_charge: Annotated[
        bool,
        between("6.12", "7.2"),  # measured from 6.12.117 to 7.2.13, and not on 6.1.176 and 7.3.4
        "a mapping that its driver refuses leaves behind the charge of what was in its place",
    ] = False
    bpf_maps_fault: Annotated[
        bool,
        since("7.3"),  # 7.3.4 has it, 7.2.13 not
        "a fault maps a page of a map of BPF, which mmap did before, once and for all",
    ] = False
    merge_asks_anon_pgoff: Annotated[
        bool,
        since("7.3"),
        "private mappings of a file merge if the places of their copies continue, too (anon_pgoff)",
    ] = False
    merge_links_source: Annotated[
        bool,
        since("6.19", stable={"6.18": 8}),
        "such a range brings its anon_vma along (B-43, CVE-2026-23077)",
    ] = False
    warn_pte_occupied: Annotated[
        bool,
        since("6.16"),
        "the PTE mover warns of an occupied destination",
        Unread("the log tells it, the call does not: fuzz/subjects/observe.py asks"),
    ] = False
    map_droppable: Annotated[
        bool, since("6.11"), "MAP_DROPPABLE, memory whose pages reclaim may just drop"
    ] = False
    thp_aligned_search: Annotated[
        bool, since("6.7"), "kernel-chosen addresses are aligned for huge pages"
    ] = False
    thp_aligns_any_length: Annotated[
        bool,
        between("6.7", "6.11", fixed={"6.11": by(11)}),
        "that is so from one huge page on, not only for multiples of one",
    ] = False
    thp_passes_tight_hint: Annotated[
        bool,
        between("6.7", "6.12", fixed={"6.12": by(43), "6.11": by(11)}),
        "and a hint counts only where there is room for the alignment, too",
    ] = False
    thp_aligns_32_bit: Annotated[
        bool, between("6.7", "6.9"), "and is so on 32 bits, by mistake (CONFIG_64BIT)"
    ] = False
    split_soft_dirty: Annotated[
        bool,
        since("6.4"),
        "splitting a huge page that was written makes its pages soft-dirty (pte_mkdirty)",
    ] = False
    migration_soft_dirty: Annotated[
        bool,
        between("6.1", "6.11"),  # 6.1.176 has it, 6.12.43 no more
        "a page that was written is soft-dirty once it has migrated, or its folio was split",
    ] = False
    stacks_stay_small: Annotated[
        bool, since("6.7"), "MAP_STACK keeps huge pages away (VM_NOHUGEPAGE)"
    ] = False
    zero_pages_on_split: Annotated[
        bool, since("6.12"), "splitting a large folio maps the zero page where nothing was written"
    ] = False
    populate_passes_holes: Annotated[
        bool, between("5.14", "6.8"), "MADV_POPULATE_* goes on behind a hole"
    ] = False
    guard_markers: Annotated[
        bool,
        since("6.13"),
        "MADV_GUARD_INSTALL and MADV_GUARD_REMOVE",
    ] = False
    huge_zero_write_allocates: Annotated[
        bool, since("6.14"), "writing to the huge zero page makes a huge page, not one small page"
    ] = False
    refuses_shared_huge: Annotated[
        bool,
        since("6.12"),
        "MADV_NOHUGEPAGE also keeps a shared huge page from being mapped as one",
    ] = False
    maps_whole_folio: Annotated[
        bool, since("6.11"), "a fault on a large folio of shared memory maps all of it if it can"
    ] = False
    splits_by_halves: Annotated[
        bool, since("6.16"), "splitting a folio for MADV_REMOVE keeps what is not removed in halves"
    ] = False
    swaps_in_large: Annotated[
        bool,
        since("6.14"),  # not yet on 6.12.117, already on 6.16.12
        "a large folio of an object comes back from swap as it went there, not page by page",
    ] = False
    faults_around_folio: Annotated[
        bool, since("6.18"), "faulting around maps all of a large folio of shared memory if it can"
    ] = False
    guesses_mapped_shared: Annotated[
        bool,
        since("6.10"),
        "whether a large folio is shared is guessed from the whole of it, not from one page",
    ] = False
    collapse_frees_all_tables: Annotated[
        bool,
        since("6.6"),
        "MADV_COLLAPSE frees the object's PTE tables in every mapping (retract_page_tables)",
    ] = False
    collapse_makes_pmd_table: Annotated[
        bool,
        since("6.18"),
        "MADV_COLLAPSE of shared memory makes the tables above the huge page",
    ] = False
    collapses_without_write: Annotated[
        bool, since("6.18"), "MADV_COLLAPSE needs no writable page in the slot"
    ] = False
    collapse_passes_slots: Annotated[
        bool, since("6.19"), "MADV_COLLAPSE goes on behind a slot that it cannot collapse"
    ] = False
    collapse_of_no_slot: Annotated[
        bool, since("7.2"), "MADV_COLLAPSE of a range inside one slot does nothing and succeeds"
    ] = False
    collapse_leaves_watched: Annotated[
        bool,
        since("6.4"),  # not yet on 6.1.176, already on 6.12.117
        "MADV_COLLAPSE fills no hole of an object that a userfaultfd watches in any mapping: EBUSY",
    ] = False
    collapse_drains: Annotated[
        bool,
        since("6.4"),  # not yet on 6.1.176, already on 6.12.117
        "MADV_COLLAPSE finds shared pages on their LRU list that it has swapped in (lru_add_drain)",
    ] = False
    reclaims_tables: Annotated[
        bool,
        since("6.14"),
        "MADV_DONTNEED frees PTE tables it empties",
    ] = False
    table_moves_lock_rmap: Annotated[
        bool,
        since("5.14", stable={"5.13": 3, "5.4": 211}, unknown=("5.12", "5.10")),
        "whole-table moves always take the rmap locks (B-05)",
    ] = False
    uffd_write_protects: Annotated[bool, since("5.7"), "userfaultfd has write-protect mode"] = False
    uffd_wp_cleared: Annotated[
        bool,
        since("6.13", stable={"6.12": 11, "6.1": 191}, unknown=_LONG_TERM),
        "mremap clears uffd-wp from what leaves its userfaultfd (B-07)",
    ] = False
    uffd_checks_both: Annotated[
        bool,
        since("6.17", stable={"6.16": 4, "6.12": 114}, unknown=_LONG_TERM),
        "whole tables stay if either VMA has such a userfaultfd (B-08)",
    ] = False
    uffd_wp_cleared_last: Annotated[
        bool, never, "mremap clears uffd-wp when the move can fail no more"
    ] = False
    remap_event_as_asked: Annotated[
        bool,
        until("6.14"),  # no more on 6.16.12
        "UFFD_EVENT_REMAP has the length that mremap was called with, not what has moved",
    ] = False
    uffd_copy_unmerged: Annotated[
        bool,
        since("7.3"),  # not yet on 7.2.13
        "a copy that leaves its userfaultfd merges with nobody (vma_merge_copied_range)",
    ] = False
    uffd_wp_spans_vmas: Annotated[
        bool,
        since("6.4"),
        "UFFDIO_WRITEPROTECT covers several VMAs",
    ] = False
    pte_batching: Annotated[
        bool, since("6.17"), "the PTE mover takes pages of a large folio in batches"
    ] = False
    batch_keeps_write: Annotated[
        bool, since("6.18", stable={"6.17": 9}), "a batch ends where the write bit changes (B-49)"
    ] = False
    large_folio_reuse: Annotated[
        bool, since("6.15"), "a write keeps a page of a large folio that no other process maps"
    ] = False
    advises_large_folios: Annotated[
        bool,
        since("6.10"),
        "MADV_FREE, COLD, PAGEOUT do not split a folio that they name all of",
    ] = False
    drops_huge: Annotated[
        bool,
        between("6.11", "7.2", fixed={"6.18": by(44), "6.12": by(117)}),  # not yet on 6.18.15
        "reclaim drops a huge page of MADV_FREE with its table",
    ] = False
    keeps_huge: Annotated[
        bool,
        between("6.15", "7.2", fixed={"6.18": by(44)}),
        "reclaim leaves it huge if it was written since",
    ] = False
    unmaps_large_folios: Annotated[
        bool, since("6.15"), "reclaim drops all of a large folio of MADV_FREE, or nothing of it"
    ] = False
    pageout_splits_shared: Annotated[
        bool,
        until("6.11"),  # 6.1.176 and 6.5 have it, 6.12.43 no more
        "reclaim splits a large folio of shared memory, also where there is no swap for it",
    ] = False
    madv_cold: Annotated[bool, since("5.4"), "MADV_COLD and MADV_PAGEOUT"] = False
    madv_populate: Annotated[bool, since("5.14"), "MADV_POPULATE_READ, MADV_POPULATE_WRITE"] = False
    madv_dontneed_locked: Annotated[bool, since("5.18"), "MADV_DONTNEED_LOCKED"] = False
    madv_collapse: Annotated[bool, since("6.1"), "MADV_COLLAPSE"] = False
    onfault_anywhere: Annotated[
        bool, since("5.18"), "MLOCK_ONFAULT also locks what may not be accessed"
    ] = False
    swaps_in_writable: Annotated[
        bool,
        since("6.11"),
        "a read that brings a page back from swap makes it writable if a write need not be noticed",
    ] = False
    removes_read_only: Annotated[
        bool,
        since("6.7", stable={"6.1": 149}, unknown=("6.6", "5.15", "5.10", "5.4")),
        "MADV_REMOVE of shared memory that may only be read (vma_is_shared_maywrite)",
    ] = False
    dofork_not_hugetlb: Annotated[
        bool, since("7.0"), "MADV_DOFORK refuses hugetlb, as all of VM_SPECIAL"
    ] = False
    hugetlb_zeroes_parts: Annotated[
        bool, since("6.0"), "MADV_REMOVE zeroes what it names of a huge page of hugetlb"
    ] = False
    hugetlb_dontneed: Annotated[bool, since("5.18"), "MADV_DONTNEED drops pages of hugetlb"] = False
    guards_objects: Annotated[
        bool, since("6.15"), "MADV_GUARD_INSTALL and MADV_GUARD_REMOVE on shared memory as well"
    ] = False
    uffd_wp_objects: Annotated[
        bool, since("5.19"), "UFFDIO_REGISTER_MODE_WP on shared memory and hugetlb as well"
    ] = False
    uffd_refuses_droppable: Annotated[
        bool, since("6.17"), "memory of MAP_DROPPABLE cannot be registered with a userfaultfd"
    ] = False
    uffd_adds_flags: Annotated[
        bool,
        since("6.12"),  # not yet on 6.1.176, already on 6.12.43
        "UFFDIO_REGISTER leaves VM_SOFTDIRTY of the VMA it merges with",
    ] = False
    uffd_exact_address: Annotated[
        bool, since("5.18"), "userfaultfd has the feature EXACT_ADDRESS"
    ] = False
    uffd_wp_unpopulated: Annotated[
        bool, since("6.4"), "userfaultfd can write-protect private pages that are not there"
    ] = False
    uffd_poison: Annotated[bool, since("6.6"), "userfaultfd has the feature POISON"] = False
    uffd_wp_async: Annotated[
        bool, since("6.7"), "the kernel itself can end write protection by userfaultfd"
    ] = False
    uffd_move: Annotated[bool, since("6.8"), "userfaultfd has the feature MOVE"] = False
    uffd_rwp: Annotated[
        bool, since("7.3"), "userfaultfd has read-write protection (UFFDIO_REGISTER_MODE_RWP)"
    ] = False
    uffd_keeps_protection: Annotated[
        bool,
        since("7.3"),  # not yet on 7.2.13
        "registering for less than write or read-write protection again is EBUSY",
    ] = False
    uffd_minor_hugetlb: Annotated[
        bool,
        since("5.13"),
        "UFFDIO_REGISTER_MODE_MINOR, on hugetlb",
    ] = False
    uffd_minor_shared: Annotated[
        bool, since("5.14"), "UFFDIO_REGISTER_MODE_MINOR on shared memory as well"
    ] = False

    def on(self, geometry: Geometry) -> "Kernel":
        """The same behaviours on another geometry."""
        return self if geometry == self.geometry else replace(self, geometry=geometry)

    def having(self, settings: Mapping[str, bool]) -> "Kernel":
        """The kernel with these switches, under the name by which `kernel_named` knows it."""
        changes = {name: on for name, on in settings.items() if getattr(self, name) is not on}
        switches = "".join(f"{'+' if on else '-'}{name}" for name, on in changes.items())
        more: dict[str, Any] = {"name": self.name + switches, **changes}
        return replace(self, **more) if changes else self

    def moves_puds(self) -> bool:
        """True if the PUD mover is compiled in: d6655dff2e25 (5.14) leaves it out on two levels."""
        return self.move_pud and self.geometry.levels > 2


@dataclass(frozen=True, slots=True)
class Switch:
    """One behaviour by which kernels differ; `unread` as of `Unread`, if it is that."""

    name: str
    when: Interval
    text: str
    unread: Unread | None = None


SWITCHES: dict[str, Switch] = {
    name: Switch(name, *hint.__metadata__)
    for name, hint in get_type_hints(Kernel, include_extras=True).items()
    if get_origin(hint) is Annotated
}
NEWEST = max(series for switch in SWITCHES.values() for series in switch.when.series())
KNOWN_NAMES = (
    f"linux-{OLDEST} to linux-{NEWEST}",
    "a point release such as linux-6.12.43",
    "any of them with switches such as linux-6.18+wrap_safe_overlap-realign",
)
_NAME = re.compile(r"linux-([\d.]+)((?:[+-]\w+)*)", re.ASCII)


def kernel_of(at: Release, name: str | None = None) -> Kernel:
    """The kernel of a release, under a name of its own if it gets none."""
    settings: dict[str, Any] = {key: switch.when.holds(at) for key, switch in SWITCHES.items()}
    return Kernel(name or f"linux-{at}", **settings)


def _exists(series: Series) -> bool:
    return OLDEST <= series <= NEWEST and series.minor <= LAST_MINOR.get(series.major, NEWEST.minor)


def releases_with(settings: Mapping[str, bool]) -> Interval:
    """In which releases all of these switches are set so.

    In a series no more than one change is told, the first.
    """
    spans = [span for name in settings for span in SWITCHES[name].when.spans]

    def holds(series: Series, point: int) -> bool:
        at = Release(series, point)
        return all(SWITCHES[name].when.holds(at) is on for name, on in settings.items())

    began: dict[Series, bool] = {}
    changed: dict[Series, int] = {}
    for series in _every_series():
        began[series] = holds(series, 0)
        points = sorted(span.changes[series] for span in spans if series in span.changes)
        for point in points:
            if holds(series, point) is not began[series]:
                changed.setdefault(series, point)
    runs = [list(run) for had, run in groupby(began, began.__getitem__) if had]
    by_run: list[dict[Series, int]] = [{} for _ in runs]
    for series, point in changed.items():
        # One that joined later belongs to those that began so behind it.
        run = next((i for i, run in enumerate(runs) if series <= run[-1]), len(runs) - 1)
        by_run[run][series] = point
    return Interval(
        tuple(
            Span(
                run[0],
                None if run[-1] == NEWEST else run[-1],
                changes,
                frozenset(series for span in spans for series in span.guessed & changes.keys()),
                tuple(sorted({at for span in spans for at in span.unknown if at in run})),
            )
            for run, changes in zip(runs, by_run, strict=True)
        )
    )


def _every_series() -> Iterator[Series]:
    """All series from the oldest on, in order."""
    for major, minor in product(range(OLDEST.major, NEWEST.major + 1), range(_MOST_MINORS)):
        if _exists(series := Series(major, minor)):
            yield series


@lru_cache(maxsize=256)
def _computed(name: str) -> Kernel:
    """The kernel of that name on x86-64.  Errors raised: UnknownName."""
    found = _NAME.fullmatch(name)
    try:
        at = release(found[1] if found else "")
    except ValueError:
        raise UnknownName("kernel", name, list(KNOWN_NAMES)) from None
    assert found is not None
    if not _exists(at.series):
        raise UnknownName("kernel", name, list(KNOWN_NAMES))
    changes: dict[str, Any] = {}
    for sign, switch in re.findall(r"([+-])(\w+)", found[2]):
        if switch not in SWITCHES:
            raise UnknownName("switch", switch, list(SWITCHES))
        changes[switch] = sign == "+"
    return replace(kernel_of(at, name), **changes)


def kernel_named(name: str, geometry: str | None = None) -> Kernel:
    """The kernel of that name, on another geometry if one is named.

    Arguments: `name` such as linux-6.12.43, or linux-6.12 for its last known point release; behind
    it switches to turn on or off: linux-6.18+wrap_safe_overlap-realign.
    Errors raised: UnknownName, which lists what is known.
    """
    kernel = _computed(name)
    return kernel.on(geometry_named(geometry)) if geometry else kernel


def base_of(name: str) -> str:
    """The name of the release that a kernel of one's own is made from: linux-6.18 of
    linux-6.18+realign.  A release is its own base.
    """
    found = _NAME.fullmatch(name)
    return f"linux-{found[1]}" if found else name


@lru_cache(maxsize=1)
def releases() -> tuple[Kernel, ...]:
    """The kernels of all releases that differ from the one before, oldest first, on x86-64."""
    points: dict[Series, set[int]] = {series: {0, LATEST} for series in _every_series()}
    for switch in SWITCHES.values():
        for span in switch.when.spans:
            for series, point in span.changes.items():
                points[series] |= {max(point - 1, 0), point}
    found: dict[Release, Kernel] = {}
    last: Kernel | None = None
    for at in sorted(Release(series, point) for series in points for point in points[series]):
        kernel = kernel_of(at)
        if last is None or replace(kernel, name=last.name) != last:
            found[at] = last = kernel
        elif at.point == LATEST and next(reversed(found)).series == at.series:
            found[next(reversed(found))] = last = kernel  # the shorter name
    return tuple(found.values())


# Those that commands take if none is named: old and new ones, and the sources that were read.
KERNELS: dict[str, Kernel] = {
    name: kernel_named(name)
    for name in ("linux-5.0", "linux-6.1", "linux-6.7", "linux-6.12", "linux-6.18", "linux-7.3")
}
