"""A batch of programs for a subject, and what it showed, as plain data: both cross a network.

A trial is done where the subject is: this module is a process there, which keeps it, since kernels
take long to boot, and answers trials in lines.  What comes back is from outside, and checked.
"""

import contextlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from engine.base.geometry import UnknownName, geometry_named
from fuzz.campaign.round import checked_name, checked_program
from fuzz.case import Case, CaseError
from fuzz.forms import text
from fuzz.lib.exits import OUR_DEFECT
from fuzz.lib.plain import Message, PlainError, parsed
from fuzz.lib.processes import end_when_unheard
from fuzz.subjects.named import subject_named
from fuzz.subjects.subject import Abilities, Observation, Subject, SubjectError
from fuzz.subjects.wellformed import wrong


class Without(NamedTuple):
    """A flag, or a value, of a call that a subject cannot be asked for."""

    call: str
    flag: str


class Nature(NamedTuple):
    """What others have to know of a subject; see `Subject` and `Abilities`."""

    name: str
    implementation: str
    kernel_name: str
    geometry: str
    fields: tuple[str, ...]
    commit_limit: int | None
    emulated: bool
    execs: bool
    obstacles: tuple[str, ...]
    calls: tuple[str, ...]
    locks: bool
    without: tuple[Without, ...]
    reach: int | None
    all_failures: bool

    @classmethod
    def of(cls, subject: Subject) -> Self:
        """That of a subject."""
        able = subject.able
        without = sorted((call, flag) for call, flags in able.without.items() for flag in flags)
        return cls(
            subject.name,
            subject.implementation,
            subject.kernel_name,
            subject.geometry.name,
            tuple(sorted(subject.fields)),
            subject.commit_limit,
            subject.emulated,
            subject.execs,
            tuple(subject.obstacles()),
            tuple(sorted(able.calls)),
            able.locks,
            tuple(Without(*one) for one in without),
            able.reach,
            able.all_failures,
        )

    @property
    def able(self) -> Abilities:
        """Which programs it can run."""
        without: dict[str, frozenset[str]] = {}
        for call, flag in self.without:
            without[call] = without.get(call, frozenset()) | {flag}
        return Abilities(
            frozenset(self.calls),
            self.locks,
            without,
            self.reach,
            self.all_failures,
        )


@dataclass(frozen=True, slots=True)
class Trial(Message):
    """What is to be run.

    `id` is unlike that of all others; `subject` is its name where the trial is done
    (`fuzz.subjects.named`), `nature` what the one there has to be, None: that is what is asked.
    `cases` are texts; `to_the_end` see `Subject`, of one case alone.  `program` see
    `fuzz.campaign.round`.
    """

    id: str
    subject: str
    nature: Nature | None
    cases: tuple[str, ...]
    to_the_end: bool
    program: str

    @classmethod
    def parsed(cls, data: object) -> Self:
        """One that came in.  Errors raised: OtherProgram, PlainError."""
        checked_program(data, "this trial")
        found = parsed(cls, data, "trial")
        found.programs()
        return found

    def programs(self) -> list[Case]:
        """The cases.  Errors raised: PlainError."""
        try:
            return [text.parse(case) for case in self.cases]
        except CaseError as error:
            raise PlainError(f"trial.cases: {error}") from None


@dataclass(frozen=True, slots=True)
class Shown(Message):
    """What a subject showed: an observation of each case, as JSON; or `why` it cannot run them."""

    trial: str
    program: str
    nature: Nature | None
    observations: tuple[str, ...]
    why: str = ""

    @classmethod
    def parsed(cls, data: object, of: Trial) -> Self:
        """An answer that came in to one of ours.  Errors raised: OtherProgram, PlainError."""
        checked_program(data, "what was shown")
        found = parsed(cls, data, "shown")
        if found.trial != of.id:
            raise PlainError(f"shown.trial: {found.trial!r} in place of {of.id!r}")
        if found.why:
            return found
        if found.nature is None:
            raise PlainError("shown.nature is missing")
        checked_name(geometry_named, found.nature.geometry, "shown.nature")
        if len(found.observations) != len(of.cases):
            raise PlainError(f"shown: {len(found.observations)} observations of {len(of.cases)}")
        for case, row in zip(of.programs(), found.rows(), strict=True):
            if why := wrong(row, len(case.calls)):
                raise PlainError(f"shown.observations: {why}")
        return found

    @classmethod
    def none(cls, of: Trial, why: str) -> Self:
        """There is nothing to be had."""
        return cls(of.id, of.program, None, (), why)

    def rows(self) -> list[Observation]:
        """The observations.  Errors raised: PlainError."""
        try:
            rows = [json.loads(told) for told in self.observations]
        except (ValueError, RecursionError) as error:
            raise PlainError(f"shown.observations: {error}") from None
        if not all(isinstance(row, dict) for row in rows):
            raise PlainError("shown.observations: no object")
        return rows


def shown(trial: Trial, subject: Subject) -> Shown:
    """Do a trial.  Nothing of it is left for the next one, nor told later.

    Errors raised: SubjectError.
    """
    nature = Nature.of(subject)
    if trial.nature is not None:
        _same(trial.nature, nature)
    cases = trial.programs()
    subject.to_the_end = trial.to_the_end
    seen = map(subject.observe, cases) if trial.to_the_end else subject.run(cases)
    told = tuple(json.dumps(row) for row in seen)
    return Shown(trial.id, trial.program, nature, told)


def _same(wanted: Nature, found: Nature) -> None:
    """Errors raised: SubjectError for a subject that is another one here."""
    for name, there, here in zip(Nature._fields, wanted, found, strict=True):
        if there != here:
            raise SubjectError(
                f"{found.name} is another one here than where it was asked first: {name} "
                f"{here!r:.80}, there {there!r:.80}"
            )


def answers(lines: Iterable[str]) -> None:
    """Answer trials, all for one subject, which is started by the first; a line for each."""
    subject: Subject | None = None
    with contextlib.ExitStack() as stack:
        for line in lines:
            trial = Trial.parsed(json.loads(line))
            try:
                if subject is None:
                    subject = stack.enter_context(subject_named(trial.subject))
                answer = shown(trial, subject)
            except (SubjectError, UnknownName) as error:
                answer = Shown.none(trial, str(error))
            print(json.dumps(answer.plain()), flush=True)


def main() -> None:
    """Answer what comes on the standard input; ends once nobody waits for that any more."""
    end_when_unheard(sys.stdout.fileno(), OUR_DEFECT)
    answers(sys.stdin)


if __name__ == "__main__":
    main()
