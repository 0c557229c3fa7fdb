"""What a known defect explains of what a kernel reports.  A model stands for the machine."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.base.kernel import Kernel, kernel_named
from fuzz.campaign.seeds import CORPUS
from fuzz.case import Call, Case
from fuzz.forms.text import format_call, load
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.subjects import check as module
from fuzz.subjects.against import Against
from fuzz.subjects.check import CheckOptions, check
from fuzz.subjects.model import Model
from fuzz.subjects.reported import explained
from fuzz.subjects.subject import Observation

LOSES = load(CORPUS / "museum" / "b-45-hugetlb-skip.case")
HAS_IT, HAS_IT_NOT = kernel_named("linux-6.18.15"), kernel_named("linux-7.3.4")
TABLE = "BUG: non-zero pgtables_bytes on freeing mm"
OTHER = "BUG: Bad page map"


class Machine(Model):
    """One whose kernel reports `what` at the end of each program."""

    what = TABLE
    after: tuple[list[str], ...] = ()

    def observe(self, case: Case, beside: Observation | None = None) -> Observation:
        report = {"kind": "bug", "what": self.what, "lines": [self.what], "end": True}
        report |= {"after": self.after}
        return super().observe(case, beside) | {"kernel": report}

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        return (self.observe(case) for case in cases)


@pytest.mark.parametrize(
    ("kernel", "what", "defect"),
    [(HAS_IT, TABLE, "B-45"), (HAS_IT, OTHER, ""), (HAS_IT_NOT, TABLE, "")],
)
def test_a_report_is_explained_by_what_the_model_leaves_behind(
    kernel: Kernel, what: str, defect: str
) -> None:
    assert explained(LOSES, kernel, what) == defect


def test_what_is_explained_is_the_finding_of_the_defect_and_is_minimized_by_the_model() -> None:
    pair = Against(Model(HAS_IT), Machine(HAS_IT))
    longer = replace(LOSES.program(), calls=(Call("munmap", (0, 0x1000)), *LOSES.calls))
    found = pair.divergence(longer)
    assert found is not None
    assert found.bucket.name == "kernel-bug--exit--B-45"
    small = pair.minimized(found, 500)
    assert small is not None
    assert small.bucket == found.bucket
    assert [call.name for call in small.case.calls] == ["mmap", "touch", "mremap"]


def test_a_program_before_may_be_what_explains_it() -> None:
    machine = Machine(HAS_IT)
    machine.after = ([format_call(call) for call in LOSES.calls], ["munmap(0x0, 0x1000)"])
    pair = Against(Model(HAS_IT), machine)
    found = pair.divergence(Case((Call("munmap", (0, 0x2000)),)))
    assert found is not None
    assert found.bucket.name == "kernel-bug--exit--B-45"
    small = pair.minimized(found, 500)
    assert small is not None
    assert [call.name for call in small.case.calls] == ["mmap", "touch", "mremap"]


@pytest.mark.parametrize(("what", "status"), [(TABLE, FINE), (OTHER, SURPRISES)])
def test_a_check_counts_what_is_explained_for_itself(
    what: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = Machine(HAS_IT)
    machine.what = what
    monkeypatch.setattr(module, "_MINIMIZE_BUDGET", 8)
    monkeypatch.setattr(module, "beside_model", lambda *_, **__: Against(Model(HAS_IT), machine))
    monkeypatch.setattr(module, "generated", lambda *_: iter([LOSES.program()] * 3))
    assert check(CheckOptions(tmp_path, cases=3, seed=1)) == status
    shown = capsys.readouterr().out
    told = f"3  known: B-45, hugetlb: the two cursors part over a missing table (it reports {what})"
    assert (told in shown) == (status == FINE)
