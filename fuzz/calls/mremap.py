"""mremap."""

from collections.abc import Sequence

from engine.base import uapi
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from engine.mremap import mremap
from fuzz.calls.arena import Arena
from fuzz.calls.guess import Mapped
from fuzz.calls.operand import ADDR, LEN, Flags
from fuzz.calls.record import (
    EXISTING_RANGE,
    FLAGS,
    NEW_LEN,
    TARGET,
    address,
    choice,
    length,
)
from fuzz.calls.syscall import Does, Makes, Param, Returns, Span, Syscall, Target

_MOVE = MREMAP_MAYMOVE | MREMAP_FIXED
REMAP = Flags(
    meaning="remap flags",
    names=uapi.values("MREMAP_MAYMOVE", "MREMAP_FIXED", "MREMAP_DONTUNMAP"),
    likely={
        _MOVE: 64,
        _MOVE | MREMAP_DONTUNMAP: 14,
        MREMAP_MAYMOVE: 10,
        MREMAP_MAYMOVE | MREMAP_DONTUNMAP: 5,
        0: 4,
        MREMAP_FIXED: 1,
        MREMAP_FIXED | MREMAP_DONTUNMAP: 1,
        MREMAP_MAYMOVE | 8: 1,  # an unknown flag
    },
)
_PLACING = MREMAP_FIXED | MREMAP_DONTUNMAP


def _is_refused(
    arena: Arena, addr: int, old_len: int, new_len: int, flags: int, new_addr: int
) -> bool:
    """Is the call refused before any mapping is looked at?"""
    old, new = arena.rounded(old_len), arena.rounded(new_len)
    if flags & ~REMAP.known or arena.unaligned(addr) or not new or new > arena.top:
        return True
    overlaps = (addr + old) & arena.mask > new_addr and (new_addr + new) & arena.mask > addr
    return bool(flags & _PLACING) and (
        not flags & MREMAP_MAYMOVE
        or arena.unaligned(new_addr)
        or arena.beyond(new_addr, new)
        or bool(flags & MREMAP_DONTUNMAP and old != new)
        or overlaps
    )


def _stays(arena: Arena, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> bool:
    low, high, inside = arena.start, arena.end, arena.inside
    if low <= addr and addr + max(old_len, new_len) <= high and low <= new_addr <= high - new_len:
        return True  # the quick answer for nearly every call
    if _is_refused(arena, addr, old_len, new_len, flags, new_addr):
        return True
    old, new = arena.rounded(old_len), arena.rounded(new_len)
    if (flags & MREMAP_FIXED and not inside(new_addr, new)) or not inside(addr, arena.page):
        return False
    if inside(addr, old):
        return True  # a growth ends at the next mapping, in or at the end of the arena
    # A tail that munmap refuses is never unmapped.
    return new < old and inside(addr, new) and arena.beyond((addr + new) & arena.mask, old - new)


def _fills_if_locked(
    arena: Arena, addr: int, old_len: int, new_len: int, flags: int, new_addr: int
) -> bool:
    """Would the call fill too much if what it grows is locked?"""
    if new_len <= arena.most:
        return False  # the quick answer for nearly every call
    grown = arena.rounded(new_len) - arena.rounded(old_len)
    return grown > arena.most and not _is_refused(arena, addr, old_len, new_len, flags, new_addr)


def _fills(args: Sequence[int], locking: bool) -> int:
    return args[2] if locking and args[2] > args[1] else 0


MREMAP = Syscall(
    number=3,
    name="mremap",
    params=(
        Param("old_address", ADDR, tag=True),
        Param("old_size", LEN),
        Param("new_size", LEN),
        Param("flags", REMAP),
        Param("new_address", ADDR, 0),
    ),
    model=mremap,
    made_by=Makes.KERNEL,
    does=Does.MAPS | Does.MOVES,
    returns=Returns.ADDRESS,
    span=Span(0, 1),
    target=Target(4, 2, lambda args: bool(args[3] & _PLACING or args[4])),
    stays=_stays,
    unless_locked=_fills_if_locked,
    fills=_fills,
    refers_to="mremap",  # to what was moved: it may bring that back
    guess=Mapped.mremap,
    codes=range(64),
    record=(
        choice(3, FLAGS),
        *EXISTING_RANGE,
        length(2, 2, NEW_LEN),
        address(4, 3, TARGET),
    ),
)
