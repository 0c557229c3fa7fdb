"""Signals as requests to end, and the terminal that is gone when SIGHUP comes."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from fuzz.lib.signals import Stop, stopping
from tests.lib.constants import ROOT

PROGRAM = """
import sys, time
from fuzz.lib.signals import on_request
from fuzz.lib.status import StatusLine

line, asked = StatusLine(sys.stderr), []
with on_request(asked.append):
    line.write("ready", sys.stdout)
    sys.stdin.read()
    line.write("nobody reads this", sys.stdout)
    while not asked:
        time.sleep(0.01)
    line.write("nor this", sys.stderr)
sys.exit(128 + asked[0])
"""


def test_a_terminal_that_hangs_up_ends_nobody_but_sighup_does() -> None:
    """Some processes are told by SIGHUP before their next write fails, others later."""
    here, there = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=there,
        stderr=there,
    ) as process:
        os.close(there)
        assert os.read(here, 100).split() == [b"ready"]
        os.close(here)
        assert process.stdin is not None
        process.stdin.close()
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 128 + signal.SIGHUP


def test_a_signal_raises_where_the_program_is() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(Stop) as stop, stopping():
            os.kill(os.getpid(), number)
        assert stop.value.number == number
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
