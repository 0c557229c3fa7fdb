"""What is to be found out about a finding, and the answer, as plain data: a task like a round.

Two things are asked of a finding of the model: its minimal case, and then what harm it leads to.
Whoever answers needs neither the run nor its working directory; all that comes back is from
outside, and checked.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

from engine.base.geometry import Geometry, geometry_named
from engine.base.kernel import Kernel, kernel_named
from fuzz import bounded
from fuzz.campaign.round import checked_name, checked_program
from fuzz.case import Case, CaseError
from fuzz.findings.bucket import Bucket
from fuzz.forms import text
from fuzz.forms.transpose import transposed
from fuzz.harm.search import is_harm, look_for_harm
from fuzz.lib.exits import OUR_DEFECT
from fuzz.lib.plain import Message, PlainError, parsed
from fuzz.lib.processes import MEMORY_BYTES, end_when_unheard
from fuzz.minimize.search import minimize
from fuzz.rules.judge import RulesAfter
from fuzz.rules.returns import UNENDING
from fuzz.showing import Showing, expecting, expecting_at_edges, showing
from fuzz.subjects.likeness import as_case
from fuzz.subjects.pair import Pair

ShowsOn = Callable[[Kernel], Callable[[Case], bool]]

# The limits of programs that are tried while one is minimized that does not end.  Both are the same
# part of the usual ones, so that time and memory run out in the same order.
_NARROW_STEPS = bounded.MOST_STEPS // 20
_NARROW_BYTES = MEMORY_BYTES // 20
_NARROW_SECONDS = 1800.0  # CPU time for all of them

NOT_AGAIN = "it did not happen again"
NOT_IN_TIME = "it takes too long"


@dataclass(frozen=True, slots=True)
class Inquiry(Message):
    """What is to be found out.

    `id` is unlike that of all others; `about` says what is asked.  The finding `bucket` was met on
    `kernel`, on `geometry`; the text of its `case` shows it there.  `kernels` are those of the run,
    of which the answer is to say what they show; `target` is the geometry that a case is of most
    use for, `usual` the one that cases do not name.  `like` and `rules_after` are those of the run;
    `budget` is how many candidates may be run.  `program` see `fuzz.campaign.round`.
    """

    id: str
    about: Literal["minimal", "harm"]
    bucket: Bucket
    kernel: str
    geometry: str
    case: str
    kernels: tuple[str, ...]
    target: str
    usual: str
    like: str | None
    rules_after: RulesAfter
    budget: int
    program: str

    @classmethod
    def parsed(cls, data: object) -> Self:
        """One that came in.  Errors raised: OtherProgram, PlainError."""
        checked_program(data, "this inquiry")
        found = parsed(cls, data, "inquiry")
        for kernel in (found.kernel, *found.kernels, *filter(None, [found.like])):
            checked_name(kernel_named, kernel, "inquiry.kernels")
        for geometry in (found.geometry, found.target, found.usual):
            checked_name(geometry_named, geometry, "inquiry.geometry")
        checked_name(Bucket.named, found.bucket.name, "inquiry.bucket")
        _case(found.case, "inquiry.case")
        return found


class Failed(NamedTuple):
    """A program on which this project itself failed meanwhile, as text, where, and how."""

    case: str
    kernel: str
    error: str


@dataclass(frozen=True, slots=True)
class Answer(Message):
    """What was found out.

    `case` is the text of the minimal case, or of the one that does harm; None: there is none, and
    `why` not, if that is known.  `geometry` is the one that it is for, `bucket` what it shows.
    """

    inquiry: str
    program: str
    case: str | None
    geometry: str
    bucket: Bucket
    why: str
    failed: tuple[Failed, ...]

    @classmethod
    def parsed(cls, data: object, of: Inquiry) -> Self:
        """An answer that came in to one of ours.  Errors raised: OtherProgram, PlainError."""
        checked_program(data, "an answer")
        found = parsed(cls, data, "answer")
        if found.inquiry != of.id:
            raise PlainError(f"answer.inquiry: {found.inquiry!r} in place of {of.id!r}")
        if found.geometry not in (of.geometry, of.target):
            raise PlainError(f"answer.geometry: {found.geometry!r} was not asked about")
        checked_name(Bucket.named, found.bucket.name, "answer.bucket")
        if of.about == "minimal" and found.bucket != of.bucket:
            raise PlainError(f"answer.bucket: {found.bucket.name} in place of {of.bucket.name}")
        for case in (*filter(None, [found.case]), *(one.case for one in found.failed)):
            _case(case, "answer.case")
        return found

    @classmethod
    def none(cls, of: Inquiry, why: str, failed: tuple[Failed, ...] = ()) -> Self:
        """There is nothing to be had."""
        return cls(of.id, of.program, None, of.geometry, of.bucket, why, failed)


def _case(data: str, where: str) -> Case:
    """Errors raised: PlainError."""
    try:
        return text.parse(data)
    except CaseError as error:
        raise PlainError(f"{where}: {error}") from None


def answer(inquiry: Inquiry) -> Answer:
    """Find it out; takes seconds to minutes.

    It needs the main thread of its process, where Python lets signals come.
    """
    return _Work(inquiry).done()


def main() -> None:
    """Answer the inquiry on the standard input; ends once nobody waits for that any more."""
    end_when_unheard(sys.stdout.fileno(), OUR_DEFECT)
    inquiry = Inquiry.parsed(json.load(sys.stdin))
    print(json.dumps(answer(inquiry).plain()))


class _Work:
    """An inquiry as it is worked on."""

    def __init__(self, inquiry: Inquiry) -> None:
        self.inquiry = inquiry
        self.kernel = kernel_named(inquiry.kernel, inquiry.geometry)
        self.target = geometry_named(inquiry.target)
        self.like = None if inquiry.like is None else kernel_named(inquiry.like)
        self.failed: dict[str, Failed] = {}  # by how, so that each is told once

    def done(self) -> Answer:
        """Do it."""
        case = text.parse(self.inquiry.case)
        return self._harm(case) if self.inquiry.about == "harm" else self._minimal(case)

    def _answer(self, case: Case, geometry: Geometry, bucket: Bucket) -> Answer:
        inquiry, failed = self.inquiry, tuple(self.failed.values())
        told = text.dump(case)
        return Answer(inquiry.id, inquiry.program, told, geometry.name, bucket, "", failed)

    def _none(self, why: str) -> Answer:
        return Answer.none(self.inquiry, why, tuple(self.failed.values()))

    def _fails(self, case: Case, kernel: Kernel, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self.failed.setdefault(why, Failed(text.dump(case.program()), kernel.name, why))

    # --- Its minimal case -------------------------------------------------------------------------

    def _minimal(self, case: Case) -> Answer:
        inquiry = self.inquiry
        if not self._shows_on(self.kernel)(case):
            return self._none(NOT_AGAIN)
        smallest = self._smallest(case) if self._ends(case) else self._smallest_apart(case)
        if smallest is None:
            return self._none(NOT_IN_TIME)
        case, geometry = smallest
        kernel = self.kernel.on(geometry)
        try:
            if self.like is not None:
                case = as_case(self._pair(kernel), case)
            else:
                case = expecting_at_edges(case, kernel.name, inquiry.kernels)
        except Exception as error:
            self._fails(case, kernel, error)
        return self._answer(case, geometry, inquiry.bucket)

    def _pair(self, kernel: Kernel) -> Pair:
        assert self.like is not None
        return Pair(kernel, self.like, self.inquiry.rules_after)

    def _shows_on(self, kernel: Kernel, *, quietly: bool = False) -> Callable[[Case], bool]:
        """Whether a case shows the finding on a kernel."""

        def same(case: Case) -> bool:
            try:
                if self.like is not None:
                    return self._pair(kernel).bucket(case) == self.inquiry.bucket
                shown = showing(case, kernel, self.inquiry.rules_after)
            except Exception as error:
                # A candidate on which the project itself fails is no simpler form of it.
                if not quietly:
                    self._fails(case, kernel, error)
                return False
            return shown.shows(self.inquiry.bucket)

        return same

    def _ends(self, case: Case) -> bool:
        """Does every call of a program end, and take no more memory than it should?"""
        shown = showing(case, self.kernel, self.inquiry.rules_after)
        return not any(found.violation.rule in UNENDING for found in shown.violations)

    def _smallest(self, case: Case, *, quietly: bool = False) -> tuple[Case, Geometry]:
        """The minimal case of a finding, and the geometry that it is for."""
        kernel, target, budget = self.kernel, self.target, self.inquiry.budget
        same = self._shows_on(kernel, quietly=quietly)
        case = minimize(case, same, kernel.geometry, budget=budget)
        if kernel.geometry != target:
            # Of use is a program for a machine: what smaller tables show mostly shows there.
            there = self._named(transposed(case, kernel.geometry, target))
            same = self._shows_on(kernel.on(target), quietly=quietly)
            if same(there):
                return minimize(there, same, target, budget=budget), target
        return case, kernel.geometry

    def _named(self, case: Case) -> Case:
        """The case without the name of its geometry if it is the usual one."""
        return replace(case, geometry=None) if case.geometry == self.inquiry.usual else case

    def _smallest_apart(self, case: Case) -> tuple[Case, Geometry] | None:
        """The same of a program that does not end: in a process of its own, with narrower limits.

        Returns: None if what passes these limits does not pass the usual ones, or in no time.
        """

        def work() -> tuple[Case, str]:
            smallest, geometry = self._smallest(case, quietly=True)
            return smallest, geometry.name

        with contextlib.suppress(bounded.Unjudged, ValueError):  # not shown within narrower limits
            smallest, name = bounded.apart(
                work, steps=_NARROW_STEPS, memory=_NARROW_BYTES, seconds=_NARROW_SECONDS
            )
            geometry = geometry_named(name)
            if self._shows_on(self.kernel.on(geometry))(smallest):
                return smallest, geometry
        return None

    # --- Its harm ---------------------------------------------------------------------------------

    def _harm(self, case: Case) -> Answer:
        """What a minimal case leads to, if it shows no harm itself."""
        bucket, kernel = self.inquiry.bucket, self.kernel

        def shows(case: Case, on: Kernel) -> Showing:
            try:
                return showing(case, on, self.inquiry.rules_after)
            except Exception as error:
                self._fails(case, on, error)
                return Showing(case, on, (), (), ())

        if any(one.bucket == bucket and is_harm(one) for one in shows(case, kernel).findings):
            return self._none("it is harm itself")
        try:
            harm = look_for_harm(case, bucket, kernel, shows=shows)
        except ValueError:
            return self._none(NOT_AGAIN)
        if harm is None:
            return self._none("none was found")
        expected = expecting(harm.case, [kernel.name])
        return self._answer(expected, kernel.geometry, harm.bucket)


if __name__ == "__main__":
    main()
