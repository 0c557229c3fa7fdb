"""What puts a known defect right: its case shows it on a kernel, and no longer with its repair."""

from collections import Counter
from pathlib import Path

import pytest

from engine.base.kernel import KERNELS, SWITCHES, Kernel, kernel_named
from fuzz.case import Case
from fuzz.defects.defect import Defect
from fuzz.defects.known import KNOWN, repaired
from fuzz.forms.text import load
from fuzz.showing import expectations, kernel_for, showing
from tests.lib.constants import ROOT

CORPUS = ROOT / "corpus"
CASES = sorted(CORPUS.rglob("*.case"))
each_defect = pytest.mark.parametrize("defect", KNOWN, ids=lambda known: known.id)


def broken(case: Case, kernel: Kernel) -> Counter[str]:
    return Counter(violation.rule for _, violation in showing(case, kernel).violations)


@each_defect
def test_a_repair_alone_puts_its_defect_right(defect: Defect) -> None:
    case = load(CORPUS / f"{defect.case}.case")
    kernel = kernel_for(case, defect.shown_on)
    assert defect.present(kernel)
    assert broken(case, kernel)[defect.rule]
    assert not broken(case, defect.repaired_on(kernel))[defect.rule]


@each_defect
def test_a_repair_is_of_its_defect(defect: Defect) -> None:
    """Where a kernel has the defect it is changed, and then has it no more; else it stays."""
    for kernel in KERNELS.values():
        right = defect.repaired_on(kernel)
        assert (right != kernel) is defect.present(kernel)
        assert not defect.present(right)


@each_defect
def test_a_repair_that_no_release_has_gives_its_reason(defect: Defect) -> None:
    proposed = [switch for switch in defect.repair if not SWITCHES[switch].when.spans]
    assert bool(defect.reason) == bool(proposed)


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
