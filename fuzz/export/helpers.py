"""The helpers of exported programs: C in `parts/`, of which each gets what it needs.

A part is a file of blocks: a definition each, with the comment above it, a blank line between two.
What a program calls is looked for in them, and what that calls in turn; nothing else is taken, so
that compilers find nothing that is unused.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from engine.base import uapi
from fuzz.lib.fingerprint import fingerprint

_PARTS = Path(__file__).with_name("parts")
# In the order in which they come in a program: what a block uses stands above it.
_ORDER = (
    "memory",
    "tell",
    "{report}",
    "proc",
    "vmas",
    "pages",
    "needs",
    "layout",
    "access",
    "process",
    "file",
    "uffd",
    "swap",
    "limits",
    "warnings",
    "shortage",
    "repeat",
)
_WORD = re.compile(r"\b[A-Za-z_]\w*\b")
_NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.S)
_DEFINES = (
    re.compile(r"^#define (\w+)", re.M),
    re.compile(r"^struct (\w+) \{", re.M),
    re.compile(r"^static [^=;(\n]*?\b(\w+)(?:\[[^\n]*\])*(?: =|;|,)", re.M),
    re.compile(r"^static [^=;\n]*?\b(\w+)\(", re.M),
    re.compile(r"^\} (\w+)", re.M),
    re.compile(r"^static [^(\n]*, (\w+)(?:\[\d*\])?(?: =[^,;]*)?;", re.M),
    re.compile(r"^static [^(\n]*, (\w+), \w+(?:\[\d*\])?;", re.M),
)
# Where libc and the kernel's own headers have what a program uses.
_HEADERS = {
    "ctype.h": r"isdigit",
    "errno.h": r"errno|E[A-Z]{2,}[A-Z0-9]*",
    "fcntl.h": r"open|fallocate|O_[A-Z]+|FALLOC_\w+",
    "linux/capability.h": r"CAP_\w+|_LINUX_CAPABILITY_VERSION_3",
    "linux/userfaultfd.h": r"UFFD\w+|uffd_msg|uffdio_\w+",
    "poll.h": r"poll|pollfd",
    "sched.h": r"CLONE_\w+|sched_\w+|cpu_set_t",
    "setjmp.h": r"sigjmp_buf|siglongjmp|sigsetjmp",
    "signal.h": r"SIG[A-Z]+|sigaction|kill|SA_\w+",
    "stdarg.h": r"va_\w+",
    "stdbool.h": r"bool",
    "stdint.h": r"u?int\d+_t|uintptr_t",
    "stdio.h": r"printf|puts|sprintf|snprintf|sscanf|vsnprintf|fopen|fgets|fflush|stdout"
    r"|FILE",
    "stdlib.h": r"exit|atexit|strtoll|strtoull|EXIT_\w+|realpath",
    "string.h": r"str[a-z]+|mem[a-z]+",
    "sys/ioctl.h": r"ioctl|_IOWR",
    "sys/mman.h": r"mmap|munmap|mprotect|madvise|MAP_\w+|PROT_\w+|MADV_\w+|MREMAP_\w+|MLOCK_\w+",
    "sys/personality.h": r"personality|ADDR_NO_RANDOMIZE",
    "sys/prctl.h": r"prctl|PR_\w+",
    "sys/resource.h": r"[gs]etrlimit|rlimit|RLIMIT_\w+|RLIM_\w+",
    "sys/socket.h": r"socketpair|AF_\w+|SOCK_\w+",
    "sys/stat.h": r"mkdir|stat",
    "sys/syscall.h": r"SYS_\w+",
    "sys/types.h": r"pid_t|ssize_t|off_t",
    "sys/utsname.h": r"utsname|uname",
    "sys/wait.h": r"waitpid|W[A-Z]+STATUS|WIF\w+",
    "unistd.h": r"syscall|read|write|pread|pwrite|close|pause|geteuid|getp?pid|sysconf|_SC_\w+|"
    r"_exit|alarm|usleep|ftruncate|access|fork|execv|execve|pipe|dup2|rmdir",
}
# What every header has by now; all else is defined where a header lacks it.
_EVERYWHERE = re.compile(
    r"PROT_(NONE|READ|WRITE|EXEC|GROWS\w+)|MREMAP_(MAYMOVE|FIXED)"
    r"|MAP_(SHARED|PRIVATE|FIXED|ANONYMOUS|GROWSDOWN|DENYWRITE|EXECUTABLE|LOCKED|NORESERVE|POPULATE"
    r"|NONBLOCK|STACK|HUGETLB)"
    r"|MADV_(NORMAL|RANDOM|SEQUENTIAL|WILLNEED|DONTNEED|REMOVE|DONTFORK|DOFORK|MERGEABLE"
    r"|UNMERGEABLE|HUGEPAGE|NOHUGEPAGE|DONTDUMP|DODUMP)"
    r"|UFFDIO_REGISTER_MODE_(MISSING|WP)|UFFDIO_WRITEPROTECT_MODE_\w+"
    r"|UFFD_FEATURE_(PAGEFAULT_FLAG_WP|EVENT_\w+|MISSING_\w+|SIGBUS|THREAD_ID)"
)


class Block(NamedTuple):
    """A definition with the comment above it: its text, what it defines, what it uses."""

    text: str
    defines: frozenset[str]
    uses: frozenset[str]


def words(code: str) -> frozenset[str]:
    """The identifiers in C, but for those in comments and strings."""
    return frozenset(_WORD.findall(_NO_CODE.sub(" ", code)))


@cache
def of_parts() -> str:
    """A fingerprint of the helpers: differs wherever a program may."""
    return fingerprint(_PARTS, (path.name for path in _PARTS.iterdir()))


def helpers(body: str, report: str) -> str:
    """The definitions that a program needs besides its own.

    Arguments: `body` the C that is to call them; `report` the part by which it tells results.
    """
    wanted = _reached(words(body), _blocks(report))
    return "\n\n".join(block.text for block in wanted)


def head(code: str, own: Sequence[str] = ()) -> str:
    """The includes that C needs, and the definitions that older headers lack.

    Arguments: `own` more includes, as they stand in an `#include`.
    """
    used = words(code)
    names = [name for name, of in _HEADERS.items() if any(re.fullmatch(of, word) for word in used)]
    lines = ["#define _GNU_SOURCE", "#define _FILE_OFFSET_BITS 64"]
    lines += [f"#include <{name}>" for name in names]
    lines += ["", *(f'#include "{name}"' for name in own)] if own else []
    lacking = [word for word in sorted(used) if _may_lack(word)]
    if lacking:
        lines += ["", "/* Older headers lack these. */"]
    for word in lacking:
        lines += [f"#ifndef {word}", f"#define {word} {_value(word)}", "#endif"]
    return "\n".join(lines)


def _may_lack(word: str) -> bool:
    """Is it a constant of the kernel that not all headers have?"""
    known = word.startswith(("PROT_", "MAP_", "MREMAP_", "MADV_", "MLOCK_", "UFFD"))
    return known and hasattr(uapi, word) and not _EVERYWHERE.fullmatch(word)


def _value(name: str) -> str:
    value: int = getattr(uapi, name)
    return f"{value:#x}" if value > 9 else str(value)


def _reached(body: Iterable[str], blocks: Sequence[Block]) -> list[Block]:
    """The blocks that define what is used, directly or by others, in their order."""
    defined = {name: block for block in blocks for name in block.defines}
    found: set[Block] = set()
    left = set(body)
    while left:
        block = defined.get(left.pop())
        if block is not None and block not in found:
            found.add(block)
            left |= block.uses
    return [block for block in blocks if block in found]


@cache
def _blocks(report: str) -> tuple[Block, ...]:
    """All blocks there are, in order.  Arguments: see `helpers`."""
    names = [name.format(report=report) for name in _ORDER]
    return tuple(block for name in names for block in _read(_PARTS / f"{name}.c"))


def _read(path: Path) -> Iterator[Block]:
    """The blocks of a file."""
    for text in re.split(r"\n\n(?=[^\s}])", path.read_text(encoding="utf-8").strip("\n")):
        code = _NO_CODE.sub(lambda found: "" if found[0][0] == "/" else '""', text)
        defines = frozenset(name for form in _DEFINES for name in form.findall(code))
        yield Block(text, defines, words(text) - defines)
