"""What a case shows on a kernel: results, broken rules, its finding, and whether that is expected.

The finding of a run is one of its violations: on a kernel as it was released, the first one that no
known defect explains (`Showing.found`); on one with a bug put back on purpose, the first one that
the kernel without the bug does not show (`due`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, Self

from engine.base.kernel import Kernel, base_of, kernel_named
from engine.base.violation import Violation
from fuzz.asserted import Broken, broken
from fuzz.calls.registry import DIRECTIVES, why_skipped
from fuzz.case import Call, Case, CaseError, Expectation, Result
from fuzz.defects.exhibit import Change, Exhibit, changes_in_place
from fuzz.defects.known import known_defect
from fuzz.execute import Found, Outcome, execute
from fuzz.findings.bucket import Bucket
from fuzz.forms.results import format_result
from fuzz.forms.text import format_call
from fuzz.rules.index import RULES
from fuzz.rules.judge import RulesAfter

DEFAULT_KERNEL = "linux-6.18"
OK = "ok"
_KEPT = 64  # runs that are remembered: more than there are kernels that one case is run on


class Shown(NamedTuple):
    """The finding of a run: the index of the call at which it was noticed, and the violation."""

    bucket: Bucket
    call: int
    violation: Violation


class Mismatch(NamedTuple):
    """A call whose result is not the one the case asserts; calls count from 1."""

    number: int
    call: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"call {self.number}: {self.call} = {self.got}, expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Showing:
    """What a case shows on a kernel.

    `results` are those of its calls that returned, `violations` all rules that it breaks, in order.
    """

    case: Case
    kernel: Kernel
    results: tuple[Result, ...]
    violations: tuple[Found, ...]

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """What a run has shown that went on behind violations (`stop=False`)."""
        results, violations = tuple(outcome.results), tuple(outcome.violations)
        return cls(outcome.case, outcome.kernel, results, violations)

    @property
    def found(self) -> Shown | None:
        """The finding: the first violation that is no known defect, or else the first of all.

        A state that a known defect has left stays as it is: what the same rule finds later in the
        program is put down to that defect, too.
        """
        first: Shown | None = None
        passed_over: Shown | None = None
        excused: set[str] = set()
        for index, violation in self.violations:
            call, rule = self.case.calls[index], violation.rule
            known = known_defect(rule, call, self.kernel)
            if known is not None:
                excused |= {rule, *known.spoils}
                found = Shown(Bucket(rule, call.name, known.id), index, violation)
                if known.everywhere:
                    passed_over = passed_over or found
                else:
                    first = first or found
                if known.wrecks:
                    break
            elif rule not in excused:
                return Shown(Bucket(rule, call.name), index, violation)
        return first or passed_over

    @property
    def bucket(self) -> Bucket | None:
        """What `pmdfuzz run` puts it down to."""
        found = self.found
        return found.bucket if found else None

    @property
    def rule(self) -> str:
        """The slug of the rule that its finding breaks, or "ok"."""
        bucket = self.bucket
        return bucket.rule if bucket else OK

    @property
    def expected(self) -> str | None:
        """What `rule` should be; None: the case says nothing of this kernel.

        Of a kernel of one's own, which cases do not know, it says what it does of its base.
        Errors raised: CaseError, see `expectations`.
        """
        expected, name = expectations(self.case), self.kernel.name
        return expected.get(name, expected.get(base_of(name)))

    @property
    def mismatches(self) -> tuple[Mismatch, ...]:
        """The calls whose results are not what the case asserts."""
        page_bytes = self.kernel.geometry.page_bytes
        returned = zip(self.case.calls, self.results, strict=False)
        return tuple(
            Mismatch(
                number,
                format_call(call._replace(result=None), page_bytes),
                format_result(asserted, page_bytes),
                format_result(got, page_bytes),
            )
            for number, (call, got) in enumerate(returned, 1)
            if (asserted := call.asserted(self.kernel.name)) is not None and got != asserted
        )

    @property
    def broken(self) -> tuple[Broken, ...]:
        """What the case asserts of the state between its calls, and does not hold."""
        return tuple(broken(self.case, self.kernel))

    @property
    def as_expected(self) -> bool:
        """True if the expectation, if there is one, and everything that is asserted hold."""
        return not self.mismatches and not self.broken and self.expected in (None, self.rule)

    @property
    def surprises(self) -> bool:
        """True if something is not as expected, or a rule breaks of which the case says nothing."""
        return not self.as_expected or (self.expected is None and self.rule != OK)

    def __str__(self) -> str:
        """One line."""
        bucket, expected = self.bucket, self.expected
        found = self.rule
        if bucket and bucket.defect:
            found += f" (known: {bucket.defect})"
        if expected is None:
            what = f"{found} (the case expects nothing of this kernel)"
        elif expected == self.rule:
            what = f"{found}, as expected"
        else:
            what = f"expected {expected}, found {found}"
        parts = [what, *map(str, self.mismatches), *map(str, self.broken)]
        return f"{self.kernel.name} on {self.kernel.geometry.name}: {'; '.join(parts)}"


class _Ran(NamedTuple):
    """What is remembered of a run.  It is not judged yet, and the address space is let go."""

    results: tuple[Result, ...]
    violations: tuple[Found, ...]


def showing(case: Case, kernel: Kernel, rules_after: RulesAfter = "moving") -> Showing:
    """What the case shows on the kernel, whose geometry counts.

    Like the kernel, a program goes on after a warning, so that what comes behind is seen, too.
    What ran a moment ago is not run again: callers may ask as often as they like.
    Arguments: `rules_after` see `fuzz.execute.execute`.
    Errors raised: CaseError for a call that the model does not know.
    """
    ran = _ran(case.program().calls, kernel, rules_after, changes_in_place())
    return Showing(case, kernel, *ran)


@lru_cache(maxsize=_KEPT)
def _ran(
    calls: tuple[Call, ...], kernel: Kernel, rules_after: RulesAfter, _: tuple[Change, ...]
) -> _Ran:
    """Run a program.  Arguments: `_` what is changed in the engine, which then runs otherwise."""
    outcome = execute(Case(calls), kernel, stop=False, rules_after=rules_after)
    return _Ran(tuple(outcome.results), tuple(outcome.violations))


def due(outcome: Outcome, exhibit: Exhibit) -> Shown | None:
    """The first violation of a run with a bug (`Exhibit.execute`) that is due to the bug.

    What the same call of the same program shows without the bug is not.  One call may break
    several rules: the exhibit's own comes first then.
    """
    if not outcome.violations:
        return None
    case = outcome.case
    without = showing(case, exhibit.correct.on(outcome.kernel.geometry))
    open_defects = {(index, violation.rule) for index, violation in without.violations}
    found = [f for f in outcome.violations if (f.call, f.violation.rule) not in open_defects]
    if not found:
        return None
    same_call = (f for f in found if f.call == found[0].call and f.violation.rule == exhibit.rule)
    index, violation = next(same_call, found[0])
    return Shown(Bucket(violation.rule, case.calls[index].name), index, violation)


def caught(case: Case, exhibit: Exhibit) -> bool:
    """Does the case show the bug: does the first call that breaks a rule break the exhibit's?"""
    found = due(exhibit.execute(case, stop=False), exhibit)
    return found is not None and found.bucket.rule == exhibit.rule


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


