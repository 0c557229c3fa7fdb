"""How far one session reaches: how many rounds it can give out and take in, and what is full first.

Workers are simulated: at once they report what another run has reported (`chaos --record`), with
inputs of their own.  First without a network between, then with dask and a scheduler of its own.
"""

import argparse
import cProfile
import json
import os
import pstats
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fuzz.bench.chaos import free_port
from fuzz.campaign import run as run_module
from fuzz.campaign.inquiry import Answer, Inquiry
from fuzz.campaign.round import End, Report, Round
from fuzz.campaign.session import RunOptions

_RECORD = "PMDFUZZ_BENCH_RECORD"
_INPUTS = 100  # new ones in a report
_BATCH = 50  # reports that come in at a time
_PARTS = {
    "samples of the corpus": ("samples.py", "some"),
    "rounds as JSON": ("round.py", "plain"),
    "reports parsed": ("round.py", "parsed"),
    "inputs written": ("samples.py", "add"),
    "findings recorded": ("session.py", "record"),
    "who fuzzes what": ("schedule.py", "begin"),
    "the status": ("meter.py", "read"),
}
# Workers in one process, which is not the scheduler's.
_WORKERS = """
import asyncio, sys
from distributed import Worker
async def main(address, number):
    workers = [
        Worker(address, nthreads=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", name=str(i))
        for i in range(number)
    ]
    for i in range(0, number, 20):
        await asyncio.gather(*workers[i : i + 20])
    print("up", flush=True)
    await asyncio.gather(*(worker.finished() for worker in workers))
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def replayed(text: str, recorded: Sequence[dict[str, Any]]) -> str:
    """What a worker says to a round at once: a recorded report, with inputs that nobody had."""
    task = json.loads(text)
    report = dict(random.choice(recorded))
    kernel, geometry = task["kernels"][0], task["geometries"][0]
    for name in ("hits", "findings", "cells", "suspects", "crashes"):
        report[name] = [
            one | {"kernel": kernel} | ({"geometry": geometry} if "geometry" in one else {})
            for one in report[name]
        ]
    report["inputs"] = [_fresh(one) for one in random.choices(_inputs(recorded), k=_INPUTS)]
    report |= {"round": task["id"], "id": uuid.uuid4().hex, "program": task["program"]}
    return json.dumps(report)


def _inputs(recorded: Sequence[dict[str, Any]]) -> list[str]:
    """All recorded inputs that are long enough to be made another."""
    return [one for report in recorded for one in report["inputs"] if len(one) >= 28]


def _fresh(data: str) -> str:
    """An input that nobody had, as long as one in base64."""
    return data[:-24] + uuid.uuid4().hex[:20] + data[-4:]


def replay(text: str) -> str:
    """The same on a worker of dask."""
    return replayed(text, _recorded(Path(os.environ[_RECORD])))


def _recorded(path: Path) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in path.read_text().splitlines()]
    return [one for one in told if one["end"] is not None and one["program"]]


class Simulated:
    """An executor whose workers are done at once."""

    remote = True
    round_seconds = 60.0
    over = standing = ""

    def __init__(self, places: int, recorded: Sequence[dict[str, Any]]) -> None:
        self.places = self.helpers = places
        self.rounds = self.inputs = self.hits = self.sent = self.received = 0
        self._recorded = recorded
        self._begun: list[Round | Inquiry] = []
        self._stopped = False

    def begin(self, task: Round | Inquiry) -> None:
        """See `Executor`."""
        self._begun.append(task)

    def heard(self, timeout: float) -> Sequence[Report | Answer]:
        """See `Executor`."""
        told: list[Report | Answer] = []
        done, self._begun = self._begun[:_BATCH], self._begun[_BATCH:]
        for task in done:
            if isinstance(task, Inquiry):
                told.append(Answer.none(task, "simulated"))
                continue
            if self._stopped:
                told.append(Report(task.id, task.program, end=End(lost=True)))
                continue
            sent = json.dumps(task.plain())
            answer = replayed(sent, self._recorded)
            report = Report.parsed(json.loads(answer), task)
            self.sent += len(sent)
            self.received += len(answer)
            self.rounds += 1
            self.inputs += len(report.inputs)
            self.hits += len(report.hits)
            told.append(report)
        return told

    def news(self) -> Sequence[str]:
        """See `Executor`."""
        return ()

    def stop(self) -> None:
        """See `Executor`."""
        self._stopped = True

    def kill(self) -> None:
        """See `Executor`."""

    def close(self) -> None:
        """See `Executor`."""


def reach(options: argparse.Namespace) -> None:
    """Measure both, and print it."""
    recorded = _recorded(options.record)
    executor = Simulated(options.workers, recorded)
    with cProfile.Profile() as profile:
        started = time.monotonic()
        cpu = _run(options, lambda options: executor)
        passed = time.monotonic() - started
    many = executor.rounds
    rates = (many / passed, executor.inputs / passed, executor.hits / passed)
    print(
        f"without a network: {many} rounds in {passed:.0f} s, {cpu:.0f} s of CPU: "
        "{:.0f} rounds, {:.0f} inputs, {:.0f} findings a second; ".format(*rates)
        + f"a round is {executor.sent / many / 1000:.0f} kB there and "
        f"{executor.received / many / 1000:.0f} kB back"
    )
    stats: Any = pstats.Stats(profile)
    total = stats.total_tt
    for what, (file, function) in _PARTS.items():
        for (path, _, name), (_, _, _, taken, _) in stats.stats.items():
            if name == function and path.endswith(f"campaign/{file}"):
                print(f"  {taken / total:6.1%} {what}")
    _with_dask(options)


def _run(options: argparse.Namespace, executor: Callable[[Any], Any]) -> float:
    """A run with that executor.  Returns: CPU seconds of this process."""
    before = time.process_time()
    with (
        tempfile.TemporaryDirectory() as workdir,
        patch.object(run_module, "_cluster", executor),
        patch.object(run_module, "spell_out"),  # once at the end of a run
    ):
        run_module.run(RunOptions(Path(workdir), seconds=options.seconds, seed=1))
    return time.process_time() - before


def _with_dask(options: argparse.Namespace) -> None:
    from fuzz.campaign import cluster, remote

    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address]
    dask += ["--dashboard-address", "127.0.0.1:0"]
    env = os.environ | {_RECORD: str(options.record.absolute())}
    quiet = subprocess.DEVNULL
    scheduler = subprocess.Popen(dask, stderr=quiet, env=env)
    command = [sys.executable, "-c", _WORKERS, address, str(options.workers)]
    workers = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, env=env)
    try:
        assert workers.stdout is not None
        workers.stdout.readline()
        done: list[Report] = []
        hear = cluster.Cluster.heard
        first = _cpu_of(scheduler.pid)

        def counting(self: Any, timeout: float) -> Sequence[Report | Answer]:
            told = hear(self, timeout)
            done.extend(one for one in told if isinstance(one, Report) and one.end)
            return told

        with (
            patch.object(remote, "fuzz", replay),
            patch.object(cluster.Cluster, "heard", counting),
            patch.object(cluster, "CONNECT_SECONDS", 60.0),
        ):
            started = time.monotonic()
            cpu = _run(options, lambda options: cluster.Cluster(address))
            passed = time.monotonic() - started
        scheduled = _cpu_of(scheduler.pid) - first
        many = sum(not one.end.lost for one in done if one.end)
        print(
            f"with dask, {options.workers} workers: {many} rounds in {passed:.0f} s; the session "
            f"took {cpu:.1f} s of CPU, {many / cpu:.0f} rounds a second of it, the scheduler "
            f"{scheduled:.1f} s, {many / scheduled:.0f} rounds a second of it"
        )
    finally:
        for process in (workers, scheduler):
            process.kill()
            process.wait()


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
