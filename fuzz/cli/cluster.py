"""`pmdfuzz cluster`: how to start what `pmdfuzz run --cluster` uses."""

import argparse
from pathlib import Path

from fuzz.cli.options import Parser, define
from fuzz.lib.exits import FINE

_RECIPES = Path(__file__).parent / "recipes"
_LOOPBACK = "127.0.0.1"


def make_cluster(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _cluster,
        summary,
        "It prints shell commands: with dask itself, dask-jobqueue or dask-kubernetes, encrypted. "
        "On this machine alone, `pmdfuzz run --cluster local:4` needs none of it.",
    )
    parser.add_argument(
        "where",
        nargs="?",
        choices=("by-hand", "slurm", "kubernetes"),
        default="by-hand",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--host",
        default=_LOOPBACK,
        metavar="ADDRESS",
        help="the scheduler's, by which others reach it (default: %(default)s, by nobody else)",
    )


def _cluster(options: argparse.Namespace) -> int:
    parts = [(_RECIPES / f"{name}.sh").read_text() for name in ("certificate", options.where)]
    own = _LOOPBACK if options.host == _LOOPBACK else "$(hostname -i)"
    recipe = "\n".join(parts).replace("SCHEDULER_ADDRESS", options.host)
    print(recipe.replace("OWN_ADDRESS", own), end="")
    return FINE
