"""Runs cases on the kernel below us, with the agent (`agent.c`), and yields what it observed.

The agent is a small static C program; it is compiled once, into a cache directory.  One worker
process runs case after case; when it is lost, because a case kills it or takes too long, a new one
goes on, and tries that case once more: somebody else may have ended the worker.

Needs Linux on x86-64 and a C compiler with a static libc.  Root is not needed from Linux 6.7 on;
what an ordinary user does without: warnings in the kernel's log (those that taint the kernel are
seen), and memory locking beyond `ulimit -l`.
"""

import collections
import contextlib
import hashlib
import json
import os
import platform
import re
import resource
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.base.address import WORD_MASK
from engine.base.geometry import UnknownName
from engine.base.kernel import KNOWN_NAMES, Kernel, kernel_named
from fuzz.calls.operand import Flags
from fuzz.calls.registry import CALLS as DECLARED
from fuzz.calls.syscall import Makes
from fuzz.case import Call, Case
from fuzz.forms.text import format_operand

# What the agent can ask a kernel for.
CALLS = frozenset(
    name for name, call in DECLARED.items() if call.made_by in (Makes.KERNEL, Makes.AGENT)
)
GEOMETRY = "x86-64"
WITH_KEYS = "x86-64-pku"  # the same machine, if the agent leaves the kernel its protection keys
TIME_LIMIT = 10.0  # seconds

_AGENT = Path(__file__).with_name("agent.c")
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-O2", "-static", "-no-pie", "-Wall", "-Wextra")
_WINDOW = 64  # cases sent ahead of the one whose observation is awaited
_PIPE_BYTES = 1 << 16
_GRACE = 5.0  # seconds a worker has beyond the time limit before it counts as hanging
_EXIT_TIME, _EXIT_SYSTEM = 70, 71  # as in agent.c

_THP = "/sys/kernel/mm/transparent_hugepage"
# Where the kernel says how it behaves, what the model takes for granted, and the command for it.
_SETTINGS = (
    (f"{_THP}/enabled", "madvise"),
    (f"{_THP}/shmem_enabled", "never"),
    (f"{_THP}/use_zero_page", "1"),
    ("/sys/kernel/mm/ksm/run", "0"),
)
_OVERCOMMIT = "/proc/sys/vm/overcommit_memory"

Observation = dict[str, Any]


class MachineError(RuntimeError):
    """This machine cannot run cases; the message says why, and what to do."""


class _WorkerLost(Exception):
    """The worker ended or hangs; the message says how."""


# --- The kernel below us --------------------------------------------------------------------------


def release() -> str:
    """What `uname -r` prints."""
    return platform.release()


def host_kernel(name: str | None = None, geometry: str = GEOMETRY) -> Kernel:
    """The model of the kernel below us: of the same release, or the one that is named.

    Errors raised: MachineError if no model has this release, or for a geometry that is not ours;
    UnknownName for a wrong name.
    """
    if geometry not in (GEOMETRY, WITH_KEYS):
        raise MachineError(f"the machine is {GEOMETRY} or {WITH_KEYS}, not {geometry}")
    if name is not None:
        return kernel_named(name, geometry)
    try:
        return kernel_named(f"linux-{_version(release(), platform.version())}", geometry)
    except UnknownName:
        raise MachineError(
            f"no model of this kernel, {release()}; known: {'; '.join(KNOWN_NAMES)}. "
            "Name the one to compare with: --kernel K"
        ) from None


def _version(release: str, version: str) -> str:
    """The kernel's version, of what `uname -r` and `uname -v` print.

    Distributions may stay at 6.1.0-N in the first.  Debian has the point release in the second;
    with others nothing is left but the series.
    """
    if found := re.search(r"Debian (\d+\.\d+\.\d+)", version):
        return found[1]
    found = re.match(r"(\d+\.\d+)(?:\.0-\d|(\.\d+))?", release)
    return (found[1] + (found[2] or "")) if found else release


def obstacles() -> list[str]:
    """Settings of this system that the model does not follow, and how to change each; mostly []."""
    found = []
    for path, wanted in _SETTINGS:
        chosen = _chosen(path)
        if chosen not in (None, wanted):
            found.append(f"{path} is {chosen!r}: echo {wanted} > {path}")
    for size in sorted(Path(_THP).glob("hugepages-*kB/enabled")):
        # "inherit" takes what the setting for all sizes says, which is right for 2 MiB only.
        right = ("inherit", "madvise") if size.parent.name == "hugepages-2048kB" else ("never",)
        chosen = _chosen(str(size))
        if chosen not in (None, *right):
            found.append(f"{size} is {chosen!r}: echo {right[0]} > {size}")
    if _chosen(_OVERCOMMIT) == "2":
        found.append(f"{_OVERCOMMIT} is '2': echo 1 > {_OVERCOMMIT}")
    with contextlib.suppress(OSError):
        if len(Path("/proc/swaps").read_text().splitlines()) > 1:
            found.append("there is swap: swapoff -a")
    return found


