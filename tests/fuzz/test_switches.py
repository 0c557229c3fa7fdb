"""Every switch by which kernels differ is read, and shows: in a committed case."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.base.kernel import SWITCHES, Kernel, base_of
from fuzz.execute import execute
from fuzz.findings.cases import load_all
from fuzz.forms.text import load
from fuzz.noted import Noted
from fuzz.showing import expectations, kernel_for
from fuzz.subjects.extended import extended
from fuzz.subjects.observe import observation
from tests.lib.constants import ROOT

# Where a switch shows: a case, and a kernel on which that does something else when the switch alone
# is turned over.  Not listed need be one for which a case of corpus/regressions has an expectation
# of a kernel that has it turned over: linux-6.18+SWITCH.
SHOWN_BY = {
    "move_pmd": ("regressions/thread-joel-pae-report", "linux-5.0"),
    "move_pud": ("museum/b-63-pae-gigabyte", "linux-5.0"),
    "swaps_empty_pmd_table": ("museum/b-63-pae-gigabyte", "linux-6.18"),
    "may_retry": ("regressions/huge-page-meets-emptied-table", "linux-5.0"),
    "dontunmap": ("regressions/dontunmap-counts-locked-twice", "linux-5.0"),
    "dontunmap_any": ("regressions/several-kept-look-alike", "linux-6.1"),
    "realign": ("regressions/uffd-wp-lost-by-rollback", "linux-6.7"),
    "realign_stack": ("regressions/thread-joel-pae-report", "linux-6.7"),
    "stack_expects_emptied": ("regressions/relocate-neighbour-below-new", "linux-6.18"),
    "negative_result_is_zero": ("museum/b-09-result-wraps", "linux-5.0"),
    "wrap_safe_result": ("museum/b-09-result-wraps", "linux-6.7"),
    "pmd_recheck": ("regressions/collapse-frees-the-table-that-moves", "linux-6.12"),
    "vma_lock_faults": ("regressions/faults-beside-a-move", "linux-6.18"),
    "vma_lock_faults_shared": ("regressions/faults-beside-a-move", "linux-6.18"),
    "vma_lock_madvise": ("regressions/advice-beside-a-move", "linux-6.18"),
    "merge_new_range": ("regressions/new-mapping-joins-two", "linux-5.0"),
    "protects_batches": ("regressions/protected-in-batches", "linux-6.17"),
    "mprotect_uncharges": ("regressions/mprotect-uncharges-emptied", "linux-6.1"),
    "dontunmap_no_self_merge": ("regressions/multi-move-stops-at-its-end", "linux-6.1"),
    "dontunmap_resets_pgoff": ("regressions/dontunmap-keeps-pgoff", "linux-6.1"),
    "dontunmap_splits_locked": ("regressions/dontunmap-unlocks-the-rest", "linux-6.18"),
    "dontunmap_counts_locked": ("regressions/dontunmap-counts-locked-twice", "linux-6.1"),
    "dontunmap_unlinks_anon_vma": ("regressions/dontunmap-counts-locked-twice", "linux-6.1"),
    "dontunmap_keeps_account": ("regressions/dontunmap-counts-locked-twice", "linux-6.1"),
    "dontunmap_asks_overcommit": ("museum/b-39-not-asked", "linux-6.1"),
    "uncharge_on_rollback": ("museum/b-37-rollback-leaks", "linux-5.0"),
    "rollback_nofail": ("regressions/rollback-loses-a-page", "linux-6.18"),
    "unmap_moved_nofail": ("regressions/limit-passed-by-what-is-not-cut-off", "linux-6.18"),
    "map_count_before_all": ("regressions/limit-asked-before-all", "linux-7.1"),
    "map_count_first": ("museum/b-57-map-count-late", "linux-5.0"),
    "wrap_safe_overlap": ("regressions/wrapping-overlap", "linux-5.0"),
    "mseal": ("regressions/mprotect-up-to-a-seal", "linux-5.0"),
    "merge_asks_anon_pgoff": ("regressions/file-copies-have-offsets-of-their-own", "linux-6.18"),
    "bpf_maps_fault": ("regressions/special-mapping-thrown-away", "linux-6.18"),
    "merge_keeps_soft_dirty": ("regressions/soft-dirty-lost-by-merge", "linux-6.18"),
    "uffd_adds_flags": ("regressions/soft-dirty-and-registered", "linux-6.12"),
    "uffd_exact_address": ("regressions/uffd-features", "linux-6.1"),
    "uffd_wp_unpopulated": ("regressions/uffd-wp-unpopulated", "linux-6.18"),
    "uffd_poison": ("regressions/uffd-features", "linux-6.1"),
    "uffd_wp_async": ("regressions/uffd-wp-async", "linux-6.18"),
    "uffd_move": ("regressions/uffd-features", "linux-6.1"),
    "swaps_in_writable": ("regressions/read-from-swap", "linux-6.7"),
    "removes_read_only": ("regressions/remove-what-may-only-be-read", "linux-5.0"),
    "dofork_not_hugetlb": ("regressions/hugetlb-dofork", "linux-6.18"),
    "hugetlb_zeroes_parts": ("regressions/hugetlb-hole-moved", "linux-6.1"),
    "seals_asked_first": ("regressions/seal-cuts-where-it-begins", "linux-6.12"),
    "mseal_forgets_merge": ("regressions/seal-around-a-seal", "linux-6.17"),
    "looks_again_for_source": ("museum/b-69-overlap-wraps", "linux-6.16"),
    "hugetlb_moves": ("regressions/hugetlb-part-moved", "linux-5.0"),
    "hugetlb_skips_apart": ("museum/b-45-hugetlb-skip", "linux-6.12"),
    "hugetlb_hint_rounds_up": ("regressions/hugetlb-hint", "linux-6.12"),
    "hugetlb_copy_keeps_reservation": ("museum/b-46-reservation", "linux-6.1"),
    "hugetlb_dontneed_reserves": ("regressions/hugetlb-not-reserved-again", "linux-6.9"),
    "hugetlb_rollback_unreserves": ("regressions/hugetlb-unreserved-by-a-failed-move", "linux-7.2"),
    "stack_growth_charges_accountable": ("regressions/stack-growth-leaks-commit", "linux-6.18"),
    "hugetlb_reserves_mapped": ("regressions/hugetlb-reserved-while-a-child-maps-it", "linux-6.18"),
    "hugetlb_rest_keeps_reservation": ("regressions/hugetlb-part-moved", "linux-6.18"),
    "shrink_charges_delta": ("regressions/shrinking-move-leaks-commit", "linux-5.0"),
    "check_before_unmap": ("museum/b-22-length", "linux-5.0"),
    "multi_vma_move": ("museum/b-22-length", "linux-6.18"),
    "merge_faulted_source": ("regressions/new-mapping-joins-two", "linux-5.0"),
    "merge_links_source": ("museum/b-43-unlinked", "linux-6.18"),
    "split_soft_dirty": ("regressions/soft-dirty-by-a-split", "linux-6.18"),
    "stacks_stay_small": ("regressions/stack-stays-small", "linux-6.12"),
    "map_droppable": ("regressions/droppable", "linux-6.18"),
    "thp_aligned_search": ("regressions/place-for-huge-pages", "linux-5.0"),
    "thp_aligns_any_length": ("regressions/place-of-a-length-that-is-no-multiple", "linux-6.7"),
    "thp_passes_tight_hint": ("regressions/place-at-a-tight-hint", "linux-6.7"),
    "thp_aligns_32_bit": ("regressions/place-on-32-bits", "linux-6.9"),
    "zero_pages_on_split": ("regressions/split-maps-zero-pages", "linux-5.0"),
    "populate_passes_holes": ("regressions/populate-and-a-hole", "linux-6.1"),
    "guard_markers": ("regressions/advice-before-it-was", "linux-5.0"),
    "huge_zero_write_allocates": ("regressions/huge-zero-page-written", "linux-5.0"),
    "refuses_shared_huge": ("regressions/nohugepage-shared", "linux-6.1"),
    "maps_whole_folio": ("regressions/remove-from-a-large-folio", "linux-6.18"),
    "splits_by_halves": ("regressions/remove-from-a-large-folio", "linux-6.12"),
    "faults_around_folio": ("regressions/nohugepage-shared", "linux-6.12"),
    "guesses_mapped_shared": ("regressions/cold-part-of-a-shared-folio", "linux-6.1"),
    "collapse_frees_all_tables": ("regressions/collapse-shared-empty-slot", "linux-6.1"),
    "collapse_makes_pmd_table": ("regressions/collapse-shared-without-table", "linux-6.7"),
    "collapses_without_write": ("regressions/collapse-read-only", "linux-6.1"),
    "collapse_passes_slots": ("regressions/collapse-passes-a-slot", "linux-6.1"),
    "collapse_of_no_slot": ("regressions/collapse-inside-a-slot", "linux-6.1"),
    "collapse_leaves_watched": ("regressions/collapse-leaves-watched-holes", "linux-6.1"),
    "collapse_drains": ("regressions/collapse-of-swapped-pages", "linux-6.1"),
    "swaps_in_large": ("regressions/swapped-in-whole", "linux-6.12"),
    "migration_soft_dirty": ("regressions/soft-dirty-by-a-split-folio", "linux-6.1"),
    "reclaims_tables": ("regressions/dontneed-frees-a-table", "linux-5.0"),
    "table_moves_lock_rmap": ("regressions/thread-joel-pae-report", "linux-5.0"),
    "uffd_write_protects": ("regressions/uffd-neighbour-unregistered", "linux-5.0"),
    "uffd_wp_cleared": ("museum/b-07-marker", "linux-6.1"),
    "uffd_checks_both": ("regressions/uffd-wp-lost-by-rollback", "linux-6.7"),
    "uffd_wp_cleared_last": ("regressions/uffd-wp-lost-by-rollback", "linux-6.18"),
    "uffd_copy_unmerged": ("regressions/uffd-neighbour-unregistered", "linux-6.18"),
    "uffd_wp_spans_vmas": ("regressions/uffd-wp-over-two-vmas", "linux-6.1"),
    "pte_batching": ("museum/b-49-write", "linux-6.17.8"),
    "batch_keeps_write": ("museum/b-49-write", "linux-6.17.8"),
    "large_folio_reuse": ("regressions/cold-part-of-a-shared-folio", "linux-6.12"),
    "advises_large_folios": ("regressions/freed-huge-pages-are-dropped", "linux-6.7"),
    "drops_huge": ("regressions/freed-huge-pages-are-dropped", "linux-6.12"),
    "keeps_huge": ("regressions/freed-huge-pages-are-dropped", "linux-6.17"),
    "unmaps_large_folios": ("regressions/freed-huge-pages-are-dropped", "linux-6.12"),
    "pageout_splits_shared": ("regressions/pageout-splits-shared-huge-page", "linux-6.1"),
    "madv_cold": ("regressions/advice-before-it-was", "linux-5.0"),
    "madv_populate": ("regressions/advice-before-it-was", "linux-5.0"),
    "onfault_anywhere": ("regressions/locked-on-fault", "linux-5.0"),
    "madv_dontneed_locked": ("regressions/advice-before-it-was", "linux-5.0"),
    "madv_collapse": ("regressions/advice-before-it-was", "linux-5.0"),
    "hugetlb_dontneed": ("regressions/hugetlb-dontneed-5.0", "linux-5.0"),
    "guards_objects": ("regressions/guards-6.14", "linux-6.14"),
    "uffd_wp_objects": ("regressions/uffd-modes-5.13", "linux-5.13"),
    "uffd_refuses_droppable": ("regressions/droppable-registered", "linux-6.17"),
    "contiguous_entries": ("regressions/one-entry-parts-a-block", "linux-7.3"),
    "remap_event_as_asked": ("regressions/remap-event-of-a-shrinking-move", "linux-6.1"),
    "uffd_rwp": ("regressions/uffd-rwp-modes", "linux-7.2"),
    "uffd_keeps_protection": ("regressions/uffd-rwp-modes", "linux-7.2"),
    "uffd_minor_hugetlb": ("regressions/uffd-modes-5.13", "linux-5.13"),
    "uffd_minor_shared": ("regressions/uffd-modes-5.13", "linux-5.13"),
}
# Those that the model does not ask for, each with its reason.
UNREAD = {"warn_pte_occupied"}


def own_kernels() -> Iterator[tuple[str, tuple[str, str]]]:
    """Each switch that a kernel of its own names in a regression: its place in SHOWN_BY."""
    for path, case in load_all(ROOT / "corpus" / "regressions").cases.items():
        for kernel in {*filter(None, [case.kernel]), *expectations(case)}:
            for switch in re.findall(r"\w+", kernel.removeprefix(base_of(kernel))):
                yield switch, (f"regressions/{path.stem}", kernel)


SHOWN_BY |= {switch: where for switch, where in own_kernels() if switch not in SHOWN_BY}


def shown(name: str, kernel: Kernel) -> tuple[object, ...]:
    """What a case shows: all that is observed, and the rules that it breaks."""
    outcome = execute(load(ROOT / "corpus" / f"{name}.case"), kernel, stop=False)
    broken = [(index, violation.rule) for index, violation in outcome.violations]
    return outcome.results, observation(outcome, ""), extended(outcome.space), broken


@pytest.mark.parametrize("switch", SHOWN_BY)
def test_a_switch_is_read_and_shows(switch: str) -> None:
    name, kernel_name = SHOWN_BY[switch]
    kernel = kernel_for(load(ROOT / "corpus" / f"{name}.case"), kernel_name)
    noted = Noted(kernel)
    as_it_is = shown(name, noted)
    assert switch in noted.read
    assert as_it_is == shown(name, kernel)
    turned = dict.fromkeys([switch], not getattr(kernel, switch))
    assert as_it_is != shown(name, replace(kernel, **turned))


def test_no_switch_is_forgotten() -> None:
    assert {name for name, switch in SWITCHES.items() if switch.unread} == UNREAD
    assert set(SHOWN_BY) == set(SWITCHES) - UNREAD


@pytest.mark.parametrize("switch", sorted(UNREAD))
def test_what_is_marked_as_unread_is_not_read(switch: str) -> None:
    note = SWITCHES[switch].unread
    assert note is not None and note.reason
    readers = [
        path.name
        for path in (ROOT / "engine").rglob("*.py")
        if re.search(rf"\b{switch}\b", path.read_text(encoding="utf-8"))
    ]
    assert readers == ["kernel.py"]
