"""Text in the columns that a mail has: paragraphs, calls."""

import re
import textwrap
from collections.abc import Iterable

from fuzz.export.check import COLUMNS
from fuzz.picture.svg import clean

_INDENT = " " * 4
_CALL_PIECE = re.compile(r"[^,|]*(?:, ?|\||$)")


def paragraph(text: str, indent: str = "") -> str:
    """A paragraph in lines that are not too long."""
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def header(name: str, text: str) -> str:
    """A header of a mail; what does not fit is in further lines of it (RFC 5322, 2.2.3)."""
    return "\n ".join(textwrap.wrap(f"{name}: {text}", COLUMNS - 1, break_on_hyphens=False))


def item(text: str) -> str:
    """A line that stands for itself; what does not fit is further to the right."""
    margin = " " * (len(text) - len(text.lstrip()))
    return textwrap.fill(
        text.strip(),
        COLUMNS,
        initial_indent=margin,
        subsequent_indent=f"{margin}  ",
        break_on_hyphens=False,
    )


def quoted(texts: Iterable[str], most: int = 2000) -> str:
    """What others have written, as text in one paragraph, further to the right.

    So no line of it is a header, a `Cc:` or a `From ` to the programs that send mails.
    Arguments: `most` characters that are kept.
    """
    return paragraph(clean(" ".join(texts), most), _INDENT)


def indented(lines: Iterable[str]) -> str:
    """Lines as they are, further to the right."""
    return "\n".join(f"{_INDENT}{line}".rstrip() for line in lines)


def call(line: str) -> list[str]:
    """A line of a case, folded behind `,` and `|` so that it still is one."""
    room = COLUMNS - 2 * len(_INDENT)
    lines = [""]
    for piece in _CALL_PIECE.findall(line):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > room:
            lines.append(_INDENT)
        lines[-1] += piece
    return [one.rstrip() for one in lines]
