"""All programs of a layout on all kernels, with every failure."""

import pytest

from engine.base.failures import PAGETABLE
from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.calls.directives import FAILURES
from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.defects.catalogue import exhibit_named
from fuzz.execute import execute
from fuzz.exhaust.programs import Bound, Layout, layouts, programs, size
from fuzz.exhaust.trial import Task, digest, tried

TINY = GEOMETRIES["tiny"]
TWO = Bound(TINY, 2, 2)


def layout_of(pages: int, kind: str, bound: Bound = TWO) -> Layout:
    return next(
        one
        for one in layouts(bound)
        if one.pages == pages and one.mappings and one.mappings[0].kind == kind
    )


def test_each_allocation_fails_once() -> None:
    """As many programs as there are attempts, counted here by trying one after the other."""
    layout = layout_of(2, "private")
    kernel = kernel_named("linux-6.18", "tiny")
    expected = 0
    for case in programs(TWO, layout):
        expected += 1
        for kind in FAILURES.values():
            nth = 1
            while True:
                calls = list(case.calls)
                calls.insert(len(calls) - 1, call("@fail", kind, nth))
                outcome = execute(Case(tuple(calls)), kernel, stop=False, check=False)
                if outcome.space.failures.left():
                    break  # nobody has asked so often
                expected += 1
                nth += 1
    found = tried(Task(layout, 0, 1, size(TWO, layout)), TWO, ("linux-6.18",))
    assert found.programs == found.runs == expected
    assert found.programs > size(TWO, layout)
    assert PAGETABLE in FAILURES


def test_kernels_that_do_the_same_are_run_once() -> None:
    task = Task(layout_of(2, "private"), 0, 1, 0)
    one = tried(task, TWO, ("linux-7.3",))
    two = tried(task, TWO, ("linux-7.3", "linux-7.2.13"))
    assert two.runs < 2 * one.runs
    assert two.states >= one.states


def test_what_known_defects_break_is_told_apart() -> None:
    """B-35 merges a mapping with the one that it left behind; linux-6.18 has it, 7.3 has not."""
    found = tried(Task(layout_of(2, "private"), 0, 1, 0), TWO, ("linux-6.18", "linux-7.3"))
    defects = {(kernel, bucket.defect) for kernel, bucket in found.broken}
    assert ("linux-6.18", "B-35") in defects
    assert ("linux-7.3", "B-35") not in defects
    assert all(bucket.defect for _, bucket in found.broken)


@pytest.mark.slow
def test_a_planted_bug_is_found() -> None:
    """Moves drag along what lies below them in their slot."""
    bound, bug = Bound(TINY, 2, 5), exhibit_named("B-12-own-head")
    layout = layout_of(5, "private", bound)
    task = Task(layout, 31, 32, 0)  # all pages touched
    with bug.installed():
        found = tried(task, bound, ("linux-6.12",))
    assert any(bucket.rule == "others-untouched" for _, bucket in found.broken)
    without = tried(task, bound, ("linux-6.12",))
    assert all(bucket.defect for _, bucket in without.broken)


def test_a_digest_is_that_of_the_state() -> None:
    kernel = kernel_named("linux-6.18", "tiny")
    page = (call("mmap", 0, 0x1000, 3, 0x32, -1, 0),)
    digests = [
        digest(execute(Case(calls), kernel, stop=False))
        for calls in (page, page, (*page, call("touch", 0, 0x1000)))
    ]
    assert digests[0] == digests[1] != digests[2]
