"""The fuzz target: the process in which Atheris runs.  The only importer of atheris.

Started by `fuzz.campaign.child` as `python -m fuzz.campaign.harness '{…}' [libFuzzer arguments]`;
the first argument is a `Setting` as JSON.  It reports through the file descriptor it is given, one
JSON object a line:

- `start`: `fixed_addresses` is true if address-space randomisation is off;
- `stats`, about twice a second: `execs`, `cpu_seconds` since the start, `cells` of each kernel, and
  `hits`: [bucket, kernel, count] of each (a bucket is [rule, call, defect]);
- `finding`, for each bucket and kernel, and again for a program of fewer calls: `bucket`, `worst`
  (the rule that names all that the program shows), `kernels`, `geometry`, `input` (hex), `execs`,
  `cpu_seconds`;
- `new`, if asked for, for each input that reaches a cell that none before it did: `input` (hex);
- `suspect`, for each input that took long, or much memory: `input` (hex), `kernel`, `geometry`,
  `doubt` (`timeout--mremap`; empty if it was not in a call), `execs`.  Whether it is a finding is
  for others to say (`fuzz.bounded`);
- `crash`, for an exception that is a defect of this project, once for each kind: `input` (hex),
  `kernel`, `error`, `traceback`.

Nothing that an input does ends the process.  A violation is never raised: all findings are
reported, and the run goes on; so does the program, or whatever comes behind a known defect would
stay unseen.  libFuzzer ends the process without running Python's clean-up, so every event is
written at once.
"""

import json
import os
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import atheris

from fuzz.campaign import coverage
from fuzz.campaign.child import Setting, fixed_addresses
from fuzz.findings.bucket import Bucket
from fuzz.lib.processes import CpuLimit, TooLong, end_when_unheard, limit_memory

if TYPE_CHECKING:  # what these import must be covered first
    from collections.abc import Callable, Iterable, Sequence

    from engine.base.kernel import Kernel
    from fuzz.campaign.feedback import StateObserver
    from fuzz.case import Case
    from fuzz.defects.attribute import Runs, Shown
    from fuzz.defects.defect import Defect
    from fuzz.execute import Outcome
    from fuzz.matrix import KernelSet, Matrix
    from fuzz.noted import Noted
    from fuzz.subjects.pair import Pair

STATS_SECONDS = 0.5
SUSPICIOUS_SECONDS = 2.0  # CPU time: a hundred times what programs of a run take at most
MOST_MEMORY_BYTES = 3 << 29  # less than what libFuzzer allows, which would end the process
_JOINED_OF = 10  # one in so many that libFuzzer wants to be joined is
_OUR_DEFECT = 77  # what libFuzzer, too, exits with after an exception


