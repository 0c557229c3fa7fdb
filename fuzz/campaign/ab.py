"""`pmdfuzz ab`: two subjects, mostly two kernels, on the same programs: where they differ, and why.

Programs are the project's cases, then what is new to the model of the first kernel, as a run finds
it (`fuzz.campaign.run`), and new ones made to a plan while there is time.  A class of differences
is what differs, after which call, and the switches of the model that explain it.  So what nothing
explains does not hide behind what something does; nor behind it in the same program, which has to
do what the two kernels do to its end.  Each class is minimized, on the models if they know of it,
and kept as a case that asserts what the first subject did.
"""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from sortedcontainers import SortedKeyList

from engine.base.geometry import UnknownName
from engine.base.kernel import SWITCHES
from fuzz.campaign.child import RunError, check_environment
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.executor import parted
from fuzz.campaign.investigate import Interrupted
from fuzz.campaign.local import Local
from fuzz.campaign.rounds import Rounds
from fuzz.campaign.seeds import CORPUS, write_seeds
from fuzz.campaign.session import RunOptions, Session
from fuzz.case import Case, CaseError
from fuzz.defects.known import DEFECTS
from fuzz.findings.database import LedgerError
from fuzz.forms import text
from fuzz.inputs.inputs import PLANS
from fuzz.lib.exits import BAD_INPUT, FINE, OUR_DEFECT, STOPPED, SURPRISES
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.lines import columns, indented, short
from fuzz.lib.signals import on_request
from fuzz.lib.status import Fields, duration
from fuzz.subjects.against import NEEDS_MORE, Between, Divergence
from fuzz.subjects.beside import meeting_alike, model_of, told_left_out
from fuzz.subjects.difference import KERNEL, Kind
from fuzz.subjects.explain import Cause, Explainer
from fuzz.subjects.named import subject_named
from fuzz.subjects.reported import culprit
from fuzz.subjects.subject import Observation, Subject, SubjectError

CASES = "ab"  # directory in the working directory
_BATCH = 16  # programs that are under way at a time
_POLL_SECONDS = 0.05
_BUDGET = 1_000  # runs to minimize a class
_AS_IT_WAS = "not minimized"
_SECONDS = 60.0  # for one class
_SHARE = 0.5  # of the time, at most, goes into minimizing while there are programs to run


@dataclass(frozen=True, slots=True)
class AbOptions:
    """What to compare: two `names` of subjects, for so many `seconds` or `programs`.

    `kernels` names the models to go by (none: those of the subjects' versions); `seed` None: chosen
    at random, and shown.
    """

    workdir: Path
    names: tuple[str, str]
    seconds: int | None = None
    programs: int | None = None
    seed: int | None = None
    kernels: tuple[str, ...] = ()


class Class(NamedTuple):
    """What makes two differences the same."""

    kind: Kind
    switches: tuple[str, ...] | None  # of the model, that explain them; None: nothing does

    @property
    def why(self) -> str:
        """What explains it: `multi_vma_move (since 6.17)`."""
        if self.switches is None:
            return "nothing"
        return ", ".join(f"{name} ({SWITCHES[name].when})" for name in self.switches)

    def __str__(self) -> str:
        return f"{self.kind}: explained by {self.why}"


class _Queued(NamedTuple):
    """The first difference of a class, of the two subjects or of one and a model."""

    seen: Class
    between: Between
    found: Divergence
    cause: Cause | None


@dataclass(slots=True)
class _Standing:
    """Where it stands; see fuzz.lib.status."""

    programs: int = 0
    differing: int = 0
    unexplained: int = 0
    started: float = field(default_factory=time.monotonic)
    doing: str = ""

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def fields(self) -> Fields:
        """For the status line."""
        shown = [
            (duration(self.seconds), "dim"),
            (f"{self.programs} programs", ""),
            (f"{self.programs / max(self.seconds, 1e-9):.0f}/s", ""),
            (f"{self.differing} differ", ""),
            (f"{self.unexplained} unexplained", "alarm" if self.unexplained else ""),
        ]
        return [*shown, (self.doing, "")] if self.doing else shown


def ab(options: AbOptions) -> int:
    """Compare two subjects and print how they differ.

    Returns: 0 not, or as switches of the model say; 1 something else differs; 2 bad input or
    environment; 3 this project failed; 128 and more: stopped by a signal.
    """
    with contextlib.ExitStack() as stack:
        try:
            check_environment()
            both = [stack.enter_context(subject_named(name)) for name in options.names]
            comparison = _Comparison(options, *meeting_alike(both[0], both[1]), stack)
        except (RunError, UnknownName, WriteError, LedgerError, SubjectError) as error:
            print(f"pmdfuzz ab: {error}", file=sys.stderr)
            return BAD_INPUT
        return comparison.run()


