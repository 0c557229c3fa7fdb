"""userfaultfd(2): uffd_register; uffd_wp for UFFDIO_WRITEPROTECT, uffd_rwp for UFFDIO_RWPROTECT."""

from engine.base import uapi
from engine.base.points import MMAP_READ
from engine.base.uapi import (
    UFFD_FEATURE_EVENT_FORK,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_REMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
    UFFD_FEATURE_RWP,
    UFFD_FEATURE_RWP_ASYNC,
    UFFD_FEATURE_SIGBUS,
    UFFD_FEATURE_WP_ASYNC,
    UFFD_FEATURE_WP_UNPOPULATED,
    UFFDIO_REGISTER_MODE_MINOR,
    UFFDIO_REGISTER_MODE_MISSING,
    UFFDIO_REGISTER_MODE_RWP,
    UFFDIO_REGISTER_MODE_WP,
)
from engine.pages.uffd import uffd_register, uffd_rwp, uffd_wp
from fuzz.calls.arena import Arena, filled_whole_pages, whole_pages
from fuzz.calls.operand import ADDR, LEN, Flags, Number
from fuzz.calls.record import EARLIER_RANGE, EXISTING_RANGE, FLAGS, PROT, choice
from fuzz.calls.syscall import Acting, Makes, Param, Span, Syscall, main_filled

MODE = Flags(
    meaning="registration mode",
    names=uapi.values(
        "UFFDIO_REGISTER_MODE_MISSING",
        "UFFDIO_REGISTER_MODE_WP",
        "UFFDIO_REGISTER_MODE_MINOR",
        "UFFDIO_REGISTER_MODE_RWP",
    ),
    ordinary=UFFDIO_REGISTER_MODE_WP,
    likely={
        UFFDIO_REGISTER_MODE_WP: 12,
        UFFDIO_REGISTER_MODE_MISSING: 3,
        UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING: 3,
        UFFDIO_REGISTER_MODE_MINOR: 1,
        0: 1,
        UFFDIO_REGISTER_MODE_RWP: 3,
        UFFDIO_REGISTER_MODE_RWP | UFFDIO_REGISTER_MODE_MISSING: 1,
        16: 1,  # an unknown mode
    },
)
FEATURES = Flags(
    meaning="userfaultfd features",
    names=uapi.values(
        "UFFD_FEATURE_PAGEFAULT_FLAG_WP",
        "UFFD_FEATURE_EVENT_FORK",
        "UFFD_FEATURE_EVENT_REMAP",
        "UFFD_FEATURE_EVENT_REMOVE",
        "UFFD_FEATURE_MISSING_HUGETLBFS",
        "UFFD_FEATURE_MISSING_SHMEM",
        "UFFD_FEATURE_EVENT_UNMAP",
        "UFFD_FEATURE_SIGBUS",
        "UFFD_FEATURE_THREAD_ID",
        "UFFD_FEATURE_MINOR_HUGETLBFS",
        "UFFD_FEATURE_MINOR_SHMEM",
        "UFFD_FEATURE_EXACT_ADDRESS",
        "UFFD_FEATURE_WP_HUGETLBFS_SHMEM",
        "UFFD_FEATURE_WP_UNPOPULATED",
        "UFFD_FEATURE_POISON",
        "UFFD_FEATURE_WP_ASYNC",
        "UFFD_FEATURE_MOVE",
        "UFFD_FEATURE_RWP",
        "UFFD_FEATURE_RWP_ASYNC",
    ),
    likely={
        0: 8,
        UFFD_FEATURE_EVENT_REMAP: 6,
        UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP: 2,
        UFFD_FEATURE_EVENT_FORK: 2,
        UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP: 1,
        UFFD_FEATURE_EVENT_UNMAP: 1,
        UFFD_FEATURE_EVENT_REMOVE: 1,
        UFFD_FEATURE_WP_UNPOPULATED: 2,
        UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_EVENT_REMAP: 2,
        UFFD_FEATURE_WP_ASYNC: 1,
        UFFD_FEATURE_SIGBUS: 1,
        UFFD_FEATURE_RWP: 2,
        UFFD_FEATURE_RWP | UFFD_FEATURE_EVENT_REMAP: 2,
        UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC: 1,
    },
)
SWITCH = Number(meaning="switch", high=1, ordinary=1, likely={1: 3, 0: 1})


def _wp_stays(arena: Arena, addr: int, length: int, on: int) -> bool:
    # In shared memory every page that is missing gets a marker.
    return (filled_whole_pages if on else whole_pages)(arena, addr, length)


UFFD_REGISTER = Syscall(
    number=12,
    name="uffd_register",
    params=(
        Param("addr", ADDR),
        Param("len", LEN),
        Param("mode", MODE),
        Param("features", FEATURES, 0),
    ),
    model=uffd_register,
    made_by=Makes.MODEL,
    span=Span(0, 1),
    stays=whole_pages,
    codes=range(234, 237),
    record=(choice(2, FLAGS), choice(3, PROT), *EXISTING_RANGE),
)
UFFD_WP = Syscall(
    number=13,
    name="uffd_wp",
    params=(Param("addr", ADDR), Param("len", LEN), Param("on", SWITCH)),
    model=uffd_wp,
    made_by=Makes.MODEL,
    span=Span(0, 1),
    stays=_wp_stays,
    fills=main_filled,
    needs=MMAP_READ,
    acts=Acting((43,)),
    prepared_by="uffd_register",
    codes=range(203, 209),
    record=(choice(2, FLAGS), *EARLIER_RANGE),
)
UFFD_RWP = Syscall(
    number=24,
    name="uffd_rwp",
    params=(Param("addr", ADDR), Param("len", LEN), Param("on", SWITCH)),
    model=uffd_rwp,
    made_by=Makes.MODEL,
    span=Span(0, 1),
    stays=whole_pages,
    needs=MMAP_READ,
    acts=Acting((42,)),
    prepared_by="uffd_register",
    codes=range(209, 210),
    record=(choice(2, FLAGS), *EARLIER_RANGE),
)
