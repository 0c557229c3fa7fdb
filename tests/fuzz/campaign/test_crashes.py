"""What fails in a run, the engine, a rule, the mutator, a process, is told and does not end it."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.campaign.run import run
from fuzz.defects.defect import Change
from fuzz.forms.text import load
from fuzz.lib.exits import OUR_DEFECT, SURPRISES
from fuzz.showing import replay
from tests.lib.runs import fuzzing_test, options

# Found by the fuzzing process, and nobody else, as it starts.
PLANTED = """\
import sys
from importlib.abc import MetaPathFinder

def fail(*_, **__):
    {0}

class Planter(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "fuzz.subjects.pair":  # imported once all else is
            sys.modules["{1}"].{2} = fail

if "fuzz.campaign.harness" in sys.orig_argv:
    sys.meta_path.insert(0, Planter())
"""


def failing(*_: object, **__: object) -> None:
    """A function of the engine that does not do what it should."""
    raise AssertionError("planted")


Plant = Callable[[str, str], None]  # what to do in place of a function, which is named


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Plants a bug in the fuzzing processes that are started from now on."""

    def do(what: str, name: str) -> None:
        module = next(
            one for one in sorted(sys.modules, reverse=True) if name.startswith(f"{one}.")
        )
        program = PLANTED.format(what, module, name.removeprefix(f"{module}."))
        (tmp_path / "sitecustomize.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return do


@fuzzing_test
def test_a_fuzzing_process_that_dies_is_told(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str], plant: Plant
) -> None:
    plant("import os; os._exit(5)", "fuzz.rules.judge.StateRules.check")
    assert run(options(tmp_path, seeds, runs=None)) == OUR_DEFECT
    shown = capfd.readouterr().out
    assert shown.count("a defect of pmdfuzz: exit status 5; another one goes on") == 4
    assert shown.count("a defect of pmdfuzz: exit status 5; the run ends") == 1
    assert "5 fuzzing processes in a row have died before they had executed anything" in shown
    assert "libfuzzer.log" in shown


@fuzzing_test
def test_a_failed_assertion_of_the_engine_is_a_finding(
    tmp_path: Path,
    seeds: Path,
    capfd: pytest.CaptureFixture[str],
    plant: Plant,
) -> None:
    plant('raise AssertionError("planted")', "engine.stack.relocate_vma_down")
    with Change("engine.stack:relocate_vma_down", lambda _: failing).applied():
        assert run(options(tmp_path, seeds, kernels=("linux-6.18",))) == SURPRISES
        case = load(tmp_path / "work" / "findings" / "exception--execve_stack.case")
        (again,) = replay(case)
    shown = capfd.readouterr().out
    assert "NEW FINDING exception--execve_stack on linux-6.18" in shown
    assert re.search(r"AssertionError: planted in \w+, engine/stack\.py:\d+", shown)
    assert [call.name for call in case.calls] == ["execve_stack"]
    assert again.as_expected and again.rule == "exception"


def endless(*_: object, **__: object) -> None:
    while True:
        pass


def eater(*_: object, **__: object) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 20))


@fuzzing_test
@pytest.mark.parametrize(
    ("rule", "does", "here"),
    [
        ("timeout", "while True: pass", endless),
        ("memory", "eaten = [bytearray(1 << 20) for _ in iter(int, 1)]", eater),
    ],
)
def test_a_call_that_does_not_end_is_a_finding(
    rule: str,
    does: str,
    here: Callable[..., None],
    tmp_path: Path,
    seeds: Path,
    capfd: pytest.CaptureFixture[str],
    plant: Plant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(does, "engine.stack.relocate_vma_down")
    monkeypatch.setattr("fuzz.bounded.MOST_STEPS", 400_000)
    monkeypatch.setattr("fuzz.campaign.inquiry._NARROW_STEPS", 40_000)
    monkeypatch.setattr("fuzz.lib.processes.MEMORY_BYTES", 1 << 29)
    chosen = options(tmp_path, seeds, kernels=("linux-6.18",), runs=3, geometries=("x86-64",))
    with Change("engine.stack:relocate_vma_down", lambda _: here).applied():
        assert run(chosen) == SURPRISES
        case = load(tmp_path / "work" / "findings" / f"{rule}--execve_stack.case")
        (again,) = replay(case)
    shown = capfd.readouterr().out
    assert f"NEW FINDING {rule}--execve_stack on linux-6.18" in shown
    assert "defect of pmdfuzz" not in shown
    assert [call.name for call in case.calls] == ["execve_stack"]
    assert case.calls[0].args[2] < 0x400000  # the seed's shift is not minimal
    assert again.as_expected and again.rule == rule
    assert re.search(rf"^{rule}--execve_stack +new +unknown +[1-9]", shown, re.M)


@fuzzing_test
def test_an_exception_of_a_rule_does_not_end_the_run(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str], plant: Plant
) -> None:
    plant('raise AssertionError("planted")', "fuzz.rules.judge.StateRules.check")
    assert run(options(tmp_path, seeds, kernels=("linux-6.18",))) == OUR_DEFECT
    shown = capfd.readouterr().out
    assert shown.count("A defect of pmdfuzz; the input is set aside, and the run goes on: ") == 1
    assert re.search("^30 executions in ", shown, re.M)
    assert "AssertionError: planted" in shown
    (kept,) = (tmp_path / "work" / "crashes").glob("crash-*.case")
    assert f"pmdfuzz replay {kept}" in shown
    case = load(kept)
    assert case.kernel == "linux-6.18"
    assert case.comments == ("AssertionError: planted",)
    assert any(call.name == "execve_stack" for call in case.calls)


@fuzzing_test
def test_an_exception_of_the_mutator_is_told_and_does_not_end_the_run(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str], plant: Plant
) -> None:
    plant('raise AssertionError("planted")', "fuzz.inputs.mutator.Mutator.mutate")
    only = {"kernels": ("linux-6.18",), "calls": frozenset(("execve_stack",))}
    assert run(options(tmp_path, seeds, **only)) == OUR_DEFECT
    shown = capfd.readouterr().out
    assert shown.count("the input is set aside, and the run goes on: AssertionError: planted") == 1
    assert "self._mutator.mutate(" in shown  # where it is
    assert re.search("^30 executions in ", shown, re.M)
    for case in (tmp_path / "work" / "crashes").glob("*.case"):
        assert load(case).calls, "there is nothing to replay"
