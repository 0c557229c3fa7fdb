"""`pmdfuzz observe`, `compare`, `check` and `kernel`: the model beside what really happens."""

import argparse
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.base.kernel import kernel_named
from fuzz.bounded import run
from fuzz.calls.registry import DIRECTIVES, MODELLED_CALLS
from fuzz.campaign.seeds import CORPUS
from fuzz.case import Case
from fuzz.cli.named import check_names, loaded
from fuzz.cli.options import (
    MACHINE_NEEDS,
    Parser,
    UsageError,
    add_action,
    add_geometry,
    add_jobs,
    add_kernel,
    add_on,
    add_workdir,
    define,
    refuse,
)
from fuzz.forms.text import format_call
from fuzz.lib.arguments import positive, seed
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.showing import kernel_for
from fuzz.subjects.against import Against
from fuzz.subjects.baseline import BaselineError
from fuzz.subjects.beside import beside_model
from fuzz.subjects.check import DEFAULT_CASES, CheckOptions, check, check_cases
from fuzz.subjects.compare import compare
from fuzz.subjects.host import host_kernel, release
from fuzz.subjects.model import Model
from fuzz.subjects.named import subject_named
from fuzz.subjects.observe import observation
from fuzz.subjects.recordings import TruthError, is_json_lines, programs
from fuzz.subjects.shortage import ask
from fuzz.subjects.subject import SubjectError

# --- observe --------------------------------------------------------------------------------------


def make_observe(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _observe,
        summary,
        "The format is that in which real kernels are recorded: results and bytes of page tables "
        "after each call, VMAs and pages at the end.",
    )
    _add_files(parser, "+")
    add_kernel(parser)
    add_geometry(parser)
    add_on(parser, None, f"run them there, not on the model. host: {MACHINE_NEEDS} Others")


def _observe(options: argparse.Namespace) -> int:
    if options.on is not None:
        return _observe_on(options)
    check_names([options.kernel] if options.kernel else [], options.geometry)
    for name, case in _programs(options.files, options.geometry):
        outcome = run(case, kernel_for(case, options.kernel), stop=False, oracle=False)
        print(json.dumps(observation(outcome, name)))
    return FINE


def _observe_on(options: argparse.Namespace) -> int:
    if options.kernel or options.geometry:
        raise UsageError("--on: a subject is what it is; leave --kernel and --geometry out")
    status = FINE
    with machine_errors(), subject_named(options.on) as subject:
        page_bytes = subject.geometry.page_bytes
        for name, case in _programs(options.files, None):
            if refused := subject.refusal(case):
                status = refuse(f"{name}: not run: {refused}")
                continue
            case = replace(case.program(), geometry=case.geometry)
            observed = subject.observe(case)
            ops = [format_call(call, page_bytes) for call in case.calls]
            print(json.dumps({"id": name, "ops": ops} | observed | {"id": name}))
            if "crash" in observed:
                status = status or SURPRISES
    return status


# --- compare --------------------------------------------------------------------------------------


