"""A report on the disk: never half of one, and nothing of others is replaced."""

import os
from pathlib import Path

import pytest

from fuzz.export import helpers
from fuzz.findings.ledger import Ledger
from fuzz.report.directory import Directory
from fuzz.report.studies import STUDIES, Studies, Subject
from fuzz.report.write import NotOurs, write
from tests.lib.workdirs import KNOWN, STACK, UNKNOWN, stock


def report(workdir: Path, out: Path) -> Path:
    directory, studies = Directory.read(workdir), Studies(workdir)
    studies.make(directory.subjects, 1)
    return write(directory, studies, out)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    return stock(tmp_path / "work", {KNOWN: STACK, UNKNOWN: STACK})


def test_a_folder_and_a_file(workdir: Path, tmp_path: Path) -> None:
    assert report(workdir, tmp_path / "out" / "deep") == tmp_path / "out" / "deep" / "index.html"
    names = {path.name for path in (tmp_path / "out" / "deep" / "findings").iterdir()}
    assert names == {f"{KNOWN.name}.html", f"{UNKNOWN.name}.html"}
    assert report(workdir, tmp_path / "r.html") == tmp_path / "r.html"


def test_only_pages_that_would_say_something_else_are_written(
    workdir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report(workdir, out)
    known, unknown = (out / "findings" / f"{one.name}.html" for one in (KNOWN, UNKNOWN))
    for path in (known, unknown):
        os.utime(path, (1, 1))
    with Ledger.open(workdir) as ledger:
        ledger.record(KNOWN, "linux-6.1", run_id="2", executions=9)
    report(workdir, out)
    assert known.stat().st_mtime > 1
    assert unknown.stat().st_mtime == 1


def test_pages_of_findings_that_are_gone_go(workdir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report(workdir, out)
    other = out / "findings" / "mine.html"
    other.write_text("<p>mine")
    (workdir / "findings" / f"{UNKNOWN.name}.case").unlink()
    (workdir / "ledger.sqlite").unlink()
    report(workdir, out)
    assert {path.stem for path in (out / "findings").iterdir()} == {KNOWN.name, "mine"}


@pytest.mark.parametrize("name", ["index.html", "out.html"])
def test_what_is_not_ours_stays(workdir: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / name
    other.write_text("<p>mine")
    with pytest.raises(NotOurs, match="no report of ours"):
        report(workdir, tmp_path if name == "index.html" else other)
    assert other.read_text() == "<p>mine"


def test_the_index_comes_last(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "fuzz.report.write.write_atomic", lambda path, data, **how: written.append(path.name)
    )
    report(workdir, tmp_path / "out")
    assert written == [f"{UNKNOWN.name}.html", f"{KNOWN.name}.html", "index.html"]


def test_studies_are_kept_as_long_as_they_hold(workdir: Path) -> None:
    directory = Directory.read(workdir)
    assert Studies(workdir).make(directory.subjects, 2) == 2
    assert Studies(workdir).make(directory.subjects, 2) == 0
    spoilt, *_ = (workdir / STUDIES).glob("*.study.z")
    spoilt.write_bytes(b"spoilt")
    assert Studies(workdir).make(directory.subjects, 2) == 1
    Studies(workdir).forget_others(directory.subjects[:1])
    assert len(list((workdir / STUDIES).iterdir())) == 2  # the study, and its views


def test_a_study_holds_no_more_once_a_helper_of_programs_in_c_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "_PARTS", tmp_path)
    keys = set()
    for written in ("one", "other"):
        (tmp_path / "swap.c").write_text(written)
        helpers.of_parts.cache_clear()
        keys.add(Subject(KNOWN.name, STACK).key)
    helpers.of_parts.cache_clear()
    assert len(keys) == 2


def test_a_study_that_cannot_be_kept_is_made_all_the_same(workdir: Path) -> None:
    (workdir / STUDIES).write_text("in the way")
    directory, studies = Directory.read(workdir), Studies(workdir)
    assert studies.make(directory.subjects, 1) == 2
    assert studies.get(directory.subjects[0]) is not None
