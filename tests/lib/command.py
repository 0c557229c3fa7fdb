"""Commands, their input, and what they say."""

from collections.abc import Callable

import pytest

from fuzz.findings.bucket import Bucket

STACK = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
RULE = "dest-entry-none"
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
BUCKET = Bucket(RULE, "execve_stack")

Write = Callable[[str], str]  # makes a case file x.case
Output = pytest.CaptureFixture[str]


def refused(output: Output) -> str:
    """What a refused command said: one message on stderr, nothing else."""
    out, err = output.readouterr()
    assert out == ""
    assert err.startswith("pmdfuzz: ")
    assert "Traceback" not in err
    return err.removeprefix("pmdfuzz: ")
