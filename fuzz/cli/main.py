"""The command line: `pmdfuzz COMMAND …`.

Exit status of every command: 0 as expected, nothing found; 1 findings, or a result that differs
from what a case says; 2 bad input or environment; 130 stopped by Ctrl-C.  `run` has two more.
What a user can do wrong is told in one message on stderr, never by a traceback: a traceback is a
defect of pmdfuzz.  Whatever a command does not always need is imported when it does.
"""

import argparse
import contextlib
import io
import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.base.geometry import GEOMETRIES, UnknownName, geometry_named
from engine.base.kernel import KERNELS, KNOWN_NAMES, SWITCHES, kernel_named
from fuzz.case import Case, CaseError
from fuzz.cli import museum
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.lines import columns
from fuzz.lib.status import wants_colour

FINE, FOUND, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
CLOSED_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
WORKDIR = Path(".pmdfuzz")
REGRESSIONS = Path("corpus/regressions")

_EXIT = """\
exit status:
  0    as expected; nothing found
  1    findings, or results that differ from what a case says
  2    bad input or environment
  130  stopped by Ctrl-C
"""
_EXIT_RUN = """\
exit status:
  0    as expected: nothing new found, or known defects only (unless --count-known)
  1    findings that are new
  2    bad input or environment
  3    the fuzzing process itself failed: a defect of pmdfuzz
  130  stopped by Ctrl-C, 143 by SIGTERM; everything was saved
"""
_MACHINE_NEEDS = (
    "Needs Linux on x86-64 and a C compiler with a static libc. Without root, which kernels before "
    "6.7 need, warnings in the kernel's log are not seen (taints are), and calls that lock memory "
    "are left out."
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class UsageError(Exception):
    """Something the user asked for cannot be done; the message says what and why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Arguments: `argv` the arguments without the program's name; None: those of this process.
    Returns: the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have every character
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    words, rest = _split_off_rest(words)
    try:
        options = _parser().parse_args(words)
    except SystemExit as stop:  # after --help, or a message of argparse
        return int(stop.code or 0)
    options.rest = rest
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        status = command(options)
        sys.stdout.flush()
    except (CaseError, UnknownName, WriteError, UsageError) as error:
        return _refuse(str(error))
    except BrokenPipeError:
        # Whoever reads our output has seen enough.  What is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        return _refuse(_reason(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    return status


def _split_off_rest(words: list[str]) -> tuple[list[str], list[str]]:
    """`run … -- FLAG…`: the words before and after the `--`."""
    if words[:1] == ["run"] and "--" in words:
        cut = words.index("--")
        return words[:cut], words[cut + 1 :]
    return words, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pmdfuzz",
        description="Fuzz a model of how Linux moves page tables: mremap(2) and the stack move of "
        "execve(2).",
        epilog=f"{_EXIT}\npmdfuzz COMMAND --help tells more of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, command: Callable[[argparse.Namespace], int], summary: str, more: str = ""
    ) -> argparse.ArgumentParser:
        return _add(commands, name, command, summary, more)

    _add_run(commands)

    sub = add(
        "replay",
        _replay,
        "run cases and compare with what they expect",
        "Each case runs on every kernel it has an expectation for (`@expect`), or on those named "
        "here. Results that a case asserts (`= value`) are checked on all of them.",
    )
    sub.add_argument("cases", nargs="+", type=Path, metavar="CASE", help="a case file")
    _add_kernels(sub)
    _add_geometry(sub)

    sub = add(
        "show",
        _show,
        "draw the address space before and after every call of a case",
        "Lines that a call changed are marked: + new, - gone, ~ the same VMA or table in another "
        "state. The bar of a table shows its entries from low to high addresses: # all of them in "
        "use, + some, . none but a VMA lies there, blank neither.",
    )
    sub.add_argument("case", type=Path, metavar="CASE", help="a case file")
    _add_kernel(sub)
    _add_geometry(sub)

    sub = add(
        "minimize",
        _minimize,
        "make a case as simple as it can be while it shows the same finding",
        "The same finding is: the same rule is broken in the same kind of call, and explained by "
        "the same known defect, or by none. "
        "Without -o the minimal case goes to standard output; CASE is never changed unless -o "
        "names it.",
    )
    sub.add_argument("case", type=Path, metavar="CASE", help="a case file")
    _add_kernel(sub)
    _add_geometry(sub)
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the case to FILE")
    sub.add_argument(
        "--budget", type=_positive, metavar="N", default=20_000, help="run at most N candidates"
    )

    sub = add(
        "observe",
        _observe,
        "print what cases show, one JSON object a line",
        "The format is that in which real kernels are recorded: results and bytes of page tables "
        "after each call, VMAs and pages at the end.",
    )
    sub.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="a case file, or programs as JSON lines with id and ops",
    )
    _add_kernel(sub)
    _add_geometry(sub)
    _add_on(sub)

    sub = add(
        "compare",
        _compare,
        "compare the model with recordings of a real kernel",
        "Programs that differ are put into classes: the first field that differs, the call after "
        "which it does, and its flags. Of each class the simplest program is shown, minimized if "
        "the recorded kernel is the one this machine runs.",
    )
    sub.add_argument(
        "truth", type=Path, metavar="TRUTH", help="recordings as JSON lines, perhaps .gz"
    )
    sub.add_argument("--kernel", required=True, metavar="K", help="the model of that kernel")

    _add_host_check(commands)
    _add_findings(commands)
    museum.add(commands, _add, _positive, _seconds, _add_workdir, _add_rules_after)
    add("kernels", _kernels, "list the kernels, the switches by which they differ, geometries")
    sub = add("rules", _rules, "list the rules: what the kernel promises")
    sub.add_argument("rules", nargs="*", metavar="RULE", help="only these; a slug or an id")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    summary: str,
    more: str = "",
    epilog: str = _EXIT,
) -> argparse.ArgumentParser:
    text = f"{summary[0].upper()}{summary[1:]}. {more}".strip()
    sub = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(text, 90),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(command=command)
    return sub


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = _add(
        commands,
        "run",
        _run,
        "fuzz until the limits, Ctrl-C or SIGTERM",
        "Every new finding is minimized, shown, and kept as a case in the working directory. One "
        "that a known defect of the kernel explains is told of by its name, and does not count for "
        "the exit status. Flags after -- are passed on to libFuzzer as they are. Needs Atheris.",
        _EXIT_RUN,
    )
    _add_kernels(sub)
    sub.add_argument(
        "--geometry",
        dest="geometries",
        action="append",
        metavar="G",
        help="a geometry of `pmdfuzz kernels`; given more than once, the programs are shared out "
        "among them (default: x86-64 and small)",
    )
    sub.add_argument(
        "--time", type=_seconds, metavar="T", help="stop after T: 60, 90s, 10m, 8h, 2d"
    )
    sub.add_argument("--runs", type=_positive, metavar="N", help="stop after N executions")
    sub.add_argument("--seed", type=_positive, metavar="N", help="seed of the random numbers")
    sub.add_argument(
        "--ops", metavar="A,B,…", help="use these calls only, such as mmap,touch,mremap"
    )
    sub.add_argument(
        "--against",
        choices=("host",),
        help="run inputs that are new to the model on the kernel of this machine, too, and compare "
        "it with the model (the first --kernel; default: the one with its version). "
        f"{_MACHINE_NEEDS}",
    )
    _add_workdir(sub)
    sub.add_argument("--no-seeds", action="store_true", help="start from nothing, not the corpus")
    sub.add_argument(
        "--count-known",
        action="store_true",
        help="exit with 1 for new findings that show known defects, too",
    )
    _add_rules_after(sub)


def _add_findings(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = _add(commands, "findings", _findings_list, "list, show and promote what runs have found")
    _add_workdir(sub)
    actions = sub.add_subparsers(title="actions", metavar="ACTION")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], summary: str, more: str = ""
    ) -> argparse.ArgumentParser:
        action = _add(actions, name, command, summary, more)
        # SUPPRESS: a default here would replace what was given before the action.
        _add_workdir(action, argparse.SUPPRESS)
        return action

    add("list", _findings_list, "list the findings (the default action)")
    action = add("show", _findings_show, "draw a finding's case, as `pmdfuzz show` does")
    action.add_argument("name", metavar="NAME", help="as `pmdfuzz findings list` prints it")
    _add_kernel(action)
    action = add(
        "promote",
        _findings_promote,
        "copy a finding into the corpus of regressions",
        "What the case shows on each kernel is written into it: an `@expect` line for each "
        "kernel, and the results of the calls in which these kernels agree.",
    )
    action.add_argument("name", metavar="NAME", help="as `pmdfuzz findings list` prints it")
    action.add_argument(
        "--to",
        type=Path,
        default=REGRESSIONS,
        metavar="DIR",
        help="directory to copy it to (default: %(default)s)",
    )
    action.add_argument("--force", action="store_true", help="replace a case that is there")
    _add_kernels(action, "default: every kernel")


def _add_host_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = _add(
        commands,
        "host",
        _host_check,
        "check the model against the kernel of this machine",
        f"{_MACHINE_NEEDS}",
    )
    actions = sub.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = _add(
        actions,
        "check",
        _host_check,
        "run programs on this machine and on its model, and compare all that both show",
        "Without files the programs are random; each class of divergence is minimized on the "
        "machine and kept as a case in the working directory. With files exactly these programs "
        f"run. {_MACHINE_NEEDS}",
    )
    action.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="a case file, or programs as JSON lines with id and ops",
    )
    action.add_argument(
        "--cases",
        type=_positive,
        default=10_000,
        metavar="N",
        help="run N random programs (default: %(default)s)",
    )
    action.add_argument("--seed", type=_positive, metavar="N", help="seed of the random numbers")
    action.add_argument(
        "--kernel",
        metavar="K",
        help="the model to compare with (default: the kernel with the version of this machine's)",
    )
    action.add_argument(
        "--geometry",
        metavar="G",
        help="x86-64-pku: leave the kernel this CPU's protection keys, by which memory that may "
        "only be executed cannot be read (default: x86-64, as if there were none)",
    )
    _add_workdir(action)

    action = _add(
        actions,
        "shortage",
        _host_shortage,
        "try the known defects that show only when memory runs out in the middle of a move",
        "Each is tried in a memory cgroup that is allowed no more than it has, and compared with "
        "the model. Needs Linux on x86-64, a C compiler with a static libc, root, and the memory "
        "controller of cgroup v1.",
    )
    action.add_argument(
        "--kernel",
        metavar="K",
        help="the model to compare with (default: the kernel with the version of this machine's)",
    )


def _add_on(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--on",
        choices=("model", "host"),
        default="model",
        help=f"what they run on (default: %(default)s). host: {_MACHINE_NEEDS}",
    )


def _add_kernels(sub: argparse.ArgumentParser, default: str = "default: as the case says") -> None:
    sub.add_argument(
        "--kernel",
        dest="kernels",
        action="append",
        metavar="K",
        help=f"a kernel of `pmdfuzz kernels`; may be given more than once ({default})",
    )


def _add_kernel(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--kernel", metavar="K", help="a kernel of `pmdfuzz kernels` (default: as the case says)"
    )


def _add_geometry(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--geometry", metavar="G", help="a geometry of `pmdfuzz kernels` in place of the usual one"
    )


def _add_rules_after(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--rules-after",
        choices=("last", "moving", "call"),
        default="moving",
        help="judge the whole state after the last call, after every moving one and the last, or "
        "after every call (default: moving)",
    )


def _add_workdir(sub: argparse.ArgumentParser, default: object = WORKDIR) -> None:
    sub.add_argument(
        "--workdir",
        type=Path,
        default=default,
        metavar="DIR",
        help=f"where runs keep everything (default: {WORKDIR})",
    )


def _positive(word: str) -> int:
    if not (word.isascii() and word.isdigit() and int(word)):
        raise argparse.ArgumentTypeError(f"{word!r} is not a positive whole number")
    return int(word)


def _seconds(word: str) -> int:
    unit = _SECONDS.get(word[-1:])
    number = word[:-1] if unit else word
    if not (number.isascii() and number.isdigit() and int(number)):
        raise argparse.ArgumentTypeError(f"{word!r} is not a time: 60, 90s, 10m, 8h, 2d")
    return int(number) * (unit or 1)


# Commands


def _run(options: argparse.Namespace) -> int:
    from fuzz.campaign.run import run
    from fuzz.campaign.session import RunOptions

    chosen = RunOptions(
        workdir=options.workdir,
        geometries=options.geometries and tuple(dict.fromkeys(options.geometries)),
        seconds=options.time,
        runs=options.runs,
        seed=options.seed,
        calls=None if options.ops is None else _calls(options.ops),
        against=options.against is not None,
        count_known=options.count_known,
        rules_after=options.rules_after,
        libfuzzer=tuple(options.rest),
    )
    if options.against and not options.kernels:
        from fuzz.subjects.host import host_kernel

        with _machine_errors():
            chosen = replace(chosen, kernels=(host_kernel().name,))
    if options.kernels:
        chosen = replace(chosen, kernels=tuple(dict.fromkeys(options.kernels)))
    if options.no_seeds:
        chosen = replace(chosen, seeds=())
    for geometry in chosen.geometries or (None,):
        _check_names(chosen.kernels, geometry)
    return run(chosen)


def _replay(options: argparse.Namespace) -> int:
    from fuzz.showing import replay

    _check_names(options.kernels or [], options.geometry)
    status = FINE
    runs = surprises = 0
    for path in options.cases:
        try:
            with _naming(path):
                shown = replay(_load(path, options.geometry), options.kernels)
        except CaseError as error:
            status = _refuse(str(error))
            continue
        for one in shown:
            runs += 1
            print(f"{_mark(not one.surprises)} {path}: {one}")
            if one.surprises:
                surprises += 1
                name = shlex.quote(str(path))
                geometry = f" --geometry {options.geometry}" if options.geometry else ""
                print(f"     Look with: pmdfuzz show {name} --kernel {one.kernel.name}{geometry}")
    if runs > 1:
        print(f"{runs} replays, {surprises} not as expected")
    return status or (FOUND if surprises else FINE)


def _show(options: argparse.Namespace) -> int:
    with _naming(options.case):
        case = _load(options.case, options.geometry)
        return _tell(case, options.case, options.kernel, options.geometry)


def _tell(case: Case, path: Path, kernel_name: str | None, geometry: str | None = None) -> int:
    """Draw a case, and say how it compares with what it expects."""
    from fuzz.showing import expectations, kernel_for, replay
    from fuzz.tell.story import story

    name = kernel_name or next(iter(expectations(case)))
    kernel = kernel_for(case, name)
    for comment in case.comments:
        print(f"# {comment}")
    print(f"{path}: {kernel.name} on {kernel.geometry.name}\n")
    print(story(case, kernel, colour=wants_colour(sys.stdout)))
    (shown,) = replay(case, [name])
    print(f"\n{shown}")
    again = f" --geometry {geometry}" if geometry else ""
    quoted = shlex.quote(str(path))
    print(f"Reproduce with: pmdfuzz replay {quoted} --kernel {kernel.name}{again}")
    return FOUND if shown.surprises else FINE


def _minimize(options: argparse.Namespace) -> int:
    from fuzz.forms.text import dump

    with _naming(options.case):
        case = _load(options.case, options.geometry)
        small, status = _minimized(case, options)
    if options.output is None:
        print(dump(small), end="")
        return status
    write_atomic(options.output, dump(small))
    print(f"{options.output}: {len(small.calls)} of {len(case.calls)} calls left")
    print(f"Reproduce with: pmdfuzz replay {shlex.quote(str(options.output))}")
    return status


def _minimized(case: Case, options: argparse.Namespace) -> tuple[Case, int]:
    """The minimal case, and the exit status: Ctrl-C ends the search, but keeps what it has."""
    from fuzz.minimize.search import minimize
    from fuzz.showing import OK, expectations, expecting, kernel_for, showing

    expected = expectations(case)
    # The kernel on which there is something to see, if the case says so.
    broken = [name for name, outcome in expected.items() if outcome not in (None, OK)]
    kernel = kernel_for(case, options.kernel or next(iter(broken or expected)))
    wanted = showing(case, kernel).bucket
    if wanted is None:
        raise UsageError(f"{options.case}: nothing to minimize: no rule is broken on {kernel.name}")
    live = sys.stderr.isatty()
    small, status = case, FINE

    def progress(best: Case, runs: int) -> None:
        nonlocal small
        small = best
        if live:
            print(f"\r{len(best.calls)} calls after {runs} runs ", end="", file=sys.stderr)

    try:
        small = minimize(
            case,
            lambda candidate: showing(candidate, kernel).bucket == wanted,
            kernel.geometry,
            budget=options.budget,
            progress=progress,
        )
    except KeyboardInterrupt:
        print("\ninterrupted; this is the simplest so far", file=sys.stderr)
        status = INTERRUPTED
    if live:
        print(file=sys.stderr)
    small = replace(small, kernel=small.kernel or kernel.name)
    return expecting(small, dict.fromkeys([kernel.name, *expected])), status


def _observe(options: argparse.Namespace) -> int:
    import json

    from fuzz.execute import execute
    from fuzz.showing import kernel_for
    from fuzz.subjects.observe import observation

    if options.on == "host":
        return _observe_host(options)
    _check_names([options.kernel] if options.kernel else [], options.geometry)
    for name, case in _programs(options.files, options.geometry):
        outcome = execute(case, kernel_for(case, options.kernel), stop=False, oracle=False)
        print(json.dumps(observation(outcome, name)))
    return FINE


def _observe_host(options: argparse.Namespace) -> int:
    import json

    from fuzz.forms.text import format_call
    from fuzz.subjects.host import Host

    if options.kernel or options.geometry:
        raise UsageError("--on host: the machine is what it is; leave --kernel and --geometry out")
    status = FINE
    with _machine_errors(), Host() as host:
        for name, case in _programs(options.files, None):
            if lacking := host.able.missing(case):
                print(f"{name}: not run: only the model has {', '.join(lacking)}", file=sys.stderr)
                status = FOUND
                continue
            case = host.able.runnable(case.program())
            observed = host.observe(case)
            ops = [format_call(call) for call in case.calls]
            print(json.dumps({"id": name, "ops": ops} | observed | {"id": name}))
            if "crash" in observed:
                status = FOUND
    return status


def _compare(options: argparse.Namespace) -> int:
    from fuzz.subjects.against import Against
    from fuzz.subjects.compare import compare
    from fuzz.subjects.host import beside_model, host_kernel
    from fuzz.subjects.subject import SubjectError

    kernel = kernel_named(options.kernel)
    with contextlib.ExitStack() as stack, _machine_errors():

        def machine() -> Against | None:
            with contextlib.suppress(SubjectError):  # then nothing is minimized
                if host_kernel() == replace(kernel, name=host_kernel().name):
                    return stack.enter_context(beside_model(kernel.name))
            return None

        return compare(options.truth, kernel, machine=machine)


def _host_check(options: argparse.Namespace) -> int:
    from fuzz.campaign.seeds import CORPUS
    from fuzz.subjects.check import CheckOptions, check, check_cases

    with _machine_errors():
        if options.files:
            return check_cases(_programs(options.files, None), options.kernel, options.geometry)
        return check(
            CheckOptions(
                options.workdir,
                cases=options.cases,
                seed=options.seed,
                kernel=options.kernel,
                geometry=options.geometry,
                sources=sorted(CORPUS.rglob("*.case")),
            )
        )


def _host_shortage(options: argparse.Namespace) -> int:
    from fuzz.subjects.host import host_kernel, release
    from fuzz.subjects.shortage import ask

    status = FINE
    with _machine_errors():
        model = host_kernel(options.kernel)
        print(f"this machine: {release()}; the model: {model.name}")
        for answer in ask(model):
            said = answer.seen or "not shown"
            if not answer.agrees:
                status = FOUND
                said += f"; the model {'has' if answer.due else 'does not have'} it"
            print(f"{answer.defect:16}{said}")
    return status


def _findings_list(options: argparse.Namespace) -> int:
    from fuzz.findings.store import LEDGER, CaseStore, Finding, Ledger, LedgerError

    workdir = _existing(options.workdir)
    if workdir is None:
        print(f"no findings: {options.workdir} is not there; `pmdfuzz run` makes it")
        return FINE
    store = CaseStore(workdir)
    loaded = store.load_all()
    status = FINE
    for error in loaded.errors:
        status = _refuse(str(error))
    sightings: dict[str, Finding] = {}
    if (workdir / LEDGER).exists():  # opening it would make one
        try:
            with Ledger.open(workdir) as ledger:
                sightings = {finding.bucket.name: finding for finding in ledger.list()}
        except LedgerError as error:
            status = _refuse(str(error))
    cases = {path.stem: (path, case) for path, case in loaded.cases.items()}
    names = sorted(cases | sightings, key=lambda name: (bool(_defect(name)), name))
    if not names:
        print(f"no findings in {workdir}")
        return status
    rows = [("finding", "calls", "seen", "first", "last", "kernels")]
    for name in names:
        calls = str(len(cases[name][1].calls)) if name in cases else "no case"
        seen = ("-", "-", "-", cases[name][1].kernel or "-" if name in cases else "-")
        if (finding := sightings.get(name)) and finding.first and finding.last:
            seen = (
                str(finding.count),
                _date(finding.first.at),
                _date(finding.last.at),
                ", ".join(finding.kernels),
            )
        rows.append((name, calls, *seen))
    for line in columns(rows):
        print(line)
    print(f"Look with: pmdfuzz findings show {names[0]}{_workdir_flag(options)}")
    return status


def _defect(name: str) -> str:
    """The known defect in the name of a finding; empty if there is none."""
    from fuzz.findings.bucket import Bucket

    with contextlib.suppress(ValueError):  # a case that somebody else has put there
        return Bucket.named(name).defect
    return ""


def _findings_show(options: argparse.Namespace) -> int:
    path = _finding(options)
    with _naming(path):
        return _tell(_load(path), path, options.kernel)


def _findings_promote(options: argparse.Namespace) -> int:
    from fuzz.forms.text import dump
    from fuzz.showing import annotated, expecting
    from fuzz.subjects.against import RULE

    path = _finding(options)
    case = _load(path)
    names = list(dict.fromkeys(options.kernels or KERNELS))
    target = options.to / path.name
    if target.exists() and not options.force:
        raise UsageError(f"{target} is there already; --force replaces it")
    # Where machine and model part, the machine's results are what is worth keeping.
    machine = path.stem.startswith(f"{RULE}--")
    promoted = case if machine else annotated(expecting(case, names), names)
    try:
        options.to.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{options.to}: not a directory") from None
    write_atomic(target, dump(promoted))
    for expectation in promoted.expects:
        print(f"{expectation.kernel}: {expectation.outcome}")
    print(f"Test with: pytest {shlex.quote(str(target))}")
    return FINE


def _kernels(_: argparse.Namespace) -> int:
    names = [kernel.removeprefix("linux-") for kernel in KERNELS]
    first = max(map(len, SWITCHES))
    print(f"{'switch':{first}}  {'  '.join(names)}")
    for switch in SWITCHES.values():
        marks = (
            ("yes" if getattr(kernel, switch.name) else "-").center(len(name))
            for name, kernel in zip(names, KERNELS.values(), strict=True)
        )
        print(f"{switch.name:{first}}  {'  '.join(marks)}".rstrip())
        print(f"    {switch.when}: {switch.text}")
        if switch.unread:
            print(f"    not asked for by the model: {switch.unread.reason}")
    print(f"\nkernels:    {', '.join(KERNELS)}")
    print(f"            names: {'; '.join(KNOWN_NAMES)}")
    width = max(map(len, GEOMETRIES))
    lines = [f"{name:{width}}  {geometry.description}" for name, geometry in GEOMETRIES.items()]
    print("geometries: " + "\n            ".join(lines))
    return FINE


def _rules(options: argparse.Namespace) -> int:
    from fuzz.rules.index import RULES, checks_of, promise_named
    from fuzz.rules.rule import UNCHECKED

    rules = [promise_named(name) for name in options.rules] or [*RULES, *UNCHECKED]
    width = min(shutil.get_terminal_size().columns, 100)
    whens = [dict.fromkeys(check.when for check in checks_of(rule)) for rule in rules]
    heads = columns(
        [
            (rule.id, rule.slug, rule.severity, ", ".join(when) or "not checked")
            for rule, when in zip(rules, whens, strict=True)
        ]
    )
    for head, rule in zip(heads, rules, strict=True):
        print(head)
        texts = [rule.statement, f"Kernel: {rule.source}"]
        if rule.needs:
            texts.append(f"Not checked; needs {rule.needs}")
        for text in texts:
            print(textwrap.indent(textwrap.fill(text, width - 4), "    "))
    return FINE


# What several commands need


def _load(path: Path, geometry: str | None = None) -> Case:
    """Read a case, on another geometry if one is named.

    Errors raised: CaseError, OSError, UnknownName.
    """
    from fuzz.forms.text import load

    case = load(path)
    if geometry is not None:
        case = replace(case, geometry=geometry_named(geometry).name)
    return case


def _programs(files: Sequence[Path], geometry: str | None) -> Iterator[tuple[str, Case]]:
    """Name and program of each case file, and of each line of files with JSON lines.

    Errors raised: CaseError, UsageError, OSError.
    """
    from fuzz.subjects.recordings import TruthError, is_json_lines, programs

    for path in files:
        if not is_json_lines(path):
            yield path.stem, _load(path, geometry)
            continue
        try:
            for name, case in programs(path):
                yield name, replace(case, geometry=geometry)
        except TruthError as error:
            raise UsageError(str(error)) from None


@contextlib.contextmanager
def _machine_errors() -> Iterator[None]:
    """A machine that cannot run cases is told of as other mistakes are."""
    from fuzz.subjects.subject import SubjectError

    try:
        yield
    except SubjectError as error:
        raise UsageError(str(error)) from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors about what a case asks for name its file, as errors of its syntax do."""
    try:
        yield
    except CaseError as error:
        if error.file:
            raise
        why, line, column, source = error.why, error.line, error.column, error.source
        raise CaseError(why, line, column, source, str(path)) from None


def _finding(options: argparse.Namespace) -> Path:
    """The case of the finding that the user named.  Errors raised: UsageError."""
    from fuzz.findings.bucket import Bucket
    from fuzz.findings.store import CaseStore

    store = CaseStore(options.workdir)
    try:
        path = store.path(Bucket.named(options.name))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in store.load_all().cases))
        listed = f"known: {known}" if known else f"there are none in {options.workdir}"
        raise UsageError(f"no finding {options.name!r}; {listed}")
    return path


