"""Which calls stay inside the arena: the others are not executed, their result is "SKIP".

The rule is the same for the model and for real kernels.  A call that the kernel is certain to
refuse before it touches anything may name any address; every other one must keep all it could
change inside the arena, and must not fill more pages than `MAX_POPULATED_PAGES`.
"""

from engine.base.address import round_down, round_up
from engine.base.geometry import Geometry
from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_GUARD_INSTALL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_TYPE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from engine.state.space import AddressSpace
from engine.state.vma import VM_LOCKED
from fuzz.case import MAP_FLAGS, MAX_POPULATED_PAGES, SIGNATURES, Call, Case, Kind

_MODELLED_MAP_FLAGS = MAP_TYPE | sum(flag for flag in MAP_FLAGS.values() if flag > MAP_TYPE)
_KINDS = {name: [param.kind for param in params] for name, params in SIGNATURES.items()}
_ANYWHERE = frozenset(name for name, kinds in _KINDS.items() if Kind.ADDR not in kinds)
# Calls about the page at one address: which operand that is.
_POINTS = {
    name: kinds.index(Kind.ADDR)
    for name, kinds in _KINDS.items()
    if Kind.ADDR in kinds and Kind.LEN not in kinds
}
_FILLING = frozenset(("touch", "peek", "mlock", "uffd_wp"))
_FILLING_ADVICE = frozenset(
    (MADV_COLLAPSE, MADV_GUARD_INSTALL, MADV_POPULATE_READ, MADV_POPULATE_WRITE)
)
_SMALL_BYTES = MAX_POPULATED_PAGES * 4096  # never too much to fill, whatever the page size


def leaves_arena(space: AddressSpace, call: Call) -> bool:
    """Would the call touch something outside the arena, or fill too many pages?"""
    start, end = space.arena
    if _plainly_inside(call, end - start):
        return False
    return not _Judge(space).stays(call)


def _plainly_inside(call: Call, arena_bytes: int) -> bool:
    """The quick answer for nearly every call: all it names lies in the arena, and it is small."""
    name, args = call.name, call.args
    if name == "mremap":
        addr, old_len, new_len, _, new_addr = args
        return addr + max(old_len, new_len) <= arena_bytes and (
            new_addr + new_len <= arena_bytes and new_len <= _SMALL_BYTES
        )
    if name in _ANYWHERE:
        return True
    if name in _POINTS:
        return args[_POINTS[name]] < arena_bytes
    if name in ("execve_stack", "relocate"):
        return False
    if name == "mmap" and (not args[3] & MAP_ANONYMOUS or args[3] & ~_MODELLED_MAP_FLAGS):
        return False
    return args[1] <= _SMALL_BYTES - 4096 and args[0] + args[1] <= arena_bytes


