"""`pmdfuzz selfcheck`."""

import argparse

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import KERNELS
from fuzz.campaign.selfcheck import SelfcheckOptions, selfcheck
from fuzz.cli.named import check_names
from fuzz.cli.options import Parser, add_kernels, add_rules_after, define
from fuzz.lib.arguments import positive

_CASES = 2_000
_EXIT = """\
exit status:
  0    as expected: no rule was broken
  1    findings: false alarms, or defects that nobody knows
  2    bad input
  3    pmdfuzz itself failed
  130  stopped by Ctrl-C
"""


def make_selfcheck(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _selfcheck,
        summary,
        "What breaks one is a false alarm of a rule, a mistake of the model, or a defect of the "
        "kernel that is not known yet. Of each the minimal program is printed. Equal options make "
        "equal programs.",
        _EXIT,
    )
    add_kernels(parser, f"default: each of {', '.join(KERNELS)}")
    parser.add_argument(
        "--geometry",
        dest="geometries",
        action="append",
        metavar="G",
        help="a geometry of `pmdfuzz kernels`, or all; may be given more than once (default: "
        "x86-64)",
    )
    parser.add_argument(
        "--cases",
        type=positive,
        default=_CASES,
        metavar="N",
        help="make N programs for each geometry, and run them on each kernel (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--seed", type=positive, default=1, metavar="N", help="seed of the random numbers"
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="processes at a time (default: 1)"
    )
    add_rules_after(parser)


def _selfcheck(options: argparse.Namespace) -> int:
    geometries: list[str] = options.geometries or ["x86-64"]
    if "all" in geometries:
        geometries = list(GEOMETRIES)
    kernels: list[str] = options.kernels or list(KERNELS)
    for geometry in geometries:
        check_names(kernels, geometry)
    return selfcheck(
        SelfcheckOptions(
            kernels=tuple(dict.fromkeys(kernels)),
            geometries=tuple(dict.fromkeys(geometries)),
            cases=options.cases,
            seed=options.seed,
            jobs=options.jobs,
            rules_after=options.rules_after,
        )
    )
