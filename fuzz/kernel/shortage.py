"""Has the kernel below us the defects that show only when memory runs out in the middle of a move?

`shortage.c` runs each in a memory cgroup that is allowed no more than it has.  Nothing else of the
machine is short of memory, and nothing stays behind.

Needs root, and the memory controller of cgroup v1: there a process that gets no memory need not be
killed, so that the call fails (`memory.oom_control`).
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from engine.kernel import Kernel
from fuzz.case import REMAP_FLAGS, call
from fuzz.kernel.machine import MachineError, build
from fuzz.known import DEFECTS

NAMES = ("uffd-rollback", "rollback-short", "not-cut-off")  # as in shortage.c
_SOURCE = Path(__file__).with_name("shortage.c")
_MOVE = call("mremap", 0, 0x2000, 0x2000, REMAP_FLAGS["MREMAP_MAYMOVE"], 0)
_SECONDS = 60


class Answer(NamedTuple):
    """What the machine did: `seen` of the defect, or empty; `due`: the model has it."""

    defect: str
    due: bool
    seen: str

    @property
    def agrees(self) -> bool:
        """Do model and machine both have it, or neither?"""
        return self.due == bool(self.seen)


def ask(kernel: Kernel, cache: Path | None = None) -> Iterator[Answer]:
    """Try each defect.

    Arguments: `kernel` the model of the kernel below us; `cache` see `machine.build`.
    Errors raised: MachineError if it cannot be tried here.
    """
    program = build(cache, _SOURCE)
    with _cgroup() as group:
        for name in NAMES:
            done = subprocess.run(
                [program, group, name],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
            if done.returncode:
                raise MachineError(done.stderr.strip() or f"shortage ended with {done.returncode}")
            yield Answer(name, DEFECTS[name].has(kernel, _MOVE), done.stdout.strip())


@contextmanager
def _cgroup() -> Iterator[Path]:
    """A memory cgroup whose processes are not killed; it is gone afterwards."""
    group = _controller() / f"pmdfuzz-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise MachineError(f"cannot make {group}: {error.strerror}; this needs root") from None
    try:
        (group / "memory.oom_control").write_text("1")
        yield group
    finally:
        group.rmdir()


def _controller() -> Path:
    """Where the memory controller of cgroup v1 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(where)
    raise MachineError(
        "the memory controller of cgroup v1 is not mounted; where the kernel has it: "
        "mkdir /sys/fs/cgroup/memory; mount -t cgroup -o memory none /sys/fs/cgroup/memory"
    )
