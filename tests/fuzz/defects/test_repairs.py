"""What puts a known defect right: its case shows it on a kernel, and no longer with its repair."""

from collections import Counter
from pathlib import Path

import pytest

from engine.base.kernel import KERNELS, SWITCHES, Kernel, kernel_named
from fuzz.case import Case
from fuzz.defects.known import DEFECTS, KNOWN, repaired
from fuzz.forms.text import load
from fuzz.showing import expectations, kernel_for, showing
from tests.lib.constants import ROOT

CORPUS = ROOT / "corpus"
CASES = sorted(CORPUS.rglob("*.case"))

# Where a defect shows: a case, a kernel that has it, and the rule that it breaks there.
SHOWN_BY = {
    "B-01": ("museum/b-01-stack-warning", "linux-6.1", "dest-entry-none"),
    "B-05": ("museum/b-05-table-unlocked", "linux-5.0", "table-move-locked"),
    "B-07": ("museum/b-07-entries", "linux-6.7", "uffd-wp-stray"),
    "B-08": ("museum/b-08-rollback-warns", "linux-6.12.43", "rollback-dest-none"),
    "B-09": ("museum/b-09-result-wraps", "linux-6.7", "move-result"),
    "B-31": ("museum/b-31-anon-vma-kept", "linux-5.10", "anon-vma-linked"),
    "B-32": ("museum/b-32-pgoff-kept", "linux-6.18", "unfaulted-pgoff"),
    "B-33": ("regressions/dontunmap-keeps-pgoff", "linux-6.17.5", "dontunmap-source"),
    "B-34": ("museum/b-34-locked-twice", "linux-6.18", "locked-vm"),
    "dontunmap-unlocks": ("regressions/dontunmap-unlocks-the-rest", "linux-6.18", "lock-kept"),
    "B-35": ("museum/b-35-self-merge", "linux-6.18", "dontunmap-two-vmas"),
    "B-37": ("museum/b-37-rollback-leaks", "linux-6.18", "committed"),
    "B-39": ("museum/b-39-not-asked", "linux-5.10", "error-order"),
    "B-43": ("museum/b-43-unlinked", "linux-6.18.7", "anon-vma-linked"),
    "B-46": ("museum/b-46-reservation", "linux-6.7", "hugetlb-reserve"),
    "B-49": ("museum/b-49-write", "linux-6.17.8", "entry-bits-kept"),
    "B-57": ("museum/b-57-map-count-late", "linux-5.0", "error-traceless"),
    "B-63": ("museum/b-63-pae-gigabyte", "linux-6.18", "dest-entry-none"),
    "B-69": ("regressions/wrapping-overlap", "linux-6.18", "error-traceless"),
    "uffd-neighbour": (
        "regressions/uffd-neighbour-unregistered",
        "linux-6.18",
        "uffd-kept-elsewhere",
    ),
    "uffd-rollback": ("regressions/uffd-wp-lost-by-rollback", "linux-6.18", "rollback-keeps-wp"),
    "hugetlb-part": ("regressions/hugetlb-part-moved", "linux-6.18", "hugetlb-reserve"),
    "rollback-short": ("regressions/rollback-loses-a-page", "linux-6.18", "rollback-complete"),
    "not-cut-off": ("regressions/hugetlb-not-cut-off", "linux-6.18", "moved-unmapped"),
    "hypothetical": ("regressions/relocate-neighbour-below-new", "linux-6.18", "dest-entry-none"),
    "shrink-leak": ("museum/shrink-leak", "linux-6.18", "committed"),
}


def broken(case: Case, kernel: Kernel) -> Counter[str]:
    return Counter(violation.rule for _, violation in showing(case, kernel).violations)


@pytest.mark.parametrize("defect", SHOWN_BY)
def test_a_repair_alone_puts_its_defect_right(defect: str) -> None:
    name, kernel_name, rule = SHOWN_BY[defect]
    case = load(CORPUS / f"{name}.case")
    kernel = kernel_for(case, kernel_name)
    assert broken(case, kernel)[rule]
    assert not broken(case, DEFECTS[defect].repaired_on(kernel))[rule]


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_repair_is_of_its_defect(defect: str) -> None:
    """Where a kernel has the defect it is changed, and then the kernel has it no more."""
    known = DEFECTS[defect]
    for kernel in KERNELS.values():
        right = known.repaired_on(kernel)
        had = [s for s in known.bad if all(getattr(kernel, k) is v for k, v in s.items())]
        assert not had or right != kernel
        assert not [s for s in known.bad if all(getattr(right, k) is v for k, v in s.items())]


def test_every_defect_has_its_case() -> None:
    assert set(SHOWN_BY) == set(DEFECTS)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_repair_that_no_release_has_gives_its_reason(defect: str) -> None:
    known = DEFECTS[defect]
    proposed = [switch for switch in known.repair if not SWITCHES[switch].when.spans]
    assert bool(known.reason) == bool(proposed)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_repaired_kernel_breaks_no_rule(path: Path) -> None:
    case = load(path)
    for name in {*KERNELS, *expectations(case)}:
        kernel = repaired(kernel_for(case, name))
        assert not broken(case, kernel), name


def test_no_two_repairs_contradict_each_other() -> None:
    right = repaired(kernel_named("linux-5.0"))
    for known in KNOWN:
        assert known.repaired_on(right) == right


@pytest.mark.parametrize("name", ["linux-5.0", "linux-6.1.43", "linux-6.18+may_retry", "linux-7.3"])
@pytest.mark.parametrize("geometry", ["x86-64", "tiny"])
def test_the_name_of_a_repaired_kernel_is_that_kernel(name: str, geometry: str) -> None:
    right = repaired(kernel_named(name, geometry))
    assert right == kernel_named(right.name, geometry)
    assert repaired(right) == right
