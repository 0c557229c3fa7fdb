"""Commands that are printed can be pasted."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.cli.main import COMMANDS
from fuzz.lib.command import command
from tests.lib.command import STACK
from tests.lib.constants import ROOT


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the programs pmdfuzz and pytest, below the one that we are in."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / ".venv" / "bin"
    directory.mkdir(parents=True)
    for name in ("pmdfuzz", "pytest"):
        (directory / name).touch(mode=0o755)
    return directory


def test_called_by_its_path(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (".venv/bin/pmdfuzz", str(programs / "pmdfuzz")):
        monkeypatch.setattr(sys, "argv", [path, "show"])
        assert command("show") == ".venv/bin/pmdfuzz show"
        assert command("x.case", of="pytest") == ".venv/bin/pytest x.case"


def test_called_by_its_name(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", [str(programs / "pmdfuzz"), "show"])
    assert command("show") == "pmdfuzz show"
    assert command("x.case", of="pytest") == "pytest x.case"


def test_called_by_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/lib/pytest/__main__.py", "tests"])
    assert command("show") == "pmdfuzz show"


@pytest.mark.parametrize("module", [["-m", "fuzz"], ["-mfuzz"]])
def test_called_as_a_module(module: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/fuzz/__main__.py", "show", "x"])
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-Xdev", *module, "show", "x"])
    assert command("show") == f"python3 -Xdev {' '.join(module)} show"
    assert command(of="pytest").endswith("pytest")
    assert "fuzz" not in command(of="pytest")


def test_words_are_quoted_and_paths_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("show", tmp_path / "my case", "$x") == "pmdfuzz show 'my case' '$x'"


def strings(tree: ast.AST) -> Iterator[str]:
    """All strings of a program but docstrings and what --help says."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()) | ast.keyword(arg="help" | "description"):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Constant):
                        inner.value = None
            case ast.Constant(value=str(text)):
                yield text


def test_commands_are_printed_by_nobody_else() -> None:
    """But for messages that begin with the command they are from, and prose in backticks."""
    named = re.compile(rf"(?<!`)pmdfuzz ({'|'.join(COMMANDS)})\b(?![a-z ]*:)")
    for path in (ROOT / "fuzz").rglob("*.py"):
        found = [text for text in strings(ast.parse(path.read_text())) if named.search(text)]
        assert found == [], path


@pytest.mark.slow
def test_what_is_printed_runs(tmp_path: Path) -> None:
    """From another directory than the project's, with a path that a shell would take apart."""
    (tmp_path / "my $case").write_text(STACK)

    def run(line: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        shell = ["sh", "-c", line]
        done = subprocess.run(
            shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.stdout

    shown = run(f"{sys.executable} -m fuzz show 'my $case' --kernel linux-6.1")
    (line,) = (line for line in shown.splitlines() if line.startswith("Reproduce with: "))
    replayed = run(line.removeprefix("Reproduce with: "))
    assert "dest-entry-none" in replayed
