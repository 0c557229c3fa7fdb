"""What an exported program checks: lines of C for each call, and for what is there at the end.

Where the kernel and its twin (`fuzz.export.twins`) differ the defect shows: such a check decides.
All others say that the program runs as it was meant to.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby, repeat
from typing import Any

from engine.base import uapi
from engine.base.kernel import base_of
from fuzz.asserted import broken
from fuzz.calls.registry import CALLS, DIRECTIVES
from fuzz.calls.syscall import Returns
from fuzz.case import Assertion, Call, Result
from fuzz.export.calls import PAGE_BYTES, address, expected, invocation, purpose
from fuzz.export.twins import Shown, Twins
from fuzz.forms.assertions import NOT, PAGE, UNMAPPED, VMA
from fuzz.subjects.subject import Observation

_COLUMNS = 92  # of a line without its tabs
_LITERAL = re.compile(r'"[^"]*"')
_UNSEEN_WORDS = ("writable",)  # of a page: no file of /proc tells
_EVENTS = (
    uapi.UFFD_FEATURE_EVENT_FORK
    | uapi.UFFD_FEATURE_EVENT_REMAP
    | uapi.UFFD_FEATURE_EVENT_REMOVE
    | uapi.UFFD_FEATURE_EVENT_UNMAP
)
_NO_MEMORY = -5  # what content() returns where nothing is mapped: EIO, of /proc/self/mem
# What a page is, in words of pagemap, by its state in an observation.
_STATES = {
    "P": ("present", "-huge"),
    "S": ("present", "-huge"),
    "Z": ("present", "-huge"),
    "H": ("present", "huge"),
    "T": ("present", "huge"),
    "z": ("present", "huge"),
    "G": ("-present", "-huge"),
    "W": ("-present", "-huge"),
    "": ("-present", "-huge"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """A check, in C: what is to come of `what`, by a macro whose name ends in `macro`.

    `wrong` is what comes of it with the defect: by that it shows; None: the same.  A call of which
    nothing is known (`right` None) is made, and not looked at.
    """

    macro: str
    what: str
    right: str | None
    wrong: str | None = None

    @property
    def decides(self) -> bool:
        """Does the defect show by it?"""
        return self.wrong is not None

    @property
    def line(self) -> str:
        """A statement."""
        if self.right is None:
            return f"{self.what};"
        if self.wrong is None:
            return f"EXPECT{self.macro}({self.what}, {self.right});"
        return f"DECIDE{self.macro}({self.what}, {self.right}, {self.wrong});"

    def of_promise(self) -> "Check":
        """The same where nothing but the right thing will do."""
        return replace(self, wrong=None)


@dataclass(frozen=True, slots=True)
class Step:
    """A call with the checks behind it; `note` says what it is there for, "" if that is plain."""

    note: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Checks:
    """Those of a program: `steps` one for each call, then those at the end."""

    steps: tuple[Step, ...]
    end: tuple[Check, ...]

    @property
    def all(self) -> Iterator[Check]:
        """In order."""
        for step in self.steps:
            yield from step.checks
        yield from self.end

    @property
    def decides(self) -> bool:
        """Can the defect be seen?"""
        return any(check.decides for check in self.all)

    def of_promises(self) -> "Checks":
        """The same where nothing but the right thing will do."""
        steps = (
            Step(step.note, tuple(check.of_promise() for check in step.checks))
            for step in self.steps
        )
        return Checks(tuple(steps), tuple(check.of_promise() for check in self.end))


def checks_of(pair: Twins) -> Checks:
    """What there is to check of a case."""
    steps = []
    asserted = list(_asserted(pair))
    for index, call in enumerate(pair.case.calls):
        checks = list(_call(pair, index, call))
        checks += [check for after, check in asserted if after == index + 1]
        result = pair.shown.results[index] if index < len(pair.shown.results) else 0
        steps.append(Step(purpose(call, result), tuple(checks)))
    return Checks(tuple(steps), tuple(_at_the_end(pair, [c for s in steps for c in s.checks])))


def either(macro: str, what: str, right: str | None, wrong: str) -> Check:
    """One of these, in C: a `right` that is None or the same as `wrong` does not decide."""
    if right is None or right == wrong:
        return Check(macro, what, wrong)
    return Check(macro, what, right, wrong)


def literal(text: str) -> str:
    """A text as C, of several pieces if it is a list."""
    return " ".join(f'"{piece}"' for piece in re.split(r"(?<=, )", text))


def wrapped(line: str, indent: str = "\t") -> str:
    """A statement in lines that are not too long; literals stay in one piece."""
    if len(line) <= _COLUMNS:
        return indent + line
    kept = _LITERAL.sub(lambda found: found[0].replace(" ", "\0"), line)
    lines = textwrap.wrap(
        kept, _COLUMNS, break_long_words=False, break_on_hyphens=False, subsequent_indent="\t\t"
    )
    return "\n".join(indent + one for one in lines).replace("\0", " ")


# --- Calls ----------------------------------------------------------------------------------------


def _call(pair: Twins, index: int, call: Call) -> Iterator[Check]:
    """A call, with its result, and the page tables behind it if these tell."""
    if call.name in DIRECTIVES or index >= len(pair.shown.results):
        return
    wrong = pair.shown.results[index]
    right = None
    if pair.right is not None and index < len(pair.right.results):
        right = pair.right.results[index]
    if wrong == "SKIP":
        return
    line = invocation(call)
    if "OUT" in (wrong, right):
        yield Check("", line, None)
    elif CALLS[call.name].returns is Returns.FAULTS:
        yield either("_TEXT", line, _faults(right), _faults(wrong) or "")
    else:
        yield either("", line, _value(call, right), _value(call, wrong) or "")
    if pair.right is not None:
        tables = [one.outcome.page_tables[index : index + 1] for one in (pair.right, pair.shown)]
        if all(tables) and tables[0] != tables[1]:
            first = [one.outcome.space.geometry.bytes_at_first for one in (pair.right, pair.shown)]
            kib = [(t[0] - f) >> 10 for t, f in zip(tables, first, strict=True)]
            yield Check("", "tables_kib()", str(kib[0]), str(kib[1]))


def _value(call: Call, result: Result | None) -> str | None:
    """A result as C."""
    if result is None:
        return None
    if isinstance(result, int) and CALLS[call.name].returns is Returns.ADDRESS:
        return address(result) if result or call.name in ("mmap", "mremap") else "0"
    return expected(result)


def _faults(result: Result | None) -> str | None:
    if result is None:
        return None
    return expected(result) if result else "NO_FAULTS"


# --- What the case asserts ------------------------------------------------------------------------


def _asserted(pair: Twins) -> Iterator[tuple[int, Check]]:
    """After how many calls, and the check of an assertion."""
    name = pair.kernel.name
    case = pair.case
    not_right = {}
    if pair.right is not None:
        not_right = {one.assertion: one.found for one in broken(case, pair.right.kernel)}
    not_shown = {one.assertion for one in broken(case, pair.kernel)}
    for one in case.assertions:
        if one.kernel in (None, name, base_of(name)) and one not in not_shown:
            for check in _assertion(one, not_right.get(one)):
                yield one.after, check


def _assertion(one: Assertion, otherwise: str | None) -> Iterator[Check]:
    """The checks of an assertion.

    Arguments: `otherwise` how it is on the twin, in the words of `fuzz.asserted`; None: the same.
    """
    if one.kind == PAGE:
        yield from _page(one, otherwise)
    elif one.kind == UNMAPPED:
        if otherwise is None:
            yield Check("_TEXT", _mapped(one), literal("nothing"))
    elif one.kind == VMA:
        row = f"{one.start:#x}-{one.end:#x} {one.words[0]}"
        there = [] if otherwise is None else otherwise.split("; ")
        right = there[0].split() if len(there) == 1 else []
        if otherwise is not None and " ".join(right[:2]) != row:
            return  # what is mapped at the end tells
        yield Check("_TEXT", _mapped(one), literal(row))
        if words := one.words[1:]:
            flags = None if otherwise is None else literal(_polarity(words, right[2:]))
            wrong = literal(" ".join(words))
            yield either("_FLAGS", address(one.start), flags, wrong)


def _mapped(one: Assertion) -> str:
    return f"mapped({address(one.start)}, {address(one.end)})"


def _page(one: Assertion, otherwise: str | None) -> Iterator[Check]:
    """The words of a page, then the number in it."""
    where = address(one.start)
    words = [w for w in one.words if w.removeprefix(NOT) not in _UNSEEN_WORDS]
    states = [word for word in words if not word.isdigit()]
    there = None if otherwise is None else otherwise.split()
    if states:
        right = None if there is None else literal(_polarity(states, there))
        yield either("_PAGE", where, right, literal(" ".join(states)))
    for number in (word for word in words if word.isdigit()):
        numbers = [] if there is None else [word for word in there if word.isdigit()]
        yield either("", f"content({where})", next(iter(numbers), None), number)


def _polarity(words: Iterable[str], there: Sequence[str]) -> str:
    """The same words, each with the sign that is true of what is there."""
    bare = [word.removeprefix(NOT) for word in words]
    return " ".join(word if word in there else NOT + word for word in bare)


# --- At the end -----------------------------------------------------------------------------------


def _at_the_end(pair: Twins, before: Iterable[Check]) -> Iterator[Check]:
    """What is there at the end, of the process; if that does not tell, what the system counts.

    Others change that meanwhile.  If it does not tell either, what is counted once all is unmapped.
    Arguments: `before` the checks behind the calls.
    """
    own = list(_own(pair))
    yield from own
    if pair.right is None or any(check.decides for check in (*before, *own)):
        return
    if "crash" in pair.shown.observation or "crash" in pair.right.observation:
        return
    counted = list(_counted(_SYSTEM, pair.shown.observation, pair.right.observation))
    if not counted and (left := list(_counted(_SYSTEM, pair.shown.left, pair.right.left))):
        counted = [Check("", _UNMAP_ALL.format(pair.kernel.geometry.arena.length), "0"), *left]
    yield from counted


def _own(pair: Twins) -> Iterator[Check]:
    """What is mapped, how pages are, what is in them, and what counts for the process alone."""
    shown = pair.shown.observation
    right = None if pair.right is None else pair.right.observation
    if "crash" in shown or (right is not None and "crash" in right):
        return
    arena = pair.kernel.geometry.arena.length
    whole = f"mapped({address(0)}, {address(arena)})"
    rows = [None if one is None else literal(_rows(one["vmas"])) for one in (right, shown)]
    yield either("_TEXT", whole, rows[0], rows[1] or "")
    if any(call.name == "uffd_register" and call.args[3] & _EVENTS for call in pair.case.calls):
        told = [None if one is None else literal(_events(one["events"])) for one in (right, shown)]
        yield either("_TEXT", "uffd_events()", told[0], told[1] or "")
    if right is not None:
        yield from _counted(_OF_THE_PROCESS, shown, right)
        yield from _differing_flags(shown, right)
        yield from _differing_marks(shown, right)
        yield from _differing_states(shown, right)
    if not any(call.name == "uffd_rwp" for call in pair.case.calls):  # a read would wait
        yield from _contents(pair)


def _rows(vmas: Sequence[Sequence[object]]) -> str:
    """VMAs as mapped() tells them."""
    return ", ".join(f"{start:#x}-{end:#x} {access}" for start, end, access, *_ in vmas) or (
        "nothing"
    )


_OF_THE_PROCESS = {
    "locked": "locked_kib()",
    "swapped": "swapped_kib()",
    "warn": "kernel_warned()",
}
_SYSTEM = {
    "committed_pages": "committed_kib()",
    "used_huge": "used_huge()",
    "reserved_huge": "reserved_huge()",
}
_UNMAP_ALL = "sys_munmap(AT(0x0), (unsigned long){:#x})"


def _counted(
    counters: Mapping[str, str], shown: Mapping[str, Any], right: Mapping[str, Any]
) -> Iterator[Check]:
    """What is counted, where that tells.  Arguments: `counters` by field what tells it in C."""
    for name, function in counters.items():
        if shown[name] != right[name]:
            unit = PAGE_BYTES >> 10 if name == "committed_pages" else 1
            yield Check("", function, *(str(int(one[name]) * unit) for one in (right, shown)))


def _events(events: Sequence[Sequence[object]]) -> str:
    """Events as uffd_events() tells them."""
    told = (f"{kind} {' '.join(f'{n:#x}' for n in numbers)}".strip() for kind, *numbers in events)
    return ", ".join(told) or "none"


def _differing_flags(shown: Observation, right: Observation) -> Iterator[Check]:
    """Flags of a mapping that both have."""
    if [row[:3] for row in shown["vmas"]] != [row[:3] for row in right["vmas"]]:
        return
    rows = zip(shown["vmas"], shown["flags"], right["flags"], strict=True)
    for (start, *_), wrong, good in rows:
        if words := set(wrong.split()) ^ set(good.split()):
            asked = sorted(words)
            values = (literal(_polarity(asked, one.split())) for one in (good, wrong))
            yield Check("_FLAGS", address(start), *values)


def _differing_marks(shown: Observation, right: Observation) -> Iterator[Check]:
    """A page that is protected by a userfaultfd, or soft-dirty, on one side only."""
    for name, word in (("wp", "uffd-wp"), ("sd", "soft-dirty")):
        wrong, good = (
            {page for first, n in one[name] for page in range(first, first + n)}
            for one in (shown, right)
        )
        if differing := sorted(wrong ^ good):
            page = differing[0]
            signs = ("" if page in one else NOT for one in (good, wrong))
            where = address(page * PAGE_BYTES)
            yield Check("_PAGE", where, *(literal(sign + word) for sign in signs))


def _differing_states(shown: Observation, right: Observation) -> Iterator[Check]:
    """A page that is there, or part of a huge page, on one side only."""
    wrong, good = (_states(one) for one in (shown, right))
    for page in sorted(wrong.keys() | good.keys()):
        found = [_STATES[one.get(page, "")] for one in (good, wrong)]
        words = [pair for pair in zip(*found, strict=True) if pair[0] != pair[1]]
        if words:
            values = (literal(" ".join(side)) for side in zip(*words, strict=True))
            yield Check("_PAGE", address(page * PAGE_BYTES), *values)
            return


def _states(one: Observation) -> dict[int, str]:
    return {page: state for first, n, state, _ in one["pages"] for page in range(first, first + n)}


def _contents(pair: Twins) -> Iterator[Check]:
    """The numbers in memory: where the twins differ, then all others that are there."""
    wrong = _numbers(pair.shown)
    good = wrong if pair.right is None else _numbers(pair.right)
    pages = sorted(wrong.keys() | good.keys())
    sides = [(page, good.get(page), wrong.get(page)) for page in pages]
    mapped = [] if pair.right is None else [_is_mapped(one) for one in (pair.right, pair.shown)]

    def kind(item: tuple[int, tuple[int, int | None, int | None]]) -> tuple[int, bool, bool]:
        """What belongs together: pages side by side that differ, or that do not."""
        at, (page, right, seen) = item
        zero = not right and not seen
        return page - at, right != seen, zero

    for (_, differ, _), group in groupby(enumerate(sides), kind):
        rows = [row for _, row in group]
        first, n = rows[0][0], len(rows)
        what = f"contents({address(first * PAGE_BYTES)}, {n})"
        seen = [row[2] or 0 for row in rows]
        if not differ:
            yield Check("_TEXT", what, literal(_told(seen)))
            continue
        values = []
        for side, is_mapped in zip((1, 2), mapped, strict=True):
            numbers = [(row[side] or 0) if is_mapped(row[0]) else _NO_MEMORY for row in rows]
            values.append(literal(_told(numbers)))
        if values[0] != values[1]:
            yield Check("_TEXT", what, *values)


def _numbers(one: Shown) -> dict[int, int]:
    """What is in each page that is there, or is not all zero."""
    there = {
        page: 0
        for first, n, state, _ in one.observation["pages"]
        if state in "PSHTZz"
        for page in range(first, first + n)
    }
    return there | {
        page: number + page - first
        for first, n, number in one.contents
        for page in range(first, first + n)
    }


def _is_mapped(one: Shown) -> Callable[[int], bool]:
    """Is there a mapping at a page?"""
    ranges = [
        (start // PAGE_BYTES, end // PAGE_BYTES) for start, end, *_ in one.observation["vmas"]
    ]
    return lambda page: any(start <= page < end for start, end in ranges)


def _told(numbers: Sequence[int]) -> str:
    """Numbers as contents() tells them."""
    first = numbers[0]
    steps = count(first) if first else repeat(0)
    if all(number == step for number, step in zip(numbers, steps, strict=False)):
        return f"{first} to {numbers[-1]}" if first > 0 and len(numbers) > 1 else str(first)
    return " ".join(map(str, numbers))
