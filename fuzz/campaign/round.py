"""A round of fuzzing and what it reports, as plain data: they may come from another machine.

A round is the work of one fuzzing process for some time, on some kernels and geometries of the run.
Whoever does it (`fuzz.campaign.executor`) reports once, at its end, or as often as it likes: each
report has the findings, suspects, crashes and inputs that are new since the one before, while its
counters are those of the whole round.  So a report that comes twice counts once, and what comes
after the end of its round not at all, as when two machines have done the same one.

`Round.plain` and `Report.plain` are what goes over a wire, `Round.parsed` and `Report.parsed` check
what comes in: all that is in it is from outside.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from engine.base.geometry import geometry_named
from engine.base.kernel import kernel_named
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.libfuzzer import refused
from fuzz.findings.bucket import Bucket
from fuzz.lib.fingerprint import of_this_project
from fuzz.lib.plain import Message, PlainError, parsed
from fuzz.rules.judge import RulesAfter

_ARTIFACTS = ("crash", "leak", "oom", "slow-unit", "timeout")  # what libFuzzer calls them

program = of_this_project  # the fingerprint of the code that decides what a round finds


class OtherProgram(PlainError):
    """A round or a report is of another version of this project."""


@dataclass(frozen=True, slots=True)
class Round(Message):
    """What a fuzzing process is to do.

    `id` is unlike that of all other rounds, of other runs, too.  Programs run on all `kernels`, in
    the order of their names here; `geometries` are those of the run, by which inputs are read, and
    `focus` those that new programs are for.  `calls`, sorted, are the allowed ones, at most
    `max_calls` in a program; an input has at most `max_bytes`.  `cells`, `tell_new`, `rules_after`
    and `like` see `fuzz.campaign.child.Setting`.  The round ends after so many `seconds`, or so
    many `runs` (executions), whichever is first; None: not by that.  `flags` are those that the
    user has for libFuzzer, `patience` how many seconds one input may take.  `sample` are inputs to
    start from, besides those that lie where the round is done.  `program` is the fingerprint of the
    code (`program`).
    """

    id: str
    seed: int
    kernels: tuple[str, ...]
    geometries: tuple[str, ...]
    focus: tuple[str, ...]
    calls: tuple[str, ...]
    max_calls: int
    max_bytes: int
    cells: bool
    tell_new: bool
    rules_after: RulesAfter
    like: str | None
    seconds: float | None
    runs: int | None
    flags: tuple[str, ...]
    patience: int
    sample: tuple[bytes, ...]
    program: str

    @classmethod
    def parsed(cls, data: object) -> Self:
        """A round that came in.  Errors raised: OtherProgram, PlainError."""
        checked_program(data, "this round")
        found = parsed(cls, data, "round")
        for kernel in (*found.kernels, *filter(None, [found.like])):
            checked_name(kernel_named, kernel, "round.kernels")
        for geometry in found.geometries:
            checked_name(geometry_named, geometry, "round.geometries")
        if not found.kernels or not set(found.focus) <= set(found.geometries) or not found.focus:
            raise PlainError("round: no kernel, or a focus that is no geometry of it")
        if strange := [name for name in found.calls if name not in MODELLED_CALLS]:
            raise PlainError(f"round.calls: unknown {strange[0]!r}")
        if why := refused(found.flags):
            raise PlainError(f"round.flags: {why}")
        return found


class Hits(NamedTuple):
    """How many executions of a round have met a finding on a kernel so far."""

    bucket: Bucket
    kernel: str
    times: int


class Met(NamedTuple):
    """An input that shows a finding; `worst` is the rule that names all that the program shows."""

    bucket: Bucket
    worst: str
    kernel: str
    geometry: str
    input: bytes
    execs: int  # of the round, until then


class Suspect(NamedTuple):
    """An input that took long, or much memory; `doubt` is what it may be (`timeout--mremap`)."""

    input: bytes
    kernel: str
    geometry: str
    doubt: str
    execs: int


class Crash(NamedTuple):
    """An input on which this project raised something; `kernel` empty: on none."""

    input: bytes
    kernel: str
    error: str
    traceback: str


class Cells(NamedTuple):
    """How many cells of a kernel a round has seen."""

    kernel: str
    seen: int


class Artifact(NamedTuple):
    """An input of which a fuzzing process died; `kind` is what libFuzzer calls that."""

    kind: str
    input: bytes

    @property
    def name(self) -> str:
        """What the file of it is called."""
        return f"{self.kind}-{hashlib.sha1(self.input).hexdigest()}"


class End(NamedTuple):
    """The end of a round; `why` is empty if it is as it should be.

    `details` are lines to show; `outside` is true if somebody has killed the process, else it is a
    defect of this project.  `lost` is true if whoever did the round is gone, and with him all that
    it had not reported.
    """

    why: str = ""
    details: str = ""
    outside: bool = False
    artifacts: tuple[Artifact, ...] = ()
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Report(Message):
    """What a round has to say since its last report; see the module.

    `id` is unlike that of any other report.  `execs`, `cpu_seconds`, `cells` and `hits` are of the
    whole round.  `new` are inputs that reach a cell which none before did, if it was asked for;
    `inputs` those that the round has added to the corpus, unless it has written them there itself.
    `random_addresses` is true where equal seeds may give unequal rounds.  `end` None: the round
    goes on.
    """

    round: str
    program: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    execs: int = 0
    cpu_seconds: float = 0.0
    cells: tuple[Cells, ...] = ()
    hits: tuple[Hits, ...] = ()
    findings: tuple[Met, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    crashes: tuple[Crash, ...] = ()
    new: tuple[bytes, ...] = ()
    inputs: tuple[bytes, ...] = ()
    random_addresses: bool = False
    end: End | None = None

    @classmethod
    def parsed(cls, data: object, of: Round) -> Self:
        """A report that came in about a round of ours.  Errors raised: OtherProgram, PlainError."""
        checked_program(data, "the report of a round")
        found = parsed(cls, data, "report")
        if found.round != of.id:
            raise PlainError(f"report.round: {found.round!r} in place of {of.id!r}")
        found._check(of)
        return found

    def _check(self, of: Round) -> None:
        """Errors raised: PlainError for what nobody with that round can have found."""
        for bucket in (*(hit.bucket for hit in self.hits), *(met.bucket for met in self.findings)):
            checked_name(Bucket.named, bucket.name, "report.findings")
        kernels = {
            *(one.kernel for one in self.hits),
            *(one.kernel for one in self.cells),
            *(one.kernel for one in self.findings),
            *(one.kernel for one in self.suspects),
            *(one.kernel for one in self.crashes if one.kernel),
        }
        geometries = {
            *(one.geometry for one in self.findings),
            *(one.geometry for one in self.suspects),
        }
        if strange := (kernels - set(of.kernels)) | (geometries - set(of.geometries)):
            raise PlainError(f"report: {min(strange)!r} is no kernel or geometry of the round")
        counts = [one.times for one in self.hits] + [one.seen for one in self.cells]
        if min([self.execs, *counts]) < 0:
            raise PlainError("report: a count below 0")
        longest = max(map(len, (*self.inputs, *self.new)), default=0)
        if longest > of.max_bytes:
            raise PlainError(f"report.inputs: {longest} bytes, where {of.max_bytes} are allowed")
        for artifact in self.end.artifacts if self.end else ():
            if artifact.kind not in _ARTIFACTS:
                raise PlainError(f"report.end: {artifact.kind!r} is nothing that libFuzzer keeps")


def checked_program(data: object, what: str) -> None:
    """See that plain data is of this very program, before anything else is looked at.

    Errors raised: OtherProgram.
    """
    theirs = data.get("program") if isinstance(data, dict) else None
    if isinstance(theirs, str) and theirs != program():
        raise OtherProgram(
            f"{what} is of another version of pmdfuzz ({theirs[:12]}, here {program()[:12]}): "
            "install the same one, for the same Python, on every machine"
        )


def checked_name(named: Callable[[str], object], name: str, where: str) -> None:
    """See that there is something of that name.  Errors raised: PlainError."""
    try:
        named(name)
    except ValueError as error:
        raise PlainError(f"{where}: {error}") from None
