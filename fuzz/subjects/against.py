"""Two subjects, mostly one and a model: where they part, and the smallest program that shows it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self

from engine.base.geometry import UnknownName
from engine.base.kernel import kernel_named
from fuzz.case import Call, Case
from fuzz.findings.bucket import Bucket
from fuzz.forms.results import PAGE_BYTES
from fuzz.forms.text import parse_call
from fuzz.minimize.search import minimize
from fuzz.subjects.difference import (
    BY_CALL,
    KERNEL,
    Difference,
    Kind,
    asserting,
    difference,
    told,
)
from fuzz.subjects.model import Model
from fuzz.subjects.reported import culprit, explained
from fuzz.subjects.subject import Observation, Subject

MINIMIZE_SECONDS = 120.0
MINIMIZE_REPORTS_SECONDS = 1800.0  # a kernel that panics has to boot again each time
_MOST_CALLS = 250  # of programs that are joined; an agent takes 256
ENDLESS = (
    "locked memory that grows as it moves, whose userfaultfd is told of that: it waits for ever"
)
NEEDS_MORE = "@fail of a move that needs more than page tables to be put back"
RULE = "machine-differs"  # of findings; no rule of the model, but the one above all of them


def of_machine(bucket: Bucket) -> bool:
    """Whether a finding is of a machine, not of the model."""
    return bucket.rule == RULE or reported(bucket)


def reported(bucket: Bucket) -> bool:
    """Whether a finding is what a machine's kernel reported: its case stays where it was found."""
    return bucket.rule.startswith(f"{KERNEL}-")


class Divergence(NamedTuple):
    """A program on which subject and model part, what they did, and where they part first.

    `defect` is the known one that explains what the subject's kernel reported, if one does.
    """

    case: Case
    observed: Observation
    modelled: Observation
    difference: Difference
    names: tuple[str, str] = ("machine", "model")  # what the two are called
    page_bytes: int = PAGE_BYTES
    defect: str = ""

    @property
    def kind(self) -> Kind:
        """Its class."""
        return self.difference.kind

    @property
    def report(self) -> Observation:
        """What the machine's kernel reported, {} if nothing."""
        report: Observation = self.observed.get(KERNEL, {})
        return report

    @property
    def reported(self) -> bool:
        """Whether it is that the machine's kernel reported something."""
        return self.kind.field.startswith(f"{KERNEL}-")

    @property
    def bucket(self) -> Bucket:
        """The finding that it is."""
        return Bucket.of(self.kind.field if self.reported else RULE, self.kind.call, self.defect)

    def told(self) -> str:
        """The program and both results, in lines."""
        return told(self.case, self.observed, self.modelled, *self.names, self.page_bytes)


def _alike(one: Divergence, other: Divergence) -> bool:
    """Are two of the same class, and does the same explain them?"""
    return (one.kind, one.defect) == (other.kind, other.defect)


