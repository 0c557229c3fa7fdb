"""How the calls of a case reach the engine, and how what they return comes back to the case."""

from collections.abc import Callable

from engine.base.geometry import Geometry
from engine.base.uapi import Errno
from engine.calls.fork import exit_child, fork
from engine.calls.madvise import madvise
from engine.calls.mlock import mlock, munlock
from engine.calls.mmap import mmap, munmap
from engine.calls.mprotect import mprotect
from engine.calls.mseal import mseal
from engine.calls.reclaim import migrate_begin, migrate_end, soft_dirty_clear, swapout
from engine.mremap import mremap
from engine.pages.access import touch_on
from engine.pages.fault import Faulted, access_range, peek, touch
from engine.pages.uffd import uffd_register, uffd_wp
from engine.stack import execve_stack, relocate
from engine.state.space import AddressSpace
from fuzz.case import FAILURES, LIMITS, SIGNATURES, Call, Faults, Kind, Result

Returned = int | Errno | Faulted | None  # by the engine: an address; an error; what faulted; done

_FAILURES, _LIMITS = tuple(FAILURES), tuple(LIMITS)
_INT_MASK = 0xFFFFFFFF
_ADDRESSES = {
    name: tuple(index for index, param in enumerate(params) if param.kind is Kind.ADDR)
    for name, params in SIGNATURES.items()
}


def as_made(call: Call, geometry: Geometry) -> Call:
    """A call as a program of that machine makes it: operands cut to what takes them.

    These are the registers, and for the advice of madvise(2) a C int.
    """
    if geometry.word_bits < 64:
        mask = geometry.word_mask
        call = call._replace(args=tuple(arg & mask if arg > 0 else arg for arg in call.args))
    if call.name == "madvise" and call.args[2] > _INT_MASK:
        call = call.with_arg(2, call.args[2] & _INT_MASK)
    return call


def operands(space: AddressSpace, call: Call) -> list[int]:
    """The operands of a call with addresses for arena offsets, in the machine's arithmetic."""
    base, mask, args = space.arena.start, space.geometry.word_mask, list(call.args)
    for index in _ADDRESSES[call.name]:
        args[index] = (base + args[index]) & mask
    return args


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


def _mmap(
    space: AddressSpace, addr: int, length: int, prot: int, flags: int, fd: int, offset: int
) -> int | Errno:
    del fd  # ignored for anonymous memory, the only kind there is
    return mmap(space, addr, length, prot, flags, offset)


def _touch(space: AddressSpace, addr: int, length: int) -> Faulted:
    return touch(space, *access_range(space, addr, length))


def _peek(space: AddressSpace, addr: int, length: int) -> Faulted:
    return peek(space, *access_range(space, addr, length))


def _fail(space: AddressSpace, kind: int, nth: int) -> None:
    space.failures.arm(_FAILURES[kind], nth)


def _limit(space: AddressSpace, name: int, value: int) -> None:
    space.limits.set(_LIMITS[name], value)


HANDLERS: dict[str, Callable[..., Returned]] = {
    "mmap": _mmap,
    "munmap": munmap,
    "mprotect": mprotect,
    "mremap": mremap,
    "madvise": madvise,
    "mlock": mlock,
    "munlock": munlock,
    "touch": _touch,
    "peek": _peek,
    "execve_stack": execve_stack,
    "relocate": relocate,
    "mseal": mseal,
    "uffd_register": uffd_register,
    "uffd_wp": uffd_wp,
    "fork": fork,
    "exit_child": exit_child,
    "swapout": swapout,
    "migrate_begin": migrate_begin,
    "migrate_end": migrate_end,
    "soft_dirty_clear": soft_dirty_clear,
    "touch_on": touch_on,
    "@fail": _fail,
    "@limit": _limit,
}
MODELLED_CALLS = frozenset(HANDLERS)
