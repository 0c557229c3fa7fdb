"""`pmdfuzz export`: a case in a form that others can use."""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from engine.base.geometry import GEOMETRIES
from fuzz.case import Case
from fuzz.cli.named import case_files, is_input, loaded, naming
from fuzz.cli.options import (
    Parser,
    UsageError,
    add_geometry,
    add_kernel,
    define,
)
from fuzz.export.program import KSELFTEST, MAKEFILE, PLAIN, ExportError, Form, as_c
from fuzz.lib.command import elsewhere
from fuzz.lib.exits import FINE
from fuzz.lib.files import write_atomic
from fuzz.showing import kernel_for
from fuzz.strace.write import OLDER, USUAL, Dialect, as_strace, unshown
from fuzz.syz.write import DoesNotFit, as_syz

_ODD = re.compile(r"[^\w.+-]+")


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
    """A form: the text of a case in it (which may raise ExportError), and what it is.

    `ending` is that of its files; a folder of them gets an `extra` one, by its name.
    """

    write: Callable[[Case, Request], str]
    about: str
    ending: str
    extra: Mapping[str, Path] = field(default_factory=dict)
    lost: Callable[[Case], Counter[str]] = lambda case: Counter()  # what it leaves out, and why


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


def _strace(case: Case, request: Request, dialect: Dialect = USUAL) -> str:
    kernel = kernel_for(case, request.kernel)
    if kernel.geometry != GEOMETRIES["x86-64"]:
        raise ExportError(f"a log of strace is of x86-64, not of {kernel.geometry.name}")
    return as_strace(case, kernel, dialect)


def _syz(case: Case, request: Request) -> str:
    kernel = kernel_for(case, request.kernel)
    if kernel.geometry != GEOMETRIES["x86-64"]:
        raise ExportError(f"a program of syzkaller is for x86-64, not for {kernel.geometry.name}")
    try:
        return as_syz(case, kernel).text
    except DoesNotFit as error:
        raise ExportError(str(error)) from None


def _mail(case: Case, request: Request) -> str:
    from fuzz.mail.mail import mail
    from fuzz.mail.matter import MailError, matter

    try:
        return mail(matter(case, request.kernel), even_if_it_crashes=request.even_if_it_crashes)
    except MailError as error:
        raise ExportError(str(error)) from None


FORMATS = {
    "c": Format(_c, "a program in C that stands by itself", ".c", {"Makefile": MAKEFILE}),
    "kselftest": Format(_kselftest, "a test for tools/testing/selftests/mm of a kernel tree", ".c"),
    "strace": Format(
        _strace,
        f"what strace {USUAL.version} prints of it, by the model's results",
        ".strace",
        lost=unshown,
    ),
    **{
        f"strace-{dialect.version}": Format(
            partial(_strace, dialect=dialect), "the same of that version", ".strace", lost=unshown
        )
        for dialect in OLDER
    },
    "syz": Format(_syz, "a program of syzkaller, in whose head is what it leaves out", ".syz"),
    "mail": Format(_mail, "a mail to a kernel's list, with all of that in it", ".eml"),
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
    parser.add_argument(
        "cases",
        nargs="+",
        type=Path,
        metavar="CASE",
        help="a case file, a folder of them, - for standard input",
    )
    parser.add_argument("--as", dest="form", choices=FORMATS, required=True, help="the form")
    add_kernel(parser)
    add_geometry(parser)
    parser.add_argument(
        "--even-if-it-crashes",
        action="store_true",
        help="make a program of which a released kernel may crash or hang, too",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write it to FILE; of several cases or a folder, a folder of files, with a Makefile "
        "that builds and runs all programs",
    )


def _export(options: argparse.Namespace) -> int:
    if len(options.cases) > 1 or options.cases[0].is_dir():
        return _export_all(options)
    text = _exported(options.cases[0], options)
    if options.output is None:
        print(text, end="")
    else:
        write_atomic(options.output, text)
    return FINE


def _export_all(options: argparse.Namespace) -> int:
    """Write what can be written, and say of each other case why it cannot."""
    folder: Path | None = options.output
    if folder is None:
        raise UsageError("several cases: name a folder for them with -o")
    form = FORMATS[options.form]
    paths = list(case_files(options.cases))
    twice = [name for name, n in Counter(_name(path) for path in paths).items() if n > 1]
    if twice:
        raise UsageError(f"two cases are called {twice[0]}: export them to folders of their own")
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for path in paths:
        try:
            text = _exported(path, options)
        except UsageError as error:
            print(error)
            continue
        write_atomic(folder / f"{_name(path)}{form.ending}", text, synced=False)
        written += 1
    for name, source in form.extra.items():
        write_atomic(folder / name, source.read_text(encoding="utf-8"))
    print(f"{written} of {len(paths)} cases are in {folder}")
    return FINE


def _exported(path: Path, options: argparse.Namespace) -> str:
    """A case in the form that is asked for.

    Errors raised: CaseError, UnknownName; UsageError, which names it, if it cannot have that form.
    """
    with naming(path):
        case = loaded(path, options.geometry)
        kernel = ("--kernel", options.kernel) if options.kernel else ()
        made_by = elsewhere("export", str(path), "--as", options.form, *kernel)
        request = Request(_name(path), options.kernel, made_by, options.even_if_it_crashes)
        form = FORMATS[options.form]
        try:
            text = form.write(case, request)
        except ExportError as error:
            raise UsageError(f"{path}: {error}") from None
        for why, number in form.lost(case).most_common():
            print(f"pmdfuzz: {path}: not in it: {number} {why}", file=sys.stderr)
        return text


def _name(path: Path) -> str:
    """What a case is called, in words that shells, make and C take for nothing else."""
    return ("" if is_input(path) else _ODD.sub("-", path.stem).strip("-.")) or "case"
