"""What the user has named: cases, kernels and geometries."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.base.geometry import geometry_named
from engine.base.kernel import kernel_named
from fuzz.case import MAX_CASE_BYTES, Case, CaseError
from fuzz.cli.options import UsageError
from fuzz.forms.text import load, parse_bytes


def case_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that are named; of a folder, its cases.  Errors raised: UsageError."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(path.rglob("*.case"))
        if not found:
            raise UsageError(f"{path}: no case in this folder")
        yield from found


def loaded(path: Path, geometry: str | None = None) -> Case:
    """Read a case, from standard input if it is called "-"; on another geometry if one is named.

    Errors raised: CaseError, OSError, UnknownName.
    """
    if is_input(path):
        case = parse_bytes(sys.stdin.buffer.read(MAX_CASE_BYTES + 1), "standard input")
    else:
        case = load(path)
    if geometry is not None:
        case = replace(case, geometry=geometry_named(geometry).name)
    return case


def is_input(path: Path) -> bool:
    """Is it standard input that is meant?"""
    return str(path) == "-"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors about what a case asks for name its file, as errors of its syntax do."""
    try:
        yield
    except CaseError as error:
        if error.file:
            raise
        why, line, column, source = error.why, error.line, error.column, error.source
        raise CaseError(why, line, column, source, str(path)) from None


def check_names(kernels: Sequence[str], geometry: str | None) -> None:
    """Errors raised: UnknownName, before any file is looked at."""
    for kernel in kernels:
        kernel_named(kernel)
    if geometry is not None:
        geometry_named(geometry)
