"""mmap and munmap."""

from collections.abc import Sequence

from engine.base import uapi
from engine.base.uapi import (
    MAP_32BIT,
    MAP_ANONYMOUS,
    MAP_DENYWRITE,
    MAP_DROPPABLE,
    MAP_EXECUTABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGE_1GB,
    MAP_HUGE_2MB,
    MAP_HUGE_MASK,
    MAP_HUGE_SHIFT,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_STACK,
    MAP_TYPE,
    Errno,
)
from engine.calls import mmap as engine
from engine.state.space import AddressSpace
from fuzz.calls.arena import Arena
from fuzz.calls.guess import Mapped
from fuzz.calls.operand import ADDR, FILES, LEN, OFFSET, PROT, Descriptor, Flags
from fuzz.calls.record import (
    EXISTING_RANGE,
    FIELDS,
    FLAGS,
    FRESH,
    FRESH_LEN,
    address,
    choice,
    length,
)
from fuzz.calls.record import PROT as PROT_BYTE
from fuzz.calls.syscall import Does, Makes, Param, Returns, Span, Syscall

_PRIVATE, _SHARED = MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS
_DROPPABLE = MAP_DROPPABLE | MAP_ANONYMOUS
_NO_EFFECT = MAP_32BIT | MAP_DENYWRITE | MAP_EXECUTABLE  # with MAP_FIXED
MAP = Flags(
    meaning="map flags",
    names=uapi.values(
        "MAP_SHARED",
        "MAP_PRIVATE",
        "MAP_DROPPABLE",
        "MAP_FIXED",
        "MAP_ANONYMOUS",
        "MAP_32BIT",
        "MAP_GROWSDOWN",
        "MAP_DENYWRITE",
        "MAP_EXECUTABLE",
        "MAP_LOCKED",
        "MAP_NORESERVE",
        "MAP_POPULATE",
        "MAP_NONBLOCK",
        "MAP_STACK",
        "MAP_HUGETLB",
        "MAP_FIXED_NOREPLACE",
    ),
    number=MAP_HUGE_MASK << MAP_HUGE_SHIFT,
    numbers=uapi.values(
        "MAP_HUGE_16KB",
        "MAP_HUGE_64KB",
        "MAP_HUGE_512KB",
        "MAP_HUGE_1MB",
        "MAP_HUGE_2MB",
        "MAP_HUGE_8MB",
        "MAP_HUGE_16MB",
        "MAP_HUGE_32MB",
        "MAP_HUGE_256MB",
        "MAP_HUGE_512MB",
        "MAP_HUGE_1GB",
        "MAP_HUGE_2GB",
        "MAP_HUGE_16GB",
    ),
    # What a mapping is comes before how it is placed, as most people write it.
    first=("MAP_SHARED", "MAP_PRIVATE", "MAP_DROPPABLE", "MAP_ANONYMOUS"),
    # MAP_FIXED is among the ordinary ones: a case whose addresses are all written down is easier to
    # read than one where the kernel chooses.
    ordinary=_PRIVATE | MAP_FIXED,
    likely={
        _PRIVATE | MAP_FIXED: 54,
        _SHARED | MAP_FIXED: 14,
        _PRIVATE: 4,
        _SHARED: 2,
        _PRIVATE | MAP_FIXED_NOREPLACE: 4,
        _SHARED | MAP_FIXED_NOREPLACE: 2,
        _PRIVATE | MAP_FIXED | MAP_POPULATE: 5,
        _SHARED | MAP_FIXED | MAP_POPULATE: 2,
        _PRIVATE | MAP_FIXED | MAP_LOCKED: 3,
        _PRIVATE | MAP_FIXED | MAP_NORESERVE: 2,
        _PRIVATE | MAP_FIXED | MAP_GROWSDOWN: 2,
        _DROPPABLE | MAP_FIXED: 3,
        _DROPPABLE | MAP_FIXED | MAP_POPULATE: 1,
        _DROPPABLE | MAP_FIXED | MAP_LOCKED: 1,
        _PRIVATE | MAP_FIXED | MAP_STACK: 2,
        _SHARED | MAP_FIXED | MAP_STACK: 1,
        _PRIVATE | MAP_FIXED | MAP_POPULATE | MAP_NONBLOCK: 1,
        _PRIVATE | MAP_FIXED | _NO_EFFECT: 1,
        _PRIVATE | MAP_FIXED | MAP_HUGETLB: 2,
        _SHARED | MAP_FIXED | MAP_HUGETLB: 1,
        _PRIVATE | MAP_FIXED | MAP_HUGETLB | MAP_HUGE_2MB: 1,
        _PRIVATE | MAP_FIXED | MAP_FIXED_NOREPLACE: 1,
        _PRIVATE | _SHARED | MAP_FIXED: 1,
        MAP_ANONYMOUS | MAP_FIXED: 1,
        MAP_PRIVATE | MAP_FIXED: 8,
        MAP_SHARED | MAP_FIXED: 8,
        MAP_PRIVATE: 1,
        MAP_SHARED: 1,
        MAP_PRIVATE | MAP_FIXED | MAP_POPULATE: 1,
        MAP_SHARED | MAP_FIXED | MAP_LOCKED: 1,
    },
)
FD = Descriptor(
    meaning="file descriptor",
    names=FILES,
    low=-(1 << 31),
    high=(1 << 31) - 1,
    ordinary=-1,
    tries=(-1, FILES["A"]),
    likely={FILES["A"]: 12, FILES["B"]: 3, FILES["C"]: 1, -1: 1},
)
_FILLING = MAP_POPULATE | MAP_LOCKED
_PLACING = MAP_FIXED | MAP_FIXED_NOREPLACE
_MAX_ERRNO = 4095  # include/linux/err.h
_MODELLED = MAP_TYPE | MAP.known
_FILES = frozenset(FILES.values())