class _Comparison:
    """The course of it."""

    def __init__(
        self, options: AbOptions, first: Subject, second: Subject, stack: contextlib.ExitStack
    ) -> None:
        """Errors raised: RunError, SubjectError, LedgerError, WriteError, UnknownName."""
        for subject in (first, second):
            if wrong := subject.obstacles():
                raise RunError(f"{subject.name} is set up otherwise: {'; '.join(wrong)}")
        if first.geometry != second.geometry:
            raise RunError(
                f"{first.name} is {first.geometry.name}, {second.name} {second.geometry.name}: "
                "programs for one are none for the other"
            )
        self.options = options
        self.between = Between(first, second, ("A", "B"))
        models = [model_of(one, options.kernels) for one in (first, second)]
        self.kernels = (models[0].kernel, models[1].kernel)
        self.explainer = Explainer(*self.kernels, first)
        calls = first.able.calls & second.able.calls
        self.session = stack.enter_context(
            Session(
                RunOptions(
                    options.workdir,
                    kernels=tuple(dict.fromkeys(kernel.name for kernel in self.kernels)),
                    geometries=(first.geometry.name,),
                    seconds=options.seconds,
                    seed=options.seed,
                    calls=calls,
                    against=options.names,
                )
            )
        )
        self.directory = options.workdir / CASES
        self.crashes = Crashes(self.session)
        self.standing = _Standing()
        self.left_out: Counter[str] = Counter()
        self.classes: Counter[Class] = Counter()
        self.found: dict[Class, Class] = {}  # what each turned out to be once it was minimal
        # Classes that are not minimal yet; those that a kernel reported come last.
        self.queue = SortedKeyList[_Queued](key=lambda one: one.found.reported)
        self.minimizing = 0.0  # seconds
        self.told: dict[Class, str] = {}  # with what else there is to say of each
        # A run may be under way there, too, which has logs of its own.
        self.directory.mkdir(parents=True, exist_ok=True)
        self.executor = Local(
            self.session.corpus, self.session.seeds, self.session.crashes, self.directory
        )
        self.rounds: Rounds | None = None
        self.new: list[bytes] = []  # inputs that are new to the model
        self.signal = 0
        self.next_pump = 0.0

    def run(self) -> int:
        """All of it.  Returns: the exit status."""
        session, status = self.session, FINE
        seeds = write_seeds(
            session.seeds, None, session.inputs, session.calls, session.options.max_calls
        )
        self._say(self._headline())
        try:
            with on_request(self._stop):
                try:
                    self.rounds = Rounds(session, self.crashes, self.executor, seeds.longest)
                    self._compare()
                    self._minimize_rest()
                finally:
                    self.executor.kill()
                    self.executor.close()
        except SubjectError as error:
            status = BAD_INPUT
            self._say(f"lost: {error}")
        while self.queue:
            self._keep(self.queue.pop(0), None, _AS_IT_WAS)
        session.line.clear()
        self._say(self._summary())
        if status == FINE and self.signal:
            status = STOPPED + self.signal
        if status == FINE and self.crashes.any:
            status = OUR_DEFECT
        return status or (SURPRISES if self.standing.unexplained else FINE)

    def _stop(self, number: int) -> None:
        self.signal = self.signal or number

    # --- Programs ---------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Run programs on both until the end.  Errors raised: SubjectError."""
        programs = self._programs()
        while not self._over():
            batch: list[Case] = []
            while len(batch) < _BATCH and not self._over(len(batch)):
                program = next(programs)
                case = self.between.runnable(program)
                if case.calls:
                    batch.append(case)
                elif missing := self._missing(program):
                    self.left_out.update(missing)
            for case, first, second in zip(batch, *self._observed(batch), strict=True):
                self.standing.programs += 1
                found = self.between.parting(case, first, second)
                if found is not None:
                    self._differs(found)
            self._late()
            self._pump()
            while (
                self.queue
                and not self.signal
                and not self.queue[0].found.reported  # machines have to boot for each run
                and self.minimizing < _SHARE * self.standing.seconds
            ):
                self._minimize(self.queue.pop(0), _SECONDS)
        self._late(last=True)

    def _minimize_rest(self) -> None:
        """Minimize what waits, if that does not take half as long again as all so far."""
        until = self.standing.seconds * (1 + _SHARE)
        while self.queue and not self.signal and (left := until - self.standing.seconds) > 0:
            one = self.queue.pop(0)
            self._minimize(one, min(left, _SECONDS) if self.queue else left)

    def _missing(self, program: Case) -> set[str]:
        subjects = (self.between.subject, self.between.other)
        return {name for one in subjects for name in one.able.missing(program)}

    def _programs(self) -> Iterator[Case]:
        """The project's cases, what is new to the model, and new ones in between; without end."""
        session = self.session
        usual = {None, session.geometry.name}
        for path in sorted(CORPUS.rglob("*.case")):
            with contextlib.suppress(CaseError):
                case = text.load(path)
                if case.geometry in usual:
                    yield case.program()
        rng = Random(session.seed)
        while True:
            while self.new:
                yield session.decode(self.new.pop(0)).program()
            yield session.decode(session.inputs.planned(rng.choice(PLANS), 0, rng)).program()

    def _observed(self, cases: Sequence[Case]) -> list[list[Observation]]:
        """What the two show of programs, which they run at the same time.

        Errors raised: SubjectError.
        """
        begun = [one.begin(cases) for one in (self.between.subject, self.between.other)]
        return [list(observed) for observed in begun]

    def _late(self, *, last: bool = False) -> None:
        """What was found out of earlier programs, such as what a kernel reported in the end."""
        between = self.between
        for case, observed in between.subject.late(last=last):
            if found := between.parting(case, observed, between.other.observe(case)):
                self._differs(found)
        for case, observed in between.other.late(last=last):
            if found := between.parting(case, between.subject.observe(case), observed):
                self._differs(found)

    def _over(self, under_way: int = 0) -> bool:
        """Is it the end?  Arguments: `under_way` programs that will be run in any case."""
        programs, seconds = self.options.programs, self.options.seconds
        return (
            bool(self.signal)
            or (programs is not None and self.standing.programs + under_way >= programs)
            or (seconds is not None and self.standing.seconds >= seconds)
        )

    def _tick(self) -> None:
        """See to the fuzzing process while something is minimized; cheap enough for every run.

        Errors raised: Interrupted.
        """
        if self.signal:
            raise Interrupted
        if time.monotonic() >= self.next_pump:
            self._pump()

    def _pump(self) -> None:
        """Hear what is new to the model; redraw the status line."""
        assert self.rounds is not None
        self.next_pump = time.monotonic() + _POLL_SECONDS
        if self.signal:
            self.rounds.stop()
        for _, report in self.rounds.take(parted(self.executor.heard(0.0))[0]):
            self.new += report.new
            for crash in report.crashes:
                self.crashes.of_input(crash)
        self.session.line.update(self.standing)

    # --- Differences ------------------------------------------------------------------------------

    def _differs(self, found: Divergence) -> None:
        """Find the class of a difference, and of what else is odd about the program."""
        if not self.explainer.can_tell(found.case):
            self.left_out[NEEDS_MORE] += 1
            return
        self.standing.differing += 1
        if cause := self._cause(found):  # then models tell the rest, and are faster
            on_models = self._models(cause).divergence(found.case)
            assert on_models is not None, "they show what the two have shown"
            early = self._models(cause).earliest(on_models)
            self._count(self.between, early, self._cause(early) or cause)
            return
        early = self.between.earliest(found)
        cause = self._cause(early)
        self._count(self.between, early, cause)
        if cause is not None:
            self._look_behind(found, cause)

    def _look_behind(self, found: Divergence, cause: Cause) -> None:
        """A program begins with what is explained, and goes on with something that is not."""
        first, second = self.explainer.kernels(cause)
        for name, subject, kernel, observed in (
            ("A", self.between.subject, first, found.observed),
            ("B", self.between.other, second, found.modelled),
        ):
            beside = Between(subject, self.explainer.model(kernel), (name, "model"))
            rest = beside.judge(found.case, observed)
            if rest is not None:
                self._count(beside, beside.earliest(rest), None)
                return

    def _models(self, cause: Cause) -> Between:
        """The models that show what the two show."""
        first, second = map(self.explainer.model, (cause.first, cause.second))
        return Between(first, second, ("A", "B"))

    def _cause(self, found: Divergence) -> Cause | None:
        return self.explainer.cause(found.case, found.observed, found.modelled)

    def _switches(self, found: Divergence, cause: Cause | None) -> tuple[str, ...] | None:
        """Those that explain a difference: of a report those of the defect that explains it."""
        if cause is not None or not found.reported:
            return cause.switches if cause is not None else None
        both = zip(self.kernels, (found.observed, found.modelled), strict=True)
        for kernel, report in ((kernel, seen.get(KERNEL)) for kernel, seen in both):
            defect = culprit(found.case, report, kernel)[0] if report else ""
            if defect:
                return tuple(
                    sorted({name for one in defect.split("+") for name in DEFECTS[one].repair})
                )
        return None

    def _count(self, between: Between, found: Divergence, cause: Cause | None) -> None:
        """Count a difference of two; minimize, keep and tell the first of its class."""
        seen = Class(found.kind, self._switches(found, cause))
        if seen not in self.classes:
            self.queue.add(_Queued(seen, between, found, cause))
        self.classes[seen] += 1
        self.standing.unexplained += seen.switches is None

    def _minimize(self, one: _Queued, seconds: float) -> None:
        """Minimize, keep and tell the first of a class.

        Arguments: `seconds` it may take.
        Errors raised: SubjectError.
        """
        started = time.monotonic()
        self.standing.doing = "minimizing"
        small, how = None, _AS_IT_WAS
        try:
            small = self._minimized(one.between, one.found, one.cause, seconds)
            how = "" if small is not None else "it did not happen again"
        except Interrupted:
            pass
        finally:
            self.standing.doing = ""
            self.minimizing += time.monotonic() - started
            self._keep(one, small, how)

    def _minimized(
        self, between: Between, found: Divergence, cause: Cause | None, seconds: float
    ) -> Divergence | None:
        """The simplest program of that kind; by the models if they show it, which are faster."""
        if cause is not None:
            small = self._models(cause).minimized(found, _BUDGET, self._tick, seconds=seconds)
            real = between.divergence(small.case) if small else None
            if real is not None and real.kind == found.kind and self._cause(real) is not None:
                return real
        return between.minimized(found, _BUDGET, self._tick, seconds=seconds)

    def _keep(self, one: _Queued, small: Divergence | None, how: str) -> None:
        """Write a difference as a case, and tell it, unless its class is that of another by now.

        Arguments: `small` is minimal, None: there is none, `how` says why.
        """
        found = small or one.found
        cause = self._cause(found) if one.between is self.between else None
        what = self.found[one.seen] = Class(found.kind, self._switches(found, cause))
        if what in self.told:
            return
        self.told[what] = how or self._odd(found) if what.switches is None else how
        path = self.directory / f"{_slug(what)}.case"
        case = one.between.as_case(found, f"ab seed={self.session.seed}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text.dump(case))
            where = f"kept in {short(path)}"
        except (OSError, WriteError) as error:
            where = f"not kept: {error}"
        note = f" ({self.told[what]})" if self.told[what] else ""
        self._say(f"\nDIFFERENCE {what}{note}\n{indented(found.told())}\n  {where}")

    def _odd(self, found: Divergence) -> str:
        """Which of the two is not what its model says."""
        both = zip("AB", self.kernels, (found.observed, found.modelled), strict=True)
        odd = [
            f"{name} is not {kernel.name}"
            for name, kernel, observed in both
            if name in found.names and not self.explainer.shows(kernel, found.case, observed)
        ]
        return " and ".join(odd)

    # --- What is said -----------------------------------------------------------------------------

    def _headline(self) -> str:
        lines = []
        for name, subject, kernel in zip(
            "AB", (self.between.subject, self.between.other), self.kernels, strict=True
        ):
            lacks = subject.able.lacks
            without = f"; it has no {', '.join(lacks)}" if lacks else ""
            lines.append(f"{name}: {subject.name}, by the model {kernel.name}{without}")
        limits = [duration(self.options.seconds)] if self.options.seconds is not None else []
        if self.options.programs is not None:
            limits.append(f"{self.options.programs} programs")
        until = " or ".join(limits) or "Ctrl-C"
        lines.append(f"on {self.session.geometry.name}, seed {self.session.seed}, until {until}")
        return "\n".join(lines)

    def _summary(self) -> str:
        standing = self.standing
        lines = [
            "",
            f"{standing.programs} programs in {duration(standing.seconds)}: "
            + (
                f"{standing.differing} differ{'' if standing.differing > 1 else 's'}, "
                f"{standing.unexplained or 'none'} of them unexplained"
                if standing.differing
                else "none differs"
            ),
        ]
        if self.left_out:
            lines.append(f"left out for what is not there: {told_left_out(self.left_out)}")
        if self.classes:
            classes: Counter[Class] = Counter()
            for seen, number in self.classes.items():
                classes[self.found.get(seen, seen)] += number
            rows = [("programs", "what differs", "explained by")]
            for what, number in sorted(
                classes.items(), key=lambda one: (one[0].switches is not None, -one[1])
            ):
                why = "; ".join(filter(None, (what.why, self.told.get(what))))
                rows.append((str(number), str(what.kind), why))
            lines += columns(rows)
        return "\n".join(lines)

    def _say(self, message: str) -> None:
        self.session.say(message)


def _slug(what: Class) -> str:
    """A class as the name of a file."""
    words = " ".join((*what.kind, *(what.switches or ("unexplained",)))).lower()
    letters = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in words)
    return "-".join(letters.split())[:120]
