"""`pmdfuzz vm`: kernels in virtual machines."""

import argparse
from pathlib import Path

from fuzz.cli.options import Parser, add_action, define
from fuzz.cli.subjects import machine_errors
from fuzz.lib.arguments import positive
from fuzz.subjects.survey import survey

NEEDS = (
    "Needs qemu for the kernel's architecture, and a C compiler for it with a static libc. "
    "IMAGE is a bzImage or an arm64 Image, a folder with an unpacked package of Debian or with the "
    "files of one (vmlinuz-*, config-*, modules), or the build directory of a kernel tree."
)


def make_vm(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, _check, summary, NEEDS)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = add_action(
        actions,
        "check",
        _check,
        "boot a kernel: what it has, how many cases a second, what cannot be measured and why",
        NEEDS,
    )
    action.add_argument("image", type=Path, metavar="IMAGE")
    action.add_argument(
        "--geometry", default="", metavar="G", help="that its CPU is to have: x86-64-la57"
    )
    action.add_argument(
        "--cases",
        type=positive,
        default=500,
        metavar="N",
        help="run N random programs (default: %(default)s)",
    )


def _check(options: argparse.Namespace) -> int:
    with machine_errors():
        return survey(options.image, options.geometry, options.cases)
