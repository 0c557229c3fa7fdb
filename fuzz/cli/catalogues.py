"""`pmdfuzz kernels`, `rules` and `defects`: what there is."""

import argparse
import shutil

from fuzz.cli.options import Parser, define
from fuzz.defects.known import KNOWN, defects_named
from fuzz.lib.exits import FINE
from fuzz.rules.index import RULES, promise_named
from fuzz.rules.rule import UNCHECKED
from fuzz.tell import catalogues

_NARROWEST = 40  # columns; in fewer, lines are broken by the terminal
_WIDEST = 100


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
    for line in catalogues.rules(chosen, _width()):
        print(line)
    return FINE


def make_defects(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _defects,
        summary,
        "Of each: the releases that have it, the case that shows it, and the switches that put it "
        "right, with the releases that have them so; + is on, - is off. Where no release has, "
        "that is our proposal. What a run breaks is put down to a defect if it vanishes once that "
        "is repaired.",
    )
    parser.add_argument(
        "defects", nargs="*", metavar="ID", help="only these, in full; an id, or a CVE number"
    )


def _defects(options: argparse.Namespace) -> int:
    named = [defect for name in options.defects for defect in defects_named(name)]
    for line in catalogues.defects(named or KNOWN, _width(), full=bool(named)):
        print(line)
    return FINE


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
