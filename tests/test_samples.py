"""What the documents show is what the commands print, and commands that they name can be called.

A sample is an indented block that begins with `$`: the command, and below it what it prints.
`...` stands for any lines, `…` for anything within one.  Behind a command that is only named two
blanks and a remark may follow.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.base.kernel import SWITCHES, releases
from fuzz.cli.main import _parser, main
from fuzz.defects.catalogue import EXHIBITS
from fuzz.forms.text import parse
from fuzz.mutants.inputs import GROUNDS
from fuzz.showing import replay
from tests.lib.constants import ROOT

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "corpus/README.md", "corpus/museum/README.md")
README = ROOT / "README.md"
PLANTED = "align_ignores_start"  # README plants this switch
# One needs root, and a memory cgroup, the other a kernel (tests/fuzz/subjects/test_survey.py).
NOT_HERE = ("kernel shortage", "vm check kernel")


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


KEEPING = {"exhaust"}  # keeps what it has done in a working directory, as it takes long
SHOWN = [s for s in samples() if s.output and s.command.removeprefix("pmdfuzz ") not in NOT_HERE]


@pytest.mark.parametrize(
    "sample", [s for s in SHOWN if PLANTED not in s.command], ids=lambda s: s.where
)
def test_a_sample_is_what_its_command_prints(
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path if sample.words[0] in KEEPING else ROOT)
    main(sample.words)
    out, err = capsys.readouterr()
    if sample.words[0] not in KEEPING:  # on a slow machine it says how far it is
        assert err == ""
    assert matches(out, sample), out


def with_switch(copy: Path) -> None:
    """Make a copy of the project to which the change of README is applied."""
    for folder in ("engine", "fuzz", "corpus"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "empty.ini").touch()  # pytest looks for no other
    if PLANTED in SWITCHES:  # somebody has done what README says
        return
    command = re.search(r"^```sh\n(git apply .*?)^```", README.read_text(), re.M | re.S)
    assert command is not None
    subprocess.run(command[1], cwd=copy, shell=True, check=True)


def called(sample: Sample) -> list[str]:
    """How a command is called that may be a target of the Makefile."""
    match shlex.split(sample.command):
        case ["make", "fuzz", arguments]:
            words = ["fuzz", "run", *shlex.split(arguments.removeprefix("ARGS="))]
        case ["make", "test", arguments]:
            options = ["-c", "empty.ini", "--rootdir=.", "-p", "no:cacheprovider"]
            words = ["pytest", *options, *shlex.split(arguments.removeprefix("ARGS="))]
        case [_, *arguments]:
            words = ["fuzz", *arguments]
    return [sys.executable, "-m", *words]


@pytest.mark.atheris
@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 12), reason="other coverage leads to other programs")
def test_the_samples_of_the_planted_bug(tmp_path: Path) -> None:
    """In the order of README, where one goes on with what another has found."""
    pytest.importorskip("atheris")
    with_switch(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "80"}
    for sample in SHOWN:
        if PLANTED not in sample.command:
            continue
        command = called(sample)
        if "run" in command:  # each from nothing
            shutil.rmtree(tmp_path / ".pmdfuzz", ignore_errors=True)
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert matches(done.stdout, sample), f"{sample.where}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    ("document", "words", "number"),
    [
        ("README.md", r"all (\w+) exhibits are found with each of ten seeds", len(EXHIBITS)),
        ("README.md", r"half of the (\w+) trials", 10 * len(EXHIBITS)),
        ("corpus/museum/README.md", r"of the (\w+) show no harm", len(EXHIBITS)),
        ("ARCHITECTURE.md", r"of these (\w+) bugs", sum(e.change is not None for e in EXHIBITS)),
        ("ARCHITECTURE.md", r"are the (\w+) releases from", len(releases())),
        ("ARCHITECTURE.md", r"on (\w+) kernels and geometries", len(GROUNDS)),
    ],
)
def test_what_is_counted_is_counted_still(document: str, words: str, number: int) -> None:
    text = " ".join((ROOT / document).read_text().split())
    assert re.findall(words, text) == [{12: "twelve"}.get(number, str(number))]


def configured() -> Iterator[str]:
    """Commands in examples of how other programs are to be told of this one."""
    for kind, text in blocks():
        if kind in ("yaml", "ini"):
            yield from re.findall(r"^(?:ExecStart=\S*/| *- run: )(pmdfuzz .*)", text, re.M)


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks of README: language and text."""
    return re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(), re.M | re.S)


def test_the_service_is_one(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there")
    (text,) = (text for kind, text in blocks() if kind == "ini")
    service = tmp_path / "pmdfuzz.service"
    service.write_text(re.sub(r"(?<=^ExecStart=)\S+", sys.executable, text, flags=re.M))
    check = ["systemd-analyze", "verify", str(service)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if service.name in line]
    assert (done.returncode, told) == (0, [])


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            *(command for _, command in named()),
            *configured(),
            *(s.command for s in samples() if "pmdfuzz " in s.command),
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
    assert {command.split()[1] for command in configured()} == {"run"}
    assert len(list(configured())) == 2
    assert {*NOT_HERE} <= {s.command.removeprefix("pmdfuzz ") for s in samples()}


def test_samples_match_what_they_say_and_nothing_else() -> None:
    sample = Sample("", "", ("one", "...", "took … s", "end"))
    assert matches("one\ntook 3 s\nend\n", sample)
    assert matches("one\ntwo\n\ntook 12 s\nend\n", sample)
    assert not matches("one\ntook 3 s\n", sample)
    assert not matches("one\ntook 3 s\nend\nmore\n", sample)
    assert not matches("zero\none\ntook 3 s\nend\n", sample)
