"""A checkout of pmdfuzz whose commands are measured: this one, or another with its own code."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz.bench import inside
from fuzz.lib.lines import indented, tail

THIS = Path(__file__).resolve().parents[2]
_STOP_SECONDS = 10.0
_TURN_SECONDS = 0.25
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


class BenchError(Exception):
    """Something cannot be measured; the message says what and why."""


class Job(NamedTuple):
    """Commands of `pmdfuzz` for one process.

    `warm_up` runs first and does not count; `commands` run in turn, again and again until
    `least_seconds` of CPU time are over, but once at least.  `fine` are the exit statuses that are
    as expected.
    """

    commands: Sequence[Sequence[str]]
    warm_up: Sequence[Sequence[str]] = ()
    least_seconds: float = 0.0
    fine: Sequence[int] = (0,)


class Report(NamedTuple):
    """What a job took.

    `home` is the tree whose code ran; `rounds` how often the commands ran, in `seconds` of CPU time
    of their process.  The other figures are of fuzzing processes that they started: executions, CPU
    seconds without the start, and the most memory that one of them has had.
    """

    home: str
    statuses: Sequence[int]
    rounds: int
    seconds: float
    executions: int
    fuzzing_seconds: float
    peak_bytes: int


class Tree(NamedTuple):
    """A checkout; `name` is what the results call it, `scratch` an own directory for its files."""

    name: str
    home: Path
    scratch: Path

    @classmethod
    def open(cls, name: str, home: Path, scratch: Path) -> "Tree":
        """Check that the code there runs.  Errors raised: BenchError."""
        tree = cls(name, home.resolve(), scratch / name)
        tree.scratch.mkdir()
        if not all((home / package / "__init__.py").is_file() for package in ("fuzz", "engine")):
            raise BenchError(f"{home}: no checkout of pmdfuzz: fuzz/ and engine/ are not there")
        ran = tree.run(Job([["kernels"]]))
        if Path(ran.home).resolve() != tree.home:
            raise BenchError(f"{home}: Python imports fuzz from {ran.home} instead")
        return tree

    def run(self, job: Job) -> Report:
        """Run commands with the code of this tree and this Python.

        Errors raised: BenchError, with the end of what the commands printed.
        """
        (report,) = in_turns([(self, job)])
        return report

    def takes(self, option: str) -> bool:
        """Does its `run` have that option?  Older ones may not."""
        source = self.home / "fuzz" / "cli" / "run.py"
        return source.is_file() and f'"{option}"' in source.read_text(encoding="utf-8")

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        self._report.unlink(missing_ok=True)
        source = Path(inside.__file__).read_text(encoding="utf-8")
        with self._log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-c", source, str(self._report), json.dumps(job._asdict())],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us
            )

    def _ended(self, job: Job, status: int) -> Report:
        """What a job has reported.  Errors raised: BenchError."""
        what, last = " ".join(job.commands[0]), indented(tail(self._log))
        if status or not self._report.exists():
            raise BenchError(f"{self.home}: {what!r} cannot be run:\n{last}")
        ran = Report(**json.loads(self._report.read_text(encoding="utf-8")))
        if wrong := set(ran.statuses) - set(job.fine):
            raise BenchError(f"{self.home}: {what!r} ended with status {min(wrong)}:\n{last}")
        return ran

    @property
    def _log(self) -> Path:
        return self.scratch / "log"

    @property
    def _report(self) -> Path:
        return self.scratch / "report"

    def _environment(self) -> dict[str, str]:
        """Its own code, equal hashes; bytecode that is cached for all trees, and not in them."""
        ours = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
        return ours | {
            "PYTHONPATH": str(self.home),
            "PYTHONHASHSEED": "0",
            "PYTHONPYCACHEPREFIX": str(self.scratch / "pycache"),
        }

    def __str__(self) -> str:
        """Where it is, and at which commit."""
        git = ["git", "-C", str(self.home), "describe", "--always", "--dirty", "--exclude=*"]
        try:
            described = subprocess.run(git, capture_output=True, text=True, check=False)
        except OSError:
            return str(self.home)
        return f"{self.home} {described.stdout.strip()}".strip()


def in_turns(work: Sequence[tuple[Tree, Job]]) -> list[Report]:
    """Do jobs of several trees, of which one at a time runs, for a moment; the others are stopped.

    What else the machine does changes from one moment to the next, and so does the work that gets
    done in a second of CPU time; this way it changes for all of them.

    Errors raised: BenchError.
    """
    started = []
    running: list[subprocess.Popen[bytes]] = []
    try:
        for tree, job in work:
            process = tree._start(job)
            started.append(process)
            running.append(process)
            _signal(process.pid, signal.SIGSTOP)
        while running:
            for process in running.copy():
                _signal(process.pid, signal.SIGCONT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_TURN_SECONDS)
                    running.remove(process)
                    continue
                if len(running) > 1:
                    _signal(process.pid, signal.SIGSTOP)
    finally:
        for process in running:
            _stop(process)
    return [
        tree._ended(job, process.returncode)
        for (tree, job), process in zip(work, started, strict=True)
    ]


def _signal(pid: int, number: int) -> None:
    """Signal a process and all that it has started: it first, so that it starts no more."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            _signal(int(child), number)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, which is to end those that it has started."""
    process.send_signal(signal.SIGINT)
    _signal(process.pid, signal.SIGCONT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
