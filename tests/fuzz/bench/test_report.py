"""The report that is measured is one of as many findings as are asked for, and is opened."""

import shutil
from pathlib import Path

import pytest

from fuzz.bench.__main__ import main
from fuzz.bench.report import NAMES, pages_of

pytestmark = pytest.mark.slow


def test_a_directory_has_as_many_findings_as_asked_for(tmp_path: Path) -> None:
    pages = pages_of(tmp_path, 300)
    index = pages["index"].read_text()
    assert index.count('<th scope="row"') == len(list((tmp_path / "findings").iterdir())) == 300
    assert index.count("shows on") > 100
    assert pages["index"].stat().st_size < pages["one file"].stat().st_size
    made = pages["index"].stat().st_mtime_ns
    assert pages_of(tmp_path, 300)["index"].stat().st_mtime_ns == made


def test_pages_are_opened_and_filtered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not any(map(shutil.which, NAMES)):
        pytest.skip("there is no chromium")
    assert main(["report", "--findings", "9", "--repeat", "1", "--workdir", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "9 findings" in told
    assert [line.split("  ")[0] for line in told.splitlines()[-3:]] == [
        "index",
        "largest finding",
        "one file",
    ]
