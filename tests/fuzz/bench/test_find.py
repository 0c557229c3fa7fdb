"""`python -m fuzz.bench find`: what it refuses, and what an interrupted one leaves."""

from pathlib import Path

import pytest

from fuzz.bench.__main__ import main
from fuzz.bench.find import LOCK
from fuzz.contest.table import Table
from fuzz.contest.trial import Moment, Played
from fuzz.lib.lock import Lock

WORDS = ["find", "--bugs", "shrink-leak", "--contestants", "random", "--seeds", "2", "--workdir"]
FOUND = Played(*[Moment(9, 1.5)] * 4)

pytest.importorskip("atheris")
pytest.importorskip("matplotlib")
pytest.importorskip("scipy")


def test_a_folder_that_cannot_be_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*WORDS, str(tmp_path / "file")]) == 2
    assert f"{tmp_path / 'file'}: cannot write: File exists\n" in capsys.readouterr().err


def test_two_do_not_write_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lock(tmp_path / LOCK):
        assert main([*WORDS, str(tmp_path), "--fresh"]) == 2
    assert f"{tmp_path}: others compare there (process " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_what_was_played_before_it_was_interrupted_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(tasks: list[object], table: Table, jobs: int) -> list[str]:
        table.put(tasks[0], FOUND)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr("fuzz.bench.find.play", play)
    assert main([*WORDS, str(tmp_path)]) == 130
    out = capsys.readouterr().out
    assert "1/1 9" in out
    assert out.endswith("1 of 2 trials are left: the same command goes on.\n")
