"""What the kernel does to pages on its own account: swapping, migrating, tracking of writes."""

from engine.base.points import I_MMAP, PAGE_TABLES, RMAP
from engine.base.uapi import Errno
from engine.calls.reclaim import (
    Walk,
    migrate_begin,
    migrate_end,
    soft_dirty_clear,
    swapout,
    walk_to_migrate,
    walk_to_restore,
)
from engine.pages.collapse import collapse_file
from engine.state.space import AddressSpace
from fuzz.calls.arena import Arena, anywhere, one_page, whole_pages
from fuzz.calls.operand import ADDR, LEN, Choice
from fuzz.calls.record import EARLIER, EARLIER_RANGE, PROT, address, choice
from fuzz.calls.syscall import Acting, Makes, Param, Span, Syscall

# How a walk of the reverse map goes in the middle of a move: at once, or not.
PACE = Choice(
    meaning="pace",
    names={"AT_ONCE": 0, "SLOWLY": 1},
    others=False,
    high=1,
    ordinary=0,
    likely={0: 1, 1: 1},
)
_PAGE = address(0, 0, EARLIER)
_PACE = choice(1, PROT)


def _migrate_begin(space: AddressSpace, addr: int, pace: int) -> Errno | None:
    del pace  # nothing is in between
    return migrate_begin(space, addr)


def _migrate_end(space: AddressSpace, addr: int, pace: int) -> Errno | None:
    del pace
    return migrate_end(space, addr)


def _begins_slowly(space: AddressSpace, addr: int, pace: int) -> Walk:
    del pace
    return walk_to_migrate(space, addr)


def _ends_slowly(space: AddressSpace, addr: int, pace: int) -> Walk:
    del pace
    return walk_to_restore(space, addr)


def _stays(arena: Arena, addr: int, pace: int) -> bool:
    del pace
    return one_page(arena, addr)


SWAPOUT = Syscall(
    number=16,
    name="swapout",
    params=(Param("addr", ADDR), Param("len", LEN)),
    model=swapout,
    made_by=Makes.MODEL,
    span=Span(0, 1),
    stays=whole_pages,
    prepared_by="touch",
    needs=RMAP | PAGE_TABLES,
    acts=Acting(range(52, 56)),
    codes=range(230, 234),
    record=EARLIER_RANGE,
)
MIGRATE_BEGIN = Syscall(
    number=17,
    name="migrate_begin",
    params=(Param("addr", ADDR), Param("pace", PACE, 0)),
    model=_migrate_begin,
    made_by=Makes.MODEL,
    span=Span(0),
    stays=_stays,
    prepared_by="touch",
    needs=RMAP | PAGE_TABLES,
    acts=Acting(range(142, 144), slowly=_begins_slowly),
    codes=range(253, 255),
    record=(_PAGE, _PACE),
)
MIGRATE_END = Syscall(
    number=18,
    name="migrate_end",
    params=(Param("addr", ADDR), Param("pace", PACE, 0)),
    model=_migrate_end,
    made_by=Makes.MODEL,
    span=Span(0),
    stays=_stays,
    prepared_by="migrate_begin",
    needs=RMAP | PAGE_TABLES,
    acts=Acting(range(140, 142), slowly=_ends_slowly),
    codes=range(221, 226),
    record=(_PAGE, _PACE),
)
SOFT_DIRTY_CLEAR = Syscall(
    number=19,
    name="soft_dirty_clear",
    params=(),
    model=soft_dirty_clear,
    made_by=Makes.MODEL,
    stays=anywhere,
    codes=range(255, 256),
    record=(),
)
COLLAPSE_FILE = Syscall(
    number=28,
    name="collapse_file",
    params=(Param("addr", ADDR),),
    model=collapse_file,
    made_by=Makes.MODEL,
    span=Span(0),
    stays=one_page,
    prepared_by="touch",
    needs=I_MMAP | PAGE_TABLES,
    acts=Acting(range(96, 99)),
    codes=range(99, 100),
    record=(_PAGE,),
)
