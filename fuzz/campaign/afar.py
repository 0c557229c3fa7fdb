"""A subject that is not here: whoever has it runs batches of programs, several at a time."""

import itertools
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future

from engine.base.geometry import geometry_named
from fuzz.campaign.round import program
from fuzz.campaign.trial import Nature, Shown, Trial
from fuzz.case import Case
from fuzz.forms import text
from fuzz.subjects.subject import Observation, Subject, SubjectError

Ask = Callable[[Trial], "Future[Shown]"]


class Afar(Subject):
    """A subject that others run; all that is found out of a program is in its observation."""

    def __init__(self, name: str, ask: Ask, places: Callable[[], int]) -> None:
        """Ask what it is.

        Arguments: `name` of the subject where it is; `ask` has a trial done; `places` says how many
        can be under way.
        Errors raised: SubjectError.
        """
        self._subject = name
        self._ask = ask
        self._places = places
        self._run = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._begun: deque[Future[Shown]] = deque()  # and not taken
        self._nature: Nature | None = None
        nature = answered(self._trial(())).nature
        assert nature is not None, "checked where it came in"
        self._nature = nature
        self.name, self.kernel_name = nature.name, nature.kernel_name
        self.able, self.geometry = nature.able, geometry_named(nature.geometry)
        self.fields, self.commit_limit = frozenset(nature.fields), nature.commit_limit
        self.emulated, self.execs = nature.emulated, nature.execs

    @property
    def implementation(self) -> str:
        """See `Subject`."""
        assert self._nature is not None
        return self._nature.implementation

    @property
    def at_once(self) -> int:
        """See `Subject`."""
        return max(self._places(), 1)

    def obstacles(self) -> list[str]:
        """See `Subject`."""
        assert self._nature is not None
        return list(self._nature.obstacles)

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        """See `Subject`: all as one batch."""
        yield from answered(self._trial(tuple(cases))).rows()

    def begin(self, cases: Sequence[Case]) -> Iterator[Observation]:
        """See `Subject`."""
        asked = self._trial(cases)
        self._begun.append(asked)
        return self._taken(asked)

    def _taken(self, asked: "Future[Shown]") -> Iterator[Observation]:
        self._begun.remove(asked)
        yield from answered(asked).rows()

    @property
    def ready(self) -> bool:
        """See `Subject`."""
        return not self._begun or self._begun[0].done()

    def observe(self, case: Case) -> Observation:
        """See `Subject`."""
        (row,) = answered(self._trial((case,), to_the_end=self.to_the_end)).rows()
        return row

    def _trial(self, cases: Sequence[Case], *, to_the_end: bool = False) -> "Future[Shown]":
        name = f"{self._run}-{next(self._numbers)}"
        told = tuple(map(text.dump, cases))
        return self._ask(Trial(name, self._subject, self._nature, told, to_the_end, program()))


def answered(asked: "Future[Shown]") -> Shown:
    """What was shown, once it is there.  Errors raised: SubjectError."""
    try:
        shown = asked.result()
    except CancelledError:
        raise SubjectError("the run is about to end") from None
    if shown.why:
        raise SubjectError(shown.why)
    return shown
