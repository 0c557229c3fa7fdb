"""What exec does to its stack: execve_stack, and relocate, the move of it alone."""

from collections.abc import Sequence

from engine.stack import execve_stack, relocate
from fuzz.calls.arena import Arena
from fuzz.calls.guess import Mapped
from fuzz.calls.operand import ADDR, LEN
from fuzz.calls.record import (
    EXISTING,
    FIELDS,
    SHIFT_LEN,
    SOURCE_LEN,
    STACK_END,
    STACK_LEN,
    Reads,
    Step,
    address,
    length,
)
from fuzz.calls.syscall import Does, Makes, Param, Span, Syscall

_PARAMS = (Param("start", ADDR), Param("end", ADDR), Param("shift", LEN))
_SHIFT = length(2, 2, SHIFT_LEN)


def _relocate_stays(arena: Arena, start: int, end: int, shift: int) -> bool:
    del shift  # what lies below the arena is refused
    return arena.unaligned(start | end) or start >= end or arena.inside(start, end - start)


def _execve_stays(arena: Arena, start: int, end: int, shift: int) -> bool:
    if not _relocate_stays(arena, start, end, shift):
        return False
    return arena.unaligned(start | end) or end - start <= arena.most


def _execve_fills(args: Sequence[int], locking: bool) -> int:
    del locking
    return max(args[1] - args[0], 0)


def _execve_guess(mapped: Mapped, start: int, end: int, shift: int) -> None:
    mapped.spans.clear()
    mapped.move_stack(start, end, shift)


EXECVE_STACK = Syscall(
    number=9,
    name="execve_stack",
    params=_PARAMS,
    model=execve_stack,
    made_by=Makes.EXEC,
    does=Does.MAPS | Does.MOVES | Does.REPLACES | Does.BEGINS,
    span=Span(0, end=1),
    stays=_execve_stays,
    fills=_execve_fills,
    guess=_execve_guess,
    codes=range(179, 187),
    record=(
        address(1, 0, STACK_END),
        Step(0, FIELDS[1], Reads.DOWNWARDS, STACK_LEN, most_slots=4),
        _SHIFT,
    ),
)
RELOCATE = Syscall(
    number=10,
    name="relocate",
    params=_PARAMS,
    model=relocate,
    made_by=Makes.EXEC,
    does=Does.MOVES | Does.REPLACES,
    span=Span(0, end=1),
    stays=_relocate_stays,
    guess=Mapped.move_stack,
    codes=range(216, 221),
    record=(address(0, 0, EXISTING), Step(1, FIELDS[1], Reads.UPWARDS, SOURCE_LEN), _SHIFT),
)
