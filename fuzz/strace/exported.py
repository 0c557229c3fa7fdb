"""Programs that pmdfuzz has exported: their calls come back as they left.

Such a program says who it is, then of each call what it was and what came of it (fuzz/export/parts,
tell.c), in lines of standard output that stand behind what the call does.  So accesses, which no
system call shows, come back, and limits and shortages that it makes; and nothing does that it
does to set up and to check.  A system call must be there, too: what the log does not show, or
shows otherwise, is not believed.
"""

import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from engine.base.geometry import Geometry, UnknownName, geometry_named
from engine.base.kernel import Kernel
from fuzz.asserted import broken
from fuzz.calls.registry import CALLS, DIRECTIVES
from fuzz.calls.syscall import Makes, Returns
from fuzz.case import MAX_CALLS, Call, Case, CaseError, Result
from fuzz.execute import execute
from fuzz.forms.c import END, is_call, read_call, read_value
from fuzz.forms.lexical import Wrong
from fuzz.forms.results import format_result
from fuzz.forms.text import parse_call
from fuzz.strace import values
from fuzz.strace.found import Found
from fuzz.strace.imported import Imported, count
from fuzz.strace.program import Program, Source
from fuzz.strace.steps import MSEAL, READERS, Inexpressible
from fuzz.strace.values import Value
from fuzz.strace.written import Lines

UNSEEN = "calls that an exported program tells of, and the log does not show"
UNTOLD = "calls behind the last one that an exported program tells of"
BESIDE = (
    "what a case has beside its calls, and no program: @expect, comments, other kernels' results"
)
OWN = "calls by which exported programs set up and check"
NOT_HERE = "exported programs that could not run"
_INTRODUCTION = re.compile(r"(?:# )?pmdfuzz (\S{1,40}): AT\(0\) is 0x([0-9a-f]{1,16})")
_TOLD = re.compile(
    r"(?P<call>\w+\([^=]*\)) = "
    r"(?P<result>-\d+ \([^)]*\)|AT\(\w+\)|(?:(?:SEGV|BUS)\[\w+, \w+\) ?)+|\w+)"
    r"(?:, expected |: (?:as it should be$|the defect; |neither )|$)"
)
_CHECK = re.compile(r"\w+\(.*\) = ")
_NOT_RUN = re.compile(r"not run: (.*)")
_DIRECTIVE = re.compile(r"(@(?:fail|limit) .*)")
_SKIPPED = re.compile(r"(?:1\.\.0 # SKIP|skipped:) (.*)")
_SAME_NAME = {"mmap2": "mmap", MSEAL: "mseal"}
_WORD = 0xFFFFFFFF  # the bits in which what is told and what is shown must agree: a word has them


def introduced(line: str) -> tuple[Geometry, int] | None:
    """For which machine an exported program is, and where its arena lies; None: it is no such line.

    Errors raised: Wrong for a machine that nobody knows.
    """
    match = _INTRODUCTION.fullmatch(line)
    if match is None:
        return None
    try:
        return geometry_named(match[1]), int(match[2], 16)
    except UnknownName as error:
        raise Wrong(str(error), 0) from None


class _Shown(NamedTuple):
    """A system call that the log shows: its first two operands are a range."""

    name: str
    operands: str
    value: Value
    source: Source
    start: int
    length: int


