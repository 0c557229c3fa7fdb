"""`pmdfuzz findings`: what runs have found.

The list is quick: what it takes to run a case is loaded by the other actions, when they do.
"""

import argparse
import contextlib
import time
from dataclasses import replace
from pathlib import Path

from engine.base.kernel import KERNELS, base_of
from fuzz.case import Case
from fuzz.cli.named import loaded, naming
from fuzz.cli.options import (
    Handler,
    Parser,
    UsageError,
    add_action,
    add_kernel,
    add_kernels,
    add_workdir,
    define,
    refuse,
    workdir_flag,
)
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import HARM, CaseStore
from fuzz.findings.database import LEDGER, LedgerError
from fuzz.findings.ledger import Finding, Ledger
from fuzz.forms.text import dump
from fuzz.lib.arguments import directory
from fuzz.lib.command import command
from fuzz.lib.exits import FINE
from fuzz.lib.files import write_atomic
from fuzz.lib.lines import columns

REGRESSIONS = Path("corpus/regressions")


def make_findings(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, _list, summary)
    add_workdir(parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")

    def add(name: str, handler: Handler, summary: str, more: str = "") -> Parser:
        action = add_action(actions, name, handler, summary, more)
        # SUPPRESS: a default here would replace what was given before the action.
        add_workdir(action, argparse.SUPPRESS)
        return action

    def add_name(action: Parser) -> None:
        action.add_argument("name", metavar="NAME", help="as `pmdfuzz findings list` prints it")

    add("list", _list, "list the findings (the default action)")
    action = add(
        "show", _show, "draw a finding's case, as `pmdfuzz show` does, and what it leads to"
    )
    add_name(action)
    add_kernel(action)
    action = add(
        "promote",
        _promote,
        "copy a finding into the corpus of regressions",
        "What the case shows on each kernel is written into it: an `@expect` line for each "
        "kernel, and the results of the calls in which these kernels agree. A kernel with switches "
        "is to do what its base does, so the case fails until the change is right.",
    )
    add_name(action)
    action.add_argument(
        "--to",
        type=directory,
        default=REGRESSIONS,
        metavar="DIR",
        help="directory to copy it to (default: %(default)s)",
    )
    action.add_argument("--force", action="store_true", help="replace a case that is there")
    add_kernels(action, "default: every kernel")


def _list(options: argparse.Namespace) -> int:
    workdir: Path = options.workdir
    if not workdir.exists():
        raise UsageError(f"no findings: {workdir} is not there; `{command('run')}` makes it")
    if not workdir.is_dir():
        raise UsageError(f"{workdir}: not a directory")
    store = CaseStore(workdir)
    found = store.load_all()
    status = FINE
    for error in found.errors:
        status = refuse(str(error))
    sightings: dict[str, Finding] = {}
    if (workdir / LEDGER).exists():  # opening it would make one
        try:
            with Ledger.open(workdir) as ledger:
                sightings = {finding.bucket.name: finding for finding in ledger.list()}
        except LedgerError as error:
            status = refuse(str(error))
    cases = {path.stem: case for path, case in found.cases.items()}
    harms = {path.stem: _harm(store, path) for path in found.cases}
    names = sorted(cases | sightings, key=lambda name: (bool(_defect(name)), name))
    if not names:
        print(f"no findings in {workdir}")
        return status
    rows = [
        _row(name, cases.get(name), sightings.get(name), harms.get(name, "-")) for name in names
    ]
    titles = ("finding", "calls", "seen", "first", "last", "harm", "kernels")
    for line in columns([titles, *rows]):
        print(line)
    print(f"Look with: {command('findings', 'show', names[0], *workdir_flag(workdir))}")
    return status


def _row(name: str, case: Case | None, sighting: Finding | None, harm: str) -> tuple[str, ...]:
    """What the list says of a finding that has a case, or has been seen, or both."""
    calls = str(len(case.calls)) if case else "no case"
    if sighting and sighting.first and sighting.last:
        first, last = _date(sighting.first.at), _date(sighting.last.at)
        return name, calls, str(sighting.count), first, last, harm, ", ".join(sighting.kernels)
    return name, calls, "-", "-", "-", harm, case.kernel or "-" if case else "-"


def _harm(store: CaseStore, path: Path) -> str:
    """The rule about harm that a finding leads to; "-" if none is known."""
    with contextlib.suppress(ValueError):  # no finding of ours; or no case, which was told
        harm = store.load_harm(Bucket.named(path.stem))
        if harm is not None:
            return ", ".join(dict.fromkeys(expected.outcome for expected in harm.expects)) or "-"
    return "-"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _defect(name: str) -> str:
    """The known defect in the name of a finding; empty if there is none."""
    with contextlib.suppress(ValueError):  # a case that somebody else has put there
        return Bucket.named(name).defect
    return ""


def _show(options: argparse.Namespace) -> int:
    from fuzz.cli.cases import tell

    status = FINE
    for number, path in enumerate(_files(options)):
        if number:
            print("\nIt leads to this:")
        with naming(path):
            status = max(status, tell(loaded(path), path, options.kernel))
    return status


def _promote(options: argparse.Namespace) -> int:
    from fuzz.showing import annotated, expecting
    from fuzz.subjects.against import of_machine, reported

    names = list(dict.fromkeys(options.kernels or KERNELS))
    targets = {path: options.to / path.name for path in _files(options)}
    for target in targets.values():
        if target.exists() and not options.force:
            raise UsageError(f"{target} is there already; --force replaces it")
    try:
        options.to.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{options.to}: not a directory") from None
    for path, target in targets.items():
        case = loaded(path)
        bucket = Bucket.named(path.stem.removesuffix(".harm"))
        if reported(bucket):
            raise UsageError(f"{path}: what makes a real kernel report something stays where it is")
        if case.like or of_machine(Bucket.named(path.stem.removesuffix(HARM))):
            promoted = case  # which says what the other kernel, or the machine, has done
        else:
            promoted = _as_base(annotated(expecting(case, names), names))
        write_atomic(target, dump(promoted))
        if promoted.like:
            print(f"{promoted.kernel}: as {promoted.like}")
        for expectation in promoted.expects:
            print(f"{expectation.kernel}: {expectation.outcome}")
    print(f"Test with: {command(*targets.values(), of='pytest')}")
    return FINE


def _as_base(case: Case) -> Case:
    """The case; if it was found on a kernel of one's own, expecting of that what its base does."""
    from fuzz.showing import expecting

    own = case.kernel
    if own is None or own == base_of(own):
        return case
    (base,) = expecting(case, [base_of(own)]).expects
    others = [one for one in case.expects if one.kernel not in (own, base.kernel)]
    return replace(case, expects=(base._replace(kernel=own), base, *others))


def _files(options: argparse.Namespace) -> list[Path]:
    """The case of the finding that the user named, and that of the harm it leads to, if any.

    Errors raised: UsageError.
    """
    store = CaseStore(options.workdir)
    try:
        bucket = Bucket.named(options.name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    path = store.path(bucket)
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in store.load_all().cases))
        listed = f"known: {known}" if known else f"there are none in {options.workdir}"
        raise UsageError(f"no finding {options.name!r}; {listed}")
    return [path, *filter(Path.exists, [store.harm_path(bucket)])]
