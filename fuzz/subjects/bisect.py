"""Which switches make the difference: a smallest set of them, between two kernels.

As delta debugging does with the changes between two versions of a program: of the switches that
are set otherwise on a kernel that shows something, those are kept without which another kernel,
on which they are set alike, does not show it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from engine.base.kernel import SWITCHES, Kernel, base_of, kernel_named, releases
from fuzz.case import Case, CaseError
from fuzz.defects.known import repaired
from fuzz.lib.smallest import smallest
from fuzz.showing import Showing, runs_of
from fuzz.subjects.pair import Pair, otherwise


class Cause(NamedTuple):
    """What makes a case show `what` on `kernel`, but not on `other`.

    `switches`: with these set as on `kernel`, and no fewer of them, the other shows it, too;
    `among` is how many the two have set otherwise.
    """

    what: str
    kernel: Kernel
    other: Kernel
    switches: tuple[str, ...]
    among: int

    @property
    def nearest(self) -> Kernel:
        """The other kernel with no more than these switches set as on `kernel`: it shows it."""
        return self.other.having({name: getattr(self.kernel, name) for name in self.switches})


def cause_beside(case: Case, kernel: Kernel, other: Kernel) -> Cause:
    """What makes a case differ on two kernels.

    Errors raised: CaseError if it does not, or if they are the same kernel.
    """
    found = Pair(kernel, other).parting(case)
    if found is None:
        raise CaseError(f"{kernel.name} does what {other.name} does: there is nothing to look for")

    def differs(candidate: Kernel) -> bool:
        if not otherwise(candidate, other):
            return False
        parting = Pair(candidate, other).parting(case)
        return parting is not None and (parting.kind, parting.call) == (found.kind, found.call)

    what = f"a difference in {found.what}, call {found.call + 1}"
    return _cause(what, kernel, other.on(kernel.geometry), differs)


def cause_of_finding(case: Case, kernel: Kernel) -> Cause | None:
    """What makes a case show its finding, beside the nearest kernel on which it does not.

    Returns: None if it shows it everywhere.
    Errors raised: CaseError if no rule is broken.
    """
    runs = runs_of(case)
    shown = Showing.of(runs, kernel).found
    if shown is None:
        raise CaseError(f"no rule is broken on {kernel.name}: name a kernel to compare it with")
    key = shown.call, shown.violation.rule

    def breaks(candidate: Kernel) -> bool:
        return key in runs.on(candidate).broken

    other = next((one for one in _near(kernel) if not breaks(one)), None)
    if other is None:
        return None
    what = f"{shown.violation.rule} broken by call {shown.call + 1}"
    return _cause(what, kernel, other, breaks)


def _cause(what: str, kernel: Kernel, other: Kernel, shows: Callable[[Kernel], bool]) -> Cause:
    changes = sorted(otherwise(kernel, other))

    def enough(names: Sequence[str]) -> bool:
        return shows(other.having({name: getattr(kernel, name) for name in names}))

    return Cause(what, kernel, other, tuple(smallest(changes, enough)), len(changes))


def _near(kernel: Kernel) -> Iterator[Kernel]:
    """Other kernels: its base, releases, itself with one switch turned over, its repaired twin."""
    base = kernel_named(base_of(kernel.name))
    known = releases()
    place = max(at for at, one in enumerate(known) if not otherwise(one, base))
    near = sorted(range(len(known)), key=lambda at: (abs(at - place), -at))  # newer ones first
    for one in (base, *(known[at] for at in near)):
        yield one.on(kernel.geometry)
    for name in SWITCHES:
        yield kernel.having({name: not getattr(kernel, name)})
    yield repaired(kernel)
