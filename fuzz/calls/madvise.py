"""madvise."""

from collections.abc import Sequence

from engine.base import uapi
from engine.base.points import PAGE_TABLES
from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_GUARD_INSTALL,
    MADV_HWPOISON,
    MADV_NORMAL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_SOFT_OFFLINE,
)
from engine.calls.madvise import madvise
from fuzz.calls.arena import Arena, filled_whole_pages, whole_pages
from fuzz.calls.operand import ADDR, C_INT, LEN, Choice
from fuzz.calls.record import EXISTING_RANGE, FLAGS, choice
from fuzz.calls.syscall import Acting, Makes, Param, Span, Syscall

_NAMES = uapi.values(
    "MADV_NORMAL",
    "MADV_RANDOM",
    "MADV_SEQUENTIAL",
    "MADV_WILLNEED",
    "MADV_DONTNEED",
    "MADV_FREE",
    "MADV_REMOVE",
    "MADV_DONTFORK",
    "MADV_DOFORK",
    "MADV_MERGEABLE",
    "MADV_UNMERGEABLE",
    "MADV_HUGEPAGE",
    "MADV_NOHUGEPAGE",
    "MADV_DONTDUMP",
    "MADV_DODUMP",
    "MADV_COLD",
    "MADV_PAGEOUT",
    "MADV_POPULATE_READ",
    "MADV_POPULATE_WRITE",
    "MADV_COLLAPSE",
    "MADV_GUARD_INSTALL",
    "MADV_GUARD_REMOVE",
    "MADV_WIPEONFORK",
    "MADV_KEEPONFORK",
    "MADV_DONTNEED_LOCKED",
)
_LIKELY = {
    "MADV_DONTNEED": 8,
    "MADV_DONTNEED_LOCKED": 2,
    "MADV_HUGEPAGE": 24,
    "MADV_NOHUGEPAGE": 3,
    "MADV_COLLAPSE": 6,
    "MADV_FREE": 4,
    "MADV_POPULATE_READ": 4,
    "MADV_POPULATE_WRITE": 4,
    "MADV_GUARD_INSTALL": 4,
    "MADV_GUARD_REMOVE": 3,
    "MADV_REMOVE": 2,
    "MADV_PAGEOUT": 2,
    "MADV_DONTFORK": 2,
}
ADVICE = Choice(
    meaning="advice",
    names=_NAMES,
    taken=C_INT,
    ordinary=MADV_NORMAL,
    likely={value: _LIKELY.get(name, 1) for name, value in _NAMES.items()} | {9999: 1},
)
_POPULATING = frozenset((MADV_POPULATE_READ, MADV_POPULATE_WRITE))
_FILLING = _POPULATING | {MADV_COLLAPSE, MADV_GUARD_INSTALL}  # a marker is as much as a page
_DAMAGING = {  # the machine's memory
    MADV_HWPOISON: "MADV_HWPOISON",
    MADV_SOFT_OFFLINE: "MADV_SOFT_OFFLINE",
}


def _lacks(addr: int, length: int, advice: int) -> str:
    del addr, length
    return _DAMAGING.get(advice, "")


def _stays(arena: Arena, addr: int, length: int, advice: int) -> bool:
    return (filled_whole_pages if advice in _FILLING else whole_pages)(arena, addr, length)


def _fills(args: Sequence[int], locking: bool) -> int:
    del locking
    return args[1] if args[2] in _FILLING else 0


MADVISE = Syscall(
    number=4,
    name="madvise",
    params=(Param("addr", ADDR, tag=True), Param("len", LEN), Param("advice", ADVICE)),
    model=madvise,
    made_by=Makes.KERNEL,
    span=Span(0, 1),
    stays=_stays,
    lacks=_lacks,
    fills=_fills,
    needs=PAGE_TABLES,  # what else depends on the advice: fuzz/calls/waits.py
    acts=Acting(range(44, 46), by_thread=True),
    codes=range(148, 161),
    record=(choice(2, FLAGS, _POPULATING), *EXISTING_RANGE),
)
