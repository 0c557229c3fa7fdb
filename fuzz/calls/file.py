"""Files: file makes one, ftruncate(2) and fallocate(2) change it.  mmap has their descriptors."""

from collections.abc import Sequence

from engine.base import uapi
from engine.base.points import I_MMAP, PAGE_TABLES
from engine.base.uapi import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
from engine.calls import file as engine
from fuzz.calls.arena import Arena, anywhere
from fuzz.calls.guess import Mapped
from fuzz.calls.operand import C_INT, FILE_SIZE, FILES, OFFSET, Choice, Flags
from fuzz.calls.record import FIELDS, FLAGS, PROT, choice
from fuzz.calls.syscall import Acting, Does, Makes, Param, Syscall

FILE = Choice(
    meaning="file",
    names=FILES,
    others=False,
    low=min(FILES.values()),
    high=max(FILES.values()),
    ordinary=FILES["A"],
    likely={FILES["A"]: 12, FILES["B"]: 3, FILES["C"]: 1},
)
_PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
MODE = Flags(
    meaning="fallocate mode",
    names=uapi.values("FALLOC_FL_KEEP_SIZE", "FALLOC_FL_PUNCH_HOLE"),
    taken=C_INT,
    likely={_PUNCH: 12, 0: 3, FALLOC_FL_KEEP_SIZE: 2, FALLOC_FL_PUNCH_HOLE: 1},
)


def _map_stays(arena: Arena, fd: int, size: int) -> bool:
    del fd
    return size <= arena.most - arena.page


def _fallocate_stays(arena: Arena, fd: int, mode: int, offset: int, length: int) -> bool:
    del fd, offset
    return bool(mode & FALLOC_FL_PUNCH_HOLE) or length <= arena.most - arena.page


def _fallocate_lacks(fd: int, mode: int, *_: int) -> str:
    del fd
    unknown = mode & ~MODE.known
    return f"the mode {unknown:#x} of fallocate" if unknown else ""


def _fallocate_fills(args: Sequence[int], locking: bool) -> int:
    del locking
    return 0 if args[1] & FALLOC_FL_PUNCH_HOLE else args[3]


MAKE = Syscall(
    number=25,
    name="file",
    params=(Param("fd", FILE), Param("size", FILE_SIZE)),
    model=engine.file,
    made_by=Makes.AGENT,
    does=Does.BEGINS,
    stays=anywhere,
    guess=Mapped.open,
    codes=(59, 60, 61, 62, 104, 146),  # of mremap, mmap and touch, which have many
    record=(choice(0, FLAGS), choice(1, PROT)),
)
MAP = Syscall(
    number=29,
    name="bpf_map",
    params=(Param("fd", FILE), Param("size", FILE_SIZE)),
    model=engine.bpf_map,
    made_by=Makes.AGENT,
    does=Does.BEGINS,
    stays=_map_stays,
    fills=lambda args, locking: args[1],
    guess=Mapped.open,
    codes=(66, 143),
    record=(choice(0, FLAGS), choice(1, PROT)),
)
FTRUNCATE = Syscall(
    number=26,
    name="ftruncate",
    params=(Param("fd", FILE), Param("length", FILE_SIZE)),
    model=engine.ftruncate,
    made_by=Makes.AGENT,
    stays=anywhere,
    prepared_by="file",
    needs=I_MMAP | PAGE_TABLES,
    acts=Acting((47,)),
    codes=(57, 58, 145),
    record=(choice(0, FLAGS), choice(1, PROT)),
)
FALLOCATE = Syscall(
    number=27,
    name="fallocate",
    params=(
        Param("fd", FILE),
        Param("mode", MODE),
        Param("offset", OFFSET),
        Param("len", FILE_SIZE),
    ),
    model=engine.fallocate,
    made_by=Makes.AGENT,
    stays=_fallocate_stays,
    lacks=_fallocate_lacks,
    fills=_fallocate_fills,
    prepared_by="file",
    needs=I_MMAP | PAGE_TABLES,
    acts=Acting((46,)),
    codes=(56, 144),
    record=(
        choice(0, FLAGS),
        choice(1, PROT),
        choice(2, FIELDS[0]),
        choice(3, FIELDS[1]),
    ),
)
