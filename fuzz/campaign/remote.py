"""What a worker of a cluster does for a session (`fuzz.campaign.cluster`): its side of the wire.

Only text, which is JSON, goes in and out. Each task is done by a process of its own, because it
wants a main thread (those that have a subject are kept for further trials); that process ends with
the worker, whatever that dies of, as nobody hears it any more. The worker ends it, too, when the
session does not wait for it any more or the scheduler is gone, which dask tells nobody who is busy.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

from distributed import Status, get_worker

from fuzz.campaign.child import RunError, check_environment, environment
from fuzz.campaign.inquiry import Inquiry
from fuzz.campaign.round import Artifact, Report, Round, checked_program, program
from fuzz.campaign.trial import Trial
from fuzz.campaign.worker import Place, Worker
from fuzz.lib.plain import Message, parsed

_LOOK_SECONDS = 0.5  # is it still wanted?

_PYTHON = "{}.{}".format(*sys.version_info)  # which a program is another one for

_stopping: set[str] = set()  # the rounds here that are to end
_idle: dict[str, list["subprocess.Popen[str]"]] = {}  # that have a subject, by its name


@dataclass(frozen=True, slots=True)
class Presence(Message):
    """What a worker is: the fingerprint of its `program`, its `python`, why it cannot fuzz."""

    program: str
    python: str
    objection: str = ""

    @classmethod
    def parsed(cls, data: object) -> Self:
        """One that came in.  Errors raised: OtherProgram, PlainError."""
        python = data.get("python") if isinstance(data, dict) else None
        other = isinstance(python, str) and python != _PYTHON
        checked_program(data, f"what it has for Python {python:.9}" if other else "what it has")
        return parsed(cls, data, "it")


def who() -> str:
    """What a session asks a worker first, see `Presence`."""
    objection = ""
    try:
        check_environment()
    except RunError as error:
        objection = str(error)
    return json.dumps(Presence(program(), _PYTHON, objection).plain())


def stop(rounds: list[str]) -> None:
    """Let rounds of these ids end, and report; the worker may have other ones."""
    _stopping.update(rounds)


def fuzz(text: str) -> str:
    """Do a round, and report once.  Errors raised: OtherProgram, PlainError."""
    task = Round.parsed(json.loads(text))
    with tempfile.TemporaryDirectory(prefix="round-", dir=get_worker().local_directory) as folder:
        place = _place(Path(folder), task.sample)
        process = Worker(task, place)
        reports = []
        try:
            while not process.ended:
                wait([process.child.fileno()], _LOOK_SECONDS)
                if task.id in _stopping or not _wanted(task.id):
                    process.stop()
                if report := process.report():
                    reports.append(report)
        finally:
            if not process.ended:
                process.kill()
            process.child.close()
            _stopping.discard(task.id)
        report = replace(_together(reports), inputs=_added(place, task))
        if report.end is not None:
            report = replace(report, end=report.end._replace(artifacts=_artifacts(place)))
    return json.dumps(report.plain())


def inquire(text: str) -> str:
    """Answer an inquiry.  Errors raised: OtherProgram, PlainError, RuntimeError if nobody can."""
    task = Inquiry.parsed(json.loads(text))
    process = _process("fuzz.campaign.inquiry", errors=subprocess.PIPE)
    with process:
        said: str | None = text
        while True:
            try:
                answer, errors = process.communicate(said, _LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                said = None  # it has it by now, or gets it from what communicate keeps
                if not _wanted(task.id):
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = errors.splitlines() or [f"it ended with status {process.returncode}"]
        raise RuntimeError(lines[-1])
    return answer


def observe(text: str) -> str:
    """Do a trial.  Errors raised: OtherProgram, PlainError, RuntimeError if nobody can."""
    task = Trial.parsed(json.loads(text))
    idle = _idle.setdefault(task.subject, [])
    process = idle.pop() if idle else _process("fuzz.campaign.trial")
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(f"{text}\n")
        process.stdin.flush()
        while not wait([process.stdout.fileno()], _LOOK_SECONDS):
            if not _wanted(task.id):
                raise RuntimeError("nobody waits for it any more")
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{task.subject} was lost; the worker's log may say why")
    except BaseException:
        _end(process)
        raise
    idle.append(process)
    return answer


def let_go() -> None:
    """End the subjects that are kept for further trials."""
    for idle in _idle.values():
        while idle:
            _end(idle.pop())


def _process(module: str, errors: int | None = None) -> "subprocess.Popen[str]":
    """One that runs a module of ours and is talked to; its errors go to the worker's log."""
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment(),
        text=True,
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[str]") -> None:
    with process:
        os.killpg(process.pid, signal.SIGKILL)


def _wanted(name: str) -> bool:
    """Does anybody wait for the task of that id?"""
    worker = get_worker()
    task = worker.state.tasks.get(name)
    cancelled = task is None or task.state == "cancelled"  # or its session has gone away
    return worker.status in (Status.running, Status.paused) and not cancelled


def _place(folder: Path, sample: Sequence[bytes]) -> Place:
    """A place for a round, with its sample where libFuzzer reads only."""
    place = Place(folder / "corpus", folder / "seeds", folder / "crashes", folder / "log")
    for directory in (place.corpus, place.seeds, place.crashes):
        directory.mkdir()
    for data in sample:
        (place.seeds / hashlib.sha1(data).hexdigest()).write_bytes(data)
    return place


def _together(reports: Sequence[Report]) -> Report:
    """The reports of a round as one: counters are those of the last."""
    return replace(
        reports[-1],
        findings=tuple(chain.from_iterable(one.findings for one in reports)),
        suspects=tuple(chain.from_iterable(one.suspects for one in reports)),
        crashes=tuple(chain.from_iterable(one.crashes for one in reports)),
        new=tuple(chain.from_iterable(one.new for one in reports)),
        random_addresses=any(one.random_addresses for one in reports),
    )


def _added(place: Place, task: Round) -> tuple[bytes, ...]:
    """The inputs that a round has found."""
    found = (path.read_bytes() for path in sorted(place.corpus.iterdir()))
    return tuple(data for data in found if len(data) <= task.max_bytes)


def _artifacts(place: Place) -> tuple[Artifact, ...]:
    """What a fuzzing process has left of the inputs that it died of."""
    return tuple(
        Artifact(path.name.rpartition("-")[0], path.read_bytes())
        for path in sorted(place.crashes.iterdir())
    )
