"""Is an observation from outside like one?  Files of others are read, and workers answer, too."""

import errno
from collections.abc import Iterable
from typing import Any, TypeGuard

from engine.base.address import WORD_MASK
from fuzz.case import CaseError
from fuzz.forms.results import is_word
from fuzz.forms.text import parse_call
from fuzz.subjects.difference import BY_CALL, KERNEL
from fuzz.subjects.observe import OPTIONAL
from fuzz.subjects.subject import SAID, Observation
from fuzz.vm.console import KINDS


def wrong(row: Observation, calls: int) -> str:
    """What is not as an observation of so many calls has it; "" if all is (fuzz.subjects.observe).

    Whatever passes here can be compared and shown.  Fields may be missing, but for results.
    """
    if "crash" in row:
        said = row["crash"], row.get(SAID, "")
        return "" if all(isinstance(one, str) for one in said) else "'crash' must be a text"
    return _results(row, calls) or _state(row) or _report(row.get(KERNEL))


def _results(row: Observation, calls: int) -> str:
    for name in BY_CALL:
        told = row.get(name, () if name == "ret" else [None] * calls)
        if not isinstance(told, list) or len(told) != calls:
            return f"{name!r} must have an entry for each of the calls"
    for index, result in enumerate(row["ret"]):
        if not _is_result(result):
            known = isinstance(result, int) and errno.errorcode.get(-result)
            hint = f", here '-{known}'" if known else ""
            return f"ret[{index}] is no result: {result!r}; an error is written by its name{hint}"
    # Page tables from before the program may be gone: i386 PAE frees that of a gigabyte.
    return "" if all(map(_is_number, row.get("pt", ()))) else "'pt' must be made of numbers"


def _state(row: Observation) -> str:
    for name in ("vmas", "pages", "contents"):
        if row.get(name) is not None and not (
            isinstance(row[name], list) and all(isinstance(one, list) for one in row[name])
        ):
            return f"{name!r} must be a list of lists"
    for name in ("pgtable_bytes", "rss_pages", "execs", "left"):
        fits = _is_count if name == "rss_pages" else _is_number
        if name in row and not fits(row[name]):
            return f"{name!r} must be made of numbers"
    for name in OPTIONAL:
        if row.get(name) is not None and not isinstance(row[name], list | int):
            return f"{name!r} must be a list or a number"
    if row.get("flags") is not None and not _are_texts(row["flags"]):
        return "'flags' must be a list of texts"
    return "" if isinstance(row.get("warn", False), bool) else "'warn' must be true or false"


def _report(told: Any) -> str:
    """The same of what a machine's kernel reported (fuzz.subjects.vm), if it did."""
    if told is None:
        return ""
    fits = (
        isinstance(told, dict)
        and told.get("kind") in KINDS
        and isinstance(told.get("what"), str)
        and _are_texts(told.get("lines"))
        and isinstance(told.get("call", ""), str)
        and isinstance(told.get("end", False), bool)
        and _is_count(told.get("among", 0))
        and isinstance(told.get("after", []), list)
        and all(map(_is_program, told.get("after", [])))
    )
    return "" if fits else f"{KERNEL!r} is no report"


def _is_program(calls: object) -> bool:
    if not _are_texts(calls):
        return False
    try:
        return all(map(parse_call, calls))
    except CaseError:
        return False


def _are_texts(value: object) -> TypeGuard[Iterable[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: object) -> TypeGuard[int]:
    return _is_number(value) and value >= 0


def _is_result(value: object) -> bool:
    """Is it a result as `ret` has them?"""
    if isinstance(value, dict):
        return (
            bool(value) and value.keys() <= {"segv", "bus"} and all(map(_are_runs, value.values()))
        )
    if isinstance(value, str):
        return is_word(value)
    return _is_count(value) and value <= WORD_MASK


def _are_runs(value: object) -> bool:
    """Are they pages that faulted: pairs of a first page and a number of pages?"""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(r, list) and len(r) == 2 and all(map(_is_count, r)) for r in value)
    )
