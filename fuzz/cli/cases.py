"""`pmdfuzz replay`, `show` and `minimize`: commands about a case."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from fuzz.case import Case, CaseError
from fuzz.cli.named import case_files, check_names, is_input, loaded, naming
from fuzz.cli.options import (
    Parser,
    UsageError,
    add_case,
    add_geometry,
    add_kernel,
    add_kernels,
    define,
    refuse,
)
from fuzz.forms.text import dump
from fuzz.lib.arguments import positive
from fuzz.lib.command import command
from fuzz.lib.exits import FINE, INTERRUPTED, SURPRISES
from fuzz.lib.files import write_atomic
from fuzz.lib.status import wants_colour
from fuzz.minimize.search import minimize
from fuzz.showing import expectations, expecting, kernel_for, kernel_to_see, replay, showing
from fuzz.tell.story import story

# --- replay ---------------------------------------------------------------------------------------


def make_replay(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _replay,
        summary,
        "Each case runs on every kernel it has an expectation for (`@expect`), or on those named "
        "here. What a case asserts (`= value`, `@vma`, `@page`) is checked on all. One with "
        "switches (linux-6.18+realign) is to do what the case says of linux-6.18, or what it does.",
    )
    parser.add_argument(
        "cases",
        nargs="+",
        type=Path,
        metavar="CASE",
        help="a case file, a folder of them, - for standard input",
    )
    add_kernels(parser)
    add_geometry(parser)


def _replay(options: argparse.Namespace) -> int:
    check_names(options.kernels or [], options.geometry)
    status = FINE
    runs = surprises = 0
    for path in list(case_files(options.cases)):
        try:
            with naming(path):
                shown = replay(loaded(path, options.geometry), options.kernels)
        except CaseError as error:
            status = refuse(str(error))
            continue
        for one in shown:
            runs += 1
            print(f"{_mark(not one.surprises)} {path}: {one}")
            if one.surprises:
                surprises += 1
                if not is_input(path):  # which is gone by then
                    words = _words(path, one.kernel.name, options.geometry)
                    print(f"     Look with: {command('show', *words)}")
    if runs > 1:
        print(f"{runs} replays, {surprises} not as expected")
    return status or (SURPRISES if surprises else FINE)


def _mark(fine: bool) -> str:
    text = "ok  " if fine else "FAIL"
    return f"\033[{32 if fine else 31}m{text}\033[0m" if wants_colour(sys.stdout) else text


# --- show -----------------------------------------------------------------------------------------


def make_show(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _show,
        summary,
        "Lines that a call changed are marked: + new, - gone, ~ the same VMA or table in another "
        "state. The bar of a table shows its entries from low to high addresses: # all of them in "
        "use, + some, . none but a VMA lies there, blank neither.",
    )
    add_case(parser)
    add_kernel(parser)
    add_geometry(parser)


def _show(options: argparse.Namespace) -> int:
    with naming(options.case):
        case = loaded(options.case, options.geometry)
        return tell(case, options.case, options.kernel, options.geometry)


def tell(case: Case, path: Path, kernel_name: str | None, geometry: str | None = None) -> int:
    """Draw a case, and say how it compares with what it expects.

    Arguments: `path` where it is from; `geometry` the one that it was put on.
    Returns: the exit status.
    Errors raised: CaseError, UnknownName.
    """
    name = kernel_name or next(iter(expectations(case)))
    kernel = kernel_for(case, name)
    for comment in case.comments:
        print(f"# {comment}")
    print(f"{path}: {kernel.name} on {kernel.geometry.name}\n")
    print(story(case, kernel, colour=wants_colour(sys.stdout)))
    (shown,) = replay(case, [name])
    print(f"\n{shown}")
    if not is_input(path):
        print(f"Reproduce with: {command('replay', *_words(path, kernel.name, geometry))}")
    return SURPRISES if shown.surprises else FINE


def _words(path: Path, kernel: str, geometry: str | None) -> list[str | Path]:
    """What a command that we suggest is to be called with."""
    return [path, "--kernel", kernel, *(("--geometry", geometry) if geometry else ())]


# --- minimize -------------------------------------------------------------------------------------


def make_minimize(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _minimize,
        summary,
        "The same finding is: the same rule is broken in the same kind of call, and explained by "
        "the same known defect, or by none. "
        "Without -o the minimal case goes to standard output; CASE is never changed unless -o "
        "names it.",
    )
    add_case(parser)
    add_kernel(parser)
    add_geometry(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the case to FILE")
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="N",
        default=20_000,
        help="run at most N candidates (default: %(default)s)",
    )


def _minimize(options: argparse.Namespace) -> int:
    with naming(options.case):
        case = loaded(options.case, options.geometry)
        small, status = _minimized(case, options)
    if options.output is None:
        print(dump(small), end="")
        return status
    write_atomic(options.output, dump(small))
    print(f"{options.output}: {len(small.calls)} of {len(case.calls)} calls left")
    print(f"Reproduce with: {command('replay', options.output)}")
    return status


def _minimized(case: Case, options: argparse.Namespace) -> tuple[Case, int]:
    """The minimal case, and the exit status: Ctrl-C ends the search, but keeps what it has."""
    expected = expectations(case)
    kernel = kernel_to_see(case, options.kernel)
    wanted = showing(case, kernel).bucket
    if wanted is None:
        raise UsageError(f"{options.case}: nothing to minimize: no rule is broken on {kernel.name}")
    live = sys.stderr.isatty()
    small, status = case, FINE

    def progress(best: Case, runs: int) -> None:
        nonlocal small
        small = best
        if live:
            print(f"\r{len(best.calls)} calls after {runs} runs ", end="", file=sys.stderr)

    try:
        small = minimize(
            case,
            lambda candidate: showing(candidate, kernel).bucket == wanted,
            kernel.geometry,
            budget=options.budget,
            progress=progress,
        )
    except KeyboardInterrupt:
        print("\ninterrupted; this is the simplest so far", file=sys.stderr)
        status = INTERRUPTED
    if live:
        print(file=sys.stderr)
    small = replace(small, kernel=small.kernel or kernel.name)
    return expecting(small, dict.fromkeys([kernel.name, *expected])), status
