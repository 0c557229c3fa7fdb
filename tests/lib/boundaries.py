"""Calls at the edges of the arena of x86-64: which of them run, and which leave it."""

from itertools import product
from random import Random

from engine.base.geometry import geometry_named
from engine.base.uapi import MAP_HUGETLB
from fuzz.calls.mmap import MAP
from fuzz.calls.operand import Address, Length
from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Makes
from fuzz.case import MAX_POPULATED_PAGES, Call

GEOMETRY = geometry_named("x86-64")
PAGE = GEOMETRY.page_bytes
END = GEOMETRY.arena.length
MOST = MAX_POPULATED_PAGES * PAGE
WORD = 1 << 64
TOP = GEOMETRY.user_top - GEOMETRY.arena.start  # the end of user space, as an offset

_LAST = WORD - 1 - GEOMETRY.arena.start  # the last byte there is

# By call: does it run?
STAYS = {
    # An access counts the pages that it touches.
    "touch(0x200000, 0x4000000)": True,
    "touch(0x200800, 0x3fff800)": True,
    "touch(0x200800, 0x4000000)": False,
    "peek(0x200001, 0x4000000)": False,
    "peek(0x200001, 0x3ffffff)": True,
    "peek(0x200001, 0x4000001)": False,
    f"touch({END - PAGE:#x}, 0x1000)": True,
    f"touch({END - PAGE:#x}, 0x1001)": False,
    f"peek({END:#x}, 0)": True,
    f"peek({END:#x}, 1)": False,
    "touch(-1, 1)": False,
    "peek(0, -1)": False,
    f"touch({_LAST:#x}, 2)": False,  # wraps around
    # What the kernel refuses first may be anywhere.
    "munmap(-0x1000, 0x1000)": False,
    "munmap(-0x1001, 0x1000)": True,
    "munmap(-0x1000, 0)": True,
    f"munmap({TOP:#x}, 0x1000)": True,
    f"munmap({TOP - PAGE:#x}, 0x1000)": False,
    f"munmap(0, {END:#x})": True,
    f"munmap(0, {END + 1:#x})": False,
    f"mprotect(0, {END:#x}, PROT_NONE)": True,
    f"mprotect({PAGE:#x}, {END:#x}, PROT_NONE)": False,
    "mprotect(-0x1000, 0, PROT_NONE)": True,
    "mprotect(1, -1, PROT_NONE)": True,
    "mprotect(0, -1, PROT_NONE)": True,  # rounds to 0
    "mlock(0x200000, 0x4000000)": True,
    "mlock(0x200800, 0x4000000)": False,
    "munlock(0x200800, 0x4000000)": True,
    f"munlock({END - 1:#x}, 1)": True,
    f"munlock({END - 1:#x}, 2)": False,
    f"mlock({END:#x}, 0)": True,
    "madvise(0x200000, 0x4000000, MADV_POPULATE_READ)": True,
    "madvise(0x200000, 0x4000001, MADV_POPULATE_READ)": False,
    "madvise(0x200001, 0x4000001, MADV_POPULATE_READ)": True,
    "madvise(0x200000, 0x4000001, MADV_COLLAPSE)": False,
    "madvise(0x200000, 0x4000001, MADV_GUARD_INSTALL)": False,
    "madvise(0x200000, 0x4000001, MADV_DONTNEED)": True,
    "uffd_wp(0x200000, 0x4000001, 1)": False,
    f"madvise(0, {END + 1:#x}, MADV_DONTNEED)": False,
    # A machine's memory is not to be damaged: MADV_HWPOISON, MADV_SOFT_OFFLINE, as a C int.
    "madvise(0x200000, 0x1000, 100)": False,
    "madvise(0x200000, 0x1000, 101)": False,
    "madvise(0x200001, 0x1000, 100)": False,
    "madvise(0x200000, 0x1000, 0x100000064)": False,
    "mmap(0, 0x4000000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_POPULATE)": True,
    "mmap(0, 0x4000001, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_POPULATE)": False,
    "mmap(0, 0x4000001, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_LOCKED)": False,
    "mmap(-0x1000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS)": True,
    "mmap(-0x1000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)": False,
    f"mmap({END:#x}, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE)": False,
    f"mmap({TOP:#x}, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)": True,
    # An address among the last is one of the kernel's errors.
    f"mmap({_LAST - 4095:#x}, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)": True,
    f"mmap({_LAST - 4094:#x}, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)": False,
    f"mmap({_LAST:#x}, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS)": True,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE, -1)": True,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE, 0)": False,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|0x80000)": False,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_32BIT)": False,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_32BIT|MAP_FIXED)": True,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_32BIT|MAP_FIXED_NOREPLACE)": True,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGE_1GB)": True,
    "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB|MAP_HUGE_1GB)": False,
    # A move: both places, unless it is refused before it looks at them.
    "mremap(0x200000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, -0x1000)": False,
    "mremap(0x200000, 0x1000, 0x1000, MREMAP_FIXED, -0x1000)": True,
    f"mremap(0x200000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, {TOP:#x})": True,
    f"mremap(0x200000, 0x1000, {END:#x}, MREMAP_MAYMOVE|MREMAP_FIXED, 0x200000)": True,
    f"mremap({END:#x}, 0x1000, 0x1000, MREMAP_MAYMOVE)": False,
    f"mremap({END - PAGE:#x}, 0x1000, 0x2000, MREMAP_MAYMOVE)": True,
    f"mremap({END - PAGE:#x}, 0x2000, 0x1000, MREMAP_MAYMOVE)": False,
    "mremap(-0x1000, 0x1000, 0x1000, 8)": True,
}


def near(rng: Random, *, length: bool) -> int:
    """A number at or beside one where something begins or ends."""
    edges = (0, PAGE, 0x200000, MOST, END - MOST, END, TOP, GEOMETRY.user_top, WORD // 2, WORD)
    edge = rng.choice(edges if length else (*edges, END, END, WORD - GEOMETRY.arena.start))
    beside = rng.choice((0, 0, 0, 1, -1, PAGE, -PAGE, PAGE + 1, 1 - PAGE, 0x200000, -0x200000))
    return (edge + beside) % WORD


def calls_at_edges(rng: Random, count: int) -> list[Call]:
    """Calls that machines can be asked for, their operands at edges."""
    declared = [call for call in CALLS.values() if call.made_by in (Makes.KERNEL, Makes.AGENT)]
    made = []
    for call, _ in product(declared, range(-(-count // len(declared)))):
        args = []
        for param in call.params:
            if isinstance(param.kind, Address | Length):
                args.append(near(rng, length=isinstance(param.kind, Length)))
            elif param.kind.likely:
                hidden = MAP_HUGETLB if param.kind is MAP else 0
                args.append(rng.choice([n for n in param.kind.likely if not n & hidden]))
            else:
                args.append(param.default or 0)
        made.append(Call(call.name, tuple(args)))
    return made
