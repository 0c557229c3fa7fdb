"""Programs that stand for the kernel: the agent runs under them, and says what it does not see."""

import shutil
from collections.abc import Iterator

import pytest

from fuzz.forms.text import parse
from fuzz.subjects.agent import Agent
from fuzz.subjects.program import build

EMULATORS = {
    "qemu-x86_64-static": [],
    "qemu-x86_64": [],
    "valgrind": ["-q", "--tool=none"],
}
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
TOUCHED = f"{MAP}touch(0x200000, 0x2000)\n"
MOVE = "mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x800000)\n"


@pytest.fixture(params=EMULATORS)
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """An agent under each emulator that there is."""
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param}")
    made = Agent([program, *EMULATORS[request.param], str(build())])
    yield made
    made.close()


def test_what_is_behind_a_move(agent: Agent) -> None:
    moved, other = agent.run([parse(TOUCHED + MOVE), parse(MAP)])
    assert moved["ret"] == [0x200000, 0, 0x800000]
    assert moved["vmas"] == [[0x800000, 0x804000, "rw-p"]]
    assert moved["contents"] == [[0x800, 2, 1]]
    assert "pt" not in moved
    assert other["vmas"] == [[0x200000, 0x204000, "rw-p"]]  # nothing of the first is left
    assert agent.hello.emulated
    assert agent.hello.fields == {"ret", "vmas", "contents"}


def test_contents_of_what_cannot_be_read_are_seen(agent: Agent) -> None:
    hidden = parse(TOUCHED + "mprotect(0x200000, 0x4000, PROT_NONE)\npeek(0x200000, 0x1000)\n")
    (seen,) = agent.run([hidden])
    assert seen["ret"][-1] == {"segv": [[0x200, 1]]}
    assert seen["contents"] == [[0x200, 2, 1]]


def test_contents_of_more_than_can_be_read_are_unknown(agent: Agent) -> None:
    (seen,) = agent.run([parse(MAP.replace("0x4000", "0x20000000"))])
    assert seen["contents"] is None
