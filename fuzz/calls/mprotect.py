"""mprotect."""

from engine.calls.mprotect import mprotect
from fuzz.calls.arena import whole_pages
from fuzz.calls.operand import ADDR, LEN, PROT
from fuzz.calls.record import EXISTING_RANGE, choice
from fuzz.calls.record import PROT as PROT_BYTE
from fuzz.calls.syscall import Makes, Param, Span, Syscall

MPROTECT = Syscall(
    number=2,
    name="mprotect",
    params=(Param("addr", ADDR, tag=True), Param("len", LEN), Param("prot", PROT)),
    model=mprotect,
    made_by=Makes.KERNEL,
    span=Span(0, 1),
    stays=whole_pages,
    codes=range(171, 179),
    record=(choice(2, PROT_BYTE), *EXISTING_RANGE),
)
