"""Work in forked processes, a few at a time: each begins as a copy of this one and then ends.

What a piece of work does to its process, or to its memory, ends with it.
"""

import ctypes
import math
import os
import pickle
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MEMORY_BYTES = 2 << 30  # what a process may take before it gets a MemoryError
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of CPU time, in how many that pass
_READ_BYTES = 1 << 20
_TICK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def cores() -> int:
    """How many processes this one may have running at a time, in a container, too."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    there = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text().split()
        return max(min(there, math.ceil(int(quota) / int(period))), 1)
    except (OSError, ValueError):  # there is no limit: "max", or no such file
        return there


def born(pid: int) -> str:
    """When a process started, in the system's own words; empty if there is none (Linux).

    Two processes that have one pid, one after the other, were born at different times.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{fields[19]} of {boot}"


def end_when_unheard(descriptor: int, status: int) -> None:
    """End this process as soon as nobody has the other end of a pipe open any more.

    Who writes to it notices, too, but not in the middle of something.
    """
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are always told, and that the reader is gone is one

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the other
        poll.poll()
        os._exit(status)

    threading.Thread(target=wait, daemon=True).start()


def limit_memory(most: int) -> int:
    """Let this process have `most` bytes, or what it may have if that is less: then MemoryError.

    Returns: what it might have before, for the next call; -1: any number.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    least = min((most, hard), key=lambda limit: float("inf") if limit < 0 else limit)
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    return soft


def data_bytes() -> int:
    """What this process has of that now."""
    statistics = Path("/proc/self/statm").read_text().split()
    return int(statistics[5]) * resource.getpagesize()


class TooLong(BaseException):
    """A piece of work took more CPU time than it was given; no `except Exception` holds it."""


class CpuLimit:
    """Raises TooLong in this process when the work since `begin` takes too long.

    Arguments: `seconds` of CPU time; `timer` ITIMER_PROF, or ITIMER_VIRTUAL for one within another.
    It works in the main thread only, where Python handles signals.
    """

    def __init__(self, seconds: float, timer: int = signal.ITIMER_PROF) -> None:
        self._seconds = seconds
        self._timer = timer
        self._running = False
        self.passed = False
        number = signal.SIGPROF if timer == signal.ITIMER_PROF else signal.SIGVTALRM
        signal.signal(number, self._signal)

    def _signal(self, number: int, frame: object) -> None:
        if self._running:  # else it was on its way when the clock was stopped
            self.passed = True
            raise TooLong

    def begin(self) -> None:
        """Start the clock, again."""
        self._running = True
        signal.setitimer(self._timer, self._seconds)

    def end(self) -> None:
        """Stop the clock."""
        self._running = False
        signal.setitimer(self._timer, 0)


@dataclass(slots=True)
class Ended(Generic[T, R]):
    """A piece of work that is over: its result, or how its process ended without one."""

    task: T
    result: R | None
    how: str = ""


@dataclass(slots=True)
class _Running(Generic[T]):
    task: T
    pid: int
    deadline: float
    data: bytearray
    expired: bool = False


class Forks(Generic[T, R]):
    """Pieces of work in forked processes; each is begun as a copy of this one.

    They end with the thread that has begun them.  Arguments: `seconds` after which a process is
    killed: a backstop, in wall time.
    """

    def __init__(self, work: Callable[[T], R], seconds: float = math.inf) -> None:
        self._work = work
        self._seconds = seconds
        self._running: dict[int, _Running[T]] = {}  # by the descriptor to read from

    def __len__(self) -> int:
        return len(self._running)

    @property
    def descriptors(self) -> Sequence[int]:
        """What become readable when there is something to be taken, as by `ended`."""
        return list(self._running)

    def begin(self, task: T) -> None:
        """Begin with one."""
        descriptor, pid = _start(task, self._work)
        deadline = time.monotonic() + self._seconds
        self._running[descriptor] = _Running(task, pid, deadline, bytearray())

    def ended(self, timeout: float) -> list[Ended[T, R]]:
        """Those that have ended since; waits for something, so many seconds at most."""
        found: list[Ended[T, R]] = []
        poll = select.poll()
        for descriptor in self._running:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(timeout * 1000):
            one = self._running[descriptor]
            data = os.read(descriptor, _READ_BYTES)
            one.data += data
            if not data:
                del self._running[descriptor]
                os.close(descriptor)
                found.append(_ended(one))
        for one in self._running.values():
            if not one.expired and time.monotonic() > one.deadline:
                one.expired = True
                os.kill(one.pid, signal.SIGKILL)
        return found

    def kill(self) -> None:
        """End them all."""
        for descriptor, one in self._running.items():
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
            os.close(descriptor)
        self._running.clear()


def forked(
    tasks: Iterable[T],
    work: Callable[[T], R],
    *,
    jobs: int,
    seconds: float,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Ended[T, R]]:
    """Do each task in a process of its own, `jobs` at a time; results come as they are ready.

    Arguments: `seconds` see `Forks`; `tick` is called about twice a second, here.  Whatever ends
    the iteration ends the processes.
    """
    waiting = iter(tasks)
    forks = Forks(work, seconds)
    try:
        while True:
            for task in islice(waiting, jobs - len(forks)):
                forks.begin(task)
            if not forks:
                return
            tick()
            yield from forks.ended(_TICK_SECONDS)
    finally:
        forks.kill()


def _start(task: T, work: Callable[[T], R]) -> tuple[int, int]:
    """Returns: the descriptor on which the result will come, and the process."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    status = 1
    try:
        _end_with(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent kills its processes
        os.close(reader)
        limit_memory(MEMORY_BYTES)
        result = pickle.dumps(work(task), pickle.HIGHEST_PROTOCOL)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(result)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _end_with(parent: int) -> None:
    """End this process with the thread that has forked it (Linux), killed or not."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _ended(one: _Running[T]) -> "Ended[T, R]":
    _, status = os.waitpid(one.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if one.expired:
        return Ended(one.task, None, "too long")
    if code:
        return Ended(one.task, None, f"signal {-code}" if code < 0 else f"status {code}")
    return Ended(one.task, pickle.loads(bytes(one.data)))
