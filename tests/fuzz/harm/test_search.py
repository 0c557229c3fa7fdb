"""What a finding without harm leads to, told by bugs that are planted."""

from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.defects.catalogue import exhibit_named
from fuzz.execute import Found
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import parse
from fuzz.harm.search import Due, Harm, due_to, is_harm, look_for_harm
from fuzz.showing import showing

EXHIBIT = exhibit_named("B-12-own-head")
# Realignment inside a VMA without a page: only the course is another one.
UNFAULTED = parse(
    "mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "mremap(0x3ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1ff000)\n"
)


def near_unfaulted(what: Due, **how: int) -> Harm | None:
    """The harm near UNFAULTED, with the bug in the engine."""
    with EXHIBIT.installed():
        shown = showing(UNFAULTED, EXHIBIT.kernel)
        assert shown.found is not None
        assert shown.found.bucket == Bucket("largest-bite", "mremap")
        return look_for_harm(shown, shown.found, what, **how)


def test_an_unknown_bug_that_only_takes_another_course_is_told_as_a_lost_page() -> None:
    harm = near_unfaulted(due_to("", EXHIBIT.kernel))
    assert harm is not None
    assert [call.name for call in harm.case.calls] == ["mmap", "touch", "mremap"]
    assert harm.case.comments == ("What largest-bite--mremap leads to.",)
    with EXHIBIT.installed():
        broken = {found.violation.rule for found in showing(harm.case, EXHIBIT.kernel).violations}
    assert {"largest-bite", "others-untouched", "oracle-contents"} <= broken
    assert showing(harm.case, EXHIBIT.kernel).found is None  # without the bug


def test_the_search_ends_with_its_budget() -> None:
    ran: list[Case] = []

    def never(case: Case) -> list[Found]:
        ran.append(case)
        return []

    assert near_unfaulted(never, budget=50) is None
    assert 40 <= len(ran) <= 50


def test_harm_that_comes_before_the_rule_of_the_finding_is_not_its_doing() -> None:
    def elsewhere(case: Case) -> list[Found]:
        found = [f for f in showing(case, EXHIBIT.kernel).violations if is_harm(f)]
        return [Found(0, one.violation) for one in found]

    assert near_unfaulted(elsewhere, budget=20) is None


def test_what_a_known_defect_breaks_is_not_due_to_what_is_unknown() -> None:
    kernel = kernel_named("linux-6.18")
    leak = parse(
        "mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "mremap(0x10000, 0x4000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000)\n"
    )
    assert [found.violation.rule for found in due_to("shrink-leak", kernel)(leak)] == ["committed"]
    assert due_to("", kernel)(leak) == []
    assert due_to("B-32", kernel)(leak) == []
