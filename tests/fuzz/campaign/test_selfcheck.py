"""The check that nothing is told where nothing is wrong: its programs, and what it tells."""

import os
import re
from itertools import islice

import pytest

from engine.base.geometry import GEOMETRIES
from fuzz.calls.registry import takes_long
from fuzz.campaign import selfcheck as module
from fuzz.campaign.selfcheck import SelfcheckOptions, programs, selfcheck
from fuzz.case import Case
from fuzz.cli.main import main
from fuzz.defects.catalogue import exhibit_named
from fuzz.lib.exits import FINE, OUR_DEFECT, SURPRISES
from tests.lib.command import Output

X86 = GEOMETRIES["x86-64"]


def options(cases: int, *kernels: str, geometry: str = "x86-64") -> SelfcheckOptions:
    return SelfcheckOptions(kernels, (geometry,), cases)


def test_equal_seeds_make_equal_programs() -> None:
    sources = module._sources(X86)

    def some(seed: str) -> list[Case]:
        return list(islice(programs(X86, seed, sources), 300))

    made = some("1")
    assert made == some("1") != some("2")
    names = {call.name for case in made for call in case.calls}
    assert names >= {"mremap", "execve_stack", "touch_on", "fork", "uffd_wp", "@fail", "@limit"}
    assert not any(takes_long(case, X86.page_bytes) for case in made)


def test_a_bug_is_told_once_as_its_minimal_program(capsys: Output) -> None:
    with exhibit_named("B-56-positive-errno").installed():
        assert selfcheck(options(150, "linux-6.12", "linux-6.1")) == SURPRISES
    out = capsys.readouterr().out
    assert out.count("\nALARM fixed-address--mremap on linux-6.") == 1
    assert "@kernel linux-6." in out
    assert re.search(r"\n  call \d: fixed-address( at \[0x\w{1,9}, .*)?\n    found     ", out)
    assert " fixed-address--mremap  linux-6.12 on x86-64\n" in out


def test_a_batch_that_dies_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(module, "runs_of", lambda *_: os._exit(9))
    assert selfcheck(options(1, "linux-6.12")) == OUR_DEFECT
    assert "status 9" in capsys.readouterr().out


def test_kernels_and_geometries_that_do_not_exist_are_refused(capsys: Output) -> None:
    assert main(["selfcheck", "--kernel", "linux-2.4"]) == 2
    assert main(["selfcheck", "--geometry", "vax"]) == 2
    assert "unknown geometry 'vax'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_nothing_is_told_where_nothing_is_wrong(geometry: str, capsys: Output) -> None:
    status = main(["selfcheck", "--cases", "40", "--geometry", geometry])
    assert status == FINE, capsys.readouterr().out
