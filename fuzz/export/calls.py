"""A call of a case as C, and what it is there for, in a line."""

from collections.abc import Callable, Mapping, Sequence

from engine.base import uapi
from engine.base.address import WORD_MASK
from engine.state import terms
from fuzz.calls.file import FILE
from fuzz.calls.operand import (
    FILES,
    Address,
    Choice,
    Descriptor,
    Flags,
    Length,
    Number,
    Offset,
    Operand,
)
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Faults, Result
from fuzz.forms.results import format_result

_INT_MAX = 0x7FFFFFFF
# The function of a part that makes a call; others are the system call of their name.
_FUNCTIONS = {
    "touch": "touch",
    "peek": "peek",
    "uffd_register": "uffd_register",
    "uffd_wp": "uffd_wp",
    "uffd_rwp": "uffd_rwp",
    "file": "make_file",
    "fork": "fork_child",
    "exit_child": "end_children",
    "swapout": "swap_out",
    "soft_dirty_clear": "clear_soft_dirty",
}
_ADVICE = {
    uapi.MADV_HUGEPAGE: "huge pages are wanted",
    uapi.MADV_NOHUGEPAGE: "no huge pages",
    uapi.MADV_COLLAPSE: "make huge pages of what is there",
    uapi.MADV_DONTNEED: "drop the pages",
    uapi.MADV_DONTNEED_LOCKED: "drop the pages, locked or not",
    uapi.MADV_FREE: "reclaim may drop the pages",
    uapi.MADV_REMOVE: "punch a hole",
    uapi.MADV_PAGEOUT: "to swap",
    uapi.MADV_GUARD_INSTALL: "guard pages",
    uapi.MADV_GUARD_REMOVE: "no guard pages any more",
    uapi.MADV_POPULATE_READ: "bring the pages in, to be read",
    uapi.MADV_POPULATE_WRITE: "bring the pages in, to be written",
    uapi.MADV_DONTFORK: "children do not get it",
    uapi.MADV_WIPEONFORK: "children get zeroes",
}


def address(offset: int) -> str:
    """An address of the arena, by its offset in bytes."""
    return f"AT({offset:#x})"


def descriptor(fd: int) -> str:
    """A file descriptor, of one that a case has a letter for the name."""
    letter = {number: name for name, number in FILES.items()}.get(fd)
    return str(fd) if letter is None else f"FILE_{letter}"


def invocation(call: Call, tables: int | None = None) -> str:
    """A call as C.

    Arguments: `tables` how many page tables an mremap may have that is short of memory; None: it is
    not.
    """
    params = CALLS[call.name].params
    function = _FUNCTIONS.get(call.name, f"sys_{call.name}")
    operands = [_operand(param.kind, value) for param, value in zip(params, call.args, strict=True)]
    if tables is not None:
        function, operands = f"{function}_with_tables", [str(tables), *operands]
    return f"{function}({', '.join(operands)})"


def expected(result: Result, page_bytes: int) -> str:
    """A result as C: a number or, of an access, a text.  Arguments: `page_bytes` of a page."""
    if isinstance(result, Faults):
        return f'"{format_result(result, page_bytes)}"'
    return result if isinstance(result, str) else _number(result)


def purpose(call: Call, result: Result, page_bytes: int) -> str:
    """What a call does, in a few words; "" if that is plain.  Arguments: see `expected`."""
    if isinstance(result, str) and result.startswith("-E"):
        return "refused"
    words = _PURPOSES[call.name](call.args, page_bytes) if call.name in _PURPOSES else ""
    return f"{words}; some fault" if isinstance(result, Faults) else words


def _operand(kind: Operand, value: int) -> str:
    if isinstance(kind, Descriptor) or kind is FILE:
        return descriptor(value)
    match kind:
        case Address():
            return address(value)
        case Flags():
            return _flags(kind, value)
        case Choice():
            return kind.by_value.get(value) or _int(value)
        case Number():
            return str(value)
        case Length() | Offset():
            return _number(value)
    return _number(value)