@dataclass(slots=True)
class Exported:
    """An exported program in the middle of its calls.

    Arguments: `geometry` of the machine that it is for; `base` the address where its arena begins;
    `file` what the log is called; `lines` are what it writes.
    """

    geometry: Geometry
    base: int
    file: str
    imported: Imported
    lines: Lines = field(default_factory=Lines)
    _calls: list[Call] = field(default_factory=list)
    _places: list[Source] = field(default_factory=list)
    _last: _Shown | None = None  # the last system call since the last line
    _found: Found = field(default_factory=Found)
    _seen: int = 0  # calls that are told and shown
    _unseen: int = 0  # told alone
    _is_over: bool = False  # are there no more calls to come?

    def copy(self) -> "Exported":
        """That of a child, which has told nothing yet."""
        return Exported(self.geometry, self.base, self.file, self.imported)

    def made(self, name: str, operands: str, value: Value, source: Source) -> None:
        """A system call that the log shows.  Errors raised: Wrong."""
        start, length = map(values.number, values.first_two(operands))
        if self._last is not None:
            count(self.imported.left_out, OWN)
        name = _SAME_NAME.get(name, name)
        self._last = _Shown(name, operands, value, source, start, length)

    def told(self, line: str, source: Source) -> None:
        """A line that the program has written.

        Errors raised: CaseError for one that is not as such programs write it.
        """
        line = line.removeprefix("# ")
        self._is_over = self._is_over or line == END
        try:
            call = self._read(line, source)
        except Wrong as wrong:
            raise self._error(f"no exported program writes that: {wrong.why}", source) from None
        if call is None and not _CHECK.match(line):
            return
        shown, self._last = self._last, None
        is_shown = shown is not None and call is not None and self._is(shown, call)
        if shown is not None and not is_shown:
            count(self.imported.left_out, OWN)
        if call is None:
            if self._calls and not self._is_over:
                self._found.read(line, len(self._calls))
            return
        if CALLS[call.name].made_by is Makes.KERNEL and call.result != "SKIP":
            if not is_shown:
                self._unseen += 1
                count(self.imported.left_out, UNSEEN, self._where(source))
                return
            self._seen += 1
        self._append(call, source)

    def program(self, name: str, kernel: Kernel) -> Program | None:
        """The case of it; None: it has made no call.  Errors raised: CaseError."""
        if self._unseen and not self._seen:  # such lines, of somebody else
            count(self.imported.left_out, UNSEEN, number=len(self._calls))
            self.imported.calls.subtract(call.name for call in self._calls)
            return None
        if not self._calls:
            if self._last is not None:  # as in all runs but the first
                count(self.imported.left_out, OWN)
            return None
        if (last := self._last) is not None and (call := self._untold(last)) is not None:
            count(self.imported.assumed, UNTOLD, self._where(last.source))
            self._append(call, last.source)
        case, wrong = self._case(kernel.on(self.geometry))
        count(self.imported.left_out, BESIDE)
        lines = self._places[0].line, self._places[-1].line
        told = f"as an exported program tells; AT(0) is {self.base:#x}"
        return Program(case, name, lines, told, len(self._calls), 0, wrong, 0)

    # --- Calls ------------------------------------------------------------------------------------

    def _read(self, line: str, source: Source) -> Call | None:
        """The call that a line tells of, with its result; None: it tells of something else."""
        if match := _DIRECTIVE.fullmatch(line):
            return self._parsed(match[1])
        if match := _NOT_RUN.fullmatch(line):
            return self._parsed(match[1])._replace(result="SKIP")
        if match := _SKIPPED.fullmatch(line):
            count(self.imported.left_out, NOT_HERE, self._where(source))
            return None
        match = _TOLD.match(line)
        if match is None or not is_call(match["call"]):
            return None
        call = read_call(match["call"])
        result = match["result"].rstrip()
        arena = self.geometry.arena
        return call._replace(
            result=read_value(result, call.name, self.geometry.page_bytes, arena.length)
        )

    def _parsed(self, text: str) -> Call:
        try:
            return parse_call(text, self.geometry.page_bytes)
        except CaseError as error:
            raise Wrong(error.why, 0) from None

    def _append(self, call: Call, source: Source) -> None:
        if len(self._calls) == MAX_CALLS:
            raise self._error(f"no exported program makes more than {MAX_CALLS} calls", source)
        self._calls.append(call)
        self._places.append(source)
        self.imported.calls[call.name] += 1

    def _is(self, shown: _Shown, call: Call) -> bool:
        """Is a call that is shown the one that is told?"""
        if shown.name != call.name:
            return False
        start, length, *_ = call.args
        return (
            not (shown.start - self.base - start) & _WORD
            and not (shown.length - length) & _WORD
            and self._result(shown) == call.result
        )

    def _result(self, shown: _Shown) -> Result:
        value = shown.value.value
        if shown.value.failed or value is None:
            return shown.value.error
        if CALLS[shown.name].returns is not Returns.ADDRESS:
            return value
        offset = value - self.base
        return offset if 0 <= offset < self.geometry.arena.length else "OUT"

    def _untold(self, shown: _Shown) -> Call | None:
        """A call of which the program had no time to tell."""
        try:
            step = READERS[shown.name](shown.operands, shown.value)
        except (Inexpressible, values.Unknown, Wrong):
            count(self.imported.left_out, UNTOLD, self._where(shown.source))
            return None
        args = list(step.made or step.args)
        for index in CALLS[step.name].addresses:
            args[index] -= self.base if args[index] else 0
        return Call(step.name, tuple(args), self._result(shown))

    def _case(self, kernel: Kernel) -> tuple[Case, tuple[tuple[Source, str], ...]]:
        """The case, without results that do not come about on a kernel, and those."""
        geometry = None if self.geometry.name == "x86-64" else self.geometry.name
        try:
            assertions = self._found.checked(self.geometry.page_bytes)
        except Wrong as found:
            why = f"no exported program finds that: {found.why}"
            raise self._error(why, self._places[-1]) from None
        case = Case(tuple(self._calls), geometry=geometry, assertions=assertions)
        results = execute(
            case.program(), kernel, stop=False, check=False, shortages_last=True
        ).results
        calls, wrong = list(case.calls), []
        for index, (call, got) in enumerate(zip(case.calls, results, strict=False)):
            if call.name not in DIRECTIVES and got != call.result:
                shown = format_result(got, self.geometry.page_bytes)
                wrong.append((self._places[index], shown))
                calls[index] = call._replace(result=None)
        not_there = {one.assertion for one in broken(case, kernel)}
        if not_there:
            kind = f"what a program has found, and is otherwise on {kernel.name}"
            count(self.imported.left_out, kind, number=len(not_there))
        kept = tuple(one for one in case.assertions if one not in not_there)
        return replace(case, calls=tuple(calls), assertions=kept), tuple(wrong)

    # --- Words ------------------------------------------------------------------------------------

    def _where(self, source: Source) -> str:
        return f"{self.file}:{source.line}: {source.text.strip()[:100]}"

    def _error(self, why: str, source: Source) -> CaseError:
        return CaseError(why, source.line, 1, source.text, self.file)
