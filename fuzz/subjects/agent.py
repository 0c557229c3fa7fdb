"""A conversation with a program that runs cases: the agent, or whatever speaks as it does.

One worker process runs case after case; when it is lost, because a case kills it or takes too long,
a new one goes on, and tries that case once more: somebody else may have ended the worker.

Whose kernel answers, and where, is not known here but from the hello: this machine's, one in a
virtual machine or at the other end of a connection, a program that stands for a kernel, the model.
Of the agent, root is not needed from Linux 6.7 on; what an ordinary user does without: warnings in
the kernel's log (those that taint the kernel are seen), and memory locking beyond `ulimit -l`.
"""

import collections
import contextlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from fuzz.case import Case
from fuzz.subjects.protocol import Hello, ProtocolError, encode
from fuzz.subjects.subject import EXEC, SAID, Observation, Subject, SubjectError

TIME_LIMIT = 10.0  # seconds that a case may take

_WINDOW = 64  # cases sent ahead of the one whose observation is awaited
_PIPE_BYTES = 1 << 16
_PATIENCE_WITH_CHANCE = 60  # times the usual: an exec is made again until chance has it so
_GRACE = 5.0  # seconds a worker has beyond the time limit before it counts as hanging
_START = 30.0  # seconds to the hello
_BANNER = 100  # lines that something may print before the hello
_QUOTED = 500  # characters of what it said instead
_DYING = re.compile(r"\b(?:assert|fatal|internal|panic)", re.IGNORECASE)
_EXIT_TIME, _EXIT_SYSTEM = 70, 71  # as in agent.h


class _WorkerLost(Exception):
    """The worker ended or hangs; the message says how."""


def agent_command(
    program: Path, *, time_limit: float = TIME_LIMIT, pagemap_scan: bool = True, keys: bool = False
) -> list[str]:
    """The words that start the agent.

    Arguments: `program` see `fuzz.subjects.program.build`; `time_limit` seconds a case may take;
    `pagemap_scan` false does without that ioctl, as on old kernels; `keys` leaves the kernel the
    CPU's protection keys, else the agent takes them all.
    """
    words = [str(program), "-t", str(max(1, round(time_limit * 1000)))]
    return [*words, *(() if pagemap_scan else ("-S",)), *(("-k",) if keys else ())]


