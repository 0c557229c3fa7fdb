"""Programs that stand for the kernel: the agent runs under them, and says what it does not see."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.forms.text import parse
from fuzz.lib.exits import FINE
from fuzz.subjects.agent import Agent, agent_command, version_of
from fuzz.subjects.beside import beside_model
from fuzz.subjects.check import CheckOptions, check
from fuzz.subjects.program import build
from fuzz.subjects.subject import SubjectError
from tests.lib.constants import ROOT

EMULATORS = {
    "qemu-x86_64-static": [],
    "qemu-x86_64": [],
    "valgrind": ["-q", "--tool=none"],
}
SOURCES = sorted((ROOT / "corpus" / "seeds").glob("*.case"))
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
TOUCHED = f"{MAP}touch(0x200000, 0x2000)\n"
MOVE = "mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x800000)\n"


@pytest.fixture(params=EMULATORS)
def emulator(request: pytest.FixtureRequest) -> list[str]:
    """The words that run something under an emulator, each that there is."""
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param}")
    return [program, *EMULATORS[request.param]]


@pytest.fixture
def agent(emulator: list[str]) -> Iterator[Agent]:
    """An agent under an emulator."""
    made = Agent([*emulator, str(build())])
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


def test_what_a_program_dies_of_is_its_result(emulator: list[str]) -> None:
    long = parse(TOUCHED.replace("0x4000", "0x4000000").replace("0x2000", "0x4000000"))
    words = agent_command(build(), time_limit=0.001)
    with Agent([*emulator, *words], grace=60) as impatient:
        died, other = impatient.run([long, parse(MAP)])
        first = impatient.worker
        assert died == {"id": "0", "crash": "takes longer than 0.001 s"}
        assert other["id"] == "1"
        assert impatient.observe(long) == died
        assert impatient.worker == first is not None  # the emulator goes on


def test_the_version_is_that_of_the_last_program_before_the_agent(tmp_path: Path) -> None:
    fake = tmp_path / "emulator"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "emulator 1.0" && echo more\n')
    fake.chmod(0o755)
    assert version_of(["env", str(fake), "-q", "/bin/true", "-t", "1000"]) == "emulator 1.0"
    fake.write_text("#!/bin/sh\nexit 1\n")
    assert version_of([str(fake), "/bin/true"]) == ""
    assert version_of(["no-such-program"]) == ""


def test_moves_are_those_of_linux(
    emulator: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.case").write_text(TOUCHED + MOVE)
    on = f"via:{shlex.join([*emulator, '{agent}'])}"
    assert main(["check", str(tmp_path / "x.case"), "--on", on]) == FINE
    assert "1 of 1 programs: " in capsys.readouterr().out
    with beside_model(on=on) as pair:
        version = next(pair.told())
        assert re.match(r"it is \S+.*\d+\.\d+", version), version
        assert pair.unknown


def test_a_kernel_seen_as_coarsely_is_its_model(tmp_path: Path) -> None:
    """No difference that is told of an emulator comes of how it is looked at."""
    try:
        beside_model().close()
    except SubjectError as error:
        pytest.skip(str(error))
    options = CheckOptions(tmp_path, cases=120, seed=1, on=f"via:{build()} -e", sources=SOURCES)
    assert check(options) == FINE
