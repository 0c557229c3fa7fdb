"""`pmdfuzz bisect`: which switches make the difference?"""

import argparse

from engine.base.kernel import SWITCHES
from fuzz.cli.named import is_input, loaded, naming
from fuzz.cli.options import (
    Parser,
    add_case,
    add_geometry,
    add_kernel,
    add_like,
    define,
)
from fuzz.lib.command import command
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.showing import kernel_for, kernel_to_see
from fuzz.subjects.bisect import Cause, cause_beside, cause_of_finding


def make_bisect(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _bisect,
        summary,
        "With --like, or @like in the case, between these two kernels; else between the kernel "
        "that breaks a rule and the nearest one that does not: its release, older and newer ones, "
        "itself with a switch turned over or with its known defects repaired. A smallest set is "
        "found: without any one of these switches the difference is gone.",
    )
    add_case(parser)
    add_kernel(parser)
    add_like(parser)
    add_geometry(parser)


def _bisect(options: argparse.Namespace) -> int:
    with naming(options.case):
        case = loaded(options.case, options.geometry)
        like = options.like or (case.like if options.kernel is None else None)
        kernel = kernel_to_see(case, options.kernel or (case.kernel if like else None))
        if like:
            cause: Cause | None = cause_beside(case, kernel, kernel_for(case, like))
        else:
            cause = cause_of_finding(case, kernel)
    if cause is None:
        print(f"{options.case}: on every kernel as on {kernel.name}; no switch makes a difference")
        return SURPRISES
    here, there = cause.kernel.name, cause.other.name
    print(f"{options.case}: {cause.what}, on {here} but not on {there}\n")
    for name in cause.switches:
        switch = SWITCHES[name]
        on, off = (here, there) if getattr(cause.kernel, name) else (there, here)
        print(f"{name}: on in {on}, off in {off}")
        print(f"    {switch.when}: {switch.text}")
    others = cause.among - len(cause.switches)
    print(f"\nSwitches that the two have set otherwise, too, but do not matter: {others}")
    if not is_input(options.case):
        geometry = ("--geometry", options.geometry) if options.geometry else ()
        words = ("--kernel", cause.nearest.name, "--like", there, *geometry)
        print(f"Look with: {command('show', options.case, *words)}")
    return FINE
