"""How two observations of a program differ.

Programs that differ are put into classes: the first field that differs, the call after which it
does, and the flags or the advice of that call.  One change of the model moves whole classes.
"""

from collections.abc import Mapping
from typing import NamedTuple

from fuzz.calls.operand import Symbols
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case, Faults, Result
from fuzz.forms.results import format_result
from fuzz.forms.text import format_call, format_operand
from fuzz.subjects.observe import FIELDS, differences
from fuzz.subjects.subject import Observation

BY_CALL = ("ret", "pt")  # what is observed after each call, not at the end only
LEFT = "left"  # page tables that stayed behind, in bytes: machines tell of it if there are any


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
    index = parting(expected, found)
    if index is not None:
        call = case.calls[index]
        name = next(name for name in BY_CALL if expected[name][index] != found[name][index])
        return Difference(Kind(name, call.name, _detail(call)), index)
    for name in (*FIELDS, LEFT):
        if expected.get(name) != found.get(name):
            call = case.calls[last]
            return Difference(Kind(name, call.name, _detail(call)), last)
    return None


def parting(expected: Observation, found: Observation) -> int | None:
    """The index of the first call after which something observed then differs; None: of none."""
    if expected["ret"] == found["ret"] and expected["pt"] == found["pt"]:
        return None
    pairs = (enumerate(zip(expected[name], found[name], strict=True)) for name in BY_CALL)
    return min(index for each in pairs for index, (want, got) in each if want != got)


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
        if not line.startswith(tuple(f"{name}[" for name in BY_CALL))
    ]
    if expected.get(LEFT):
        lines.append(f"{real} keeps {expected[LEFT]} bytes of page tables after the last munmap")
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
