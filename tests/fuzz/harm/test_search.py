"""What a finding without harm leads to, told by bugs that are planted."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from engine.base.kernel import Kernel
from fuzz.case import Case
from fuzz.defects.catalogue import exhibit_named
from fuzz.execute import Found
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import load, parse
from fuzz.harm.search import is_harm, look_for_harm
from fuzz.showing import Showing, showing
from tests.lib.constants import ROOT

EXHIBIT = exhibit_named("B-12-own-head")
# Realignment inside a VMA without a page: only the course is another one.
UNFAULTED = parse(
    "mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "mremap(0x3ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1ff000)\n"
)


FINDING = Bucket("largest-bite", "mremap")
KERNEL = EXHIBIT.kernel


@pytest.fixture
def bug() -> Iterator[None]:
    """The engine realigns inside a VMA."""
    with EXHIBIT.installed():
        yield


@pytest.mark.usefixtures("bug")
def test_a_bug_that_only_takes_another_course_is_told_as_a_lost_page() -> None:
    harm = look_for_harm(UNFAULTED, FINDING, KERNEL)
    assert harm is not None
    assert harm.bucket == Bucket("others-untouched", "mremap")
    assert [call.name for call in harm.case.calls] == ["mmap", "touch", "mremap"]
    assert harm.case.kernel == "linux-6.12"
    assert harm.case.comments == ("What largest-bite--mremap leads to.",)
    shown = showing(harm.case, KERNEL)
    broken = {found.violation.rule for found in shown.violations}
    assert {"largest-bite", "others-untouched", "oracle-contents"} <= broken
    assert shown.bucket == harm.bucket


def test_the_harm_of_a_bug_is_not_there_without_it() -> None:
    with EXHIBIT.installed():
        harm = look_for_harm(UNFAULTED, FINDING, KERNEL)
    assert harm is not None
    assert showing(harm.case, KERNEL).violations == ()


@pytest.mark.usefixtures("bug")
def test_the_search_ends_with_its_budget_and_is_the_same_each_time() -> None:
    def harmless(case: Case, kernel: Kernel) -> Showing:
        """Of that rule and no other."""
        ran[-1].append(case)
        shown = showing(UNFAULTED, kernel)
        return replace(shown, case=case)

    ran: list[list[Case]] = []
    for _ in range(2):
        ran.append([])
        assert look_for_harm(UNFAULTED, FINDING, KERNEL, shows=harmless, budget=50) is None
    assert ran[0] == ran[1]
    assert 40 <= len(ran[0]) <= 51


@pytest.mark.usefixtures("bug")
def test_harm_before_the_rule_of_the_finding_is_not_what_it_leads_to() -> None:
    def before(case: Case, kernel: Kernel) -> Showing:
        """As if all harm were done by the first call."""
        shown, findings = showing(case, kernel), []
        for one in shown.findings:
            moved = [Found(0, found.violation) if is_harm(found) else found for found in one.broken]
            harmful.extend(filter(is_harm, moved))
            findings.append(one._replace(broken=tuple(moved)))
        return replace(shown, findings=tuple(findings))

    harmful: list[Found] = []
    assert look_for_harm(UNFAULTED, FINDING, KERNEL, shows=before, budget=20) is None
    assert harmful


def test_a_case_without_the_finding_is_refused() -> None:
    with pytest.raises(ValueError, match="does not show largest-bite--mremap"):
        look_for_harm(UNFAULTED, FINDING, KERNEL)


def test_what_a_failure_hits_elsewhere_is_not_put_down_to_a_defect() -> None:
    """With B-35 a move asks for other things: the same failure leaves its source mapped."""
    exhibit = exhibit_named("B-35-self-merge")
    case = load(ROOT / "corpus" / "museum" / exhibit.file)
    finding = Bucket("dontunmap-two-vmas", "mremap", "B-35")
    assert look_for_harm(case, finding, exhibit.kernel, budget=200) is None
