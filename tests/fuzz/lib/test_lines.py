"""Lines of text for people."""

from pathlib import Path

import pytest

from fuzz.lib.lines import columns, fitted, indented, short, tail


def test_columns_are_aligned() -> None:
    assert columns([("a", "bcd", "e"), ("fgh", "", "i"), ("", "j", "")]) == [
        "a    bcd  e",
        "fgh       i",
        "     j",
    ]


def test_indented_lines() -> None:
    assert indented("one\n\n  two") == "  one\n\n    two"


def test_short_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short(tmp_path / "deep" / "file") == "deep/file"
    assert short(tmp_path.parent / "other") == str(tmp_path.parent / "other")


def test_tail_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"{number}\n" for number in range(9)))
    assert tail(tmp_path / "log", 2) == "7\n8"
    assert tail(tmp_path / "none") == ""


def test_a_table_fits_and_loses_nothing() -> None:
    rows = [("name", "state", "kernels"), ("a" * 10, "new", "x"), ("b" * 30, "old", "y")]
    assert fitted(rows, 80) == columns(rows)
    assert fitted(rows, 30) == [
        "name        state  kernels",
        "aaaaaaaaaa  new    x",
        "b" * 30,
        "            old    y",
    ]
    assert fitted(rows, 5)[-2:] == ["b" * 30, "  old    y"]
