"""Has a kernel that defect?  Asked by running what shows it, on any subject.

A defect can be seen if the model with it and the model without it part on a program, in something
that the subject tells.  The program is the defect's own case, another one of the project's, or one
near its own: a minimal case has often lost what would be seen, or needs what the subject has not.
What the subject shows there is what the one model says, or what the other does.
"""

import enum
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from typing import NamedTuple

from engine.base.kernel import Kernel
from fuzz.calls.registry import that_do
from fuzz.calls.syscall import Does
from fuzz.case import Case
from fuzz.defects.defect import Defect
from fuzz.harm.near import Near
from fuzz.minimize.ranges import is_writable, to_calls, to_search_form
from fuzz.subjects.difference import BY_CALL, Kind, difference, differing, told
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Observation, Subject

NEAR = 300  # programs near a case that are tried
_MOVING = that_do(Does.MOVES)


class Verdict(enum.StrEnum):
    """What there is to say of a defect on a subject."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    ODD = "something else"  # the subject does what neither model does
    UNSEEN = "can't be seen"


class Symptom(NamedTuple):
    """A program by which a defect can be seen, and what the model shows `bad` with it, and without.

    `fields` are those that tell.
    """

    case: Case
    bad: Observation
    good: Observation
    fields: tuple[str, ...]

    @property
    def kind(self) -> Kind:
        """Where the two part first."""
        found = difference(self.case, self.bad, self.good)
        assert found is not None, "it would not be a symptom"
        return found.kind

    def verdict(self, seen: Observation) -> Verdict:
        """What it says of a subject that shows that."""
        if self._agree(seen, self.bad):
            return Verdict.SHOWN
        return Verdict.NOT_SHOWN if self._agree(seen, self.good) else Verdict.ODD

    def _agree(self, seen: Observation, model: Observation) -> bool:
        """Does a subject do what a model does, where that tells?"""
        if "crash" in seen or "crash" in model:
            return "crash" in seen and "crash" in model
        for name in self.fields:
            if name not in BY_CALL:
                if seen.get(name) != model.get(name):
                    return False
                continue
            both = zip(self.bad[name], self.good[name], strict=True)
            telling = [index for index, (bad, good) in enumerate(both) if bad != good]
            if any(seen[name][index] != model[name][index] for index in telling):
                return False
        return True


class Answer(NamedTuple):
    """What a subject says of a defect: `note` how it shows, or why it cannot be seen.

    `due` says whether the model of the subject's kernel has it.
    """

    defect: Defect
    verdict: Verdict
    note: str
    due: bool
    symptom: Symptom | None = None
    seen: Observation | None = None

    @property
    def agrees(self) -> bool:
        """Is it as the model says, as far as can be seen?"""
        expected = {Verdict.SHOWN: True, Verdict.NOT_SHOWN: False, Verdict.UNSEEN: self.due}
        return expected.get(self.verdict) is self.due

    def told(self, name: str) -> str:
        """The program and what it showed on the subject of that name, beside the model without."""
        if self.symptom is None or self.seen is None:
            return ""
        return told(self.symptom.case, self.seen, self.symptom.good, name, "without it")


def ask(
    defect: Defect, case: Case, others: Sequence[Case], subject: Subject, kernel: Kernel
) -> Answer:
    """Ask a subject whether it has a defect.

    Arguments: `case` shows it somewhere, and `others` perhaps; `kernel` is the model of the
    subject's.
    Errors raised: SubjectError.
    """
    due = defect.change is None and bool(defect.bad) and defect.present(kernel)
    symptom = symptom_of(defect, case, others, subject, kernel)
    if isinstance(symptom, str):
        return Answer(defect, Verdict.UNSEEN, symptom, due)
    seen = subject.observe(symptom.case)
    verdict = symptom.verdict(seen)
    note = str(symptom.kind)
    if verdict is Verdict.ODD:
        found = difference(symptom.case, seen, symptom.good)
        note = f"{found.kind} is what neither model says" if found else note
    return Answer(defect, verdict, note, due, symptom, seen)


def symptom_of(
    defect: Defect, case: Case, others: Sequence[Case], subject: Subject, kernel: Kernel
) -> Symptom | str:
    """A program by which the defect can be seen on a subject; if there is none, why.

    Arguments: see `ask`.
    """
    twins = _Twins(defect, kernel, subject)
    able = subject.able
    programs = [one.program() for one in (case, *others) if _fits(one, subject)]
    near = _near(case.program(), twins) if _fits(case, subject) else ()
    runnable = (one for one in chain(programs, near) if not able.left_out(one))
    found = next(filter(None, map(twins.symptom, runnable)), None)
    if found is not None:
        return found
    if not _fits(case, subject):
        return f"its case is for {case.geometry or 'x86-64'}"
    if missing := able.left_out(case.program()):
        return f"needs {', '.join(missing)}"
    return f"a program sees no difference: {defect.broken.statement}"


class _Twins:
    """The model of a kernel with a defect, and without it."""

    def __init__(self, defect: Defect, kernel: Kernel, subject: Subject) -> None:
        self.defect = defect
        self.fields = subject.fields
        self._subject = subject
        self.with_it = kernel.having(defect.bad)
        self.without = defect.repaired_on(kernel)

    def bad(self, case: Case) -> Observation | None:
        """What a case shows with it; None: nobody can tell."""
        with self.defect.installed() if self.defect.change else nullcontext():
            return self._shown(self.with_it, case)

    def _shown(self, kernel: Kernel, case: Case) -> Observation | None:
        model = Model.beside(self._subject, kernel)
        shown = model.observe(case)
        return None if model.reached else shown

    def symptom(self, case: Case) -> Symptom | None:
        """The case, if the two part on it in something that the subject tells."""
        bad, good = self.bad(case), self._shown(self.without, case)
        if bad is None or good is None or "crash" in good:
            return None
        if "crash" in bad:
            return Symptom(case, bad, good, ())
        fields = tuple(name for name in differing(bad, good) if name in self.fields)
        return Symptom(case, bad, good, fields) if fields else None


def _fits(case: Case, subject: Subject) -> bool:
    """Can the case be run on the subject's page tables, so that it shows the same?"""
    return case.geometry in (None, subject.geometry.name) and (
        case.geometry is not None or subject.geometry.slot_bytes == 512 * 4096
    )


def _near(case: Case, twins: _Twins) -> Iterator[Case]:
    """Programs near a case, around each of the calls that move, the last first."""
    results = (twins.bad(case) or {}).get("ret", ())
    program = to_search_form(case.calls)
    for at in reversed(range(len(results))):
        if program[at].name in _MOVING:
            near = Near(program, at, results[at], twins.with_it.geometry)
            for one in islice(near.programs(), NEAR):
                if is_writable(one):
                    yield Case(to_calls(one))
