"""`pmdfuzz cmin`: the smallest corpus that reaches the same."""

import argparse
from pathlib import Path

from engine.base.geometry import GEOMETRIES
from fuzz.campaign.coverage import MONITORED
from fuzz.cli.corpus import geometries_of, last_run
from fuzz.cli.named import check_names
from fuzz.cli.options import Parser, UsageError, add_kernels, add_workdir, define
from fuzz.lib.command import command
from fuzz.lib.exits import FINE
from fuzz.lib.lines import short
from fuzz.reach.prune import needed_of, write_folders
from fuzz.reach.reached import ReachError
from fuzz.showing import DEFAULT_KERNEL

_CORPUS = "corpus"


def make_cmin(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _cmin,
        summary,
        "The same is: every place of the model (not on Python 3.11, where nobody tells which input "
        "reaches it) and every cell, on every kernel. None of the inputs that are left could be "
        "left out. The corpus of the working directory stays as it is; "
        "OUT gets folders like those of WORKDIR/corpus, all of them or none.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that is not there yet")
    add_workdir(parser)
    add_kernels(parser, "default: those of the last run")


def _cmin(options: argparse.Namespace) -> int:
    corpus, out = options.workdir / _CORPUS, options.out
    folders = sorted(path for path in corpus.glob("*") if path.is_dir()) if corpus.is_dir() else []
    if not folders:
        raise UsageError(f"no corpus in {options.workdir}; `{command('run')}` makes one")
    if strange := [path for path in folders if path.name not in GEOMETRIES]:
        raise UsageError(f"{strange[0]}: a folder of the corpus is named as its geometry")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: name another place")
    if out.absolute().resolve().is_relative_to(corpus.resolve()):
        raise UsageError(f"{out} lies in the corpus: name another place")
    last = last_run(options.workdir)
    kernels = list(dict.fromkeys(options.kernels or (last.kernels if last else [DEFAULT_KERNEL])))
    check_names(kernels, None)
    kept: dict[str, list[str]] = {}
    for folder in folders:
        count = sum(path.is_file() for path in folder.iterdir())
        try:
            found = needed_of(folder, geometries_of(folder.name, last), kernels)
        except ReachError as error:
            raise UsageError(str(error)) from None
        kept[folder.name] = found.inputs
        reach = f"{found.cells} cells" + (f", {found.places} places" if MONITORED else "")
        slow = f"; {len(found.left_out)} that take too long are left out" if found.left_out else ""
        print(
            f"{short(folder)}: {len(found.inputs)} of {count} inputs reach the same: {reach}{slow}"
        )
    write_folders(out, kept)
    print(f"They are in {out}; to go on with them, put it in place of {short(corpus)}.")
    return FINE
