"""Runs that fuzz for a moment: who may, what of, and the processes that they start."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.campaign.session import RunOptions
from fuzz.findings.bucket import Bucket

# The bug of 2023: a stack that moves down by less than its length meets a table it has emptied.
WARNING = Bucket("dest-entry-none", "execve_stack", "B-01")
SEED = """\
@kernel linux-6.1
execve_stack(0xbfb00000, 0xc0000000, 0x400000)
"""


def needs_atheris(function: Callable[..., None]) -> Callable[..., None]:
    """A test that starts a fuzzing process, or is refused to."""
    absent = importlib.util.find_spec("atheris") is None
    skipped = pytest.mark.skipif(absent, reason="atheris is not installed")
    return pytest.mark.atheris(skipped(function))


def fuzzing_test(function: Callable[..., None]) -> Callable[..., None]:
    """A test that fuzzes, which takes seconds."""
    return pytest.mark.slow(needs_atheris(function))


def options(tmp_path: Path, *places: Path, **more: object) -> RunOptions:
    """A run of a few dozen executions on the kernel with the bug and on one without."""
    fixed: dict[str, object] = {"kernels": ("linux-6.1", "linux-6.18"), "runs": 30, "seed": 1}
    return RunOptions(tmp_path / "work", seeds=places, **fixed | more)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Is there a process of that number, which has not ended?"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def processes(parent: int) -> list[int]:
    """All that a process has started."""
    return [
        int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    ]


def fuzzing_processes(parent: int) -> list[int]:
    """The processes that a run has started."""
    children = processes(parent)
    arguments = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, those in arguments.items() if b"fuzz.campaign.harness" in those]
