"""The command line: `pmdfuzz COMMAND …`.

A group of commands is a file of this package, and is loaded when one of them is named: it imports
what they need.  What a user can do wrong is told in one message on stderr, never by a traceback: a
traceback is a defect of pmdfuzz.  Exit statuses: `fuzz.lib.exits`.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TextIO

from engine.base.geometry import UnknownName
from fuzz.case import CaseError
from fuzz.cli.options import EXIT, Handler, Parser, UsageError, add_command, refuse
from fuzz.lib.exits import INTERRUPTED, STOPPED
from fuzz.lib.files import WriteError

# Group and summary of each; `fuzz.cli.GROUP.make_COMMAND` makes it.
COMMANDS = {
    "run": ("run", "fuzz until the limits, Ctrl-C, SIGTERM or SIGHUP"),
    "cluster": ("cluster", "tell how to start a cluster of machines to fuzz on"),
    "replay": ("cases", "run cases and compare with what they expect"),
    "show": ("cases", "draw the address space before and after every call of a case"),
    "minimize": ("cases", "make a case as simple as it can be while it shows the same finding"),
    "harm": ("harm", "look for what a finding leads to: lost pages, wrong contents, leaks"),
    "bisect": ("bisect", "find the switches by which a case shows on one kernel, not on another"),
    "observe": ("subjects", "print what cases show, one JSON object a line"),
    "ab": ("ab", "run programs on two subjects: where they differ, and which switch explains it"),
    "agent": ("agent", "run programs for another pmdfuzz that asks in lines"),
    "compare": ("subjects", "compare the model with recordings of a real kernel"),
    "check": ("subjects", "run programs on a subject and on its model, and compare what they show"),
    "kernel": ("subjects", "check the model against the kernel of this machine"),
    "vm": ("vm", "boot a kernel in a virtual machine, and say what can be measured on it"),
    "cmin": ("cmin", "prune a corpus: write the smallest one that reaches the same"),
    "status": ("status", "say where a run in progress stands, or what the last one said"),
    "report": ("report", "make pages of what runs have found, to look at in a browser"),
    "export": ("export", "write a case as a program in C, or in another form for others"),
    "findings": ("findings", "list, show and promote what runs have found"),
    "import": ("imports", "make cases of logs of strace, or of programs of syzkaller"),
    "museum": (
        "museum",
        "list bugs that the real code has had, put them back, see whether they are found",
    ),
    "selfcheck": (
        "selfcheck",
        "run random programs on kernels whose known defects are repaired: no rule may break",
    ),
    "exhaust": ("exhaust", "run every small program, on every kernel, with every failure"),
    "coverage": (
        "coverage",
        "say which lines of the model programs reach: was a change run at all?",
    ),
    "kernels": ("catalogues", "list the kernels, the switches by which they differ, geometries"),
    "defects": ("catalogues", "list the known defects: which kernels have them, what repairs them"),
    "rules": ("catalogues", "list the rules: what the kernel promises"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Arguments: `argv` the arguments without the program's name; None: those of this process.
    Returns: the exit status.
    """
    sys.stdout = sys.stdout or _nowhere()  # None: it was closed when we were called
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have every character
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    words, rest = _split_off_rest(words)
    try:
        options = _parser(words).parse_args(words)
        options.rest = rest
        handler: Handler = options.command
        status = handler(options)
        sys.stdout.flush()
    except SystemExit as stop:  # after --help, or a message of argparse
        return int(stop.code or 0)
    except (CaseError, UnknownName, WriteError, UsageError) as error:
        return refuse(str(error))
    except BrokenPipeError:
        # Whoever reads our output has seen enough.  What is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED + signal.SIGPIPE  # as a shell reports it
    except OSError as error:
        return refuse(_reason(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    return status


def _nowhere() -> TextIO:
    """A stream whose text nobody reads."""
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _split_off_rest(words: list[str]) -> tuple[list[str], list[str]]:
    """`run … -- FLAG…`: the words before and after the `--`."""
    if words[:1] == ["run"] and "--" in words:
        cut = words.index("--")
        return words[:cut], words[cut + 1 :]
    return words, []


def _parser(words: Sequence[str]) -> Parser:
    """A parser that knows of all commands, and more of the one that `words` name."""
    parser = argparse.ArgumentParser(
        prog="pmdfuzz",
        description="Fuzz a model of how Linux moves page tables: mremap(2) and the stack move of "
        "execve(2).",
        epilog=f"{EXIT}\npmdfuzz COMMAND --help tells more of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    named = next((word for word in words if not word.startswith("-")), "")
    for name, (group, summary) in COMMANDS.items():
        command = add_command(commands, name, summary)
        if name == named:
            module = import_module(f"fuzz.cli.{group}")
            make: Callable[[Parser, str], None] = getattr(module, f"make_{name}")
            make(command, summary)
    return parser


def _reason(error: OSError) -> str:
    """What the system says, as people put it: FILE: No such file or directory."""
    why = error.strerror or str(error)
    return f"{error.filename}: {why}" if error.filename else why
