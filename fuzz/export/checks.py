"""What an exported program checks: lines of C for each call, and for what is there at the end.

Where the kernel and its twin (`fuzz.export.twins`) differ the defect shows: such a check decides.
All others say that the program runs as it was meant to.
"""

from collections.abc import Iterator, Sequence

from fuzz.calls.registry import CALLS, DIRECTIVES
from fuzz.calls.syscall import Returns
from fuzz.case import Call, Result
from fuzz.export.assertions import asserted_checks
from fuzz.export.check import Check, Checks, Step, either, literal
from fuzz.export.ending import left_to_the_system, of_the_process, of_the_system
from fuzz.export.purpose import purpose
from fuzz.export.twins import Shown, Twins
from fuzz.forms import text
from fuzz.forms.c import address, format_call, format_value


def checks_of(pair: Twins) -> Checks:
    """What there is to check of a case.

    The defect shows by what calls return, and by what the process has at the end.  If it does not,
    by the first of these by which it does: page tables after each call, what the system counts,
    which others change meanwhile, and what it still counts once all is unmapped.
    """
    steps = tuple(_steps(pair))
    said = steps[-1].checks if steps else ()
    end = tuple(check for check in of_the_process(pair) if check not in said)
    usual = Checks(steps, end)
    if usual.decides or pair.right is None or not pair.comparable:
        return usual
    others = (
        Checks(tuple(_with_tables(steps, pair.right, pair.shown)), end),
        Checks(steps, (*end, *of_the_system(pair))),
        Checks(steps, (*end, *left_to_the_system(pair))),
    )
    return next((one for one in others if one.decides), usual)


def _steps(pair: Twins) -> Iterator[Step]:
    """The calls, and what the case asserts behind each."""
    asserted = list(asserted_checks(pair))
    tables: int | None = None  # that the next mremap may have
    for index, call in enumerate(pair.case.calls):
        if call.name == "@fail":
            tables = min(call.args[1] - 1, tables or call.args[1])
        short, tables = (tables, None) if call.name == "mremap" else (None, tables)
        checks = [*_call(pair, index, format_call(call, short))]
        checks += [check for after, check in asserted if after == index + 1]
        result = pair.shown.results[index] if index < len(pair.shown.results) else 0
        yield Step(purpose(call, result, pair.kernel.geometry.page_bytes), tuple(checks))


def _with_tables(steps: Sequence[Step], right: Shown, shown: Shown) -> Iterator[Step]:
    """The same, with the size of page tables where that tells."""
    for step, good, wrong in zip(steps, _tables_kib(right), _tables_kib(shown), strict=True):
        found = Check("", "tables_kib()", str(good), str(wrong))
        yield step if good == wrong else Step(step.note, (*step.checks, found))


def _tables_kib(one: Shown) -> list[int]:
    """Page tables after each call."""
    at_first = one.kernel.geometry.bytes_at_first
    return [(after - at_first) >> 10 for after in one.outcome.page_tables]


def _call(pair: Twins, index: int, line: str) -> Iterator[Check]:
    """A call, with its result, and the page tables behind it if these tell.

    Arguments: `line` the call in C.
    """
    call = pair.case.calls[index]
    if call.name in DIRECTIVES:
        if call.name == "@fail":
            yield Check("_LINE", literal(text.format_call(call)), None)
        return
    wrong = pair.shown.results[index] if index < len(pair.shown.results) else "SKIP"
    right = None
    if pair.right is not None and index < len(pair.right.results):
        right = pair.right.results[index]
    if wrong == "SKIP":
        yield Check("_LINE", literal(f"not run: {text.format_call(call)}"), None)
    elif "OUT" in (wrong, right):
        yield Check("", line, None)
    elif CALLS[call.name].returns is Returns.FAULTS:
        faults = (_faults(one, pair.kernel.geometry.page_bytes) for one in (right, wrong))
        yield either("_TEXT", line, next(faults), next(faults) or "")
    else:
        yield either("", line, _value(call, right), _value(call, wrong) or "")


def _value(call: Call, result: Result | None) -> str | None:
    """A result as C."""
    if result is None:
        return None
    if isinstance(result, int) and CALLS[call.name].returns is Returns.ADDRESS:
        return address(result) if result or call.name in ("mmap", "mremap") else "0"
    return format_value(result, 0)


def _faults(result: Result | None, page_bytes: int) -> str | None:
    if result is None:
        return None
    return format_value(result, page_bytes) if result else "NO_FAULTS"
