"""`museum`: what it lists and draws, and how it can be used wrongly."""

from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.defects.catalogue import EXHIBITS


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [e.name for e in EXHIBITS]
    assert main(["museum", "list", "b-12"]) == 0
    out = capsys.readouterr().out
    assert "B-12-own-head" in out and "B-12-new-head-only" in out and "B-13" not in out
    assert "another engine.move._head_is_unused" in out


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum", "show", "B-01-stack-warning"]) == 0
    out = capsys.readouterr().out
    assert "dest-entry-none" in out
    assert "realign_stack = no" in out


def test_show_draws_a_picture_of_the_bug(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "x.svg"
    assert main(["museum", "show", "B-12-own-head", "--svg", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: written\n"
    assert "a past bug, put back into linux-6.12: realignment" in file.read_text()


def test_harm_of_exhibits_whose_cases_show_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum", "harm", "B-62", "B-34"]) == 0
    head, late, twice = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["exhibit", "worst", "rule", "severity", "leads", "to", "programs", "calls"]
    assert late == [
        *("B-62-seal-late", "error-traceless", "contract", "error-keeps-pages", "2", "5")
    ]
    assert twice == ["B-34-locked-twice", "locked-vm", "harm", "-"]  # itself


@pytest.mark.parametrize(
    "words",
    [
        ["list", "B-999"],
        ["show", "B-12"],
        ["harm", "B-999"],
        ["run", "B-999"],
        ["run", "B-01", "--seeds", "0"],
        ["run", "B-01", "--time", "soon"],
        ["run"],
    ],
)
def test_mistakes_are_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum", *words]) == 2
    err = capsys.readouterr().err
    assert err
    if "B-999" in words:
        assert "unknown exhibit 'B-999'; known: B-01-stack-warning" in err
