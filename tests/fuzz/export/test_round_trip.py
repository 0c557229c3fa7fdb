"""A case that leaves as a program comes back from a log of strace: the same calls, and results."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.base.kernel import base_of
from fuzz.asserted import broken
from fuzz.calls.registry import DIRECTIVES, as_made
from fuzz.case import Call, Case
from fuzz.cli.main import main
from fuzz.export.program import KSELFTEST, PLAIN, Form, as_c
from fuzz.forms.assertions import format_assertion
from fuzz.forms.text import format_call, load
from fuzz.showing import kernel_for, showing
from fuzz.strace.exported import NOT_HERE
from fuzz.strace.processes import Reader
from fuzz.subjects.host import host_kernel
from fuzz.subjects.subject import SubjectError
from tests.lib.compilers import built, compiler
from tests.lib.constants import ROOT

REGRESSIONS = ROOT / "corpus/regressions"
SAMPLE = (  # each has something of its own that has to come back
    "advice-is-an-int",  # the upper half of a register
    "error-outside-the-arena",
    "events-in-their-order",  # a monitor in a process of its own, and several runs
    "file-refusals",
    "flags-that-say-little",  # fork
    "hugetlb-hole",
    "limit-asked-before-all",  # @limit map_count: ten thousands of calls set it up
    "locked-twice-beyond-the-limit",  # @limit memlock
    "marker-past-an-object",  # uffd_wp
    "mremap-at-the-limits",  # @limit as
    "place-below-a-stack",  # the kernel chooses an address
    "read-past-an-object",  # SIGBUS
    "uffd-rwp-pages",
    "wrapping-overlap",
)


def traced(source: str, folder: Path, *options: str) -> Path:
    """The log of an exported program; skips the test where nobody may trace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace")
    program, log = built(source, folder, compiler("cc"), "-I", "tests/lib"), folder / "case.strace"
    command = [strace, "-f", *options, "-o", str(log), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "PTRACE" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode in (0, 1, 2, 4), done.stdout + done.stderr
    return log


def imported(log: Path) -> list[Case]:
    """The cases in it; skips the test where the program says that it cannot run here."""
    reader = Reader("log", "log", host_kernel(), touching=True)
    with log.open(encoding="utf-8", errors="backslashreplace") as lines:
        cases = [program.case for program in reader.programs(lines)]
    if not cases and NOT_HERE in reader.imported.left_out:
        pytest.skip(reader.imported.left_out[NOT_HERE][1])
    return cases


def left(case: Case) -> list[str]:
    """The calls of a case with the results that they have here."""
    kernel = kernel_for(case, host_kernel().name)
    results = showing(case, kernel).results
    made = (as_made(call, kernel.geometry) for call in case.calls)
    return [
        format_call(call._replace(result=None if call.name in DIRECTIVES else result))
        for call, result in zip(made, results, strict=True)
    ]


def asserted(case: Case) -> list[str]:
    """What it asserts of the kernel here, and a program can see."""
    kernel = kernel_for(case, host_kernel().name)
    others = {one.assertion for one in broken(case, kernel)}
    return [
        format_assertion(one._replace(kernel=None))
        for one in case.assertions
        if one.kernel in (None, base_of(kernel.name)) and one not in others
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [*((name, PLAIN) for name in SAMPLE), ("wrapping-overlap", KSELFTEST)],
    ids=lambda value: value if isinstance(value, str) else value.part,
)
def test_the_case_that_comes_back_is_the_one_that_left(
    name: str, form: Form, tmp_path: Path
) -> None:
    try:
        kernel = host_kernel()
    except SubjectError as error:
        pytest.skip(str(error))
    case = load(REGRESSIONS / f"{name}.case")
    (tmp_path / "mm").mkdir()
    shutil.copy(ROOT / "tests/lib/kselftest.h", tmp_path)
    log = traced(as_c(case, name, kernel.name, "pmdfuzz export", form), tmp_path / "mm")
    (back,) = imported(log)
    geometry = kernel_for(case, kernel.name).geometry
    calls = [as_made(call, geometry)._replace(result=call.result) for call in back.calls]
    assert [*map(format_call, calls)] == left(case)
    assert [*map(format_assertion, back.assertions)] == asserted(case)


def test_the_head_says_how(tmp_path: Path) -> None:
    case = load(REGRESSIONS / "wrapping-overlap.case")
    source = as_c(case, "case", None, "pmdfuzz")
    advice = re.search(
        r"Trace: strace (-f -o LOG) \./case\n \* +pmdfuzz (import strace) LOG", source
    )
    assert advice
    log, out = traced(source, tmp_path), tmp_path / "out"
    assert main([*advice[2].split(), str(log), "-o", str(out)]) == 0
    (path,) = out.glob("*.case")
    assert system_calls(load(path).calls) == system_calls(case.calls)


def system_calls(calls: tuple[Call, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [(call.name, call.args) for call in calls]


def test_without_what_it_writes_it_is_any_program(tmp_path: Path) -> None:
    case = load(REGRESSIONS / "wrapping-overlap.case")
    log = traced(as_c(case, "case", None, "pmdfuzz"), tmp_path, "-e", "trace=%memory")
    cases = imported(log)
    assert any(call.name == "mremap" for case in cases for call in case.calls)
    assert any(call.name == "touch" and call.result is None for call in cases[0].calls)
