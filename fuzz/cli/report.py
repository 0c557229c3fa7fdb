"""`pmdfuzz report`: what a working directory holds, as pages to look at."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from fuzz.cli.options import Parser, UsageError, add_workdir, define, refuse
from fuzz.lib.arguments import positive
from fuzz.lib.command import command
from fuzz.lib.exits import FINE
from fuzz.lib.lines import short
from fuzz.lib.processes import cores
from fuzz.lib.status import Fields, StatusLine
from fuzz.report.directory import Directory
from fuzz.report.studies import Studies
from fuzz.report.write import NotOurs, refuse_others, write

_REPORT = "report"  # folder in the working directory


def make_report(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _report,
        summary,
        "An index of the findings, curves, and for each finding what broke, why that matters, its "
        "program, which releases show it, and the picture of it step by step. Pages need no "
        "network, and no script but to filter, sort and step through pictures.",
    )
    add_workdir(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR|FILE.html",
        help="write the pages to a folder, or all of them to one file "
        f"(default: {_REPORT} in the working directory)",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=cores(),
        metavar="N",
        help="run cases in N processes side by side (default: one for each core)",
    )


@dataclass(slots=True)
class _Studied:
    """Where it stands."""

    done: int
    total: int

    def fields(self) -> Fields:
        """See `fuzz.lib.status.Standing`."""
        return [(f"{self.done} of {self.total} cases have been run", "")]


def _report(options: argparse.Namespace) -> int:
    workdir: Path = options.workdir
    if not workdir.is_dir():
        raise UsageError(f"no findings: {workdir} is not there; `{command('run')}` makes it")
    out: Path = options.output or workdir / _REPORT
    try:
        refuse_others(out)
        directory, studies = Directory.read(workdir), Studies(workdir)
        _study(directory, studies, options.jobs)
        index = write(directory, studies, out)
    except NotOurs as error:
        raise UsageError(str(error)) from None
    studies.forget_others(directory.subjects)
    status = FINE
    for problem in directory.errors:
        status = refuse(problem)
    print(short(index))
    return status


def _study(directory: Directory, studies: Studies, jobs: int) -> None:
    """Run the cases that have not been run yet, and say how far that is."""
    line, subjects = StatusLine(sys.stderr), directory.subjects
    standing = _Studied(0, len(subjects))
    left = [subject for subject in subjects if studies.get(subject) is None]
    standing.done = len(subjects) - len(left)
    for _ in studies.make(left, jobs, lambda: line.update(standing)):
        standing.done += 1
    line.clear()
