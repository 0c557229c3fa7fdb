"""All calls there are, and how those of a case reach the engine and come back.

A call is a `Syscall` in one of the modules of this folder, which are all looked at: whoever adds a
call adds its declaration and changes nothing here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules

import fuzz.calls
from engine.base.geometry import Geometry
from engine.base.uapi import Errno
from engine.pages.faulted import Faulted
from engine.state.space import AddressSpace
from engine.state.vma import VM_LOCKED
from fuzz.calls.actors import in_between
from fuzz.calls.arena import Arena
from fuzz.calls.syscall import Does, Syscall
from fuzz.case import Call, Case, Faults, Result

Returned = int | Errno | Faulted | None  # by the engine: an address; an error; what faulted; done


def _declared() -> Iterator[Syscall]:
    """The calls that the modules of this folder declare."""
    for module in iter_modules(fuzz.calls.__path__, f"{fuzz.calls.__name__}."):
        if module.name != __name__:
            for value in vars(import_module(module.name)).values():
                if isinstance(value, Syscall):
                    yield value


def in_order(declared: Sequence[Syscall]) -> dict[str, Syscall]:
    """Calls by name, in the order of their numbers.

    Errors raised: ValueError for two that have the same name or number.
    """
    calls = sorted(declared, key=lambda call: call.number)
    for one, other in pairwise(calls):
        if one.number == other.number:
            raise ValueError(f"{one.name} and {other.name} have the same number, {one.number}")
    by_name = {call.name: call for call in calls}
    if len(by_name) < len(calls):
        raise ValueError("two calls have the same name")
    return by_name


def _all_forms() -> list[Syscall]:
    """The calls, and behind them the forms of those that others make in the middle of a call."""
    calls = sorted(dict.fromkeys(_declared()), key=lambda call: call.number)
    acting = [call for call in calls if call.acts is not None]
    return [*calls, *(in_between(call, len(calls) + i) for i, call in enumerate(acting))]


CALLS = in_order(_all_forms())
_MANY_PAGES = 8_192
DIRECTIVES = frozenset(name for name, call in CALLS.items() if call.is_directive)
MODELLED_CALLS = frozenset(CALLS)
_TAKEN = {  # what the kernel takes less than a register of
    name: narrow
    for name, call in CALLS.items()
    if (
        narrow := [
            (i, param.kind.taken)
            for i, param in enumerate(call.params)
            if param.kind.taken < param.kind.high
        ]
    )
}

_TAG, _KERNEL_HALF = 0xFF << 56, 1 << 55  # bits of an address, where there are tags


def call(name: str, *args: int) -> Call:
    """A call with its optional operands filled in.  Errors raised: TypeError on a wrong count."""
    params = CALLS[name].params
    missing = params[len(args) :]
    if len(args) > len(params) or any(param.default is None for param in missing):
        raise TypeError(f"{name} takes {len(params)} operands, got {len(args)}")
    return Call(name, args + tuple(param.default or 0 for param in missing))


def last_made(calls: Sequence[Call]) -> int:
    """The index of the last call that is no directive; -1 if there is none.

    What nothing comes behind steers nothing: it has broken nothing, and changed nothing.
    """
    numbers = range(len(calls) - 1, -1, -1)
    return next((number for number in numbers if calls[number].name not in DIRECTIVES), -1)


def that_do(what: Does) -> frozenset[str]:
    """The names of the calls that do all of `what`."""
    return frozenset(name for name, call in CALLS.items() if call.does & what == what)


def as_made(call: Call, geometry: Geometry) -> Call:
    """A call as a program of that machine makes it: operands cut to what takes them.

    These are the registers, and a C int for some operands.
    """
    if geometry.word_bits < 64:
        mask = geometry.word_mask
        call = call._replace(args=tuple(arg & mask if arg > 0 else arg for arg in call.args))
    if call.name in _TAKEN:
        for index, mask in _TAKEN[call.name]:
            if call.args[index] > mask:
                call = call.with_arg(index, call.args[index] & mask)
    return call


def untagged(call: Call, geometry: Geometry) -> Call:
    """A call as the kernel takes it: addresses that may have a tag in their top byte lose it.

    Source: arch/arm64/include/asm/uaccess.h untagged_addr(); addresses with bit 55 are the kernel's
    own and stay what they are.
    """
    if geometry.has_tags:
        for index in CALLS[call.name].tagged:
            addr = call.args[index] + geometry.arena.start & geometry.word_mask
            if addr & _TAG and not addr & _KERNEL_HALF:
                call = call.with_arg(
                    index, (addr & ~_TAG) - geometry.arena.start & geometry.word_mask
                )
    return call


def operands(arena: Arena, declared: Syscall, args: Sequence[int]) -> list[int]:
    """The operands of a call with addresses for arena offsets, in the machine's arithmetic."""
    made = list(args)
    for index in declared.addresses:
        made[index] = (arena.start + made[index]) & arena.mask
    return made


def is_skipped(space: AddressSpace, arena: Arena, declared: Syscall, args: Sequence[int]) -> bool:
    """Is the call not run?  It is not if it would touch something outside the arena, fill too many
    pages, or ask for what the model has not.

    Arguments: `args` see `operands`.
    """
    if not declared.may_run(arena, *args):
        return True
    if declared.unless_locked is None or not declared.unless_locked(arena, *args):
        return False
    vma = space.vmas.lookup(args[0])
    return vma is not None and bool(vma.flags & VM_LOCKED)


def why_skipped(geometry: Geometry, call: Call) -> str:
    """Why a call whose result is SKIP was not run, as the end of a sentence that begins with it."""
    arena, declared = Arena.of(geometry), CALLS[call.name]
    args = operands(arena, declared, untagged(as_made(call, geometry), geometry).args)
    if declared.lacks is not None and (what := declared.lacks(*args)):
        return f"asks for what the model has not: {what}"
    if declared.stays(arena, *args):
        return f"fills more than {_mib(arena)} of locked memory, the most that a call may"
    if declared.stays(replace(arena, most=arena.mask), *args):
        return f"fills more than {_mib(arena)}, the most that a call may"
    return f"reaches outside the arena of {arena.end - arena.start:#x} bytes"


def _mib(arena: Arena) -> str:
    return f"{arena.most >> 20} MiB"


def most_filled(case: Case, page: int) -> int:
    """How many pages the calls of a program may fill at most, each one to its end.

    Arguments: `page` bytes of one.
    """
    declared = [(CALLS[call.name], call.args) for call in case.calls]
    locking = any(call.locks is not None and call.locks(args) for call, args in declared)
    return sum(call.fills(args, locking) for call, args in declared) // page


def takes_long(case: Case, page: int) -> bool:
    """Would a program fill very many pages?  A smaller one shows what it shows.

    Arguments: see `most_filled`.
    """
    return most_filled(case, page) > _MANY_PAGES


def as_result(space: AddressSpace, returned: Returned) -> Result:
    """The result of a call as cases have it; addresses outside of the arena are "OUT"."""
    if returned is None:
        return 0
    arena = space.arena
    if isinstance(returned, int):
        return returned - arena.start if arena.start <= returned < arena.end else "OUT"
    if isinstance(returned, Errno):
        return str(returned)
    if not returned:
        return 0
    shift = space.geometry.page_shift

    def pages(runs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple(((addr - arena.start) >> shift, count) for addr, count in runs)

    return Faults(pages(returned.segv), pages(returned.bus))
