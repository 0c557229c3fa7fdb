"""Kernels as sets of switches, against the table of behaviours by version."""

import contextlib
import itertools
from dataclasses import fields, replace

import pytest

from engine.base.geometry import GEOMETRIES, UnknownName
from engine.base.kernel import (
    KERNELS,
    SWITCHES,
    Kernel,
    base_of,
    kernel_named,
    releases,
    releases_with,
)
from engine.base.release import never, release

# Behaviour: the named kernels that have it, in the order 5.0, 6.1, 6.7, 6.12, 6.18, 7.3.  Written
# down, not computed: 6.1.192, 6.12.117, 6.18.44 and 7.3.4 were compared with recordings by these.
TABLE = {
    "move_pmd": "yes yes yes yes yes yes",
    "move_pud": "no yes yes yes yes yes",
    "swaps_empty_pmd_table": "no no no no no no",
    "may_retry": "no no yes yes yes yes",
    "dontunmap": "no yes yes yes yes yes",
    "dontunmap_any": "no yes yes yes yes yes",
    "realign": "no no yes yes yes yes",
    "realign_stack": "no no yes yes yes yes",
    "stack_expects_emptied": "no no no no no no",
    "negative_result_is_zero": "no no yes yes yes yes",
    "wrap_safe_result": "no no no yes yes yes",
    "pmd_recheck": "no no no yes yes yes",
    "vma_lock_faults": "no no yes yes yes yes",
    "vma_lock_faults_shared": "no no yes yes yes yes",
    "vma_lock_madvise": "no no no no yes yes",
    "merge_new_range": "no no no yes yes yes",
    "protects_batches": "no no no no yes yes",
    "contiguous_entries": "no no no yes yes yes",
    "mprotect_uncharges": "no no yes yes yes yes",
    "dontunmap_no_self_merge": "no yes no yes no yes",
    "dontunmap_resets_pgoff": "no yes no yes no yes",
    "dontunmap_splits_locked": "no yes no yes no yes",
    "dontunmap_counts_locked": "no no no no yes no",
    "dontunmap_unlinks_anon_vma": "no yes yes yes yes yes",
    "dontunmap_keeps_account": "no yes yes yes yes yes",
    "dontunmap_asks_overcommit": "no yes yes yes yes yes",
    "uncharge_on_rollback": "yes no no no no yes",
    "rollback_nofail": "no no no no no no",
    "unmap_moved_nofail": "no no no no no no",
    "map_count_before_all": "no no no no no yes",
    "map_count_first": "no yes yes yes yes yes",
    "wrap_safe_overlap": "no no no no no no",
    "mseal": "no no no yes yes yes",
    "anon_inodes_noexec": "no no no no yes yes",
    "refused_mmap_leaks_charge": "no no no yes yes no",
    "bpf_maps_fault": "no no no no no yes",
    "merge_keeps_soft_dirty": "no no no no no yes",
    "merge_asks_anon_pgoff": "no no no no no yes",
    "uffd_adds_flags": "no no no yes yes yes",
    "uffd_exact_address": "no yes yes yes yes yes",
    "uffd_wp_unpopulated": "no no yes yes yes yes",
    "uffd_poison": "no no yes yes yes yes",
    "uffd_wp_async": "no no yes yes yes yes",
    "uffd_move": "no no no yes yes yes",
    "swaps_in_writable": "no no no yes yes yes",
    "removes_read_only": "no yes yes yes yes yes",
    "dofork_not_hugetlb": "no no no no no yes",
    "hugetlb_zeroes_parts": "no yes yes yes yes yes",
    "seals_asked_first": "no no no no no no",
    "mseal_forgets_merge": "no no no no no no",
    "looks_again_for_source": "no no no no yes yes",
    "hugetlb_moves": "no yes yes yes yes yes",
    "hugetlb_skips_apart": "no yes yes no yes no",
    "hugetlb_hint_rounds_up": "no no no no yes yes",
    "hugetlb_copy_keeps_reservation": "no yes no yes yes yes",
    "hugetlb_dontneed_reserves": "no no no yes yes yes",
    "hugetlb_rollback_unreserves": "no no no no yes no",
    "hugetlb_reserves_mapped": "no no no no yes no",
    "hugetlb_rest_keeps_reservation": "no no no no no no",
    "stack_growth_charges_accountable": "no no no no no no",
    "shrink_charges_delta": "no no no no yes no",
    "check_before_unmap": "no no no no yes yes",
    "multi_vma_move": "no no no no yes yes",
    "merge_faulted_source": "no no no no yes yes",
    "merge_links_source": "no no no no yes yes",
    "warn_pte_occupied": "no no no no yes yes",
    "split_soft_dirty": "no no yes yes yes yes",
    "stacks_stay_small": "no no yes yes yes yes",
    "map_droppable": "no no no yes yes yes",
    "thp_aligned_search": "no no yes yes yes yes",
    "thp_aligns_any_length": "no no yes no no no",
    "thp_passes_tight_hint": "no no yes no no no",
    "thp_aligns_32_bit": "no no yes no no no",
    "zero_pages_on_split": "no no no yes yes yes",
    "populate_passes_holes": "no yes yes no no no",
    "guard_markers": "no no no no yes yes",
    "huge_zero_write_allocates": "no no no no yes yes",
    "refuses_shared_huge": "no no no yes yes yes",
    "maps_whole_folio": "no no no yes yes yes",
    "splits_by_halves": "no no no no yes yes",
    "faults_around_folio": "no no no no yes yes",
    "guesses_mapped_shared": "no no no yes yes yes",
    "collapse_frees_all_tables": "no no yes yes yes yes",
    "collapse_makes_pmd_table": "no no no no yes yes",
    "collapses_without_write": "no no no no yes yes",
    "collapse_leaves_watched": "no no yes yes yes yes",
    "collapse_drains": "no no yes yes yes yes",
    "swaps_in_large": "no no no no yes yes",
    "migration_soft_dirty": "no yes yes no no no",
    "reclaims_tables": "no no no no yes yes",
    "table_moves_lock_rmap": "no yes yes yes yes yes",
    "uffd_write_protects": "no yes yes yes yes yes",
    "uffd_wp_cleared": "no yes no yes yes yes",
    "uffd_checks_both": "no no no yes yes yes",
    "uffd_wp_cleared_last": "no no no no no no",
    "remap_event_as_asked": "yes yes yes yes no no",
    "uffd_copy_unmerged": "no no no no no yes",
    "uffd_wp_spans_vmas": "no no yes yes yes yes",
    "pte_batching": "no no no no yes yes",
    "batch_keeps_write": "no no no no yes yes",
    "large_folio_reuse": "no no no no yes yes",
    "advises_large_folios": "no no no yes yes yes",
    "drops_huge": "no no no no no no",
    "keeps_huge": "no no no no no no",
    "unmaps_large_folios": "no no no no yes yes",
    "pageout_splits_shared": "yes yes yes no no no",
    "madv_cold": "no yes yes yes yes yes",
    "madv_populate": "no yes yes yes yes yes",
    "madv_dontneed_locked": "no yes yes yes yes yes",
    "onfault_anywhere": "no yes yes yes yes yes",
    "madv_collapse": "no yes yes yes yes yes",
    "hugetlb_dontneed": "no yes yes yes yes yes",
    "guards_objects": "no no no no yes yes",
    "uffd_wp_objects": "no yes yes yes yes yes",
    "uffd_refuses_droppable": "no no no no yes yes",
    "uffd_rwp": "no no no no no yes",
    "uffd_keeps_protection": "no no no no no yes",
    "uffd_minor_hugetlb": "no yes yes yes yes yes",
    "uffd_minor_shared": "no yes yes yes yes yes",
    "collapse_passes_slots": "no no no no no yes",
    "collapse_of_no_slot": "no no no no no yes",
}
NAMES = ("linux-5.0", "linux-6.1", "linux-6.7", "linux-6.12", "linux-6.18", "linux-7.3")


