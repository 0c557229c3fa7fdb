"""`pmdfuzz export`: what goes where, and what is refused."""

import platform
import subprocess
from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.lib.exits import BAD_INPUT, FINE
from tests.lib.compilers import compiler
from tests.lib.constants import ROOT

CASE = ROOT / "corpus/regressions/wrapping-overlap.case"


def test_a_case_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(CASE), "--as", "c", "--kernel", "linux-6.12"]) == FINE
    out = capsys.readouterr().out
    assert out.startswith("// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0\n/*\n * wrapping-over")
    assert "--as c --kernel linux-6.12" in " ".join(out.replace("\n * ", " ").split())


def test_a_folder_becomes_a_kit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    (cases / "one.case").write_text("munmap(0x10000, 0x1000)\n")
    (cases / "two.case").write_text("touch_on(0, 0x10000)\n")
    kit = tmp_path / "kit"
    assert main(["export", str(cases), "--as", "c", "-o", str(kit)]) == FINE
    assert sorted(path.name for path in kit.iterdir()) == ["Makefile", "one.c"]
    out = capsys.readouterr().out
    assert "two.case: no program can do that: touch_on" in out
    assert f"1 of 2 cases are in {kit}" in out


@pytest.mark.skipif(platform.system() != "Linux", reason="programs for Linux")
def test_make_builds_and_runs_a_kit(tmp_path: Path) -> None:
    make, cases = compiler("make"), tmp_path / "cases"
    cases.mkdir()
    for name in ("one", "two words", "$(dollar)"):
        (cases / f"{name}.case").write_text("munmap(0x10000, 0x1000)\n")
    kit = tmp_path / "kit"
    assert main(["export", str(cases), "--as", "c", "-o", str(kit)]) == FINE
    words = [make, "-s", f"CC={compiler('cc')}"]
    for _ in range(2):
        done = subprocess.run(words, cwd=kit, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 3
        assert all("does what linux-6.18 does" in line for line in lines)
    subprocess.run([make, "-s", "clean"], cwd=kit, check=True)
    assert {path.suffix for path in kit.iterdir() if path.name != "Makefile"} == {".c"}


def test_several_cases_need_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(CASE), str(CASE), "--as", "c"]) == BAD_INPUT
    assert "name a folder for them with -o" in capsys.readouterr().err


def test_two_cases_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(CASE), str(CASE), "--as", "c", "-o", str(tmp_path / "x")]) == 2
    assert "two cases are called wrapping-overlap" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_exported_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / "x.case"
    case.write_text("relocate(0x10000, 0x20000, 0x1000)\n")
    assert main(["export", str(case), "--as", "kselftest"]) == BAD_INPUT
    assert "x.case: no program can do that: relocate" in capsys.readouterr().err


def test_a_mail_goes_where_the_others_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crashes = str(ROOT / "corpus/museum/b-45-hugetlb-skip.case")
    assert main(["export", str(CASE), crashes, "--as", "mail", "-o", str(tmp_path)]) == FINE
    assert (tmp_path / "wrapping-overlap.eml").read_text().startswith("Subject: [BUG] mm/mremap: ")
    out = capsys.readouterr().out
    assert "b-45-hugetlb-skip.case: a kernel may crash or hang of it: B-45" in out
    assert f"1 of 2 cases are in {tmp_path}" in out
    assert main(["export", crashes, "--as", "mail", "--even-if-it-crashes"]) == FINE
    assert "program is not here" in capsys.readouterr().out
