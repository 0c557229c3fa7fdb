"""`coverage`: which lines of the model programs reach."""

import ast
import json
from pathlib import Path

import pytest

from engine.base.geometry import GEOMETRIES
from fuzz.campaign.run import run
from fuzz.cli import coverage
from fuzz.cli.main import main
from fuzz.forms.text import load
from fuzz.inputs.inputs import Inputs, shared_out
from tests.lib.command import MAP, Output, Write, refused
from tests.lib.constants import ROOT
from tests.lib.runs import fuzzing_test, options

SLOT = """\
mmap(0x200000, 0x200000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x200000, 0x1000)
mremap(0x200000, 0x200000, 0x200000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)
"""
MOVE = f"{MAP}mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)\n"


def lines_of(path: str, function: str) -> set[int]:
    """Where the statements of a function begin, and the definition of it."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (found,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    nested = (node for one in found.body[1:] for node in ast.walk(one))
    return {found.lineno, *(node.lineno for node in nested if isinstance(node, ast.stmt))}


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """The lines that differ from a revision."""
    pytest.importorskip("coverage", reason="coverage.py is not installed")
    lines: dict[str, set[int]] = {}
    monkeypatch.setattr(coverage, "changed_lines", lambda _: lines)
    return lines


@pytest.mark.slow
def test_a_change_that_was_run_and_one_that_was_not(
    changed: dict[str, set[int]], write: Write, capsys: Output
) -> None:
    words = ["coverage", write(MOVE), "--kernel", "linux-6.18", "--changed"]
    changed["engine/remap.py"] = lines_of("engine/remap.py", "too_many_maps")
    changed["engine/calls/mseal.py"] = {1}  # of its docstring
    assert main(words) == 1  # there was room for VMAs
    out = capsys.readouterr().out
    assert out.startswith("1 programs on linux-6.18: 1 runs\nengine/remap.py: never run: ")
    assert " changed statements were run; 1 only define something\n" in out
    changed["engine/remap.py"] = {min(changed["engine/remap.py"])}
    assert main(words) == 0  # a definition, which is run by no program
    assert "nothing changed is run; 1 only define something\n" in capsys.readouterr().out


@pytest.mark.slow
def test_inputs_of_a_run_count_as_cases_do(
    changed: dict[str, set[int]], write: Write, tmp_path: Path, capsys: Output
) -> None:
    folder = tmp_path / "work" / "corpus" / "x86-64"
    folder.mkdir(parents=True)
    inputs = Inputs(shared_out(GEOMETRIES["x86-64"]))
    (folder / "abc").write_bytes(inputs.encode(load(Path(write(MOVE))), 1))
    assert main(["coverage", str(folder), "--kernel", "linux-6.1", "--kernel", "linux-6.18"]) == 0
    first, head, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("1 programs on linux-6.1, linux-6.18: ")
    assert head.split()[:2] == ["file", "lines"]
    row = {line.split()[0]: line.split() for line in rows}
    sealing, moving = (
        float(row[f"engine/{name}.py"][5][:-1]) for name in ("calls/mseal", "mremap")
    )
    assert 0 < sealing < moving < 100
    assert row["all"][2] == str(sum(int(line.split()[2]) for line in rows[:-1]))


@fuzzing_test
def test_what_a_run_has_met(tmp_path: Path, capsys: Output) -> None:
    """Its seeds, too, on the geometries that it had."""
    work = tmp_path / "work"
    seed = ROOT / "corpus" / "seeds" / "place-on-32-bits.case"
    run(options(tmp_path, seed, geometries=("tiny", "i386-pae"), kernels=("linux-6.18",)))
    capsys.readouterr()
    words = ["coverage", "--marks", "--json", "--of-run", "--workdir", str(work)]
    assert main([*words, "--kernel", "linux-6.18"]) == 1, "it has not reached all"
    met = {one["mark"]: one["programs"] for one in json.loads(capsys.readouterr().out)["marks"]}
    assert met["-thp_aligns_32_bit"] + met["+thp_aligns_32_bit"], "asked on i386 alone"
    assert main([*words, str(seed)]) == 2
    assert "--of-run" in refused(capsys)
    assert main([*words[:-1], str(tmp_path / "none")]) == 2
    assert "no programs in" in refused(capsys)


@pytest.mark.slow
def test_pages_are_written(
    changed: dict[str, set[int]], write: Write, tmp_path: Path, capsys: Output
) -> None:
    words = ["coverage", write(MOVE), "--kernel", "linux-6.18", "--html", str(tmp_path / "pages")]
    assert main(words) == 0
    assert "index.html" in capsys.readouterr().out
    assert (tmp_path / "pages" / "index.html").is_file()


@pytest.mark.slow
def test_a_corpus_may_have_any_number_of_names(tmp_path: Path, capsys: Output) -> None:
    """Linux takes no argument of 128 KiB."""
    pytest.importorskip("coverage", reason="coverage.py is not installed")
    folder = tmp_path.joinpath(*["x" * 250] * 13)
    folder.mkdir(parents=True)
    for number in range(45):
        (folder / f"{number}.case").write_text("munmap(0x10000, 0x1000)\n")
    assert main(["coverage", "--kernel", "linux-6.18", str(folder)]) == 0
    assert "45 programs on linux-6.18: 45 runs" in capsys.readouterr().out


def test_nothing_has_changed(changed: dict[str, set[int]], capsys: Output) -> None:
    assert main(["coverage", "--changed", "v1"]) == 0
    assert capsys.readouterr().out == "no statement of the model differs from v1\n"


def test_bad_input_is_refused(changed: dict[str, set[int]], tmp_path: Path, capsys: Output) -> None:
    assert main(["coverage", str(tmp_path)]) == 2
    assert "no programs in" in refused(capsys)
    assert main(["coverage", str(tmp_path / "none.case")]) == 2
    assert "none.case" in refused(capsys)
    assert main(["coverage", "--kernel", "linux-9.9"]) == 2
    assert "unknown kernel" in refused(capsys)


def test_without_coverage_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["coverage"]) == 2
    assert "install coverage" in refused(capsys)


def test_marks_are_told_the_missing_ones_first(
    write: Write, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = ["coverage", write(SLOT), "--kernel", "linux-6.18", "--marks"]
    assert main(words) == 1
    first, head, *rows, last = capsys.readouterr().out.splitlines()
    assert first == "1 programs on linux-6.18: 1 runs"
    assert head.split()[:3] == ["mark", "where", "programs"]
    programs = [row.split()[2] for row in rows]
    assert programs == sorted(programs, key=lambda word: word != "never")
    assert any(row.startswith("table-moved ") and row.split()[2] == "1" for row in rows)
    assert any("unreachable: no release has it" in row for row in rows)
    assert last.split()[1] == "marks:"
    assert main([*words, "--json"]) == 1
    told = {one["mark"]: one for one in json.loads(capsys.readouterr().out)["marks"]}
    assert told["table-moved"]["programs"] == told["+move_pmd"]["programs"] == 1
    assert told["-move_pmd"]["programs"] == told["hugetlb-moved"]["programs"] == 0
    assert told["table-moved"]["tests"] == [
        "tests/engine/test_move.py::test_a_whole_slot_moves_as_a_table"
    ]
    assert told["-move_pmd"]["unreachable"] == "every release has it"


def test_marks_are_no_lines(write: Write, capsys: Output) -> None:
    assert main(["coverage", write(MOVE), "--marks", "--html", "pages"]) == 2
    assert "--html is not for --marks" in refused(capsys)
    assert main(["coverage", write(MOVE), "--json"]) == 2
    assert "--json is for --marks alone" in refused(capsys)
