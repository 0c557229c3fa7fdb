"""What a page says of a case, as plain data: what it breaks and where, and on which kernels.

Finding that out means running the case on all releases, so it is done once (`fuzz.report.studies`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from engine.base.geometry import UnknownName
from engine.base.kernel import Kernel, releases
from engine.state import terms
from fuzz.bounded import Unjudged
from fuzz.case import Case, CaseError
from fuzz.defects.attribute import Shown, findings_on
from fuzz.forms.text import format_call
from fuzz.matrix import Matrix
from fuzz.showing import Showing, kernel_for, runs_of, showing


@dataclass(frozen=True, slots=True)
class Line:
    """A call as it is written, with its result on the kernel; does it break a rule?"""

    text: str
    breaks: bool


@dataclass(frozen=True, slots=True)
class Break:
    """A rule that is broken, first at that call (they count from 1); `told` says where and how.

    `defect` is the known one that it is put down to; empty: unknown.
    """

    rule: str
    call: int
    told: str
    defect: str


@dataclass(frozen=True, slots=True)
class Group:
    """Releases on which a case shows the same `findings`, by name; none: no rule is broken."""

    kernels: tuple[str, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """What a case shows on a kernel, and on all releases.

    `trouble` is why it could not be run, if so; then the rest is empty.
    """

    kernel: str
    geometry: str
    program: tuple[Line, ...] = ()
    breaks: tuple[Break, ...] = ()
    groups: tuple[Group, ...] = ()
    trouble: str = ""

    def shows_on(self, name: str) -> tuple[str, ...]:
        """The releases on which it shows the finding of that name."""
        return tuple(
            one for group in self.groups if name in group.findings for one in group.kernels
        )


def study(case: Case, name: str) -> Study:
    """Run a case wherever that tells something.

    Arguments: `name` of the finding; the case is looked at on its own kernel or, if it does not
    show it there, on the first release where it does.
    """
    try:
        own = kernel_for(case)
    except UnknownName as error:
        return Study(case.kernel or "", case.geometry or "", trouble=str(error))
    try:
        return _study(case, own, name)
    except (CaseError, Unjudged) as error:
        return Study(own.name, own.geometry.name, trouble=str(error))


def _study(case: Case, own: Kernel, name: str) -> Study:
    groups = _groups(case, own)
    shown = showing(case, own)
    elsewhere = next((one.kernels[0] for one in groups if name in one.findings), None)
    if elsewhere is not None and not any(one.bucket.name == name for one in shown.findings):
        shown = showing(case, kernel_for(case, elsewhere))
    kernel = shown.kernel
    return Study(
        kernel=kernel.name,
        geometry=kernel.geometry.name,
        program=tuple(_program(shown)),
        breaks=tuple(_breaks(shown)),
        groups=groups,
    )


def _groups(case: Case, own: Kernel) -> tuple[Group, ...]:
    """What the case shows on each release with the page tables of `own`, those alike together."""
    matrix = Matrix([kernel.on(own.geometry) for kernel in releases()])
    runs = runs_of(case)
    told: dict[tuple[str, ...], int] = {}
    left = matrix.all
    for alike in runs.each(matrix):
        for some, shown in findings_on(runs, matrix, alike):
            told[_names(shown)] = told.get(_names(shown), 0) | some
            left &= ~some
    if left:
        told[()] = left
    firsts = sorted(told.items(), key=lambda one: one[1] & -one[1])
    return tuple(
        Group(tuple(kernel.name for kernel in matrix.members(some)), names)
        for names, some in firsts
    )


def _names(shown: Iterable[Shown]) -> tuple[str, ...]:
    return tuple(one.bucket.name for one in shown)


def _program(shown: Showing) -> Iterable[Line]:
    """The calls with their results; one that does not return has none."""
    page_bytes = shown.kernel.geometry.page_bytes
    broken = {found.call for found in shown.violations}
    results = dict(enumerate(shown.results))
    for number, call in enumerate(shown.case.calls):
        text = format_call(call._replace(result=results.get(number)), page_bytes)
        yield Line(text, number in broken)


def _breaks(shown: Showing) -> Iterable[Break]:
    """Each rule that is broken, once for each thing that it is put down to."""
    for one in shown.findings:
        rules = set()
        for found in one.broken:
            rule = found.violation.rule
            if rule not in rules:
                rules.add(rule)
                told = terms.violation(shown.kernel.geometry, found.violation)
                yield Break(rule, found.call + 1, told, one.bucket.defect)
