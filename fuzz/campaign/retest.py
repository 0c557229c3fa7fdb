"""Do findings still show?  Each on the engine and the kernels as they are now.

A finding shows if its case shows it on the kernel that it was found on, or on another one that it
was met on.  What showed once and does no longer is fixed; what was fixed and shows is reopened.  A
machine is asked by `pmdfuzz check` alone: its findings stay as they are.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from engine.base.geometry import UnknownName
from engine.base.kernel import Kernel
from fuzz.bounded import Unjudged
from fuzz.case import Case, CaseError
from fuzz.findings.bucket import Bucket
from fuzz.findings.ledger import Finding, Ledger
from fuzz.findings.states import FIXED, REOPENED
from fuzz.rules.judge import RulesAfter
from fuzz.showing import kernel_for, showing
from fuzz.subjects.against import of_machine
from fuzz.subjects.pair import Pair

SHOWN, GONE, UNJUDGED = "shown", "gone", "not judged"
_WHEN: tuple[RulesAfter, ...] = ("moving", "last", "call")  # as the run may have been told


class Retest(NamedTuple):
    """What became of a finding: SHOWN, GONE or UNJUDGED; `why` it is so, if that is known.

    `change` is the state that it is in from now on, if that is another one.
    """

    bucket: Bucket
    outcome: str
    why: str = ""
    change: str | None = None

    def __str__(self) -> str:
        """One line; what is reopened is loud."""
        word = {FIXED: "fixed", REOPENED: "REOPENED"}.get(self.change or "", self.outcome)
        return f"{word:<10}  {self.bucket.name}{f': {self.why}' if self.why else ''}"


def retest_all(ledger: Ledger, program: str) -> Iterator[Retest]:
    """Retest all findings that have a case; their states are recorded as it goes on.

    Arguments: `program` is the fingerprint of this project; once all were asked, the ledger has it.
    Errors raised: LedgerError.
    """
    for finding in ledger.list():
        if finding.case is not None:
            done = retest(finding, finding.case)
            if done.change is not None:
                ledger.states.change(finding.bucket, done.change, done.why)
            yield done
    ledger.states.retested(program)


def retest(finding: Finding, case: Case) -> Retest:
    """See whether a finding that has this case still shows."""
    bucket = finding.bucket
    if of_machine(bucket):
        return Retest(bucket, UNJUDGED, "only a machine shows it")
    try:
        kernels = _kernels(finding, case)
        shown = any(_shows(bucket, case, kernel, when) for when in _WHEN for kernel in kernels)
    except (CaseError, UnknownName, Unjudged) as error:
        return Retest(bucket, UNJUDGED, str(error))
    if shown:
        return Retest(bucket, SHOWN, change=REOPENED if finding.state == FIXED else None)
    others = _others(case, kernels)
    why = f"its case shows {', '.join(others)} now" if others else ""
    return Retest(bucket, GONE, why, None if finding.state == FIXED else FIXED)


def summed_up(retests: Counter[str]) -> str:
    """How many there are of each, in a line.  Arguments: `retests` counts states and outcomes."""
    parts = [f"{retests[word]} {word}" for word in (SHOWN, GONE, UNJUDGED) if retests[word]]
    changed = [f"{retests[state]} {state}" for state in (REOPENED, FIXED) if retests[state]]
    told = f"; of these {', '.join(changed)}" if changed else ""
    return f"findings retested: {', '.join(parts) or 'none'}{told}"


def counted(retests: list[Retest]) -> Counter[str]:
    """For `summed_up`."""
    return Counter(word for one in retests for word in (one.outcome, one.change) if word)


def _kernels(finding: Finding, case: Case) -> list[Kernel]:
    """Its own kernel, then those that it was met on and that there still are.

    Errors raised: UnknownName if there is none.
    """
    own = kernel_for(case)
    others = []
    for name in finding.kernels if case.like is None else ():
        with contextlib.suppress(UnknownName):
            others.append(kernel_for(case, name))
    return [own, *(kernel for kernel in others if kernel != own)]


def _shows(bucket: Bucket, case: Case, kernel: Kernel, when: RulesAfter) -> bool:
    if case.like is not None:
        return Pair(kernel, kernel_for(case, case.like), when).bucket(case) == bucket
    return showing(case, kernel, when).shows(bucket)


def _others(case: Case, kernels: list[Kernel]) -> list[str]:
    """The names of the findings that a case shows."""
    if case.like is not None:
        return []
    found = {one.bucket.name for kernel in kernels for one in showing(case, kernel).findings}
    return sorted(found)