class Target:
    """Decodes an input, runs it on every kernel that may do something else, reports what breaks."""

    def __init__(
        self, setting: Setting, bug_named: "Callable[[str], Defect] | None" = None
    ) -> None:
        """Arguments: `bug_named` says which bug `setting.exhibit` is (None: one of the museum).

        It is called, and so may import the engine, when that can be covered.
        """
        if "engine" in sys.modules:
            sys.exit("fuzz.campaign.harness: engine was imported before it could be covered")
        # The model only: coverage of the codec would reward parsing, coverage of rules nothing.
        with coverage.covered(atheris) as codes:
            from engine.base.geometry import geometry_named
            from engine.base.kernel import kernel_named
            from fuzz import bounded, execute, matrix, showing
            from fuzz.calls import registry
            from fuzz.campaign import feedback
            from fuzz.defects import attribute
            from fuzz.inputs import mutator
            from fuzz.inputs.inputs import Inputs
            from fuzz.subjects import pair

            if setting.exhibit and bug_named is None:
                from fuzz.defects.catalogue import exhibit_named as bug_named
        exhibit = bug_named(setting.exhibit) if setting.exhibit and bug_named else None
        if exhibit is not None and exhibit.change is not None:
            codes += exhibit.change.codes
        coverage.watch(atheris, codes)
        self._setting = setting
        bounded.watched_already()
        self._doubtful = bounded.doubtful
        self._limit = CpuLimit(SUSPICIOUS_SECONDS)
        self.execute: Callable[..., Outcome] = execute.execute  # who watches may put more around it
        self._again = partial(bounded.run, stop=False, rules_after=setting.rules_after)
        self._runs, self._findings_on = attribute.Runs, attribute.findings_on
        self._due: Callable[[Outcome], Shown | None] | None = None
        kernels = [kernel_named(name) for name in setting.kernels]
        if exhibit is not None:
            kernels = [exhibit.kernel if setting.with_bug else exhibit.correct]
            if setting.with_bug:
                self.execute = exhibit.execute
                self._due = partial(showing.due, exhibit=exhibit)
        calls = None if setting.calls is None else frozenset(setting.calls)
        geometries = [geometry_named(name) for name in setting.geometries]
        inputs = Inputs(geometries, calls, setting.max_calls)
        self._decode = inputs.decode
        self._takes_long: Callable[[Case, int], bool] = registry.takes_long
        focus = [setting.geometries.index(name) for name in setting.focus]
        self._mutator = mutator.Mutator(inputs, focus, planned=setting.planned)
        fed = setting.fed
        self._cells = cells = feedback.Cells(atheris if fed else None) if setting.cells else None
        self._grounds = [  # by number of the geometry
            (
                matrix.Matrix([kernel.on(geometry) for kernel in kernels]),
                feedback.StateObserver(cells, geometry, fed) if cells else None,
            )
            for geometry in inputs.geometries
        ]
        self._pairs: dict[Kernel, Pair] = {}
        if setting.like:
            like, rules_after = kernel_named(setting.like), setting.rules_after
            self._pairs = {
                kernel: pair.Pair(kernel, like, rules_after)
                for ground, _ in self._grounds
                for kernel in ground.kernels
            }
        self._crashes: set[tuple[object, ...]] = set()  # the kinds that were reported
        self._hits: Counter[tuple[Bucket, str]] = Counter()
        self._fewest: dict[tuple[Bucket, str], int] = {}  # calls of the programs told of
        self._execs = 0
        self._kernel: Kernel | None = None  # that is being run on
        self._cells_told = 0
        self._started = time.process_time()
        self._next_stats = time.monotonic() + STATS_SECONDS

    def one_input(self, data: bytes) -> None:
        """Run one input.  An exception is a defect of this project: it is reported."""
        if not self._execs and self._cells is not None:
            self._cells.check_live()
        self._execs += 1
        self._kernel = None
        with suppress(TooLong):  # that comes a moment too late
            self._limit.begin()
            try:
                self._run(data)
            except (TooLong, MemoryError):
                self._suspect(data)
            except Exception as error:
                self._crashed(data, error)
            finally:
                self._limit.end()
        if self._cells is not None:
            if self._setting.tell_new and self._cells.seen > self._cells_told:
                self._cells_told = self._cells.seen
                self._send("new", input=data.hex())
            self._cells.flush()
        if time.monotonic() >= self._next_stats or self._execs == self._setting.runs:
            self.send_stats()

    def _run(self, data: bytes) -> None:
        """Run one input on the kernels.  Errors raised: defects of this project, and TooLong."""
        number, case = self._decode(data)
        (kernels, observer), runs = self._grounds[number], self._runs(case, self._again)
        if not case.calls:  # libFuzzer begins with two such inputs
            return
        if self._takes_long(case, kernels.kernels[0].geometry.page_bytes):
            return
        if self._pairs:
            for noted in kernels.runs():
                self._kernel = noted.plain
                self._compare(data, case, noted, kernels, observer)
            return
        for noted in kernels.runs():
            self._kernel = noted.plain
            outcome = self.execute(
                case,
                noted,
                listeners=[observer] if observer else (),
                stop=False,
                on_step=observer.step if observer else None,
                rules_after=self._setting.rules_after,
            )
            if self._doubtful(outcome):
                self._suspect(data, outcome)
                return
            # Now all is read that will be: kernels that have it alike need not be run.
            same = kernels.having(noted.settings)
            runs.add(noted, outcome)
            if observer is not None:
                observer.finish(outcome, same)
            # They break the same; what that is put down to depends on what they read repaired.
            for some, shown in self._shown(runs, kernels, same, outcome):
                for found in shown:
                    on, worst = kernels.members(some), shown[0].bucket.rule
                    self._found(data, case, found.bucket, on, worst)

    def _compare(
        self,
        data: bytes,
        case: "Case",
        noted: "Noted",
        kernels: "Matrix",
        observer: "StateObserver | None",
    ) -> None:
        """Run a program on a kernel and the one that all are to be like: what differs is found."""
        two = self._pairs[noted.plain]
        half = two.first(
            case,
            noted,
            listeners=[observer] if observer else (),
            on_step=observer.step if observer else None,
        )
        same = kernels.having(noted.settings)
        if observer is not None:
            observer.finish(half.outcome, same)
        parting = two.beside(half)
        if parting is not None:  # on all that do the same: it is called after the first of them
            on, bucket = kernels.members(same), parting.bucket
            self._found(data, case, bucket, on, worst=bucket.rule)

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """See `Mutator.mutate`; an input that it fails on stays as it is."""
        return self._changed(data, lambda: self._mutator.mutate(data, max_size, seed))

    def cross_over(self, one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
        """See `Mutator.cross_over`; inputs that it fails on stay as they are.

        libFuzzer asks for that as often as for a mutation, which finds more.
        """
        if seed % _JOINED_OF:
            return self.mutate(one, max_size, seed)
        return self._changed(one, lambda: self._mutator.cross_over(one, other, max_size, seed))

    def _changed(self, data: bytes, change: "Callable[[], bytes]") -> bytes:
        try:
            return change()
        except Exception as error:
            self._kernel = None
            self._crashed(data, error)
            return data

    def _shown(
        self, runs: "Runs", matrix: "Matrix", kernels: "KernelSet", outcome: "Outcome"
    ) -> "Iterable[tuple[KernelSet, Sequence[Shown]]]":
        """What a run has found on these kernels; with a bug put back, what is due to that."""
        if not outcome.violations:
            return ()
        if self._due is None:
            return self._findings_on(runs, matrix, kernels)
        found = self._due(outcome)
        return () if found is None else [(kernels, [found])]

    def send_stats(self) -> None:
        """Report the counts so far."""
        self._next_stats = time.monotonic() + STATS_SECONDS
        self._send(
            "stats",
            execs=self._execs,
            cpu_seconds=time.process_time() - self._started,
            cells=self._cells_of_kernels(),
            hits=[[*key, count] for key, count in self._hits.items()],
        )

    def _cells_of_kernels(self) -> dict[str, int]:
        """How many cells of each kernel there are so far."""
        if self._cells is None:
            return {}
        kernels, _ = self._grounds[0]
        return {kernel.name: self._cells.on[1 << i] for i, kernel in enumerate(kernels.kernels)}

    def _found(
        self, data: bytes, case: "Case", bucket: Bucket, kernels: "Sequence[Kernel]", worst: str
    ) -> None:
        """Count a finding on all of these kernels, and report it on those where that is news."""
        calls, news = len(case.calls), []
        for kernel in kernels:
            key = (bucket, kernel.name)
            self._hits[key] += 1
            if calls < self._fewest.get(key, calls + 1):
                self._fewest[key] = calls
                news.append(kernel.name)
        if news:
            self._send(
                "finding",
                bucket=bucket,
                worst=worst,
                kernels=news,
                geometry=kernels[0].geometry.name,
                input=data.hex(),
                execs=self._execs,
                cpu_seconds=time.process_time() - self._started,
            )

    def _suspect(self, data: bytes, outcome: "Outcome | None" = None) -> None:
        """Report an input that took long, or much.  Arguments: `outcome` if a call of it did."""
        self._reset()
        doubt = ""
        if outcome is not None:
            index, violation = outcome.violations[-1]
            doubt = Bucket.of(violation.rule, outcome.case.calls[index].name).name
        if self._kernel is not None:
            self._send(
                "suspect",
                input=data.hex(),
                kernel=self._kernel.name,
                geometry=self._kernel.geometry.name,
                doubt=doubt,
                execs=self._execs,
            )

    def _reset(self) -> None:
        """Forget what observers have seen of a program."""
        for _, observer in self._grounds:
            if observer is not None:
                observer.reset()

    def _crashed(self, data: bytes, error: Exception) -> None:
        """Report an exception, once for each place that raises one of its type."""
        self._reset()
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = (type(error).__name__, place.filename, place.lineno)
        if kind not in self._crashes:
            self._crashes.add(kind)
            self._send(
                "crash",
                input=data.hex(),
                kernel=self._kernel.name if self._kernel else "",
                error=f"{type(error).__name__}: {error}",
                traceback="".join(traceback.format_exception(error)),
            )

    def _send(self, event: str, **fields: object) -> None:
        send(self._setting.events, event, **fields)


def send(descriptor: int, event: str, **fields: object) -> None:
    """Write one event.  Ends the process if nobody listens any more."""
    line = json.dumps({"event": event, "pid": os.getpid(), **fields}) + "\n"
    data = line.encode()
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        os._exit(_OUR_DEFECT)


def main() -> NoReturn:
    """Fuzz until libFuzzer ends the process."""
    if not __debug__:
        sys.exit("fuzz.campaign.harness: -O strips the assertions; run without it")
    text, *flags = sys.argv[1:]
    setting = Setting(**json.loads(text))
    end_when_unheard(setting.events, _OUR_DEFECT)
    limit_memory(MOST_MEMORY_BYTES)
    target = Target(setting)
    send(setting.events, "start", fixed_addresses=fixed_addresses())
    atheris.Setup(
        [sys.argv[0], *flags],
        target.one_input,
        custom_mutator=target.mutate,
        custom_crossover=target.cross_over,
    )
    atheris.Fuzz()
    raise AssertionError("atheris.Fuzz() returned")


if __name__ == "__main__":
    main()