@pytest.mark.parametrize("switch", TABLE)
def test_which_kernel_has_which_behaviour(switch: str) -> None:
    has = ["yes" if getattr(KERNELS[name], switch) else "no" for name in NAMES]
    assert " ".join(has) == TABLE[switch]


def test_every_switch_is_in_the_table_described_and_off_by_default() -> None:
    assert list(SWITCHES) == [
        field.name for field in fields(Kernel) if field.name not in ("name", "geometry")
    ]
    released = {name for name, switch in SWITCHES.items() if switch.when != never}
    assert released <= set(TABLE) <= set(SWITCHES), "what no release has needs no line"
    plain = Kernel("plain")
    for name, switch in SWITCHES.items():
        assert switch.name == name
        assert str(switch.when)
        assert switch.text
        assert getattr(plain, name) is False


# Point releases that differ from the latest of their series: behaviour, last without it, first
# with it.
BACKPORTS = [
    ("uffd_wp_cleared", "linux-6.12.10", "linux-6.12.11"),
    ("uffd_wp_cleared", "linux-6.1.190", "linux-6.1.191"),
    ("uffd_checks_both", "linux-6.12.113", "linux-6.12.114"),
    ("uffd_checks_both", "linux-6.16.3", "linux-6.16.4"),
    ("dontunmap_no_self_merge", "linux-6.12.43", "linux-6.12.114"),
    ("dontunmap_no_self_merge", "linux-7.2.6", "linux-7.2.13"),
    ("dontunmap_resets_pgoff", "linux-6.12.111", "linux-6.12.112"),
    ("dontunmap_resets_pgoff", "linux-7.1.13", "linux-7.2.6"),
    ("dontunmap_keeps_account", "linux-6.17.5", "linux-6.17.6"),
    ("merge_links_source", "linux-6.18.7", "linux-6.18.8"),
    ("batch_keeps_write", "linux-6.17.8", "linux-6.17.9"),
    ("table_moves_lock_rmap", "linux-5.13.2", "linux-5.13.3"),
    ("pmd_recheck", "linux-6.6.57", "linux-6.6.58"),
    ("wrap_safe_result", "linux-6.11.9", "linux-6.11.10"),
    ("collapses_without_write", "linux-6.17.13", "linux-6.18.5"),
    ("collapse_passes_slots", "linux-6.18.15", "linux-6.19.6"),
    ("dontunmap_keeps_account", "linux-6.16.12", "linux-6.14"),
    ("dontunmap_counts_locked", "linux-7.2.13", "linux-7.2.6"),  # here the first is without it
    ("shrink_charges_delta", "linux-7.3", "linux-7.2.13"),
    ("removes_read_only", "linux-6.1.148", "linux-6.1.149"),
    ("uncharge_on_rollback", "linux-5.16", "linux-5.15"),
    ("uncharge_on_rollback", "linux-7.2.13", "linux-7.3"),
]


