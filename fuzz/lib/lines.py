"""Lines of text for people: columns, indented parts, paths as short as they can be."""

import contextlib
from collections.abc import Sequence
from pathlib import Path


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def fitted(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows as aligned columns in so many columns of the screen.

    A first cell for which there is no room stands on a line of its own, above the others of its
    row; if these alone do not fit, they stick out.
    """
    rest = [len(line) for line in columns([row[1:] for row in rows])]
    room = max(width - 2 - max(rest), 0)
    most = max((len(row[0]) for row in rows if len(row[0]) <= room), default=0)
    lines = columns([(row[0] if len(row[0]) <= most else " " * most, *row[1:]) for row in rows])
    found = []
    for row, line in zip(rows, lines, strict=True):
        found += [row[0], line] if len(row[0]) > most else [line]
    return found


def indented(lines: str) -> str:
    """The lines, each two columns further to the right."""
    return "\n".join(f"  {line}".rstrip() for line in lines.splitlines())


def several(number: int, what: str) -> str:
    """How many there are of what: 1 round, 3 rounds."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def short(path: Path) -> str:
    """A path as short as it can be written from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a file; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
