"""A subject beside the model of its kernel: which model that is, and when there is none."""

import sys

import pytest

from engine.base.geometry import UnknownName
from fuzz.showing import DEFAULT_KERNEL
from fuzz.subjects.beside import beside_model, model_of
from fuzz.subjects.protocol import version
from fuzz.subjects.subject import SubjectError
from tests.lib.constants import ROOT
from tests.lib.standin import StandIn


def test_the_model_is_that_of_the_subjects_kernel() -> None:
    with beside_model(on="model:linux-6.6@arm64-16k-47") as pair:
        assert (pair.model.name, pair.model.geometry.name) == ("linux-6.6", "arm64-16k-47")
    with beside_model("linux-6.1", on="model:linux-6.6") as pair:
        assert (pair.model.name, pair.subject.name) == ("linux-6.1", "linux-6.6")


def test_what_has_no_model_is_told() -> None:
    with pytest.raises(SubjectError, match="is x86-64, not tiny"):
        beside_model(geometry="tiny", on="model:linux-6.6")
    with pytest.raises(UnknownName):
        beside_model("linux-1.0", on="model:linux-6.6")


@pytest.mark.parametrize(
    ("release", "more", "number"),
    [
        ("6.18.44-fc", "#1 SMP", "6.18.44"),
        ("6.1.0-50-amd64", "#1 SMP Debian 6.1.176-1 (2026-08-02)", "6.1.176"),
        ("7.3", "", "7.3"),
        ("gvisor", "", "gvisor"),
    ],
)
def test_the_version_of_a_kernel(release: str, more: str, number: str) -> None:
    assert version(release, more) == number


def test_a_subject_without_a_model_asks_for_its_name() -> None:
    program = (
        "import sys; from fuzz.subjects.serve import hello; from dataclasses import replace;"
        "from engine.base.kernel import kernel_named;"
        "print(replace(hello(kernel_named('linux-6.1')), model='', release='4.4.0').line())"
    )
    name = f'via:env PYTHONPATH="{ROOT}" {sys.executable} -c "{program}"'
    with pytest.raises(SubjectError, match=r"no model of its kernel, 4\.4\.0; .* --kernel K$"):
        beside_model(on=name)
    with beside_model("linux-6.1", on=name) as pair:
        assert pair.model.name == "linux-6.1"


def test_what_stands_for_a_kernel_has_a_model_whatever_its_version() -> None:
    standin = StandIn()
    standin.kernel_name = "linux-4.4.0"
    assert model_of(standin).name == DEFAULT_KERNEL
    with pytest.raises(UnknownName):
        model_of(standin, "linux-4.4")
