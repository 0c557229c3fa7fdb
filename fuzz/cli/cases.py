"""`pmdfuzz replay`, `show` and `minimize`: commands about a case."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.base.kernel import Kernel
from fuzz.case import Case, CaseError
from fuzz.cli.named import case_files, check_names, is_input, loaded, naming
from fuzz.cli.options import (
    EXIT,
    Parser,
    UsageError,
    add_case,
    add_geometry,
    add_kernel,
    add_kernels,
    add_like,
    add_on,
    add_output,
    add_svg,
    case_words,
    define,
    refuse,
)
from fuzz.cli.subjects import machine_errors
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import minimal
from fuzz.forms.text import dump
from fuzz.lib.arguments import positive
from fuzz.lib.command import command
from fuzz.lib.exits import FINE, INTERRUPTED, SURPRISES
from fuzz.lib.files import write_atomic
from fuzz.lib.status import wants_colour
from fuzz.matrix import in_short
from fuzz.minimize.search import minimize
from fuzz.picture.picture import picture
from fuzz.showing import (
    DEFAULT_KERNEL,
    Showing,
    expectations,
    expecting,
    kernel_for,
    kernel_to_see,
    replay,
    showing,
)
from fuzz.subjects.check import check_cases
from fuzz.subjects.likeness import Likeness, as_case, likeness
from fuzz.subjects.pair import Pair, unlike
from fuzz.tell.signs import legend
from fuzz.tell.story import broken_rules, story

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
    add_like(parser)
    add_geometry(parser)
    add_on(
        parser,
        None,
        "run them there, and compare all that is observed with the model of its kernel, or of the "
        "one --kernel that is named",
    )


def _replay(options: argparse.Namespace) -> int:
    if options.on is not None:
        return _replay_on(options)
    check_names([*(options.kernels or []), *filter(None, [options.like])], options.geometry)
    status = FINE
    runs = surprises = 0
    for path in list(case_files(options.cases)):
        try:
            with naming(path):
                shown = _shown(loaded(path, options.geometry), options.kernels, options.like)
        except CaseError as error:
            status = refuse(str(error))
            continue
        runs += len(shown)
        surprises += sum(one.surprises for one in shown)
        for one, *others in _alike(shown):
            names = ", ".join(in_short(each.kernel.name for each in (one, *others)))
            ground = f"{names} on {one.kernel.geometry.name}"
            print(f"{_mark(not one.surprises)} {path}: {ground}: {one.what}")
            if isinstance(one, Showing) and one.bucket and not one.bucket.defect:
                print(*(f"     {line}" for line in broken_rules(one)), sep="\n")
            if one.surprises and not is_input(path):  # which is gone by then
                words = case_words(path, one.kernel.name, options.geometry, _compared(one))
                print(f"     Look with: {command('show', *words)}")
    if runs > 1:
        print(f"{runs} replays, {surprises} not as expected")
    return status or (SURPRISES if surprises else FINE)


def _replay_on(options: argparse.Namespace) -> int:
    kernels = options.kernels or [None]
    if options.like or len(kernels) > 1:
        raise UsageError("--on: a subject is compared with one kernel: name it with --kernel")
    paths = list(case_files(options.cases))
    with machine_errors():
        return check_cases(
            ((str(path), loaded(path, options.geometry)) for path in paths),
            kernels[0],
            on=options.on,
            all_of_them=len(paths) == 1,
        )


def _shown(
    case: Case, kernels: Sequence[str] | None, like: str | None
) -> Sequence[Showing | Likeness]:
    """What a case shows, of what it expects or beside another kernel.

    Errors raised: CaseError, UnknownName.
    """
    own = case.kernel or DEFAULT_KERNEL
    if like is not None:
        return [Likeness.of(case, name, like) for name in unlike(kernels or [own], like)]
    is_like = likeness(case) if own in (kernels or [own]) else None
    return [*replay(case, kernels), *([is_like] if is_like else [])]


def _alike(shown: Sequence[Showing | Likeness]) -> list[list[Showing | Likeness]]:
    """Those of which the same is said, but for the names of the kernels."""
    alike: dict[tuple[str, ...], list[Showing | Likeness]] = {}
    for one in shown:
        rules = broken_rules(one) if isinstance(one, Showing) else ()
        alike.setdefault((one.kernel.geometry.name, one.what, *rules), []).append(one)
    return list(alike.values())


def _compared(shown: Showing | Likeness) -> str | None:
    """The kernel that it was compared with, if it was."""
    return shown.pair.like.name if isinstance(shown, Likeness) else None


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
        epilog="\n".join(["what is drawn:", *legend(), "", EXIT]),
    )
    add_case(parser)
    add_kernel(parser)
    add_like(parser)
    add_geometry(parser)
    add_svg(parser)


def _show(options: argparse.Namespace) -> int:
    with naming(options.case):
        case = loaded(options.case, options.geometry)
        if options.svg is not None:
            return _draw(case, options)
        return tell(case, options.case, options.kernel, options.geometry, options.like)


def _draw(case: Case, options: argparse.Namespace) -> int:
    """Write the picture of a case, on the kernel named or on one on which it breaks a rule."""
    if options.like is not None:
        raise UsageError("--svg: a picture is of one kernel: leave --like out")
    kernel = kernel_to_see(case, options.kernel)
    name = "" if is_input(options.case) else options.case.name
    write_picture(case, kernel, options.svg, name)
    shown = replay(case, [kernel.name])[0]
    print(shown)
    return SURPRISES if shown.surprises else FINE


def write_picture(case: Case, kernel: Kernel, file: Path, name: str = "", about: str = "") -> None:
    """Write the picture of a case on a kernel, as `picture` does.  Errors raised: WriteError."""
    write_atomic(file, picture(case, kernel, name, about).still())
    print(f"{file}: written")


def tell(
    case: Case,
    path: Path,
    kernel_name: str | None,
    geometry: str | None = None,
    like: str | None = None,
) -> int:
    """Draw a case, and say how it compares with what it expects, or with another kernel.

    Arguments: `path` where it is from; `geometry` the one that it was put on; `like` the kernel to
    compare with, None: if no kernel is named either, the one that the case names.
    Returns: the exit status.
    Errors raised: CaseError, UnknownName.
    """
    like = like or (case.like if kernel_name is None else None)
    name = kernel_name or (case.kernel if like else None) or next(iter(expectations(case)))
    kernel = kernel_for(case, name)
    beside = Likeness.of(case, name, like) if like else None
    for comment in case.comments:
        print(f"# {comment}")
    title = f"{kernel.name} on {kernel.geometry.name}{f' beside {like}' if like else ''}"
    print(f"{path}: {title}\n")
    colour = wants_colour(sys.stdout)
    print(beside.told(colour=colour) if beside else story(case, kernel, colour=colour))
    shown = beside or replay(case, [name])[0]
    print("", *(broken_rules(shown) if isinstance(shown, Showing) else ()), shown, sep="\n")
    if not is_input(path):
        print(f"Reproduce with: {command('replay', *case_words(path, name, geometry, like))}")
    return SURPRISES if shown.surprises else FINE


# --- minimize -------------------------------------------------------------------------------------


def make_minimize(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _minimize,
        summary,
        "The same finding is: the same rule is broken in the same kind of call, and explained by "
        "the same known defect, or by none; with --like or @like, the two kernels differ in the "
        "same after the same kind of call. "
        "Without -o the minimal case goes to standard output; CASE is never changed unless -o "
        "names it.",
    )
    add_case(parser)
    add_kernel(parser)
    add_like(parser)
    add_geometry(parser)
    add_output(parser)
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
    like = options.like or (case.like if options.kernel is None else None)
    kernel = kernel_to_see(case, options.kernel or (case.kernel if like else None))
    pair = Pair(kernel, kernel_for(case, like)) if like else None

    def finding(candidate: Case) -> Bucket | None:
        return pair.bucket(candidate) if pair else showing(candidate, kernel).bucket

    wanted = finding(case)
    if wanted is None:
        why = (
            f"{kernel.name} does what {like} does"
            if like
            else f"no rule is broken on {kernel.name}"
        )
        raise UsageError(f"{options.case}: nothing to minimize: {why}")
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
            lambda candidate: finding(candidate) == wanted,
            kernel.geometry,
            budget=options.budget,
            progress=progress,
        )
    except KeyboardInterrupt:
        print("\ninterrupted; this is the simplest so far", file=sys.stderr)
        status = INTERRUPTED
    if live:
        print(file=sys.stderr)
    if status == FINE:
        small = minimal(small)
    if pair is not None:
        return as_case(pair, small), status
    small = replace(small, kernel=small.kernel or kernel.name)
    return expecting(small, dict.fromkeys([kernel.name, *expected])), status
