"""`pmdfuzz exhaust`: what is told, and what is kept."""

import re
from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.exhaust.session import LOCK
from fuzz.exhaust.store import Store
from fuzz.exhaust.trial import Task, Tried
from fuzz.lib.lock import Lock

WORDS = ["exhaust", "--pages", "1", "--kernel", "linux-6.12", "--kernel", "linux-7.3"]


def test_it_says_what_it_comes_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--workdir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    said = re.search(r"no rule is broken.*?([\d,]+) programs.*?([\d,]+) runs, ([\d,]+) states", out)
    assert said is not None, out
    programs, runs, states = (int(number.replace(",", "")) for number in said.groups())
    assert 0 < states < programs <= runs


def test_what_is_done_is_not_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*WORDS, "--workdir", str(tmp_path)]
    main(words)
    first = capsys.readouterr().out
    monkeypatch.setattr("fuzz.exhaust.session._timed", lambda *_, **__: 1 // 0)  # is not called
    assert main(words) == 0
    assert capsys.readouterr().out == first


@pytest.mark.slow
def test_what_was_interrupted_comes_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*WORDS, "--workdir", str(tmp_path / "at once")])
    whole = told(capsys.readouterr().out)
    words = [*WORDS, "--workdir", str(tmp_path / "in pieces")]
    put, left = Store.put, 3

    def stop_later(store: Store, task: Task, tried: Tried, seconds: float) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        put(store, task, tried, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", stop_later)
        assert main(words) == 130
    out = capsys.readouterr().out
    assert "tasks are left: the same command goes on." in out
    assert "so far" in out
    assert told(out) != whole
    assert main(words) == 0
    assert told(capsys.readouterr().out) == whole


def told(out: str) -> str:
    """What is said of all programs, without the time and the place."""
    return re.sub(r", [^,]* of CPU time|^(The first program|  ).*$", "", out, flags=re.MULTILINE)


@pytest.mark.slow
def test_another_end_begins_anew_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*WORDS, "--workdir", str(tmp_path)])
    main([*WORDS[:-2], "--workdir", str(tmp_path)])
    assert "beginning anew" in capsys.readouterr().out
    assert len(list(tmp_path.glob("exhaust.sqlite*"))) >= 2


def test_what_is_no_file_of_ours_is_refused_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "exhaust.sqlite"
    path.write_text("a letter")
    assert main([*WORDS, "--workdir", str(tmp_path)]) == 2
    assert "exhaust.sqlite" in capsys.readouterr().err
    assert path.read_text() == "a letter"


def test_the_thread_s_warning_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["exhaust", "--calls", "1", "--kernel", "linux-6.1", "--workdir", str(tmp_path)]
    assert main(words) == 0, "it is a known defect"
    assert "dest-entry-none--execve_stack--B-01" in capsys.readouterr().out
    case = tmp_path / "findings/dest-entry-none--execve_stack--B-01.case"
    assert main(["replay", str(case)]) == 1, "as the case says nothing of it"


def test_what_takes_years_is_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--calls", "99", "--workdir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "more than 10,000,000,000 programs, years of CPU time: name fewer --calls" in said


def test_two_do_not_try_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Lock(tmp_path / LOCK):
        assert main([*WORDS, "--workdir", str(tmp_path), "--fresh"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}: others try programs there (process " in said
    assert "--workdir" in said
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_folder_that_cannot_be_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*WORDS, "--workdir", str(tmp_path / "file")]) == 2
    assert f"{tmp_path / 'file'}: cannot write: File exists\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [(["--pages", "17"], "--pages 17"), (["--geometry", "none"], "none"), (["--calls", "0"], "0")],
)
def test_bad_words(words: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["exhaust", *words])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert what in capsys.readouterr().err


def test_a_sample_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exhaust", "--sample", "3", "--pages", "2"]) == 0
    assert capsys.readouterr().out.count("mremap") + 1 >= 2
