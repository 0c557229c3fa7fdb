"""How fast the fuzzer is, and what its parts cost: `python -m fuzz.bench`.

A file of this package for each thing that is measured.  Nothing here fails on a slow machine: the
numbers are for people to compare.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz.bench.chaos import chaos
from fuzz.bench.feedback import feedback
from fuzz.bench.find import add_find
from fuzz.bench.kernels import kernels
from fuzz.bench.machine import machine
from fuzz.bench.model import speed
from fuzz.bench.moves import moves
from fuzz.bench.order import order
from fuzz.bench.profile import profiled
from fuzz.bench.reach import reach
from fuzz.bench.report import add_report
from fuzz.bench.rules import rules
from fuzz.bench.run import add_run
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.feedback import KINDS
from fuzz.lib.arguments import positive
from fuzz.showing import DEFAULT_KERNEL


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark.  Returns: the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.bench", description="Measure the fuzzer.")
    parser.set_defaults(command=speed)
    parser.add_argument("--kernel", default=DEFAULT_KERNEL, help="default: %(default)s")
    parser.add_argument("--geometry", help="in place of the kernel's own")
    parser.add_argument(
        "--inputs", type=positive, default=4000, help="programs (default: %(default)s)"
    )
    parser.add_argument("--seed", type=positive, default=1, help="of the random programs")
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("speed", help="what each part costs (default)")
    add_run(commands)
    add_find(commands)
    add_report(commands)
    sub = commands.add_parser("rules", help="what the groups of rules cost")
    sub.set_defaults(command=rules)
    sub = commands.add_parser("kernels", help="what a program costs on one kernel, and on many")
    sub.set_defaults(command=kernels)
    sub = commands.add_parser("moves", help="what a move costs")
    sub.set_defaults(command=moves)
    sub = commands.add_parser("order", help="plain lists and dictionaries beside sorted ones")
    sub.set_defaults(command=order)
    for name, command, kernel, which, summary in (
        ("machine", machine, None, "that of the machine", "the kernel below us beside its model"),
        ("profile", profiled, argparse.SUPPRESS, DEFAULT_KERNEL, "where the model's time goes"),
    ):
        sub = commands.add_parser(name, help=summary)
        sub.set_defaults(command=command)
        sub.add_argument("files", nargs="*", type=Path, metavar="FILE", help="of programs")
        sub.add_argument("--kernel", default=kernel, help=f"default: {which}")
        sub.add_argument(
            "--inputs",
            type=positive,
            default=argparse.SUPPRESS,  # as said before the command
            help="random programs, without files (default: 4000)",
        )
    sub.add_argument("--rules", action="store_true", help="as in a run, with rules and oracle")
    sub = commands.add_parser(
        "feedback", help="executions until a finding, with and without feeding cells"
    )
    sub.set_defaults(command=feedback)
    sub.add_argument("--kernel", default="linux-6.1", help="default: %(default)s")
    sub.add_argument("--finding", default="dest-entry-none--execve_stack--B-01", metavar="NAME")
    sub.add_argument("--feed", default="vma", metavar="KIND,…", help=f"out of: {', '.join(KINDS)}")
    sub.add_argument("--seeds", type=positive, default=5, help="runs of each kind")
    sub.add_argument("--limit", type=positive, default=100_000, help="executions of a run")
    sub.add_argument("--ops", help=f"only these calls, out of: {', '.join(sorted(MODELLED_CALLS))}")
    sub = commands.add_parser("chaos", help="a run on a cluster whose workers are killed")
    sub.set_defaults(command=chaos)
    sub.add_argument("--tls", action="store_true", help="separate workers, no LocalCluster")
    sub.add_argument("--minutes", type=positive, default=15, help="default: %(default)s")
    sub.add_argument("--every", type=positive, default=20, help="seconds between two deaths")
    sub.add_argument("--workdir", type=Path, help="to keep (default: a temporary one)")
    sub.add_argument("--record", type=Path, metavar="FILE", help="append reports for `reach`")
    sub = commands.add_parser("reach", help="how many rounds one session can take in")
    sub.set_defaults(command=reach)
    sub.add_argument("record", type=Path, help="reports of `chaos --record`")
    sub.add_argument("--workers", type=positive, default=1000, help="default: %(default)s")
    sub.add_argument("--seconds", type=positive, default=30, help="of each run")
    options = parser.parse_args(argv)
    chosen: Callable[[argparse.Namespace], int | None] = options.command
    return chosen(options) or 0


if __name__ == "__main__":
    sys.exit(main())
