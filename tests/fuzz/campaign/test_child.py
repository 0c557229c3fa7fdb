"""The fuzzing process as its parent sees it: what it reports, what it outlives, what it dies of."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from fuzz.campaign.child import Child, Setting
from tests.lib.constants import ROOT
from tests.lib.runs import alive, fuzzing_test, needs_atheris


@fuzzing_test
def test_the_child_reports_what_it_did(tmp_path: Path) -> None:
    setting = Setting(["linux-6.18"], ["x86-64"], ["mmap", "mremap"], 4, runs=200)
    child = Child(setting, ["-runs=200", "-seed=1"], tmp_path / "log")
    last = {}
    while child.talking:
        for event in child.events(0.1):
            last[event["event"]] = event
    assert child.close() == 0
    assert last["stats"]["execs"] == 200
    assert last["stats"]["cells"]["linux-6.18"] > 20
    assert last["start"]["fixed_addresses"] == (sys.platform == "linux")


@fuzzing_test
def test_the_child_outlives_the_thread_that_has_started_it(tmp_path: Path) -> None:
    setting = Setting(["linux-6.18"], ["x86-64"], ["mmap"], 4, runs=200)
    started: list[Child] = []
    thread = Thread(target=lambda: started.append(Child(setting, ["-runs=200"], tmp_path / "log")))
    thread.start()
    thread.join()
    (child,) = started
    while child.talking:
        child.events(0.1)
    assert child.close() == 0


@needs_atheris
def test_handlers_of_python_do_not_keep_a_signal_from_libfuzzer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONFAULTHANDLER", "PYTHONDEVMODE"):
        monkeypatch.setenv(name, "1")
    child = Child(Setting(["linux-6.18"], ["x86-64"], ["mmap"], 4), [], tmp_path / "log")
    while not any(event["event"] == "stats" for event in child.events(0.1)):
        assert child.talking
    os.kill(child._process.pid, signal.SIGSEGV)
    assert child.close() == 77


@needs_atheris
def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from fuzz.campaign.child import Child, Setting\n"
        "child = Child(Setting(['linux-6.18'], ['x86-64'], ['mmap'], 4), [], Path(sys.argv[1]))\n"
        "while not child.events(0.1): pass\n"
        "print(child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    pid = int(parent.stdout)
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)
    assert os.path.exists(tmp_path / "log")
