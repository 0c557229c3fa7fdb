"""`pmdfuzz run --against`: new inputs run on subjects, too, and what differs is a finding."""

import re
from pathlib import Path
from typing import Any

import pytest

from fuzz.campaign.differential import Differential
from fuzz.campaign.run import _Run, run
from fuzz.case import Case, Faults
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import load
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from fuzz.subjects.beside import beside_model
from fuzz.subjects.model import Model
from fuzz.subjects.subject import SubjectError
from tests.lib.constants import ROOT
from tests.lib.machine import CALLS
from tests.lib.runs import fuzzing_test, options


def the_machine() -> tuple[str, ...]:
    """The model of this machine's kernel; skips the test where cases cannot run."""
    try:
        with beside_model() as pair:
            return (pair.model.name,)
    except SubjectError as error:
        pytest.skip(str(error))


@fuzzing_test
def test_new_inputs_run_on_the_machine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    both = {"kernels": the_machine(), "against": ("host",), "runs": 100, "calls": CALLS}
    assert run(options(tmp_path, ROOT / "corpus/seeds", **both)) == FINE
    found = re.search(
        r"^(\d+) inputs were run on Linux \S+ and compared", capfd.readouterr().out, re.M
    )
    assert found is not None and int(found[1]) >= 10


@fuzzing_test
def test_a_divergence_from_the_machine_is_minimized_and_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = Model.observe

    def wrong(self: Model, case: Case, beside: Any = None) -> dict[str, Any]:
        """A model in which peek tells nothing of faults."""
        seen = observe(self, case, beside)
        for index, call in enumerate(case.calls):
            if call.name == "peek":
                seen["ret"][index] = 0
        return seen

    kernels = the_machine()
    monkeypatch.setattr(Model, "observe", wrong)
    only = frozenset(("peek",))
    status = run(options(tmp_path, kernels=kernels, against=("host",), runs=20, calls=only))
    assert status == SURPRISES
    shown = capfd.readouterr().out
    assert "NEW FINDING machine-differs--peek: Linux" in shown
    assert f"peek.case --on host --kernel {kernels[0]}\n" in shown  # how to reproduce it
    case = load(tmp_path / "work" / "findings" / "machine-differs--peek.case")
    (call,) = case.calls
    assert isinstance(call.result, Faults)  # what the machine did


@fuzzing_test
def test_a_run_goes_on_without_a_machine_that_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Model, cases: object) -> None:
        raise SubjectError("the agent gave up")

    monkeypatch.setattr(Model, "begin", lost)
    both = {"kernels": (), "against": ("model:linux-6.1",), "runs": 100, "calls": CALLS}
    assert run(options(tmp_path, **both)) == FINE
    shown = capfd.readouterr().out
    assert shown.count("The run goes on without linux-6.1: the agent gave up") == 1
    assert re.search(r"^100 executions in ", shown, re.M)
    assert "; lost: the agent gave up" in shown


@fuzzing_test
def test_a_run_is_against_several_subjects(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is what its model says; the other is another kernel, and so a finding."""
    few = Model.able._replace(calls=Model.able.calls - {"fork"})
    monkeypatch.setattr(Model, "able", few)
    against = ("model:linux-6.12", f"model-at:{ROOT}@linux-6.18")
    two = {"kernels": ("linux-6.12",), "against": against, "machines": 2, "jobs": 2}
    status = run(options(tmp_path, **two, runs=300, seed=5))
    assert status == SURPRISES
    shown = capfd.readouterr().out
    assert re.search(r"^against linux-6.12, beside linux-6.12; it has no fork$", shown, re.M)
    assert re.search(r"^against model-at:\S+@linux-6.18, beside linux-6.12$", shown, re.M)
    assert re.search(
        r"^\d+ inputs were run on linux-6.12 and compared with linux-6.12; left out: fork \d+$",
        shown,
        re.M,
    )
    (other, *_) = re.findall(r"^NEW FINDING machine-differs--\w+: (\S+) is not (\S+)$", shown, re.M)
    assert other == (against[1], "linux-6.12")
    assert f"--on {against[1]} --kernel linux-6.12\n" in shown  # how to reproduce it
    with Ledger.open(tmp_path / "work") as ledger:
        found = [one for one in ledger.list() if one.bucket.rule == "machine-differs"]
    assert found and all(one.machines == {against[1]: one.count} for one in found)


@fuzzing_test
def test_what_each_of_several_subjects_has_met_is_counted_alone(tmp_path: Path) -> None:
    against = ("model:linux-6.18", "model:linux-7.3")
    run(options(tmp_path, kernels=("linux-5.0",), against=against, machines=2, runs=300, seed=5))
    with Ledger.open(tmp_path / "work") as ledger:
        found = [one for one in ledger.list() if one.bucket.rule == "machine-differs"]
    assert any(len(one.machines) == 2 for one in found)
    assert all(sum(one.machines.values()) == one.count for one in found)
    assert all(count < 300 for one in found for count in one.machines.values())


@fuzzing_test
def test_a_subject_that_is_too_slow_is_not_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Differential, "batch", lambda _: [])  # it never gets round to any
    monkeypatch.setattr(_Run, "_time_is_up", lambda _: True)  # once its process has ended
    run(options(tmp_path, kernels=(), against=("model:linux-6.1",)))
    shown = capfd.readouterr().out
    assert re.search(r"^0 inputs were run on linux-6.1 .*, \d+ new ones were not$", shown, re.M)


def test_subjects_with_different_page_tables_need_a_run_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = ("model:linux-6.12", "model:linux-6.12@tiny")
    assert run(options(tmp_path, kernels=(), against=against)) == BAD_INPUT
    said = capsys.readouterr().err
    assert "each needs its own run: linux-6.12 (x86-64), linux-6.12 (tiny)" in said