class Agent(Subject):
    """A program that runs cases, told and asked in lines (README.md); a subject.

    `command` are the words that start it, `cwd` where; `hello` is what it said of itself; `cases`
    were run so far, which took it `seconds`.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str = "",
        *,
        cwd: Path | None = None,
        time_limit: float = TIME_LIMIT,
        grace: float = _GRACE,
        start_limit: float = _START,
        window: int = _WINDOW,
    ) -> None:
        """Start it, and hear its hello.

        Arguments: `name` what people call it, "": the kernel's release; `time_limit` seconds that
        it gives a case; `grace` seconds more, after which it counts as hanging; `start_limit`
        seconds to its hello; `window` cases are sent ahead of the one that is awaited.
        Errors raised: SubjectError if there is no hello, or none that can be understood.
        """
        self.command = list(command)
        self._cwd = cwd
        self._time_limit = time_limit
        self._patience = time_limit + grace
        self._start_limit = start_limit
        self._window = window
        self._worker: subprocess.Popen[bytes] | None = None
        self._suspect = b""  # the case with which the last worker was lost
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._begun = False  # cases were sent whose answers nobody has taken yet
        self.certain = False
        self.cases = 0
        self._seconds = 0.0
        try:
            self._start()
            self.geometry = self.hello.page_tables()
            self.able = self.hello.abilities()
            self.execs = self.hello.execs
        except (ProtocolError, SubjectError, OSError) as error:
            self.close()
            raise SubjectError(f"{name}: {error}" if name else str(error)) from None
        self.fields = self.hello.fields
        self.kernel_name = self.hello.kernel_name
        self.commit_limit = self.hello.commit_limit
        self.emulated = self.hello.emulated
        self.name = name or self.hello.model or f"Linux {self.hello.release}"

    @property
    def implementation(self) -> str:
        """See `Subject`: of a program that stands for a kernel, what it says of its version."""
        if self.emulated:
            return version_of(self.command) or self.name
        return self.hello.model or f"Linux {self.hello.release}"

    @property
    def seconds(self) -> float:
        """See `Subject`."""
        return self._seconds

    def spawn(self, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a worker: a process in a session of its own, which is ended as a whole.

        Arguments: `complaints` what its standard error is to be.
        Returns: the process; its standard input and output are pipes without a buffer.
        Errors raised: SubjectError, OSError.
        """
        return subprocess.Popen(
            self.command,
            cwd=self._cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for us: a case must not seem to crash
        )

    def lost(self, how: str) -> str:
        """A worker was lost: called before another is started.

        Arguments: `how` it ended, in words.
        Returns: what is told of it; whoever knows more, such as what a console said, says so, and
        sets `certain` if it was the case's doing: then it is not tried once more.
        """
        return how

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

        In an observation, `id` is the number of the case, from 0.  A case with which the worker was
        lost twice has `id` and `crash` only.
        Errors raised: SubjectError if the agent cannot work on this machine.
        """
        if self._begun:
            self._stop()  # it would answer what nobody has asked now
            self._begun = False
        source = ((str(number), case) for number, case in enumerate(cases))
        yield from self._talk(collections.deque(), source)

    def begin(self, cases: Sequence[Case]) -> Iterator[Observation]:
        """See `Subject.begin`: the cases are sent, as far as they can be at once."""
        if self._begun:
            self._stop()
        waiting = collections.deque(self._encoded(str(i), case) for i, case in enumerate(cases))
        to_send = bytearray(b"".join(line for _, line in waiting))
        worker = self._worker or self._start()
        assert worker.stdin is not None
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            del to_send[: os.write(worker.stdin.fileno(), to_send[:_PIPE_BYTES])]
        self._begun = True
        return self._talk(waiting, iter(()), to_send)

    def _talk(
        self,
        waiting: collections.deque[tuple[str, bytes]],
        source: Iterator[tuple[str, Case]],
        to_send: bytearray | None = None,
    ) -> Iterator[Observation]:
        """Have all that waits answered, and more from `source`, by as many workers as it takes.

        Arguments: `to_send` see `_converse`.
        """
        try:
            while True:
                while len(waiting) < self._window and (item := next(source, None)) is not None:
                    waiting.append(self._encoded(*item))
                if not waiting:
                    return
                yield from self._converse(waiting, source, to_send)
                to_send = None
        finally:
            self._begun = False
            if waiting:
                self._stop()  # it would answer what nobody asked any more

    def ask(self, request: str) -> dict[str, Any]:
        """What is answered to a line that is no case; no case may be on its way.

        Errors raised: SubjectError if there is no answer.
        """
        try:
            line = bytearray(f"{request}\n".encode())
            return _object(next(self._answers(line, collections.deque())))
        except _WorkerLost as lost:
            raise SubjectError(self.lost(str(lost))) from None

    def _encoded(self, name: str, case: Case) -> tuple[str, bytes]:
        return name, encode(name, case.calls, self.geometry, self.able_for(case))

    def _converse(
        self,
        waiting: collections.deque[tuple[str, bytes]],
        source: Iterator[tuple[str, Case]],
        to_send: bytearray | None,
    ) -> Iterator[Observation]:
        """Have one worker answer what waits, and more from `source`, until all is answered.

        Arguments: `to_send` what of it has not been sent yet (None: nothing has).
        Ends early when the worker is lost.  The first that waits is the case it was lost with: that
        is a crash if it happens again.
        """
        if to_send is None:
            to_send = bytearray(b"".join(line for _, line in waiting))
        try:
            for line in self._answers(to_send, waiting):
                observation = _object(line)
                if "bye" in observation:
                    continue  # its end is told when it is seen
                name, _ = waiting.popleft()
                if observation.get("id") != name or "error" in observation:
                    raise SubjectError(f"the agent answers to case {name}: {_quoted(line)}")
                if (item := next(source, None)) is not None:
                    waiting.append(self._encoded(*item))
                    to_send += waiting[-1][1]
                self._suspect = b""
                self.cases += 1
                self._seconds += observation.pop("us", 0) / 1e6
                if "crash" in observation and (said := self._last_words()):
                    observation[SAID] = said
                yield observation
                if not waiting:
                    return
        except _WorkerLost as lost:
            how = self.lost(str(lost))
            name, line = waiting[0]
            if self._suspect != line and not self.certain:
                self._suspect = line
                return
            waiting.popleft()
            self._suspect = b""
            self.cases += 1
            said = self._last_words()
            yield {"id": name, "crash": how} | ({SAID: said} if said else {})

    def _answers(
        self, to_send: bytearray, waiting: collections.deque[tuple[str, bytes]]
    ) -> Iterator[bytes]:
        """Send what is, or comes, into `to_send`, and yield the lines that come back.

        Arguments: `waiting` the cases without an answer, names and lines, the next one first.
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
                patience = self._patience
                if waiting and EXEC.encode() in waiting[0][1]:
                    patience *= _PATIENCE_WITH_CHANCE
                if time.monotonic() - heard > patience:
                    self._stop()
                    raise _WorkerLost(f"hangs: no answer in {patience:g} s")

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a worker, and hear its hello.

        Errors raised: SubjectError, ProtocolError, OSError.
        """
        self._complaints.seek(0)
        self._complaints.truncate()
        self._complaints_read = 0
        self._worker = self.spawn(self._complaints)
        assert self._worker.stdin is not None
        os.set_blocking(self._worker.stdin.fileno(), False)
        self.hello = self._greeting()
        return self._worker

    def _greeting(self) -> Hello:
        """The hello of a new worker; a few lines before it may be somebody else's.

        Errors raised: see `_start`.
        """
        said: list[bytes] = []
        deadline = time.monotonic() + self._start_limit
        for line in self._first_lines(deadline):
            if line.startswith(b'{"hello"'):
                return Hello.parse(_object(line))
            said.append(line)
            if len(said) == _BANNER:
                break
        self._stop()
        raise SubjectError(f"it says no hello, but: {_quoted(b' / '.join(said))}")

    def _first_lines(self, deadline: float) -> Iterator[bytes]:
        """What a worker says unasked.  Errors raised: SubjectError if it ends, or is silent."""
        assert self._worker is not None and self._worker.stdout is not None
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._worker.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                data = os.read(self._worker.stdout.fileno(), _PIPE_BYTES)
                if not data:
                    raise SubjectError(self._not_greeted(self._reap(), received))
                *lines, received = (received + data).split(b"\n")
                yield from lines
        self._stop()
        raise SubjectError(self._not_greeted(f"no hello in {self._start_limit:g} s", received))

    def _not_greeted(self, why: str, said: bytes) -> str:
        """Why there was no hello, and what was said instead."""
        words = [self.lost(why), _quoted(said), _quoted(self._complained())]
        return ": ".join(filter(None, words))

    def _last_words(self) -> str:
        """What the worker has said on its standard error of a death, since the one before.

        Reading moves nothing: it shares its place in the file with us.
        """
        said = os.pread(self._complaints.fileno(), _PIPE_BYTES, self._complaints_read)
        self._complaints_read = os.fstat(self._complaints.fileno()).st_size
        lines = map(str.strip, said.decode(errors="replace").splitlines())
        return next((line[:_QUOTED] for line in lines if _DYING.search(line)), "")

    def _complained(self) -> bytes:
        """What the worker has said on its standard error."""
        self._complaints.seek(0)
        return self._complaints.read().strip()

    def _stop(self) -> None:
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._worker.pid, signal.SIGKILL)  # and what it has started
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
            said = self._complained().decode(errors="replace")
            raise SubjectError(said or "the agent gave up without a reason")
        if status == _EXIT_TIME:
            return f"takes longer than {self._time_limit:g} s"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"ended with exit code {status}"


def version_of(command: Sequence[str]) -> str:
    """What the program that a command runs the agent with says of its version; "" if nothing.

    Others may come before it, such as `setarch -R`: it is the last before the agent.
    """
    programs = [word for word in command if shutil.which(word)]
    for program in programs[-2:-1] or programs:
        with contextlib.suppress(OSError, subprocess.SubprocessError, UnicodeError):
            words = [program, "--version"]
            said = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=True,
                timeout=_START,
                stdin=subprocess.DEVNULL,
            )
            return said.stdout.partition("\n")[0].strip()
    return ""


def _object(line: bytes) -> dict[str, Any]:
    """A line that was said.  Errors raised: SubjectError if it is no JSON object."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise SubjectError(f"expected an answer, got: {_quoted(line)}")
    return said


def _quoted(said: bytes) -> str:
    """What was said, for people: the end of it, if it is long."""
    return said.decode(errors="replace").strip()[-_QUOTED:]
