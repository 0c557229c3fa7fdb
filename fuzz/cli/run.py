"""`pmdfuzz run`."""

import argparse
import contextlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign import libfuzzer
from fuzz.campaign.result import Result
from fuzz.campaign.run import run
from fuzz.campaign.session import RunOptions, Tls
from fuzz.cli.named import check_names
from fuzz.cli.options import (
    MACHINE_NEEDS,
    Parser,
    UsageError,
    add_kernels,
    add_like,
    add_rules_after,
    add_workdir,
    define,
)
from fuzz.lib.arguments import positive, runs, seconds, seed
from fuzz.lib.exits import FINE
from fuzz.lib.processes import cores
from fuzz.showing import DEFAULT_KERNEL
from fuzz.subjects.pair import unlike


class _Mode(NamedTuple):
    """What a run is for: how many seconds it takes, and whether it ends at the first finding."""

    seconds: int | None
    stops_at_first: bool


# Named as those of ClusterFuzzLite, of which `pmdfuzz cmin` is another.
MODES = {"code-change": _Mode(600, True), "batch": _Mode(3600, False)}
_EXIT = """\
exit status:
  0    as expected: nothing new found, or known defects only (unless --count-known)
  1    findings that are new, or back after they had been fixed; with --count-old, --like or a
       kernel with switches, that were met at all; with --baseline, that are not in it
  2    bad input or environment
  3    the fuzzing process itself failed: a defect of pmdfuzz
  130  stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP; everything was saved
"""


def make_run(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _run,
        summary,
        "Every new finding is minimized, shown, and kept as a case in the working directory. One "
        "that a known defect of the kernel explains is told in a line, and does not count for "
        "the exit status. Flags after -- are passed on to libFuzzer, if they work here "
        "(-- -help=1). Needs Atheris.",
        _EXIT,
    )
    add_kernels(parser, f"default: {DEFAULT_KERNEL}")
    parser.add_argument(
        "--geometry",
        dest="geometries",
        action="append",
        metavar="G",
        help="a geometry of `pmdfuzz kernels`; given more than once, the programs are shared out "
        "among them (default: x86-64 and small)",
    )
    parser.add_argument(
        "--time", type=seconds, metavar="T", help="stop after T: 60, 90s, 10m, 8h, 2d"
    )
    parser.add_argument("--runs", type=runs, metavar="N", help="stop after N executions")
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="fuzz in N processes side by side, which share the corpus, the kernels and the "
        "geometries out among them (default: one for each core)",
    )
    parser.add_argument(
        "--cluster",
        type=_cluster,
        metavar="WHERE",
        help="fuzz on the workers of a cluster in place of --jobs (pmdfuzz[cluster]): the address "
        "of its scheduler, tcp://HOST:8786 or tls://HOST:8786 (`pmdfuzz cluster` tells how to "
        "start one), or local:N, N processes here",
    )
    for name, what in (
        ("ca-file", "of the authority that vouches for the cluster"),
        ("cert", "our certificate"),
        ("key", "our key"),
    ):
        parser.add_argument(
            f"--tls-{name}",
            type=Path,
            metavar="FILE",
            help=f"with tls://: {what} (PEM; default: as dask's configuration says)",
        )
    parser.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="seed of the random numbers; with --jobs 1 and --runs the same run again "
        "(default: any)",
    )
    parser.add_argument(
        "--ops", metavar="A,B,…", help="use these calls only, such as mmap,touch,mremap"
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="SUBJECT",
        help="run inputs that are new to the model there, too, and compare with the model of its "
        "kernel (the --kernel of its release, or the first; default: the one with its version): "
        "host, vm:IMAGE, via:'COMMAND {agent}', model:KERNEL, model-at:DIR; may be given more than "
        'once. With --cluster, workers with the resource "vm" have it. host: '
        f"{MACHINE_NEEDS}",
    )
    parser.add_argument(
        "--machines",
        type=positive,
        default=1,
        metavar="N",
        help="have N of each subject of --against work side by side (default: %(default)s)",
    )
    add_like(parser)
    add_workdir(parser)
    parser.add_argument(
        "--no-seeds", action="store_true", help="start from nothing, not the corpus"
    )
    parser.add_argument(
        "--count-known",
        action="store_true",
        help="exit with 1 for new findings that show known defects, too",
    )
    parser.add_argument(
        "--count-old",
        action="store_true",
        help="exit with 1 also for findings that earlier runs have kept in the working directory, "
        "if this one meets them again",
    )
    add_rules_after(parser)
    parser.add_argument(
        "--for",
        dest="mode",
        choices=MODES,
        help="code-change: for ten minutes, or to the first finding that counts; batch: for an "
        "hour; --time and --runs say otherwise",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="a list of findings that may be met, one name a line, with # why behind it; only "
        "others count for the exit status, old ones, too",
    )
    parser.add_argument(
        "--update-baseline",
        action="store_true",
        help="add what counts to that FILE, which need not be there yet: it counts no more; take "
        "out what a retest in the working directory has shown to be fixed (what was merely not met "
        "stays: a run may be short)",
    )
    parser.add_argument(
        "--junit", type=Path, metavar="FILE", help="write the findings to FILE as JUnit XML"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR|FILE.html",
        help="write what there is as pages there, every minute and at the end (`pmdfuzz report`)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as a JSON object; everything else goes to standard error",
    )