class Between:
    """A `subject` and an `other`, which are compared; a context manager.

    `names` are what the two are called where both results of a call are told.
    """

    def __init__(self, subject: Subject, other: Subject, names: tuple[str, str]) -> None:
        self.subject = subject
        self.other = other
        self.names = names

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
        """Let go of both."""
        self.subject.close()
        self.other.close()

    def both(self, case: Case) -> tuple[Observation, Observation]:
        """What the two show.  Errors raised: SubjectError."""
        observed = self.subject.observe(case)
        found = self.beside(case, observed)
        return self.seen(case, observed), self.seen(case, found)

    def beside(self, case: Case, observed: Observation) -> Observation:
        """What the other shows.  Arguments: `observed` what it will be compared with."""
        del observed
        return self.other.observe(case)

    def runnable(self, case: Case) -> Case:
        """What is run of a program; nothing of one that is about what one of the two has not."""
        case = self.subject.able.runnable(case)
        return self.other.able.runnable(case) if case.calls else case

    def told(self) -> Iterator[str]:
        """What there is to say of the subject, and of what is compared with it, in lines."""
        yield from ()

    def seen(self, case: Case, observed: Observation) -> Observation:
        """What of an observation, either's, is compared."""
        del case
        return observed

    def judge(self, case: Case, observed: Observation) -> Divergence | None:
        """How the other parts from what the subject showed of a runnable case, if it does."""
        return self.parting(case, observed, self.beside(case, observed))

    def parting(self, case: Case, observed: Observation, found: Observation) -> Divergence | None:
        """How what the two showed of a case differs, if it does."""
        observed, found = self.seen(case, observed), self.seen(case, found)
        differs = difference(case, observed, found)
        if differs is None:
            return None
        page_bytes = self.subject.geometry.page_bytes
        return Divergence(case, observed, found, differs, self.names, page_bytes)

    def divergence(self, case: Case) -> Divergence | None:
        """How the two part on a case, as far as it is runnable.

        Errors raised: SubjectError.
        """
        case = self.runnable(case.program())
        return self.judge(case, self.subject.observe(case)) if case.calls else None

    def earliest(self, divergence: Divergence) -> Divergence:
        """The divergence at the call that makes it.

        Results and page tables are known after each call.  What is observed at the end only may
        have come about earlier: the shortest beginning of the program that shows any difference
        tells where.
        A report of the kernel has said itself in which call it came.
        Errors raised: SubjectError.
        """
        if divergence.reported:
            return divergence
        for length in range(1, divergence.difference.call + 1):
            if found := self.divergence(divergence.case.with_calls(divergence.case.calls[:length])):
                return found
        calls = divergence.case.calls[: divergence.difference.call + 1]
        return self.divergence(divergence.case.with_calls(calls)) or divergence

    def minimized(
        self,
        divergence: Divergence,
        budget: int,
        tick: Callable[[], None] = lambda: None,
        *,
        seconds: float | None = None,
    ) -> Divergence | None:
        """The simplest program found that shows a divergence of the same kind.

        `tick` is called before every run; what it raises ends the search.  So do so many `seconds`
        (None: MINIMIZE_SECONDS), after which the simplest so far counts: a program that hangs costs
        its time limit each time.
        Returns: None if the divergence does not happen again.
        Errors raised: SubjectError.
        """

        def same(candidate: Case) -> bool:
            tick()
            found = self.divergence(candidate)
            return found is not None and _alike(found, divergence) and self._begins(found)

        with self._to_the_end(divergence.reported):
            return self._minimized(divergence, same, budget, seconds)

    @contextlib.contextmanager
    def _to_the_end(self, really: bool = True) -> Iterator[None]:
        """Nothing of one run is left for the next, if really so."""
        both = (self.subject, self.other)
        for one in both:
            one.to_the_end = really
        try:
            yield
        finally:
            for one in both:
                one.to_the_end = False

    def _begins(self, divergence: Divergence) -> bool:
        """Does its last call bring it about?  What is observed at the end only may be older."""
        if divergence.reported or divergence.kind.field in (*BY_CALL, "crash"):
            return True
        before = divergence.case.with_calls(divergence.case.calls[:-1])
        return not before.calls or self.divergence(before) is None

    def _minimized(
        self,
        divergence: Divergence,
        same: Callable[[Case], bool],
        budget: int,
        seconds: float | None,
    ) -> Divergence | None:
        if seconds is None:
            seconds = MINIMIZE_REPORTS_SECONDS if divergence.reported else MINIMIZE_SECONDS
        deadline = time.monotonic() + seconds

        def same_in_time(candidate: Case) -> bool:
            return time.monotonic() < deadline and same(candidate)

        case = next(filter(same_in_time, self._candidates(divergence)), None)
        if case is None:
            return None
        with contextlib.suppress(ValueError):  # it comes and goes, or the time is up
            case = minimize(case, same_in_time, self.subject.geometry, budget=budget)
        found = self.divergence(case)
        return found if found is not None and _alike(found, divergence) else None

    def _candidates(self, divergence: Divergence) -> Iterator[Case]:
        """The case, and then, if its kernel reported something, what ran before it and the case."""
        case = divergence.case
        yield case
        arena = self.subject.geometry.arena
        between = Call("munmap", (0, arena.end - arena.start))
        calls = case.calls
        for program in reversed(divergence.report.get("after", ())):
            calls = (*map(parse_call, program), between, *calls)
            if len(calls) <= _MOST_CALLS:
                yield case.with_calls(calls)

    def as_case(self, divergence: Divergence, *found: str) -> Case:
        """The program as a case that asserts what the subject did; `found` are notes on the run."""
        differing = divergence.told().splitlines()[len(divergence.case.calls) :]
        comments = (f"{self.subject.name} differs from {self.other.name}: {divergence.kind}",)
        kernel, geometry = self._ground()
        return replace(
            asserting(divergence.case, divergence.observed),
            kernel=kernel,
            geometry=geometry,
            expects=(),
            found=found,
            comments=(*comments, *differing),
        )

    @property
    def kernel_name(self) -> str:
        """The kernel that does what a case asserts."""
        return self.subject.kernel_name

    def _ground(self) -> tuple[str | None, str | None]:
        """The kernel, if a model has it, and the geometry that a case names."""
        geometry = self.subject.geometry.name
        try:
            usual = kernel_named(self.kernel_name).geometry.name
        except UnknownName:
            return None, geometry
        return self.kernel_name, None if geometry == usual else geometry


