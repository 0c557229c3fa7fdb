"""What every part of a case's text is read with: words, numbers, and what is wrong with one."""

import re
from collections.abc import Callable
from typing import NoReturn

from engine.base.address import WORD_MASK
from engine.base.geometry import UnknownName

BLANK = " \t"
MARGIN = " \t\r"  # a carriage return may end a line
WORD = re.compile(r"[^ \t\r]+")
_NUMBER = re.compile(r"-?(?:0x[0-9a-fA-F]+|0|[1-9][0-9]*)")


class Wrong(Exception):
    """Why a piece of text is wrong, and at which offset of the piece, from 0."""

    def __init__(self, why: str, offset: int) -> None:
        super().__init__(why, offset)
        self.why, self.offset = why, offset

    def __str__(self) -> str:
        return self.why


def after(text: str, end: int) -> NoReturn:
    """Blame what follows an operand that is complete at offset `end`."""
    word = WORD.search(text, end)
    if word is None or word.start() == end:  # a carriage return is no word
        raise Wrong(f"expected ',' or ')', found {text[end]!r}", end)
    raise Wrong(f"missing ',' before {word[0]!r}", word.start())


def read_number(text: str, low: int = -(1 << 63), high: int = WORD_MASK) -> int:
    """The number that `text` is, in [low, high]."""
    match = _NUMBER.match(text)
    if match is None:
        found = WORD.match(text)
        raise Wrong(f"expected a number, found {found[0] if found else 'nothing'!r}", 0)
    end = match.end()
    if end < len(text):
        if text[end].isalnum() or text[end] == "_":
            word = text.split(maxsplit=1)[0]
            octal = "; a decimal number has no leading zero" if match[0].lstrip("-") == "0" else ""
            raise Wrong(f"{word!r} is not a number{octal}", 0)
        after(text, end)
    try:
        value = int(text, 0)
    except ValueError:  # more decimal digits than int() agrees to read
        value = high + 1
    if not low <= value <= high:
        raise Wrong(f"{text[:24]} is out of range: {low:#x} to {high:#x}", 0)
    return value


def known_name(look_up: Callable[[str], object], name: str, offset: int) -> None:
    """Refuse a name that `look_up` does not know."""
    try:
        look_up(name)
    except UnknownName as unknown:
        raise Wrong(str(unknown), offset) from None
