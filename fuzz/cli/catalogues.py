"""`pmdfuzz kernels`, `rules` and `defects`: what there is."""

import argparse
import shutil

from fuzz.cli.options import Parser, UsageError, define
from fuzz.cli.symptoms import ABOUT, add_symptoms, tell_symptoms
from fuzz.defects.catalogue import EXHIBITS
from fuzz.defects.known import DEFECTS, KNOWN, defects_named
from fuzz.lib.exits import FINE
from fuzz.rules.index import RULES, promise_named
from fuzz.rules.rule import UNCHECKED
from fuzz.tell import catalogues

# The exhibits of the museum that are not among the known defects, too.
_ALL = (*KNOWN, *(exhibit for exhibit in EXHIBITS if exhibit.id not in DEFECTS))
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
        f"is repaired. {ABOUT}",
    )
    parser.add_argument(
        "defects", nargs="*", metavar="ID", help="only these, in full; an id, or a CVE number"
    )
    add_symptoms(parser)


def _defects(options: argparse.Namespace) -> int:
    named = [defect for name in options.defects for defect in defects_named(name)]
    if options.on is not None:
        return tell_symptoms(named or _ALL, options, full=bool(named))
    if options.kernel is not None:
        raise UsageError(
            "--kernel is the model that a subject is compared with: name one with --on"
        )
    for line in catalogues.defects(named or KNOWN, _width(), full=bool(named)):
        print(line)
    return FINE


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
