"""Makes a case as simple as it can be while it still shows the same finding.

The search is a list of passes (`fuzz.minimize.passes`) that make candidates out of the best case so
far.  Every candidate goes through one gate, `Search.consider`, which asks the predicate only about
candidates that are strictly simpler than the best (`fuzz.minimize.simplicity`) and were never asked
about before.  So the search ends, and equal inputs give equal results.
"""

from collections.abc import Callable

from engine.base.geometry import Geometry
from fuzz.case import Case
from fuzz.minimize.passes import PASSES
from fuzz.minimize.ranges import Program, is_writable, to_calls, to_search_form
from fuzz.minimize.simplicity import rank


def minimize(
    case: Case,
    same: Callable[[Case], bool],
    geometry: Geometry,
    *,
    budget: int = 5000,
    progress: Callable[[Case, int], None] | None = None,
) -> Case:
    """The simplest case found that still shows the finding of `case`.

    Arguments: `same` says whether a candidate shows the same finding; it must answer alike for
    equal cases.  `geometry` gives the boundaries to try.  `budget` is how many candidates may be
    run, the case itself included.  `progress` is called with every simpler case found and the
    runs so far; after Ctrl-C, which passes through, the last of them is the best there was.

    Returns: a case with the header of `case` and without asserted results.  If the budget lasts,
    leaving out any one of its calls loses the finding.
    Errors raised: ValueError if `case` does not show the finding, or for a budget below 1.
    """
    if budget < 1:
        raise ValueError(f"budget {budget}: one run at least is needed")
    search = Search(case, same, geometry, budget, progress)
    if not same(search.case()):
        raise ValueError("the case to minimize does not show the finding")
    search.run()
    return search.case()


class Search:
    """The best program so far, and the gate that candidates for its place go through.

    Programs are in search form (`fuzz.minimize.ranges`) everywhere in here.
    """

    def __init__(
        self,
        case: Case,
        same: Callable[[Case], bool],
        geometry: Geometry,
        budget: int,
        progress: Callable[[Case, int], None] | None,
    ) -> None:
        self.header = case
        self.same = same
        self.geometry = geometry
        self.budget = budget
        self.progress = progress
        self.best = to_search_form(case.calls)
        self.rank = rank(self.best)
        self.seen = {self.best}
        self.runs = 1

    def case(self) -> Case:
        """The best program as a case."""
        return self.header.with_calls(to_calls(self.best))

    def consider(self, program: Program) -> None:
        """Make `program` the best if it is simpler and shows the finding."""
        if program in self.seen or not is_writable(program):
            return
        simpler = rank(program)
        if simpler >= self.rank:
            return
        self.seen.add(program)
        self.runs += 1
        if not self.same(self.header.with_calls(to_calls(program))):
            return
        self.best, self.rank = program, simpler
        if self.progress is not None:
            self.progress(self.case(), self.runs)

    def run(self) -> None:
        """All passes, over and over, until none of them finds anything or the budget is spent."""
        start = None
        while start != self.best:
            start = self.best
            for candidates in PASSES:
                for program in candidates(self):
                    if self.runs >= self.budget:
                        return
                    self.consider(program)
