"""`pmdfuzz export`: a case in a form that others can use."""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz.case import Case
from fuzz.cli.named import is_input, loaded, naming
from fuzz.cli.options import (
    Parser,
    UsageError,
    add_case,
    add_geometry,
    add_kernel,
    define,
)
from fuzz.export.program import KSELFTEST, PLAIN, ExportError, Form, as_c
from fuzz.lib.exits import FINE
from fuzz.lib.files import write_atomic


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for beside the case: see the options of the command.

    `name` is what the case is called, `made_by` the command that makes the export.
    """

    name: str
    kernel: str | None
    made_by: str
    even_if_it_crashes: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """A form: the text of a case in it (which may raise ExportError), and what it is."""

    write: Callable[[Case, Request], str]
    about: str


def _c(case: Case, request: Request) -> str:
    return _program(case, request, PLAIN)


def _kselftest(case: Case, request: Request) -> str:
    return _program(case, request, KSELFTEST)


def _program(case: Case, request: Request, form: Form) -> str:
    return as_c(
        case,
        request.name,
        request.kernel,
        request.made_by,
        form,
        even_if_it_crashes=request.even_if_it_crashes,
    )


FORMATS = {
    "c": Format(_c, "a program in C that stands by itself"),
    "kselftest": Format(_kselftest, "a test for tools/testing/selftests/mm of a kernel tree"),
}


def make_export(parser: Parser, summary: str) -> None:
    """Make the command."""
    forms = "; ".join(f"{name}: {form.about}" for name, form in FORMATS.items())
    define(
        parser,
        _export,
        summary,
        f"Forms: {forms}. A program does what the case does, checks what comes of it, and ends "
        "with a verdict in words: shows the defect (exit status 1), or does not (0); 4: it lacks "
        "something here, and says what. What is right is what the kernel does once its known "
        "defects are repaired.",
    )
    add_case(parser)
    parser.add_argument("--as", dest="form", choices=FORMATS, required=True, help="the form")
    add_kernel(parser)
    add_geometry(parser)
    parser.add_argument(
        "--even-if-it-crashes",
        action="store_true",
        help="make a program of which a released kernel may crash or hang, too",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it to FILE")


def _export(options: argparse.Namespace) -> int:
    with naming(options.case):
        case = loaded(options.case, options.geometry)
        name = "case" if is_input(options.case) else options.case.stem
        made_by = shlex.join(("pmdfuzz", "export", str(options.case), "--as", options.form))
        request = Request(name, options.kernel, made_by, options.even_if_it_crashes)
        try:
            text = FORMATS[options.form].write(case, request)
        except ExportError as error:
            raise UsageError(f"{options.case}: {error}") from None
    if options.output is None:
        print(text, end="")
    else:
        write_atomic(options.output, text)
    return FINE
