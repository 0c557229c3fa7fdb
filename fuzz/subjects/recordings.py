"""Files of what kernels did with programs, and of programs alone: JSON lines."""

import errno
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeGuard, cast

from engine.base.address import WORD_MASK
from fuzz.case import Case, CaseError
from fuzz.forms.results import is_word
from fuzz.forms.text import parse_call
from fuzz.subjects.difference import BY_CALL
from fuzz.subjects.observe import FIELDS
from fuzz.subjects.subject import Observation

_PACKED: dict[str, Callable[[Path], object]] = {".gz": gzip.open, ".xz": lzma.open}
_DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError)


class TruthError(Exception):
    """A file of recordings, or of programs, that cannot be used; `line` counts from 1."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(path, line, why)
        self.path, self.line, self.why = path, line, why

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.why}"


class Recording(NamedTuple):
    """What a kernel did with a program."""

    case: Case
    observed: Observation


def is_json_lines(path: Path) -> bool:
    """Does the file hold JSON lines, rather than a case?  Errors raised: OSError."""
    try:
        with opened(path) as stream:
            return stream.read(1) == b"{"
    except (EOFError, *_DAMAGED):
        return True  # no case is packed; who reads the lines says what is wrong


def opened(path: Path) -> BinaryIO:
    """A file of recordings or programs, perhaps compressed.  Errors raised: OSError."""
    unpack = _PACKED.get(path.suffix)
    return cast(BinaryIO, unpack(path)) if unpack else path.open("rb")


def programs(path: Path) -> Iterator[tuple[str, Case]]:
    """Name and program of each line of a file of JSON lines with `id` and `ops`.

    Errors raised: TruthError, also if there is none; OSError.
    """
    for _, row, case in _rows(path, ("id", "ops")):
        yield row["id"], case


def recordings(path: Path) -> Iterator[Recording]:
    """What a file of recordings holds, in its order.

    Errors raised: TruthError at the first line that is not a whole recording, after those before
    it were yielded, and if there is none; OSError.
    """
    for line, row, case in _rows(path, ("id", "ops", *FIELDS)):
        if wrong := _wrong(row, len(case.calls)):
            raise TruthError(path, line, wrong)
        yield Recording(case, row)


def _wrong(row: Observation, calls: int) -> str:
    """What is not as an observation of so many calls has it; "" if all is (fuzz.subjects.observe).

    Files of others are read, too: whatever passes here can be compared and shown.
    """
    for name in BY_CALL:
        if not isinstance(row[name], list) or len(row[name]) != calls:
            return f"{name!r} must have an entry for each of the calls"
    for index, result in enumerate(row["ret"]):
        if not _is_result(result):
            known = isinstance(result, int) and errno.errorcode.get(-result)
            hint = f", here '-{known}'" if known else ""
            return f"ret[{index}] is no result: {result!r}; an error is written by its name{hint}"
    for name in ("vmas", "pages"):
        if not isinstance(row[name], list) or not all(isinstance(one, list) for one in row[name]):
            return f"{name!r} must be a list of lists"
    for name in ("pt", "pgtable_bytes", "rss_pages"):
        values = row[name] if name in BY_CALL else [row[name]]
        # Page tables from before the program may be gone: i386 PAE frees that of a gigabyte.
        fits = _is_count if name == "rss_pages" else _is_number
        if not all(map(fits, values)):
            return f"{name!r} must be made of numbers"
    return "" if isinstance(row["warn"], bool) else "'warn' must be true or false"


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


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, Observation, Case]]:
    """Number, object and program of each line.  Errors raised: TruthError, OSError."""
    number = found = 0
    try:
        with opened(path) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    found += 1
                    yield (number, *_row(path, number, line, needed))
    except EOFError:
        raise TruthError(path, number + 1, "the file is cut off here") from None
    except _DAMAGED as error:
        raise TruthError(path, number + 1, f"the file is damaged: {error}") from None
    if not found:
        raise TruthError(path, number + 1, "there is nothing in this file")


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