@pytest.mark.parametrize(("switch", "without", "having"), BACKPORTS)
def test_point_releases_have_what_was_carried_back_to_them(
    switch: str, without: str, having: str
) -> None:
    assert not getattr(kernel_named(without), switch)
    assert getattr(kernel_named(having), switch)


@pytest.mark.parametrize("series", ["5.4", "5.13", "6.1", "6.6", "6.12", "6.18", "7.2"])
def test_a_series_is_its_last_known_point_release(series: str) -> None:
    latest = kernel_named(f"linux-{series}")
    assert latest.name == f"linux-{series}"
    assert replace(kernel_named(f"linux-{series}.9999"), name=latest.name) == latest


def test_linux_6_6_and_its_point_releases() -> None:
    first, before, latest = map(kernel_named, ("linux-6.6.0", "linux-6.6.57", "linux-6.6"))
    assert replace(before, name=first.name) == first
    assert [name for name in SWITCHES if getattr(first, name) != getattr(latest, name)] == [
        "pmd_recheck"
    ]
    old, new = kernel_named("linux-6.1.0"), kernel_named("linux-6.7")
    assert {name for name in SWITCHES if getattr(old, name) != getattr(first, name)} == {
        "may_retry",
        "mprotect_uncharges",
        "vma_lock_faults",
        "collapse_frees_all_tables",
        "collapse_leaves_watched",
        "collapse_drains",
        "split_soft_dirty",
        "uffd_wp_spans_vmas",
        "uffd_wp_unpopulated",
        "uffd_poison",
    }
    assert {name for name in SWITCHES if getattr(first, name) != getattr(new, name)} == {
        "realign",
        "realign_stack",
        "negative_result_is_zero",
        "vma_lock_faults_shared",
        "stacks_stay_small",
        "removes_read_only",
        "uffd_wp_async",
        "thp_aligned_search",
        "thp_aligns_any_length",
        "thp_passes_tight_hint",
        "thp_aligns_32_bit",
    }


