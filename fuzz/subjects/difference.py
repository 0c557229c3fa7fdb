"""How two observations of a program differ.

Programs that differ are put into classes: the first field that differs, the call after which it
does, and the flags or the advice of that call.  One change of the model moves whole classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from engine.base.address import Range
from engine.state import terms
from fuzz.calls.operand import Symbols
from fuzz.calls.registry import CALLS, last_made
from fuzz.case import Call, Case, Faults, Result
from fuzz.forms.results import PAGE_BYTES, format_result
from fuzz.forms.text import format_call, format_operand
from fuzz.subjects.observe import FIELDS, OPTIONAL
from fuzz.subjects.subject import SAID, Observation

BY_CALL = ("ret", "pt")  # what is observed after each call, not at the end only
KERNEL = "kernel"  # what a kernel reported on its console: machines tell of it, if it did
_MEMORY, _WARNING, _EXIT = "memory", "warning", "exit"  # see fuzz.vm.console, fuzz.subjects.vm
LEFT = "left"  # page tables that stayed behind, in bytes: machines tell of it if there are any


class Kind(NamedTuple):
    """What makes two disagreements the same."""

    field: str
    call: str  # name of the call after which it differs
    detail: str  # its flags, protection or advice; for a crash, how it ended
    how: str = ""  # "-EINVAL, not done": what was returned, where results are told apart

    def __str__(self) -> str:
        how = f": {self.how}" if self.how else ""
        return f"{self.field} after {self.call}({self.detail}){how}"


class Difference(NamedTuple):
    """The first thing in which two observations of a program differ, in the order of the calls."""

    kind: Kind
    call: int  # index of the call after which they do


def difference(case: Case, expected: Observation, found: Observation) -> Difference | None:
    """How two observations of `case` differ first; None if they agree.

    What is observed at the end only is put down to the last call.
    """
    last = last_made(case.calls)
    if last < 0:
        return None
    if reported := _reported(case, expected, found):
        return reported
    crash = expected.get("crash") or found.get("crash")
    if crash:
        return Difference(Kind("crash", case.calls[last].name, str(crash)), last)
    index = parting(expected, found)
    if index is not None:
        call = case.calls[index]
        each = _by_call(expected, found)
        name = next(name for name in each if expected[name][index] != found[name][index])
        return Difference(Kind(name, call.name, _detail(call)), index)
    for name in differing(expected, found):
        call = case.calls[last]
        return Difference(Kind(name, call.name, _detail(call)), last)
    return None


def _reported(case: Case, expected: Observation, found: Observation) -> Difference | None:
    """What the kernel of one side reported, and that of the other did not, if it did.

    A warning that the model has, too, is none; nor is that memory ran out.
    """
    if (KERNEL in expected) == (KERNEL in found):
        return None
    told, other = (expected, found) if KERNEL in expected else (found, expected)
    report = told[KERNEL]
    if report["kind"] == _MEMORY or (report["kind"] == _WARNING and other.get("warn")):
        return None
    names = [call.name for call in case.calls]
    index = last = max(last_made(case.calls), 0)
    call = names[last]
    if report.get("end"):
        call = _EXIT
    elif report.get("call") in CALLS:
        call = report["call"]
        index = next((i for i in range(last, -1, -1) if names[i] == call), last)
    return Difference(Kind(f"{KERNEL}-{report['kind']}", call, report["what"]), index)


def parting(expected: Observation, found: Observation) -> int | None:
    """The index of the first call after which something observed then differs; None: of none."""
    differing = [name for name in _by_call(expected, found) if expected[name] != found[name]]
    pairs = (enumerate(zip(expected[name], found[name], strict=True)) for name in differing)
    indices = (index for each in pairs for index, (want, got) in each if want != got)
    return min(indices, default=None)


def shared(expected: Observation, found: Observation) -> list[str]:
    """The fields that two observations both have, and know: these are compared."""
    return [
        name
        for name in (*FIELDS, *OPTIONAL)
        if expected.get(name) is not None and found.get(name) is not None
    ]


def differing(expected: Observation, found: Observation) -> list[str]:
    """Those of the fields that are compared in which two observations differ."""
    pairs = ((name, _pair(name, expected, found)) for name in (*shared(expected, found), LEFT))
    return [name for name, (want, got) in pairs if want != got]


def _pair(name: str, expected: Observation, found: Observation) -> tuple[Any, Any]:
    """A field of both sides.  Whoever does not track writes has no VMA that is soft-dirty."""
    want, got = expected.get(name), found.get(name)
    if name == "flags" and not ("sd" in expected and "sd" in found) and want and got:
        return _without_soft_dirty(want), _without_soft_dirty(got)
    return want, got


def _without_soft_dirty(flags: Iterable[str]) -> list[str]:
    return [" ".join(word for word in row.split() if word != "sd") for row in flags]


def _by_call(expected: Observation, found: Observation) -> list[str]:
    return [name for name in BY_CALL if name in expected and name in found]


def asserting(case: Case, found: Observation) -> Case:
    """The case, each call asserting the result that was observed."""
    results = found.get("ret", ())
    calls = [
        call._replace(result=_result(results[index]) if index < len(results) else None)
        for index, call in enumerate(case.calls)
    ]
    return case.with_calls(calls)


class Item(NamedTuple):
    """One thing that two observations have differently, for people."""

    what: str
    expected: str
    found: str


def items(
    expected: Observation,
    found: Observation,
    fields: Iterable[str] = FIELDS,
    page_bytes: int = PAGE_BYTES,
) -> Iterator[Item]:
    """What two observations of the same program have differently: of each field the first.

    The name of the program and the spelling of its calls do not count.
    Arguments: `page_bytes` of a page, where they were made.
    """
    for name in fields:
        want, got = _pair(name, expected, found)
        if want == got:
            continue
        title, show = _TOLD[name]
        if isinstance(want, list) and isinstance(got, list):
            pairs = zip(want, got, strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(want), len(got)))
            shown = (show(x[at], page_bytes) if at < len(x) else "nothing" for x in (want, got))
            yield Item(title.format(at + 1), *shown)
        else:
            yield Item(title, show(want, page_bytes), show(got, page_bytes))


def told(
    case: Case,
    expected: Observation,
    found: Observation,
    real: str,
    other: str = "model",
    page_bytes: int = PAGE_BYTES,
) -> str:
    """The program with its results on both sides, and what else differs.

    `expected` is what the kernel called `real` did, `found` what the model, or the `other`, does,
    with pages of `page_bytes`.
    """
    lines = []
    for index, call in enumerate(asserting(case, expected).calls):
        line = format_call(call, page_bytes)
        parts = []
        for name in _by_call(expected, found):
            show = _TOLD[name][1]
            want, got = (show(side[name][index], page_bytes) for side in (expected, found))
            if want != got:
                before = f"page tables {want}, " if name == "pt" else ""
                parts.append(f"{before}{other}: {got}")
        lines.append(f"{line}    <-- {'; '.join(parts)}" if parts else line)
    for side, who in ((expected, real), (found, other)):
        if KERNEL in side:
            lines += [f"{who}'s console:", *(f"  {line}" for line in side[KERNEL]["lines"])]
    if "crash" in expected or "crash" in found:
        lines += [_told_end(side, who) for side, who in ((expected, real), (found, other))]
        return "\n".join(lines)
    fields = [name for name in shared(expected, found) if name not in BY_CALL]
    for item in items(expected, found, fields, page_bytes):
        lines.append(f"{item.what}: {real} {item.expected}, {other} {item.found}")
    if expected.get(LEFT):
        left = terms.size(expected[LEFT])
        lines.append(f"{real} keeps {left} of page tables after the last munmap")
    return "\n".join(lines)


def _told_end(side: Observation, who: str) -> str:
    """How a program ended."""
    said = f" ({side[SAID]})" if SAID in side else ""
    return f"{who}: {side.get('crash', 'ends')}{said}"


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


# How each field is told, and its title; {} is a number, from 1.
_PAGES = {
    "P": "private",
    "S": "shared",
    "Z": "the zero page",
    "H": "private, huge",
    "T": "shared, huge",
    "z": "the huge zero page",
    "G": "markers",
    "W": "swapped out",
}


def _told_result(plain: Any, page_bytes: int) -> str:
    return format_result(_result(plain), page_bytes)


def _told_size(length: Any) -> str:
    return "unknown" if length is None else terms.size(length)


def _told_vma(row: Any) -> str:
    start, end, protection, *behind = row
    of = f", object {behind[0]} at {behind[1]:#x}" if behind else ""
    return f"{Range(start, end)} {protection}{of}"


def _told_pages(run: Any, page_bytes: int) -> str:
    first, number, state, tag = run
    words = f"{_told_run((first, number), page_bytes)} {_PAGES.get(state, state)}"
    return f"{words}, {_told_tags(tag, number)}" if tag else words


def _told_contents(run: Any, page_bytes: int) -> str:
    first, number, tag = run
    return f"{_told_run((first, number), page_bytes)} {_told_tags(tag, number)}"


def _told_tags(tag: int, number: int) -> str:
    return f"contents {tag} to {tag + number - 1}" if number > 1 else f"content {tag}"


def _told_count(number: Any) -> str:
    return "unknown" if number is None else terms.count(number, "page")


def _told_run(run: Any, page_bytes: int) -> str:
    first, number = run
    return str(Range(first * page_bytes, (first + number) * page_bytes))


def _told_flags(flags: Any) -> str:
    return flags or "none"


def _told_kib(number: Any) -> str:
    return terms.size(number * 1024)


def _told_event(event: Any) -> str:
    kind, *numbers = event
    return " ".join((kind, *(f"{number:#x}" for number in numbers)))


def _told_warning(warned: Any) -> str:
    return "yes" if warned else "none"


def _whatever_the_page(show: Callable[[Any], str]) -> Callable[[Any, int], str]:
    return lambda value, page_bytes: show(value)


_TOLD: dict[str, tuple[str, Callable[[Any, int], str]]] = {
    "ret": ("result of call {}", _told_result),
    "pt": ("page tables after call {}", _whatever_the_page(_told_size)),
    "vmas": ("VMA {}", _whatever_the_page(_told_vma)),
    "pages": ("pages", _told_pages),
    "wp": ("write-protected for userfaultfd", _told_run),
    "sd": ("soft-dirty", _told_run),
    "flags": ("flags of VMA {}", _whatever_the_page(_told_flags)),
    "locked": ("locked", _whatever_the_page(_told_kib)),
    "swapped": ("in swap", _whatever_the_page(_told_kib)),
    "committed_pages": ("committed", _whatever_the_page(_told_count)),
    "used_huge": ("huge pages in use", _whatever_the_page(str)),
    "reserved_huge": ("huge pages reserved", _whatever_the_page(str)),
    "events": ("event {}", _whatever_the_page(_told_event)),
    "contents": ("contents", _told_contents),
    "pgtable_bytes": ("page tables at the end", _whatever_the_page(_told_size)),
    "rss_pages": ("resident", _whatever_the_page(_told_count)),
    "warn": ("warnings of the kernel", _whatever_the_page(_told_warning)),
}
assert _TOLD.keys() == {*FIELDS, *OPTIONAL}
