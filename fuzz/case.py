"""What a case is: calls, their operands, and the outcome that is expected of them.

A case is a short program.  `SIGNATURES` is the one description of the calls; the text form, the
byte form and the minimizer all read it.  Addresses are offsets into the arena, in bytes.

Directives (`@limit`, `@fail`) stand among the calls and steer those that follow.  Everything
treats them as calls, except that they have no result and are written in their own way.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine.base import failures, limits
from engine.base.address import WORD_MASK
from engine.base.uapi import values

MAX_CALLS = 256
MAX_CASE_BYTES = 64 * 1024
MAX_POPULATED_PAGES = 16384  # one call never populates more: 64 MiB of 4 KiB pages


class Kind(enum.Enum):
    """What an operand means; decides how it is written, decoded and minimized."""

    ADDR = "address"
    LEN = "length"
    PROT = "protection"
    MAP = "map flags"
    REMAP = "remap flags"
    ADVICE = "advice"
    FD = "file descriptor"
    OFFSET = "file offset"
    MODE = "registration mode"
    FEATURES = "userfaultfd features"
    SWITCH = "switch"
    CPU = "CPU"
    FAILURE = "kind of failure"
    NTH = "attempt"
    LIMIT = "limit"
    AMOUNT = "amount"  # bytes or pieces, whatever the limit counts


class Param(NamedTuple):
    """One operand of a call; `default` is what a shorter text form leaves out (None: required)."""

    name: str
    kind: Kind
    default: int | None = None


_RANGE = (Param("addr", Kind.ADDR), Param("len", Kind.LEN))
_PAGE = (Param("addr", Kind.ADDR),)
_STACK = (Param("start", Kind.ADDR), Param("end", Kind.ADDR), Param("shift", Kind.LEN))

SIGNATURES: dict[str, tuple[Param, ...]] = {
    "mmap": (
        *_RANGE,
        Param("prot", Kind.PROT),
        Param("flags", Kind.MAP),
        Param("fd", Kind.FD, -1),
        Param("offset", Kind.OFFSET, 0),
    ),
    "munmap": _RANGE,
    "mprotect": (*_RANGE, Param("prot", Kind.PROT)),
    "mremap": (
        Param("old_address", Kind.ADDR),
        Param("old_size", Kind.LEN),
        Param("new_size", Kind.LEN),
        Param("flags", Kind.REMAP),
        Param("new_address", Kind.ADDR, 0),
    ),
    "madvise": (*_RANGE, Param("advice", Kind.ADVICE)),
    "mlock": _RANGE,
    "munlock": _RANGE,
    "touch": _RANGE,
    "peek": _RANGE,
    "execve_stack": _STACK,
    "relocate": _STACK,
    "mseal": _RANGE,
    "uffd_register": (
        *_RANGE,
        Param("mode", Kind.MODE),
        Param("features", Kind.FEATURES, 0),
    ),
    "uffd_wp": (*_RANGE, Param("on", Kind.SWITCH)),
    "fork": (),
    "exit_child": (),
    "swapout": _RANGE,
    "migrate_begin": _PAGE,
    "migrate_end": _PAGE,
    "soft_dirty_clear": (),
    "touch_on": (Param("cpu", Kind.CPU), *_PAGE),
    "@fail": (Param("kind", Kind.FAILURE), Param("nth", Kind.NTH)),
    "@limit": (Param("name", Kind.LIMIT), Param("value", Kind.AMOUNT)),
}
DIRECTIVES = frozenset(name for name in SIGNATURES if name.startswith("@"))

# The flags and the advice that cases know by name.
PROT_FLAGS = values("PROT_READ", "PROT_WRITE", "PROT_EXEC")
MAP_FLAGS = values(
    "MAP_SHARED",
    "MAP_PRIVATE",
    "MAP_FIXED",
    "MAP_ANONYMOUS",
    "MAP_GROWSDOWN",
    "MAP_LOCKED",
    "MAP_NORESERVE",
    "MAP_POPULATE",
    "MAP_HUGETLB",
    "MAP_FIXED_NOREPLACE",
)
REMAP_FLAGS = values("MREMAP_MAYMOVE", "MREMAP_FIXED", "MREMAP_DONTUNMAP")
ADVICE = values(
    "MADV_NORMAL",
    "MADV_RANDOM",
    "MADV_SEQUENTIAL",
    "MADV_WILLNEED",
    "MADV_DONTNEED",
    "MADV_FREE",
    "MADV_REMOVE",
    "MADV_DONTFORK",
    "MADV_DOFORK",
    "MADV_MERGEABLE",
    "MADV_UNMERGEABLE",
    "MADV_HUGEPAGE",
    "MADV_NOHUGEPAGE",
    "MADV_DONTDUMP",
    "MADV_DODUMP",
    "MADV_COLD",
    "MADV_PAGEOUT",
    "MADV_POPULATE_READ",
    "MADV_POPULATE_WRITE",
    "MADV_COLLAPSE",
    "MADV_GUARD_INSTALL",
    "MADV_GUARD_REMOVE",
)
UFFD_MODES = values(
    "UFFDIO_REGISTER_MODE_MISSING", "UFFDIO_REGISTER_MODE_WP", "UFFDIO_REGISTER_MODE_MINOR"
)
UFFD_FEATURES = values(
    "UFFD_FEATURE_EVENT_FORK",
    "UFFD_FEATURE_EVENT_REMAP",
    "UFFD_FEATURE_EVENT_REMOVE",
    "UFFD_FEATURE_EVENT_UNMAP",
)
# What can be made to fail, and what can be limited: names in place of numbers, by their position.
FAILURES = {name: i for i, name in enumerate(failures.KINDS)}
LIMITS = {name: i for i, name in enumerate(limits.KINDS)}
SYMBOLS: dict[Kind, dict[str, int]] = {
    Kind.PROT: PROT_FLAGS,
    Kind.MAP: MAP_FLAGS,
    Kind.REMAP: REMAP_FLAGS,
    Kind.ADVICE: ADVICE,
    Kind.MODE: UFFD_MODES,
    Kind.FEATURES: UFFD_FEATURES,
    Kind.FAILURE: FAILURES,
    Kind.LIMIT: LIMITS,
}
FLAG_KINDS = frozenset((Kind.PROT, Kind.MAP, Kind.REMAP, Kind.MODE, Kind.FEATURES))

_BOUNDS: dict[Kind, tuple[int, int]] = {
    Kind.FD: (-(1 << 31), (1 << 31) - 1),  # a C int
    Kind.SWITCH: (0, 1),
    Kind.CPU: (0, limits.CPUS - 1),
    Kind.FAILURE: (0, len(FAILURES) - 1),
    Kind.NTH: (1, 1 << 20),
    Kind.LIMIT: (0, len(LIMITS) - 1),
}


def bounds(kind: Kind) -> tuple[int, int]:
    """The least and the greatest value of an operand; of most, any 64-bit number."""
    return _BOUNDS.get(kind, (0, WORD_MASK))


class Faults(NamedTuple):
    """Result of a `touch` or `peek` that could not access every page.

    Runs of (first page number in the arena, count of pages), in address order.
    """

    segv: tuple[tuple[int, int], ...] = ()
    bus: tuple[tuple[int, int], ...] = ()


# An arena offset or 0; "-EINVAL" and the like; "SKIP", "OUT"; or the pages that faulted.
Result = int | str | Faults


class Call(NamedTuple):
    """One call; `args` has exactly one integer for each parameter of its signature."""

    name: str
    args: tuple[int, ...]
    result: Result | None = None  # what "= value" asserts

    def with_arg(self, index: int, value: int) -> "Call":
        """The same call with one operand replaced and no asserted result."""
        args = (*self.args[:index], value, *self.args[index + 1 :])
        return Call(self.name, args)


def call(name: str, *args: int) -> Call:
    """A call with its optional operands filled in.  Errors raised: TypeError on a wrong count."""
    params = SIGNATURES[name]
    missing = params[len(args) :]
    if len(args) > len(params) or any(param.default is None for param in missing):
        raise TypeError(f"{name} takes {len(params)} operands, got {len(args)}")
    return Call(name, args + tuple(param.default or 0 for param in missing))


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


@dataclass(frozen=True, slots=True)
class Case:
    """A program of calls, and what running it should show.

    `kernel` and `geometry` name what it runs on (None: the caller's choice); `expects` are its
    expectations; `found` are notes of the run that found it; `hypothetical` marks a state no
    caller in the kernel can reach; `comments` are the comment lines at its head.
    """

    calls: tuple[Call, ...] = ()
    kernel: str | None = None
    geometry: str | None = None
    expects: tuple[Expectation, ...] = ()
    found: tuple[str, ...] = ()
    hypothetical: bool = False
    comments: tuple[str, ...] = ()

    def with_calls(self, calls: Iterable[Call]) -> "Case":
        """The same case with other calls."""
        return replace(self, calls=tuple(calls))

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
        self.why, self.line, self.column, self.source, self.file = why, line, column, source, file
        where = ":".join(str(part) for part in (file, line, column) if part)
        shown = f"\n  {source}\n  {' ' * (column - 1)}^" if source and column else ""
        super().__init__(f"{where}: {why}{shown}" if where else f"{why}{shown}")
