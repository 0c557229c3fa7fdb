"""Replay a case on every kernel it has an expectation for, and judge what it shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine.address import Range
from engine.draw import draw, draw_change
from engine.kernel import Kernel, kernel_named
from engine.move import Move
from engine.observer import ENTER
from engine.rules import RULES
from engine.space import AddressSpace
from engine.violation import Violation
from fuzz.case import Call, Case, CaseError, Expectation, Result
from fuzz.execute import Found, Outcome, execute
from fuzz.text import format_call, format_result

DEFAULT_KERNEL = "linux-6.18"
OK = "ok"


class Mismatch(NamedTuple):
    """A call whose result is not the one the case asserts; calls count from 1."""

    number: int
    call: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"call {self.number}: {self.call} = {self.got}, the case says {self.expected}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What replaying a case on one kernel showed.

    `expected` is "ok", the slug of a rule, or None where the case says nothing of this kernel;
    `found` is "ok" or the slug of the first violation's rule.
    """

    kernel: str
    geometry: str
    expected: str | None
    found: str
    violation: Found | None = None
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def ok(self) -> bool:
        """True if the expectation, if there is one, and every asserted result hold."""
        return not self.mismatches and self.expected in (None, self.found)

    def __str__(self) -> str:
        """One line."""
        if self.expected is None:
            what = f"{self.found} (the case expects nothing of this kernel)"
        elif self.expected == self.found:
            what = f"{self.found}, as expected"
        else:
            what = f"expected {self.expected}, found {self.found}"
        parts = [what, *map(str, self.mismatches)]
        return f"{self.kernel} on {self.geometry}: {'; '.join(parts)}"


def expectations(case: Case) -> dict[str, str | None]:
    """What the case expects ("ok", a rule, None: nothing) by name of the kernel to replay it on.

    An expectation that names no kernel is one of the case's own kernel.  A case without any
    expectation runs on its own kernel.
    Errors raised: CaseError on a rule that does not exist, or two that contradict each other.
    """
    known = [OK, *(rule.slug for rule in RULES)]
    own = case.kernel or DEFAULT_KERNEL
    expected: dict[str, str | None] = {}
    for expectation in case.expects:
        if expectation.outcome not in known:
            raise CaseError(
                f"@expect: unknown rule {expectation.outcome!r}; known: {', '.join(known)}"
            )
        kernel = expectation.kernel or own
        if expected.setdefault(kernel, expectation.outcome) != expectation.outcome:
            raise CaseError(
                f"@expect: {kernel} is to give both {expected[kernel]} and {expectation.outcome}"
            )
    return expected or {own: None}


def kernel_for(case: Case, name: str | None = None) -> Kernel:
    """The kernel of that name (None: the case's own) on the case's geometry.

    Errors raised: UnknownName.
    """
    return kernel_named(name or case.kernel or DEFAULT_KERNEL, case.geometry)


def replay(case: Case, kernel_names: Sequence[str] | None = None) -> list[Verdict]:
    """Run the case on each of the kernels; None: on each it has an expectation for.

    Like the kernel, a replay goes on after a warning, so that every asserted result is checked.
    Errors raised: CaseError, UnknownName.
    """
    expected = expectations(case)
    names = list(expected) if kernel_names is None else kernel_names
    kernels = [kernel_for(case, name) for name in names]
    return [_judge(case, kernel, expected.get(kernel.name)) for kernel in kernels]


def _refuse_skipped(case: Case, outcome: Outcome, page_bytes: int) -> None:
    """A hand-written call that cannot run is a mistake; in what a run has found it is no news.

    Errors raised: CaseError.
    """
    for number, (call, result) in enumerate(zip(case.calls, outcome.results, strict=False)):
        if result == "SKIP" and call.result != "SKIP" and not case.found:
            shown = format_call(call._replace(result=None), page_bytes)
            raise CaseError(
                f"call {number + 1}, {shown}, reaches outside the arena of "
                f"{outcome.space.arena.length:#x} bytes, or fills too many pages; keep it inside, "
                f"or assert that it is not run with = SKIP"
            )


