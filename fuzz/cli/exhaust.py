"""`pmdfuzz exhaust`."""

import argparse
from pathlib import Path

from engine.base.geometry import geometry_named
from fuzz.cli.named import check_names
from fuzz.cli.options import Parser, UsageError, add_jobs, add_kernels, define
from fuzz.exhaust.programs import KINDS, Bound
from fuzz.exhaust.session import KERNELS, ExhaustOptions, exhaust, sample
from fuzz.forms import text
from fuzz.lib.arguments import positive, seed

_EXIT = """\
exit status:
  0    as expected: no rule is broken, but by known defects
  1    findings: a rule is broken that no known defect explains
  2    bad input
  3    pmdfuzz itself failed
  130  stopped by Ctrl-C; the same command goes on
"""


def make_exhaust(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _exhaust,
        summary,
        "All programs within a bound: any mappings in a window of pages, any of their pages "
        "touched, then any moves from there; each again with every allocation that may fail. What "
        "does the same as another one for reasons of symmetry is left out "
        "(fuzz/exhaust/programs.py). What is done is kept, and gone on with.",
        _EXIT,
    )
    add_kernels(parser, f"default: {', '.join(KERNELS)}")
    parser.add_argument(
        "--geometry", default="tiny", metavar="G", help="page tables (default: %(default)s)"
    )
    parser.add_argument(
        "--calls",
        type=positive,
        default=2,
        metavar="N",
        help="at most N calls that map or move (default: %(default)s)",
    )
    parser.add_argument(
        "--moves",
        type=positive,
        metavar="N",
        help="of which at most N move (default: all but one, which maps)",
    )
    parser.add_argument(
        "--pages",
        type=positive,
        default=4,
        metavar="N",
        help="mappings lie in the first N pages (default: %(default)s)",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=KINDS,
        metavar="KIND",
        help="of memory that is mapped: private, shared, file (a private mapping of one), watched "
        "(write-protected by a userfaultfd), huge; may be given more than once (default: all)",
    )
    add_jobs(parser)
    parser.add_argument(
        "--workdir", type=Path, default=Path(".pmdfuzz/exhaust"), metavar="DIR",
        help="where results are kept (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument(
        "--sample",
        type=positive,
        metavar="N",
        help="run nothing, but print N of the programs by chance",
    )
    parser.add_argument("--seed", type=seed, default=1, metavar="N", help="of --sample")


def _exhaust(options: argparse.Namespace) -> int:
    kinds = tuple(kind for kind in KINDS if kind in (options.kind or KINDS))
    geometry = geometry_named(options.geometry)
    bound = Bound(geometry, options.calls, options.pages, options.moves, kinds)
    pud = bound.geometry.pud_bytes // bound.geometry.page_bytes
    if options.pages > pud:
        raise UsageError(f"--pages {options.pages}: at most {pud}, what a PUD entry maps here")
    if options.sample:
        for case in sample(bound, options.sample, options.seed):
            print(text.dump(case))
        return 0
    kernels: list[str] = options.kernels or list(KERNELS)
    check_names(kernels, options.geometry)
    return exhaust(
        ExhaustOptions(
            bound, tuple(dict.fromkeys(kernels)), options.workdir, options.jobs, options.fresh
        )
    )
