"""`pmdfuzz import`: what other programs have recorded or made, as cases."""

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.cli.named import check_names
from fuzz.cli.options import Parser, UsageError, add_action, add_kernels, define
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import dump
from fuzz.lib.command import command
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.lib.files import new_folder
from fuzz.lib.lines import several
from fuzz.lib.status import Fields, StatusLine, count
from fuzz.showing import DEFAULT_KERNEL, replay
from fuzz.strace.exported import NOT_HERE
from fuzz.strace.imported import Imported
from fuzz.strace.processes import ADVICE, Reader
from fuzz.strace.program import Program
from fuzz.syz.read import Reader as SyzReader

_SHOWN = 10  # programs that are named beside a finding


def make_import(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(parser, _strace, summary)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    action = add_action(
        actions,
        "strace",
        _strace,
        "import logs of strace",
        "What a traced program did to its memory becomes cases of at most 256 calls, a process and "
        "an exec at a time; each begins with what was mapped then. What cannot be said in a case "
        f"is counted, and told with the line that it was met on first. To record one: {ADVICE}. "
        "strace shows no accesses, so programs write to what they map, unless --no-touch is given; "
        "but a program of `export --as c` or `kselftest` tells of its calls on standard output, in "
        "lines behind `pmdfuzz GEOMETRY: AT(0) is ADDRESS`, and its case comes back as it was.",
    )
    action.add_argument("files", nargs="+", type=Path, metavar="LOG", help="a log, one or more")
    action.add_argument(
        "--no-touch",
        action="store_true",
        help="put no accesses in: page tables stay empty, but for what calls fill",
    )
    action.add_argument(
        "--within",
        type=_range,
        metavar="START-END",
        help="take calls about these addresses alone, such as 0x100000000000-0x108000000000",
    )
    _add_rest(action)
    action = add_action(
        actions,
        "syz",
        _syz,
        "import programs of syzkaller",
        "Reproducers, and logs of what was executed: of each program the calls about memory become "
        "a case, which begins with the 16 MiB that syzkaller's programs work in.",
    )
    action.add_argument("files", nargs="+", type=Path, metavar="FILE", help="one or more")
    _add_rest(action)


def _range(word: str) -> tuple[int, int]:
    """Addresses, as two numbers.  Errors raised: ArgumentTypeError."""
    try:
        start, end = (int(each, 0) for each in word.split("-"))
    except ValueError:
        start = end = 0
    if start >= end:
        raise argparse.ArgumentTypeError(f"{word!r} is not START-END")
    return start, end


def _add_rest(action: Parser) -> None:
    """The options that all actions have."""
    action.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="write the cases to DIR, which is not there yet: all of them or none (default: only "
        "tell what would be imported)",
    )
    action.add_argument(
        "--recorded-on",
        metavar="K",
        default=DEFAULT_KERNEL,
        help="the kernel on whose model the results must come about (default: %(default)s)",
    )
    add_kernels(action, "also run the programs there, and tell which known defects they meet")


@dataclass(slots=True)
class _Lines:
    """The lines of a file, which are counted."""

    file: Iterable[str]
    read: int = 0

    def __iter__(self) -> Iterator[str]:
        for line in self.file:
            self.read += 1
            yield line


@dataclass(slots=True)
class _Standing:
    """Where an import stands; see fuzz.lib.status."""

    file: str
    lines: _Lines
    imported: Imported

    def fields(self) -> Fields:
        """See `Standing`."""
        return [
            (self.file, "dim"),
            (f"{count(self.lines.read)} lines", ""),
            (several(self.imported.programs, "program"), ""),
        ]


@dataclass(slots=True)
class _Met:
    """What the programs met on the kernels: of each finding the names of the programs."""

    kernels: Sequence[str]
    by_finding: dict[tuple[str, Bucket], list[str]] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)

    def run(self, name: str, case: Case) -> None:
        """Run a program on all of them."""
        for shown in replay(case, self.kernels):
            self.runs[shown.kernel.name] += 1
            for found in shown.findings:
                self.by_finding.setdefault((shown.kernel.name, found.bucket), []).append(name)

    @property
    def unknown(self) -> bool:
        """Is there anything that no known defect explains?"""
        return any(not bucket.defect for _, bucket in self.by_finding)

    def told(self) -> Iterator[str]:
        """What was met, a line each."""
        for kernel in self.kernels:
            met = [(b, names) for (on, b), names in self.by_finding.items() if on == kernel]
            yield f"{kernel}: {several(self.runs[kernel], 'program')}, " + (
                "which meet" if met else "no known defect is met, and no rule breaks"
            )
            for bucket, names in met:
                what = (
                    f"the known defect {bucket.defect}" if bucket.defect else "an UNKNOWN finding"
                )
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                yield f"  {what}, {bucket.rule}: {', '.join(names[:_SHOWN])}{more}"


