"""What a case shows on a kernel, and what it ought to show: the model of the kernel, and its twin.

The twin is the kernel without the known defects that the case meets; of a kernel of one's own, or a
case that is to be as another kernel has it, that kernel.  Of what nobody can explain there is none.
"""

from dataclasses import dataclass
from functools import cached_property

from engine.base.kernel import Kernel, base_of
from fuzz.bounded import run
from fuzz.case import Case, Result
from fuzz.defects.defect import Defect
from fuzz.defects.known import DEFECTS, repaired
from fuzz.execute import Outcome
from fuzz.showing import Showing, kernel_for, kernel_to_see, showing
from fuzz.subjects.contents import contents
from fuzz.subjects.extended import extended
from fuzz.subjects.observe import compared
from fuzz.subjects.subject import Observation

# Fields of an observation that count for all processes.
OF_THE_SYSTEM = ("committed_pages", "used_huge", "reserved_huge")


@dataclass(frozen=True, eq=False)
class Shown:
    """What a case shows on a `kernel`, in a program that is short of memory as a machine is."""

    case: Case
    kernel: Kernel

    @cached_property
    def outcome(self) -> Outcome:
        """The run."""
        return run(self.case.program(), self.kernel, stop=False, check=False, shortages_last=True)

    @cached_property
    def observation(self) -> Observation:
        """What can be seen of it; see `fuzz.subjects.observe`."""
        # Leaves the address space empty if pages lie outside of every VMA.
        _ = self.contents
        return compared(self.outcome, more=True)

    @cached_property
    def contents(self) -> list[list[int]]:
        """[first page, pages, first number] of the pages that are not all zero."""
        return [] if self.outcome.ending else contents(self.outcome.space)

    @cached_property
    def left(self) -> dict[str, object]:
        """What the system still counts once all is unmapped: see `fuzz.subjects.extended`."""
        _ = self.observation
        space = self.outcome.space
        space.unmap(space.arena.start, space.arena.end)
        return extended(space)

    @property
    def results(self) -> list[Result]:
        """Those of its calls."""
        return self.outcome.results


@dataclass(frozen=True, eq=False)
class Twins:
    """A `case` on a `kernel`: what it `found` there, is `shown`, and ought to be (`right`).

    `right` is None if nothing is wrong, or nobody knows of a kernel that does it right; `defects`
    are the known ones that it met.
    """

    case: Case
    kernel: Kernel
    found: Showing
    defects: tuple[Defect, ...]
    shown: Shown
    right: Shown | None

    @property
    def comparable(self) -> bool:
        """Do all calls return, on both?"""
        sides = filter(None, (self.shown, self.right))
        return all("crash" not in one.observation for one in sides)

    @property
    def loses(self) -> bool:
        """Does the system lose something by it, for good?"""
        if self.right is None or not self.comparable:
            return False
        shown, right = self.shown.left, self.right.left
        return any(shown[name] != right[name] for name in OF_THE_SYSTEM)


def twins(case: Case, kernel_name: str | None = None) -> Twins:
    """A case on a kernel and on its twin.

    Arguments: `kernel_name` None: the first on which the case expects a broken rule, or its own.
    Errors raised: CaseError, UnknownName.
    """
    kernel = kernel_to_see(case, kernel_name)
    found = showing(case, kernel)
    ids = [id_ for one in found.findings for id_ in one.bucket.defect.split("+") if id_]
    defects = tuple(DEFECTS[id_] for id_ in dict.fromkeys(ids))
    twin = _twin(case, kernel, found, defects)
    right = None if twin is None else Shown(case, twin)
    return Twins(case, kernel, found, defects, Shown(case, kernel), right)


def _twin(case: Case, kernel: Kernel, found: Showing, defects: tuple[Defect, ...]) -> Kernel | None:
    """The kernel that does it right, if anything is wrong."""
    if case.like is not None:
        return kernel_for(case, case.like)
    if all(one.bucket.defect for one in found.findings):
        return repaired(kernel, defects) if defects else None
    base = base_of(kernel.name)
    return kernel_for(case, base) if base != kernel.name else None