def _existing(directory: Path) -> Path | None:
    """The directory, or None if it is not there.  Errors raised: UsageError for anything else."""
    if directory.is_dir():
        return directory
    if directory.exists():
        raise UsageError(f"{directory}: not a directory")
    return None


def _workdir_flag(options: argparse.Namespace) -> str:
    """What a command that we suggest needs to find the same working directory."""
    return "" if options.workdir == WORKDIR else f" --workdir {shlex.quote(str(options.workdir))}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _calls(words: str) -> frozenset[str]:
    """The calls of `--ops`.  Errors raised: UsageError, which lists the unknown ones."""
    from fuzz.calls.registry import MODELLED_CALLS

    names = [word.strip() for word in words.split(",") if word.strip()]
    unknown = [name for name in names if name not in MODELLED_CALLS]
    known = ", ".join(sorted(MODELLED_CALLS))
    if unknown:
        raise UsageError(f"--ops: unknown {', '.join(unknown)}; known: {known}")
    if not names:
        raise UsageError(f"--ops names no call; known: {known}")
    return frozenset(names)


def _check_names(kernels: Sequence[str], geometry: str | None) -> None:
    """Errors raised: UnknownName, before any file is looked at."""
    for kernel in kernels:
        kernel_named(kernel)
    if geometry is not None:
        geometry_named(geometry)


def _mark(fine: bool) -> str:
    text = "ok  " if fine else "FAIL"
    return f"\033[{32 if fine else 31}m{text}\033[0m" if wants_colour(sys.stdout) else text


def _reason(error: OSError) -> str:
    """What the system says, as people put it: FILE: No such file or directory."""
    why = error.strerror or str(error)
    return f"{error.filename}: {why}" if error.filename else why


def _refuse(message: str) -> int:
    print(f"pmdfuzz: {message}", file=sys.stderr)
    return BAD_INPUT
