"""Compares the model with what a real kernel did: `difference` for one program, `compare` for a
file of recordings.

Programs that differ are put into classes: the first field that differs, the call after which it
does, and the flags or the advice of that call.  One change of the model moves whole classes.
"""

import gzip
import json
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from engine.base.geometry import Geometry
from engine.base.kernel import Kernel
from fuzz.calls.operand import Symbols
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case, CaseError, Faults, Result
from fuzz.execute import execute
from fuzz.forms.text import format_call, format_operand, format_result, parse_call
from fuzz.lib.status import Fields, StatusLine
from fuzz.minimize.search import minimize, simplicity
from fuzz.subjects.observe import FIELDS, compared, differences

AGREE, DIFFER, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

Observation = dict[str, Any]
OnMachine = Callable[[Case], tuple[Observation, Observation]]

_BY_CALL = ("ret", "pt")  # what is observed after each call, not at the end only
_LEFT = "left"  # page tables that stayed behind, in bytes: machines tell of it if there are any
_MINIMIZE_BUDGET = 2_000  # runs on the machine


# --- One program ----------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What makes two disagreements the same."""

    field: str
    call: str  # name of the call after which it differs
    detail: str  # its flags, protection or advice; for a crash, how it ended

    def __str__(self) -> str:
        return f"{self.field} after {self.call}({self.detail})"


class Difference(NamedTuple):
    """The first thing in which two observations of a program differ, in the order of the calls."""

    kind: Kind
    call: int  # index of the call after which they do


def difference(case: Case, expected: Observation, found: Observation) -> Difference | None:
    """How two observations of `case` differ first; None if they agree.

    What is observed at the end only is put down to the last call.
    """
    if not case.calls:
        return None
    last = len(case.calls) - 1
    crash = expected.get("crash") or found.get("crash")
    if crash:
        return Difference(Kind("crash", case.calls[last].name, str(crash)), last)
    index = _parting(expected, found)
    if index is not None:
        call = case.calls[index]
        name = next(name for name in _BY_CALL if expected[name][index] != found[name][index])
        return Difference(Kind(name, call.name, _detail(call)), index)
    for name in (*FIELDS, _LEFT):
        if expected.get(name) != found.get(name):
            call = case.calls[last]
            return Difference(Kind(name, call.name, _detail(call)), last)
    return None


def _parting(expected: Observation, found: Observation) -> int | None:
    """The index of the first call after which something observed then differs; None: of none."""
    if expected["ret"] == found["ret"] and expected["pt"] == found["pt"]:
        return None
    pairs = (enumerate(zip(expected[name], found[name], strict=True)) for name in _BY_CALL)
    return min(index for each in pairs for index, (want, got) in each if want != got)


def modelled(case: Case, kernel: Kernel, *, commit_limit_bytes: int | None = None) -> Observation:
    """What the model shows of a case.

    As for a case that ends a machine's worker, that is `crash` only if the model itself fails.
    """
    try:
        # Rules are not what is compared; those whose violation the kernel warns of are always on.
        outcome = execute(
            case, kernel, stop=False, check=False, commit_limit_bytes=commit_limit_bytes
        )
    except Exception as error:
        return {"crash": f"the model fails: {type(error).__name__}: {error}"}
    return compared(outcome)


def asserting(case: Case, found: Observation) -> Case:
    """The case, each call asserting the result that was observed."""
    results = found.get("ret", ())
    calls = [
        call._replace(result=_result(results[index]) if index < len(results) else None)
        for index, call in enumerate(case.calls)
    ]
    return case.with_calls(calls)


def told(case: Case, expected: Observation, found: Observation, real: str) -> str:
    """The program with its results on both sides, and what else differs.

    `expected` is what the kernel called `real` did, `found` what the model does.
    """
    lines = []
    for index, call in enumerate(asserting(case, expected).calls):
        line = format_call(call)
        other = []
        for name, show in (("ret", _shown_result), ("pt", str)):
            if "crash" in expected or "crash" in found:
                continue
            want, got = expected[name][index], found[name][index]
            if want != got:
                bytes_there = f"page tables {want}, " if name == "pt" else ""
                other.append(f"{bytes_there}model: {show(got)}")
        lines.append(f"{line}    <-- {'; '.join(other)}" if other else line)
    if "crash" in expected or "crash" in found:
        lines += [
            f"{real}: {expected.get('crash', 'ends')}",
            f"model: {found.get('crash', 'ends')}",
        ]
        return "\n".join(lines)
    lines += [
        f"{line.replace(': expected ', f': {real} ', 1).replace(', found ', ', model ', 1)}"
        for line in differences(expected, found)
        if not line.startswith(tuple(f"{name}[" for name in _BY_CALL))
    ]
    if expected.get(_LEFT):
        lines.append(f"{real} keeps {expected[_LEFT]} bytes of page tables after the last munmap")
    return "\n".join(lines)


