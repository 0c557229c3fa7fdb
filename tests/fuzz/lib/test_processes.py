"""Work in forked processes: what they return, and what becomes of those that do not end well."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz.lib import processes
from fuzz.lib.processes import CpuLimit, Ended, TooLong, forked
from tests.lib.constants import ROOT


def test_work_is_done_in_processes_of_its_own() -> None:
    def work(task: int) -> tuple[int, int]:
        return task * 2, os.getpid()

    results = {ended.task: ended.result for ended in forked(range(5), work, jobs=2, seconds=60)}
    assert {task: result and result[0] for task, result in results.items()} == {
        task: task * 2 for task in range(5)
    }
    assert os.getpid() not in {result and result[1] for result in results.values()}


def test_forked_processes_end_with_the_one_that_forked_them() -> None:
    program = (
        "import os, time\n"
        "from fuzz.lib.processes import Forks\n"
        "forks = Forks(lambda _: time.sleep(600))\n"
        "forks.begin(None)\n"
        "(one,) = forks._running.values()\n"
        "print(one.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False
    )
    deadline = time.monotonic() + 60
    while Path(f"/proc/{int(done.stdout)}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{int(done.stdout)}").exists()


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("150000 100000", 2), ("1000 100000", 1), (None, 8)]
)
def test_a_container_may_have_fewer_cores_than_the_machine(
    quota: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(processes, "_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert processes.cores() == expected


def test_a_process_that_dies_or_raises_costs_one_result(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work(task: str) -> str:
        if task == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "raises":
            raise ValueError("of the task")
        return "done"

    tasks = ["dies", "raises", "works"]
    ended = {one.task: one for one in forked(tasks, work, jobs=3, seconds=60)}
    assert ended["works"] == Ended("works", "done")
    assert ended["dies"].how == f"signal {int(signal.SIGKILL)}"
    assert ended["raises"].how == "status 1"
    assert "of the task" in capfd.readouterr().err


def test_a_process_that_never_ends_is_killed() -> None:
    (ended,) = forked([60], time.sleep, jobs=1, seconds=0.1)
    assert ended == Ended(60, None, "too long")


def children() -> set[str]:
    """The processes that this one has started, other tests' among them."""
    tasks = Path("/proc/self/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


@pytest.mark.skipif(sys.platform != "linux", reason="children are read from /proc")
def test_leaving_the_loop_ends_the_processes(tmp_path: Path) -> None:
    def work(task: int) -> None:
        if task:
            time.sleep(60)
            (tmp_path / "waited for").touch()

    before = children()
    loop = forked([0, 1], work, jobs=2, seconds=600)
    next(loop)
    assert children() - before
    loop.close()
    assert not (tmp_path / "waited for").exists()
    assert children() - before == set()


def test_a_loop_without_end_takes_its_cpu_time_and_no_more() -> None:
    def work(task: None) -> str:
        limit = CpuLimit(0.1)
        limit.begin()
        try:
            while True:
                try:
                    sum(range(1000))
                except Exception:
                    raise AssertionError from None
        except TooLong:
            return "too long"

    (ended,) = forked([None], work, jobs=1, seconds=60)
    assert ended.result == "too long"
