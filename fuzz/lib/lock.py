"""A lock that a process holds as long as it lives, and who holds it."""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class Locked(Exception):
    """Somebody else holds the lock; `who` says which process, and since when, if that is known."""

    def __init__(self, path: Path, who: str) -> None:
        super().__init__(path, who)
        self.path = path
        self.who = who

    def __str__(self) -> str:
        return f"{self.path} is held by {self.who or 'another process'}"


class Lock:
    """Held from its making to its close, or to the end of the process, killed or not.

    The lock is on the open file (flock), not that there is one: what a killed process leaves behind
    keeps nobody out.  Some network file systems cannot lock; then nobody is kept out at all.
    """

    def __init__(self, path: Path) -> None:
        """Errors raised: Locked; OSError if the file cannot be made."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise Locked(path, who) from None
        except OSError:
            pass
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # a full disk: that is told to nobody then
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"process {os.getpid()}, since {since}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
