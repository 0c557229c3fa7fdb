"""What a mail is about: a case, what it shows on which kernels, and how much of that is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from engine.base.kernel import Kernel, base_of
from fuzz.case import Case
from fuzz.defects.attribute import Shown
from fuzz.defects.defect import Defect
from fuzz.defects.known import DEFECTS
from fuzz.export.danger import dangers
from fuzz.findings.bucket import Bucket
from fuzz.report.study import Study, study
from fuzz.showing import Showing, kernel_for, kernel_to_see, showing
from fuzz.subjects.against import of_machine

HYPOTHETICAL = "hypothetical"  # the defect that stands for what no kernel caller does


class MailError(Exception):
    """A case of which no mail is made; the message says why."""


class Standing(Enum):
    """How much is known, which is what the mark in the subject says."""

    KNOWN = "BUG"  # a released kernel has it
    HYPOTHETICAL = "RFC"  # no caller in the kernel comes to it
    OWN = "REVIEW"  # a kernel that no release is
    MACHINE = "QUESTION"  # a machine did otherwise than the model
    UNKNOWN = "UNCONFIRMED"  # the model says so
    NOTHING = "TEST"  # no rule is broken


@dataclass(frozen=True, eq=False)
class Matter:
    """A `case` on a `kernel`, and what it `shown` there.

    `bucket` is the finding that is told, None if nothing is broken; `studied` is what it shows on
    all releases; `danger` says how it is known to crash or hang one; `met` counts by name of the
    kernel how often runs have met it, `machines` how often machines did, by their names; `harm` is
    a case that shows what it leads to.
    """

    case: Case
    kernel: Kernel
    shown: Showing
    bucket: Bucket | None
    studied: Study
    danger: Sequence[str] = ()
    met: Mapping[str, int] = field(default_factory=dict)
    harm: Case | None = None
    machines: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def found(self) -> Shown | None:
        """What is broken, if that is the model's to say."""
        return next((one for one in self.shown.findings if one.bucket == self.bucket), None)

    @cached_property
    def defects(self) -> tuple[Defect, ...]:
        """The known defects that it is put down to."""
        ids = self.bucket.defect.split("+") if self.bucket and self.bucket.defect else ()
        return tuple(DEFECTS[id_] for id_ in ids if id_ in DEFECTS)

    @cached_property
    def standing(self) -> Standing:
        """How much is known."""
        if self.bucket is None:
            return Standing.NOTHING
        if self.case.hypothetical or any(one.id == HYPOTHETICAL for one in self.defects):
            return Standing.HYPOTHETICAL
        if self.defects:
            return Standing.KNOWN
        if of_machine(self.bucket):
            return Standing.MACHINE
        own = self.kernel.name != base_of(self.kernel.name)
        return Standing.OWN if own else Standing.UNKNOWN

    @property
    def shows_on(self) -> tuple[str, ...]:
        """The releases on which the program shows it."""
        return self.studied.shows_on(self.bucket.name) if self.bucket else ()


def matter(
    case: Case,
    kernel_name: str | None = None,
    bucket: Bucket | None = None,
    met: Mapping[str, int] | None = None,
    harm: Case | None = None,
    machines: Mapping[str, int] | None = None,
) -> Matter:
    """What a mail about a case is about.

    Arguments: `kernel_name` None: the last release that shows what the case is about; `bucket` the
    finding that it is kept as, None: what it shows; `met`, `harm` and `machines` see `Matter`.
    Errors raised: CaseError, UnknownName; MailError if the case does not show that finding.
    """
    kernel = kernel_to_see(case, kernel_name)
    if bucket is not None and case.kernel and kernel_name is None:
        kernel = kernel_for(case)
    shown = showing(case, kernel)
    wanted = bucket or shown.bucket
    studied = study(case, wanted.name if wanted else "")
    if kernel_name is None and kernel.name == base_of(kernel.name):
        if wanted is None:
            wanted = _anywhere(studied)
        on = studied.shows_on(wanted.name) if wanted else ()
        if on:
            kernel = kernel_for(case, on[-1])
            shown = showing(case, kernel)
    if wanted is not None and not (shown.shows(wanted) or of_machine(wanted) or case.like):
        raise MailError(f"{wanted.name} does not show on {kernel.name} any more")
    return Matter(
        case, kernel, shown, wanted, studied, dangers(case), met or {}, harm, machines or {}
    )


def _anywhere(studied: Study) -> Bucket | None:
    """What a case shows on the last release where it shows anything."""
    names = [group.findings[0] for group in studied.groups if group.findings]
    return Bucket.named(names[-1]) if names else None
