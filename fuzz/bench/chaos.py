"""A run on a cluster that is treated badly: is anything lost that was reported, or counted twice?

A worker is killed every now and then, at random, and the scheduler once; all are started again.
What the session has heard is kept aside, and compared with what is in its working directory then.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from fuzz.campaign.inquiry import Answer
from fuzz.campaign.round import Report
from fuzz.campaign.run import run
from fuzz.campaign.session import RunOptions, Session, Tls
from fuzz.findings.bucket import Bucket
from fuzz.findings.ledger import Ledger

WORKERS = 3
ROUND_SECONDS = 15.0
_STOP_SECONDS = 10.0
# A LocalCluster in a process of its own, so that its scheduler can be killed.  What takes long to
# come back it closes for good (`fuzz.campaign.cluster`), until it is asked for as many again.
_LOCAL = f"""
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers={WORKERS}, threads_per_worker=1, host="127.0.0.1",
        scheduler_port=int(sys.argv[1]), dashboard_address="127.0.0.1:0",
    )
    while True:
        time.sleep(1)
        cluster.scale({WORKERS})
"""


class Cluster(NamedTuple):
    """Commands: the scheduler's, and those of workers (none: it has workers of its own)."""

    scheduler: list[str]
    workers: list[list[str]]
    address: str
    tls: Tls


def local(folder: Path) -> Cluster:
    """A LocalCluster of processes."""
    script = folder / "local.py"
    script.write_text(_LOCAL)
    port = free_port()
    return Cluster([sys.executable, str(script), port], [], f"tcp://127.0.0.1:{port}", Tls())


def separate(folder: Path) -> Cluster:
    """A scheduler and workers, as one starts them by hand, with TLS."""
    from distributed import Security

    security = Security.temporary()
    tls = Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    words = []
    for path, name, option in zip(
        tls,
        ("tls_ca_file", "tls_client_cert", "tls_client_key"),
        ("--tls-ca-file", "--tls-cert", "--tls-key"),
        strict=True,
    ):
        assert path is not None
        path.write_text(getattr(security, name))
        words += [option, str(path)]
    address = f"tls://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m"]
    scheduler = [*dask, "distributed.cli.dask_scheduler", "--host", address, *words]
    scheduler += ["--dashboard-address", "127.0.0.1:0"]
    worker = [*dask, "distributed.cli.dask_worker", address, "--host", "127.0.0.1", *words]
    worker += ["--nthreads", "1", "--no-nanny", "--dashboard-address", "127.0.0.1:0"]
    worker += ["--local-directory", str(folder)]
    return Cluster(scheduler, [worker] * WORKERS, address, tls)


