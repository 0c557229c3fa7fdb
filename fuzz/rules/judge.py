"""The rules that look at a program while it runs: around each call, and around each move.

`CHECKS` has a function for each call that rules compare the states before and after of.  It is
called with the operands before the call, and returns the judge of what the call returns:

    judge = CHECKS["munmap"](space, moves, addr, length)
    violations = judge(munmap(space, addr, length))
"""

from collections.abc import Callable, Iterator
from typing import Any

from engine.base.address import Range
from engine.base.uapi import MADV_DONTNEED, MREMAP_FIXED, Errno
from engine.base.violation import Violation
from engine.state.space import AddressSpace
from fuzz.rules.entries import UffdState, check_uffd
from fuzz.rules.errors import check_errors, check_relocate_errors, check_stack_errors
from fuzz.rules.facts import Facts
from fuzz.rules.layout import check_layout
from fuzz.rules.limits import check_refused_stack
from fuzz.rules.mapping import check_growth, check_mapping, check_stack_mapping
from fuzz.rules.move import MoveRules
from fuzz.rules.mremap import Request, Snapshot, check_execve_stack, check_mremap
from fuzz.rules.places import check_free, check_mmap, check_munmap
from fuzz.rules.state import check_emptied

Judge = Callable[[Any], Iterator[Violation]]


def _mmap(
    space: AddressSpace,
    moves: MoveRules,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    fd: int,
    offset: int,
) -> Judge:
    facts = Facts.of(space)
    return lambda placed: check_mmap(facts, addr, length, flags, placed)


def _munmap(space: AddressSpace, moves: MoveRules, addr: int, length: int) -> Judge:
    facts = Facts.of(space)
    return lambda error: check_munmap(facts, addr, length, error)


def _madvise(space: AddressSpace, moves: MoveRules, addr: int, length: int, advice: int) -> Judge:
    def judge(error: Errno | None) -> Iterator[Violation]:
        if error is None and advice == MADV_DONTNEED:
            left = list(check_emptied(space, addr, addr + length))
            if left and space.kernel.reclaims_tables:
                yield from left

    return judge


def _mremap(space: AddressSpace, moves: MoveRules, *args: int) -> Judge:
    request, before = Request(*args), Snapshot(space)
    facts = before.facts
    registered = UffdState(space, before.slots) if space.uffds else None

    def judge(returned: int | Errno) -> Iterator[Violation]:
        after = Snapshot(space)
        yield from check_mremap(space, before, request, returned, after)
        yield from check_errors(facts, *request, returned)
        if isinstance(returned, int):
            yield from check_mapping(space, before, request, returned, after)
            yield from check_growth(space, request, returned)
        if registered is not None:
            yield from check_uffd(space, registered, request, returned)
        if isinstance(returned, int):
            yield from check_layout(space, facts, request, returned, after.facts)
            if returned != request.addr and not request.flags & MREMAP_FIXED:
                yield from check_free(facts, returned, request.new_len)

    return judge


def _execve_stack(space: AddressSpace, moves: MoveRules, start: int, end: int, shift: int) -> Judge:
    first_tag, moves.occupied = space.next_tag, 0
    facts = Facts.of(space)

    def judge(error: Errno | None) -> Iterator[Violation]:
        yield from check_stack_errors(facts, start, end, shift, error)
        yield from check_refused_stack(space, start, end, error)
        yield from check_stack_mapping(space, Range(start, max(start, end)), error)
        if error is None:
            yield from check_execve_stack(space, start, end, shift, first_tag, moves.occupied)

    return judge


def _relocate(space: AddressSpace, moves: MoveRules, start: int, end: int, shift: int) -> Judge:
    facts = Facts.of(space)
    return lambda error: check_relocate_errors(facts, start, end, shift, error)


CHECKS: dict[str, Callable[..., Judge]] = {
    "mmap": _mmap,
    "munmap": _munmap,
    "madvise": _madvise,
    "mremap": _mremap,
    "execve_stack": _execve_stack,
    "relocate": _relocate,
}
