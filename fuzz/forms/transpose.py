"""The same program on a geometry with larger or smaller tables.

A page keeps its place in its tables, counted from the nearer end: the third entry stays the third,
the last but one the last but one.  So boundaries stay boundaries, neighbours stay neighbours, and a
range that fills a table fills one.
"""

from dataclasses import replace

from engine.base.geometry import PTE, Geometry
from engine.base.uapi import MREMAP_FIXED
from fuzz.calls.directives import LIMITS
from fuzz.calls.operand import Address, Amount, Length, Offset, Size
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case

_COUNTED = LIMITS["map_count"]  # the limit that is no number of bytes


def transposed(case: Case, old: Geometry, new: Geometry) -> Case:
    """The case as a program of geometry `new`, with its header; asserted results are left out.

    It may not show what the case shows: what depends on how many pages a table holds does not.
    """
    moved = _Transposition(old, new)
    calls = tuple(Call(call.name, moved.operands(call)) for call in case.calls)
    return replace(case, calls=calls, geometry=new.name)


class _Transposition:
    def __init__(self, old: Geometry, new: Geometry) -> None:
        self._old, self._new = old, new

    def place(self, offset: int) -> int:
        """Where an arena offset goes; one beyond the arena stays."""
        old, new = self._old, self._new
        if offset >= old.arena.length:
            return offset
        place = offset & (min(old.page_bytes, new.page_bytes) - 1)
        for level in range(PTE, min(old.levels, new.levels) + 1):
            index = offset >> old.entry_shift[level] & old.index_mask[level]
            if index > old.index_mask[level] // 2:
                index += new.index_mask[level] - old.index_mask[level]
            place += index << new.entry_shift[level]
        return place

    def operands(self, call: Call) -> tuple[int, ...]:
        """The operands of a call."""
        args = list(call.args)
        base = 0
        params = CALLS[call.name].params
        for number, (param, value) in enumerate(zip(params, call.args, strict=True)):
            if isinstance(param.kind, Address):
                base = value
                args[number] = self.place(value)
            elif isinstance(param.kind, Offset | Size):
                args[number] = self.place(value)
            elif isinstance(param.kind, Amount):
                if call.args[0] != _COUNTED:
                    args[number] = self.place(value)
            elif isinstance(param.kind, Length):
                if call.name == "mremap" and number == 2 and call.args[3] & MREMAP_FIXED:
                    base = call.args[4]  # the new size is that of the new place
                args[number] = self.length(base, value, down=param.name == "shift")
        return tuple(args)

    def length(self, base: int, length: int, *, down: bool) -> int:
        """A number of bytes above an offset, or below it; one that leaves the arena stays."""
        end = base - length if down else base + length
        if not 0 <= end <= self._old.arena.length:
            return length
        return abs(self.place(end) - self.place(base))