def commit_limit_bytes() -> int | None:
    """The most memory that one call may ask for; None: there is no limit.

    Linux refuses a single request for more than there is, memory and swap, under
    vm.overcommit_memory=0, and none under 1; what depends on all requests so far, 2, is no
    ground for a comparison (see `obstacles`).
    """
    if _chosen(_OVERCOMMIT) != "0":
        return None
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    return sum(int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))


def locks_memory() -> bool:
    """May programs lock as much memory as they like?"""
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    return os.geteuid() == 0 or unlimited


def model_only(case: Case) -> list[str]:
    """What in the case no machine can be asked for, such as a failure at will; mostly []."""
    names = set()
    for call in case.calls:
        declared = DECLARED[call.name]
        if declared.made_by is Makes.MODEL:
            names.add(call.name)
        for param, value in zip(declared.params, call.args, strict=True):
            if isinstance(param.kind, Flags) and value & param.kind.model_only:
                names.add(format_operand(param.kind, value & param.kind.model_only))
    return sorted(names)


def left_out(case: Case) -> list[str]:
    """What `runnable` leaves out of the case, by name; mostly []."""
    kept = {call.name for call in runnable(case).calls}
    return model_only(case) or sorted({call.name for call in case.calls} - kept)


def runnable(case: Case) -> Case:
    """The case without the calls that no program can make, or that this user may not make.

    Nothing is left of a case that is about what only the model has (`model_only`).
    """
    if model_only(case):
        return case.with_calls(())
    locks = locks_memory()
    kept = []
    for call in case.calls:
        locking = DECLARED[call.name].locks
        if call.name in CALLS and (locks or locking is None or not locking(call.args)):
            kept.append(call)
    return case if len(kept) == len(case.calls) else case.with_calls(kept)


def _chosen(path: str) -> str | None:
    """A setting; of a list of choices the one in brackets.  None: this kernel does not have it."""
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    bracketed = re.search(r"\[(.+?)\]", text)
    return bracketed[1] if bracketed else text


# --- The agent ------------------------------------------------------------------------------------


