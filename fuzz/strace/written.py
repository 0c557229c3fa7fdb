"""What a traced process writes to its standard output, line by line.

strace shows the beginning of each write, as a literal of C, with `...` behind it if there is more.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_WRITE = re.compile(
    r'(?:fd=)?1(?:<[^"]*>)?, (?:buf=)?"(?P<text>(?:[^"\\]|\\.)*)"(?P<cut>\.\.\.)?, '
    r"(?:count=)?(?P<rest>(?P<length>\d{1,10}).*)",
    re.S,
)
_COUNT = re.compile(r"\d{1,10}")
_ESCAPE = re.compile(r"\\(x[0-9a-f]{1,2}|[0-7]{1,3}|.)", re.S)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f"}
PIECE = 32  # bytes that exported programs write at a time: strace shows as many
_MOST = 1 << 17  # characters of a line that is waited for


class Write(NamedTuple):
    """What was written, as far as the log shows it, and how many bytes there were."""

    text: str
    length: int

    @property
    def is_cut(self) -> bool:
        """Does the log show its front alone?"""
        return len(self.text) < self.length


def written(operands: str, result: str) -> Write | None:
    """A write to standard output; None: it was to something else, or failed.

    On a terminal the program's own output stands behind the operands, in place of a result.
    """
    match = _WRITE.fullmatch(operands)
    if match is None:
        return None
    text = _ESCAPE.sub(_unescaped, match["text"])
    # What is not cut is as long as it is: a digit more belongs to what was written.
    number = match["length"] if match["cut"] else str(len(text))
    length, rest = int(number), f"{match['rest']}) = {result}".removeprefix(number)
    first = text.partition("\n")[0]
    if rest.startswith(") = ") and not (first and rest.startswith(first)):
        count = _COUNT.match(result)
        if count is None:
            return None
        length = int(count[0])
    return Write(text[:length], length if match["cut"] else min(length, len(text)))


def _unescaped(match: re.Match[str]) -> str:
    word = match[1]
    if word[0] == "x" and len(word) > 1:
        return chr(int(word[1:], 16))
    return chr(int(word, 8)) if word[0] in "01234567" else _NAMED.get(word, word)


@dataclass(slots=True)
class Lines:
    """Lines that come in pieces."""

    _pieces: list[str] = field(default_factory=list)
    _length: int = 0

    def add(self, text: str) -> list[str]:
        """The lines that a piece completes, without their ends; the front of what is too long."""
        first, *more = text.split("\n")
        if self._length <= _MOST:
            self._pieces.append(first)
            self._length += len(first)
        if not more:
            return []
        lines = ["".join(self._pieces), *more[:-1]]
        self._pieces, self._length = [more[-1]], len(more[-1])
        return lines

    def clear(self) -> None:
        """What was begun does not go on."""
        self._pieces, self._length = [], 0
