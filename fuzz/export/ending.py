"""Checks of what is there at the end of a program: of the process, or else of the system."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from engine.base import uapi
from fuzz.export.assertions import polarity
from fuzz.export.check import Check, either, literal
from fuzz.export.twins import OF_THE_SYSTEM, Shown, Twins
from fuzz.forms.assertions import NOT
from fuzz.forms.c import address
from fuzz.subjects.subject import Observation

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


def of_the_process(pair: Twins) -> Iterator[Check]:
    """What is mapped, how pages are, what is in them, what is counted for the process alone."""
    shown = pair.shown.observation
    right = None if pair.right is None else pair.right.observation
    if not pair.comparable:
        return
    rows = [None if one is None else literal(_rows(one["vmas"])) for one in (right, shown)]
    yield either("_TEXT", "all_mapped()", rows[0], rows[1] or "")
    if any(call.name == "uffd_register" and call.args[3] & _EVENTS for call in pair.case.calls):
        told = [None if one is None else literal(_events(one["events"])) for one in (right, shown)]
        yield either("_TEXT", "uffd_events()", told[0], told[1] or "")
    page_bytes = pair.kernel.geometry.page_bytes
    if right is not None:
        yield from _counted(_OF_THE_PROCESS, shown, right)
        yield from _differing_flags(shown, right)
        yield from _differing_marks(shown, right, page_bytes)
        yield from _differing_states(shown, right, page_bytes)
    if not any(call.name == "uffd_rwp" for call in pair.case.calls):  # a read would wait
        yield from _contents(pair)


def of_the_system(pair: Twins) -> Iterator[Check]:
    """What the system counts, where that tells."""
    if pair.right is not None:
        yield from _counted(_OF_THE_SYSTEM, pair.shown.observation, pair.right.observation)


def left_to_the_system(pair: Twins) -> Iterator[Check]:
    """What it still counts once all is unmapped, where that tells."""
    if pair.right is not None:
        yield Check("", "unmap_all()", "0")
        yield from _counted(_OF_THE_SYSTEM, pair.shown.left, pair.right.left)


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
_OF_THE_SYSTEM = {name: f"{name}()" for name in OF_THE_SYSTEM}


def _counted(
    counters: Mapping[str, str], shown: Mapping[str, Any], right: Mapping[str, Any]
) -> Iterator[Check]:
    """What is counted, where that tells.  Arguments: `counters` by field what tells it in C."""
    for name, function in counters.items():
        if shown[name] != right[name]:
            yield Check("", function, *(str(int(one[name])) for one in (right, shown)))


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
            values = (literal(polarity(asked, one.split())) for one in (good, wrong))
            yield Check("_FLAGS", address(start), *values)


def _differing_marks(shown: Observation, right: Observation, page_bytes: int) -> Iterator[Check]:
    """A page that is protected by a userfaultfd, or soft-dirty, on one side only."""
    for name, word in (("wp", "uffd-wp"), ("sd", "soft-dirty")):
        wrong, good = (
            {page for first, n in one[name] for page in range(first, first + n)}
            for one in (shown, right)
        )
        if differing := sorted(wrong ^ good):
            page = differing[0]
            signs = ("" if page in one else NOT for one in (good, wrong))
            where = address(page * page_bytes)
            yield Check("_PAGE", where, *(literal(sign + word) for sign in signs))


def _differing_states(shown: Observation, right: Observation, page_bytes: int) -> Iterator[Check]:
    """A page that is there, or part of a huge page, on one side only."""
    wrong, good = (_states(one) for one in (shown, right))
    for page in sorted(wrong.keys() | good.keys()):
        found = [_STATES[one.get(page, "")] for one in (good, wrong)]
        words = [pair for pair in zip(*found, strict=True) if pair[0] != pair[1]]
        if words:
            values = (literal(" ".join(side)) for side in zip(*words, strict=True))
            yield Check("_PAGE", address(page * page_bytes), *values)
            return


def _states(one: Observation) -> dict[int, str]:
    return {page: state for first, n, state, _ in one["pages"] for page in range(first, first + n)}


def _contents(pair: Twins) -> Iterator[Check]:
    """The numbers in memory: where the twins differ, then all others that are there."""
    page_bytes = pair.kernel.geometry.page_bytes
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
        what = f"contents({address(first * page_bytes)}, {n})"
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
    page_bytes = one.kernel.geometry.page_bytes
    ranges = [
        (start // page_bytes, end // page_bytes) for start, end, *_ in one.observation["vmas"]
    ]
    return lambda page: any(start <= page < end for start, end in ranges)


def _told(numbers: Sequence[int]) -> str:
    """Numbers as contents() tells them."""

    def kind(item: tuple[int, int]) -> tuple[int, bool]:
        """What goes on: numbers that count up, or that are the same."""
        at, number = item
        return (number - at, True) if number > 0 else (number, False)

    told = []
    for (_, counts), group in groupby(enumerate(numbers), kind):
        run = [number for _, number in group]
        more = f" to {run[-1]}" if counts else f" * {len(run)}"
        told.append(f"{run[0]}{more if len(run) > 1 else ''}")
    return ", ".join(told)
