"""Has the kernel below us the defects that show only when memory runs out in the middle of a move?

`shortage.c` runs each in a memory cgroup that is allowed no more than it has.  Nothing else of the
machine is short of memory, and nothing stays behind.

Needs root, and the memory controller of cgroup v1: there a process that gets no memory need not be
killed, so that the call fails (`memory.oom_control`).  A page fault sleeps instead; the program
avoids these, and has an alarm.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from engine.base.kernel import Kernel
from fuzz.defects.known import DEFECTS
from fuzz.subjects.program import build
from fuzz.subjects.subject import SubjectError

NAMES = ("uffd-rollback", "rollback-short", "not-cut-off")  # as in shortage.c
_SOURCE = Path(__file__).with_name("shortage.c")
_SECONDS = 60  # for one defect
_PATIENCE = 2.0  # seconds


class Answer(NamedTuple):
    """What the machine did: `seen` of the defect, or empty; `due`: the model has it."""

    defect: str
    due: bool
    seen: str

    @property
    def agrees(self) -> bool:
        """Do model and machine both have it, or neither?"""
        return self.due == bool(self.seen)


def ask(kernel: Kernel) -> Iterator[Answer]:
    """Try each defect.

    Arguments: `kernel` the model of the kernel below us.
    Errors raised: SubjectError if it cannot be tried here.
    """
    program = build(source=_SOURCE)
    with cgroup() as group:
        for name in NAMES:
            yield Answer(name, DEFECTS[name].present(kernel), _seen(program, group, name))


def _seen(program: Path, group: Path, name: str) -> str:
    """What the program says of a defect."""
    try:
        done = subprocess.run(
            [program, group, name], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise SubjectError(f"shortage: no end of {name} in {_SECONDS} s") from None
    if done.returncode:
        raise SubjectError(done.stderr.strip() or f"shortage ended with {done.returncode}")
    return done.stdout.strip()


@contextmanager
def cgroup() -> Iterator[Path]:
    """A memory cgroup whose processes are not killed; it is gone afterwards.

    Errors raised: SubjectError if it cannot be had, or does not go.
    """
    group = _controller() / f"pmdfuzz-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        root = "; this needs root" if isinstance(error, PermissionError) else ""
        raise SubjectError(f"cannot make {group}: {error.strerror}{root}") from None
    try:
        try:
            (group / "memory.oom_control").write_text("1")
        except OSError as error:
            raise SubjectError(f"cannot set up {group}: {error.strerror}") from None
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Remove a cgroup.  A process that has just been killed may be in it for a moment."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            group.rmdir()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SubjectError(f"cannot remove {group}: {error.strerror}") from None
        time.sleep(0.01)


def _controller() -> Path:
    """Where the memory controller of cgroup v1 is mounted."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        raise SubjectError("/proc is not mounted") from None
    for line in mounts:
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(where)
    raise SubjectError(
        "the memory controller of cgroup v1 is not mounted; where the kernel has it: "
        "mkdir /sys/fs/cgroup/memory; mount -t cgroup -o memory none /sys/fs/cgroup/memory"
    )
