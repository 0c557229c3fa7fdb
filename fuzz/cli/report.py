"""`pmdfuzz report`: what a working directory holds, as pages to look at."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from fuzz.cli.options import Parser, UsageError, add_workdir, define, need_workdir, refuse
from fuzz.lib.arguments import port, positive
from fuzz.lib.exits import FINE
from fuzz.lib.files import WriteError
from fuzz.lib.lines import short
from fuzz.lib.processes import Forks, cores
from fuzz.lib.status import Fields, StatusLine
from fuzz.report.keep import Keeper
from fuzz.report.make import make
from fuzz.report.serve import Server
from fuzz.report.write import REPORT, is_file

_LOOK_SECONDS = 1.0  # between two looks whether the report is old


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
        f"(default: {REPORT} in the working directory)",
    )
    parser.add_argument(
        "--serve",
        nargs="?",
        type=port,
        const=0,
        metavar="PORT",
        help="serve the folder to browsers of this machine, until Ctrl-C, and make the pages again "
        "every minute while a run is in progress (default: any port that is free)",
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
    need_workdir(workdir)
    out: Path = options.output or workdir / REPORT
    if options.serve is not None and is_file(out):
        raise UsageError(f"--serve is for a folder, and {out} is to be a file")
    server = None if options.serve is None else _server(out, options.serve)
    line = StatusLine(sys.stderr)
    try:
        made = make(workdir, out, options.jobs, lambda *done: line.update(_Studied(*done)))
    finally:
        line.clear()
    status = FINE
    for problem in made.errors:
        status = refuse(problem)
    print(short(made.path))
    if server is not None:
        _serve(server, Keeper(workdir, out, options.jobs))
    return status


def _server(folder: Path, number: int) -> Server:
    """Errors raised: UsageError if the port is taken, or not ours to take."""
    try:
        return Server(folder, number)
    except OSError as error:
        raise UsageError(f"port {number}: {error.strerror or error}") from None


def _serve(server: Server, keeper: Keeper) -> None:
    """Serve, in a process of its own, and keep the report meanwhile; only Ctrl-C ends that."""
    forks: Forks[Server, None] = Forks(Server.serve_forever)
    forks.begin(server)
    server.socket.close()
    print(f"{server.url} (Ctrl-C ends it)", flush=True)
    said = ""
    try:
        while not forks.ended(_LOOK_SECONDS):
            try:
                keeper.look()
            except (WriteError, OSError) as error:  # a minute later, perhaps, it can be
                if str(error) != said:
                    said = str(error)
                    print(said, file=sys.stderr)
    finally:
        forks.kill()
