"""What strace prints of a program: each version in its own way, with the options that matter.

Measured with strace 6.1, 6.13 and 7.2.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.base import uapi
from engine.base.geometry import GEOMETRIES
from engine.base.kernel import Kernel
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from fuzz.calls.operand import PROT
from fuzz.calls.registry import DIRECTIVES
from fuzz.case import Call, Case, Faults, Result
from fuzz.execute import execute
from fuzz.strace import values
from fuzz.strace.steps import MSEAL, PAGE

ARENA = GEOMETRIES[
    "x86-64"
].arena.start  # where the arena of a case lies in a log that is written here
_PID = 1000
_COLUMN = 39  # up to which a call is filled with blanks
_UFFD = 3  # the first file descriptor of a program
# The order in which strace names flags of mmap; types come first.
_MAP_ORDER = (
    *("MAP_FIXED", "MAP_ANONYMOUS", "MAP_32BIT", "MAP_ABOVE4G", "MAP_NORESERVE", "MAP_POPULATE"),
    *("MAP_NONBLOCK", "MAP_GROWSDOWN", "MAP_DENYWRITE", "MAP_EXECUTABLE", "MAP_LOCKED"),
    *("MAP_STACK", "MAP_HUGETLB", "MAP_SYNC", "MAP_FIXED_NOREPLACE"),
)
_MAP_TYPES = {
    0: "MAP_FILE",
    uapi.MAP_SHARED: "MAP_SHARED",
    uapi.MAP_PRIVATE: "MAP_PRIVATE",
    uapi.MAP_SHARED_VALIDATE: "MAP_SHARED_VALIDATE",
    uapi.MAP_DROPPABLE: "MAP_DROPPABLE",
}
_NEWER = {"MAP_DROPPABLE", "MAP_ABOVE4G", "MADV_GUARD_INSTALL", "MADV_GUARD_REMOVE"}  # than 6.1
_HUGE = 0x3F << uapi.MAP_HUGE_SHIFT
_OPERANDS = {  # their names, with -N
    "mmap": ("addr", "length", "prot", "flags", "fd", "offset"),
    "mremap": ("old_address", "old_size", "new_size", "flags", "new_address"),
    "munmap": ("addr", "length"),
    "mprotect": ("addr", "length", "prot"),
    "madvise": ("addr", "length", "advice"),
    "mlock": ("addr", "length"),
    "munlock": ("addr", "length"),
    "mlock2": ("addr", "length", "flags"),
    "mseal": ("addr", "length", "flags"),
    "ioctl": ("fd", "op", "argp"),
    "userfaultfd": ("flags",),
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How strace is called.

    `version` of it; `names` -N; `form` -X; `hexadecimal` -e raw=all; `pid` -f -o FILE, or the
    brackets of a terminal; `time` -r or -ttt; `numbers` -n; `pointers` -i; `spent` -T; `column` -a.
    """

    version: Literal["6.1", "6.13", "7.2"] = "7.2"
    names: bool = False
    form: Literal["abbrev", "raw", "verbose"] = "abbrev"
    hexadecimal: bool = False
    pid: Literal["", "file", "terminal"] = ""
    time: Literal["", "relative", "epoch"] = ""
    numbers: bool = False
    pointers: bool = False
    spent: bool = False
    column: int = _COLUMN

    @property
    def is_old(self) -> bool:
        """Is it 6.1, which knows less?"""
        return self.version == "6.1"


USUAL = Dialect()
OLDER = (Dialect("6.13"), Dialect("6.1"))


def as_strace(case: Case, kernel: Kernel, dialect: Dialect = USUAL) -> str:
    """What strace prints of a case on a kernel, by the results that its model gives.

    Errors raised: CaseError for a call that the model does not know.
    """
    outcome = execute(case, kernel, stop=False, check=False)
    forks = any(call.name == "fork" for call in case.calls)
    writer = Writer(dialect, forks)
    lines = []
    for call, result in zip(case.calls, outcome.results, strict=False):
        lines += list(writer.lines(call, result))
    return "".join(f"{line}\n" for line in (*lines, writer.end()))


def unshown(case: Case) -> Counter[str]:
    """What of a case strace does not show, by why, and how often."""
    why: Counter[str] = Counter()
    for call in case.calls:
        if call.name in ("touch", "peek", "touch_on"):
            why[f"{call.name}: an access, which shows only if it faults"] += 1
        elif call.name in DIRECTIVES:
            why[f"{call.name}: strace shows no limits and no failures that are asked for"] += 1
        elif call.name not in _SHOWN:
            why[f"{call.name}: no system call that strace shows as such"] += 1
    return why


