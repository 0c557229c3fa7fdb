"""Replay a case on every kernel it has an expectation for, and judge what it shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from engine.base.address import Range
from engine.base.kernel import Kernel, kernel_named
from engine.base.points import ENTER, STEPS, Point
from engine.base.violation import Violation
from engine.state.space import AddressSpace
from fuzz.calls.registry import DIRECTIVES
from fuzz.case import Call, Case, CaseError, Expectation, Result
from fuzz.defects.known import DEFECTS, Shown, shown
from fuzz.execute import Outcome, RulesAfter, execute
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import format_call, format_result
from fuzz.rules.catalogue import BY_SLUG, RULES
from fuzz.tell.draw import draw, draw_change

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
    `found` is "ok" or the slug of the broken rule, `defect` the id of the known defect that breaks
    it, or empty.
    """

    kernel: str
    geometry: str
    expected: str | None
    found: str
    defect: str = ""
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def ok(self) -> bool:
        """True if the expectation, if there is one, and every asserted result hold."""
        return not self.mismatches and self.expected in (None, self.found)

    def __str__(self) -> str:
        """One line."""
        found = f"{self.found} (known: {self.defect})" if self.defect else self.found
        if self.expected is None:
            what = f"{found} (the case expects nothing of this kernel)"
        elif self.expected == self.found:
            what = f"{found}, as expected"
        else:
            what = f"expected {self.expected}, found {found}"
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
    found = shown(outcome)
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
        found.bucket.rule if found else OK,
        found.bucket.defect if found else "",
        tuple(mismatches),
    )


class Witness:
    """Watches a run and draws the address space at the moments that explain its finding.

    `drawings` holds the state before the first call and after each, up to the finding's.  Of that
    call, `at_start` is the state when its last page-table move began, `at_violation` that of the
    first moment after the rule was broken, which may be gone when the call is over.  None: there
    was no such moment.
    """

    hears = STEPS

    def __init__(self, found: Shown | None) -> None:
        """`found` is the finding, known from an earlier run; None: there is none."""
        self.drawings: list[str] = []
        self.at_start: str | None = None
        self.at_violation: str | None = None
        self._found = found

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        found, now = self._found, len(self.drawings) - 1
        if found is None or now != found.call or self.at_violation is not None:
            return
        for violation in space.violations:
            if violation.rule == found.bucket.rule:
                self.at_violation = draw(space, where=violation.where)
                return
        if point.name == ENTER:
            self.at_start = draw(space)

    def step(self, index: int, space: AddressSpace) -> None:
        """See `on_step` of `execute`."""
        found = self._found
        if found is None or index < found.call:
            self.drawings.append(draw(space))
        elif index == found.call:
            self.drawings.append(draw(space, where=found.violation.where))


def story(case: Case, kernel: Kernel, *, colour: bool = False) -> str:
    """Every call with its result and what it changed, up to the one that shows the finding.

    A violation in the middle of a call is shown as it was then: the address space when the move
    began, and when the rule was broken.
    """
    outcome = execute(case, kernel, stop=False)
    found = shown(outcome)
    witness = Witness(found)
    execute(case, kernel, stop=False, listeners=[witness], on_step=witness.step)
    parts = []
    for number, (before, after) in enumerate(pairwise(witness.drawings)):
        parts.append(_told(case.calls[number], outcome.results[number], kernel))
        if found is not None and number == found.call and witness.at_violation is not None:
            if witness.at_start is not None:
                parts.append("when the move starts:")
                parts.append(draw_change(before, witness.at_start, colour=colour))
                before = witness.at_start
            parts.append(f"when {found.bucket.rule} is broken:")
            after = witness.at_violation
        changed = draw_change(before, after, colour=colour)
        parts.append(changed if after != before else "  (no change)")
    if found is not None:
        parts.append(f"violation: {in_arena(found.violation, kernel)}")
        if found.bucket.defect:
            parts.append(f"known: {found.bucket.defect}, {DEFECTS[found.bucket.defect].text}")
    return "\n".join(parts).lstrip("\n")


def describe(case: Case, kernel: Kernel, *, colour: bool = False) -> str:
    """The finding that a case shows: the rule in words, and the story.

    Errors raised: ValueError if the case shows none.
    """
    found = finding(case, kernel)
    if found is None:
        raise ValueError(f"no rule is broken on {kernel.name}")
    rule = BY_SLUG[found.rule]
    return f"{rule.id} {rule.slug}: {rule.statement}\n\n{story(case, kernel, colour=colour)}"


def in_arena(violation: Violation, kernel: Kernel) -> str:
    """A violation in one line, its place as arena offsets: the numbers that cases use."""
    start, end = (address - kernel.geometry.arena.start for address in violation.where)
    return str(Violation(violation.rule, Range(start, end), violation.found, violation.expected))


def _told(call: Call, result: Result, kernel: Kernel) -> str:
    return "\n" + format_call(call._replace(result=result), kernel.geometry.page_bytes)


def finding(case: Case, kernel: Kernel, rules_after: RulesAfter = "moving") -> Bucket | None:
    """The finding that a case shows, if any: what `pmdfuzz run` puts an input down to.

    Arguments: `rules_after` see `fuzz.execute.execute`.
    """
    found = shown(execute(case, kernel, stop=False, rules_after=rules_after))
    return found.bucket if found else None


def expecting(case: Case, kernel_names: Iterable[str]) -> Case:
    """The case, expecting on each of the kernels what it shows there now, and nothing else.

    Errors raised: UnknownName.
    """
    expects = []
    for name in dict.fromkeys(kernel_names):
        found = finding(case, kernel_for(case, name))
        expects.append(Expectation(name, found.rule if found else OK))
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
        calls.append(call._replace(result=None if call.name in DIRECTIVES else agreed))
    return case.with_calls(calls)
