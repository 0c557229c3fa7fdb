"""`pmdfuzz coverage`: what programs reach of the model; was a change run at all?"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import base_of, releases
from fuzz.campaign.seeds import CORPUS
from fuzz.cli.corpus import geometries_of, last_run
from fuzz.cli.named import case_files, check_names
from fuzz.cli.options import (
    Parser,
    UsageError,
    add_geometry,
    add_kernels,
    add_workdir,
    define,
)
from fuzz.findings.cases import CASE
from fuzz.findings.history import About
from fuzz.lib.exits import FINE, OUR_DEFECT, SURPRISES
from fuzz.matrix import in_short
from fuzz.reach.changed import changed_lines, statements
from fuzz.reach.measure import HOME, Ran
from fuzz.reach.met import met
from fuzz.reach.reached import ReachError, check_coverage, reached
from fuzz.reach.tell import change, marked, never_run, refuted, table

_EXIT = """\
exit status:
  0    as expected: measured; with --changed: all that has changed was run, or nothing has changed;
       with --marks: all were reached but those that say why they cannot be
  1    findings: with --changed, statements that have changed and were never run; with --marks,
       marks that were never reached, or that were, though they say that nobody can
  2    bad input, no git checkout, or coverage.py is not installed
  3    pmdfuzz itself failed on a program, which is named
  130  stopped by Ctrl-C
"""
_OF_RUNS = ("seeds", "corpus")  # folders of inputs in a working directory
_NARROWEST = 60  # columns; in fewer, lines are broken by the terminal


def make_coverage(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _coverage,
        summary,
        "Programs run as in a run, with rules, and coverage.py tells what they reach of engine/: "
        "lines, and ways out of branches. A line stands for the statement that begins there. "
        "Needs coverage.py (the extra `coverage`). --marks does not: it tells of branches that are "
        "marked in the engine (`# mark: NAME`), and of switches on (+) and off (-), which test "
        "explains each and how many programs reach it; those first that none does.",
        _EXIT,
    )
    parser.add_argument(
        "programs",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="cases (*.case), inputs of a run's corpus, or folders of either (default: the "
        "project's corpus, and that of the working directory)",
    )
    parser.add_argument(
        "--of-run",
        action="store_true",
        help="what the last run in the working directory has met, and nothing else: its seeds, its "
        "corpus and its findings",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--marks", action="store_true", help="tell which marked branches programs reach"
    )
    what.add_argument(
        "--changed",
        nargs="?",
        const="HEAD",
        metavar="REV",
        help="tell of the statements that differ from this git revision (default: HEAD), files "
        "that git does not know among them, whether they were run",
    )
    add_kernels(parser, "default: all")
    add_geometry(parser)
    add_workdir(parser)
    parser.add_argument(
        "--html", type=Path, metavar="DIR", help="write coverage.py's pages there, too"
    )
    parser.add_argument("--json", action="store_true", help="with --marks: print them as JSON")


def _coverage(options: argparse.Namespace) -> int:
    kernels: list[str] = list(dict.fromkeys(options.kernels or (one.name for one in releases())))
    check_names(kernels, options.geometry)
    if options.marks:
        if options.html is not None:
            raise UsageError("--html is not for --marks: it shows lines, not marks")
        return _marks(options, kernels)
    if options.json:
        raise UsageError("--json is for --marks alone")
    try:
        check_coverage()
        changed = {} if options.changed is None else _changed(options.changed)
        cases, inputs = _programs(options)
        if options.changed is not None and not changed:
            print(*change(changed, {}, options.changed), sep="\n")
            return FINE
        files, ran = reached(cases, inputs, kernels, options.geometry, options.html)
    except ReachError as error:
        raise UsageError(str(error)) from None
    print(_told(ran, kernels), flush=True)
    by_path = {one.path: one for one in files}
    if options.changed is None:
        print(*table(files, _width()), sep="\n")
    else:
        print(*change(changed, by_path, options.changed), sep="\n")
    if options.html is not None:
        print(f"pages: {options.html / 'index.html'}")
    if ran.failed:
        print(*ran.failed, sep="\n", file=sys.stderr)
        return OUR_DEFECT
    return SURPRISES if never_run(changed, by_path) else FINE


def _marks(options: argparse.Namespace, kernels: list[str]) -> int:
    cases, inputs = _programs(options)
    found, ran = met(cases, inputs, kernels, options.geometry)
    if options.json:
        told = {
            "programs": ran.programs,
            "runs": ran.runs,
            "kernels": kernels,
            "marks": [one.as_json() for one in found],
        }
        print(json.dumps(told, indent=2))
    else:
        print(_told(ran, kernels), *marked(found, _width()), sep="\n")
    if ran.failed:
        print(*ran.failed, sep="\n", file=sys.stderr)
        return OUR_DEFECT
    # A kernel with switches of its own may well have what no release has.
    wrong = list(refuted(found)) if all(name == base_of(name) for name in kernels) else []
    for line in wrong:
        print(line, file=sys.stderr)
    return SURPRISES if wrong or any(one.missing for one in found) else FINE


def _told(ran: Ran, kernels: list[str]) -> str:
    return f"{ran.programs} programs on {', '.join(in_short(kernels))}: {ran.runs} runs"


def _width() -> int:
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def _changed(revision: str) -> dict[str, set[int]]:
    """Where the statements begin that have changed, by file.  Errors raised: ReachError."""
    found = {}
    for path, lines in changed_lines(revision).items():
        source = (HOME / path).read_text(encoding="utf-8")
        if begins := statements(source, lines):
            found[path] = begins
    return found


def _programs(options: argparse.Namespace) -> tuple[list[Path], list[tuple[Path, list[str]]]]:
    """The cases, and the inputs with the geometries of their run.  Errors raised: UsageError."""
    workdir: Path = options.workdir
    if options.of_run:
        if options.programs:
            raise UsageError("--of-run names the programs: give no others")
        paths = [workdir / name for name in (*_OF_RUNS, "findings")]
    else:
        paths = options.programs or [CORPUS, workdir / "corpus"]
    cases: list[Path] = []
    inputs: list[Path] = []
    for path in paths:
        if path.is_dir():
            cases += sorted(path.rglob(f"*{CASE}"))
            inputs += (one for one in sorted(path.rglob("*")) if one.is_file() and not one.suffix)
        elif path.suffix == CASE:
            cases += case_files([path])
        elif path in options.programs:
            inputs.append(path)
    for path in (*cases, *inputs):
        path.stat()  # whether it is there
    if not cases and not inputs:
        raise UsageError(f"no programs in {', '.join(map(str, paths))}")
    last = last_run(workdir)
    return cases, [(path, _geometries(path, options, last)) for path in inputs]


def _geometries(path: Path, options: argparse.Namespace, last: About | None) -> list[str]:
    """The names of those of the run that an input is of; its folder has the name of the first."""
    folder = path.absolute().parent
    ours = folder.parent.parent == options.workdir.absolute()
    first = options.geometry or (folder.name if folder.name in GEOMETRIES else "x86-64")
    of_run = geometries_of(first, last if ours and not options.geometry else None)
    return [geometry.name for geometry in of_run]
