"""What running a case tells a page."""

from dataclasses import replace

from fuzz.report.study import study
from tests.lib.workdirs import KNOWN, STACK, regression


def test_releases_that_show_the_same_are_one_group() -> None:
    told = study(STACK, KNOWN.name)
    assert [group.findings for group in told.groups] == [(KNOWN.name,), ()]
    assert told.groups[0].kernels[0] == "linux-5.0"
    assert told.groups[0].kernels[-1] == "linux-6.6"
    assert told.groups[1].kernels[-1] == "linux-7.3"
    assert told.shows_on(KNOWN.name) == told.groups[0].kernels


def test_what_breaks_and_at_which_call() -> None:
    told = study(STACK, KNOWN.name)
    assert [(line.breaks, line.text.partition("(")[0]) for line in told.program] == [
        (True, "execve_stack")
    ]
    (broken,) = told.breaks
    assert (broken.rule, broken.call, broken.defect) == ("dest-entry-none", 1, "B-01")
    assert "found     an emptied PTE table" in broken.told


def test_a_case_is_looked_at_where_it_shows_the_finding() -> None:
    assert study(replace(STACK, kernel="linux-7.3"), KNOWN.name).kernel == "linux-5.0"
    assert study(replace(STACK, kernel="linux-7.3"), "other--mremap").kernel == "linux-7.3"


def test_what_cannot_be_run_says_why() -> None:
    told = study(replace(STACK, kernel="linux-6.1+gone"), KNOWN.name)
    assert "gone" in told.trouble
    assert told.groups == ()


def test_a_case_of_another_geometry_runs_on_its_own_page_tables() -> None:
    case = regression("regressions/thread-joel-pae-report")
    assert study(case, "dest-entry-none--execve_stack--B-01").geometry == "i386-pae"
