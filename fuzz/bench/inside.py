"""Runs commands of a tree and measures them, inside the process that they run in.

`fuzz.bench.tree` gives the text of this file to `python -c`, for another checkout as well, and that
may be an old one.  So it imports nothing but the standard library and uses of the tree what stays:
`python -m fuzz`, and the events that `Child` receives, wherever that lies.

Arguments: a file for the report, and a `Job` as JSON.  CPU time and executions of the fuzzing
processes are those they tell of, without their start; the parent's own work, which minimizes
findings meanwhile, does not count.
"""

import contextlib
import json
import runpy
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_TALKS = ("fuzz.campaign.child", "fuzz.child")  # has `Child`: here, and in older trees
_LEAST_SECONDS = 1e-6  # that anything takes: in some virtual machines the clock stands still


def command(words: list[str]) -> int:
    """Run `pmdfuzz WORD…` in this process.  Returns: its exit status."""
    sys.argv = ["pmdfuzz", *words]
    try:
        runpy.run_module("fuzz", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@dataclass(slots=True)
class Heard:
    """What a fuzzing process has told last, and the most memory that it had by then."""

    executions: int = 0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def overhear() -> dict[int, Heard]:
    """Listen to what fuzzing processes will tell.

    Returns: what each process has told so far, as it comes in.
    """
    heard: dict[int, Heard] = {}
    child = _talking().Child
    events = child.events

    def overheard(self: object, *arguments: Any, **named: Any) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = events(self, *arguments, **named)
        for event in told:
            process = heard.setdefault(event["pid"], Heard())
            if event["event"] == "stats":
                process.executions, process.cpu_seconds = event["execs"], event["cpu_seconds"]
        for pid, process in heard.items():
            process.peak_bytes = max(process.peak_bytes, peak_bytes(pid))
        return told

    child.events = overheard
    return heard


def _talking() -> ModuleType:
    """The module of the tree that talks to fuzzing processes."""
    *newer, oldest = _TALKS
    for name in newer:
        with contextlib.suppress(ModuleNotFoundError):
            return import_module(name)
    return import_module(oldest)


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had; 0 if it has ended, or without /proc.

    Not ru_maxrss: on Linux a process takes over that of the one that started it.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def main() -> None:
    """Do the job and write the report."""
    report, told = sys.argv[1:]
    job = json.loads(told)
    heard = overhear()
    statuses = [command(words) for words in job["warm_up"]]
    rounds, begin = 0, time.process_time()
    while not rounds or time.process_time() - begin < job["least_seconds"]:
        statuses += [command(words) for words in job["commands"]]
        rounds += 1
    seconds = max(time.process_time() - begin, _LEAST_SECONDS)
    found = {
        "home": str(Path(str(import_module("fuzz").__file__)).parents[1]),
        "statuses": statuses,
        "rounds": rounds,
        "seconds": seconds,
        "executions": sum(process.executions for process in heard.values()),
        "fuzzing_seconds": sum(process.cpu_seconds for process in heard.values()),
        "peak_bytes": max((process.peak_bytes for process in heard.values()), default=0),
    }
    Path(report).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
