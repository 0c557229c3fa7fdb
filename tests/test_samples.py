"""What the documents show is what the commands print, and commands that they name can be called.

A sample is an indented block that begins with `$`: the command, and below it what it prints.
`...` stands for any lines, `…` for anything within one.  Behind a command that is only named two
blanks and a remark may follow.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fuzz.cli.main import _parser, main
from fuzz.forms.text import parse
from fuzz.showing import replay
from tests.lib.constants import ROOT

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "corpus/README.md", "corpus/museum/README.md")
PLANTED = "align_ignores_start"  # README plants this switch
NOT_HERE = ("kernel shortage",)  # needs root, and a memory cgroup


class Sample(NamedTuple):
    """A command of a document, with what it prints; nothing if it is only named."""

    where: str
    command: str
    output: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The arguments of the command."""
        return shlex.split(self.command)[1:]


def samples() -> Iterator[Sample]:
    """Those of all documents."""
    for document in DOCUMENTS:
        command, output, where = "", [], ""
        for number, line in enumerate([*(ROOT / document).read_text().splitlines(), "end"], 1):
            inside = line.startswith("    ") or not line
            if command and (line.startswith("    $ ") or not inside):
                yield Sample(where, command, tuple("\n".join(output).rstrip().splitlines()))
                command = ""
            if line.startswith("    $ "):
                command, output = line[len("    $ ") :].split("  ")[0], []
                where = f"{document}:{number}"
            else:
                output.append(line[4:])


def named() -> Iterator[tuple[str, str]]:
    """Commands in the text of the documents, as they can be called, and where."""
    for document in DOCUMENTS:
        prose = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.M | re.S)
        text = re.sub(r"^    .*$", "", prose, flags=re.M)
        for span in re.findall(r"`((?:\.venv/bin/)?pmdfuzz [^`]+)`", text):
            command = " ".join(span.split())
            if "…" not in command and "COMMAND" not in command:
                yield document, command


def matches(output: str, sample: Sample) -> bool:
    """Is that what the sample shows?"""
    pattern = ""
    for line in sample.output:
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("…"))) + r" *\n"
    return re.fullmatch(pattern, output) is not None


SHOWN = [s for s in samples() if s.output and s.command.removeprefix("pmdfuzz ") not in NOT_HERE]


@pytest.mark.parametrize(
    "sample", [s for s in SHOWN if PLANTED not in s.command], ids=lambda s: s.where
)
def test_a_sample_is_what_its_command_prints(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    main(sample.words)
    out, err = capsys.readouterr()
    assert err == ""
    assert matches(out, sample), out


@pytest.fixture(scope="module")
def with_switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose kernels have the switch."""
    copy = tmp_path_factory.mktemp("project")
    for folder in ("engine", "fuzz", "corpus"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, after in (
        (
            "engine/base/kernel.py",
            "    move_pmd: Annotated[",
            f'    {PLANTED}: Annotated[bool, never, "realign inside"] = False\n'
            "    move_pmd: Annotated[",
        ),
        (
            "engine/move.py",
            "if not move.for_stack and vma.start != addr:",
            f"inside = move.for_stack or move.space.kernel.{PLANTED}\n"
            "    if not inside and vma.start != addr:",
        ),
    ):
        path = copy / file
        assert path.read_text().count(before) == 1
        path.write_text(path.read_text().replace(before, after))
    return copy


@pytest.mark.atheris
@pytest.mark.slow
@pytest.mark.parametrize(
    "sample", [s for s in SHOWN if PLANTED in s.command], ids=lambda s: s.where
)
def test_a_sample_of_the_planted_bug(sample: Sample, with_switch: Path) -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", *sample.words],
        cwd=with_switch,
        capture_output=True,
        text=True,
        check=False,
    )
    assert matches(done.stdout, sample), done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            *(command for _, command in named()),
            *(s.command for s in samples() if s.command.startswith("pmdfuzz ")),
        }
    ),
)
def test_a_command_that_is_named_can_be_called(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its operands may be left out."""
    words = shlex.split(command)[1:]
    try:
        _parser(words).parse_args(words)
    except SystemExit as end:
        assert end.code == 0 or "arguments are required" in capsys.readouterr().err, command


@pytest.mark.parametrize(
    "text", re.findall(r"^```\n(.*?)^```", (ROOT / "corpus/README.md").read_text(), re.M | re.S)
)
def test_a_case_of_the_documents_shows_what_it_says(text: str) -> None:
    for shown in replay(parse(text)):
        assert shown.as_expected, str(shown)


# The tests above hold if nothing is found or anything matches; these show that it does not.


def test_samples_are_found() -> None:
    assert {s.where.partition(":")[0] for s in SHOWN} >= {"README.md"}
    assert len(list(named())) > 5
    assert {*NOT_HERE} <= {s.command.removeprefix("pmdfuzz ") for s in samples()}


def test_samples_match_what_they_say_and_nothing_else() -> None:
    sample = Sample("", "", ("one", "...", "took … s", "end"))
    assert matches("one\ntook 3 s\nend\n", sample)
    assert matches("one\ntwo\n\ntook 12 s\nend\n", sample)
    assert not matches("one\ntook 3 s\n", sample)
    assert not matches("one\ntook 3 s\nend\nmore\n", sample)
    assert not matches("zero\none\ntook 3 s\nend\n", sample)
