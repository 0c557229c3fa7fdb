"""The museum: each exhibit shows its bug and nothing else, and fuzzing it finds the bug."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from engine.base.kernel import KERNELS, kernel_named
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_HUGETLB, MAP_SHARED
from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.defects.catalogue import EXHIBITS, exhibit_named
from fuzz.defects.defect import Change, Defect
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import load
from fuzz.forms.wire import encode
from fuzz.museum import run as museum_run
from fuzz.museum.results import (
    BROKEN,
    CORRECT,
    Results,
)
from fuzz.rules.index import BY_SLUG
from fuzz.showing import caught, due, kernel_for, showing
from tests.lib.constants import ROOT
from tests.lib.plain import objections

CASES = ROOT / "corpus" / "museum"
each_exhibit = pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda e: e.name)


@each_exhibit
def test_case_shows_the_bug_and_nothing_without_it(exhibit: Defect) -> None:
    case = load(CASES / exhibit.file)
    found = due(exhibit.execute(case, stop=False), exhibit)
    assert found is not None
    assert found.violation.rule == exhibit.rule
    assert all(one.bucket.defect for one in showing(case, exhibit.correct).findings)


@each_exhibit
def test_what_breaks_is_said_plainly(exhibit: Defect) -> None:
    outcome = exhibit.execute(load(CASES / exhibit.file), stop=False)
    assert [wrong for found in outcome.violations for wrong in objections(found.violation)] == []


@each_exhibit
def test_case_is_minimal(exhibit: Defect) -> None:
    case = load(CASES / exhibit.file)
    for index in range(len(case.calls)):
        shorter = case.with_calls(case.calls[:index] + case.calls[index + 1 :])
        assert not caught(shorter, exhibit), case.calls[index]


@each_exhibit
def test_an_exhibit_is_described(exhibit: Defect) -> None:
    assert exhibit.rule in BY_SLUG
    assert exhibit.title
    assert exhibit.text.endswith(".")
    assert exhibit.bug or exhibit.change
    named = KERNELS[exhibit.correct.name].on(exhibit.correct.geometry)
    assert replace(exhibit.correct, name=named.name).geometry == named.geometry
    for switch, on in exhibit.bug.items():
        assert getattr(exhibit.correct, switch) is not on


def test_there_is_a_case_for_each_exhibit_and_no_other() -> None:
    assert {path.name for path in CASES.glob("*.case")} == {e.file for e in EXHIBITS}
    assert len(EXHIBITS) >= 30


# --- Changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("exhibit", [e for e in EXHIBITS if e.change], ids=lambda e: e.name)
def test_a_change_is_undone(exhibit: Defect) -> None:
    assert exhibit.change is not None
    module, _, path = exhibit.change.target.partition(":")
    holder = import_module(module)
    *classes, name = path.split(".")
    for one in classes:
        holder = getattr(holder, one)

    def present() -> object:
        return vars(holder)[name]

    original = present()
    with exhibit.installed():
        assert present() is not original
    assert present() is original
    with pytest.raises(KeyError), exhibit.installed():
        raise KeyError
    assert present() is original


def test_an_exhibit_outlives_the_assertions_that_its_bug_breaks() -> None:
    """The program ends there, and what was noticed before counts."""

    def breaks(original: object) -> object:
        def do_mremap(remap: object, *, differ: bool) -> int:
            raise AssertionError

        return do_mremap

    exhibit = exhibit_named("B-22-overlap")
    broken = replace(exhibit, change=Change("engine.mremap:do_mremap", breaks))
    outcome = broken.execute(load(CASES / exhibit.file), stop=False)
    assert outcome.ending is not None
    assert [found.violation for found in outcome.violations] == [outcome.ending]
    assert outcome.case.calls[len(outcome.results)].name == "mremap"


def test_what_covers_nothing_is_of_what_its_source_is_of() -> None:
    """B-70 makes a VMA of no length; of huge pages it is, too, if its source was."""
    exhibit = exhibit_named("B-70-zero-length")
    huge = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB
    size = exhibit.kernel.geometry.slot_bytes
    calls = call("mmap", size, size, 3, huge), call("mremap", size, size, 0, 3, 4 * size)
    outcome = exhibit.execute(Case(calls), stop=False)
    assert outcome.ending is None
    assert "vma-order" in {found.violation.rule for found in outcome.violations}


# --- Fuzzing --------------------------------------------------------------------------------------


def museum(*words: str, workdir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fuzz", "museum", "run", *words, "--workdir", str(workdir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.atheris
@pytest.mark.slow
def test_an_exhibit_is_found_minimized_and_kept(tmp_path: Path) -> None:
    run = museum("B-14-counted-as-new", "--seeds", "2", "--correct", workdir=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "B-14-counted-as-new  2/2    table-count" in run.stdout
    assert "correct kernels: 2 of 2 runs broke no rule" in run.stdout
    exhibit = exhibit_named("B-14-counted-as-new")
    for seed in (1, 2):
        found = load(tmp_path / "museum" / "found" / f"{exhibit.name.lower()}.seed-{seed}.case")
        there = exhibit.on(kernel_for(found).geometry)  # half of the programs are for another one
        assert caught(found, there)
        assert showing(found, there.correct).found is None

    table = tmp_path / "museum" / "results.tsv"
    kept = table.read_text()
    again = museum("B-14-counted-as-new", "--seeds", "2", "--correct", workdir=tmp_path)
    assert again.returncode == 0
    assert "seed 1" not in again.stdout, "a trial that is done is not repeated"
    assert table.read_text() == kept


@pytest.mark.atheris
@pytest.mark.slow
def test_an_exhibit_that_is_not_found_is_told(tmp_path: Path) -> None:
    run = museum("B-52-stale-vma", "--time", "1", workdir=tmp_path)
    told = "found" if run.returncode == 0 else "0/1"
    assert told in run.stdout
    assert run.returncode in (0, 1)


@pytest.mark.atheris
@pytest.mark.slow
def test_an_interrupted_run_keeps_what_is_done(tmp_path: Path) -> None:
    words = ["B-14-counted-as-new", "B-45", "--time", "10m", "--workdir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "fuzz", "museum", "run", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert "B-14-counted-as-new seed 1: table-count after" in first
    assert "1/1" in rest
    assert process.returncode == 130 or "B-45" in rest
    assert "B-14-counted-as-new" in (tmp_path / "museum" / "results.tsv").read_text()


class Told:
    """In place of a fuzzing process: one that tells of findings, then ends."""

    def __init__(self, *events: dict[str, object]) -> None:
        self.talking = True
        self._events = [{"event": "start"}, *events]

    def __call__(self, setting: object, flags: object, log: Path) -> "Told":
        log.write_text("")
        return self

    def events(self, timeout: float) -> list[dict[str, object]]:
        self.talking = False
        return self._events

    def kill(self) -> None:
        pass

    close = kill


def test_what_breaks_a_kernel_that_should_be_correct_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one is not: it has another bug of the museum, which nobody knows of a kernel."""
    correct = kernel_named("linux-6.12-negative_result_is_zero")
    exhibit = replace(exhibit_named("B-22-overlap"), museum=correct)
    bucket = Bucket("entries-at-new", "mremap")
    data = encode(load(CASES / "b-11-negative-result.case"), exhibit.correct.geometry)
    told = Told({"event": "finding", "bucket": bucket, "input": data.hex()})
    monkeypatch.setattr(museum_run, "Child", told)
    options = museum_run.MuseumOptions(tmp_path, (exhibit,))
    session = museum_run._Trials(options, tmp_path, Results.open(tmp_path)[0])
    assert session._fuzz(exhibit, 1, CORRECT, 10).outcome == BROKEN
    (kept,) = (tmp_path / "broken").glob("*/*.case")
    assert kept.parent.name == bucket.name
    assert showing(load(kept), exhibit.correct).bucket == bucket
