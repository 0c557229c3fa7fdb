"""`pmdfuzz harm`: what does a finding lead to?"""

import argparse
import sys
from pathlib import Path

from fuzz.cli.named import is_input, loaded, naming
from fuzz.cli.options import (
    Parser,
    UsageError,
    add_case,
    add_geometry,
    add_kernel,
    add_output,
    case_words,
    define,
)
from fuzz.findings.cases import CASE, HARM
from fuzz.forms.text import dump
from fuzz.harm.search import BUDGET, is_harm, look_for_harm
from fuzz.lib.arguments import positive
from fuzz.lib.command import command
from fuzz.lib.exits import FINE
from fuzz.lib.files import write_atomic
from fuzz.lib.status import wants_colour
from fuzz.showing import expecting, kernel_to_see, showing
from fuzz.tell.story import describe


def make_harm(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _harm,
        summary,
        "Programs near the case are run: with pages, neighbours, other CPUs, a child, failures, "
        "more moves, and memory that is used and unmapped at the end. What breaks the same rule "
        "and then one about harm (`pmdfuzz rules`) is minimized and drawn.",
    )
    add_case(parser)
    add_kernel(parser)
    add_geometry(parser)
    add_output(parser)
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="N",
        default=BUDGET,
        help="run at most N programs (default: %(default)s)",
    )


def _harm(options: argparse.Namespace) -> int:
    with naming(options.case):
        case = loaded(options.case, options.geometry)
        kernel = kernel_to_see(case, options.kernel)
        shown = showing(case, kernel)
    finding = shown.found
    if finding is None:
        raise UsageError(f"{options.case}: no rule is broken on {kernel.name}")
    name = finding.bucket.name
    if is_harm(finding):
        print(f"{name} does harm itself")
        return FINE
    harm = look_for_harm(case, finding.bucket, kernel, budget=options.budget)
    if harm is None:
        print(f"{name}: no harm in {options.budget} programs near it")
        return FINE
    small = expecting(harm.case, [kernel.name])
    print(f"{name} leads to {harm.bucket.name}; programs run: {harm.runs}\n")
    print(describe(small, kernel, colour=wants_colour(sys.stdout)))
    if options.output is None:
        words = case_words(options.case, kernel.name, options.geometry)
        beside = Path(name) if is_input(options.case) else options.case
        print(f"\nKeep it with: {command('harm', *words, '-o', beside.with_suffix(HARM + CASE))}")
    else:
        write_atomic(options.output, dump(small))
        print(f"\nReproduce with: {command('replay', options.output)}")
    return FINE
