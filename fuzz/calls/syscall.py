"""What a call is: everything that the rest of the project has to know about one, in one value.

A call is declared once, in a file of this folder, and read by all: text and byte form, the model,
the arena's rule, the machine, the mutator, the guess of what is mapped, the minimizer.  Only the
oracle has an idea of its own of what each call does to memory.
"""

import enum
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from engine.base.points import MMAP_WRITE
from fuzz.calls.arena import Arena
from fuzz.calls.operand import Address, Operand
from fuzz.calls.record import Step


class Param(NamedTuple):
    """One operand of a call; `default` is what a shorter text form leaves out (None: required).

    `tag`: the kernel takes an address with a tag for the one without, on machines that have tags.
    """

    name: str
    kind: Operand
    default: int | None = None
    tag: bool = False


class Does(enum.IntFlag):
    """What a call may do, as far as somebody asks."""

    NOTHING = 0
    MAPS = enum.auto()  # has a mapping appear where none was
    MOVES = enum.auto()  # moves page tables
    REPLACES = enum.auto()  # leaves another address space behind, in success or in failure
    BEGINS = enum.auto()  # means something where nothing is mapped


class Returns(enum.Enum):
    """What stands behind the `=` of a call that succeeds."""

    NOTHING = enum.auto()  # 0
    ADDRESS = enum.auto()
    FAULTS = enum.auto()  # the pages that could not be accessed, if any


class Makes(enum.Enum):
    """Who can make a call."""

    KERNEL = enum.auto()  # any program: it is the system call of that name
    AGENT = enum.auto()  # any program: it is no system call, but an access
    MODEL = enum.auto()  # nobody but the model: no machine is asked for a case that has it
    EXEC = enum.auto()  # the kernel in the middle of an exec: a machine runs the case without it


class Span(NamedTuple):
    """A range that a call names, by the positions of its operands.

    From `start` on `length` bytes, or up to `end`; neither: it is about the page at `start`.
    `fresh`: there need be nothing yet.
    """

    start: int
    length: int | None = None
    end: int | None = None
    fresh: bool = False

    @property
    def is_point(self) -> bool:
        """Is it one page, whatever its size?"""
        return self.length is None and self.end is None

    def of(self, args: Sequence[int]) -> tuple[int, int]:
        """Its start and its length in bytes, of operands as a case has them."""
        start = args[self.start]
        if self.length is not None:
            return start, args[self.length]
        return start, args[self.end] - start if self.end is not None else 1


class Target(NamedTuple):
    """Where a call takes its span to: an address and a length, by the positions of the operands.

    The length follows that of the span.  `named` says whether operands name the place at all.
    """

    start: int
    length: int
    named: Callable[[Sequence[int]], bool]


class Acting(NamedTuple):
    """That others may make a call in the middle of another one (fuzz/calls/actors.py).

    `codes` see `Syscall`.  `by_thread`: it is done by a thread of the process; else by the kernel,
    or another process.  `slowly`: the same as the model step by step, for a last operand that is
    not 0: yields addresses at which it waits for the lock of a table.
    """

    codes: Sequence[int]
    by_thread: bool = False
    slowly: Callable[..., Generator[int, None, Any]] | None = None


def nothing_filled(args: Sequence[int], locking: bool) -> int:
    """It fills no pages; see `Syscall.fills`."""
    del args, locking
    return 0


def main_filled(args: Sequence[int], locking: bool) -> int:
    """It may fill all of its span, which is an address and a length."""
    del locking
    return args[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Syscall:
    """A call.

    Fields that all calls have: `number` is its place in lists, for good; `name`; `params`; `model`
    its function in the model, called with the space and the operands, addresses for offsets;
    `made_by` who can make it; `stays` the arena's rule: may it run, with these operands? (see
    fuzz/calls/arena.py); `record` how its operands are read from bytes, in the order in which they
    depend on each other; `codes` the first bytes of a record that stand for it, taken from whatever
    call of a lower number had them: so it is the likelier, the more there are.

    And: `does`; `returns`; `span` the range it names, `target` where it takes that; `unless_locked`
    whether it must not run if what lies at its address is locked; `lacks` names what its operands
    ask for and the model has not, "" if nothing; `locks` whether it locks memory;
    `fills` how many bytes it may fill with pages, told whether the program locks memory at all;
    `theme` how likely a scene is about it (fuzz/inputs/scene.py has weights of 1 to 4 for what it
    knows more of); `needs` the locks that it takes (engine.base.points), `acts` that it may be made
    in the middle of another call, and `base` of such a form of a call the call; `prepared_by` the
    call that it needs to mean anything; `refers_to` whose ranges it is likely to be about, if not
    those of that one; `guess` how it changes what is mapped, for who cannot run it
    (fuzz/calls/guess.py).
    """

    number: int
    name: str
    params: tuple[Param, ...]
    model: Callable[..., Any]
    made_by: Makes
    stays: Callable[..., bool]
    record: tuple[Step, ...]
    codes: Sequence[int]
    does: Does = Does.NOTHING
    returns: Returns = Returns.NOTHING
    span: Span | None = None
    target: Target | None = None
    unless_locked: Callable[..., bool] | None = None
    lacks: Callable[..., str] | None = None
    locks: Callable[[Sequence[int]], bool] | None = None
    fills: Callable[[Sequence[int], bool], int] = nothing_filled
    theme: int = 0
    needs: int = MMAP_WRITE
    acts: Acting | None = None
    base: "Syscall | None" = None
    prepared_by: str = ""
    refers_to: str = ""
    guess: Callable[..., None] | None = None

    def may_run(self, arena: Arena, *args: int) -> bool:
        """May it run with these operands, as far as they tell?  See fuzz/calls/arena.py."""
        return self.stays(arena, *args) and (self.lacks is None or not self.lacks(*args))

    @property
    def is_directive(self) -> bool:
        """Does it steer the calls behind it, and have no result?"""
        return self.name.startswith("@")

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """The positions of the operands that are addresses."""
        return tuple(i for i, param in enumerate(self.params) if isinstance(param.kind, Address))

    @cached_property
    def tagged(self) -> tuple[int, ...]:
        """The positions of the addresses that may have a tag."""
        return tuple(i for i, param in enumerate(self.params) if param.tag)

    @property
    def blank(self) -> tuple[int, ...]:
        """Operands that nobody has said anything about."""
        return tuple(param.default or 0 for param in self.params)
