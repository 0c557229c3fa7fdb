"""Programs that are run in a virtual machine, each once."""

import contextlib
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzz.subjects.program import build
from fuzz.subjects.subject import SubjectError
from fuzz.vm.errors import MachineError
from fuzz.vm.image import Image
from fuzz.vm.initramfs import Entry, archive
from fuzz.vm.machine import Machine
from fuzz.vm.qemu import TCG, setup_for

_INIT = Path(__file__).with_name("init.c")
_DONE = "@@ done"
_RUN = re.compile(r"@@ begin /(\S+)\n(.*?)@@ end (-?\d+)\n", re.S)
_LONGEST = 600.0  # seconds: emulated, on a busy machine


def run_in_machine(image: Image, programs: Sequence[Path]) -> dict[str, tuple[int, list[str]]]:
    """How static programs end on a kernel, and what they print, by their names.

    Skips the test where this system has not what a machine takes.
    """
    try:
        init = build(image.arch, _INIT)
    except SubjectError as error:
        pytest.skip(str(error))
    listed = "".join(f"/{program.name}\n" for program in programs)
    files = archive(
        (
            Entry("dev", stat.S_IFDIR | 0o755),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("init", stat.S_IFREG | 0o755, init.read_bytes()),
            Entry("list", stat.S_IFREG | 0o644, listed.encode()),
            *(Entry(one.name, stat.S_IFREG | 0o755, one.read_bytes()) for one in programs),
        )
    )
    said = _console(image, files).replace("\r", "")
    assert _DONE in said, said[-2000:]
    return {name: (int(status), text.splitlines()) for name, text, status in _RUN.findall(said)}


def _console(image: Image, files: bytes) -> str:
    """All that is said until the programs are done, or the machine has ended."""
    said, end = "", time.monotonic() + _LONGEST
    with tempfile.TemporaryFile() as complaints:
        try:
            machine = Machine(image, setup_for(image), TCG, files, complaints)
        except MachineError as error:
            pytest.skip(str(error))
        with contextlib.closing(machine), machine.process as process:
            while process.poll() is None and _DONE not in said and time.monotonic() < end:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                said += machine.console()
            process.kill()
            said += machine.console()
    return said
