"""The agent is compiled by one command, for every architecture that it knows."""

import json
import os
import subprocess

import pytest

from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED
from fuzz.subjects.program import AGENT, ARCHES, build, native, program_path
from fuzz.subjects.subject import SubjectError


@pytest.mark.parametrize("arch", ARCHES)
def test_every_architecture_is_built_without_a_warning(arch: str) -> None:
    try:
        program = build(arch)
    except SubjectError as error:
        pytest.skip(str(error))
    header = program.read_bytes()[:20]
    machine = {"x86-64": 62, "arm64": 183, "i386": 3}[arch]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == machine
    assert program == program_path(AGENT, arch)


def test_assembler_is_in_no_file() -> None:
    files = sorted(AGENT.glob("*.[ch]"))
    assert files
    assert [path.name for path in files if "asm" in path.read_text()] == []


def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    other = next(arch for arch in ARCHES if arch != native())
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    with pytest.raises(SubjectError, match=f"for {other} found .*; install gcc-"):
        build(other)


def test_a_program_of_32_bits_finds_its_numbers_at_run_time() -> None:
    """The kernel below us may run it, with another user space than its own."""
    try:
        program = build("i386")
        done = subprocess.run([program], input="", capture_output=True, text=True, check=True)
    except (SubjectError, OSError) as error:
        pytest.skip(str(error))
    hello, bye = map(json.loads, done.stdout.splitlines())
    assert hello["arch"] == "i386"
    assert hello["arena"] == [0, 1 << 31]
    assert 3 << 30 <= hello["user_top"] < 1 << 32
    assert bye == {"bye": 0}


def test_an_exec_leaves_its_stack_where_that_is_asked_for() -> None:
    """How far it is moved else is chance: that takes some thousand execs."""
    try:
        program = build("i386")
        hello = subprocess.run([program], input="", capture_output=True, text=True, check=True)
    except (SubjectError, OSError) as error:
        pytest.skip(str(error))
    top = json.loads(hello.stdout.splitlines()[0])["user_top"]
    asked = f"1\texecve_stack {top - (33 << 12):x} {top:x} 0\n2\texecve_stack {top:x} {top:x} 0\n"
    done = subprocess.run([program], input=asked, capture_output=True, text=True, check=True)
    _, still, refused, _ = map(json.loads, done.stdout.splitlines())
    assert (still["ret"], still["execs"], still["warn"]) == ([0], 1, False)
    assert refused["ret"] == ["-EINVAL"]


@pytest.mark.parametrize("kind", [MAP_PRIVATE, MAP_SHARED])
def test_few_pages_of_a_large_mapping_are_found_without_a_scan(kind: int) -> None:
    """To read what pagemap says of all of it takes longer than a case may."""
    if os.geteuid():
        pytest.skip("without PAGEMAP_SCAN root is needed")
    arena, size, far = 1 << 44, 1 << 39, 0x1234567000
    flags = kind | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE
    calls = (
        f"mmap {arena:x} {size:x} 3 {flags:x} {(1 << 64) - 1:x} 0",
        f"peek {arena + far:x} 1000",
        f"touch {arena + 2 * far:x} 2000",
        f"touch {arena + size - 0x1000:x} 1000",
    )
    seen = []
    for options in ([], ["-S"]):
        try:
            done = subprocess.run(
                [build(native()), *options],
                input=f"x\t{';'.join(calls)}\n",
                capture_output=True,
                text=True,
                check=True,
            )
        except (SubjectError, subprocess.CalledProcessError) as error:
            pytest.skip(str(error))
        observed = json.loads(done.stdout.splitlines()[1])
        del observed["us"]
        seen.append(observed)
    assert seen[0] == seen[1]
    assert seen[0]["pages"][-2:] == [
        [2 * far >> 12, 2, "P" if kind == MAP_PRIVATE else "S", 1],
        [(size >> 12) - 1, 1, "P" if kind == MAP_PRIVATE else "S", 3],
    ]
