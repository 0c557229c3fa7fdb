"""What a case shows on a kernel: results, broken rules, its finding, and whether that is expected.

A run has a finding for all that no known defect explains, and one for each known defect that it
met (`fuzz.defects.attribute`); the first of them is what the run is called after.  With a bug that
was put back on purpose, what vanishes without it is the finding (`due`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple, Self

from engine.base.kernel import Kernel, base_of, kernel_named
from fuzz import bounded
from fuzz.asserted import Broken, broken
from fuzz.calls.registry import CALLS, why_skipped
from fuzz.case import WAITS, Call, Case, CaseError, Expectation, Result
from fuzz.defects.attribute import Runs, Shown, findings, shown_as
from fuzz.defects.defect import Change, Defect, changes_in_place
from fuzz.execute import Found, Outcome, execute
from fuzz.findings.bucket import Bucket
from fuzz.forms.results import format_result
from fuzz.forms.text import format_call
from fuzz.rules.index import RULES
from fuzz.rules.judge import RulesAfter

DEFAULT_KERNEL = "linux-6.18"
OK = "ok"
_KEPT = 8  # programs whose runs are remembered: callers ask of one again and again


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

    `results` are those of its calls that returned, `violations` all rules that it breaks, in order;
    `findings` what these are put down to: one for what is unknown, and one for each known defect
    that it met.
    """

    case: Case
    kernel: Kernel
    results: tuple[Result, ...]
    violations: tuple[Found, ...]
    findings: tuple[Shown, ...]

    @classmethod
    def of(cls, runs: Runs, kernel: Kernel) -> Self:
        """What the program of `runs` shows.

        Errors raised: CaseError for a call that the model does not know.
        """
        return cls(runs.case, kernel, *runs.on(kernel), findings(runs, kernel))

    @property
    def found(self) -> Shown | None:
        """The first of its findings: what is unknown, or else the known defect that is worst."""
        return self.findings[0] if self.findings else None

    def shows(self, bucket: Bucket) -> bool:
        """Is that one of its findings?"""
        return any(one.bucket == bucket for one in self.findings)

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
        returned = replace(self.case, calls=self.case.calls[: len(self.results)])
        return _broken(returned, self.kernel, changes_in_place())

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
        return f"{self.kernel.name} on {self.kernel.geometry.name}: {self.what}"

    @property
    def what(self) -> str:
        """What that line says of the kernel, without its name."""
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
        wrong = [*map(str, self.mismatches), *map(str, self.broken)]
        if not wrong or self.rule != OK or expected not in (None, OK):  # "ok" of a failure misleads
            wrong.insert(0, what)
        return "; ".join(wrong)


def showing(case: Case, kernel: Kernel, rules_after: RulesAfter = "moving") -> Showing:
    """What the case shows on the kernel, whose geometry counts.

    Like the kernel, a program goes on after a warning, so that what comes behind is seen, too.
    What ran a moment ago is not run again: callers may ask as often as they like.
    Arguments: `rules_after` see `fuzz.execute.execute`.
    Errors raised: CaseError for a call that the model does not know; Unjudged if rules or oracle
    take too long.
    """
    return replace(Showing.of(runs_of(case, rules_after), kernel), case=case)


def runs_of(case: Case, rules_after: RulesAfter = "moving") -> Runs:
    """What is known of a program's runs.  Arguments: `rules_after` see `fuzz.execute.execute`."""
    return _runs(case.program().calls, rules_after, changes_in_place())


@lru_cache(maxsize=_KEPT)
def _broken(case: Case, kernel: Kernel, _changes: tuple[Change, ...]) -> tuple[Broken, ...]:
    """What does not hold, of which callers ask several times: each would be a run."""
    return tuple(broken(case, kernel))


@lru_cache(maxsize=_KEPT)
def _runs(calls: tuple[Call, ...], rules_after: RulesAfter, _: tuple[Change, ...]) -> Runs:
    """Arguments: `_` what is changed in the engine, which then runs otherwise."""
    return Runs(Case(calls), partial(bounded.run, stop=False, rules_after=rules_after))


def due(outcome: Outcome, exhibit: Defect) -> Shown | None:
    """What a run with a bug (`Defect.execute`) shows that vanishes when the bug is taken out.

    It is called after the rule that must catch the bug, if that is among what is broken.
    """
    if not outcome.violations:
        return None
    case = outcome.case
    without = runs_of(case).on(exhibit.correct.on(outcome.kernel.geometry)).broken
    left = [found for found in outcome.violations if found.key not in without]
    named = [found for found in left if found.violation.rule == exhibit.rule]
    return shown_as(case, named or left) if left else None


def caught(case: Case, exhibit: Defect) -> bool:
    """Does the case show the bug: is the exhibit's rule broken, and not without the bug?"""
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
    expected = expectations(case)
    if base == name or expected.get(name) or expected.get(base):
        return case
    return replace(annotated(expecting(case, [base]), [base]), assertions=())


def _refuse_skipped(shown: Showing) -> None:
    """A hand-written call that cannot run is a mistake; in what a run has found it is no news.

    Errors raised: CaseError.
    """
    geometry = shown.kernel.geometry
    for number, (call, result) in enumerate(zip(shown.case.calls, shown.results, strict=False), 1):
        if result not in ("SKIP", WAITS) or shown.case.found:
            continue
        if call.asserted(shown.kernel.name) == result:
            continue
        told = format_call(call._replace(result=None), geometry.page_bytes)
        if result == WAITS:
            lock = why_waits(shown.case, shown.kernel, number - 1)
            why = f"cannot run on {shown.kernel.name}: it would wait for {lock}"
        else:
            why = why_skipped(geometry, call)
        raise CaseError(
            f"call {number}, {told}, {why}; change it, or assert that it is not run with = {result}"
        )


def why_waits(case: Case, kernel: Kernel, index: int) -> str:
    """The lock for which somebody would wait who is to come in between, as a call says."""
    return execute(case, kernel, stop=False, check=False).waits[index]


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


def expecting_at_edges(case: Case, first: str, names: Sequence[str]) -> Case:
    """The case, expecting on a kernel what it shows there, and on others, too.

    Of kernels side by side that show the same, only the first and the last are named.
    Errors raised: UnknownName.
    """
    told = {one.kernel: one for one in expecting(case, [first, *names]).expects}
    outcomes = [told[name].outcome for name in names]
    sides = zip(names, outcomes, [None, *outcomes], [*outcomes[1:], None], strict=False)
    edges = [name for name, here, before, after in sides if not before == here == after]
    return replace(case, expects=tuple(told[name] for name in dict.fromkeys([first, *edges])))


def annotated(case: Case, kernel_names: Iterable[str]) -> Case:
    """The case, its calls asserting the results in which all of the kernels agree.

    Errors raised: UnknownName.
    """
    runs = [showing(case, kernel_for(case, name)).results for name in kernel_names]
    calls = []
    for index, call in enumerate(case.calls):
        results = {run[index] if index < len(run) else None for run in runs}  # None: no return
        agreed = results.pop() if len(results) == 1 else None
        silent = CALLS[call.name].is_directive and CALLS[call.name].base is None
        calls.append(call._replace(result=None if silent else agreed))
    return replace(case, calls=tuple(calls))
