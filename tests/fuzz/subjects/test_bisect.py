"""Which switches make the difference between two kernels."""

import pytest

from engine.base.kernel import base_of
from fuzz.case import Case, CaseError
from fuzz.forms.text import load, parse
from fuzz.showing import kernel_for, showing
from fuzz.subjects.bisect import cause_beside, cause_of_finding
from fuzz.subjects.pair import Pair
from tests.lib.command import RULE, STACK
from tests.lib.constants import ROOT

NEW_OLD = "linux-6.18", "linux-6.1"


def case(name: str) -> Case:
    return load(ROOT / "corpus" / f"{name}.case")


@pytest.mark.parametrize(
    ("name", "kernel", "other", "switches"),
    [
        ("regressions/thread-c-overlapping", "linux-6.1", "linux-6.7", ("realign_stack",)),
        ("museum/b-37-rollback-leaks", "linux-6.18", "linux-7.3", ("uncharge_on_rollback",)),
        ("museum/b-43-unlinked", "linux-6.18.7", "linux-6.18.8", ("merge_links_source",)),
        (
            "museum/b-69-overlap-wraps",
            "linux-6.18",
            "linux-6.18+wrap_safe_overlap",
            ("wrap_safe_overlap",),
        ),
        (
            "regressions/thread-c-overlapping",
            "linux-6.18-realign_stack-may_retry",
            "linux-6.18",
            ("realign_stack",),
        ),
    ],
)
def test_beside_the_nearest_kernel(
    name: str, kernel: str, other: str, switches: tuple[str, ...]
) -> None:
    program = case(name)
    cause = cause_of_finding(program, kernel_for(program, kernel))
    assert cause is not None
    assert (cause.kernel.name, cause.other.name, cause.switches) == (kernel, other, switches)
    rule = showing(program, cause.kernel).rule
    assert rule in {v.rule for _, v in showing(program, cause.nearest).violations}
    assert rule not in {v.rule for _, v in showing(program, cause.other).violations}


@pytest.mark.parametrize(
    ("name", "kernel", "like", "switches"),
    [
        ("seeds/dontunmap", "linux-6.1", "linux-6.18", ("realign",)),
        ("museum/b-22-length", *NEW_OLD, ("check_before_unmap", "multi_vma_move")),
        ("museum/b-32-pgoff-kept", "linux-7.3", "linux-6.18", ("dontunmap_resets_pgoff",)),
    ],
)
def test_between_two_kernels(name: str, kernel: str, like: str, switches: tuple[str, ...]) -> None:
    program = case(name)
    cause = cause_beside(program, kernel_for(program, kernel), kernel_for(program, like))
    assert cause.switches == switches
    assert base_of(cause.nearest.name) == like
    assert cause.among > len(switches)
    wanted = Pair(cause.kernel, cause.other).parting(program)
    found = Pair(cause.nearest, cause.other).parting(program)
    assert wanted is not None and found is not None
    assert (found.kind, found.call) == (wanted.kind, wanted.call)


def test_what_there_is_nothing_to_look_for_in_is_refused() -> None:
    program = parse("munmap(0x1000, 0)")
    new, old = (kernel_for(program, name) for name in ("linux-6.18", "linux-6.1"))
    with pytest.raises(CaseError, match=r"linux-6\.18 does what linux-6\.1 does"):
        cause_beside(program, new, old)
    with pytest.raises(CaseError, match="has every switch as linux"):
        cause_beside(program, new, new)
    with pytest.raises(CaseError, match=r"no rule is broken on .*: name a kernel"):
        cause_of_finding(program, new)


def test_what_every_kernel_shows_has_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    program = parse(STACK)
    kernel = kernel_for(program, "linux-6.1")
    assert showing(program, kernel).rule == RULE
    monkeypatch.setattr("fuzz.subjects.bisect._near", lambda kernel: [kernel])
    assert cause_of_finding(program, kernel) is None
