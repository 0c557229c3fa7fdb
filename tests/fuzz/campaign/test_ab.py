"""Two subjects against each other: models stand for them."""

import importlib.util
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.base.kernel import kernel_named
from fuzz.campaign import ab as module
from fuzz.campaign.ab import AbOptions, ab
from fuzz.case import Case
from fuzz.forms.text import load
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Observation, Subject, SubjectError

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="Atheris is not installed"
)
OLD, NEW = "model:linux-6.16.12", "model:linux-6.17"


def options(tmp_path: Path, first: str = OLD, second: str = NEW, programs: int = 60) -> AbOptions:
    """What is asked for: always the same programs."""
    return AbOptions(tmp_path / "work", (first, second), programs=programs, seed=1)


class Odd(Model):
    """A kernel that forgets a page of what is resident, if something was protected."""

    def observe(self, case: Case, beside: Observation | None = None) -> Observation:
        """See `Model`."""
        seen = super().observe(case, beside)
        if any(call.name == "mprotect" for call in case.calls) and "crash" not in seen:
            seen["rss_pages"] += 1
        return seen


class Reports(Model):
    """One that reports page tables that nobody needs."""

    def observe(self, case: Case, beside: Observation | None = None) -> Observation:
        """See `Model`."""
        seen = super().observe(case, beside)
        what = "BUG: non-zero pgtables_bytes on freeing mm"
        report = {"kind": "bug", "what": what, "lines": [what], "end": True}
        return seen | ({"kernel": report} if "left" in seen else {})


def odd_second(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """The second subject is an odd kernel."""
    named = module.subject_named

    def subject_named(name: str) -> Subject:
        return Odd(kernel_named(kernel)) if name == NEW else named(name)

    monkeypatch.setattr(module, "subject_named", subject_named)


@needs_atheris
@pytest.mark.slow
@pytest.mark.atheris
def test_what_two_releases_do_otherwise_is_explained_by_their_switches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ab(options(tmp_path)) == FINE
    shown = capsys.readouterr().out
    assert shown.startswith("A: linux-6.16.12, by the model linux-6.16.12\nB: linux-6.17, by ")
    found = re.search(r"^60 programs in \S+: (\d+) differ, none of them unexplained$", shown, re.M)
    assert found is not None
    table = shown.split("programs  what differs", 1)[1].splitlines()[1:]
    assert sum(int(row.split()[0]) for row in table) == int(found[1])
    assert re.search(r" check_before_unmap \(since 6\.17\)$", shown, re.M)
    cases = sorted((tmp_path / "work" / "ab").glob("*.case"))
    assert len(cases) == shown.count("\nDIFFERENCE ") == len(table)
    for path in cases:
        case = load(path)
        assert case.kernel == "linux-6.16.12"
        assert case.comments[0].startswith("linux-6.16.12 differs from linux-6.17: ")
        assert len(case.calls) <= 4


@needs_atheris
@pytest.mark.slow
@pytest.mark.atheris
def test_what_nothing_explains_is_found_though_something_else_differs_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd_second(monkeypatch, "linux-6.17")
    assert ab(options(tmp_path, programs=150)) == SURPRISES
    shown = capsys.readouterr().out
    assert re.search(
        r"rss_pages after mprotect\(\w*\)  +nothing; B is not linux-6\.17$", shown, re.M
    )
    unexplained = re.findall(r"^(\d+) .* nothing; .*$", shown, re.M)
    found = re.search(r"differ, (\d+) of them unexplained$", shown, re.M)
    assert found is not None and sum(map(int, unexplained)) == int(found[1])


@needs_atheris
@pytest.mark.slow
@pytest.mark.atheris
def test_what_a_kernel_reports_of_a_known_defect_is_explained_by_its_switch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = "model:linux-6.12.107", "model:linux-6.12.117"
    machine = Reports(kernel_named("linux-6.12.107"))
    named = module.subject_named
    monkeypatch.setattr(
        module, "subject_named", lambda name: machine if name == before else named(name)
    )
    cases = tmp_path / "cases"
    cases.mkdir()
    shutil.copy(module.CORPUS / "museum" / "b-45-hugetlb-skip.case", cases)
    monkeypatch.setattr(module, "CORPUS", cases)
    assert ab(options(tmp_path, before, after, 1)) == FINE
    shown = capsys.readouterr().out
    assert re.search(r"^1 +kernel-bug after exit\(.*\) +hugetlb_skips_apart \(", shown, re.M)


@needs_atheris
@pytest.mark.slow
@pytest.mark.atheris
def test_what_one_of_the_two_lacks_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few: Any = Model.able._replace(
        calls=Model.able.calls - {"mseal"}, without={"mmap": frozenset(("MAP_SHARED",))}
    )
    monkeypatch.setattr(Model, "able", few)
    assert ab(options(tmp_path, OLD, OLD, 30)) == FINE
    shown = capsys.readouterr().out
    assert "by the model linux-6.16.12; it has no mseal, MAP_SHARED\n" in shown
    assert re.search(r"^30 programs in \S+: none differs$", shown, re.M)
    assert re.search(r"^left out for what is not there: .*MAP_SHARED \d+", shown, re.M)


@needs_atheris
@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (OLD, "model:linux-6.17@tiny", "linux-6.16.12 is x86-64, linux-6.17 tiny: programs for"),
        ("moon", OLD, "no subject is called 'moon'"),
        ("model:linux-1.0", OLD, "unknown kernel 'linux-1.0'"),
    ],
)
def test_what_cannot_be_compared_says_why(
    first: str, second: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ab(options(tmp_path, first, second)) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"pmdfuzz ab: {why}")


@needs_atheris
@pytest.mark.slow
@pytest.mark.atheris
def test_a_subject_that_is_lost_ends_it_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = Odd.observe

    def lost(self: Odd, case: Case, beside: Observation | None = None) -> Observation:
        if any(call.name == "mprotect" for call in case.calls):
            raise SubjectError("the cable was pulled")
        return observe(self, case, beside)

    monkeypatch.setattr(Odd, "observe", lost)
    odd_second(monkeypatch, "linux-6.17")
    assert ab(options(tmp_path, programs=150)) == BAD_INPUT
    shown = capsys.readouterr().out
    assert "lost: the cable was pulled\n" in shown
    assert shown.count("\nDIFFERENCE ") == len(list((tmp_path / "work" / "ab").glob("*.case")))
    assert re.search(r"^\d+ programs in \S+: \d+ differ, none of them unexplained$", shown, re.M)


@needs_atheris
@pytest.mark.slow
@pytest.mark.atheris
def test_who_is_stopped_while_it_minimizes_tells_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    minimize, begun = module._Comparison._minimize, []

    def stopped(self: module._Comparison, *one: Any) -> None:
        begun.append(one)
        os.kill(os.getpid(), signal.SIGINT)
        minimize(self, *one)

    monkeypatch.setattr(module._Comparison, "_minimize", stopped)
    assert ab(options(tmp_path, programs=10_000)) == 128 + signal.SIGINT
    assert len(begun) == 1
    shown = capsys.readouterr().out
    told = re.findall(r"^DIFFERENCE .* \(not minimized\)$", shown, re.M)
    assert told and len(told) == shown.count("\nDIFFERENCE ")
    assert len(told) == len(list((tmp_path / "work" / "ab").glob("*.case")))
