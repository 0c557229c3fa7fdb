"""What there is to look at of a case."""

from dataclasses import replace

from fuzz.report.views import views
from fuzz.showing import kernel_for
from tests.lib.workdirs import KNOWN, STACK, regression


def test_a_story_and_a_picture_that_begins_where_the_rule_breaks() -> None:
    found = views(STACK, kernel_for(STACK), KNOWN.name)
    assert "when dest-entry-none is broken" in found.story
    assert found.picture is not None
    assert "not empty" in found.picture.captions[found.picture.first]
    assert found.picture.film.count('data-step="') == len(found.picture.captions)
    assert "<style" not in found.picture.film + found.picture.sheet


def test_a_case_that_is_to_be_like_another_kernel() -> None:
    case = replace(STACK, kernel="linux-6.1", like="linux-6.12")
    found = views(case, kernel_for(case), "differs--execve_stack")
    assert "linux-6.12" in found.story


def test_a_program_in_c_or_why_there_is_none() -> None:
    assert "chance" in views(STACK, kernel_for(STACK), KNOWN.name).why_not
    case = regression("museum/b-12-old-head-only")
    found = views(case, kernel_for(case), "b-12")
    assert "int main(void)" in found.program
    assert not found.why_not
