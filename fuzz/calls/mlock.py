"""mlock, mlock2 and munlock."""

from engine.base import uapi
from engine.base.uapi import MLOCK_ONFAULT
from engine.calls.mlock import mlock, mlock2, munlock
from fuzz.calls.arena import Arena, filled_pages, touched_pages
from fuzz.calls.operand import ADDR, C_INT, LEN, Flags
from fuzz.calls.record import EXISTING_RANGE, FILLED_RANGE, FLAGS, choice
from fuzz.calls.syscall import Makes, Param, Span, Syscall, main_filled

ONFAULT = Flags(
    meaning="mlock flags",
    names=uapi.values("MLOCK_ONFAULT"),
    taken=C_INT,
    likely={MLOCK_ONFAULT: 24, 0: 6, MLOCK_ONFAULT << 1: 1},  # the last is unknown
)


def _mlock2_stays(arena: Arena, addr: int, length: int, flags: int) -> bool:
    if flags & ~ONFAULT.known:
        return True  # EINVAL
    # With MLOCK_ONFAULT, too: what may be dropped is not marked, and so it is filled.
    return filled_pages(arena, addr, length)


MLOCK = Syscall(
    number=5,
    name="mlock",
    params=(Param("addr", ADDR, tag=True), Param("len", LEN)),
    model=mlock,
    made_by=Makes.KERNEL,
    span=Span(0, 1),
    stays=filled_pages,
    locks=lambda args: True,
    fills=main_filled,
    codes=range(226, 230),
    record=FILLED_RANGE,
)
MUNLOCK = Syscall(
    number=6,
    name="munlock",
    params=(Param("addr", ADDR, tag=True), Param("len", LEN)),
    model=munlock,
    made_by=Makes.KERNEL,
    span=Span(0, 1),
    stays=touched_pages,
    codes=range(249, 251),
    record=EXISTING_RANGE,
)
MLOCK2 = Syscall(
    number=23,
    name="mlock2",
    params=(Param("addr", ADDR, tag=True), Param("len", LEN), Param("flags", ONFAULT)),
    model=mlock2,
    made_by=Makes.KERNEL,
    span=Span(0, 1),
    stays=_mlock2_stays,
    locks=lambda args: True,
    fills=main_filled,
    theme=1,
    codes=(63, 105, 147),  # of mremap, mmap and touch, which have many
    record=(choice(2, FLAGS, frozenset((0,))), *EXISTING_RANGE),
)
