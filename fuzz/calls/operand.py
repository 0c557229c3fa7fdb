"""Kinds of operands: what a number in a call means, and all that follows from that.

A kind is a value.  It knows which numbers there are, their names, which of them is the ordinary
one, and which are likely to do something; text form, byte form, minimizer, mutator and comparison
ask it.  So a call with a new kind of flags declares them, and nothing else has to change.
The kinds here are those that many calls have; others stand beside the call that has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from engine.base import uapi
from engine.base.address import WORD_MASK
from engine.base.geometry import Geometry
from engine.calls.file import FIRST_FD

C_INT = 0xFFFFFFFF  # the bits of one


@dataclass(frozen=True, eq=False, kw_only=True)
class Operand:
    """A kind of operand; kinds are compared by identity.

    `meaning` is what messages call it; `low` and `high` its least and greatest value; `taken` the
    bits that the kernel takes of the register; `ordinary` the value that it has unless it matters
    (None: no value is simpler than another); `likely` the values that are worth trying, with
    weights.  `counts_as` says what makes it larger: how far it is from the ordinary, or bytes.
    """

    counts_as: ClassVar[Literal["flags", "length", "address"]] = "flags"

    meaning: str
    low: int = 0
    high: int = WORD_MASK
    taken: int = WORD_MASK
    ordinary: int | None = None
    likely: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_word(self) -> bool:
        """Is it a number that takes a whole register, so that -1 is the greatest?"""
        return (self.low, self.high) == (0, WORD_MASK)

    def strangeness(self, value: int) -> int:
        """How far a value is from the ordinary one; 0 if it is that, or none is."""
        return int(self.ordinary is not None and value != self.ordinary)

    def choices(self, geometry: Geometry) -> Mapping[int, int]:
        """The likely values on a geometry, with weights."""
        del geometry
        return self.likely


class Address(Operand):
    """An address: in cases an offset into the arena, in bytes."""

    counts_as = "address"


class Offset(Operand):
    """An offset into a file, in bytes: likely are the pages around its beginning and its tables."""

    counts_as = "address"

    def choices(self, geometry: Geometry) -> Mapping[int, int]:
        """The beginning above all."""
        page, slot = geometry.page_bytes, geometry.slot_bytes
        some = {n * page: 4 for n in (1, 2, 3, 4)}
        return {0: 40, **some, slot: 6, slot - page: 2, slot + page: 2, 2 * slot: 2, page // 2: 1}


class Length(Operand):
    """Bytes of memory."""

    counts_as = "length"


@dataclass(frozen=True, eq=False, kw_only=True)
class Amount(Length):
    """Bytes or pieces, whatever a limit counts.

    Likely are `counts` of pieces, and bytes: so many `slots` and so many `pages`.
    """

    counts: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()
    pages: tuple[int, ...] = ()

    def choices(self, geometry: Geometry) -> Mapping[int, int]:
        """All alike: one table serves every limit."""
        sizes = [n * geometry.slot_bytes for n in self.slots]
        sizes += [n * geometry.page_bytes for n in self.pages]
        return dict.fromkeys((*self.counts, *sizes), 1)


class Size(Length):
    """Bytes of a file."""

    def choices(self, geometry: Geometry) -> Mapping[int, int]:
        """A few pages, a few slots, and about that."""
        page, slot = geometry.page_bytes, geometry.slot_bytes
        few = {n * page: 4 for n in (1, 2, 3, 4, 6, 8)}
        slots = {n * slot + more: 3 for n in (1, 2, 3) for more in (0, page, -page)}
        return {**few, **slots, 0: 1, page // 2: 1, page + 4: 1, 8 * slot: 2}


@dataclass(frozen=True, eq=False, kw_only=True)
class Number(Operand):
    """A number, written in decimal.  `tries` are those that are simple, the best first."""

    tries: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Descriptor(Number):
    """A file descriptor: those of a case's files have `names`."""

    names: Mapping[str, int]


class Nth(Number):
    """The first, the second, …: earlier is simpler."""

    def strangeness(self, value: int) -> int:
        """How many come before it."""
        return value - self.low


@dataclass(frozen=True, eq=False, kw_only=True)
class Symbols(Operand):
    """Values that have `names`."""

    names: Mapping[str, int]

    @property
    def by_value(self) -> Mapping[int, str]:
        """The names, by value."""
        return {value: name for name, value in self.names.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Choice(Symbols):
    """One of the named values, or another number if there are `others`."""

    others: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class Flags(Symbols):
    """A set of flags.

    `none` is the name of the empty set, if it has one.  `first` are the flags that people write
    first, whatever their value.  The bits of `number` are no flags but hold a number, whose values
    may have names, too (`numbers`).
    """

    ordinary: int = 0
    none: str = ""
    first: tuple[str, ...] = ()
    number: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """The bits that have a name, or are part of a number."""
        known = self.number
        for flag in self.names.values():
            known |= flag
        return known

    def strangeness(self, value: int) -> int:
        """How many bits differ from the ordinary ones."""
        return (value ^ self.ordinary).bit_count()


ADDR = Address(meaning="address")
LEN = Length(meaning="length")
OFFSET = Offset(meaning="file offset")
FILE_SIZE = Size(meaning="file size")
FILES = {chr(ord("A") + n): FIRST_FD + n for n in range(8)}
_READ_WRITE = uapi.PROT_READ | uapi.PROT_WRITE
PROT = Flags(
    meaning="protection",
    names=uapi.values(
        "PROT_READ", "PROT_WRITE", "PROT_EXEC", "PROT_SEM", "PROT_GROWSDOWN", "PROT_GROWSUP"
    ),
    none="PROT_NONE",
    ordinary=_READ_WRITE,
    likely={
        _READ_WRITE: 78,
        uapi.PROT_READ: 10,
        uapi.PROT_NONE: 5,
        _READ_WRITE | uapi.PROT_EXEC: 3,
        uapi.PROT_WRITE: 1,
        uapi.PROT_READ | uapi.PROT_EXEC: 1,
        uapi.PROT_EXEC: 1,
        uapi.PROT_SEM: 1,
        uapi.PROT_READ | uapi.PROT_GROWSDOWN: 1,
        _READ_WRITE | uapi.PROT_GROWSDOWN | uapi.PROT_GROWSUP: 1,
    },
)