def free_port() -> str:
    """One that nobody has: a scheduler that is started again has to have the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


class Chaos(threading.Thread):
    """Keeps a cluster alive, and kills parts of it; `killed` counts what."""

    def __init__(self, cluster: Cluster, log: Path, every: float, scheduler_after: float) -> None:
        super().__init__(daemon=True)
        self.killed: Counter[str] = Counter()
        self._cluster = cluster
        self._log = log
        self._every = every
        self._scheduler_at = time.monotonic() + scheduler_after
        self._over = threading.Event()
        self._scheduler = self._start(cluster.scheduler)
        self._workers = [self._start(command) for command in cluster.workers]

    def _start(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output)

    def run(self) -> None:
        """Kill and start until it is stopped."""
        kill_at = time.monotonic() + self._every
        while not self._over.wait(1.0):
            now = time.monotonic()
            if self._scheduler_at <= now:
                self._scheduler_at = float("inf")
                self.killed["scheduler"] += 1
                self._scheduler.kill()
            elif kill_at <= now:
                kill_at = now + self._every
                self._kill_worker()
            if self._scheduler.poll() is not None:
                self._scheduler = self._start(self._cluster.scheduler)
            for i, worker in enumerate(self._workers):
                if worker.poll() is not None:
                    self._workers[i] = self._start(self._cluster.workers[i])

    def _kill_worker(self) -> None:
        if self._workers:
            random.choice(self._workers).kill()
            self.killed["worker"] += 1
            return
        workers = [
            int(child)
            for thread in Path(f"/proc/{self._scheduler.pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        if workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            self.killed["worker"] += 1

    def stop(self) -> None:
        """End it all."""
        self._over.set()
        self.join()
        for process in (*self._workers, self._scheduler):
            process.send_signal(signal.SIGTERM)
        for process in (*self._workers, self._scheduler):
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:  # it waits for a round that nobody wants any more
                process.kill()
                process.wait()


class Heard:
    """What a session has heard: the last counters of each round, and all inputs and findings."""

    def __init__(self, record: Path | None) -> None:
        self.rounds: dict[str, Report] = {}
        self.inputs: set[bytes] = set()
        self.buckets: set[Bucket] = set()
        self.lost = 0
        self._record = record

    def take(self, told: Sequence[Report | Answer]) -> None:
        """Remember it."""
        for one in told:
            if not isinstance(one, Report):
                continue
            if one.end is not None and one.end.lost:
                self.lost += 1
                continue
            self.rounds[one.round] = one
            self.inputs.update(one.inputs)
            self.buckets.update(met.bucket for met in one.findings)
            if self._record is not None:
                with self._record.open("a") as lines:
                    lines.write(json.dumps(one.plain()) + "\n")

    @property
    def hits(self) -> Counter[tuple[Bucket, str]]:
        """How often each finding was met, by the last word of each round."""
        total: Counter[tuple[Bucket, str]] = Counter()
        for report in self.rounds.values():
            of_round: Counter[tuple[Bucket, str]] = Counter()
            for met in report.findings:
                of_round[met.bucket, met.kernel] = 1
            for bucket, kernel, times in report.hits:
                of_round[bucket, kernel] = max(of_round[bucket, kernel], times)
            total.update(of_round)
        return total


def chaos(options: argparse.Namespace) -> int:
    """Run, and say what is missing.  Returns: 1 if something is."""
    from fuzz.campaign import cluster as executor

    seconds = options.minutes * 60
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workdir = options.workdir or folder / "work"
        there = (separate if options.tls else local)(folder)
        chaos = Chaos(there, folder / "dask.log", options.every, seconds / 2)
        heard = Heard(options.record)
        hear = executor.Cluster.heard

        def recording(self: Any, timeout: float) -> Sequence[Report | Answer]:
            told = hear(self, timeout)
            heard.take(told)
            return told

        chaos.start()
        with (
            patch.object(executor.Cluster, "heard", recording),
            patch.object(executor.Cluster, "round_seconds", ROUND_SECONDS),
            patch.object(executor, "CONNECT_SECONDS", 60.0),
        ):
            chosen = RunOptions(
                workdir,
                kernels=("linux-6.1", "linux-7.3"),
                seconds=seconds,
                cluster=there.address,
                tls=there.tls,
            )
            status = run(chosen)
        chaos.stop()
        print(
            f"\nexit status {status}; killed: {dict(chaos.killed)}; {len(heard.rounds)} rounds "
            f"reported {sum(one.execs for one in heard.rounds.values())} executions, "
            f"{len(heard.inputs)} inputs, {len(heard.buckets)} findings; {heard.lost} were lost"
        )
        wrong = list(objections(chosen, heard))
        print("\n".join(wrong) or "nothing that was reported is lost, nothing counted twice")
        return int(bool(wrong))


def objections(options: RunOptions, heard: Heard) -> list[str]:
    """What is missing in a working directory, or there too often."""
    wrong = []
    with Session(options) as session:
        kept = {session.decode(path.read_bytes()) for path in session.corpus.iterdir()}
        missing = [data for data in heard.inputs if session.decode(data) not in kept]
        if missing:
            wrong.append(f"{len(missing)} inputs of {len(heard.inputs)} are not in the corpus")
        wrong += [
            f"{bucket.name} has no case"
            for bucket in sorted(heard.buckets)
            if not session.path(bucket).exists()
        ]
    with Ledger.open(options.workdir) as ledger:
        counted = {
            (finding.bucket, kernel): times
            for finding in ledger.list()
            for kernel, times in finding.kernels.items()
        }
    for key, times in heard.hits.items():
        if counted.get(key) != times:
            wrong.append(f"{key[0].name} on {key[1]}: {counted.get(key)} in place of {times}")
    return wrong