def _run(options: argparse.Namespace) -> int:
    if libfuzzer.wants_help(options.rest):
        print(libfuzzer.told())
        return FINE
    if why := libfuzzer.refused(options.rest):
        raise UsageError(why)
    if options.update_baseline and options.baseline is None:
        raise UsageError("--update-baseline: name the file with --baseline")
    mode = MODES.get(options.mode, _Mode(None, False))
    own_end = options.time is not None or options.runs is not None
    tls = Tls(options.tls_ca_file, options.tls_cert, options.tls_key)
    if options.cluster and options.jobs:
        raise UsageError("--jobs is for this machine: a cluster has a job for each of its threads")
    if options.cluster and options.machines > 1:
        raise UsageError(
            '--machines is for this machine: a worker has as many as its resource "vm"'
        )
    if any(tls) and not options.cluster:
        raise UsageError("--tls-… are for --cluster")
    chosen = RunOptions(
        workdir=options.workdir,
        geometries=options.geometries and tuple(dict.fromkeys(options.geometries)),
        seconds=options.time if own_end else mode.seconds,
        runs=options.runs,
        seed=options.seed,
        jobs=options.jobs or cores(),
        cluster=options.cluster,
        tls=tls,
        calls=None if options.ops is None else _calls(options.ops),
        against=tuple(options.against),
        machines=options.machines,
        count_known=options.count_known,
        count_old=options.count_old,
        rules_after=options.rules_after,
        like=options.like,
        baseline=options.baseline,
        update_baseline=options.update_baseline,
        junit=options.junit,
        stop_at_first=mode.stops_at_first,
        libfuzzer=tuple(options.rest),
    )
    if options.against:
        chosen = replace(chosen, kernels=())  # those of the subjects
    if options.kernels:
        chosen = replace(chosen, kernels=tuple(dict.fromkeys(options.kernels)))
    if options.no_seeds:
        chosen = replace(chosen, seeds=())
    for geometry in chosen.geometries or (None,):
        check_names([*chosen.kernels, *filter(None, [chosen.like])], geometry)
    if chosen.like is not None:
        chosen = replace(chosen, kernels=tuple(unlike(chosen.kernels, chosen.like)))
    if options.report is None:
        return _fuzz(chosen, options.json)
    from fuzz.report.keep import kept  # slow to load
    from fuzz.report.write import refuse_others

    refuse_others(options.report)
    with kept(options.workdir, options.report):
        return _fuzz(chosen, options.json)


def _fuzz(chosen: RunOptions, as_json: bool) -> int:
    """The run; `as_json`: what it prints goes to standard error, but for its result.

    Returns: the exit status.
    """
    if not as_json:
        return run(chosen)
    results: list[Result] = []
    with contextlib.redirect_stdout(sys.stderr):
        status = run(chosen, results.append)
    for result in results:  # none if it could not begin
        print(json.dumps(result.as_json()))
    return status


def _cluster(where: str) -> str:
    """Type of an option: where a cluster is."""
    if not re.fullmatch(r"local:[1-9]\d{0,2}|(tcp|tls)://\S+:\d+", where):
        raise argparse.ArgumentTypeError(
            f"{where!r} is neither tcp://HOST:PORT, tls://HOST:PORT nor local:N"
        )
    return where


def _calls(words: str) -> frozenset[str]:
    """The calls of `--ops`.  Errors raised: UsageError, which lists the unknown ones."""
    names = [word.strip() for word in words.split(",") if word.strip()]
    unknown = [name for name in names if name not in MODELLED_CALLS]
    known = ", ".join(sorted(MODELLED_CALLS))
    if unknown:
        raise UsageError(f"--ops: unknown {', '.join(unknown)}; known: {known}")
    if not names:
        raise UsageError(f"--ops names no call; known: {known}")
    return frozenset(names)
