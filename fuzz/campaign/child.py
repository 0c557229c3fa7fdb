"""The fuzzing process as its parent sees it: what it is told, what it reports, how it is stopped.

The other side is `fuzz.campaign.harness`, whose docstring describes the events.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fuzz.lib.command import command

if TYPE_CHECKING:  # the fuzzing process must not import the engine yet
    from fuzz.rules.judge import RulesAfter

INPUT_SECONDS = 30  # a single input that takes longer is a defect of ours
TOLD_SECONDS = 3600  # what it may take while it waits to be heard: machines boot meanwhile
MEMORY_MB = 2048
STOP_SECONDS = 5.0  # it may take to stop before it is killed
ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h
_ASK_PERSONALITY = 0xFFFFFFFF
# Programs are mutated call by call (fuzz.inputs.mutator): from the start at full length, and once
# only.  How often a branch was taken says little, and would fill the corpus with long programs.
# Rereading the corpus depends on the clock, and is of use only where others write it.
LIBFUZZER = (
    f"-timeout={INPUT_SECONDS}",
    f"-rss_limit_mb={MEMORY_MB}",
    "-len_control=0",
    "-mutate_depth=1",
    "-use_counters=0",
    "-reload=0",
)
_UNSUITED = ("PYTHONFAULTHANDLER", "PYTHONDEVMODE")  # their handlers keep libFuzzer's from a signal
_HOME = Path(__file__).resolve().parents[2]


class RunError(Exception):
    """The run cannot start; the message says why and what to do."""


def check_environment() -> None:
    """Errors raised: RunError if fuzzing is impossible here."""
    if not __debug__:
        raise RunError("python -O strips the assertions; run without it")
    if importlib.util.find_spec("atheris") is None:
        raise RunError(
            "fuzzing needs atheris, which is not installed here; install it with\n"
            f"  {command('install', 'atheris', of='pip')}\n"
            "(replay, minimize, show and compare work without it)"
        )


def environment() -> dict[str, str]:
    """The environment for processes that run modules of this project."""
    path = os.environ.get("PYTHONPATH")
    return {
        **{name: os.environ[name] for name in os.environ if name not in _UNSUITED},
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": f"{_HOME}{os.pathsep}{path}" if path else str(_HOME),
    }


class Setting(NamedTuple):
    """What the fuzzing process is told; all of it plain JSON.

    `kernels` and `geometries` are names; a program runs on one of the geometries, on all kernels.
    `calls` are the allowed calls, sorted (None: all); `max_calls` is the longest program; `runs`
    the number of executions after which libFuzzer stops (0: not by number); `cells` false counts no
    cells; `fed` are the kinds of cells that libFuzzer gets to know; `tell_new` true reports inputs
    that reach new cells; `exhibit` names an exhibit of the museum in place of kernels, which is run
    `with_bug` or without; `rules_after` says when the whole state is judged, see
    `fuzz.execute.execute`; `like` is a kernel: where the others differ from it is all that is
    reported then; `focus` are the geometries that new programs are for (empty: all);
    `planned` false makes none of them to a plan; `events` is a file descriptor open for writing,
    which `Child` fills in.
    """

    kernels: list[str]
    geometries: list[str]
    calls: list[str] | None
    max_calls: int
    runs: int = 0
    cells: bool = True
    fed: Sequence[str] = ()
    tell_new: bool = False
    exhibit: str = ""
    with_bug: bool = True
    rules_after: "RulesAfter" = "moving"
    like: str = ""
    focus: Sequence[str] = ()
    planned: bool = True
    events: int = -1


class Child:
    """A running fuzzing process.

    Its own session, so that Ctrl-C is for the parent.  It ends once nobody listens to it any more,
    and so not with the thread that has started it, which may end before.  Equal
    settings, flags and corpora give equal runs: hashes are not seeded and, on Linux, addresses not
    random.  `talking` is true until the process has ended and all it said was read, `killed` if it
    was `kill` that ended it.
    """

    def __init__(self, setting: Setting, flags: Sequence[str], log: Path) -> None:
        """Start it; what it prints goes to `log`, which is overwritten."""
        self._unread = b""
        self._kill_at: float | None = None
        self.killed = False
        self._selector = selectors.DefaultSelector()
        self._receive, send = os.pipe()
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None

        def prepare() -> None:
            if libc is not None:
                libc.personality(ctypes.c_ulong(ADDR_NO_RANDOMIZE))

        told = json.dumps(setting._replace(events=send)._asdict())
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "fuzz.campaign.harness", told, *flags],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment(),
                    pass_fds=(send,),
                    start_new_session=True,
                    preexec_fn=prepare,
                )
        except BaseException:
            os.close(self._receive)
            raise
        finally:
            os.close(send)
        self._selector.register(self._receive, selectors.EVENT_READ)
        self.talking = True

    def fileno(self) -> int:
        """What becomes readable when it has something to say, while `talking`."""
        return self._receive

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def events(self, timeout: float = 0.0) -> list[dict[str, Any]]:
        """What it reported since the last time; waits at most `timeout` seconds for something."""
        if not self.talking:
            return []
        ended = self.status is not None  # before looking: all it said is in the pipe by then
        ready = self._selector.select(timeout)
        data = os.read(self._receive, 1 << 16) if ready else b""
        if not data and (ready or ended):
            self._hang_up()
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """Ask it to end.  Called again and again, this kills it once STOP_SECONDS have passed."""
        if self.status is not None:
            return
        if self._kill_at is None:
            self._kill_at = time.monotonic() + STOP_SECONDS
            self._process.send_signal(signal.SIGINT)
        elif time.monotonic() >= self._kill_at:
            self.kill()

    def kill(self) -> None:
        """End it at once, and whatever it has started."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> int:
        """Wait for it to end, as it is about to, and kill it if it does not.

        Returns: the exit status.
        """
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._hang_up()
        return self._process.returncode

    def _hang_up(self) -> None:
        if self.talking:
            self.talking = False
            self._selector.close()
            os.close(self._receive)


def fixed_addresses() -> bool:
    """True if this process runs without address-space randomisation (Linux only)."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.personality(ctypes.c_ulong(_ASK_PERSONALITY)) & ADDR_NO_RANDOMIZE)
