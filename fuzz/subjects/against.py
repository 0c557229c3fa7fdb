"""A subject beside a model: where they part, and the smallest program that shows it."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self

from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.minimize.search import minimize
from fuzz.subjects.difference import Difference, Kind, asserting, difference, told
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Observation, Subject

MINIMIZE_SECONDS = 120.0
RULE = "machine-differs"  # of findings; no rule of the model, but the one above all of them


class Divergence(NamedTuple):
    """A program on which subject and model part, what they did, and where they part first."""

    case: Case
    observed: Observation
    modelled: Observation
    difference: Difference
    names: tuple[str, str] = ("machine", "model")  # what the two are called

    @property
    def kind(self) -> Kind:
        """Its class."""
        return self.difference.kind

    @property
    def bucket(self) -> Bucket:
        """The finding that it is."""
        return Bucket(RULE, self.kind.call)

    def told(self) -> str:
        """The program and both results, in lines."""
        return told(self.case, self.observed, self.modelled, *self.names)


class Against:
    """A subject, usually a machine, and the model of its kernel; a context manager.

    `subject` is what the `model` has to agree with.
    """

    def __init__(self, model: Model, subject: Subject) -> None:
        self.model = model
        self.subject = subject

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the subject."""
        self.subject.close()

    def both(self, case: Case) -> tuple[Observation, Observation]:
        """What the subject and the model show.  Errors raised: SubjectError."""
        return (
            self.seen(case, self.subject.observe(case)),
            self.seen(case, self.model.observe(case)),
        )

    def runnable(self, case: Case) -> Case:
        """What is run of a program; nothing of one that is about what the subject has not."""
        return self.subject.able.runnable(case)

    def seen(self, case: Case, observed: Observation) -> Observation:
        """What of an observation, the subject's or the model's, is compared."""
        del case
        return observed

    def judge(self, case: Case, observed: Observation) -> Divergence | None:
        """How the model parts from what the subject showed of a runnable case, if it does."""
        observed = self.seen(case, observed)
        found = self.seen(case, self.model.observe(case))
        differs = difference(case, observed, found)
        return Divergence(case, observed, found, differs) if differs else None

    def divergence(self, case: Case) -> Divergence | None:
        """How subject and model part on a case, as far as it is runnable.

        Errors raised: SubjectError.
        """
        case = self.runnable(case.program())
        return self.judge(case, self.subject.observe(case)) if case.calls else None

    def earliest(self, divergence: Divergence) -> Divergence:
        """The divergence at the call that makes it.

        Results and page tables are known after each call.  What is observed at the end only may
        have come about earlier: the shortest beginning of the program that shows any difference
        tells where.
        Errors raised: SubjectError.
        """
        for length in range(1, divergence.difference.call + 1):
            if found := self.divergence(divergence.case.with_calls(divergence.case.calls[:length])):
                return found
        calls = divergence.case.calls[: divergence.difference.call + 1]
        return self.divergence(divergence.case.with_calls(calls)) or divergence

    def minimized(
        self, divergence: Divergence, budget: int, tick: Callable[[], None] = lambda: None
    ) -> Divergence | None:
        """The simplest program found that shows a divergence of the same kind.

        `tick` is called before every run; what it raises ends the search.  So do MINIMIZE_SECONDS,
        after which the simplest so far counts: a program that hangs costs its time limit each time.
        Returns: None if the divergence does not happen again.
        Errors raised: SubjectError.
        """

        def same(candidate: Case) -> bool:
            tick()
            found = self.divergence(candidate)
            return found is not None and found.kind == divergence.kind

        if not same(divergence.case):
            return None
        deadline = time.monotonic() + MINIMIZE_SECONDS

        def same_in_time(candidate: Case) -> bool:
            return time.monotonic() < deadline and same(candidate)

        case = minimize(divergence.case, same_in_time, self.model.geometry, budget=budget)
        return self.divergence(case)

    def as_case(self, divergence: Divergence, *found: str) -> Case:
        """The program as a case that asserts what the subject did; `found` are notes on the run."""
        differing = divergence.told().splitlines()[len(divergence.case.calls) :]
        usual = kernel_named(self.model.name).geometry
        comments = (f"{self.subject.name} differs from {self.model.name}: {divergence.kind}",)
        return replace(
            asserting(divergence.case, divergence.observed),
            kernel=self.model.name,
            geometry=None if self.model.geometry == usual else self.model.geometry.name,
            expects=(),
            found=found,
            comments=(*comments, *differing),
        )
