"""A check of an exported program: a line of C, and whether the defect shows by it."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace

COLUMNS = 75  # of a line, with tabs of 8
_TAB = " " * 8
_PIECE = 45  # columns of a literal
_LITERAL = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Check:
    """A check, in C: what is to come of `what`, by a macro whose name ends in `macro`.

    `wrong` is what comes of it with the defect: by that it shows; None: the same.  A call of which
    nothing is known (`right` None) is made, and what comes of it is told.
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
            return f"TELL{self.macro}({self.what});"
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


def either(macro: str, what: str, right: str | None, wrong: str) -> Check:
    """One of these, in C: a `right` that is None or the same as `wrong` does not decide."""
    if right is None or right == wrong:
        return Check(macro, what, wrong)
    return Check(macro, what, right, wrong)


def literal(text: str) -> str:
    """A text as C, in pieces of which several fit into a line."""
    pieces = [""]
    for word in re.findall(r"\S+ ?", text):
        if len(pieces[-1]) + len(word) > _PIECE:
            pieces.append("")
        pieces[-1] += word
    return " ".join(f'"{piece}"' for piece in pieces)


def wrapped(line: str) -> str:
    """A statement of a function in lines that fit into a mail; literals stay in one piece."""
    kept = _LITERAL.sub(lambda found: found[0].replace(" ", "\0"), line)
    lines = textwrap.wrap(
        kept,
        COLUMNS,
        initial_indent=_TAB,
        subsequent_indent=2 * _TAB,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace(_TAB, "\t").replace("\0", " ")
