"""Work in forked processes: what they return, and what becomes of those that do not end well."""

import os
import signal
import time
from pathlib import Path

import pytest

from fuzz.lib.processes import CpuLimit, Ended, TooLong, forked


def test_work_is_done_in_processes_of_its_own() -> None:
    def work(task: int) -> tuple[int, int]:
        return task * 2, os.getpid()

    results = {ended.task: ended.result for ended in forked(range(5), work, jobs=2, seconds=60)}
    assert {task: result and result[0] for task, result in results.items()} == {
        task: task * 2 for task in range(5)
    }
    assert os.getpid() not in {result and result[1] for result in results.values()}


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


def test_leaving_the_loop_ends_the_processes(tmp_path: Path) -> None:
    def work(task: int) -> None:
        if task:
            time.sleep(60)
            (tmp_path / "waited for").touch()

    loop = forked([0, 1], work, jobs=2, seconds=600)
    next(loop)
    loop.close()
    assert not (tmp_path / "waited for").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


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
