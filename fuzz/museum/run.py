"""`pmdfuzz museum run`: does the fuzzer find the bugs that the code has really had?

A trial is one exhibit with one seed: a fuzzing process (`fuzz.campaign.harness`) that begins with
nothing, neither the exhibit's case nor the project's seeds, and all calls, and ends when the
exhibit's rule is broken by the bug, or after `seconds` of its CPU time.  The program found is
minimized and kept.

With `correct` each trial is repeated without the bug, for as many executions: there no rule may
break, but for open defects of the kernel that `fuzz.defects.known` knows by name.

Exit status: 0 every trial found its bug (and every correct kernel held); 1 some did not; 2 bad
input or environment; 3 this project itself failed; 130 stopped by Ctrl-C, 143 by SIGTERM, with
every finished trial kept.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from engine.base.kernel import Kernel
from fuzz.campaign.child import Child, RunError, check_environment
from fuzz.campaign.session import marked
from fuzz.case import Case
from fuzz.defects.catalogue import exhibit_named
from fuzz.defects.defect import Defect
from fuzz.findings.bucket import Bucket
from fuzz.forms import text
from fuzz.inputs.inputs import Inputs, shared_out
from fuzz.lib.exits import BAD_INPUT, FINE, OUR_DEFECT, STOPPED, SURPRISES
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.lines import columns, tail
from fuzz.lib.processes import forked
from fuzz.lib.signals import on_request
from fuzz.lib.status import Fields, StatusLine, duration
from fuzz.minimize.search import minimize
from fuzz.museum.results import (
    BROKEN,
    CLEAN,
    CORRECT,
    FOUND,
    MISSED,
    WITH_BUG,
    Result,
    Results,
    ResultsError,
    summary,
    survival,
)
from fuzz.museum.trial import trial_flags, trial_setting
from fuzz.rules.judge import RulesAfter
from fuzz.showing import caught, showing

SECONDS = 60
MINIMIZE_BUDGET = 2_000
_POLL_SECONDS = 0.1
_BACKSTOP_SECONDS = 3600.0  # wall time of a trial


@dataclass(frozen=True, slots=True)
class MuseumOptions:
    """What to fuzz: `exhibits` with the seeds 1 to `seeds`, each for `seconds` of CPU time.

    `correct` tries the correct kernels as well; `fresh` forgets earlier results; `jobs` trials run
    at a time, each on one core; `rules_after` see `fuzz.execute.execute`.
    """

    workdir: Path
    exhibits: tuple[Defect, ...]
    seconds: int = SECONDS
    seeds: int = 1
    correct: bool = False
    fresh: bool = False
    jobs: int = 1
    rules_after: RulesAfter = "moving"


@dataclass(slots=True)
class _Standing:
    """Where a museum run stands."""

    trials: int
    done: int = 0
    missed: int = 0
    latest: str = ""
    started: float = field(default_factory=time.monotonic)

    def fields(self) -> Fields:
        """See `fuzz.lib.status.Standing`."""
        shown = [
            (duration(time.monotonic() - self.started), "dim"),
            (f"{self.done}/{self.trials} trials", ""),
        ]
        if self.missed:
            shown.append((f"{self.missed} missed", "alarm"))
        return [*shown, (self.latest, "")]


class _Trial(NamedTuple):
    """One exhibit with one seed, by name; `correct`: without the bug as well."""

    exhibit: str
    seed: int
    correct: bool


class _Tried(NamedTuple):
    """What came of a trial; `failure` says how this project itself failed, if it did."""

    rows: list[Result]
    failure: str


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


class _Failed(Exception):
    """The fuzzing process itself failed; the message says how."""


def run(options: MuseumOptions) -> int:
    """Fuzz the exhibits.  Returns: the exit status; see the module."""
    directory = options.workdir.absolute() / "museum"
    try:
        check_environment()
        results, notice = Results.open(
            directory, fresh=options.fresh, rules_after=options.rules_after
        )
    except (RunError, ResultsError) as error:
        print(f"pmdfuzz museum: {error}", file=sys.stderr)
        return BAD_INPUT
    if notice:
        print(notice)
    return _Trials(options, directory, results).run()


class _Trials:
    """All trials of a run."""

    def __init__(self, options: MuseumOptions, directory: Path, results: Results) -> None:
        self.options = options
        self.directory = directory
        self.results = results
        self.line = StatusLine(sys.stderr)
        self.standing = _Standing(len(options.exhibits) * options.seeds)
        self.signal = 0
        self.failures = 0

    def run(self) -> int:
        """All trials, seed by seed.  Returns: the exit status."""
        todo = [trial for trial in self._trials() if not self._known(trial)]
        self.standing.done = self.standing.trials - len(todo)
        with contextlib.suppress(_Interrupted), on_request(self._stop):
            try:
                for ended in forked(
                    todo,
                    self._try,
                    jobs=self.options.jobs,
                    seconds=_BACKSTOP_SECONDS,
                    tick=lambda: self.line.update(self.standing),
                ):
                    self._take(ended.task, ended.result or _Tried([], ended.how))
            except WriteError as error:
                print(f"pmdfuzz museum: {error}", file=sys.stderr)
                return BAD_INPUT
            finally:
                self.line.clear()
        rows = self._rows()
        self._report(rows)
        if self.signal:
            return STOPPED + self.signal
        if self.failures:
            return OUR_DEFECT
        fine = all(row.outcome in (FOUND, CLEAN) for row in rows)
        return FINE if fine else SURPRISES

    def _trials(self) -> list[_Trial]:
        """Every trial of the run."""
        return [
            _Trial(exhibit.name, seed, self.options.correct)
            for seed in range(1, self.options.seeds + 1)
            for exhibit in self.options.exhibits
        ]

    def _known(self, trial: _Trial) -> list[Result]:
        """The results of a trial if all of them are there, else none."""
        sides = (WITH_BUG, CORRECT) if trial.correct else (WITH_BUG,)
        seconds = self.options.seconds
        rows = [self.results.get(trial.exhibit, trial.seed, side, seconds) for side in sides]
        return [row for row in rows if row is not None] if all(rows) else []

    def _rows(self) -> list[Result]:
        return [row for trial in self._trials() for row in self._known(trial)]

    def _take(self, trial: _Trial, tried: _Tried) -> None:
        """Keep what came of a trial, and tell it."""
        for row in tried.rows:
            self.results.put(row)
            self.line.write(_told(row), sys.stdout)
            self.standing.missed += row.outcome in (MISSED, BROKEN)
        self.standing.done += 1
        self.standing.latest = f"{trial.exhibit} seed {trial.seed}"
        if tried.failure:
            self.failures += 1
            self.line.write(
                f"{trial.exhibit} seed {trial.seed}: the fuzzing process failed, a defect of "
                f"pmdfuzz:\n{tried.failure}",
                sys.stdout,
            )

    def _try(self, trial: _Trial) -> _Tried:
        """One trial, in a process of its own."""
        exhibit = exhibit_named(trial.exhibit)
        row = self.results.get(trial.exhibit, trial.seed, WITH_BUG, self.options.seconds)
        rows = []
        try:
            if row is None:
                rows.append(row := self._fuzz(exhibit, trial.seed, WITH_BUG, 0))
            if trial.correct:
                rows.append(self._fuzz(exhibit, trial.seed, CORRECT, row.executions))
        except _Failed as failed:
            return _Tried(rows, str(failed))
        return _Tried(rows, "")

    def _fuzz(self, exhibit: Defect, seed: int, side: str, runs: int) -> Result:
        """Fuzz until the bug is found or the time is over, or for a number of executions.

        Errors raised: _Failed.
        """
        log = self.directory / f"libfuzzer.{exhibit.name.lower()}.{seed}.log"
        artifacts = self.directory / f"crashes.{exhibit.name.lower()}.{seed}"
        artifacts.mkdir(exist_ok=True)
        geometries = shared_out(exhibit.kernel.geometry)
        setting = trial_setting(exhibit.name, geometries)._replace(
            runs=runs, with_bug=side == WITH_BUG, rules_after=self.options.rules_after
        )
        flags = [*trial_flags(seed), f"-artifact_prefix={artifacts}/"]
        if runs:
            flags.append(f"-runs={runs}")
        child = Child(setting, flags, log)
        watched = _Watched(exhibit, side, self.options.seconds if side == WITH_BUG else None)
        try:
            while child.talking and not watched.over:
                for event in child.events(_POLL_SECONDS):
                    watched.hear(event)
        finally:
            child.kill()
            child.close()
        shutil.rmtree(artifacts, ignore_errors=True)
        inputs = Inputs(geometries)
        for bucket, data in watched.broken.items():
            number, case = inputs.decode(data)
            there = exhibit.on(geometries[number])
            shows = _shows(there.correct, bucket, self.options.rules_after)
            self._keep(there, seed, case, shows, f"broken/{bucket.name}")
        ended_early = side == WITH_BUG and not watched.over
        if watched.failure or not watched.heard or ended_early:
            raise _Failed(watched.failure or tail(log))
        log.unlink()
        calls = 0
        if watched.found is not None:
            number, case = inputs.decode(watched.found)
            there = exhibit.on(geometries[number])
            calls = self._keep(there, seed, case, partial(caught, exhibit=there), "found")
        return watched.result(exhibit, seed, side, calls)

    def _keep(
        self, exhibit: Defect, seed: int, case: Case, test: Callable[[Case], bool], where: str
    ) -> int:
        """Keep the minimal program that passes a test, in a directory of the working directory.

        One that does not pass, to which only the run it comes from led, is kept as it is.

        Returns: how many calls it has.
        """
        geometry = exhibit.kernel.geometry
        if test(case):
            case = minimize(case, test, geometry, budget=MINIMIZE_BUDGET)
        kept = replace(
            marked(case),
            kernel=exhibit.correct.name,
            geometry=None if geometry.name == "x86-64" else geometry.name,
            comments=(f"{exhibit.name}: {exhibit.headline}",),
            found=(f"museum seed={seed}",),
        )
        path = self.directory / where / f"{exhibit.name.lower()}.seed-{seed}.case"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.dump(kept))
        return len(case.calls)

    def _report(self, all_rows: Sequence[Result]) -> None:
        """The table, and what it comes to."""
        rows = [row for row in all_rows if row.side == WITH_BUG]
        if not rows:
            return
        print()
        for line in columns(summary(rows)):
            print(line)
        print()
        for line in survival(rows):
            print(line)
        checked = [row for row in all_rows if row.side == CORRECT]
        if checked:
            broken = [row for row in checked if row.outcome == BROKEN]
            held = len(checked) - len(broken)
            print(
                f"correct kernels: {held} of {len(checked)} runs broke no rule, but for known "
                f"open defects; {sum(row.executions for row in checked)} executions"
            )
            for row in broken:
                print(f"  {row.exhibit} seed {row.seed}: {row.other}")
            if broken:
                print(f"Programs: {self.directory / 'broken'}")
        print(f"Results: {self.results.path}")

    def _stop(self, number: int) -> None:
        """A signal ends the run; what is finished by then is kept."""
        self.signal = self.signal or number
        raise _Interrupted


def _shows(kernel: Kernel, bucket: Bucket, rules_after: RulesAfter) -> Callable[[Case], bool]:
    """Does a case show that finding on the kernel?"""
    return lambda case: showing(case, kernel, rules_after).shows(bucket)


class _Watched:
    """What a fuzzing process has told so far."""

    def __init__(self, exhibit: Defect, side: str, seconds: float | None) -> None:
        self._rule = exhibit.rule
        self._side = side
        self._limit = seconds
        self.heard = False
        self.found: bytes | None = None
        self.failure = ""
        self.executions = 0
        self.seconds = 0.0
        self.other: set[Bucket] = set()
        self.broken: dict[Bucket, bytes] = {}  # by what no known defect explains, on that side

    @property
    def over(self) -> bool:
        """Nothing more is to be learned."""
        late = self._limit is not None and self.seconds >= self._limit
        return late or self.found is not None or bool(self.failure)

    def hear(self, event: dict[str, Any]) -> None:
        """Take note of an event of `fuzz.campaign.harness`."""
        if self.over:
            return
        match event["event"]:
            case "start":
                self.heard = True
            case "stats":
                self.executions, self.seconds = event["execs"], event["cpu_seconds"]
            case "crash":
                self.failure = event["traceback"]
            case "finding":
                bucket = Bucket(*event["bucket"])
                wanted = bucket.rule == self._rule and not bucket.defect
                if self._side == WITH_BUG and wanted:
                    self.executions, self.seconds = event["execs"], event["cpu_seconds"]
                    self.found = bytes.fromhex(event["input"])
                else:
                    self.other.add(bucket)
                    if self._side == CORRECT and not bucket.defect:
                        self.broken.setdefault(bucket, bytes.fromhex(event["input"]))

    def result(self, exhibit: Defect, seed: int, side: str, calls: int) -> Result:
        """The result of the trial."""
        if side == WITH_BUG:
            outcome = FOUND if self.found is not None else MISSED
        else:
            outcome = BROKEN if self.broken else CLEAN
        return Result(
            exhibit.name,
            seed,
            side,
            outcome,
            exhibit.rule,
            self.executions,
            self.seconds,
            calls,
            " ".join(sorted(bucket.name for bucket in self.other)),
        )


def _told(row: Result) -> str:
    """A finished trial in a line."""
    spent = f"{row.executions} executions, {row.seconds:.1f} s"
    head = f"{row.exhibit} seed {row.seed}"
    other = f"; others: {row.other}" if row.other else ""
    match row.outcome:
        case "found":
            return f"{head}: {row.rule} after {spent}; {row.calls} calls{other}"
        case "missed":
            return f"{head}: {row.rule} NOT broken in {spent}{other}"
        case "clean":
            return f"{head} without the bug: nothing broken in {spent}{other}"
        case _:
            return f"{head} without the bug: BROKEN: {row.other}"
