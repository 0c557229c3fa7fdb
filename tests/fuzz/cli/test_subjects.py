"""Commands on any subject: another model stands for it."""

import pytest

from fuzz.cli.main import main
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from fuzz.subjects.named import subject_named
from tests.lib.command import MAP, Output, Write, refused

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
    words = ["kernel", "check", "--cases", "40", "--seed", "1"]
    assert main([*words, "--on", "model:linux-6.6@arm64-16k-47"]) == FINE
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("linux-6.6 on arm64-16k-47 beside linux-6.6, 40 programs, ")
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
    words = ["kernel", "check", write(SEVERAL), "--on", "model:linux-6.17"]
    assert main(words) == FINE
    assert "1 of 1 programs: linux-6.17 does what linux-6.17 does" in capsys.readouterr().out
    assert main([*words, "--kernel", "linux-6.16"]) == SURPRISES
    assert "ret after mremap(MREMAP_MAYMOVE|MREMAP_FIXED)" in capsys.readouterr().out


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
