"""What a case is: calls, their operands, and the outcome that is expected of them.

A case is a short program.  What calls there are, and what their operands mean, is declared in
`fuzz.calls`.  Addresses are offsets into the arena, in bytes.

Directives (`@limit`, `@fail`, `@at`) stand among the calls and steer those that follow.  Everything
treats them as calls, except that they are written in their own way and have no result; that of
`@at` is what comes of the call that somebody else makes then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine.base.kernel import base_of

MAX_CALLS = 256
MAX_CASE_BYTES = 64 * 1024
MAX_POPULATED_PAGES = 16384  # one call never populates more: 64 MiB of 4 KiB pages
MARKS = "mark: "  # begins a comment that names marks of the model (`fuzz.reach.marks`)


class Faults(NamedTuple):
    """Result of a `touch` or `peek` that could not access every page.

    Runs of (first page number in the arena, count of pages), in address order.
    """

    segv: tuple[tuple[int, int], ...] = ()
    bus: tuple[tuple[int, int], ...] = ()


# An arena offset or 0; "-EINVAL" and the like; "SKIP", "OUT"; or the pages that faulted.
Result = int | str | Faults
# Of what was to come in between: it would have waited for a lock there; nothing has come there.
WAITS, NEVER = "WAITS", "NEVER"


class ByKernel(NamedTuple):
    """A result that is asserted of some kernels by name, and perhaps one of all others."""

    otherwise: Result | None
    of: tuple[tuple[str, Result], ...]


class Call(NamedTuple):
    """One call; `args` has exactly one integer for each parameter of its signature."""

    name: str
    args: tuple[int, ...]
    result: Result | ByKernel | None = None  # what "= value" asserts

    def asserted(self, kernel: str) -> Result | None:
        """The result that it must have on the kernel of that name, or on its base; None: any."""
        if not isinstance(self.result, ByKernel):
            return self.result
        of = dict(self.result.of)
        return of.get(kernel, of.get(base_of(kernel), self.result.otherwise))

    def with_arg(self, index: int, value: int) -> "Call":
        """The same call with one operand replaced and no asserted result."""
        args = (*self.args[:index], value, *self.args[index + 1 :])
        return Call(self.name, args)


class Between(NamedTuple):
    """What somebody else did in the middle of a call, with its result.

    `went` is where pages of the call may have been by then: [start, end) at their new place, and
    how far that is from the old one, bytes.  `behind`: the call was over, but for what it does
    without the mmap lock.
    """

    call: Call
    went: tuple[tuple[int, int, int], ...] = ()
    behind: bool = False


def limits_are_in_place(calls: Sequence[Call]) -> bool:
    """Do the limits of a program stand before everything else, each of them once?"""
    limited = [c.args[0] for c in calls if c.name == "@limit"]
    return not limited or (
        len(set(limited)) == len(limited) and all(c.name == "@limit" for c in calls[: len(limited)])
    )


class Expectation(NamedTuple):
    """`@expect [KERNEL] ok|RULE`; `kernel` None stands for the case's own kernel."""

    kernel: str | None
    outcome: str  # "ok" or the slug of a rule


class Assertion(NamedTuple):
    """What must hold behind the first `after` calls, on one kernel or (None) on all.

    `kind` is what it is about, `start` and `end` where, in bytes of the arena; a page has only a
    start.  `words` say how that must be; `fuzz.asserted` knows them.
    """

    after: int
    kind: str
    kernel: str | None
    start: int
    end: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A program of calls, and what running it should show.

    `kernel` and `geometry` name what it runs on (None: the caller's choice); `expects` are its
    expectations; `found` are notes of the run that found it; `hypothetical` marks a state no
    caller in the kernel can reach; `comments` are the comment lines at its head; `assertions` are
    about the state between its calls, in order; `like` names the kernel whose every step its own
    must take.
    """

    calls: tuple[Call, ...] = ()
    kernel: str | None = None
    geometry: str | None = None
    expects: tuple[Expectation, ...] = ()
    found: tuple[str, ...] = ()
    hypothetical: bool = False
    comments: tuple[str, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    like: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The comments that speak to whoever gets it: not which marks of the model it explains."""
        return tuple(line for line in self.comments if not line.startswith(MARKS))

    def with_calls(self, calls: Iterable[Call]) -> "Case":
        """The same case with other calls, between which nothing is asserted."""
        return replace(self, calls=tuple(calls), assertions=())

    def program(self) -> "Case":
        """The calls and directives alone: no header, no asserted results."""
        return Case(tuple([c if c.result is None else Call(c.name, c.args) for c in self.calls]))


class CaseError(ValueError):
    """Text that is not a case: where it is wrong, and why.

    `line` and `column` count from 1; 0 where the whole file is meant.
    """

    def __init__(
        self, why: str, line: int = 0, column: int = 0, source: str = "", file: str = ""
    ) -> None:
        super().__init__(why, line, column, source, file)
        self.why, self.line, self.column, self.source, self.file = why, line, column, source, file

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        pointer = f"\n  {self.source}\n  {' ' * (self.column - 1)}^"
        shown = self.why + (pointer if self.source and self.column else "")
        return f"{where}: {shown}" if where else shown
