"""mseal."""

from engine.calls.mseal import mseal
from fuzz.calls.arena import whole_pages
from fuzz.calls.operand import ADDR, LEN
from fuzz.calls.record import EXISTING_RANGE
from fuzz.calls.syscall import Makes, Param, Span, Syscall

MSEAL = Syscall(
    number=11,
    name="mseal",
    params=(Param("addr", ADDR, tag=True), Param("len", LEN)),
    model=mseal,
    made_by=Makes.MODEL,
    span=Span(0, 1),
    stays=whole_pages,
    codes=range(240, 243),
    record=EXISTING_RANGE,
)
