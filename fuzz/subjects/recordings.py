"""Files of what kernels did with programs, and of programs alone: JSON lines."""

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from fuzz.case import Case, CaseError
from fuzz.forms.text import parse_call
from fuzz.subjects.observe import FIELDS
from fuzz.subjects.subject import Observation
from fuzz.subjects.wellformed import wrong

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
        if why := wrong(row, len(case.calls)):
            raise TruthError(path, line, why)
        yield Recording(case, row)


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