class _Judge:
    """The rule, call by call, on real addresses."""

    __slots__ = ("_geometry", "_limit", "_space")

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self._geometry: Geometry = space.geometry
        self._limit = MAX_POPULATED_PAGES * space.geometry.page_bytes

    def stays(self, call: Call) -> bool:
        """May the call run?"""
        if call.name in _POINTS:
            return False  # the address is not in the arena
        start = (self._space.arena.start + call.args[0]) & self._geometry.word_mask
        match call.name:
            case "mmap":
                return self._mmap(start, call)
            case "mremap":
                return self._mremap(start, *call.args[1:])
            case "execve_stack" | "relocate":
                return self._stack(start, call)
            case "mlock" | "munlock":
                first = round_down(start, self._geometry.page_bytes)
                length = self._rounded(call.args[1] + start - first)
                fits = call.name == "munlock" or length <= self._limit
                return self._empty_or_wraps(first, length) or (fits and self._inside(first, length))
            case "touch" | "peek":
                first = round_down(start, self._geometry.page_bytes)
                length = round_up(call.args[1] + start - first, self._geometry.page_bytes)
                return not call.args[1] or (length <= self._limit and self._inside(first, length))
            case "munmap":
                return self._unmap(start, call.args[1])
            case _:
                fills = call.name == "madvise" and call.args[2] in (
                    MADV_COLLAPSE,
                    MADV_GUARD_INSTALL,
                    MADV_POPULATE_READ,
                    MADV_POPULATE_WRITE,
                )
                length = self._rounded(call.args[1])
                if self._unaligned(start) or self._empty_or_wraps(start, length):
                    return True
                return self._inside(start, length) and not (fills and length > self._limit)

    def _rounded(self, length: int) -> int:
        return round_up(length, self._geometry.page_bytes) & self._geometry.word_mask

    def _unaligned(self, addr: int) -> bool:
        return bool(addr & (self._geometry.page_bytes - 1))

    def _inside(self, start: int, length: int) -> bool:
        return self._space.arena.start <= start and start + length <= self._space.arena.end

    def _empty_or_wraps(self, start: int, length: int) -> bool:
        return (start + length) & self._geometry.word_mask <= start

    def _beyond(self, start: int, length: int) -> bool:
        """Not in user space at all: refused before anything happens."""
        top = self._geometry.user_top
        return length > top or start > top - length

    def _unmap(self, start: int, length: int) -> bool:
        rounded = self._rounded(length)
        return (
            self._unaligned(start)
            or not rounded
            or self._beyond(start, length)
            or self._inside(start, rounded)
        )

    def _mmap(self, start: int, call: Call) -> bool:
        _, length, _, flags, fd, _ = call.args
        if flags & ~_MODELLED_MAP_FLAGS:
            return False
        if not flags & MAP_ANONYMOUS:
            return fd < 0
        length = self._rounded(length)
        if not length or length > self._geometry.user_top:
            return True
        if flags & (MAP_POPULATE | MAP_LOCKED) and length > self._limit:
            return False
        if not flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
            return True
        return self._unaligned(start) or self._beyond(start, length) or self._inside(start, length)

    def _mremap(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> bool:
        mask = self._geometry.word_mask
        new_addr = (self._space.arena.start + new_addr) & mask
        old, new = self._rounded(old_len), self._rounded(new_len)
        if (
            flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)
            or self._unaligned(addr)
            or not new
        ):
            return True
        if new > self._geometry.user_top:
            return True
        overlaps = (addr + old) & mask > new_addr and (new_addr + new) & mask > addr
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) and (
            not flags & MREMAP_MAYMOVE
            or self._unaligned(new_addr)
            or self._beyond(new_addr, new)
            or (flags & MREMAP_DONTUNMAP and old != new)
            or overlaps
        ):
            return True
        if flags & MREMAP_FIXED and not self._inside(new_addr, new):
            return False
        if not self._inside(addr, self._geometry.page_bytes):
            return False
        vma = self._space.vmas.lookup(addr)
        if vma is not None and vma.flags & VM_LOCKED and new - old > self._limit:
            return False
        if self._inside(addr, old):
            return True
        # A tail that munmap refuses is never unmapped.
        return (
            new < old and self._inside(addr, new) and self._beyond((addr + new) & mask, old - new)
        )

    def _stack(self, start: int, call: Call) -> bool:
        end = (self._space.arena.start + call.args[1]) & self._geometry.word_mask
        if self._unaligned(start | end) or start >= end:
            return True
        small = call.name == "relocate" or end - start <= self._limit
        return small and self._inside(start, end - start)


def most_filled(case: Case, page: int) -> int:
    """How many pages the calls of a program may fill at most, each one to its end.

    Arguments: `page` bytes of one.
    """
    locking = any(
        call.name == "mlock" or (call.name == "mmap" and call.args[3] & MAP_LOCKED)
        for call in case.calls
    )
    return sum(_fills(call, locking) for call in case.calls) // page


def _fills(call: Call, locking: bool) -> int:
    """Bytes."""
    name, args = call.name, call.args
    if name == "mmap":
        return args[1] if args[3] & (MAP_LOCKED | MAP_POPULATE) else 0
    if name == "mremap":
        return args[2] if locking and args[2] > args[1] else 0
    if name == "madvise":
        return args[1] if args[2] in _FILLING_ADVICE else 0
    if name == "execve_stack":
        return max(args[1] - args[0], 0)
    return args[1] if name in _FILLING else 0
