"""The machine under us: the agent runs cases, survives accidents, agrees with the model."""

import os
import signal
from pathlib import Path

import pytest

from fuzz.compare import difference, modelled
from fuzz.kernel import machine
from fuzz.kernel.machine import Machine, MachineError, commit_limit_bytes, host_kernel, obstacles
from fuzz.text import parse

REASONS = obstacles()
needs_machine = pytest.mark.skipif(bool(REASONS), reason="; ".join(REASONS) or "none")

MOVE = parse(
    "mmap(0x501000, 0x300000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "touch(0x501000, 0x3000)\n"
    "mremap(0x501000, 0x300000, 0x300000, "
    "MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x40101000)\n"
)


@needs_machine
def test_a_move_does_on_the_machine_what_the_calls_say() -> None:
    with Machine() as here:
        seen = here.observe(MOVE)
    assert seen["ret"] == [0x501000, 0, 0x40101000]
    assert seen["pages"] == [[0x40101, 3, "P", 1]]


@needs_machine
def test_model_and_machine_agree_where_the_model_knows_the_kernel() -> None:
    try:
        kernel = host_kernel()
    except MachineError as unknown:
        pytest.skip(str(unknown))
    with Machine() as here:
        seen = here.observe(MOVE)
    model = modelled(MOVE, kernel, commit_limit_bytes=commit_limit_bytes())
    assert difference(MOVE, seen, model) is None


@needs_machine
def test_a_killed_worker_costs_nothing_but_the_case_it_was_at() -> None:
    with Machine() as here:
        before = here.observe(MOVE)
        worker = here.worker
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        seen = [here.observe(MOVE), here.observe(MOVE)]
    assert [s["ret"] for s in seen if "ret" in s][-1] == before["ret"]


@needs_machine
def test_without_a_compiler_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MachineError, match="compiler"):
        machine.build(tmp_path / "cache")


def test_a_kernel_without_a_model_names_those_that_have_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "release", lambda: "4.19.1")
    with pytest.raises(MachineError, match=r"linux-6\.12"):
        host_kernel()
