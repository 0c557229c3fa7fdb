"""`pmdfuzz findings`: what runs have found.

The list is quick: what it takes to run a case is loaded by the other actions, when they do.
"""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from engine.base.kernel import KERNELS, base_of
from fuzz.case import Case
from fuzz.cli.listed import ALL, add_selection, list_findings
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
    need_workdir,
)
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import HARM, CaseStore
from fuzz.findings.database import LedgerError
from fuzz.findings.ledger import Finding, Ledger
from fuzz.findings.states import ACCEPTED, OPEN, REOPENED
from fuzz.forms.text import dump
from fuzz.lib.arguments import directory
from fuzz.lib.command import command
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.lib.files import write_atomic
from fuzz.lib.fingerprint import of_this_project

REGRESSIONS = Path("corpus/regressions")


def make_findings(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, list_findings, summary)
    add_workdir(parser)
    parser.set_defaults(**ALL)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")

    def add(name: str, handler: Handler, summary: str, more: str = "") -> Parser:
        action = add_action(actions, name, handler, summary, more)
        # SUPPRESS: a default here would replace what was given before the action.
        add_workdir(action, argparse.SUPPRESS)
        return action

    def add_name(action: Parser) -> None:
        action.add_argument(
            "name", metavar="NAME", help="as `pmdfuzz findings list` prints it, or how it begins"
        )

    add_selection(
        add(
            "list",
            list_findings,
            "list the findings (the default action)",
            "new: only the run that found it has met it; open: later ones, too; fixed: the last "
            "retest has not shown it any more; reopened: it had been fixed; accepted: see "
            "`pmdfuzz findings accept`.",
        )
    )
    action = add(
        "show", _show, "draw a finding's case, as `pmdfuzz show` does, and what it leads to"
    )
    add_name(action)
    add_kernel(action)
    action.add_argument(
        "--mail",
        action="store_true",
        help="print a mail to a kernel's list instead: what happens, on which releases, the "
        "program, what is known and what is not; whom it goes to is yours to say",
    )
    action.add_argument(
        "--even-if-it-crashes",
        action="store_true",
        help="with --mail: tell in words of what a kernel may crash of, too",
    )
    action = add(
        "accept",
        _accept,
        "say why a finding may stay: it counts for no exit status any more",
        "Runs tell of it all the same. When it has been fixed and comes back, it counts again.",
    )
    add_name(action)
    what = action.add_mutually_exclusive_group(required=True)
    what.add_argument("--why", metavar="TEXT", help="why, for whoever reads the list later")
    what.add_argument("--undo", action="store_true", help="let it be open again")
    add(
        "retest",
        _retest,
        "run all of them on the present engine and kernels",
        "What does not show any more is fixed from now on, and what was fixed and shows is "
        "reopened, which is exit status 1. A run does the same as it starts, if the program is "
        "not the one that did it last.",
    )
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


def _show(options: argparse.Namespace) -> int:
    from fuzz.cli.cases import tell

    if options.mail:
        return _mail(options)
    status = FINE
    for number, path in enumerate(_files(options)):
        if number:
            print("\nIt leads to this:")
        with naming(path):
            status = max(status, tell(loaded(path), path, options.kernel))
    return status


def _mail(options: argparse.Namespace) -> int:
    """Print a mail about a finding."""
    from fuzz.mail.mail import mail
    from fuzz.mail.matter import MailError, matter

    path, *harm = _files(options)
    bucket = Bucket.named(path.stem)
    with naming(path):
        case = loaded(path)
        consequence = loaded(harm[0]) if harm else None
        try:
            found = _known(options.workdir, bucket)
            met, machines = (found.kernels, found.machines) if found else ({}, {})
            about = matter(case, options.kernel, bucket, met, consequence, machines)
            print(mail(about, even_if_it_crashes=options.even_if_it_crashes), end="")
        except MailError as error:
            raise UsageError(f"{bucket.name}: {error}") from None
    return FINE


def _known(workdir: Path, bucket: Bucket) -> Finding | None:
    """What the ledger knows of a finding, if there is one."""
    try:
        with Ledger.reading(workdir) or contextlib.nullcontext() as ledger:
            found = ledger.list() if ledger is not None else []
    except LedgerError as error:
        raise UsageError(str(error)) from None
    return next((one for one in found if one.bucket == bucket), None)


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


def _accept(options: argparse.Namespace) -> int:
    bucket = _named(options)
    why = (options.why or "").strip()
    if not why and not options.undo:
        raise UsageError("--why: say why")
    with _ledger(options.workdir) as ledger:
        ledger.states.change(bucket, OPEN if options.undo else ACCEPTED, why)
    print(f"{bucket.name}: {OPEN if options.undo else f'{ACCEPTED}: {why}'}")
    return FINE


def _retest(options: argparse.Namespace) -> int:
    from fuzz.campaign.retest import counted, retest_all, summed_up

    with _ledger(options.workdir) as ledger:
        done = []
        for one in retest_all(ledger, of_this_project()):
            print(one, flush=True)
            done.append(one)
    counts = counted(done)
    print(summed_up(counts))
    return SURPRISES if counts[REOPENED] else FINE


@contextlib.contextmanager
def _ledger(workdir: Path) -> Iterator[Ledger]:
    """The ledger of a working directory that is there.  Errors raised: UsageError."""
    need_workdir(workdir)
    try:
        with Ledger.open(workdir) as ledger:
            yield ledger
    except LedgerError as error:
        raise UsageError(str(error)) from None


def _files(options: argparse.Namespace) -> list[Path]:
    """The case of the finding that the user named, and that of the harm it leads to, if any.

    Errors raised: UsageError.
    """
    store = CaseStore(options.workdir)
    bucket = _named(options)
    return [store.path(bucket), *filter(Path.exists, [store.harm_path(bucket)])]


def _named(options: argparse.Namespace) -> Bucket:
    """The finding that the user named, or the only one whose name begins so.

    Errors raised: UsageError.
    """
    word, names = options.name, []
    for path in CaseStore(options.workdir).load_all().cases:
        with contextlib.suppress(ValueError):  # a case, but not one that we named
            names.append(Bucket.named(path.stem).name)
    begins = [name for name in names if name == word] or [n for n in names if n.startswith(word)]
    if len(begins) == 1:
        return Bucket.named(begins[0])
    if begins:
        raise UsageError(f"{word!r} begins {len(begins)} names: {', '.join(begins)}")
    try:
        Bucket.named(word)
    except ValueError as error:
        raise UsageError(str(error)) from None
    listed = f"known: {', '.join(names)}" if names else f"there are none in {options.workdir}"
    raise UsageError(f"no finding {word!r}; {listed}")
