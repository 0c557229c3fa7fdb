"""What a finding leads to that shows no harm itself: a program near its own, which does.

A minimal program has lost what would be harmed.  Here some of it is put back (`near`), until a
program breaks the same rule and then one whose severity is harm, which is put down to the same
defect, or is as unknown.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from engine.base.kernel import Kernel
from fuzz.case import Case
from fuzz.defects.attribute import Shown
from fuzz.defects.known import KNOWN, repaired
from fuzz.execute import Found
from fuzz.findings.bucket import Bucket
from fuzz.harm.near import Near
from fuzz.minimize.ranges import is_writable, to_calls, to_search_form
from fuzz.minimize.search import minimize
from fuzz.rules.index import BY_SLUG
from fuzz.rules.rule import HARM
from fuzz.showing import Showing, showing

BUDGET = 2_000  # executions: some seconds of CPU time, and as many again to minimize what is found

Shows = Callable[[Case, Kernel], Showing]


class Harm(NamedTuple):
    """A minimal program that does harm, what it breaks, and how many were run to find it."""

    case: Case
    bucket: Bucket
    runs: int


def is_harm(found: Found | Shown) -> bool:
    """Is the broken rule about harm?  Of a finding that is its worst one."""
    return BY_SLUG[found.violation.rule].severity is HARM


def look_for_harm(
    case: Case,
    finding: Bucket,
    kernel: Kernel,
    *,
    shows: Shows = showing,
    budget: int = BUDGET,
) -> Harm | None:
    """Look for harm near a minimal program.

    Arguments: `finding` is what `case` shows on `kernel`; `shows` what others show; `budget` how
    many may be run, and as many again to minimize what was found.

    Returns: the harm; None: none was found.
    Errors raised: what `shows` raises; ValueError if the case does not show the finding.
    """
    shown = shows(case, kernel)
    first = next((one for one in shown.findings if one.bucket == finding), None)
    if first is None:
        raise ValueError(f"the case does not show {finding.name}")
    if first.call >= len(shown.results):
        return None  # nothing comes behind a call that does not return
    ids = finding.defect.split("+")
    alone = repaired(kernel, [defect for defect in KNOWN if defect.id not in ids])
    header = replace(
        case,
        kernel=kernel.name,
        expects=(),
        assertions=(),
        comments=(f"What {finding.name} leads to.",),
    )

    def harm(program: Case) -> Bucket | None:
        """The harm that it does once it has broken the rule of the finding.

        What a failure hits that is asked for differs where another defect is repaired.  So only
        what the kernel does, too, that has no other defect is put down to this one.
        """
        for one in shows(program, kernel).findings:
            if one.bucket.defect == finding.defect:
                found = _behind(finding, one, program)
                if found and found in _broken(shows(program, alone)):
                    return found
        return None

    calls = to_search_form(case.program().calls)
    near = Near(calls, first.call, shown.results[first.call], kernel.geometry)
    tried = {calls}
    for program in islice(near.programs(), budget):
        if program in tried or not is_writable(program):
            continue
        tried.add(program)
        candidate = header.with_calls(to_calls(program))
        if (found := harm(candidate)) is not None:
            break
    else:
        return None
    small = minimize(candidate, lambda one: harm(one) == found, kernel.geometry, budget=budget)
    return Harm(small, found, len(tried) - 1)


def _behind(finding: Bucket, shown: Shown, case: Case) -> Bucket | None:
    """The first harm at or behind the call that breaks the rule of a finding."""
    named = [
        (Bucket.of(one.violation.rule, case.calls[one.call].name), one) for one in shown.broken
    ]
    begins = [one.call for bucket, one in named if bucket[:2] == finding[:2]]
    for bucket, one in named:
        if begins and one.call >= min(begins) and is_harm(one):
            return bucket
    return None


def _broken(shown: Showing) -> set[Bucket]:
    """All that a program breaks, whatever it is put down to."""
    calls = shown.case.calls
    return {Bucket.of(one.violation.rule, calls[one.call].name) for one in shown.violations}