def kernel_to_see(case: Case, name: str | None = None) -> Kernel:
    """The kernel of that name; None: the first on which the case expects a broken rule, if any.

    Errors raised: CaseError, UnknownName.
    """
    expected = expectations(case)
    broken = [name for name, outcome in expected.items() if outcome not in (None, OK)]
    return kernel_for(case, name or next(iter(broken or expected)))


def replay(case: Case, kernel_names: Sequence[str] | None = None) -> list[Showing]:
    """What the case shows on each of the kernels; None: on each it has an expectation for.

    A kernel of one's own is to do what the case says of its base, or else what that does.
    Errors raised: CaseError, UnknownName.
    """
    expected = expectations(case)
    names = expected if kernel_names is None else kernel_names
    shown = []
    for kernel in [kernel_for(case, name) for name in names]:
        shown.append(showing(_as_on_its_base(case, kernel.name), kernel))
        _refuse_skipped(shown[-1])
    return shown


def _as_on_its_base(case: Case, name: str) -> Case:
    """The case; if it is about other kernels, expecting of one's own what its base does."""
    base = base_of(name)
    if base == name or {name, base} & expectations(case).keys():
        return case
    return replace(annotated(expecting(case, [base]), [base]), assertions=())


def _refuse_skipped(shown: Showing) -> None:
    """A hand-written call that cannot run is a mistake; in what a run has found it is no news.

    Errors raised: CaseError.
    """
    geometry = shown.kernel.geometry
    for number, (call, result) in enumerate(zip(shown.case.calls, shown.results, strict=False), 1):
        if result == "SKIP" and call.asserted(shown.kernel.name) != "SKIP" and not shown.case.found:
            told = format_call(call._replace(result=None), geometry.page_bytes)
            raise CaseError(
                f"call {number}, {told}, {why_skipped(geometry, call)}; "
                f"change it, or assert that it is not run with = SKIP"
            )


def expecting(case: Case, kernel_names: Iterable[str]) -> Case:
    """The case, expecting on each of the kernels what it shows there now, and nothing else.

    Errors raised: UnknownName.
    """
    return replace(
        case,
        expects=tuple(
            Expectation(name, showing(case, kernel_for(case, name)).rule)
            for name in dict.fromkeys(kernel_names)
        ),
    )


def annotated(case: Case, kernel_names: Iterable[str]) -> Case:
    """The case, its calls asserting the results in which all of the kernels agree.

    Errors raised: UnknownName.
    """
    runs = [showing(case, kernel_for(case, name)).results for name in kernel_names]
    calls = []
    for index, call in enumerate(case.calls):
        results = {run[index] if index < len(run) else None for run in runs}  # None: no return
        agreed = results.pop() if len(results) == 1 else None
        calls.append(call._replace(result=None if call.name in DIRECTIVES else agreed))
    return replace(case, calls=tuple(calls))