def _detail(call: Call) -> str:
    """The flags, the protection or the advice of a call; of an mmap the flags."""
    operands = [
        format_operand(param.kind, value)
        for param, value in zip(CALLS[call.name].params, call.args, strict=True)
        if isinstance(param.kind, Symbols)
    ]
    return operands[-1] if operands else ""


def _result(plain: object) -> Result:
    """A result as a case has it, from one as an observation has it."""
    if isinstance(plain, Mapping):
        return Faults(
            *(tuple((first, n) for first, n in plain.get(kind, ())) for kind in Faults._fields)
        )
    assert isinstance(plain, int | str)
    return plain


def _shown_result(plain: object) -> str:
    return format_result(_result(plain))


# --- Files of recordings --------------------------------------------------------------------------


class TruthError(Exception):
    """A file of recordings, or of programs, that cannot be used; `line` counts from 1."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}")


class Recording(NamedTuple):
    """What a kernel did with a program."""

    case: Case
    observed: Observation


def is_json_lines(path: Path) -> bool:
    """Does the file hold JSON lines, rather than a case?  Errors raised: OSError."""
    with opened(path) as stream:
        return stream.read(1) == b"{"


def opened(path: Path) -> BinaryIO:
    """A file of recordings or programs, perhaps compressed.  Errors raised: OSError."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def programs(path: Path) -> Iterator[tuple[str, Case]]:
    """Name and program of each line of a file of JSON lines with `id` and `ops`.

    Errors raised: TruthError, OSError.
    """
    for _, row, case in _rows(path, ("id", "ops")):
        yield row["id"], case


def recordings(path: Path) -> Iterator[Recording]:
    """What a file of recordings holds, in its order.

    Errors raised: TruthError at the first line that is not a whole recording, after those before
    it were yielded; OSError.
    """
    for line, row, case in _rows(path, ("id", "ops", *FIELDS)):
        for name in _BY_CALL:
            if not isinstance(row[name], list) or len(row[name]) != len(case.calls):
                raise TruthError(path, line, f"{name!r} must have an entry for each of the calls")
        yield Recording(case, row)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, Observation, Case]]:
    """Number, object and program of each line.  Errors raised: TruthError, OSError."""
    number = 0
    try:
        with opened(path) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield (number, *_row(path, number, line, needed))
    except EOFError:
        raise TruthError(path, number + 1, "the file is cut off here") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TruthError(path, number + 1, f"the file is damaged: {error}") from None


