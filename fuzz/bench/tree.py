"""A checkout of pmdfuzz whose commands are measured: this one, or another with its own code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz.bench import inside

THIS = Path(__file__).resolve().parents[2]
_LOG_TAIL_LINES = 15
_STOP_SECONDS = 10.0
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


class BenchError(Exception):
    """Something cannot be measured; the message says what and why."""


class Job(NamedTuple):
    """Commands of `pmdfuzz` for one process.

    `warm_up` runs first and does not count; `commands` run in turn, again and again until
    `least_seconds` of CPU time are over, but once at least.
    """

    commands: Sequence[Sequence[str]]
    warm_up: Sequence[Sequence[str]] = ()
    least_seconds: float = 0.0


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

    def run(self, job: Job, fine: Collection[int] = (0,)) -> Report:
        """Run commands with the code of this tree and this Python.

        Arguments: the exit statuses that are as expected.
        Errors raised: BenchError, with the end of what the commands printed.
        """
        log, report = self.scratch / "log", self.scratch / "report"
        report.unlink(missing_ok=True)
        source = Path(inside.__file__).read_text(encoding="utf-8")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", source, str(report), json.dumps(job._asdict())],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us
            )
            try:
                process.wait()
            except BaseException:
                _stop(process)
                raise
        what = " ".join(job.commands[0])
        if process.returncode or not report.exists():
            raise BenchError(f"{self.home}: {what!r} cannot be run:\n{_tail(log)}")
        ran = Report(**json.loads(report.read_text(encoding="utf-8")))
        if wrong := set(ran.statuses) - set(fine):
            raise BenchError(f"{self.home}: {what!r} ended with status {min(wrong)}:\n{_tail(log)}")
        return ran

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


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, which is to end those that it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL_LINES:])
