"""The regressions as programs: all can be written, and some of them are built and run here."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from fuzz.export.program import KSELFTEST, ExportError, as_c
from fuzz.forms.text import load
from fuzz.showing import kernel_for, showing
from fuzz.subjects.host import host_kernel
from fuzz.subjects.subject import SubjectError
from tests.lib.compilers import built, compiler
from tests.lib.constants import ROOT

REGRESSIONS = ROOT / "corpus/regressions"
# Together they need every helper that there is.
OF_ALL_KINDS = (
    "child-maps-what-is-watched",
    "events-in-their-order",
    "exec-only-read",
    "hugetlb-part-moved",
    "mremap-at-the-limits",
    "place-below-a-stack",
    "read-past-an-object",
    "soft-dirty-lost-by-merge",
    "splits-up-to-the-limit",
    "stack-growth-leaks-commit",
    "swapped-in-whole",
    "uffd-rwp-pages",
    "uffd-wp-lost-by-rollback",
)
SAMPLE = ("hugetlb-hole", "limit-asked-before-all", "odd-by-a-byte", "wrapping-overlap")
CROSS = ("--sysroot=/usr/{0}", "-isystem", "/usr/{0}/include", "--target={0}")
COMPILERS = (
    ("gcc",),
    ("clang",),
    *((f"{target}-gcc",) for target in ("i686-linux-gnu", "aarch64-linux-gnu")),
    *(
        ("clang", *(word.format(target) for word in CROSS))
        for target in ("i686-linux-gnu", "aarch64-linux-gnu")
    ),
)


def exported(name: str, kernel: str | None = None) -> str:
    return as_c(load(REGRESSIONS / f"{name}.case"), name, kernel, "pmdfuzz export")


@pytest.mark.slow
def test_each_regression_is_written_or_it_is_said_why_not() -> None:
    written = 0
    for path in sorted(REGRESSIONS.glob("*.case")):
        try:
            written += bool(exported(path.stem))
        except ExportError as error:
            assert str(error).startswith("no program can do that: ")
    assert written > 180


@pytest.mark.slow
@pytest.mark.parametrize("command", COMPILERS, ids=" ".join)
def test_no_compiler_has_anything_to_warn_of(command: tuple[str, ...], tmp_path: Path) -> None:
    program, *flags = command
    if flags and not Path(flags[0].partition("=")[2]).is_dir():
        pytest.skip(f"no libc for {flags[-1].partition('=')[2]}")
    for name in OF_ALL_KINDS:
        built(exported(name), tmp_path, compiler(program), *flags, "-c")


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="programs for Linux")
@pytest.mark.parametrize("name", SAMPLE)
def test_a_program_says_of_this_machine_what_its_model_says(name: str, tmp_path: Path) -> None:
    try:
        kernel = host_kernel()
    except SubjectError as error:
        pytest.skip(str(error))
    program = built(exported(name, kernel.name), tmp_path, compiler("cc"))
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    case = load(REGRESSIONS / f"{name}.case")
    if done.returncode == 4:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == bool(showing(case, kernel_for(case, kernel.name)).findings), (
        done.stdout
    )


@pytest.mark.parametrize("name", ["wrapping-overlap", "odd-by-a-byte"])
def test_a_kselftest_is_tap(name: str, tmp_path: Path) -> None:
    """Built in a tree of which the one header is there that it needs."""
    cc, mm = compiler("cc"), tmp_path / "mm"
    mm.mkdir()
    shutil.copy(ROOT / "tests/lib/kselftest.h", tmp_path)
    source = as_c(load(REGRESSIONS / f"{name}.case"), name, None, "pmdfuzz export", KSELFTEST)
    done = subprocess.run([built(source, mm, cc)], capture_output=True, text=True, check=False)
    header, *rest = done.stdout.splitlines()
    assert header == "TAP version 13"
    plan, *results = [line for line in rest if not line.startswith("#")]
    if done.returncode == 4:
        assert plan.startswith("1..0 # SKIP ")
        return
    assert plan == f"1..{len(results)}"
    assert sum(" = " in line for line in rest) == len(results), "what came of each is told"
    failed = [line for line in results if line.startswith("not ok ")]
    assert done.returncode == bool(failed)
    assert len(failed) == (name == "wrapping-overlap")