def _row(path: Path, number: int, line: bytes, needed: tuple[str, ...]) -> tuple[Observation, Case]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not line.endswith(b"\n"):
            raise TruthError(path, number, "the file is cut off in this line") from None
        raise TruthError(path, number, f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise TruthError(path, number, "expected a JSON object")
    missing = [name for name in needed if name not in row]
    if missing:
        raise TruthError(
            path, number, f"another format: no {', '.join(missing)} (it has {', '.join(row)})"
        )
    if not isinstance(row["id"], str) or not isinstance(row["ops"], list):
        raise TruthError(path, number, "'id' must be a string, 'ops' a list of calls")
    calls = []
    for text in row["ops"]:
        if not isinstance(text, str):
            raise TruthError(path, number, f"expected a call, found {text!r}")
        try:
            calls.append(parse_call(text))
        except CaseError as error:
            raise TruthError(path, number, f"{error.why}, in the call {text!r}") from None
    return row, Case(tuple(calls)).program()


# --- The comparison of a file ---------------------------------------------------------------------


@dataclass(slots=True)
class Disagreement:
    """A class of disagreements: how many programs, and the simplest of them."""

    programs: int
    recording: Recording
    modelled: Observation


@dataclass(slots=True)
class Comparison:
    """What comparing recordings has shown so far.

    `agreeing_fields` counts the programs in which a field agrees; `calls` the calls of each name
    whose result and page tables were compared, `agreeing_calls` those where they agree.  Calls
    behind the first difference of a program do not count: they start from another state.
    """

    programs: int = 0
    agreeing_fields: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    agreeing_calls: Counter[str] = field(default_factory=Counter)
    kinds: dict[Kind, Disagreement] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def differing(self) -> int:
        """Programs that do not agree in all fields."""
        return sum(kind.programs for kind in self.kinds.values())

    def add(self, recording: Recording, found: Observation) -> None:
        """Count one program."""
        case, observed = recording
        self.programs += 1
        agreeing = [name for name in FIELDS if observed.get(name) == found.get(name)]
        for name in agreeing:
            self.agreeing_fields[name] += 1
        if len(agreeing) == len(FIELDS) and observed.get(_LEFT) == found.get(_LEFT):
            self._count_calls(case, None)
            return
        differs = difference(case, observed, found)
        if "crash" not in found:
            self._count_calls(case, _parting(observed, found))
        if differs is None:
            return
        known = self.kinds.get(differs.kind)
        if known is None:
            self.kinds[differs.kind] = Disagreement(1, recording, found)
            return
        known.programs += 1
        if simplicity(case) < simplicity(known.recording.case):
            known.recording, known.modelled = recording, found

    def _count_calls(self, case: Case, wrong: int | None) -> None:
        """Count the calls of a program up to the first, `wrong`, that differs."""
        for call in case.calls[:wrong]:
            self.calls[call.name] += 1
            self.agreeing_calls[call.name] += 1
        if wrong is not None:
            self.calls[case.calls[wrong].name] += 1

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return max(time.monotonic() - self.started, 1e-9)

    def fields(self) -> Fields:
        """For the status line."""
        return [
            (f"{self.programs} programs", ""),
            (f"{self.programs / self.seconds:.0f}/s", ""),
            (f"{self.differing} differ", "alarm" if self.kinds else ""),
        ]

    def table(self) -> str:
        """How many agree, by field and by call."""
        rows: list[tuple[object, ...]] = [("field", "agree", "of")]
        rows += ((name, self.agreeing_fields[name], self.programs) for name in FIELDS)
        rows.append(("call", "agree", "of"))
        rows += ((n, self.agreeing_calls[n], self.calls[n]) for n in CALLS if self.calls[n])
        return "\n".join(f"{name:<14}{agree:>9}{of:>9}" for name, agree, of in rows)


def compare(
    path: Path,
    kernel: Kernel,
    *,
    machine: Callable[[], OnMachine | None] = lambda: None,
) -> int:
    """Run the model on every program of a file of recordings; print how they compare.

    Arguments: `machine` is asked, if anything differs, for a function that tells what a machine
    with the recorded kernel, and the model, show of a case; with it the simplest program of each
    class is minimized.
    Returns: 0 all agree; 1 some differ; 2 a bad line, after which nothing was read; 130 Ctrl-C.
    Errors raised: OSError.
    """
    comparison, line = Comparison(), StatusLine(sys.stderr)
    status, problem = AGREE, ""
    try:
        for recording in recordings(path):
            comparison.add(recording, modelled(recording.case, kernel))
            line.update(comparison)
    except TruthError as error:
        status, problem = BAD_INPUT, str(error)
    except KeyboardInterrupt:
        status, problem = INTERRUPTED, "interrupted"
    line.clear()
    agree = comparison.programs - comparison.differing
    print(
        f"{path}, model {kernel.name} on {kernel.geometry.name}: "
        f"{agree} of {comparison.programs} programs agree ({comparison.seconds:.1f} s)"
    )
    if comparison.programs:
        print(comparison.table())
    ordered = sorted(comparison.kinds.items(), key=lambda item: (-item[1].programs, item[0]))
    ask = machine() if ordered and status != INTERRUPTED else None
    for kind, disagreement in ordered:
        n = disagreement.programs
        print(f"\n{kind}: {n} program{'' if n == 1 else 's'}")
        print(_example(kind, disagreement, kernel.geometry, ask))
    if problem:
        compared = f"{comparison.programs} programs before that were compared"
        print(f"pmdfuzz compare: {problem}; {compared}", file=sys.stderr)
        return status
    return DIFFER if comparison.kinds else AGREE


def _example(
    kind: Kind, disagreement: Disagreement, geometry: Geometry, on_machine: OnMachine | None
) -> str:
    """The simplest program of a class, minimized if that is possible."""
    case, observed = disagreement.recording
    title = f"recorded as {observed['id']}"
    if on_machine is not None:

        def same(candidate: Case) -> bool:
            differs = difference(candidate, *on_machine(candidate))
            return differs is not None and differs.kind == kind

        here, _ = on_machine(case)
        if all(here.get(name) == observed[name] for name in FIELDS) and same(case):
            small = minimize(case, same, geometry, budget=_MINIMIZE_BUDGET)
            return (
                f"{title}, minimized on this machine:\n{told(small, *on_machine(small), 'machine')}"
            )
        title += "; not minimized: this machine does something else"
    return f"{title}:\n{told(case, observed, disagreement.modelled, 'recorded')}"
