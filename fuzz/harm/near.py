"""Programs near a program: its calls, and more around the one that breaks a rule.

What is added is what real programs have and a minimal one has lost: pages in the ranges and beside
them, other CPUs, a child, a failure, somebody who uses the memory afterwards.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from engine.base.address import Range, round_down, round_up
from engine.base.geometry import Geometry
from engine.base.uapi import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.calls.directives import FAILURES
from fuzz.calls.registry import CALLS, call
from fuzz.case import Call, Result
from fuzz.minimize.ranges import Program, spans

_ATTEMPTS = 4  # of each kind that may fail: the first ones
_ONWARD_SLOTS = 4  # so far away nothing of the program is likely to lie
_SEVERAL = (1, 1, 2, 2, 3, 4, 6)  # additions of one kind, as often as each
_CPUS = (0, 1)


class Addition(NamedTuple):
    """Calls that are put before the call of that index, or at the end."""

    before: int
    calls: Program


class Near:
    """The programs near one.

    Arguments: `program` in search form (`fuzz.minimize.ranges`), as are those near it; `at` the
    index of the call that breaks a rule, and `result` what that returns.
    """

    def __init__(self, program: Program, at: int, result: Result, geometry: Geometry) -> None:
        self.program, self.at = program, at
        self.end = len(program)
        self.page, self.slot = geometry.page_bytes, geometry.slot_bytes
        self.arena = Range(0, geometry.arena.length)
        self.sides = self._whole(_sides(program[at], result))
        earlier = [span for call in program[:at] for span in spans(call)]
        self.places = self._whole([*self.sides, *earlier])
        self.kinds = [
            list(kind())
            for kind in (
                self._pages,
                self._neighbours,
                self._actors,
                self._failures,
                self._uses,
                self._moves,
                self._endings,
            )
        ]

    def programs(self) -> Iterator[Program]:
        """Each addition alone, then several at once, without end; the same each time."""
        for addition in (one for kind in self.kinds for one in kind):
            yield self._with([addition])
        random = Random(0)
        while any(self.kinds):
            chosen: list[Addition] = []
            for kind in self.kinds:
                if random.randrange(2):
                    several = min(random.choice(_SEVERAL), len(kind))
                    chosen += [kind[i] for i in sorted(random.sample(range(len(kind)), several))]
            yield self._with(chosen)

    def _with(self, additions: list[Addition]) -> Program:
        calls: list[Call] = []
        for index in range(self.end + 1):
            calls += [call for one in additions if one.before == index for call in one.calls]
            calls += self.program[index : index + 1]
        return tuple(calls)

    # Places, as arena offsets.

    def _whole(self, places: list[Range]) -> list[Range]:
        """Each of the places once, in whole pages, as far as the arena goes."""
        found = []
        for place in places:
            start = max(round_down(place.start, self.page), 0)
            end = min(round_up(place.end, self.page), self.arena.end)
            if start < end:
                found.append(Range(start, end))
        return list(dict.fromkeys(found))

    def _ends(self, place: Range) -> list[Range]:
        """All of a place, or its first and its last slot."""
        if place.length <= 2 * self.slot:
            return [place]
        low, high = place.start + self.slot, place.end - self.slot
        return [Range(place.start, low), Range(high, place.end)]

    def _corners(self, place: Range) -> list[int]:
        """Its first and its last page, and those at the first slot boundary inside."""
        boundary = round_up(place.start + 1, self.slot)
        pages = (place.start, place.end - self.page, boundary, boundary - self.page)
        return [page for page in dict.fromkeys(pages) if place.start <= page < place.end]

    def _beside(self) -> list[Range]:
        """Around both sides of the call in the same slots: a page at each end, and all there is."""
        found = []
        for side in self.sides:
            low, high = round_down(side.start, self.slot), round_up(side.end, self.slot)
            found += [
                Range(low, side.start),
                Range(side.start - self.page, side.start),
                Range(low, low + self.page),
                Range(side.end, high),
                Range(side.end, side.end + self.page),
                Range(high - self.page, high),
            ]
        free = [place for place in found if not any(place.overlaps(side) for side in self.sides)]
        return self._whole(free)

    # What is added.

    def _pages(self) -> Iterator[Addition]:
        """Pages are there: from the start, or right before the call."""
        for index, made in enumerate(self.program[: self.at]):
            for place in self._whole(list(spans(made))):
                for part in self._ends(place):
                    yield Addition(index + 1, (_on("touch", part),))
        for place in self.places:
            for part in self._ends(place):
                yield Addition(self.at, (_on("touch", part),))

    def _neighbours(self) -> Iterator[Addition]:
        """VMAs beside what the call is about, with pages."""
        for place in self._beside():
            for kind in (MAP_PRIVATE, MAP_SHARED):
                flags = kind | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
                mmap = _on("mmap", place, PROT_READ | PROT_WRITE, flags, -1, 0)
                yield Addition(self.at, (mmap, _on("touch", place)))

    def _actors(self) -> Iterator[Addition]:
        """Other CPUs have translations, a child shares the pages, the kernel takes them away."""
        for place in self.places:
            for page in self._corners(place):
                for cpu in _CPUS:
                    yield Addition(self.at, (Call("touch_on", (cpu, page)),))
                yield Addition(self.at, (call("migrate_begin", page),))
            yield Addition(self.at, (_on("swapout", place),))
            yield Addition(self.at, (_on("mlock", place),))
        yield Addition(self.at, (Call("fork", ()),))

    def _failures(self) -> Iterator[Addition]:
        """Something that the call asks for is refused."""
        for kind in FAILURES.values():
            for nth in range(1, _ATTEMPTS + 1):
                yield Addition(self.at, (Call("@fail", (kind, nth)),))

    def _uses(self) -> Iterator[Addition]:
        """The memory is used afterwards, also from another CPU and by a migration that ends."""
        for place in (*self.places, *self._beside()):
            for part in self._ends(place):
                yield Addition(self.end, (_on("peek", part),))
                yield Addition(self.end, (_on("touch", part),))
            for page in self._corners(place):
                yield Addition(self.end, (Call("touch_on", (_CPUS[0], page)),))
                yield Addition(self.end, (call("migrate_end", page),))

    def _moves(self) -> Iterator[Addition]:
        """One more move: the same again, back, or onward."""
        yield Addition(self.end, (self.program[self.at],))
        for place in self.sides:
            onward = place.start + _ONWARD_SLOTS * self.slot
            for target in (*(side.start for side in self.sides), onward):
                flags = MREMAP_MAYMOVE | MREMAP_FIXED
                move = _on("mremap", place, place.length, flags, target)
                if target != place.start:
                    yield Addition(self.end, (move,))

    def _endings(self) -> Iterator[Addition]:
        """Everything goes: a place, its slots, the child, and at last all that there is."""
        for place in self.places:
            yield Addition(self.end, (_on("madvise", place, MADV_DONTNEED),))
            yield Addition(self.end, (_on("munmap", place),))
        yield Addition(self.end, (Call("exit_child", ()),))
        yield Addition(self.end, (_on("munmap", self.arena),))


def _on(name: str, place: Range, *operands: int) -> Call:
    """A call on a range."""
    return Call(name, (place.start, place.length, *operands))


def _sides(call: Call, result: Result) -> list[Range]:
    """The ranges that a call in search form is about, and where it has taken memory to."""
    sides = list(spans(call))
    declared = CALLS[call.name]
    if declared.span is not None and declared.span.end is not None:  # a stack, which goes down
        shift = call.args[-1]
        sides += [Range(side.start - shift, side.end - shift) for side in sides]
    elif declared.target is not None and isinstance(result, int):
        sides.append(Range(result, result + call.args[declared.target.length]))
    return sides