class Against(Between):
    """A subject, usually a machine, and the `model` of its kernel, which has to agree with it.

    `on` is what commands call the subject; `not_compared` says of the program judged last why the
    model cannot tell what a machine does, "" if it can.
    """

    unknown: Sequence[str] = ()  # what it does not know, though it can be asked for it

    def __init__(self, model: Model, subject: Subject, on: str = "host") -> None:
        super().__init__(subject, model, ("machine", "model"))
        self.model = model
        self.on = on
        self.not_compared = ""

    @property
    def kernel_name(self) -> str:
        """See `Between`: the one whose model it is."""
        return self.model.name

    def beside(self, case: Case, observed: Observation) -> Observation:
        """See `Between`.

        Of a program that is not compared it is what the subject shows, without its kernel's report.
        """
        found = self.model.observe(case, observed)
        beyond = self.model.reached and "crash" not in (found.keys() | observed.keys())
        self.not_compared = NEEDS_MORE if beyond else ""
        if self.model.endless:
            self.not_compared = ENDLESS
        if not beyond:
            return found
        return {name: value for name, value in observed.items() if name != KERNEL} | {"warn": False}

    def parting(self, case: Case, observed: Observation, found: Observation) -> Divergence | None:
        """See `Between`, and `Divergence.defect`."""
        if self.not_compared == ENDLESS:
            return None
        parts = super().parting(case, observed, found)
        if parts is None or not parts.reported:
            return parts
        defect, _ = culprit(case, parts.report, self.model.kernel)
        return parts._replace(defect=defect)

    def minimized(
        self,
        divergence: Divergence,
        budget: int,
        tick: Callable[[], None] = lambda: None,
        *,
        seconds: float | None = None,
    ) -> Divergence | None:
        """See `Between`.  What a known defect explains is minimized by the model alone.

        A machine whose kernel reports something may have to boot again for each program.
        """
        if not divergence.defect:
            return super().minimized(divergence, budget, tick, seconds=seconds)

        kernel = self.model.kernel

        def same(candidate: Case) -> bool:
            tick()
            return explained(candidate, kernel, divergence.kind.detail) == divergence.defect

        _, guilty = culprit(divergence.case, divergence.report, kernel)
        case = minimize(guilty, same, self.model.geometry, budget=budget)
        with self._to_the_end():
            found = self.divergence(case)
        return found if found is not None and found.bucket == divergence.bucket else divergence