def _judge(case: Case, kernel: Kernel, expected: str | None) -> Verdict:
    outcome = execute(case, kernel, stop=False)
    page_bytes = kernel.geometry.page_bytes
    first = outcome.violations[0] if outcome.violations else None
    _refuse_skipped(case, outcome, page_bytes)
    mismatches = []
    for number, call in enumerate(case.calls):
        if call.result is None:
            continue
        got = outcome.results[number]
        if got != call.result:
            mismatches.append(
                Mismatch(
                    number + 1,
                    format_call(call._replace(result=None), page_bytes),
                    format_result(call.result, page_bytes),
                    format_result(got, page_bytes),
                )
            )
    return Verdict(
        kernel.name,
        kernel.geometry.name,
        expected,
        first.violation.rule if first else OK,
        first,
        tuple(mismatches),
    )


class Witness:
    """Watches a call and draws the address space at the moments that explain a violation.

    An observer for `execute`.  `at_start` is the drawing of the last page-table move as it began;
    `at_violation` that of the first moment after a rule was broken, which may be gone when the
    call is over.  None: there was no such moment.
    """

    def __init__(self) -> None:
        self.at_start: str | None = None
        self.at_violation: str | None = None

    def __call__(self, point: str, move: Move, extent: int) -> None:
        """See engine.observer."""
        space = move.space
        if self.at_violation is not None:
            return
        if space.violations:
            self.at_violation = draw(space, where=space.violations[0].where)
        elif point == ENTER:
            self.at_start = draw(space)


def story(case: Case, kernel: Kernel, *, colour: bool = False) -> str:
    """Every call with its result and what it changed, up to the first violation.

    A violation in the middle of a call is shown as it was then: the address space when the move
    began, and when the rule was broken.
    """
    witness = Witness()
    drawings: list[str] = []

    def on_step(_: int, space: AddressSpace) -> None:
        drawings.append(draw(space))
        if witness.at_violation is None:
            witness.at_start = None  # a move of a call that is over

    outcome = execute(case, kernel, observer=witness, on_step=on_step)
    first = outcome.violations[0] if outcome.violations else None
    parts = []
    for number, result in enumerate(outcome.results):
        parts.append(_told(case.calls[number], result, kernel))
        before, after = drawings[number : number + 2]
        if first is not None and number == first.call and witness.at_violation is not None:
            if witness.at_start is not None:
                parts.append("when the move starts:")
                parts.append(draw_change(before, witness.at_start, colour=colour))
                before = witness.at_start
            parts.append(f"when {first.violation.rule} is broken:")
            after = witness.at_violation
        elif first is not None and number == first.call:
            after = draw(outcome.space, where=first.violation.where)
        changed = draw_change(before, after, colour=colour)
        parts.append(changed if after != before else "  (no change)")
    if first is not None:
        parts.append(f"violation: {in_arena(first.violation, kernel)}")
    return "\n".join(parts).lstrip("\n")


def in_arena(violation: Violation, kernel: Kernel) -> str:
    """A violation in one line, its place as arena offsets: the numbers that cases use."""
    start, end = (address - kernel.geometry.arena.start for address in violation.where)
    return str(Violation(violation.rule, Range(start, end), violation.found, violation.expected))


def _told(call: Call, result: Result, kernel: Kernel) -> str:
    return "\n" + format_call(call._replace(result=result), kernel.geometry.page_bytes)


def first_violation(case: Case, kernel: Kernel) -> tuple[str, str] | None:
    """The finding a case shows: rule and name of the call of its first violation, if any."""
    outcome = execute(case, kernel)
    if not outcome.violations:
        return None
    first = outcome.violations[0]
    return first.violation.rule, case.calls[first.call].name


def expecting(case: Case, kernel_names: Iterable[str]) -> Case:
    """The case, expecting on each of the kernels what it shows there now, and nothing else.

    Errors raised: UnknownName.
    """
    expects = []
    for name in dict.fromkeys(kernel_names):
        finding = first_violation(case, kernel_for(case, name))
        expects.append(Expectation(name, finding[0] if finding else OK))
    return replace(case, expects=tuple(expects))


def annotated(case: Case, kernel_names: Iterable[str]) -> Case:
    """The case, its calls asserting the results in which all of the kernels agree.

    Errors raised: UnknownName.
    """
    runs = [execute(case, kernel_for(case, name), stop=False).results for name in kernel_names]
    calls = []
    for number, call in enumerate(case.calls):
        results = {run[number] if number < len(run) else None for run in runs}
        agreed = results.pop() if len(results) == 1 else None
        calls.append(call._replace(result=agreed))
    return case.with_calls(calls)
