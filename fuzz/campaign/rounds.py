"""The rounds of a run: what begins when, and what came back."""

import itertools
import time
import uuid
from collections.abc import Iterable, Iterator

from fuzz.campaign.child import INPUT_SECONDS, TOLD_SECONDS
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.executor import Executor
from fuzz.campaign.round import Report, Round, program
from fuzz.campaign.samples import Samples
from fuzz.campaign.schedule import Ground, Schedule
from fuzz.campaign.session import Session
from fuzz.forms import wire
from fuzz.lib.arguments import MAX_SEED
from fuzz.lib.files import WriteError

MOST_FRUITLESS = 5  # rounds in a row, for each place, that die before they have executed anything


class _UnderWay:
    """A round that has not ended, what it has counted, and which of its reports have come."""

    def __init__(self, task: Round, ground: Ground) -> None:
        self.task = task
        self.ground = ground
        self.execs = 0
        self.heard: set[str] = set()


class Rounds:
    """Begins rounds as long as there are places for them and the run is not over.

    Each has another seed, or it would do the same again; it goes on with the corpus.  `execs` are
    the executions of all, `cells` how many the round that has seen most of a kernel has, by kernel.
    """

    def __init__(
        self, session: Session, crashes: Crashes, executor: Executor, longest_seed: int
    ) -> None:
        """Begin the first ones.  `longest_seed` are bytes."""
        options = session.options
        self.execs = 0
        self.cells: dict[str, int] = {}
        self._session = session
        self._crashes = crashes
        self._executor = executor
        # Longer inputs decode to the same; but libFuzzer would cut a longer seed.
        self._max_bytes = max(wire.WIDTH * options.max_calls + 1, longest_seed)
        self._schedule = Schedule(
            list(session.kernels), [geometry.name for geometry in session.geometries]
        )
        self._samples = Samples(session.corpus, session.seeds) if executor.remote else None
        self._ends_at = None if options.seconds is None else time.monotonic() + options.seconds
        self._runs_left = options.runs  # that no round has
        self._run = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._under_way: dict[str, _UnderWay] = {}
        self._fruitless = 0
        self._asked = False
        self._begin()

    @property
    def talking(self) -> bool:
        """Are there rounds that have not ended, or that begin once there is a place?"""
        return bool(self._under_way) or self._goes_on

    @property
    def over(self) -> bool:
        """Is the time of the run over, or is there nobody any more who does rounds?"""
        late = self._ends_at is not None and time.monotonic() >= self._ends_at
        return late or bool(self._executor.over)

    @property
    def _goes_on(self) -> bool:
        """May further rounds begin?"""
        return not (self._asked or self.over) and self._runs_left != 0

    def stop(self) -> None:
        """Let the run end before its time; called again and again, until no round is left."""
        self._asked = True
        self._executor.stop()

    def take(self, reports: Iterable[Report]) -> Iterator[tuple[Round, Report]]:
        """Take in reports; begin other rounds in place of those that have ended.

        Yields: each report once, with its round.
        """
        if self.over:
            self._executor.stop()
        for line in self._executor.news():
            self._session.say(line)
        for report in reports:
            one = self._under_way.get(report.round)
            if one is None or report.id in one.heard:
                continue  # it was done twice, or its answer came twice
            one.heard.add(report.id)
            self._count(one, report)
            yield one.task, report
            if report.end is not None:
                self._ended(one, report)
        self._begin()

    def _count(self, one: _UnderWay, report: Report) -> None:
        """Count what a round has done."""
        self.execs += max(report.execs - one.execs, 0)
        one.execs = max(one.execs, report.execs)
        news = bool(report.findings)
        for kernel, cells in report.cells:
            if cells > self.cells.get(kernel, 0):
                self.cells[kernel] = cells
                news = True
        if news:
            self._schedule.news(one.ground)
        if self._samples is not None:
            try:
                self._samples.add(report.inputs)
            except WriteError as error:
                self._session.once(f"{error}\nThe run goes on without some new inputs.")

    def _ended(self, one: _UnderWay, report: Report) -> None:
        """See to the end of a round: why it has ended, and what it leaves to others."""
        assert report.end is not None
        del self._under_way[one.task.id]
        self._session.forget(one.task.id)
        self._schedule.end(one.ground)
        if self._runs_left is not None and one.task.runs is not None:
            self._runs_left += max(one.task.runs - one.execs, 0)
        if report.end.lost or self._asked or self.over:
            return
        self._fruitless = 0 if one.execs else self._fruitless + 1
        most = MOST_FRUITLESS * max(self._executor.places, 1)
        hopeless = self._fruitless >= most
        goes_on = self._runs_left != 0 and not hopeless
        if report.end.why:
            self._crashes.of_round(report.end, goes_on=goes_on)
        if hopeless:
            self._crashes.hopeless(most)
            self.stop()

    def _begin(self) -> None:
        """Begin rounds where there is a place."""
        while self._goes_on:
            free = self._executor.places - len(self._under_way)
            if free <= 0:
                return
            runs = None
            if self._runs_left is not None:
                runs = -(-self._runs_left // free)
                self._runs_left -= runs
            ground = self._schedule.begin(self._executor.places)
            task = self._round(ground, runs)
            self._under_way[task.id] = _UnderWay(task, ground)
            self._executor.begin(task)

    def _round(self, ground: Ground, runs: int | None) -> Round:
        session, number = self._session, next(self._numbers)
        options = session.options
        seconds = self._executor.round_seconds
        if self._ends_at is not None:
            seconds = min(seconds, self._ends_at - time.monotonic())
        return Round(
            id=f"{self._run}-{number}",
            seed=(session.seed + number - 1) % MAX_SEED + 1,
            kernels=ground.kernels,
            geometries=tuple(geometry.name for geometry in session.geometries),
            focus=ground.geometries,
            calls=tuple(sorted(session.calls)),
            max_calls=options.max_calls,
            max_bytes=self._max_bytes,
            cells=options.cells,
            tell_new=bool(options.against),
            rules_after=options.rules_after,
            like=options.like,
            seconds=seconds,
            runs=runs,
            flags=options.libfuzzer,
            patience=TOLD_SECONDS if options.against else INPUT_SECONDS,
            sample=() if self._samples is None else self._samples.some(),
            program=program(),
        )
