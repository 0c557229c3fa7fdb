"""The memory that programs of syzkaller work in: 16 MiB, mapped before they begin.

Their text has its addresses from 0x7f0000000000 on, wherever the area really is.
Source: syzkaller, prog/encoding.go, sys/targets/targets.go, executor/executor_linux.h.
"""

from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from fuzz.case import Call

BASE = 0x7F0000000000  # in the text
SIZE = 16 << 20
AT = 0x20000000  # in the arena of a case; in a process, too, before 2024
SLOT = 2 << 20
PAGE = 4096
_FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED

# What the executor maps: the area, and a page on either side that nobody may access.
MAPPED = tuple(
    Call("mmap", (start, length, prot, _FLAGS, -1, 0), start)
    for start, length, prot in (
        (AT - PAGE, PAGE, 0),
        (AT, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC),
        (AT + SIZE, PAGE, 0),
    )
)
UNMAPPED = f"munmap(&({BASE:#x}/{SIZE:#x})=nil, {SIZE:#x})"  # how a program begins that has none
