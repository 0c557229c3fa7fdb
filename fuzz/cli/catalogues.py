"""`pmdfuzz kernels` and `rules`: what there is."""

import argparse
import shutil

from fuzz.cli.options import Parser, define
from fuzz.lib.exits import FINE
from fuzz.rules.index import RULES, promise_named
from fuzz.rules.rule import UNCHECKED
from fuzz.tell import catalogues

_WIDEST = 100  # columns


def make_kernels(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, _kernels, summary)


def _kernels(_: argparse.Namespace) -> int:
    for line in catalogues.kernels():
        print(line)
    return FINE


def make_rules(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, _rules, summary)
    parser.add_argument("rules", nargs="*", metavar="RULE", help="only these; a slug or an id")


def _rules(options: argparse.Namespace) -> int:
    chosen = [promise_named(name) for name in options.rules] or [*RULES, *UNCHECKED]
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    for line in catalogues.rules(chosen, width):
        print(line)
    return FINE
