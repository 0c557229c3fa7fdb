"""How many calls agree, by name, in programs that are compared.

Calls behind the first difference of a program do not count: they start from another state.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fuzz.calls.registry import CALLS
from fuzz.case import Case


@dataclass(slots=True)
class Tally:
    """Calls that were compared, by name, and those of them that `agree`."""

    compared: Counter[str] = field(default_factory=Counter)
    agree: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case, wrong: int | None) -> None:
        """Count a program.  Arguments: `wrong` the index of the first call that differs, if any."""
        for call in case.calls[:wrong]:
            self.compared[call.name] += 1
            self.agree[call.name] += 1
        if wrong is not None:
            self.compared[case.calls[wrong].name] += 1

    def rows(self) -> Iterator[tuple[str, int, int]]:
        """Name of a call, how many agree, of how many; in the order of declarations."""
        for name in CALLS:
            if self.compared[name]:
                yield name, self.agree[name], self.compared[name]
