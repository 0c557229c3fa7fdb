"""The command line as a whole: usage, help, how it ends."""

import os
import subprocess
import sys
from typing import get_args

import pytest

from fuzz.cli import cases
from fuzz.cli.main import COMMANDS, main
from fuzz.rules.judge import RulesAfter
from tests.lib.command import STACK, Output, Write
from tests.lib.constants import ROOT


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fuzz"], "invalid choice: 'fuzz'"),
        (["replay"], "the following arguments are required: CASE"),
        (["show", "a", "b"], "unrecognized arguments: b"),
        (["run", "--time", "soon"], "'soon' is not a time: 60, 90s, 10m, 8h, 2d"),
        (["run", "--time", "0"], "'0' is not a time"),
        (["run", "--runs", "-1"], "'-1' is not a positive whole number"),
        (["run", "--seed", "x"], "'x' is not a positive whole number"),
        (
            ["run", "--seed", "4294967296"],
            "'4294967296' is too great: at most 4294967295",
        ),
        (["kernel", "check", "--seed", str(1 << 70)], "is too great"),
        (["run", "--runs", "2147483648"], "'2147483648' is too great: at most 2147483647"),
        (["run", "--workdir", ""], "a directory has a name; the one we are in is ."),
        (["findings", "list", "--workdir", ""], "a directory has a name"),
        (["findings", "promote", "x", "--to", ""], "a directory has a name"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: Output) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        *([name] for name in COMMANDS),
        *(["findings", name] for name in ("list", "show", "promote")),
    ],
    ids=" ".join,
)
def test_help_names_the_exit_statuses(words: list[str], capsys: Output) -> None:
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    for line in ("0    as expected", "1    findings", "2    bad input", "130  stopped by Ctrl-C"):
        assert line in out


# The process


def test_interrupt_is_130_without_a_traceback(
    write: Write, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cases, "loaded", interrupted)
    assert main(["show", write(STACK)]) == 130
    assert capsys.readouterr().err == "\n"


def test_interrupt_while_a_command_is_loaded(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fuzz.cli.main.import_module", interrupted)
    assert main(["rules"]) == 130
    assert capsys.readouterr().err == "\n"


def test_closed_output_is_quiet() -> None:
    shown = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m fuzz rules >&-"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m fuzz rules; echo $? >&2"
    with subprocess.Popen(
        ["/bin/sh", "-c", f"({command}) | true"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read() in ("141\n", "0\n")  # 0: it was faster than `true`


def test_terminal_without_unicode(write: Write) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "fuzz", "show", write(f"# caf\u00e9\n{STACK}")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert shown.stdout.startswith(b"# caf\\xe9\n")


def test_help_loads_nothing_heavy() -> None:
    program = "import sys; from fuzz.cli.main import main; main(['--help']); print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(shown.stdout.split())
    assert "fuzz.cli.main" in loaded
    assert not loaded & {"atheris", "rich", "sqlite3", "sortedcontainers", "engine.move"}


@pytest.mark.parametrize("words", [["run"], ["museum", "all"]], ids=" ".join)
def test_the_cadences_of_the_rules_are_those_that_programs_run_with(
    words: list[str], capsys: Output
) -> None:
    assert main([*words, "--rules-after", "never"]) == 2
    told = capsys.readouterr().err
    assert all(cadence in told for cadence in get_args(RulesAfter))
