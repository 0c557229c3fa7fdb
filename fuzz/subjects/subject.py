"""Whatever runs programs and shows what they did: the model of a kernel, a machine, another program
that stands for a kernel.  Each is a file of its own in this folder.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

from engine.base.geometry import Geometry, geometry_named
from fuzz.calls.operand import Choice, Symbols
from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Makes
from fuzz.case import Call, Case

EXEC, FAIL = "execve_stack", "@fail"
Observation = dict[str, Any]  # see fuzz.subjects.observe
SAID = "said"  # of an observation with `crash`: what whoever died said of it, if anything


class SubjectError(RuntimeError):
    """A subject cannot run cases; the message says why, and what to do."""


class Abilities(NamedTuple):
    """Which programs a subject can run.

    `calls` are the names of the calls that it has.  `locks` false: its user may not lock memory;
    `without` names, by call, the flags and values that it cannot be asked for; `reach` is how many
    bytes of the arena it has, None all; `all_failures` whether anything can fail at any time, and
    not only one mremap for a shortage of memory (fuzz/agent/memory.c).
    """

    calls: frozenset[str]
    locks: bool = True
    without: Mapping[str, frozenset[str]] = MappingProxyType({})
    reach: int | None = None
    all_failures: bool = False

    def missing(self, case: Case) -> list[str]:
        """What the case is about that is not here, such as a failure at will; mostly []."""
        names = set()
        if FAIL in self.calls and not self.all_failures and not _is_short_once(case):
            names.add(f"{FAIL} of other than one mremap")
        for call in case.calls:
            declared = CALLS[call.name]
            if call.name not in self.calls and declared.made_by is not Makes.EXEC:
                names.add(call.name)
            names.update(self.flags_missing(call))
            if self.reach is not None and _reaches(call) > self.reach:
                names.add(_beyond(self.reach))
        return sorted(names)

    def flags_missing(self, call: Call) -> list[str]:
        """The flags and values of a call that cannot be asked for; mostly []."""
        if call.name not in self.without:
            return []
        names = self.without[call.name]
        return [
            _named(call.name, name)
            for param, value in zip(CALLS[call.name].params, call.args, strict=True)
            if isinstance(param.kind, Symbols)
            for name, bits in param.kind.names.items()
            if name in names
            and (value == bits if isinstance(param.kind, Choice) else value & bits == bits != 0)
        ]

    @property
    def lacks(self) -> list[str]:
        """What the model has and the subject cannot be asked for, by name; [] if nothing."""
        names = [name for name in CALLS if name not in self.calls]
        names += sorted(
            {_named(call, flag) for call, flags in self.without.items() for flag in flags}
        )
        names += [] if self.locks else ["locking memory"]
        return names + ([] if self.reach is None else [_beyond(self.reach)])

    def runnable(self, case: Case) -> Case:
        """The case without the calls that no program can make, or that the user may not make.

        Nothing is left of a case that is about what is not here (`missing`).
        """
        if self.missing(case):
            return case.with_calls(())
        kept = [call for call in case.calls if self._may(call)]
        return case if len(kept) == len(case.calls) else case.with_calls(kept)

    def left_out(self, case: Case) -> list[str]:
        """What `runnable` leaves out of the case, by name; mostly []."""
        kept = {call.name for call in self.runnable(case).calls}
        return self.missing(case) or sorted({call.name for call in case.calls} - kept)

    def refusal(self, case: Case) -> str:
        """Why the case cannot be run as it is, "" if it can."""
        if missing := self.missing(case):
            return f"it has no {', '.join(missing)}"
        if left_out := self.left_out(case):
            locks = {name for name in left_out if CALLS[name].locks is not None}
            return "; ".join(
                f"{', '.join(names)} {why}"
                for names, why in (
                    ([name for name in left_out if name not in locks], "is not there"),
                    (sorted(locks), "needs a user who may lock memory: run it as root"),
                )
                if names
            )
        return ""

    def _may(self, call: Call) -> bool:
        locking = CALLS[call.name].locks
        return call.name in self.calls and (self.locks or locking is None or not locking(call.args))


def _is_short_once(case: Case) -> bool:
    """Does what fails, if anything does, fail in the next call, an mremap, and in no later one?

    A machine is short of memory for that call: attempts are not counted.  Nor may it swap then, or
    bring in what is locked; and the agent itself needs a few VMAs.
    """
    names = [call.name for call in case.calls]
    if FAIL not in names:
        return True
    if any((locks := CALLS[call.name].locks) and locks(call.args) for call in case.calls):
        return False
    behind = [name for name in names[names.index(FAIL) :] if name in (FAIL, "mremap")]
    first = names[names.index(FAIL) : names.index(FAIL) + len(behind)]
    alone = {"swapout", "@limit"}.isdisjoint(names)
    return alone and first == behind and behind.count("mremap") == 1


def _named(call: str, flag: str) -> str:
    """A flag or value as people know it: those of directives mean nothing alone."""
    return f"{call} {flag}" if CALLS[call].is_directive else flag


def _beyond(reach: int) -> str:
    return f"addresses beyond {reach:#x}"


def _reaches(call: Call) -> int:
    """How far into the arena the places that a call names reach, in bytes."""
    declared = CALLS[call.name]
    spans = [declared.span.of(call.args)] if declared.span else []
    if declared.target and declared.target.named(call.args):
        spans.append((call.args[declared.target.start], call.args[declared.target.length]))
    return max((start + length for start, length in spans), default=0)


class Subject(ABC):
    """Something that runs programs; a context manager.

    `name` is what people call it; `able` says which programs it can run, `geometry` on what page
    tables; `fields` are those of its observations; `kernel_name` is that of the model of its
    kernel, as far as it tells; `commit_limit` the most memory in bytes that one call may ask for,
    None: there is no limit; `emulated` whether a program stands for the kernel, of which less can
    be seen (fuzz.subjects.coarse); `execs` whether it makes the exec of execve_stack.
    So many batches may have begun `at_once`, and are taken in turn; `ready` whether that of the
    oldest one is mere taking, as far as the subject can know.
    Whoever sets `to_the_end` wants to know of `observe` also what comes of it when the
    address space goes; that takes longer.
    """

    name: str
    able: Abilities
    geometry: Geometry
    fields: frozenset[str] = frozenset()
    kernel_name: str = ""
    commit_limit: int | None = None
    emulated: bool = False
    execs: bool = False
    to_the_end: bool = False

    @property
    def at_once(self) -> int:
        """See above."""
        return 1

    @property
    def ready(self) -> bool:
        """See above."""
        return True

    @property
    def seconds(self) -> float:
        """How long it took to run all so far; 0 if it cannot tell."""
        return 0.0

    @abstractmethod
    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        """Run cases in order.  Yields: one observation a case, in the same order.

        An observation has the fields of the observation format but perhaps for `id` and `ops`;
        that of a case which the subject did not survive has `crash`, the reason, instead.  Cases
        may be taken some time before their observations are yielded.
        Errors raised: SubjectError if the subject cannot go on.
        """

    def begin(self, cases: Sequence[Case]) -> Iterator[Observation]:
        """Begin to run a few cases, and do not wait for them: other subjects may begin meanwhile.

        Yields: see `run`; what is found out of them afterwards is told by `late`.  All are to be
        taken before anything else is asked of it, but for as many more as it has `at_once`.
        Errors raised: see `run`.
        """
        return self.run(cases)

    def refusal(self, case: Case) -> str:
        """Why the case cannot be run here as it is, "" if it can."""
        if case.geometry not in (None, self.geometry.name):
            size = self.geometry.arena.length
            if not geometry_named(case.geometry).has_tables_of(self.geometry):
                return f"the case is for {case.geometry}"
            top = self.geometry.user_top - self.geometry.arena.start
            for call in case.calls:
                if call.name == EXEC and call.args[1] != top:
                    return f"a stack ends at {top:#x} and nowhere else"
                if call.name != EXEC and _reaches(call) > size:
                    return f"it has no {_beyond(size)}"
        return self.able_for(case).refusal(case)

    def able_for(self, case: Case) -> Abilities:
        """What it is able to do for a case: those for all of user space, where its stack is, may
        have an exec, if there is one.
        """
        if self.execs and case.geometry not in (None, self.geometry.name):
            return self.able._replace(calls=self.able.calls | {EXEC})
        return self.able

    @property
    def implementation(self) -> str:
        """What it is, with its version."""
        return self.name

    def obstacles(self) -> list[str]:
        """What of it is set up otherwise than the model, and how to change each; mostly []."""
        return []

    def observe(self, case: Case) -> Observation:
        """What one case shows; see `run`."""
        (found,) = self.run((case,))
        return found

    def late(self, *, last: bool = False) -> Iterator[tuple[Case, Observation]]:
        """What was found out of cases whose observations were yielded before.

        Arguments: `last` true: no more cases will come.
        Yields: case and complete observation, each once.
        Errors raised: see `run`.
        """
        del last
        yield from ()

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Let go of what it holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
