"""Programs as somebody writes a generator who knows the calls, and what their operands mean.

The contestants beside this fuzzer share it, and differ in what draws the numbers.  A call is about
something that an earlier one has mapped, more often than not; flags are those that the calls
declare as likely; lengths are pages or whole slots.  It knows no plan and no feedback.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, TypeVar

from engine.base.geometry import Geometry
from fuzz.calls.guess import Mapped
from fuzz.calls.operand import Address, Length, Number, Offset, Operand
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case, limits_are_in_place

T = TypeVar("T")

MAIN = ("mmap", "touch", "mremap")  # what nearly every program is about
OTHERS = tuple(name for name in CALLS if name not in MAIN)
_MAIN_SHARE = 3  # calls of five
_PAGES = 5  # of a small range
_SLOTS = 3  # of a large one
_PLACES = 8  # slots in which new ranges begin
MOST_CALLS = 12


class Draw(Protocol):
    """Where numbers come from."""

    def integer(self, low: int, high: int) -> int:
        """One of low … high."""


class Writer:
    """Writes one program, call by call; `draw` is where the numbers come from."""

    def __init__(self, draw: Draw, geometry: Geometry) -> None:
        self.draw = draw
        self._geometry = geometry
        self._page, self._slot = geometry.page_bytes, geometry.slot_bytes
        self._mapped = Mapped(geometry.arena.length, self._page)
        self._calls: list[Call] = []

    @property
    def case(self) -> Case:
        """What is written so far."""
        return Case(tuple(self._calls))

    def program(self) -> Case:
        """A whole program: a mapping first, or a limit, which stands before everything."""
        if not self.draw.integer(0, 7):
            self.call("@limit")
        self.call("mmap")
        for _ in range(self.draw.integer(1, MOST_CALLS - 2)):
            main = self.draw.integer(1, 5) <= _MAIN_SHARE
            self.call(self._one_of(MAIN if main else OTHERS))
        return self.case

    def call(self, name: str, *given: int) -> None:
        """One call more.  Arguments: `given` operands, the first ones; the others are drawn."""
        declared = CALLS[name]
        args = list(given)
        for param in declared.params[len(given) :]:
            args.append(self.operand(param.kind))
        self._calls.append(Call(name, tuple(args)))
        if not limits_are_in_place(self._calls):
            self._calls.pop()  # limits stand first, each of them once
        elif declared.guess is not None:
            declared.guess(self._mapped, *args)

    def operand(self, kind: Operand) -> int:
        """A value of that kind."""
        if choices := kind.choices(self._geometry):
            sums = list(accumulate(choices.values()))
            return list(choices)[bisect_right(sums, self.draw.integer(0, sums[-1] - 1))]
        if isinstance(kind, Address):
            return self.address()
        if isinstance(kind, Length):
            return self.length()
        if isinstance(kind, Offset):
            return self.draw.integer(0, _PAGES) * self._page
        if isinstance(kind, Number):
            return self.draw.integer(kind.low, min(kind.high, kind.low + 8))
        return kind.low if kind.ordinary is None else kind.ordinary

    def address(self) -> int:
        """In or beside something that is mapped, mostly; else at or near the start of a slot."""
        spans = self._mapped.spans
        if not spans or not self.draw.integer(0, 3):
            return self.place()
        start, length = self._one_of(spans)
        match self.draw.integer(0, 5):
            case 0 | 1 | 2:
                return start
            case 3:
                return start + length
            case 4:
                return start + self.draw.integer(0, max(length // self._page - 1, 0)) * self._page
            case _:
                return min(start // self._slot * self._slot + self._slot, start + length)

    def place(self) -> int:
        """At the start of a slot, or a page or two beside it."""
        pages = self._one_of((0, 0, 0, 1, 2, -1))
        slot = self.draw.integer(1, _PLACES) * self._slot
        return min(slot + pages * self._page, self._geometry.arena.length - self._page)

    def length(self) -> int:
        """A few pages, a few slots, or as long as something that is mapped."""
        spans = self._mapped.spans
        match self.draw.integer(0, 3):
            case 0 | 1:
                return self.draw.integer(1, _PAGES) * self._page
            case 2 if spans:
                return self._one_of(spans)[1]
            case _:
                return self.draw.integer(1, _SLOTS) * self._slot

    def _one_of(self, values: Sequence[T]) -> T:
        return values[self.draw.integer(0, len(values) - 1)]