class Writer:
    """The lines of one process."""

    def __init__(self, dialect: Dialect, forks: bool = False) -> None:
        """Arguments: `forks`: there are several processes, so that each line names its own."""
        self._dialect = dialect
        self._forks = forks
        self._calls = 0
        self._fd = _UFFD
        self._fds: list[tuple[int, int, int]] = []  # start, end, and the userfaultfd of a range
        self._children: list[int] = []

    def lines(self, call: Call, result: Result) -> Iterator[str]:
        """The lines of a call that has returned."""
        if result == "SKIP" or call.name not in _SHOWN:
            return
        match call.name:
            case "touch" | "peek":
                if isinstance(result, Faults):
                    yield from self._faults(result)
            case "fork":
                self._children.append(_PID + 1 + len(self._children))
                yield self._line("fork", [], str(self._children[-1]))
            case "exit_child":
                for child in self._children:
                    yield f"{self._before(child)}+++ killed by SIGKILL +++"
                self._children.clear()
            case "uffd_register":
                yield from self._registered(call.args, result)
            case "uffd_wp":
                yield self._write_protected(call.args, result)
            case _:
                name, operands = self._operands(call)
                yield self._line(name, operands, _returned(call.name, result))

    def end(self) -> str:
        """The last line."""
        return f"{self._before(_PID)}+++ exited with 0 +++"

    # --- Lines ------------------------------------------------------------------------------------

    def _before(self, pid: int) -> str:
        """What stands before a call."""
        dialect = self._dialect
        before = ""
        if dialect.pid == "file" or (self._forks and not dialect.pid):
            before += f"{pid:<5} "
        elif dialect.pid == "terminal" and self._children:
            before += f"[pid {pid:>5}] "
        self._calls += 1
        if dialect.time == "relative":
            before += f"{self._calls / 1e6:12.6f} "
        elif dialect.time == "epoch":
            before += f"1764360000.{self._calls:06} "
        if dialect.numbers:
            before += "[  25] "
        if dialect.pointers:
            before += "[00007ffff7e42a00] "
        return before

    def _line(self, name: str, operands: Sequence[str], result: str) -> str:
        if self._dialect.names and name in _OPERANDS:
            operands = [
                f"{called}={operand}"
                for called, operand in zip(_OPERANDS[name], operands, strict=False)
            ]
        text = f"{self._before(_PID)}{name}({', '.join(operands)})"
        spent = " <0.000012>" if self._dialect.spent else ""
        return f"{text:<{self._dialect.column}} = {result}{spent}"

    def _faults(self, faults: Faults) -> Iterator[str]:
        for name, code, runs in (
            ("SIGSEGV", "SEGV_MAPERR", faults.segv),
            ("SIGBUS", "BUS_ADRERR", faults.bus),
        ):
            for first, count in runs:
                for page in range(first, first + count):
                    at = ARENA + page * PAGE
                    details = f"si_signo={name}, si_code={code}, si_addr={at:#x}"
                    yield f"{self._before(_PID)}--- {name} {{{details}}} ---"

    # --- Operands ---------------------------------------------------------------------------------

    def _operands(self, call: Call) -> tuple[str, list[str]]:
        """The name and the operands of a system call."""
        args = call.args
        start, length = self._address(args[0]), self._length(args[1])
        match call.name:
            case "mmap":
                return "mmap", [
                    start,
                    length,
                    self._flags(args[2], PROT.names, "PROT_???", none="PROT_NONE"),
                    self._map_flags(args[3]),
                    self._fd_of(args[4]),
                    _hex(args[5]),
                ]
            case "mprotect":
                return "mprotect", [
                    start,
                    length,
                    self._flags(args[2], PROT.names, "PROT_???", none="PROT_NONE"),
                ]
            case "mremap":
                flags = self._flags(args[3], values.REMAPS, "MREMAP_???")
                shown = [start, length, self._length(args[2]), flags]
                placing = MREMAP_FIXED | (0 if self._dialect.is_old else MREMAP_DONTUNMAP)
                if self._dialect.hexadecimal or (args[3] & MREMAP_MAYMOVE and args[3] & placing):
                    shown.append(self._address(args[4]))
                return "mremap", shown
            case "madvise":
                return "madvise", [start, length, self._advice(args[2])]
            case "mlock2":
                return "mlock2", [start, length, self._flags(args[2], values.LOCKS, "MLOCK_???")]
            case "mseal":
                if self._dialect.is_old:
                    return MSEAL, [_hex(_real(args[0])), _hex(args[1]), *"0000"]
                return "mseal", [start, length, "0"]
        return call.name, [start, length]

    def _address(self, offset: int) -> str:
        address = _real(offset)
        return _hex(address) if address or self._dialect.hexadecimal else "NULL"

    def _length(self, length: int) -> str:
        return _hex(length) if self._dialect.hexadecimal else str(length)

    def _fd_of(self, fd: int) -> str:
        return _hex(fd & 0xFFFFFFFF) if self._dialect.hexadecimal else str(fd)

    def _advice(self, advice: int) -> str:
        name = next((n for n, v in values.ADVICES.items() if v == advice), "")
        return self._named(advice & 0xFFFFFFFF, self._known(name) or self._unknown(advice, "MADV"))

    def _unknown(self, value: int, kind: str) -> str:
        return f"{_hex(value & 0xFFFFFFFF)} /* {kind}_??? */"

    def _known(self, name: str) -> str:
        return "" if self._dialect.is_old and name in _NEWER else name

    def _named(self, value: int, names: str) -> str:
        """A value in the form that is asked for; `names` is how it is abbreviated."""
        if self._dialect.hexadecimal or self._dialect.form == "raw":
            return _hex(value)
        # A value that has no name is there once.
        if self._dialect.form == "abbrev" or names == "0" or names.endswith("??? */"):
            return names
        return f"{_hex(value)} /* {names} */"

    def _flags(self, value: int, known: Mapping[str, int], unknown: str, none: str = "0") -> str:
        parts, left = [], value
        for name, bits in known.items():
            if left & bits == bits:
                parts.append(name)
                left &= ~bits
        if left:
            parts.append(_hex(left) if parts else f"{_hex(left)} /* {unknown} */")
        return self._named(value, "|".join(parts) or none)

    def _map_flags(self, value: int) -> str:
        kind = value & uapi.MAP_TYPE
        name = self._known(_MAP_TYPES.get(kind, ""))
        parts = [name or f"{_hex(kind)} /* MAP_??? */"]
        left = value & ~uapi.MAP_TYPE & ~_HUGE
        for flag in _MAP_ORDER:
            bits = values.MAPS[flag]
            if left & bits and self._known(flag):
                parts.append(flag)
                left &= ~bits
        if left:
            parts.append(_hex(left))
        if value & _HUGE:
            parts.append(f"{(value & _HUGE) >> uapi.MAP_HUGE_SHIFT}<<MAP_HUGE_SHIFT")
        names = "|".join(parts)
        verbose = self._dialect.form == "verbose" and not self._dialect.hexadecimal
        return f"{_hex(value)} /* {names} */" if verbose else self._named(value, names)

    # --- Userfaultfds -----------------------------------------------------------------------------

    def _registered(self, args: Sequence[int], result: Result) -> Iterator[str]:
        start, length, mode, asked = args
        fd, self._fd = self._fd, self._fd + 1
        yield self._line("userfaultfd", ["O_NONBLOCK|O_CLOEXEC"], str(fd))
        features = self._flags(asked, values.FEATURE_NAMES, "UFFD_FEATURE_???")
        api = f"{{api=0xaa, features={features}}}"
        yield self._line("ioctl", [str(fd), "UFFDIO_API", api], "0")
        modes = self._flags(mode, values.MODES, "UFFDIO_REGISTER_MODE_???")
        register = f"{{range={{start={_hex(_real(start))}, len={_hex(length)}}}, mode={modes}}}"
        returned = _returned("ioctl", result)
        yield self._line("ioctl", [str(fd), "UFFDIO_REGISTER", register], returned)
        if result == 0:
            self._fds.append((start, start + length, fd))

    def _write_protected(self, args: Sequence[int], result: Result) -> str:
        start, length, on = args
        fds = [fd for low, high, fd in self._fds if low <= start < high]
        mode = self._flags(on, values.WP_MODES, "UFFDIO_WRITEPROTECT_MODE_???")
        what = f"{{range={{start={_hex(_real(start))}, len={_hex(length)}}}, mode={mode}}}"
        shown = "0x7fffffffe4d0" if self._dialect.is_old else what
        fd = str(fds[-1] if fds else _UFFD)
        return self._line("ioctl", [fd, "UFFDIO_WRITEPROTECT", shown], _returned("ioctl", result))


_SHOWN = frozenset(
    {*_OPERANDS, "touch", "peek", "fork", "exit_child", "uffd_register", "uffd_wp"}
    - {"ioctl", "userfaultfd"}
)


def _real(offset: int) -> int:
    return (ARENA + offset) & ((1 << 64) - 1)


def _hex(value: int) -> str:
    return f"{value:#x}" if value else "0"


def _returned(name: str, result: Result) -> str:
    """What stands behind the `=`."""
    if isinstance(result, str) and result.startswith("-E"):
        code = getattr(errno, result[1:])
        return f"-1 {result[1:]} ({os.strerror(code)})"
    if name in ("mmap", "mremap"):
        assert isinstance(result, int) or result == "OUT"
        return _hex(_real(result)) if isinstance(result, int) else "0x7ffff7e00000"
    return "0"
