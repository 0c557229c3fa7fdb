"""Has all contestants play all their trials, and keeps what comes of them.

Trials are done seed by seed, so that a comparison that is stopped has something of every bug and
every contestant; it goes on where it was.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fuzz.campaign.child import environment
from fuzz.contest.bugs import bug_named
from fuzz.contest.table import Table
from fuzz.contest.trial import UNPLANNED, WHOLE, Moment, Played, Task
from fuzz.inputs.inputs import shared_out
from fuzz.lib.processes import forked
from fuzz.lib.status import Fields, StatusLine, duration
from fuzz.museum.trial import trial_flags, trial_setting

_WALL_FACTOR, _WALL_SECONDS = 40, 300  # of the CPU time, when others have the processor, too


@dataclass(slots=True)
class _Standing:
    """Where a comparison stands."""

    trials: int
    done: int = 0
    found: int = 0
    latest: str = ""
    before: int = 0  # trials of earlier times
    started: float = field(default_factory=time.monotonic)

    def fields(self) -> Fields:
        """See `fuzz.lib.status.Standing`."""
        spent = time.monotonic() - self.started
        shown = [(duration(spent), "dim"), (f"{self.done}/{self.trials} trials", "")]
        if now := self.done - self.before:
            left = spent / now * (self.trials - self.done)
            shown.append((f"{duration(left)} left", ""))
        return [*shown, (f"{self.found} found", ""), (self.latest, "")]


def play(tasks: Sequence[Task], table: Table, jobs: int) -> list[str]:
    """Do the trials that are not in the table yet, and put them there.

    Returns: how trials failed, if any did: a defect of this project.  Errors raised: WriteError.
    """
    todo = [task for task in tasks if table.get(task) is None]
    line = StatusLine(sys.stderr)
    standing = _Standing(len(tasks), done=len(tasks) - len(todo), before=len(tasks) - len(todo))
    failures = []
    seconds = max((task.seconds for task in todo), default=0.0)
    work = forked(
        todo,
        partial(_played, directory=table.path.parent),
        jobs=jobs,
        seconds=seconds * _WALL_FACTOR + _WALL_SECONDS,
        tick=lambda: line.update(standing),
    )
    try:
        for ended in work:
            task, played = ended.task, ended.result
            standing.done += 1
            standing.latest = f"{task.contestant} {task.bug} seed {task.seed}"
            if not isinstance(played, Played):
                failures.append(f"{standing.latest}: {played or ended.how}")
                line.write(failures[-1], sys.stderr)
                continue
            standing.found += played.found is not None
            table.put(task, played)
    finally:
        line.clear()
    return failures


def _played(task: Task, directory: Path) -> Played | str:
    """What comes of one trial, in a process of its own; or how that failed, in words."""
    receive, tell = os.pipe()
    told = {"task": task._asdict(), "tell": tell, **_ours(task)}
    with tempfile.TemporaryDirectory(dir=directory) as scratch:  # libFuzzer writes beside itself
        process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.contest.player", json.dumps(told)],
            cwd=scratch,
            env=environment(),
            pass_fds=(tell,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.close(tell)
        try:
            output, _ = process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        with open(receive, "rb") as reader:
            lines = reader.read().splitlines()
    if not lines:
        return f"status {process.returncode}\n{output.decode(errors='replace')[-2000:]}"
    reached, triggered, found, spent = (seen and Moment(*seen) for seen in json.loads(lines[0]))
    return Played(reached, triggered, found, spent)


def _ours(task: Task) -> dict[str, object]:
    """What our own fuzzing process is told: what it is in a trial of the museum."""
    if task.contestant not in (WHOLE, UNPLANNED):
        return {}
    geometries = shared_out(bug_named(task.bug).kernel.geometry)
    setting = trial_setting(task.bug, geometries)._replace(planned=task.contestant == WHOLE)
    return {"setting": setting._asdict(), "flags": trial_flags(task.seed)}
