"""`cmin`: a corpus that reaches the same, written elsewhere."""

import os
import shutil
from pathlib import Path

import pytest

from engine.base.geometry import geometry_named
from fuzz.campaign.coverage import MONITORED
from fuzz.cli.main import main
from fuzz.findings.history import About
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import parse
from fuzz.inputs.inputs import Inputs, shared_out
from fuzz.lib import files
from fuzz.reach import prune
from tests.lib.command import MAP, STACK, Output, refused

INPUTS = Inputs(shared_out(geometry_named("x86-64")))
# The second reaches what the first does, and more.
PROGRAMS = {"less": MAP, "more": f"{MAP}touch(0x200000, 0x2000)\n", "stack": STACK}
CMIN = ["cmin", "--workdir", "work", "out"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "corpus" / "x86-64"
    folder.mkdir(parents=True)
    for name, text in PROGRAMS.items():
        (folder / name).write_bytes(INPUTS.encode(parse(text), 0))
    (folder / "twice").write_bytes((folder / "more").read_bytes())
    return folder


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_the_smallest_corpus_that_reaches_the_same(corpus: Path, capsys: Output) -> None:
    before = held(corpus)
    assert main(CMIN) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("work/corpus/x86-64: 2 of 4 inputs reach the same: ")
    assert (" places" in told[0]) is MONITORED
    assert told[1].startswith("They are in out; ")
    assert held(corpus) == before
    left = held(Path("out/x86-64"))
    assert len(left) == 2 and left.items() < before.items()
    assert "stack" in left and "less" not in left
    # There is nothing left that could go, and what they reach is as much.
    shutil.rmtree(corpus.parent)
    Path("out").rename(corpus.parent)
    assert main(CMIN) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[0] == told[0].replace("2 of 4", "2 of 2")
    assert os.stat("out").st_mode & 0o777 == 0o777 & ~files._umask()


@pytest.mark.slow
def test_kernels_and_geometries_are_those_of_the_last_run(corpus: Path, capsys: Output) -> None:
    with Ledger.open(corpus.parents[1]) as ledger:
        ledger.history.begin(About("r", ("linux-6.1", "linux-7.3"), ("x86-64",), "p"))
    assert main(CMIN) == 0
    both = capsys.readouterr().out
    assert main([*CMIN[:-1], "other", "--kernel", "linux-6.1"]) == 0
    assert capsys.readouterr().out.split("; ")[0] != both.split("; ")[0]


def test_what_is_there_is_never_written_over(corpus: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert main(CMIN) == 2
    assert refused(capsys) == "out is there already: name another place\n"
    (tmp_path / "file").touch()
    assert main([*CMIN[:-1], "file"]) == 2
    assert refused(capsys) == "file is there already: name another place\n"
    assert main([*CMIN[:-1], "work/corpus/x86-64/new"]) == 2
    assert "lies in the corpus" in refused(capsys)


def test_no_corpus_or_a_strange_one(corpus: Path, capsys: Output) -> None:
    assert main(["cmin", "--workdir", "none", "out"]) == 2
    assert refused(capsys) == "no corpus in none; `pmdfuzz run` makes one\n"
    corpus.rename(corpus.with_name("strange"))
    assert main(CMIN) == 2
    assert refused(capsys).startswith("work/corpus/strange: a folder of the corpus is named")
    assert main([*CMIN, "--kernel", "linux-0"]) == 2


def test_all_of_it_is_written_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(files.WriteError, match="No such file"):
        prune.write_folders(tmp_path / "out", {"x": [str(tmp_path / name) for name in "ab"]})
    assert sorted(os.listdir(tmp_path)) == ["a"]
    (tmp_path / "out").mkdir()
    prune.write_folders(tmp_path / "out", {"x": [str(tmp_path / "a")], "y": []})
    assert sorted(os.listdir(tmp_path)) == ["a", "out"]
    assert (tmp_path / "out" / "x" / "a").exists() and (tmp_path / "out" / "y").is_dir()


@pytest.mark.slow
def test_an_input_that_takes_too_long_is_left_out_and_told(corpus: Path, capsys: Output) -> None:
    text = "".join(
        f"mmap({n << 30:#x}, 0x40000000, PROT_READ|PROT_WRITE, "
        "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_POPULATE)\n"
        for n in range(1, 9)
    )
    (corpus / "long").write_bytes(INPUTS.encode(parse(text), 0))
    assert main(CMIN) == 0
    told = capsys.readouterr().out
    assert "2 of 5 inputs" in told and "; 1 that take too long are left out\n" in told


def test_measuring_that_fails_is_told(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr("fuzz.reach.prune.sys.executable", "false")
    assert main(CMIN) == 2
    assert refused(capsys) == "measuring failed, see above (exit status 1)\n"
    assert not Path("out").exists()
