"""A case that leaves as a program comes back from what strace says of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Makes
from fuzz.case import Call
from fuzz.cli.main import main
from fuzz.export.program import as_c
from fuzz.forms.text import load, parse
from tests.lib.compilers import built, compiler

CASE = """
mmap(0x200000, 0x200000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0x200000
touch(0x200000, 0x3000) = 0
mprotect(0x300000, 0x1000, PROT_READ) = 0
mremap(0x200000, 0x100000, 0x100000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000) = 0x40200000
mremap(0x40200000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000) = -EINVAL
mlock(0x40200000, 0x1000) = 0
munmap(0x200000, 0x40000000) = 0
"""


def system_calls(calls: tuple[Call, ...]) -> list[Call]:
    """Those that strace tells of: accesses are none."""
    return [call for call in calls if CALLS[call.name].made_by is Makes.KERNEL]


@pytest.mark.parametrize("linked", [(), ("-static", "-no-pie")], ids=["dynamic", "static"])
def test_the_calls_that_left_come_back(linked: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    case = parse(CASE)
    source = as_c(case, "case", None, "pmdfuzz")
    program = built(source, tmp_path, compiler("cc"), *linked)
    log, out = tmp_path / "case.strace", tmp_path / "out"
    traced = ["strace", "-f", "-o", str(log), str(program)]
    done = subprocess.run(traced, capture_output=True, text=True, check=False)
    if done.returncode in (1, 4):  # strace itself fails so, where nobody may trace
        pytest.skip(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout
    lines = log.read_text()
    assert "touch(AT(0x200000), 0x3000) = 0" in lines  # for whoever wants to know of accesses
    advice = re.search(r"pmdfuzz (import strace) LOG (--within) (\S+)", source)
    assert advice
    command = [*advice[1].split(), str(log), *advice.groups()[1:], "-o", str(out), "--no-touch"]
    assert main(command) == 0
    (path,) = out.glob("*.case")
    assert system_calls(load(path).calls) == system_calls(case.calls)
