"""A lock keeps others out while its holder lives, and says who that is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.lib.lock import Lock, Locked
from tests.lib.constants import ROOT

HOLDER = """\
import sys, time
from pathlib import Path
from fuzz.lib.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    who = f"lock is held by process {os.getpid()}, since 20"
    with Lock(path), pytest.raises(Locked, match=who):
        Lock(path)
    with Lock(path):
        pass


def test_a_killed_holder_keeps_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match=f"process {holder.pid}, "):
            Lock(path)
    finally:
        holder.kill()
        holder.communicate()
    assert path.read_text().startswith(f"process {holder.pid}, ")
    with Lock(path):
        assert path.read_text().startswith(f"process {os.getpid()}, ")
