"""Commands on any subject: another model stands for it."""

import lzma
from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from fuzz.subjects.named import subject_named
from tests.lib.command import MAP, Output, Write, refused
from tests.lib.constants import ROOT

FORKS = MAP + "fork()\n"
MOVED = MAP + "mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x800000)\n"
# What linux-6.17 moves and 6.16 does not: several VMAs at once.
SEVERAL = (
    MAP
    + MAP.replace("0x200000", "0x210000")
    + "mremap(0x200000, 0x14000, 0x14000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x800000)\n"
)


def test_a_check_of_a_subject_counts_what_it_leaves_out(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["check", "--cases", "15", "--seed", "1"]
    assert main([*words, "--on", "model:linux-6.6@arm64-16k-47"]) == FINE
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("linux-6.6 on arm64-16k-47 beside linux-6.6, 15 programs, ")
    with subject_named("model:linux-6.6") as subject:
        able = subject.able._replace(
            calls=subject.able.calls - {"fork"}, without={"mmap": frozenset(("MAP_SHARED",))}
        )
    monkeypatch.setattr("fuzz.subjects.model.Model.able", able)
    assert main([*words, "--on", "model:linux-6.6"]) == FINE
    said = capsys.readouterr().out
    assert "\nit has no fork, MAP_SHARED\n" in said
    assert "\nleft out for what is not there: MAP_SHARED " in said


def test_cases_are_checked_on_a_subject(write: Write, capsys: Output) -> None:
    words = ["check", write(SEVERAL), "--on", "model:linux-6.17"]
    assert main(words) == FINE
    assert "1 of 1 programs: linux-6.17 does what linux-6.17 does" in capsys.readouterr().out
    assert main([*words, "--kernel", "linux-6.16"]) == SURPRISES
    assert "ret after mremap(MREMAP_MAYMOVE|MREMAP_FIXED)" in capsys.readouterr().out


def test_a_file_that_is_no_baseline_is_refused(write: Write, capsys: Output) -> None:
    path = write(SEVERAL)
    words = ["check", "--on", "model:linux-6.1", "--cases", "1", "--baseline", path]
    assert main(words) == BAD_INPUT
    assert f"{path} is no baseline of a check" in refused(capsys)
    assert main([*words[:-1], "nowhere/x.json"]) == BAD_INPUT
    assert "there is no directory nowhere" in refused(capsys)
    assert main([*words, path]) == BAD_INPUT
    assert "leave the files out" in refused(capsys)


def test_a_case_is_observed_on_a_subject(write: Write, capsys: Output) -> None:
    path = write(FORKS)
    assert main(["observe", path, "--on", "model:linux-6.1"]) == FINE
    on = capsys.readouterr().out
    assert main(["observe", path, "--kernel", "linux-6.1"]) == FINE
    assert capsys.readouterr().out == on
    assert main(["observe", path, "--on", "model:linux-6.1", "--kernel", "linux-6.1"]) == BAD_INPUT
    assert "a subject is what it is" in refused(capsys)
    assert main(["observe", path, "--on", "moon"]) == BAD_INPUT
    assert "no subject is called 'moon'" in refused(capsys)


def test_cases_are_replayed_on_a_subject(write: Write, capsys: Output, tmp_path: Path) -> None:
    several = write(SEVERAL)
    assert main(["replay", several, "--on", "model:linux-6.17"]) == FINE
    assert "1 of 1 programs: linux-6.17 does what" in capsys.readouterr().out
    words = ["replay", str(tmp_path), "--on", "model:linux-6.17", "--kernel", "linux-6.16"]
    (tmp_path / "y.case").write_text(f"@geometry tiny\n{MAP.replace('0x200000', '0x4000')}")
    (tmp_path / "z.case").write_text(MAP)
    assert main(words) == SURPRISES
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tmp_path}/x.case: ret after mremap(MREMAP_MAYMOVE|MREMAP_FIXED)"
    assert said[-2:] == [
        "1 of 2 programs: linux-6.17 does what linux-6.16 does",
        "left out:    1  the case is for tiny",
    ]
    assert main([*words, "--like", "linux-6.1"]) == BAD_INPUT
    assert "name it with --kernel" in refused(capsys)


def recorded(path: Path, programs: int) -> str:
    """The first of the programs that are recorded of Linux 6.12, in a file."""
    with lzma.open(ROOT / "corpus/truth/linux-6.12.jsonl.xz") as truth:
        path.write_bytes(b"".join(truth.readlines()[:programs]))
    return str(path)


def test_recordings_are_compared_with_a_subject(tmp_path: Path, capsys: Output) -> None:
    truth = recorded(tmp_path / "truth.jsonl", 100)
    assert main(["compare", truth, "--kernel", "linux-6.12"]) == FINE
    model = capsys.readouterr().out
    assert f"{truth}, model linux-6.12 on x86-64: " in model
    assert main(["compare", truth, "--on", "model:linux-6.12"]) == FINE
    capsys.readouterr()
    assert main(["compare", truth, "--on", f"model-at:{ROOT}@linux-6.1"]) == SURPRISES
    said = capsys.readouterr().out
    assert f"{truth}, model-at:{ROOT}@linux-6.1 on x86-64: " in said
    assert f"; model-at:{ROOT}@linux-6.1: " in said or f", model-at:{ROOT}@linux-6.1 " in said


def test_recordings_that_break_off_are_compared_up_to_there(tmp_path: Path, capsys: Output) -> None:
    path = recorded(tmp_path / "part.jsonl", 5)
    with open(path, "ab") as file:
        file.write(b"{\n")
    words = ["compare", path, "--on", f"model-at:{ROOT}@linux-6.12"]
    assert main(words) == BAD_INPUT
    said = capsys.readouterr()
    assert ": 5 of 5 programs agree" in said.out
    assert "part.jsonl:6: " in said.err


def test_a_subject_is_asked_for_defects(capsys: Output) -> None:
    assert main(["defects", "B-69", "B-63", "--on", "model:linux-6.18"]) == FINE
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "linux-6.18, by the model linux-6.18"
    assert said[2].split()[:4] == ["B-69", "shown", "has", "it"]
    assert any(line.startswith("  mremap(") for line in said)
    assert said[-2].split(maxsplit=5)[:5] == ["B-63", "can't", "be", "seen", "has"]
    assert said[-1] == "2 asked: 1 shown, 1 can't be seen; all as the model says"
    other = ["--on", "model:linux-6.18", "--kernel", "linux-7.3"]
    assert main(["defects", "dontunmap-unlocks", *other]) == SURPRISES
    said = capsys.readouterr().out.splitlines()
    assert " HAS IT NOT " in said[2]
    assert said[-1] == "1 asked: 1 shown; not as the model says: dontunmap-unlocks"


def test_a_subject_is_asked_for_bugs_of_the_museum(capsys: Output) -> None:
    assert main(["museum", "list", "B-12", "--on", "model:linux-6.18"]) == FINE
    assert capsys.readouterr().out.endswith("3 asked: 3 not shown; all as the model says\n")


def test_a_kernel_is_named_for_a_subject_only(capsys: Output) -> None:
    assert main(["defects", "--kernel", "linux-6.18"]) == BAD_INPUT
    assert "name one with --on" in refused(capsys)
