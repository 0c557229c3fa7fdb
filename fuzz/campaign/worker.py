"""A round as it is done: a fuzzing process with its flags, what it has told, what it died of."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from fuzz.campaign.child import LIBFUZZER, Child, Setting
from fuzz.campaign.feedback import FED
from fuzz.campaign.round import Cells, Crash, End, Hits, Met, Report, Round, Suspect
from fuzz.findings.bucket import Bucket
from fuzz.lib.lines import indented, short, tail

_STATUS = {
    70: "an input took too long",
    71: "it ran out of memory",
    77: "an exception, or a signal",
    72: "asked to end",
}
_INTERRUPTED = 72
_RELOAD_SECONDS = 3  # each time the whole corpus is listed: 10,000 files take tens of milliseconds
# What nobody sends himself; SIGKILL is what the kernel sends who takes the last memory, too.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Place(NamedTuple):
    """Where a round is done.

    `corpus` is read when it begins, and gets what it finds; with `shared` it is read again every
    few seconds: others write it, too.  `seeds` is only read.  Inputs of which the process dies go
    to `crashes`, what it prints to `log`, which is overwritten.
    """

    corpus: Path
    seeds: Path
    crashes: Path
    log: Path
    shared: bool = False


class Worker:
    """The fuzzing process of a round; `ended` is true once the last report was taken."""

    def __init__(self, task: Round, place: Place) -> None:
        """Start it."""
        self.round = task
        self.place = place
        self.ended = False
        self._asked = False
        # libFuzzer would look at the system's clock, which may be set meanwhile.
        self._ends_at = None if task.seconds is None else time.monotonic() + task.seconds
        self._stats: dict[str, Any] = {"execs": 0, "cpu_seconds": 0.0, "cells": {}, "hits": []}
        setting = Setting(
            kernels=list(task.kernels),
            geometries=list(task.geometries),
            focus=list(task.focus),
            calls=list(task.calls),
            max_calls=task.max_calls,
            runs=task.runs or 0,
            cells=task.cells,
            fed=FED,
            tell_new=task.tell_new,
            rules_after=task.rules_after,
            like=task.like or "",
        )
        flags = [
            f"-seed={task.seed}",
            f"-max_len={task.max_bytes}",
            f"-artifact_prefix={place.crashes}/",
            *LIBFUZZER,
            f"-timeout={task.patience}",
            f"-reload={_RELOAD_SECONDS if place.shared else 0}",
            "-print_final_stats=1",
        ]
        if task.runs is not None:
            flags.append(f"-runs={task.runs}")
        # libFuzzer heeds the last one of equal flags, so those of the user win.
        flags += [*task.flags, str(place.corpus), str(place.seeds)]
        self.child = Child(setting, flags, place.log)

    @property
    def execs(self) -> int:
        """Executions so far."""
        execs: int = self._stats["execs"]
        return execs

    def stop(self) -> None:
        """Ask it to end; called again and again, this kills it after a while."""
        self._asked = True
        self.child.stop()

    def kill(self) -> None:
        """End it at once."""
        self._asked = True
        self.child.kill()

    def report(self) -> Report | None:
        """What is new since the last time, None: nothing is.  It has to be asked now and then."""
        if self.ended:
            return None
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.stop()
        events = self.child.events()
        ended = not self.child.talking
        if not events and not ended:
            return None
        for event in events:
            if event["event"] == "stats":
                self._stats = event
        self.ended = ended
        report = told(self.round, events, self._stats)
        if not ended:
            return report
        end = died_of(self.child.close(), self.place.log, asked=self._asked or self.child.killed)
        # The process may not have spoken of the last executions itself.
        execs = max(report.execs, _executed(tail(self.place.log).splitlines()))
        return replace(report, execs=execs, end=end)


def told(task: Round, events: Sequence[Mapping[str, Any]], stats: Mapping[str, Any]) -> Report:
    """What a fuzzing process has told (see `fuzz.campaign.harness`), as a report of its round."""

    def of(kind: str) -> Iterator[Mapping[str, Any]]:
        return (event for event in events if event["event"] == kind)

    return Report(
        task.id,
        task.program,
        execs=stats["execs"],
        cpu_seconds=stats["cpu_seconds"],
        cells=tuple(Cells(*one) for one in stats["cells"].items()),
        hits=tuple(Hits(Bucket(*bucket), kernel, n) for bucket, kernel, n in stats["hits"]),
        findings=tuple(
            Met(
                Bucket(*event["bucket"]),
                event["worst"],
                kernel,
                event["geometry"],
                bytes.fromhex(event["input"]),
                event["execs"],
            )
            for event in of("finding")
            for kernel in event["kernels"]
        ),
        suspects=tuple(
            Suspect(
                bytes.fromhex(event["input"]),
                event["kernel"],
                event["geometry"],
                event["doubt"],
                event["execs"],
            )
            for event in of("suspect")
        ),
        crashes=tuple(
            Crash(
                bytes.fromhex(event["input"]), event["kernel"], event["error"], event["traceback"]
            )
            for event in of("crash")
        ),
        new=tuple(bytes.fromhex(event["input"]) for event in of("new")),
        random_addresses=any(not event["fixed_addresses"] for event in of("start")),
    )


def died_of(status: int, log: Path, *, asked: bool) -> End:
    """How a fuzzing process ended.

    Arguments: its exit `status`, what it has printed, and whether it was `asked` to end.
    """
    if asked or status == 0:
        return End()
    why, outside = _STATUS.get(status, f"exit status {status}"), status == _INTERRUPTED
    if status < 0:
        number = signal.Signals(-status)
        why, outside = f"killed by {number.name}", number in _FROM_OUTSIDE
    return End(why, f"The end of {short(log)}:\n{indented(tail(log))}", outside)


def _executed(log: Sequence[str]) -> int:
    """Executions as libFuzzer counted them, or 0 if it could not say."""
    prefix = "stat::number_of_executed_units:"
    found = [line for line in log if line.startswith(prefix)]
    return int(found[-1].split()[-1]) if found else 0
