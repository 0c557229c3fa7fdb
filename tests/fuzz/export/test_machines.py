"""Exported programs say of real kernels in virtual machines what the models of these say.

A machine boots for each image in the folder that PMDFUZZ_IMAGES names.
"""

from pathlib import Path

import pytest

from fuzz.export.program import as_c
from fuzz.forms.text import load
from fuzz.showing import kernel_for, showing
from fuzz.subjects.protocol import version
from fuzz.vm.image import image_at
from tests.lib.booted import run_in_machine
from tests.lib.compilers import built, compiler
from tests.lib.constants import ROOT
from tests.lib.images import FOLDER, real_images

IMAGES = real_images()
NO_IMAGES = pytest.mark.skip(f"no kernel to boot: {FOLDER}=$(.ci/image)")
VERDICTS = {0: "does not show the defect", 1: "shows the defect"}
CASES = (
    "dontunmap-counts-locked-twice",
    "dontunmap-unlocks-the-rest",
    "hugetlb-part-moved",
    "shrinking-move-leaks-commit",
    "wrapping-overlap",
)


@pytest.mark.slow
@pytest.mark.parametrize("path", IMAGES or [pytest.param(None, marks=NO_IMAGES)], ids=str)
def test_programs_show_the_defects_that_a_kernel_has(path: Path, tmp_path: Path) -> None:
    image = image_at(path)
    if image.arch != "x86-64":
        pytest.skip(f"not a kernel for x86-64: {image.arch}")
    kernel = f"linux-{version(image.release, '')}"
    programs, expected = [], {}
    for name in CASES:
        case = load(ROOT / f"corpus/regressions/{name}.case")
        # It is made for a kernel that has the defect, whatever this one is.
        source = as_c(case, name, None, "pmdfuzz export")
        program = built(source, tmp_path, compiler("cc"), "-static", "-no-pie")
        programs.append(program.rename(tmp_path / name))
        shown = bool(showing(case, kernel_for(case, kernel)).findings)
        expected[name] = (int(shown), VERDICTS[shown])
    told = run_in_machine(image, programs)
    assert {name: (status, lines[-1]) for name, (status, lines) in told.items()} == expected, told