def test_switches_behind_a_name_are_turned_on_and_off() -> None:
    plain = kernel_named("linux-6.18")
    changed = kernel_named("linux-6.18+wrap_safe_overlap-realign-mseal", "tiny")
    assert changed == replace(
        plain.on(GEOMETRIES["tiny"]),
        name="linux-6.18+wrap_safe_overlap-realign-mseal",
        wrap_safe_overlap=True,
        realign=False,
        mseal=False,
    )
    assert not kernel_named("linux-6.12.10+realign-realign").realign  # the last word counts


def test_releases_are_those_that_differ_from_the_one_before() -> None:
    found = releases()
    names = [kernel.name for kernel in found]
    assert names[0] == "linux-5.0"
    assert ("linux-6.6.57" in names, "linux-6.6" in names) == (False, True)
    assert ("linux-5.7" in names, "linux-5.8" in names) == (True, False), "these two are alike"
    assert [kernel_named(name) for name in names] == list(found)
    for one, other in itertools.pairwise(found):
        assert replace(one, name=other.name) != other
    for switch in SWITCHES.values():
        held = [getattr(kernel, switch.name) for kernel in found]
        assert any(held) is bool(switch.when.spans), switch.name


def test_the_base_of_a_kernel_is_its_release() -> None:
    assert base_of("linux-6.18+wrap_safe_overlap-realign") == "linux-6.18"
    assert base_of("linux-6.12.43-realign") == "linux-6.12.43"
    assert base_of("linux-6.18") == "linux-6.18"


def test_every_release_between_the_oldest_and_the_newest_has_a_kernel() -> None:
    found = []
    for major, minor in itertools.product(range(4, 9), range(22)):
        with contextlib.suppress(UnknownName):
            found.append(kernel_named(f"linux-{major}.{minor}").name)
    assert found[0] == "linux-5.0"
    assert found[-1] == "linux-7.3"
    assert len(found) == 20 + 20 + 4


def test_names_are_their_own_and_carry_x86_64() -> None:
    for name, kernel in KERNELS.items():
        assert kernel.name == name
        assert kernel.geometry is GEOMETRIES["x86-64"]


def test_a_kernel_on_another_geometry_behaves_the_same() -> None:
    kernel = kernel_named("linux-6.12")
    tiny = kernel_named("linux-6.12", "tiny")
    assert tiny.geometry is GEOMETRIES["tiny"]
    assert tiny != kernel
    assert tiny.on(kernel.geometry) == kernel
    assert kernel.on(kernel.geometry) is kernel


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_pud_mover_needs_more_than_two_levels(name: str) -> None:
    geometry = GEOMETRIES[name]
    assert kernel_named("linux-6.12", name).moves_puds() is (geometry.levels > 2)
    assert not kernel_named("linux-5.0", name).moves_puds()


@pytest.mark.parametrize(
    "name",
    [
        *("linux-9", "linux-4.20", "linux-5.20", "linux-6.20.1", "linux-7.4", "linux-8.0"),
        *("linux-06.1", "linux-6.1.", "linux-6..1", "linux-6.1.2.3", "linux-6.1-rc1", "6.1"),
        *("linux-6.1+", "linux-6.1+-realign", "linux-6.1 ", "linux-6.१", ""),
    ],
)
def test_unknown_names_are_errors_that_list_the_known(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        kernel_named(name)
    if not name.endswith("-rc1"):
        assert str(caught.value).startswith(f"unknown kernel {name!r}; known: linux-5.0 to ")


def test_unknown_switches_and_geometries_are_errors_that_list_the_known() -> None:
    with pytest.raises(
        UnknownName, match=r"unknown switch 'rc1'; known: .*move_pmd, .*, realign, "
    ):
        kernel_named("linux-6.1-rc1")
    with pytest.raises(UnknownName, match="unknown geometry 'vax'"):
        kernel_named("linux-6.1", "vax")


@pytest.mark.parametrize(
    "settings",
    [
        *({name: on} for name in SWITCHES for on in (True, False)),
        {"dontunmap": True, "dontunmap_resets_pgoff": False},
        {"dontunmap_keeps_account": False, "dontunmap": True},
        {"merge_faulted_source": True, "merge_links_source": False},
    ],
    ids=str,
)
def test_when_switches_were_set_so_is_told_of_every_release(settings: dict[str, bool]) -> None:
    when = releases_with(settings)
    for kernel in releases():
        at = release(kernel.name.removeprefix("linux-"))
        assert when.holds(at) is all(getattr(kernel, name) is on for name, on in settings.items())
