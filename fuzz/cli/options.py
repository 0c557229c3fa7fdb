"""What the commands share: how one is told of, and options.  Loads nothing of the model."""

import argparse
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from fuzz.lib.arguments import directory, positive
from fuzz.lib.command import command
from fuzz.lib.exits import BAD_INPUT

WORKDIR = Path(".pmdfuzz")
EXIT = """\
exit status:
  0    as expected; nothing found
  1    findings, or results that differ from what a case says
  2    bad input or environment
  130  stopped by Ctrl-C
"""
MACHINE_NEEDS = (
    "Needs Linux on x86-64 and a C compiler with a static libc. Without root, which kernels before "
    "6.7 need, warnings in the kernel's log are not seen (taints are), and calls that lock memory "
    "are left out."
)
_TEXT_COLUMNS = 90

Parser = argparse.ArgumentParser
Parsers = argparse._SubParsersAction  # has no public name
Handler = Callable[[argparse.Namespace], int]  # does what a command is for; returns its status


class _Kernels(argparse.Action):
    """Appends a name to a list, or those of all releases."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        names = [str(values)]
        if values == "all":
            from engine.base.kernel import releases

            names = [kernel.name for kernel in releases()]
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), *names])


class UsageError(Exception):
    """Something the user asked for cannot be done; the message says what and why."""


def refuse(message: str) -> int:
    """Say on stderr why not.  Returns: the exit status."""
    print(f"pmdfuzz: {message}", file=sys.stderr)
    return BAD_INPUT


# --- Commands -------------------------------------------------------------------------------------


def add_command(commands: "Parsers[Parser]", name: str, summary: str) -> Parser:
    """A command, or an action of one, that is not made yet (`define`)."""
    return commands.add_parser(
        name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def define(
    parser: Parser, handler: Handler, summary: str, more: str = "", epilog: str = EXIT
) -> None:
    """Say what a command does, and let it be done by `handler`."""
    text = f"{summary[0].upper()}{summary[1:]}. {more}".strip()
    parser.description = textwrap.fill(text, _TEXT_COLUMNS)
    parser.epilog = epilog
    parser.set_defaults(command=handler)


def add_action(
    actions: "Parsers[Parser]",
    name: str,
    handler: Handler,
    summary: str,
    more: str = "",
    epilog: str = EXIT,
) -> Parser:
    """An action of a command."""
    parser = add_command(actions, name, summary)
    define(parser, handler, summary, more, epilog)
    return parser


# --- Options --------------------------------------------------------------------------------------


def add_case(parser: Parser) -> None:
    """CASE: one case file."""
    parser.add_argument("case", type=Path, metavar="CASE", help="a case file, - for standard input")


def add_output(parser: Parser) -> None:
    """-o: where a case goes that the command makes."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the case to FILE")


def add_svg(parser: Parser) -> None:
    """--svg: where a picture goes."""
    parser.add_argument(
        "--svg",
        type=Path,
        metavar="FILE",
        help="write a picture (SVG) to FILE instead: the decisive moments of the call that breaks "
        "a rule",
    )


def add_kernels(parser: Parser, default: str = "default: as the case says") -> None:
    """--kernel, repeatable."""
    parser.add_argument(
        "--kernel",
        dest="kernels",
        action=_Kernels,
        metavar="K",
        help="a kernel of `pmdfuzz kernels`, or all: each release, point releases included, that "
        f"differs from the one before; may be given more than once ({default})",
    )


def add_kernel(parser: Parser) -> None:
    """--kernel, for a case."""
    parser.add_argument(
        "--kernel", metavar="K", help="a kernel of `pmdfuzz kernels` (default: as the case says)"
    )


def add_like(parser: Parser) -> None:
    """--like."""
    parser.add_argument(
        "--like",
        metavar="K",
        help="run the same on this kernel, and tell what differs: results, VMAs, contents, page "
        "tables, broken rules",
    )


def add_geometry(parser: Parser) -> None:
    """--geometry, for a case."""
    parser.add_argument(
        "--geometry", metavar="G", help="a geometry of `pmdfuzz kernels` in place of the usual one"
    )


def add_on(parser: argparse._ActionsContainer, default: str | None, what: str) -> None:
    """--on: the subject that programs run on.  Arguments: `what` they do there."""
    shown = " (default: %(default)s)" if default else ""
    parser.add_argument(
        "--on",
        metavar="SUBJECT",
        default=default,
        help=f"{what}: host, vm:IMAGE, via:'COMMAND {{agent}}', model:KERNEL, model-at:DIR; "
        f"fuzz/subjects/README.md{shown}",
    )


def add_jobs(parser: argparse._ActionsContainer) -> None:
    """--jobs: how many subjects work side by side."""
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="have N of the subject work side by side, such as virtual machines (default: 1)",
    )


def add_rules_after(parser: Parser) -> None:
    """--rules-after; see `fuzz.rules.judge.RulesAfter`."""
    parser.add_argument(
        "--rules-after",
        choices=("last", "moving", "call"),
        default="moving",
        help="judge the whole state after the last call, after every moving one and the last, or "
        "after every call (default: moving)",
    )


def add_workdir(parser: Parser, default: object = WORKDIR) -> None:
    """--workdir."""
    parser.add_argument(
        "--workdir",
        type=directory,
        default=default,
        metavar="DIR",
        help=f"where runs keep everything (default: {WORKDIR})",
    )


def need_workdir(workdir: Path) -> None:
    """Errors raised: UsageError unless there is a working directory that has been in use."""
    if not workdir.exists():
        raise UsageError(f"no findings: {workdir} is not there; `{command('run')}` makes it")
    if not workdir.is_dir():
        raise UsageError(f"{workdir}: not a directory")


def workdir_flag(workdir: Path) -> tuple[str | Path, ...]:
    """What a command that we suggest needs to find the same working directory."""
    return () if workdir == WORKDIR else ("--workdir", workdir)


def case_words(
    path: Path, kernel: str, geometry: str | None, like: str | None = None
) -> list[str | Path]:
    """What a command about a case that we suggest is to be called with."""
    flags = {"--kernel": kernel, "--like": like, "--geometry": geometry}
    return [path, *(word for flag, name in flags.items() if name for word in (flag, name))]
