"""Has a kernel that defect?  Asked of models that have it, and of others."""

from typing import Any

import pytest

from engine.base.kernel import Kernel, kernel_named
from fuzz.case import Case
from fuzz.defects.catalogue import exhibit_named
from fuzz.defects.defect import Defect
from fuzz.defects.known import DEFECTS
from fuzz.forms.text import load
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Observation
from fuzz.subjects.symptoms import Answer, Verdict, ask
from tests.lib.constants import ROOT
from tests.lib.machine import LikeMachine

OLD, NEW = kernel_named("linux-6.18"), kernel_named("linux-7.3")
WRAPS = DEFECTS["B-69"]  # both have it
UNLOCKS = DEFECTS["dontunmap-unlocks"]  # mended in between


def case_of(defect: Defect) -> Case:
    """The case that shows a defect."""
    name = f"museum/{defect.file}" if defect.museum else f"{defect.case}.case"
    return load(ROOT / "corpus" / name)


def asked(defect: Defect, subject: Model, *others: Case, kernel: Kernel | None = None) -> Answer:
    """What a subject says of a defect."""
    return ask(defect, case_of(defect), others, subject, kernel or subject.kernel)


@pytest.mark.parametrize(
    ("defect", "kernel", "verdict", "due"),
    [
        (WRAPS, OLD, Verdict.SHOWN, True),
        (UNLOCKS, OLD, Verdict.SHOWN, True),
        (UNLOCKS, NEW, Verdict.NOT_SHOWN, False),
        (exhibit_named("B-12-own-head"), OLD, Verdict.NOT_SHOWN, False),
    ],
    ids=["open", "before", "mended", "past"],
)
def test_a_kernel_shows_what_it_has(
    defect: Defect, kernel: Kernel, verdict: Verdict, due: bool
) -> None:
    answer = asked(defect, Model(kernel))
    assert (answer.verdict, answer.due, answer.agrees) == (verdict, due, True)
    assert " after mremap(" in answer.note
    told = answer.told("here")
    assert "mremap(" in told
    assert ("without it" in told) is (verdict is Verdict.SHOWN)


class Changed(Model):
    """A kernel that has a bug of the museum."""

    bug = exhibit_named("B-12-own-head")

    def observe(self, case: Case, beside: Observation | None = None) -> Observation:
        """See `Model`."""
        with self.bug.installed():
            return super().observe(case, beside)


def test_a_kernel_that_has_a_bug_of_the_past_is_not_what_its_model_says() -> None:
    answer = asked(Changed.bug, Changed(OLD))
    assert (answer.verdict, answer.due, answer.agrees) == (Verdict.SHOWN, False, False)


class Odd(Model):
    """A kernel where everything that moves is an error."""

    def observe(self, case: Case, beside: Observation | None = None) -> Observation:
        """See `Model`."""
        seen: Any = super().observe(case, beside)
        seen["ret"] = ["-EIO" if call.name == "mremap" else 0 for call in case.calls]
        return {**seen, "vmas": [], "flags": []}


def test_what_neither_model_does_is_something_else() -> None:
    answer = asked(UNLOCKS, Odd(OLD))
    assert (answer.verdict, answer.agrees) == (Verdict.ODD, False)
    assert answer.note.endswith(" is what neither model says")


class Dying(Model):
    """A kernel that does not survive a move."""

    def observe(self, case: Case, beside: Observation | None = None) -> Observation:
        """See `Model`."""
        return {"crash": "killed by SIGSEGV"}


def test_a_death_is_something_else_unless_it_is_due() -> None:
    assert asked(UNLOCKS, Dying(OLD)).verdict is Verdict.ODD


def test_what_cannot_be_seen_says_why() -> None:
    unseen = Verdict.UNSEEN
    few = Model(OLD)
    few.able = few.able._replace(calls=few.able.calls - {"@fail"})
    for defect, subject, note in (
        (DEFECTS["B-63"], Model(OLD), "its case is for i386-pae"),
        (
            WRAPS,
            Model(OLD.on(kernel_named("linux-6.18", "arm64-16k-47").geometry)),
            "its case is for x86-64",
        ),
        (DEFECTS["uffd-rollback"], few, "needs @fail"),
        (exhibit_named("B-52-stale-vma"), Model(OLD), "a program sees no difference: a move works"),
    ):
        answer = asked(defect, subject)
        assert answer.verdict is unseen and answer.agrees
        assert answer.note.startswith(note)
        assert answer.told("here") == ""


def test_a_machine_shows_what_a_shortage_that_lasts_does() -> None:
    kernel, short = kernel_named("linux-6.18"), DEFECTS["rollback-short"]
    assert asked(short, LikeMachine(kernel)).verdict is Verdict.SHOWN
    assert asked(short, LikeMachine(kernel.having(short.repair)), kernel=kernel).verdict is (
        Verdict.NOT_SHOWN
    )


def test_what_its_own_case_cannot_show_another_may() -> None:
    stack, other = DEFECTS["B-01"], load(ROOT / "corpus/regressions/relocate-no-neighbour.case")
    few = Model(OLD)
    few.able = few.able._replace(calls=few.able.calls - {"execve_stack"})
    assert asked(stack, few).note == "needs execve_stack"
    assert asked(stack, few, other).verdict is Verdict.NOT_SHOWN


def test_what_a_subject_does_not_tell_cannot_be_seen() -> None:
    blind = Model(OLD)
    blind.fields = frozenset(("ret",))
    assert asked(DEFECTS["soft-dirty-merge"], blind).note.startswith(
        "a program sees no difference: "
    )


def test_a_model_of_another_kernel_may_disagree() -> None:
    answer = asked(UNLOCKS, Model(OLD), kernel=NEW)
    assert (answer.verdict, answer.due, answer.agrees) == (Verdict.SHOWN, False, False)
