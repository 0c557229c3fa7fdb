"""What do the bugs of the past lead to whose minimal cases show no harm?"""

from typing import NamedTuple

from fuzz.case import Case
from fuzz.defects.defect import Defect
from fuzz.harm.search import BUDGET, Harm, is_harm, look_for_harm
from fuzz.rules.index import BY_SLUG
from fuzz.rules.rule import HARM
from fuzz.showing import showing


class Consequence(NamedTuple):
    """Of an exhibit: the worst rule that its case breaks; what that leads to, if it was looked for.

    `harm` is None if none was found, or if the rule itself is about harm.
    """

    exhibit: Defect
    rule: str  # slug
    harm: Harm | None

    @property
    def is_harm(self) -> bool:
        """Does its case show harm itself?"""
        return BY_SLUG[self.rule].severity is HARM

    def row(self) -> tuple[str, ...]:
        """For a table."""
        severity = BY_SLUG[self.rule].severity
        found = ("-", "", "")
        if self.harm is not None:
            found = (self.harm.bucket.rule, str(self.harm.runs), str(len(self.harm.case.calls)))
        return self.exhibit.name, self.rule, severity, *found


HEADING = ("exhibit", "worst rule", "severity", "leads to", "programs", "calls")


def consequence(exhibit: Defect, case: Case, *, budget: int = BUDGET) -> Consequence:
    """What an exhibit leads to.

    Arguments: `case` shows it; `budget` see `fuzz.harm.search.look_for_harm`.
    Errors raised: ValueError if the case does not break the exhibit's rule.
    """
    kernel = exhibit.kernel
    with exhibit.installed():
        for one in showing(case, kernel).findings:
            if all(found.violation.rule != exhibit.rule for found in one.broken):
                continue
            harm = None if is_harm(one) else look_for_harm(case, one.bucket, kernel, budget=budget)
            return Consequence(exhibit, one.bucket.rule, harm)
    raise ValueError(f"the case does not show {exhibit.name}")
