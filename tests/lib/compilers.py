"""Compilers of C that may be here, and programs built by them."""

import shutil
import subprocess
from pathlib import Path

import pytest

STRICT = ("-O2", "-Wall", "-Wextra", "-Werror")


def compiler(name: str) -> str:
    """The path of a compiler; skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}")
    return path


def built(source: str, folder: Path, *command: str) -> Path:
    """A program in C, built by a compiler that is called so; no warning is let pass.

    Errors raised: AssertionError with what the compiler says.
    """
    file, program = folder / "case.c", folder / "case"
    file.write_text(source)
    done = subprocess.run(
        [*command, *STRICT, "-o", str(program), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program
