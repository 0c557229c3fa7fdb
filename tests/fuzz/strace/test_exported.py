"""A case goes out as a program in C; what strace shows of that comes back as the case."""

import shutil
import subprocess
from pathlib import Path

import pytest

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.case import Call, Case
from fuzz.export.program import as_c
from fuzz.forms.text import format_call, load
from fuzz.showing import showing
from fuzz.strace.processes import Reader
from fuzz.strace.write import unshown
from tests.lib.constants import ROOT

ARENA = GEOMETRIES["x86-64"].arena
KERNEL = kernel_named("linux-6.18")
CASES = (
    "corpus/regressions/thread-middle-of-vma.case",
    "corpus/seeds/dontunmap.case",
    "corpus/seeds/grow-and-shrink.case",
    "corpus/seeds/move-unaligned.case",
    "corpus/seeds/neighbours.case",
    "corpus/seeds/protect-and-merge.case",
    "corpus/seeds/several-vmas.case",
    "corpus/seeds/shared-duplicate.case",
)
TRACE = ("strace", "-f", "-e", "trace=%memory,fork,clone,clone3")
needs_programs = pytest.mark.skipif(
    not (shutil.which("strace") and shutil.which("gcc")), reason="there is no strace, or no gcc"
)


def shown(case: Case) -> list[str]:
    """The calls that strace shows, with the results that the model gives, but for faults."""
    results = showing(case, KERNEL).results
    kept: list[Call] = []
    for one, result in zip(case.calls, results, strict=True):
        if not unshown(Case((one,))):
            kept.append(one._replace(result=result))
    return [format_call(one) for one in kept]


@needs_programs
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_case_that_comes_back_is_the_one_that_left(name: str, tmp_path: Path) -> None:
    case = load(ROOT / name)
    (tmp_path / "x.c").write_text(as_c(case, "x", KERNEL.name, "pmdfuzz export"))
    program, log = tmp_path / "x", tmp_path / "x.strace"
    subprocess.run(["gcc", "-o", program, tmp_path / "x.c"], check=True)
    traced = subprocess.run([*TRACE, "-o", log, program], capture_output=True, check=False)
    if b"PTRACE" in traced.stderr:
        pytest.skip(traced.stderr.decode())
    reader = Reader("x", "x", KERNEL, touching=False, within=(ARENA.start, ARENA.end))
    with log.open(encoding="utf-8", errors="backslashreplace") as lines:
        programs = list(reader.programs(lines))
    back = [one for program in programs for one in program.case.calls if one.name != "touch"]
    assert [format_call(one) for one in back] == shown(case)
