"""Kernels as sets of switches, against the table of behaviours by version."""

from dataclasses import fields

import pytest

from engine.base.geometry import GEOMETRIES, UnknownName
from engine.base.kernel import KERNELS, SWITCHES, Kernel, kernel_named

# Behaviour: the named kernels that have it, in the order 5.0, 6.1, 6.7, 6.12, 6.18.
TABLE = {
    "move_pmd": "yes yes yes yes yes",
    "move_pud": "no yes yes yes yes",
    "dontunmap": "no yes yes yes yes",
    "dontunmap_any": "no yes yes yes yes",
    "realign": "no no yes yes yes",
    "realign_stack": "no no yes yes yes",
    "negative_result_is_zero": "no no yes yes yes",
    "wrap_safe_result": "no no no yes yes",
    "pmd_recheck": "no no no yes yes",
    "dontunmap_no_self_merge": "no yes no yes no",
    "dontunmap_resets_pgoff": "no yes no yes no",
    "dontunmap_splits_locked": "no yes no yes no",
    "check_before_unmap": "no no no no yes",
    "multi_vma_move": "no no no no yes",
    "merge_faulted_source": "no no no no yes",
    "warn_pte_occupied": "no no no no yes",
    "thp_aligned_search": "no no yes yes yes",
    "reclaims_tables": "no no no no yes",
    "table_moves_lock_rmap": "no yes yes yes yes",
    "uffd_wp_cleared": "no yes no yes yes",
    "uffd_checks_both": "no no no yes yes",
    "uffd_wp_spans_vmas": "no no yes yes yes",
    "pte_batching": "no no no no yes",
    "batch_keeps_write": "no no no no yes",
    "large_folio_reuse": "no no no no yes",
}
NAMES = ("linux-5.0", "linux-6.1", "linux-6.7", "linux-6.12", "linux-6.18")


@pytest.mark.parametrize("switch", TABLE)
def test_which_kernel_has_which_behaviour(switch: str) -> None:
    has = ["yes" if getattr(KERNELS[name], switch) else "no" for name in NAMES]
    assert " ".join(has) == TABLE[switch]


def test_every_switch_is_described_off_by_default_and_used_by_some_kernel() -> None:
    names = {field.name for field in fields(Kernel)} - {"name", "geometry"}
    assert {switch.name for switch in SWITCHES} == names
    assert set(TABLE) <= names
    plain = Kernel("plain")
    for switch in SWITCHES:
        assert switch.since
        assert switch.text
        assert getattr(plain, switch.name) is False
        used = any(getattr(kernel, switch.name) for kernel in KERNELS.values())
        assert used is (switch.since != "open"), switch.name  # open: no release has that fix


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


def test_unknown_names_are_errors_that_list_the_known() -> None:
    with pytest.raises(UnknownName, match=r"unknown kernel 'linux-9'; known: linux-5.0, .*6.18"):
        kernel_named("linux-9")
    with pytest.raises(UnknownName, match="unknown geometry 'vax'"):
        kernel_named("linux-6.1", "vax")