def _flags(kind: Flags, value: int) -> str:
    """Names side by side, as `fuzz.forms.text` orders them."""
    left, names = value, []
    number = value & kind.number
    ordered = sorted(kind.names.items(), key=lambda item: item[0] not in kind.first)
    for name, bits in ordered:
        if bits and left & bits == bits:
            names.append(name)
            left &= ~bits
    if number and (called := {v: n for n, v in kind.numbers.items()}.get(number)):
        names.append(called)
        left &= ~number
    if left:
        names.append(_number(left))
    return " | ".join(names) or kind.none or "0"


def _int(value: int) -> str:
    """What the kernel takes an int of."""
    return str(value) if value <= _INT_MAX else f"(int){value:#x}"


def _number(value: int) -> str:
    """A number; one that takes more than 32 bits is cut where a word has no more."""
    cast = "(unsigned long)" if value > 0xFFFFFFFF else ""
    return f"{cast}{value & WORD_MASK:#x}" if value > 9 else str(value)


# --- What calls are there for ---------------------------------------------------------------------


def _pages(length: int, page: int) -> str:
    """A length, in words."""
    if length > 1 << 40:
        return "a huge length"
    pages = -(-length // page)
    return terms.count(pages, "page") if pages < 1024 else terms.size(length)


def _mmap(args: Sequence[int], page: int) -> str:
    _, length, _, flags, *_ = args
    kind = "shared" if flags & uapi.MAP_TYPE in (1, 3) else "private"
    if not flags & uapi.MAP_ANONYMOUS:
        return f"{_pages(length, page)} of the file, {kind}"
    huge = " of hugetlb" if flags & uapi.MAP_HUGETLB else ""
    also: Mapping[int, str] = {
        uapi.MAP_LOCKED: "locked",
        uapi.MAP_POPULATE: "brought in",
        uapi.MAP_GROWSDOWN: "grows down",
        uapi.MAP_NORESERVE: "not accounted for",
    }
    told = "".join(f", {word}" for bit, word in also.items() if flags & bit)
    return f"{_pages(length, page)} of {kind} memory{huge}{told}"


def _mremap(args: Sequence[int], page: int) -> str:
    _, old, new, flags, *_ = args
    if not old:
        what = "a second mapping of the same memory"
    elif flags & uapi.MREMAP_DONTUNMAP:
        what = f"move {_pages(old, page)}, and keep the mapping that they leave"
    elif flags & uapi.MREMAP_FIXED:
        what = f"move {_pages(min(old, new), page)}"
    else:
        what = ""
    if old and new != old and not flags & uapi.MREMAP_DONTUNMAP:
        change = "grow" if new > old else "shrink"
        what += (
            f"{', and ' if what else ''}{change} from {_pages(old, page)} to {_pages(new, page)}"
        )
    return what


_PURPOSES: Mapping[str, Callable[[Sequence[int], int], str]] = {
    "mmap": _mmap,
    "munmap": lambda args, page: f"unmap {_pages(args[1], page)}",
    "mremap": _mremap,
    "madvise": lambda args, page: _ADVICE.get(args[2], ""),
    "mlock": lambda args, page: f"lock {_pages(args[1], page)}",
    "mlock2": lambda args, page: f"lock {_pages(args[1], page)}",
    "munlock": lambda args, page: f"unlock {_pages(args[1], page)}",
    "mseal": lambda args, page: f"seal {_pages(args[1], page)}",
    "touch": lambda args, page: f"write a number to {_pages(args[1], page)}",
    "peek": lambda args, page: f"read {_pages(args[1], page)}",
    "uffd_register": lambda args, page: "a userfaultfd watches it",
    "uffd_wp": lambda args, page: "write-protect it" if args[2] else "end the write protection",
    "uffd_rwp": lambda args, page: "protect it from all access" if args[2] else "end that",
    "file": lambda args, page: f"a file of {_pages(args[1], page)}",
    "ftruncate": lambda args, page: f"its size becomes {_pages(args[1], page)}",
    "fallocate": lambda args, page: "punch a hole" if args[1] & 2 else "fill it",
    "fork": lambda args, page: "a child that does nothing",
    "exit_child": lambda args, page: "all children end",
    "swapout": lambda args, page: "to swap",
    "soft_dirty_clear": lambda args, page: "all is clean from here on",
}
