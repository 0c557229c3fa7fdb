"""Why two subjects differ, as far as the model knows: switches by which their kernels do."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.base.kernel import SWITCHES, Kernel
from fuzz.case import Case
from fuzz.lib.smallest import smallest
from fuzz.noted import Noted
from fuzz.subjects.difference import difference
from fuzz.subjects.model import Model
from fuzz.subjects.pair import otherwise
from fuzz.subjects.subject import Observation, Subject


class Cause(NamedTuple):
    """What explains a difference: two kernels that have it, and are alike but for `switches`."""

    switches: tuple[str, ...]
    first: Kernel
    second: Kernel


class Explainer:
    """Explains how one subject differs from another, by the models of their kernels.

    Both may have the same version: what was changed in a build may be what a release has changed,
    too.
    """

    def __init__(self, first: Kernel, second: Kernel, subject: Subject | None = None) -> None:
        """Arguments: `subject` either of the two, see `Model.beside`; None: nothing limits them."""
        self.first, self.second = first, second
        self._subject = subject

    def model(self, kernel: Kernel) -> Model:
        """The model of a kernel, with the limits of the subjects."""
        return Model(kernel) if self._subject is None else Model.beside(self._subject, kernel)

    def can_tell(self, case: Case) -> bool:
        """Do the models tell what machines show of a case?  See `Model.reached`."""
        for model in map(self.model, (self.first, self.second)):
            model.observe(case)
            if model.reached:
                return False
        return True

    def kernels(self, cause: Cause) -> tuple[Kernel, Kernel]:
        """The two kernels, as far as a cause says that they are not what their versions say."""
        if otherwise(self.first, self.second).issuperset(cause.switches):
            return self.first, self.second
        return cause.first, cause.second

    def cause(self, case: Case, first: Observation, second: Observation) -> Cause | None:
        """What explains that the first subject showed this of a case, and the second that.

        The model of one of their kernels shows what that subject did; with these switches set
        otherwise, and no fewer of them, it shows what the other did.
        Returns: None: nothing does.
        """
        if (switches := self._turned(self.first, case, first, second)) is not None:
            return Cause(switches, self.first, _turned(self.first, switches))
        if (switches := self._turned(self.second, case, second, first)) is not None:
            return Cause(switches, _turned(self.second, switches), self.second)
        return None

    def _turned(
        self, kernel: Kernel, case: Case, here: Observation, there: Observation
    ) -> tuple[str, ...] | None:
        """The switches of a kernel that does what is `here`, with which it does what is `there`."""
        noted = Noted(kernel)
        if not self.shows(noted, case, here):
            return None
        between = sorted(otherwise(self.first, self.second))

        def enough(names: Sequence[str]) -> bool:
            return self.shows(_turned(kernel, names), case, there)

        if between and enough(between):
            return tuple(smallest(between, enough))
        # What is asked last is the most particular.
        others = (n for n in reversed(noted.read) if n in SWITCHES and n not in between)
        return next(((name,) for name in others if enough((name,))), None)

    def shows(self, kernel: Kernel, case: Case, observed: Observation) -> bool:
        """Does the model of a kernel show that of a case?"""
        return difference(case, observed, self.model(kernel).observe(case, observed)) is None


def _turned(kernel: Kernel, names: Sequence[str]) -> Kernel:
    """The kernel with these switches set otherwise."""
    return kernel.having({name: not getattr(kernel, name) for name in names})
