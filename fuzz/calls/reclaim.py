"""What the kernel does to pages on its own account: swapping, migrating, tracking of writes."""

from engine.base.points import I_MMAP, PAGE_TABLES, RMAP
from engine.calls.reclaim import migrate_begin, migrate_end, soft_dirty_clear, swapout
from engine.pages.collapse import collapse_file
from fuzz.calls.arena import anywhere, one_page, whole_pages
from fuzz.calls.operand import ADDR, LEN
from fuzz.calls.record import EARLIER, EARLIER_RANGE, address
from fuzz.calls.syscall import Acting, Makes, Param, Span, Syscall

_PAGE = address(0, 0, EARLIER)

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
    params=(Param("addr", ADDR),),
    model=migrate_begin,
    made_by=Makes.MODEL,
    span=Span(0),
    stays=one_page,
    prepared_by="touch",
    needs=RMAP | PAGE_TABLES,
    acts=Acting(range(142, 144)),
    codes=range(253, 255),
    record=(_PAGE,),
)
MIGRATE_END = Syscall(
    number=18,
    name="migrate_end",
    params=(Param("addr", ADDR),),
    model=migrate_end,
    made_by=Makes.MODEL,
    span=Span(0),
    stays=one_page,
    prepared_by="migrate_begin",
    needs=RMAP | PAGE_TABLES,
    acts=Acting(range(140, 142)),
    codes=range(221, 226),
    record=(_PAGE,),
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
