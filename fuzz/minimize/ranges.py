"""Programs as the minimizer changes them, and the ranges of memory that their calls name.

In search form, numbers are what they mean: no results, unsigned operands, and a range that a call
gives by its two ends (the stack that an exec moves) by its length in place of its start: its end is
where it hangs, and its length is one like any other, which may equal the shift.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from engine.base.address import WORD_MASK, Range
from fuzz.calls.operand import LEN, Operand
from fuzz.calls.registry import CALLS
from fuzz.case import Call

Program = tuple[Call, ...]


class Site(NamedTuple):
    """Where an operand stands."""

    call: int
    position: int


# --- Search form ----------------------------------------------------------------------------------


_HANGING = {  # start and end, of calls whose range is given by its two ends
    name: (declared.span.start, declared.span.end)
    for name, declared in CALLS.items()
    if declared.span is not None and declared.span.end is not None
}


def _kinds(name: str) -> tuple[Operand, ...]:
    kinds = [param.kind for param in CALLS[name].params]
    if name in _HANGING:
        kinds[_HANGING[name][0]] = LEN
    return tuple(kinds)


# Kinds of the operands in search form, by name of the call; and all there are.
KINDS = {name: _kinds(name) for name in CALLS}
ALL_KINDS = tuple(dict.fromkeys(kind for kinds in KINDS.values() for kind in kinds))


def to_search_form(calls: Iterable[Call]) -> Program:
    """The calls as a program in search form."""
    return tuple(map(_call_to_search_form, calls))


def _call_to_search_form(call: Call) -> Call:
    args = list(call.args)
    if call.name in _HANGING:
        start, end = _HANGING[call.name]
        args[start] = args[end] - args[start]
    kinds = KINDS[call.name]
    return Call(
        call.name,
        tuple([v & WORD_MASK if k.is_word else v for k, v in zip(kinds, args, strict=True)]),
    )


def to_calls(program: Program) -> Program:
    """The calls that a program in search form stands for."""
    return tuple(map(_from_search_form, program))


def _from_search_form(call: Call) -> Call:
    if call.name not in _HANGING:
        return call
    start, end = _HANGING[call.name]
    return call.with_arg(start, (call.args[end] - call.args[start]) & WORD_MASK)


def is_writable(program: Program) -> bool:
    """True if every number fits its operand; passes need not care, they may compute too far."""
    return all(map(_call_is_writable, program))


@lru_cache(maxsize=1 << 14)  # nearly all calls of a candidate are those of the best
def _call_is_writable(call: Call) -> bool:
    kinds = KINDS[call.name]
    return all(k.low <= v <= k.high for k, v in zip(kinds, call.args, strict=True))


# --- The ranges of a call -------------------------------------------------------------------------


def spans(call: Call) -> tuple[Range, ...]:
    """The ranges a call names, its main one first; none for a call without an address."""
    declared, args = CALLS[call.name], call.args
    span = declared.span
    if span is None:
        return ()
    start = args[span.start]
    if span.end is not None:
        return (Range(args[span.end] - start, args[span.end]),)
    if span.length is None:
        return (Range(start, start),)
    main = Range(start, start + args[span.length])
    target = declared.target
    if target is None or not target.named(args):
        return (main,)
    return (main, Range(args[target.start], args[target.start] + args[target.length]))


def points(program: Program) -> list[int]:
    """All addresses that the program names, as start or end of a range, ascending from 0."""
    edges = {max(edge, 0) for call in program for span in spans(call) for edge in span}
    return sorted({0, *edges})


def base_of(program: Program, site: Site) -> int:
    """Start of the range that a length belongs to."""
    call = program[site.call]
    target = CALLS[call.name].target
    named = spans(call)
    assert named
    return named[-1 if target is not None and site.position == target.length else 0].start


def _placed(call: Call, main: Range, target: Range | None) -> Call:
    """The call with other ranges; without a `target` only its length follows the main one."""
    declared, args = CALLS[call.name], list(call.args)
    span = declared.span
    assert span is not None
    if span.end is not None:
        args[span.start], args[span.end] = main.length, main.end
        return Call(call.name, tuple(args))
    args[span.start] = main.start
    if span.length is not None:
        shorter = args[span.length] - main.length
        args[span.length] = main.length
        if target is not None and declared.target is not None:
            args[declared.target.start], args[declared.target.length] = target.start, target.length
        elif declared.target is not None:
            args[declared.target.length] = max(args[declared.target.length] - shorter, 0)
    return Call(call.name, tuple(args))


def narrowed(call: Call, start: int, length: int) -> Call | None:
    """The call with its main range cut down to `length` bytes from `start`; None if not possible.

    Both sides of a move lose the same, so it still moves or resizes as it did.
    """
    main, *there = spans(call)
    if not (main.start <= start and start + length <= main.end and 0 < length < main.length):
        return None
    target = None
    if there:
        at = there[0].start + start - main.start
        target = Range(at, at + max(there[0].length - (main.length - length), 0))
    return _placed(call, Range(start, start + length), target)


def without(program: Program, hole: Range) -> Program:
    """The program in an address space that lacks `hole`.

    A hole in the source of a move is one in its destination as well, and the other way round;
    these follow from each other along a chain of moves.
    """
    moves = [named for call in program if len(named := spans(call)) == 2]
    holes = [hole]
    for known in holes:  # grows meanwhile
        if len(holes) > len(moves):
            break  # no chain: moves that overlap themselves, whose holes multiply without end
        images = dict.fromkeys(image for move in moves for image in _images(move, known))
        holes += [image for image in images if image not in holes]
    merged = union(holes)

    def squeeze(address: int) -> int:
        return address - sum(
            min(gone.end, address) - gone.start for gone in merged if gone.start < address
        )

    return tuple(_squeezed(call, squeeze) for call in program)


def _squeezed(call: Call, squeeze: Callable[[int], int]) -> Call:
    """The call with its ranges mapped by `squeeze`, edge by edge."""
    named = [Range(squeeze(span.start), squeeze(span.end)) for span in spans(call)]
    return _placed(call, named[0], named[1] if len(named) == 2 else None) if named else call


def _images(move: tuple[Range, ...], hole: Range) -> Iterator[Range]:
    """Where a move takes a hole inside its source, and where it takes one in its target from."""
    for here, there in (move, move[::-1]):
        if here.contains(hole):
            shift = there.start - here.start
            yield Range(hole.start + shift, hole.end + shift)


def union(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as ranges that neither overlap nor touch, ascending."""
    merged: list[Range] = []
    for span in sorted(ranges):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Range(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged
