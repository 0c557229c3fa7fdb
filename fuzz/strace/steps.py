"""What the calls of a traced program mean: a step is a call of a case, with real addresses.

Which calls there are, and what becomes of one that cases do not have, is said here alone.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from engine.base import uapi
from engine.base.address import WORD_MASK
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from fuzz.strace import values
from fuzz.strace.values import Value

PAGE = 4096
OPENED = "!"  # ends a file's name in a step if its descriptor is likely another file's than before
MSEAL = "syscall_0x1ce"  # as strace 6.1 has it
# Calls about memory that cases do not have, by why not.
STRANGERS = {
    "mbind": "NUMA",
    "migrate_pages": "NUMA",
    "move_pages": "NUMA",
    "set_mempolicy_home_node": "NUMA",
    "mlockall": "all of an address space",
    "munlockall": "all of an address space",
    "process_madvise": "another process",
    "remap_file_pages": "files",
    "shmat": "System V shared memory",
    "shmdt": "System V shared memory",
    "map_shadow_stack": "shadow stacks",
    "pkey_mprotect": "protection keys",
}
_PLACED = MAP_FIXED | MAP_FIXED_NOREPLACE
# Flags of mmap that cases have; the others have no effect on memory that no file is behind.
_LOST = uapi.MAP_SYNC | uapi.MAP_ABOVE4G
_RANGE = re.compile(r"\{range=\{start=(\w+), len=(\w+)\}, mode=([^,}]+)")
_FEATURES = re.compile(r"\{api=\w+(?: /\*.*?\*/)?, features=([^,}]+)")


class Step(NamedTuple):
    """A call in real addresses, in bytes.

    `result` an address, 0, or "-EINVAL" and the like; `spans` the ranges that matter to it.
    `made` are the operands as the program had them, if they named no place and these do, where the
    kernel has put it.  `file` is the descriptor of the file that is mapped, "" if there is none, as
    the log has it, perhaps with a name (see OPENED).  `note` says in what it is not what the
    program did.
    """

    name: str
    args: tuple[int, ...]
    result: int | str
    spans: tuple[tuple[int, int], ...] = ()
    made: tuple[int, ...] = ()
    file: str = ""
    note: str = ""


class Inexpressible(Exception):
    """A call that a case cannot have; the message is what kind it is of."""


def up(length: int) -> int:
    """Bytes in whole pages, as the kernel counts them: it may wrap to 0."""
    return (length + PAGE - 1) & -PAGE & WORD_MASK


def as_memory(flags: int, fd: int) -> tuple[int, bool]:
    """Flags of mmap for what has no file behind it, and whether there was one.

    The mapping of a file becomes anonymous memory, shared or private as it was.
    """
    if flags & MAP_ANONYMOUS or fd < 0:
        return flags, False
    shared = flags & MAP_TYPE in (MAP_SHARED, MAP_SHARED_VALIDATE)
    kind = MAP_SHARED if shared else MAP_PRIVATE
    return flags & ~MAP_TYPE | kind | MAP_ANONYMOUS, True


def _span(start: int, length: int, value: Value) -> tuple[int, int]:
    """The range that matters to a call: of one that is refused, not more than its beginning."""
    return start, start + min(up(length), 1 << (30 if value.failed else 47))


def _mmap(text: str, value: Value) -> Step:
    addr, length, prot, flags, fd, offset = values.of_mmap(text)
    args = (
        values.number(addr),
        values.number(length),
        values.flags(prot, values.PROTS),
        values.flags(flags, values.MAPS),
        values.file_descriptor(fd),
        values.number(offset),
    )
    file = "" if args[3] & MAP_ANONYMOUS or args[4] < 0 else fd
    if value.failed or value.value is None:
        if file:
            raise Inexpressible("mmap of a file that failed")
        return Step("mmap", args, value.error, ((args[0], args[0]),))
    start, kind, place = args[0], args[3] & ~_LOST, value.value
    if file and kind & MAP_TYPE == MAP_SHARED_VALIDATE:
        kind ^= MAP_SHARED_VALIDATE ^ MAP_SHARED
    args = (*args[:3], kind, *args[4:])
    if file and not args[5] and not kind & MAP_FIXED:
        file += OPENED
    made: tuple[int, ...] = ()
    if not kind & _PLACED and place != start:
        made = args if start else ()  # a case cannot say that any place will do
        args = (place, args[1], args[2], kind | MAP_FIXED, *args[4:])
    note = "mmap of a file, for which one in memory stands" if file else ""
    return Step("mmap", args, place, (_span(place, args[1], value),), made, file, note)


def names_target(flags: int) -> bool:
    """Does mremap with these flags look at its last operand, and not refuse them at once?"""
    return bool(flags & MREMAP_MAYMOVE and flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))


def _mremap(text: str, value: Value) -> Step:
    found = values.operands(text, 4, 5)
    old, old_len, new_len = map(values.number, found[:3])
    flags = values.flags(found[3], values.REMAPS)
    target = values.number(found[4]) if len(found) == 5 else 0
    placing = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    if not placing:
        target = 0
    # What lies behind matters to one that may grow where it is.
    grows = not value.failed and not flags & MREMAP_FIXED
    spans = [_span(old, max(old_len, new_len) if grows else old_len, value)]
    args = (old, old_len, new_len, flags, target)
    made: tuple[int, ...] = ()
    if value.value not in (None, old, target) and not flags & MREMAP_FIXED:
        made, target = args, value.value or 0
        args = (old, old_len, new_len, flags | MREMAP_FIXED, target)
    if placing or target:
        spans.append(_span(target, new_len, value))
    return Step("mremap", args, value.error or value.value or 0, tuple(spans), made)


def _ranged(name: str, last: Callable[[str], int] | None = None) -> Callable[[str, Value], Step]:
    """How a call is read that is about a range, and perhaps has one more operand."""

    def read(text: str, value: Value) -> Step:
        count = 2 + (last is not None)
        found = values.operands(text, count, count)
        start, length = map(values.number, found[:2])
        args = (start, length, *([last(found[2])] if last is not None else []))
        return Step(name, args, value.error or 0, (_span(start, length, value),))

    return read


def _madvise(text: str, value: Value) -> Step:
    step = _ranged("madvise", lambda word: values.flags(word, values.ADVICES))(text, value)
    if step.args[2] in (uapi.MADV_HWPOISON, uapi.MADV_SOFT_OFFLINE):
        raise Inexpressible("advice that damages memory")
    return step


def _mseal(text: str, value: Value) -> Step:
    # The third operand has to be 0; strace 6.1 shows six words.
    start, length, flags = map(values.number, values.operands(text, 3, 6)[:3])
    if flags:
        raise Inexpressible("mseal with flags")
    return Step("mseal", (start, length), value.error or 0, (_span(start, length, value),))


READERS: dict[str, Callable[[str, Value], Step]] = {
    "mmap": _mmap,
    "mmap2": _mmap,
    "munmap": _ranged("munmap"),
    "mprotect": _ranged("mprotect", lambda word: values.flags(word, values.PROTS)),
    "mremap": _mremap,
    "madvise": _madvise,
    "mlock": _ranged("mlock"),
    "munlock": _ranged("munlock"),
    "mlock2": _ranged("mlock2", lambda word: values.flags(word, values.LOCKS)),
    "mseal": _mseal,
    MSEAL: _mseal,
}


def features(text: str) -> int:
    """The features that UFFDIO_API asks for, before the `=>`.  Errors raised: Inexpressible."""
    match = _FEATURES.search(text.partition("=>")[0].rstrip())
    if match is None:
        raise Inexpressible("a userfaultfd whose features the log does not show")
    return values.flags(match[1], values.FEATURE_NAMES)


def registered(text: str, asked: int, value: Value) -> Step:
    """UFFDIO_REGISTER through a userfaultfd with the features `asked`."""
    start, length, mode = _uffd_range(text, values.MODES)
    args = (start, length, mode, asked)
    return Step("uffd_register", args, value.error or 0, (_span(start, length, value),))


def write_protected(text: str, value: Value) -> Step:
    """UFFDIO_WRITEPROTECT.  Errors raised: Inexpressible: strace 6.1 shows a pointer."""
    start, length, mode = _uffd_range(text, values.WP_MODES)
    on = mode & uapi.UFFDIO_WRITEPROTECT_MODE_WP
    return Step("uffd_wp", (start, length, on), value.error or 0, (_span(start, length, value),))


def _uffd_range(text: str, names: Mapping[str, int]) -> tuple[int, int, int]:
    match = _RANGE.search(text)
    if match is None:
        raise Inexpressible("an ioctl whose range the log does not show")
    return values.number(match[1]), values.number(match[2]), values.flags(match[3], names)


# Calls that succeed only where something is mapped.
MADE_BEFORE = frozenset({"mprotect", "mremap", "madvise", "mlock", "mlock2", "munlock", "mseal"})
