"""Sends programs to the agent (`fuzz/agent/`), which makes the calls and tells what it saw.

The agent is a small static C program (`fuzz.subjects.program` builds it).  One worker process runs
case after case; when it is lost, because a case kills it or takes too long, a new one goes on, and
tries that case once more: somebody else may have ended the worker.

Whose kernel answers is not known here: whatever can run the program.  Root is not needed from
Linux 6.7 on; what an ordinary user does without: warnings in the kernel's log (those that taint the
kernel are seen), and memory locking beyond `ulimit -l`.
"""

import collections
import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from engine.base.address import WORD_MASK
from engine.base.geometry import geometry_named
from fuzz.calls.arena import Arena
from fuzz.calls.registry import CALLS as DECLARED
from fuzz.calls.registry import as_made, operands, untagged
from fuzz.calls.syscall import Makes
from fuzz.case import Call, Case
from fuzz.subjects.subject import Observation, SubjectError, flags_of_the_model

# What the agent can ask a kernel for.
CALLS = frozenset(
    name for name, call in DECLARED.items() if call.made_by in (Makes.KERNEL, Makes.AGENT)
)
GEOMETRY = "x86-64"
WITH_KEYS = "x86-64-pku"  # the same, if the agent leaves the kernel its CPU's protection keys
TIME_LIMIT = 10.0  # seconds

_GEOMETRY = geometry_named(GEOMETRY)
_ARENA = Arena.of(_GEOMETRY)
_WINDOW = 64  # cases sent ahead of the one whose observation is awaited
_PIPE_BYTES = 1 << 16
_GRACE = 5.0  # seconds a worker has beyond the time limit before it counts as hanging
_EXIT_TIME, _EXIT_SYSTEM = 70, 71  # as in agent.h


class _WorkerLost(Exception):
    """The worker ended or hangs; the message says how."""


def encode(name: str, calls: Iterable[Call]) -> bytes:
    """A case in the form that the agent reads: one line.

    What leaves the arena, and what only the model has, is to be skipped: that is decided here, by
    the rule that the model follows.
    """
    return f"{name}\t{';'.join(map(_told, calls))}\n".encode()


def _told(call: Call) -> str:
    """A call in the form that the agent reads."""
    if call.name not in CALLS or any(flags_of_the_model(call)):
        return "skip"
    declared = DECLARED[call.name]
    call = as_made(call, _GEOMETRY)
    args = operands(_ARENA, declared, untagged(call, _GEOMETRY).args)
    if not declared.may_run(_ARENA, *args):
        return "skip"
    is_conditional = declared.unless_locked and declared.unless_locked(_ARENA, *args)
    condition = f"unlocked {args[0]:x} " if is_conditional else ""
    return condition + " ".join(
        (call.name, *(f"{arg & WORD_MASK:x}" for arg in operands(_ARENA, declared, call.args)))
    )


class Agent:
    """An agent that runs cases.

    `cases` were run so far, which took the agent `seconds`; `hello` is what the last worker said of
    itself (see fuzz/agent/main.c).
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        time_limit: float = TIME_LIMIT,
        grace: float = _GRACE,
        pagemap_scan: bool = True,
        keys: bool = False,
    ) -> None:
        """Make ready to run cases; the worker starts with the first.

        Arguments: `program` is how the agent is started; `time_limit` seconds a case
        may take; `grace` seconds more, after which a worker counts as hanging; `pagemap_scan` false
        does without that ioctl, as on old kernels; `keys` leaves the kernel the CPU's protection
        keys, else the agent takes them all.
        """
        self._time_limit = time_limit
        self._patience = time_limit + grace
        self._command = [*program, "-t", str(max(1, round(time_limit * 1000)))]
        if not pagemap_scan:
            self._command.append("-S")
        if keys:
            self._command.append("-k")
        self._worker: subprocess.Popen[bytes] | None = None
        self._suspect = b""  # the case with which the last worker was lost
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self.hello: dict[str, Any] = {}
        self.cases = 0
        self.seconds = 0.0

    @property
    def worker(self) -> int | None:
        """Process id of the worker, if there is one."""
        return None if self._worker is None else self._worker.pid

    def close(self) -> None:
        """End the worker."""
        self._stop()
        self._complaints.close()

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        """See `Subject.run`.

        In an observation, `id` is the number of the case, from 0; `left`, if it is there, are bytes
        of page tables that the kernel did not free.  A case with which the worker was lost twice
        has `id` and `crash` only.
        Errors raised: SubjectError if the agent cannot work on this machine.
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
                if "hello" in observation:
                    self.hello = observation
                    continue
                name, _ = waiting.popleft()
                if observation["id"] != name or "error" in observation:
                    raise SubjectError(f"the agent answers to case {name}: {line.decode()}")
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
            with contextlib.suppress(SubjectError):
                self._reap()

    def _reap(self) -> str:
        """Why the worker ended.

        Errors raised: SubjectError if it says that it cannot work here.
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
            raise SubjectError(said or "the agent gave up without a reason")
        if status == _EXIT_TIME:
            return f"takes longer than {self._time_limit:g} s"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"ended with exit code {status}"
