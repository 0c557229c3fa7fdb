"""`pmdfuzz ab`: two subjects against each other."""

import argparse

from fuzz.campaign.ab import AbOptions, ab
from fuzz.cli.named import check_names
from fuzz.cli.options import Parser, add_kernels, add_workdir, define
from fuzz.lib.arguments import positive, seconds, seed

_MINUTES = 600
_EXIT = """\
exit status:
  0    as expected: they do the same, or what differs is what switches of the model explain
  1    findings: something differs that nothing explains
  2    bad input or environment
  3    pmdfuzz itself failed
  130  stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP; everything was shown
"""


def make_ab(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _ab,
        summary,
        "Programs are the project's cases and what is new to the model. Each class of difference "
        "is minimized, kept as a case in the working directory, and explained, if a switch of the "
        "model does: it was changed in that release, or is set otherwise in one of the two builds. "
        "Needs Atheris.",
        _EXIT,
    )
    parser.add_argument("first", metavar="A", help="a subject: host, vm:IMAGE, model:KERNEL, …")
    parser.add_argument("second", metavar="B", help="another one, with the same page tables")
    add_kernels(parser, "default: the models of the subjects' versions")
    parser.add_argument(
        "--time",
        type=seconds,
        metavar="T",
        help="stop after T: 60, 90s, 10m, 8h (default: 10m, unless --programs is given)",
    )
    parser.add_argument("--programs", type=positive, metavar="N", help="stop after N programs")
    parser.add_argument(
        "--seed", type=seed, metavar="N", help="seed of the random numbers (default: any)"
    )
    add_workdir(parser)


def _ab(options: argparse.Namespace) -> int:
    kernels = tuple(options.kernels or ())
    check_names(kernels, None)
    time = options.time
    if time is None and options.programs is None:
        time = _MINUTES
    return ab(
        AbOptions(
            options.workdir,
            (options.first, options.second),
            seconds=time,
            programs=options.programs,
            seed=options.seed,
            kernels=kernels,
        )
    )
