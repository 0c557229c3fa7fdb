"""Subjects side by side do what one does, in the same order."""

from itertools import count, islice

import pytest

from engine.base.kernel import kernel_named
from fuzz.case import Call, Case
from fuzz.subjects.model import Model
from fuzz.subjects.named import subject_named
from fuzz.subjects.several import Several
from fuzz.subjects.subject import SubjectError

PROGRAMS = [Case((Call("touch", (0, 0x1000 * pages)),)) for pages in range(1, 12)]


def model() -> Model:
    return Model(kernel_named("linux-6.18"))


@pytest.mark.parametrize("jobs", [1, 2, 5, 20])
def test_cases_are_dealt_out_and_come_back_in_order(jobs: int) -> None:
    with Several(model, jobs) as several, model() as alone:
        found = list(several.run(PROGRAMS))
        assert [one["ret"] for one in found] == [one["ret"] for one in alone.run(PROGRAMS)]
        assert several.geometry == alone.geometry
        assert several.observe(PROGRAMS[3])["ret"] == [{"segv": [[0, 4]]}]


def test_no_more_cases_are_taken_than_are_wanted() -> None:
    taken = count()
    endless = (PROGRAMS[0] for _ in taken)
    with Several(model, 3) as several:
        run = several.run(endless)
        assert len(list(islice(run, 7))) == 7
        run.close()  # type: ignore[attr-defined]
    assert next(taken) < 20


def test_those_that_started_are_closed_if_one_does_not() -> None:
    started: list[Model] = []
    closed: list[Model] = []

    class Fails(Model):
        def close(self) -> None:
            closed.append(self)

    def start() -> Model:
        if len(started) == 2:
            raise SubjectError("no memory")
        started.append(Fails(kernel_named("linux-6.18")))
        return started[-1]

    with pytest.raises(SubjectError, match="no memory"):
        Several(start, 3)
    assert closed == started


def test_by_name() -> None:
    with subject_named("model:linux-6.18", jobs=3) as several:
        assert isinstance(several, Several)
        assert len(several.subjects) == 3
