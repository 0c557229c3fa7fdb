"""Compiles the C programs that run on a machine: the agent (`fuzz/agent/`), and `shortage.c`.

They are small and static; each is compiled once, by one command, into a cache directory.  Where its
sources are portable, a program can be built for another architecture, with a cross compiler.
"""

import errno
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Makes, Returns
from fuzz.subjects.subject import SubjectError

AGENT = Path(__file__).parents[1] / "agent"
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-O2", "-static", "-no-pie", "-Wall", "-Wextra", "-D_FILE_OFFSET_BITS=64")
# The system calls that the agent can make, as their declarations have them.
_SYSCALLS = " ".join(
    f"SYSCALL({name}, {int(call.returns is Returns.ADDRESS)})"
    for name, call in CALLS.items()
    if call.made_by is Makes.KERNEL
)


class Arch(NamedTuple):
    """An architecture: what `uname -m` calls it, how to build for it on another, more flags."""

    machines: tuple[str, ...]
    cross: tuple[str, ...]  # compilers
    package: str  # of Debian, that has the first of them
    flags: tuple[str, ...] = ()


ARCHES = {
    "x86-64": Arch(("x86_64",), ("x86_64-linux-gnu-gcc",), "gcc-x86-64-linux-gnu"),
    "arm64": Arch(("aarch64",), ("aarch64-linux-gnu-gcc",), "gcc-aarch64-linux-gnu"),
    # Its arena is all below 2 GiB: the program has to lie above (fuzz/agent/layout.c).
    "i386": Arch(
        ("i386", "i486", "i586", "i686"),
        ("i686-linux-gnu-gcc",),
        "gcc-i686-linux-gnu",
        ("-Wl,-Ttext-segment=0xb0000000",),
    ),
}


def native() -> str:
    """The name of the architecture below us.

    Errors raised: SubjectError for another system, or an architecture that is not known.
    """
    system, machine = platform.system(), platform.machine()
    for name, arch in ARCHES.items():
        if system == "Linux" and machine in arch.machines:
            return name
    known = ", ".join(ARCHES)
    raise SubjectError(f"cases run on Linux for {known} only; this is {system} {machine}")


def cache_directory() -> Path:
    """Where compiled programs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmdfuzz"


def program_path(source: Path, arch: str) -> Path:
    """Where a program is, or will be, in the cache directory."""
    flags = " ".join((arch, *_flags(source, arch)))
    parts = sorted(source.glob("*.[ch]")) if source.is_dir() else [source]
    text = b"".join(part.read_bytes() for part in parts)
    return (
        cache_directory()
        / f"{source.stem}-{hashlib.sha256(flags.encode() + text).hexdigest()[:16]}"
    )


def build(arch: str | None = None, source: Path = AGENT) -> Path:
    """Compile the agent, or another program, unless the cache directory holds it.

    Arguments: `arch` one of `ARCHES` (None: the one below us); `source` a C file, or a folder of
    them.
    Returns: the path of the program.
    Errors raised: SubjectError on another system, without a compiler, or if that fails.
    """
    here = native()
    arch = arch or here
    program = program_path(source, arch)
    if program.exists():
        return program
    compiler = _compiler(arch, cross=arch != here)
    files = sorted(source.glob("*.c")) if source.is_dir() else [source]
    folder = program.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / source.stem
            done = subprocess.run(
                [compiler, *_flags(source, arch), "-o", str(fresh), *map(str, files)],
                capture_output=True,
                text=True,
                check=False,
            )
            if os.strerror(errno.ENOSPC) in done.stderr:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if done.returncode != 0:
                raise SubjectError(
                    f"{compiler} cannot build {source.name} (is there a static libc?):\n"
                    f"{done.stderr}"
                )
            fresh.replace(program)  # atomic: others may build at the same time
    except OSError as error:
        why = f"{error.strerror}; XDG_CACHE_HOME names another folder"
        raise SubjectError(f"cannot keep {program.name} in {folder}: {why}") from None
    return program


def _flags(source: Path, arch: str) -> Sequence[str]:
    """What a compiler is told."""
    more = (f"-DSYSCALLS={_SYSCALLS}",) if source == AGENT else ()
    return (*_FLAGS, *ARCHES[arch].flags, *more)


def _compiler(arch: str, *, cross: bool) -> str:
    """The path of a compiler for an architecture, which is another than ours if `cross`.

    Errors raised: SubjectError if there is none.
    """
    named = os.environ.get("CC")
    names = ARCHES[arch].cross if cross else (named,) if named else _COMPILERS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        tried = ", ".join(names)
        if cross:
            package = ARCHES[arch].package
            raise SubjectError(f"no C compiler for {arch} found (tried {tried}); install {package}")
        raise SubjectError(f"no C compiler found (tried {tried}); install one, or name it: CC=…")
    return found