Cases = Iterator[tuple[str, Case]]  # each with its name
Read = Callable[[Path, Iterable[str], Imported], Cases]


def _strace(options: argparse.Namespace) -> int:
    kernel = kernel_named(options.recorded_on)

    def read(path: Path, lines: Iterable[str], imported: Imported) -> Cases:
        reader = Reader(
            str(path), _stem(path), kernel, not options.no_touch, options.within, imported
        )
        for program in reader.programs(lines):
            yield program.name, _as_case(program, path, kernel.name)

    return _import(options, read, f"no call that changes memory in there: {ADVICE}")


def _syz(options: argparse.Namespace) -> int:
    kernel = kernel_named(options.recorded_on)

    def read(path: Path, lines: Iterable[str], imported: Imported) -> Cases:
        for case in SyzReader(str(path), kernel, imported).cases(lines):
            name = f"{_stem(path)}-{imported.programs:03}"
            comment = f"{path.name}, program {imported.programs} of syzkaller"
            yield name, replace(case, kernel=kernel.name, comments=(comment,))

    return _import(options, read, "no program in there has a call that changes memory")


def _import(options: argparse.Namespace, read: Read, nothing: str) -> int:
    """Import files.  Arguments: `nothing` what to say if there is nothing in them."""
    kernels = list(dict.fromkeys(options.kernels or ()))
    check_names([options.recorded_on, *kernels], None)
    met = _Met(kernels)
    for path in options.files:
        if not path.is_file():
            raise UsageError(f"{path}: not a file" if path.exists() else f"{path}: no such file")
    with _output(options.output) as folder:
        imports = [_import_file(path, folder, read, met) for path in options.files]
        if not any(imported.programs for imported in imports):
            could_not = any(NOT_HERE in imported.left_out for imported in imports)
            raise UsageError("the program could not run there, see above" if could_not else nothing)
    print(*met.told(), sep="\n", end="\n" if kernels else "")
    if options.output is None:
        print("nothing is written: -o DIR")
    else:
        print(f"next: {command('replay', options.output)}")
    return SURPRISES if met.unknown else FINE


def _import_file(path: Path, folder: Path | None, read: Read, met: _Met) -> Imported:
    """Import one file."""
    imported = Imported()
    line = StatusLine(sys.stderr)
    with path.open(encoding="utf-8", errors="backslashreplace") as file:
        lines = _Lines(file)
        standing = _Standing(str(path), lines, imported)
        for name, case in read(path, lines, imported):
            if folder is not None:
                (folder / f"{name}.case").write_text(dump(case), encoding="utf-8")
            met.run(name, case)
            line.update(standing)
    line.clear()
    print(f"{path}: {several(lines.read, 'line')}, {imported.told()}")
    return imported


@contextlib.contextmanager
def _output(target: Path | None) -> Iterator[Path | None]:
    """The folder that cases go to, if there is one."""
    if target is None:
        yield None
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is there already: name another place")
    with new_folder(target) as folder:
        yield folder


def _stem(path: Path) -> str:
    """What the cases of a log are called: its name without what a file name should not have."""
    kept = "".join(each if each.isalnum() or each in "-_." else "-" for each in path.name)
    return kept.removesuffix(".strace").removesuffix(".syz").removesuffix(".log") or "log"


def _as_case(program: Program, path: Path, kernel: str) -> Case:
    """The case of a program, which says where it is from."""
    first, last = program.lines
    comments = [f"{path.name}, lines {first} to {last}; {program.told}"]
    if program.touches:
        comments.append("`touch` is assumed: a log of strace shows no accesses")
    return replace(program.case, kernel=kernel, comments=tuple(comments))
