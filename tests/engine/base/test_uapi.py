"""The numbers that programs and kernel agree on: they are those of this system's own headers."""

import errno
import mmap
import re
import sys
from pathlib import Path

import pytest

from engine.base import uapi

CONSTANTS = {name: value for name, value in vars(uapi).items() if name.isupper()}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="others have other numbers")
HEADERS = [
    Path("/usr/include") / name
    for name in (
        "asm-generic/mman-common.h",
        "asm-generic/mman.h",
        "linux/mman.h",
        "linux/userfaultfd.h",
    )
]


@LINUX
def test_constants_are_those_that_python_was_built_with() -> None:
    common = [name for name in CONSTANTS if hasattr(mmap, name)]
    assert len(common) > 20
    assert {name: CONSTANTS[name] for name in common} == {n: getattr(mmap, n) for n in common}


@LINUX
def test_constants_are_those_of_the_headers() -> None:
    define = re.compile(r"#define\s+(\w+)\s+(?:\(\(__u64\))?\(?(0x\w+|\d+)(?:<<(\d+))?\)?(?=\s)")
    there = {
        name: int(number, 0) << int(shift or 0)
        for header in HEADERS
        if header.exists()
        for name, number, shift in define.findall(header.read_text())
    }
    if not there:
        pytest.skip("no headers of the kernel are installed")
    common = CONSTANTS.keys() & there.keys()
    assert len(common) > 50
    assert {name: CONSTANTS[name] for name in common} == {name: there[name] for name in common}


def test_errors_are_known_to_the_system() -> None:
    assert all(hasattr(errno, error.name) and error.value == error.name for error in uapi.Errno)
    assert str(uapi.Errno.EINVAL) == "-EINVAL"


def test_values_are_by_name() -> None:
    assert uapi.values("MAP_FIXED", "MAP_SHARED") == {"MAP_FIXED": 0x10, "MAP_SHARED": 1}
    with pytest.raises(KeyError):
        uapi.values("MAP_NONSENSE")
