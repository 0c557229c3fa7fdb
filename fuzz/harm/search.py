"""What a finding leads to that shows no harm itself: a program near its own, which does.

A minimal program has lost what would be harmed.  Here some of it is put back (`near`), until a
program breaks the same rule and then one whose severity is harm.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

from engine.base.kernel import Kernel
from fuzz.case import Case
from fuzz.defects.attribute import Shown
from fuzz.defects.defect import Defect
from fuzz.defects.known import DEFECTS, repaired
from fuzz.execute import Found
from fuzz.findings.bucket import Bucket
from fuzz.harm.near import Near
from fuzz.minimize.ranges import is_writable, to_calls, to_search_form
from fuzz.minimize.search import minimize
from fuzz.rules.index import BY_SLUG
from fuzz.rules.judge import RulesAfter
from fuzz.rules.rule import HARM
from fuzz.showing import Showing, showing

BUDGET = 2_000  # executions: some seconds of CPU time, and as many again to minimize what is found

# What a program breaks that is due to a finding; nothing if it breaks no rule about harm.
Due = Callable[[Case], Sequence[Found]]


class Harm(NamedTuple):
    """A minimal program that does harm, what it does, and how many were run until it was found."""

    case: Case
    bucket: Bucket
    runs: int


def is_harm(found: Found | Shown) -> bool:
    """Is the broken rule about harm?"""
    return BY_SLUG[found.violation.rule].severity is HARM


def own_harm(shown: Showing, finding: Shown, due: Due) -> str | None:
    """The rule about harm that a finding breaks itself; None: it shows none.

    Arguments: see `look_for_harm`.
    """
    harmful = filter(is_harm, [finding] if is_harm(finding) else due(shown.case))
    return next((one.violation.rule for one in harmful), None)


def due_to(defect: str, kernel: Kernel, rules_after: RulesAfter = "moving") -> Due:
    """What is due to a known defect, or to what is unknown (empty).

    To a defect is due what the kernel breaks, but does not break once the defect is repaired; to
    what is unknown, what it breaks with all known defects repaired, too.
    Arguments: `defect` its id; several, if it takes all of them, are joined by `+`.
    """
    twin = kernel if defect else repaired(kernel)
    for id_ in filter(None, defect.split("+")):
        twin = DEFECTS[id_].repaired_on(twin)

    def due(case: Case) -> Sequence[Found]:
        shown = showing(case, kernel, rules_after).violations
        if not any(map(is_harm, shown)):
            return ()
        there = set(map(_key, showing(case, twin, rules_after).violations))
        return [found for found in shown if (_key(found) in there) is not bool(defect)]

    return due


def due_to_exhibit(exhibit: Defect) -> Due:
    """What is due to a bug of the museum: put back into a kernel without known defects."""
    correct = repaired(exhibit.correct)
    kernel = replace(correct, **exhibit.bug)  # type: ignore[arg-type]

    def due(case: Case) -> Sequence[Found]:
        shown = exhibit.execute(case, kernel, stop=False).violations
        if not any(map(is_harm, shown)):
            return ()
        there = set(map(_key, showing(case, correct).violations))
        return [found for found in shown if _key(found) not in there]

    return due


def _key(found: Found) -> tuple[int, str]:
    return found.call, found.violation.rule


def look_for_harm(shown: Showing, finding: Shown, due: Due, *, budget: int = BUDGET) -> Harm | None:
    """Look for harm near a minimal program.

    Arguments: `shown` is what it shows, and `finding` which of that is meant; `due` see `due_to`;
    `budget` is how many programs may be run, and as many again to minimize what was found.

    Returns: the harm; None: none was found.
    Errors raised: what `due` raises.
    """
    case = replace(
        shown.case,
        kernel=shown.kernel.name,
        expects=(),
        comments=(f"What {finding.bucket.name} leads to.",),
    )
    geometry = shown.kernel.geometry
    calls = to_search_form(case.calls)
    near = Near(calls, finding.call, shown.results[finding.call], geometry)
    first = (finding.violation.rule, calls[finding.call].name)

    def harm(candidate: Case) -> list[Bucket]:
        """The harm that it does once it has broken the rule of the finding."""
        found = due(candidate)
        named = [(one.violation.rule, candidate.calls[one.call].name) for one in found]
        begin = found[named.index(first)].call if first in named else len(candidate.calls)
        return [
            Bucket(*name)
            for one, name in zip(found, named, strict=True)
            if one.call >= begin and is_harm(one)
        ]

    tried = {calls}
    for runs, program in enumerate(islice(near.programs(), budget), 1):
        if program in tried or not is_writable(program):
            continue
        tried.add(program)
        candidate = case.with_calls(to_calls(program))
        if found := harm(candidate):
            same = partial(_does, harm, found[0])
            return Harm(minimize(candidate, same, geometry, budget=budget), found[0], runs)
    return None


def _does(harm: Callable[[Case], Sequence[Bucket]], bucket: Bucket, case: Case) -> bool:
    return bucket in harm(case)