def cache_directory() -> Path:
    """Where the compiled agent is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmdfuzz"


def program_path(cache: Path | None = None, source: Path = _AGENT) -> Path:
    """Where a program is, or will be, in a cache directory (None: the usual one)."""
    key = hashlib.sha256(" ".join(_FLAGS).encode() + source.read_bytes()).hexdigest()[:16]
    return (cache or cache_directory()) / f"{source.stem}-{key}"


def build(cache: Path | None = None, source: Path = _AGENT) -> Path:
    """Compile the agent, or another C file, unless the cache directory holds it.

    Returns: the path of the program.
    Errors raised: MachineError on another system, without a compiler, or if that fails.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise MachineError(
            f"cases run on Linux x86-64 only; this is {platform.system()} {platform.machine()}"
        )
    program = program_path(cache, source)
    if program.exists():
        return program
    named = os.environ.get("CC")
    names = (named,) if named else _COMPILERS
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        raise MachineError(
            f"no C compiler found (tried {', '.join(names)}); install one, or name it: CC=…"
        )
    folder = program.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / source.stem
            done = subprocess.run(
                [compiler, *_FLAGS, "-o", str(fresh), str(source)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise MachineError(
                    f"{compiler} cannot build {source.name} (is there a static libc?):\n"
                    f"{done.stderr}"
                )
            fresh.replace(program)  # atomic: others may build at the same time
    except OSError as error:
        raise MachineError(f"cannot keep {program.name} in {folder}: {error.strerror}") from None
    return program


def encode(name: str, calls: Iterable[Call]) -> bytes:
    """A case in the form that the agent reads: one line."""
    text = ";".join(
        " ".join((call.name, *(f"{arg & WORD_MASK:x}" for arg in call.args))) for call in calls
    )
    return f"{name}\t{text}\n".encode()


class Machine:
    """The kernel below us, as something that runs cases.

    `cases` were run so far, which took the agent `seconds`.
    """

    def __init__(
        self,
        *,
        time_limit: float = TIME_LIMIT,
        grace: float = _GRACE,
        pagemap_scan: bool = True,
        keys: bool = False,
        cache: Path | None = None,
    ) -> None:
        """Make ready to run cases; the worker starts with the first.

        Arguments: `time_limit` seconds a case may take; `grace` seconds more, after which a worker
        counts as hanging; `pagemap_scan` false does without that ioctl, as on old kernels; `keys`
        leaves the kernel the CPU's protection keys, else the agent takes them all; `cache` see
        `build`.
        Errors raised: MachineError if the agent cannot be built, or /proc is missing.
        """
        if platform.system() == "Linux" and not Path("/proc/self/pagemap").exists():
            raise MachineError("/proc is not mounted, or has no pagemap")
        self._time_limit = time_limit
        self._patience = time_limit + grace
        self._command = [str(build(cache)), "-t", str(max(1, round(time_limit * 1000)))]
        if not pagemap_scan:
            self._command.append("-S")
        if keys:
            self._command.append("-k")
        self._worker: subprocess.Popen[bytes] | None = None
        self._suspect = b""  # the case with which the last worker was lost
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self.cases = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def worker(self) -> int | None:
        """Process id of the worker, if there is one."""
        return None if self._worker is None else self._worker.pid

    def close(self) -> None:
        """End the worker."""
        self._stop()
        self._complaints.close()

    def observe(self, case: Case) -> Observation:
        """What one case shows; see `run`."""
        (found,) = self.run((case,))
        return found

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        """Run cases in order.  Yields: one observation a case, in the same order.

        An observation has the fields of the observation format but for `ops`; `id` is the number
        of the case, from 0; `left`, if it is there, are bytes of page tables that the kernel
        did not free.  A case with which the worker was lost twice has `id` and `crash`, the reason,
        only.
        Cases are taken from `cases` some time before their observations are yielded.
        Errors raised: MachineError if the agent cannot work on this machine.
        """
        source = ((str(number), case) for number, case in enumerate(cases))
        waiting: collections.deque[tuple[str, bytes]] = collections.deque()
        try:
            while True:
                while len(waiting) < _WINDOW and (item := next(source, None)) is not None:
                    waiting.append((item[0], encode(item[0], item[1].calls)))
                if not waiting:
                    return
                yield from self._converse(waiting, source)
        finally:
            if waiting:
                self._stop()  # it would answer what nobody asked any more

    def _converse(
        self, waiting: collections.deque[tuple[str, bytes]], source: Iterator[tuple[str, Case]]
    ) -> Iterator[Observation]:
        """Have one worker answer what waits, and more from `source`, until all is answered.

        Ends early when the worker is lost.  The first that waits is the case it was lost with: that
        is a crash if it happens again.
        """
        to_send = bytearray(b"".join(line for _, line in waiting))
        try:
            for line in self._answers(to_send):
                observation: Observation = json.loads(line)
                name, _ = waiting.popleft()
                if observation["id"] != name or "error" in observation:
                    raise MachineError(f"the agent answers to case {name}: {line.decode()}")
                if (item := next(source, None)) is not None:
                    waiting.append((item[0], encode(item[0], item[1].calls)))
                    to_send += waiting[-1][1]
                self._suspect = b""
                self.cases += 1
                self.seconds += observation.pop("us") / 1e6
                yield observation
                if not waiting:
                    return
        except _WorkerLost as lost:
            name, line = waiting[0]
            if self._suspect != line:
                self._suspect = line
                return
            waiting.popleft()
            self._suspect = b""
            self.cases += 1
            yield {"id": name, "crash": str(lost)}

    def _answers(self, to_send: bytearray) -> Iterator[bytes]:
        """Send what is, or comes, into `to_send`, and yield the lines that come back.

        Errors raised: _WorkerLost if the worker ends, or says nothing for too long.
        """
        worker = self._worker or self._start()
        assert worker.stdin is not None and worker.stdout is not None
        received = b""
        heard = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            while True:
                if to_send and worker.stdin not in selector.get_map():
                    selector.register(worker.stdin, selectors.EVENT_WRITE)
                elif not to_send and worker.stdin in selector.get_map():
                    selector.unregister(worker.stdin)
                for key, _ in selector.select(min(1.0, self._patience / 4)):
                    if key.fileobj is worker.stdin:
                        try:
                            del to_send[: os.write(worker.stdin.fileno(), to_send[:_PIPE_BYTES])]
                        except BrokenPipeError:
                            to_send.clear()  # the worker ended: its output will say so
                    elif data := os.read(worker.stdout.fileno(), _PIPE_BYTES):
                        *lines, received = (received + data).split(b"\n")
                        yield from lines
                        heard = time.monotonic()  # after the yield: the caller's time is its own
                    else:
                        raise _WorkerLost(self._reap())
                if time.monotonic() - heard > self._patience:
                    self._stop()
                    raise _WorkerLost(f"hangs: no answer in {self._patience:g} s")

    def _start(self) -> subprocess.Popen[bytes]:
        self._complaints.seek(0)
        self._complaints.truncate()
        self._worker = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us: a case must not seem to crash
        )
        assert self._worker.stdin is not None
        os.set_blocking(self._worker.stdin.fileno(), False)
        return self._worker

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            with contextlib.suppress(MachineError):
                self._reap()

    def _reap(self) -> str:
        """Why the worker ended.

        Errors raised: MachineError if it says that it cannot work here.
        """
        assert self._worker is not None
        worker, self._worker = self._worker, None
        status = worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            assert pipe is not None
            pipe.close()
        if status == _EXIT_SYSTEM:
            self._complaints.seek(0)
            said = self._complaints.read().decode(errors="replace").strip()
            raise MachineError(said or "the agent gave up without a reason")
        if status == _EXIT_TIME:
            return f"takes longer than {self._time_limit:g} s"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"ended with exit code {status}"