def make_compare(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _compare,
        summary,
        "Programs that differ are put into classes: the first field that differs, the call after "
        "which it does, and its flags. Of each class the simplest program is shown, minimized if "
        "the recorded kernel is the one this machine runs.",
    )
    parser.add_argument(
        "truth", type=Path, metavar="TRUTH", help="recordings as JSON lines, perhaps .gz or .xz"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--kernel", metavar="K", help="the model of that kernel")
    add_on(which, None, "in place of the model, what another subject does")
    add_geometry(parser)
    add_jobs(parser)


def _compare(options: argparse.Namespace) -> int:
    if options.on is not None:
        if options.geometry:
            raise UsageError("--on: a subject is what it is; leave --geometry out")
        with machine_errors(), subject_named(options.on, jobs=options.jobs) as subject:
            return compare(options.truth, subject)
    kernel = kernel_named(options.kernel, options.geometry)
    with contextlib.ExitStack() as stack, machine_errors():

        def machine() -> Against | None:
            with contextlib.suppress(SubjectError):  # then nothing is minimized
                if host_kernel() == replace(kernel, name=host_kernel().name):
                    return stack.enter_context(beside_model(kernel.name))
            return None

        return compare(options.truth, Model(kernel), machine=machine)


# --- check, kernel --------------------------------------------------------------------------------

_CHECK = (
    "Without files the programs are random; each class of divergence is minimized on the subject "
    "and kept as a case in the working directory. With files exactly these programs run. Of what "
    "stands for a kernel (qemu-user, valgrind, gVisor) results, VMAs and contents are compared, "
    f"up to the first address that it chooses. {MACHINE_NEEDS}"
)


def make_check(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, _check, summary, _CHECK)
    _add_check(parser)


def _add_check(parser: Parser) -> None:
    _add_files(parser, "*")
    parser.add_argument(
        "--cases",
        type=positive,
        metavar="N",
        help=f"run N random programs (default: {DEFAULT_CASES}, or as the baseline)",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="seed of the random numbers (default: that of the baseline, or a random one)",
    )
    parser.add_argument(
        "--about",
        choices=sorted(MODELLED_CALLS - DIRECTIVES),
        metavar="CALL",
        help="programs that make this call, made to a plan: few random ones make it where it "
        "matters, such as file",
    )
    add_on(parser, "host", "the subject to check")
    add_jobs(parser)
    _add_model(parser)
    parser.add_argument(
        "--geometry",
        metavar="G",
        help="x86-64-pku: leave the kernel this CPU's protection keys, by which memory that may "
        "only be executed cannot be read (default: x86-64, as if there were none)",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="tell what is better and what is worse than FILE says, and end with 1 only for a new "
        "class of divergence; FILE is written if it is not there",
    )
    add_workdir(parser)


def make_kernel(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, _check, summary, MACHINE_NEEDS)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = add_action(actions, "check", _check, "the same as `pmdfuzz check`", _CHECK)
    _add_check(action)
    action = add_action(
        actions,
        "shortage",
        _shortage,
        "try the known defects that show only when memory runs out in the middle of a move",
        "Each is tried in a memory cgroup that is allowed no more than it has, and compared with "
        "the model. Needs Linux on x86-64, a C compiler with a static libc, root, and the memory "
        "controller of cgroup v1.",
    )
    _add_model(action)


def _add_model(action: Parser) -> None:
    action.add_argument(
        "--kernel",
        metavar="K",
        help="the model to compare with (default: the kernel with the version of this machine's)",
    )


def _check(options: argparse.Namespace) -> int:
    with machine_errors():
        if options.files:
            if options.baseline:
                raise UsageError("--baseline is of random programs: leave the files out")
            return check_cases(
                _programs(options.files, None), options.kernel, options.geometry, options.on
            )
        if options.baseline and not options.baseline.parent.is_dir():
            raise UsageError(f"--baseline: there is no directory {options.baseline.parent}")
        try:
            return check(
                CheckOptions(
                    options.workdir,
                    cases=options.cases,
                    seed=options.seed,
                    kernel=options.kernel,
                    geometry=options.geometry,
                    on=options.on,
                    sources=sorted(CORPUS.rglob("*.case")),
                    baseline=options.baseline,
                    jobs=options.jobs,
                    about=options.about,
                )
            )
        except BaselineError as error:
            raise UsageError(str(error)) from None


def _shortage(options: argparse.Namespace) -> int:
    status = FINE
    with machine_errors():
        model = host_kernel(options.kernel)
        print(f"this machine: {release()}; the model: {model.name}")
        for answer in ask(model):
            said = answer.seen or "not shown"
            if not answer.agrees:
                status = SURPRISES
                said += f"; the model {'has' if answer.due else 'does not have'} it"
            print(f"{answer.defect:16}{said}")
    return status


# --- Programs and machines ------------------------------------------------------------------------


def _add_files(parser: Parser, count: str) -> None:
    parser.add_argument(
        "files",
        nargs=count,
        type=Path,
        metavar="FILE",
        help="a case file, or programs as JSON lines with id and ops",
    )


def _programs(files: Sequence[Path], geometry: str | None) -> Iterator[tuple[str, Case]]:
    """Name and program of each case file, and of each line of files with JSON lines.

    Errors raised: CaseError, UsageError, OSError.
    """
    for path in files:
        if not is_json_lines(path):
            yield path.stem, loaded(path, geometry)
            continue
        try:
            for name, case in programs(path):
                yield name, replace(case, geometry=geometry)
        except TruthError as error:
            raise UsageError(str(error)) from None


@contextlib.contextmanager
def machine_errors() -> Iterator[None]:
    """A machine that cannot run cases is told of as other mistakes are."""
    try:
        yield
    except SubjectError as error:
        raise UsageError(str(error)) from None
