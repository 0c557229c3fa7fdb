"""What a call of a case is there for, in a few words."""

from collections.abc import Callable, Mapping, Sequence

from engine.base import uapi
from engine.state import terms
from fuzz.case import Call, Faults, Result

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


def purpose(call: Call, result: Result, page_bytes: int) -> str:
    """What a call does, in a few words; "" if that is plain.  Arguments: `page_bytes` of a page."""
    if isinstance(result, str) and result.startswith("-E"):
        return "refused"
    words = _PURPOSES[call.name](call.args, page_bytes) if call.name in _PURPOSES else ""
    return f"{words}; some fault" if isinstance(result, Faults) else words


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
    "bpf_map": lambda args, page: f"memory of the kernel, {_pages(args[1], page)}",
    "ftruncate": lambda args, page: f"its size becomes {_pages(args[1], page)}",
    "fallocate": lambda args, page: "punch a hole" if args[1] & 2 else "fill it",
    "fork": lambda args, page: "a child that does nothing",
    "exit_child": lambda args, page: "all children end",
    "swapout": lambda args, page: "to swap",
    "soft_dirty_clear": lambda args, page: "all is clean from here on",
}
