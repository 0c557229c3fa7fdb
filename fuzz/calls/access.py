"""Accesses to memory, which are no calls: touch and peek, and touch_on, from another CPU.

They need no lock, unless there is a fault (fuzz/calls/waits.py).
"""

from engine.base.address import round_down, round_up
from engine.base.limits import CPUS
from engine.base.points import NONE
from engine.pages.access import touch_on
from engine.pages.fault import access_range, peek, touch
from engine.pages.faulted import Faulted
from engine.state.space import AddressSpace
from fuzz.calls.arena import Arena, one_page
from fuzz.calls.operand import ADDR, LEN, Number
from fuzz.calls.record import EARLIER, FILLED_RANGE, FLAGS, address, choice
from fuzz.calls.syscall import Acting, Makes, Param, Returns, Span, Syscall, main_filled

CPU = Number(meaning="CPU", high=CPUS - 1, ordinary=0, likely=dict.fromkeys(range(CPUS), 1))


def _touch(space: AddressSpace, addr: int, length: int) -> Faulted:
    return touch(space, *access_range(space, addr, length))


def _peek(space: AddressSpace, addr: int, length: int) -> Faulted:
    return peek(space, *access_range(space, addr, length))


def _stays(arena: Arena, addr: int, length: int) -> bool:
    """No kernel checks the range: one that wraps around leaves the arena, too."""
    if arena.start <= addr and addr + length <= arena.end and length <= arena.most - arena.page:
        return True  # the quick answer for nearly every call
    first = round_down(addr, arena.page)
    rounded = round_up(addr + length, arena.page) - first
    return not length or (rounded <= arena.most and arena.inside(first, rounded))


def _on_cpu_stays(arena: Arena, cpu: int, addr: int) -> bool:
    del cpu
    return one_page(arena, addr)


TOUCH = Syscall(
    number=7,
    name="touch",
    params=(Param("addr", ADDR), Param("len", LEN)),
    model=_touch,
    made_by=Makes.AGENT,
    returns=Returns.FAULTS,
    span=Span(0, 1),
    stays=_stays,
    fills=main_filled,
    needs=NONE,
    acts=Acting(range(100, 103), by_thread=True),
    codes=range(106, 148),
    record=FILLED_RANGE,
)
PEEK = Syscall(
    number=8,
    name="peek",
    params=(Param("addr", ADDR), Param("len", LEN)),
    model=_peek,
    made_by=Makes.AGENT,
    returns=Returns.FAULTS,
    span=Span(0, 1),
    stays=_stays,
    fills=main_filled,
    needs=NONE,
    acts=Acting(range(103, 104), by_thread=True),
    codes=range(210, 216),
    record=FILLED_RANGE,
)
TOUCH_ON = Syscall(
    number=20,
    name="touch_on",
    params=(Param("cpu", CPU), Param("addr", ADDR)),
    model=touch_on,
    made_by=Makes.MODEL,
    span=Span(1),
    stays=_on_cpu_stays,
    prepared_by="touch",
    needs=NONE,
    acts=Acting(range(48, 52), by_thread=True),
    codes=range(187, 195),
    record=(choice(0, FLAGS), address(1, 0, EARLIER)),
)
