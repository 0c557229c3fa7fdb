"""`pmdfuzz agent`: what runs cases for others."""

import argparse
import sys

from engine.base.kernel import kernel_named
from fuzz.cli.options import Parser, add_geometry, define
from fuzz.cli.subjects import machine_errors
from fuzz.lib.exits import FINE
from fuzz.showing import DEFAULT_KERNEL
from fuzz.subjects.program import build
from fuzz.subjects.serve import serve


def make_agent(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _agent,
        summary,
        "It reads programs from standard input and answers on standard output, a line each, as "
        "fuzz/subjects/README.md has it: so one checkout can ask another (--on model-at:DIR).",
    )
    parser.add_argument(
        "--kernel",
        metavar="K",
        default=DEFAULT_KERNEL,
        help="a kernel of `pmdfuzz kernels` (default: %(default)s)",
    )
    add_geometry(parser)
    parser.add_argument(
        "--path",
        action="store_true",
        help="instead, build the agent that asks a real kernel, and print where it is",
    )


def _agent(options: argparse.Namespace) -> int:
    if options.path:
        with machine_errors():
            print(build())
        return FINE
    kernel = kernel_named(options.kernel, options.geometry)
    serve(kernel, sys.stdin.buffer, sys.stdout.buffer)
    return FINE
