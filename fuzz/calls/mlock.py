"""mlock and munlock."""

from engine.calls.mlock import mlock, munlock
from fuzz.calls.arena import filled_pages, touched_pages
from fuzz.calls.operand import ADDR, LEN
from fuzz.calls.record import EXISTING_RANGE, FILLED_RANGE
from fuzz.calls.syscall import Makes, Param, Span, Syscall, main_filled

MLOCK = Syscall(
    number=5,
    name="mlock",
    params=(Param("addr", ADDR), Param("len", LEN)),
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
    params=(Param("addr", ADDR), Param("len", LEN)),
    model=munlock,
    made_by=Makes.KERNEL,
    span=Span(0, 1),
    stays=touched_pages,
    codes=range(249, 251),
    record=EXISTING_RANGE,
)