def _mmap(
    space: AddressSpace, addr: int, length: int, prot: int, flags: int, fd: int, offset: int
) -> int | Errno:
    return engine.mmap(space, addr, length, prot, flags, offset, fd)


def _mmap_lacks(addr: int, length: int, prot: int, flags: int, fd: int, *_: int) -> str:
    del addr, length, prot
    if unknown := flags & ~_MODELLED:
        return f"the flags {unknown:#x}"
    if not flags & MAP_ANONYMOUS and fd >= 0 and fd not in _FILES:  # it may be one of ours
        return "a file that no file() has made"
    if flags & MAP_32BIT and not flags & _PLACING:
        return "MAP_32BIT at a place that the kernel chooses"  # not all below 2 GiB is occupied
    if flags & MAP_HUGETLB and flags & MAP.number == MAP_HUGE_1GB:
        return "huge pages of 1 GiB"  # a pool of its own
    return ""


def _mmap_stays(arena: Arena, addr: int, length: int, _: int, flags: int, fd: int, __: int) -> bool:
    if not flags & MAP_ANONYMOUS and fd not in _FILES:
        return True  # EBADF
    if arena.start <= addr and addr + length <= arena.end and length <= arena.most - arena.page:
        return True  # the quick answer for nearly every call
    length = arena.rounded(length)
    if not length or length > arena.top:
        return True  # EINVAL, ENOMEM
    if flags & _FILLING and length > arena.most:
        return False
    if not flags & _PLACING:
        return True  # only a hint; what the hint may name is occupied
    if addr > arena.mask - _MAX_ERRNO:
        return False  # the kernel takes such a place for an error: IS_ERR_VALUE()
    return arena.unaligned(addr) or arena.beyond(addr, length) or arena.inside(addr, length)


def _mmap_fills(args: Sequence[int], locking: bool) -> int:
    del locking
    return args[1] if args[3] & _FILLING else 0


def _mmap_guess(
    mapped: Mapped, addr: int, length: int, _: int, flags: int, fd: int, __: int
) -> None:
    if flags & MAP_ANONYMOUS or fd in mapped.files:
        mapped.mmap(addr, length, flags)


def _munmap_stays(arena: Arena, addr: int, length: int) -> bool:
    if arena.start <= addr and addr + length <= arena.end:
        return True  # the quick answer for nearly every call
    rounded = arena.rounded(length)
    return (
        arena.unaligned(addr)
        or not rounded
        or arena.beyond(addr, length)
        or arena.inside(addr, rounded)
    )


MMAP = Syscall(
    number=0,
    name="mmap",
    params=(
        Param("addr", ADDR),
        Param("len", LEN),
        Param("prot", PROT),
        Param("flags", MAP),
        Param("fd", FD, -1),
        Param("offset", OFFSET, 0),
    ),
    model=_mmap,
    made_by=Makes.KERNEL,
    does=Does.MAPS | Does.BEGINS,
    returns=Returns.ADDRESS,
    span=Span(0, 1, fresh=True),
    stays=_mmap_stays,
    lacks=_mmap_lacks,
    locks=lambda args: bool(args[3] & MAP_LOCKED),
    fills=_mmap_fills,
    guess=_mmap_guess,
    codes=range(64, 106),
    record=(
        choice(2, PROT_BYTE),
        choice(3, FLAGS, frozenset(flags for flags in MAP.likely if flags & _FILLING)),
        address(0, 0, FRESH),
        length(1, 1, FRESH_LEN),
        choice(4, FIELDS[2], unless=(3, MAP_ANONYMOUS)),
        choice(5, FIELDS[3], unless=(3, MAP_ANONYMOUS)),
    ),
)
MUNMAP = Syscall(
    number=1,
    name="munmap",
    params=(Param("addr", ADDR, tag=True), Param("len", LEN)),
    model=engine.munmap,
    made_by=Makes.KERNEL,
    span=Span(0, 1),
    stays=_munmap_stays,
    guess=Mapped.cut,
    codes=range(161, 171),
    record=EXISTING_RANGE,
)
