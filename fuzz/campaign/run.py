"""`pmdfuzz run`: the parent of the fuzzing process.

The parent starts `fuzz.campaign.harness` as a child, in which Atheris runs, and does all the rest:
it encodes the seeds, shows where the run stands, and turns each new finding into a minimal case.
It never imports atheris and covers nothing, so it minimizes at full speed while the
child keeps fuzzing.

Below the working directory:

====================  ============================================================================
corpus/GEOMETRY/      libFuzzer's corpus of runs whose first geometry this is (`fuzz.inputs`)
seeds/GEOMETRY/       the text cases given as seeds, as bytes; rewritten by every run
findings/             one minimal case for each finding, RULE--CALL[--DEFECT].case
ledger.sqlite         how often and when each finding was seen
crashes/              inputs on which this project itself failed, as bytes and as cases
outdated/             inputs of a killed run that cannot be read any more
libfuzzer.log         what the child printed in the last run
====================  ============================================================================

With `against` every input that is new to the model, because it reaches a cell for the first time,
runs on the kernel of this machine, too.  A program on which the two part is a finding of its own:
machine-differs, with the call after which they do.

A finding is a rule, the call that broke it, and the known defect of the kernel that explains it, if
any (`fuzz.defects.known`); on how many kernels does not matter.  One whose case the working
directory already holds when the run starts is old: it is counted, but neither minimized again nor
replaced, even if the new case is shorter.  Known defects are kept as cases like all findings, and
told of by name; unless asked, they do not count for the exit status.

Exit status: 0 nothing new found; 1 new findings; 2 bad input or environment; 3 this project itself
failed (the fuzzing process died); 130 stopped by Ctrl-C and 143 by SIGTERM, after everything was
saved and shown.
"""

import contextlib
import hashlib
import importlib.util
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from sortedcontainers import SortedKeyList

from engine.base.geometry import Geometry, UnknownName, geometry_named
from engine.base.kernel import Kernel, kernel_named
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.child import LIBFUZZER, Child, Setting
from fuzz.campaign.coverage import HOW
from fuzz.campaign.feedback import FED
from fuzz.case import Case, CaseError, Expectation
from fuzz.defects.known import DEFECTS
from fuzz.execute import RulesAfter
from fuzz.findings.bucket import Bucket
from fuzz.findings.store import FINDINGS, Ledger, LedgerError
from fuzz.forms import text, wire
from fuzz.forms.transpose import transposed
from fuzz.inputs.inputs import Inputs, shared_out
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.status import Progress, StatusLine, count, duration, wants_colour
from fuzz.minimize.search import minimize
from fuzz.replay import DEFAULT_KERNEL, describe, expecting, finding
from fuzz.subjects.against import Against, Divergence
from fuzz.subjects.machine import MachineError, release

NOTHING_FOUND, NEW_FINDINGS, BAD_INPUT, OUR_DEFECT = 0, 1, 2, 3
STOPPED = 128  # plus the number of the signal

_HERE = Path(__file__).resolve().parents[1]  # the package, wherever it is installed
# An installed package brings its cases along; a checkout has them beside the packages.
CORPUS = _HERE / "_corpus" if (_HERE / "_corpus").is_dir() else _HERE.parent / "corpus"
SEEDS = (CORPUS / "seeds",)  # no case that breaks a rule: a finding is found, not given
MINIMIZE_BUDGET = 5_000  # executions
INPUT_SECONDS = 30  # a single input that takes longer is a defect of ours
MEMORY_MB = 2048
_POLL_SECONDS = 0.1
_CORPUS_SECONDS = 2.0  # between two counts of the corpus files
_SPEED_SECONDS = 5.0  # the speed shown is that of the last seconds
_LOG_TAIL_LINES = 20

_CHILD_STATUS = {
    70: "an input took too long",
    71: "it ran out of memory",
    77: "an exception that is no finding",
}


class RunError(Exception):
    """The run cannot start; the message says why and what to do."""


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM while the parent was minimizing."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to run and for how long.

    `seconds` and `runs` (executions) end the run, whichever comes first; None: neither does.
    `seed` None: chosen at random, and shown.  `calls` are the only calls of the programs (None:
    all that are modelled).  `seeds` are directories of text cases, or files (None: the project's
    own).  Programs are shared out among `geometries` (None: as `fuzz.inputs.inputs.shared_out`
    says).  `max_calls` is the length of the longest program.  `cells` false counts no cells.
    `minimize_budget` is how many candidates are run to minimize a finding.  `against` true
    runs new inputs on this machine as well, and compares it with the model that `kernels` names
    first.  `rules_after` see `fuzz.execute.execute`.  `count_known` true lets known defects of the
    kernels count for the exit status.  `libfuzzer` are flags passed on as they are.
    """

    workdir: Path
    kernels: tuple[str, ...] = (DEFAULT_KERNEL,)
    geometries: tuple[str, ...] | None = None
    seconds: int | None = None
    runs: int | None = None
    seed: int | None = None
    calls: frozenset[str] | None = None
    seeds: tuple[Path, ...] | None = None
    max_calls: int = wire.MAX_CALLS
    cells: bool = True
    minimize_budget: int = MINIMIZE_BUDGET
    against: bool = False
    count_known: bool = False
    rules_after: RulesAfter = "moving"
    libfuzzer: tuple[str, ...] = ()


@dataclass(slots=True)
class Seen:
    """A finding in this run.

    `hits` are the executions that met it, by kernel; `case` the simplest so far; `old` is true if
    an earlier run had found it.  `divergence` is set for one between machine and model.
    """

    bucket: Bucket
    case: Case
    old: bool
    divergence: Divergence | None = None
    hits: Counter[str] = field(default_factory=Counter)


def run(options: RunOptions) -> int:
    """Fuzz until the limits of `options`, Ctrl-C or SIGTERM.

    Returns: the exit status; see the module.
    """
    try:
        session = _Session(options)
    except (RunError, UnknownName, WriteError, LedgerError, MachineError) as error:
        print(f"pmdfuzz run: {error}", file=sys.stderr)
        return BAD_INPUT
    with session.ledger, session.against or contextlib.nullcontext():
        return session.run()


class _Session:
    """One run: its child, its findings, its status line."""

    def __init__(self, options: RunOptions) -> None:
        """Check everything that can be checked before the start.

        Errors raised: RunError, UnknownName, WriteError, LedgerError, MachineError.
        """
        check_environment()
        if not options.kernels:
            raise RunError("no kernel to run on")
        unknown = (options.calls or frozenset()) - MODELLED_CALLS
        if unknown:
            known = ", ".join(sorted(MODELLED_CALLS))
            raise RunError(f"unknown calls: {', '.join(sorted(unknown))}; known: {known}")
        self.calls = options.calls or MODELLED_CALLS
        self.options = options
        self.kernels = {name: kernel_named(name) for name in options.kernels}
        self.geometries = self._chosen_geometries()
        self.geometry = self.geometries[0]
        self.inputs = Inputs(self.geometries, self.calls, options.max_calls)
        if options.against and not options.cells:
            raise RunError("without cells nobody knows which inputs are new to run on the machine")
        if options.against and len(self.geometries) > 1:
            raise RunError("a machine has one geometry: name it, and no other, with --geometry")
        self.seed = options.seed if options.seed is not None else random.randrange(1, 1 << 31)
        self.workdir = options.workdir.absolute()
        self.corpus = self.workdir / "corpus" / self.geometry.name
        self.seeds = self.workdir / "seeds" / self.geometry.name
        self.crashes = self.workdir / "crashes"
        self.log = self.workdir / "libfuzzer.log"
        self.outdated = self.workdir / "outdated"
        _make_writable((self.corpus, self.seeds, self.crashes, self.workdir / FINDINGS))
        self.skipped = [*self._write_seeds(), *self._put_aside()]
        self.against = (
            Against.open(options.kernels[0], self.geometry.name) if options.against else None
        )
        self.ledger = Ledger.open(self.workdir)
        self.run_id = f"{time.strftime('%Y-%m-%dT%H:%M:%S')} seed {self.seed}"

        self.line = StatusLine(sys.stderr)
        self.progress = Progress(machine=0 if self.against else None)
        self.findings: dict[Bucket, Seen] = {}
        self.recorded: Counter[tuple[int, Bucket, str]] = Counter()  # hits the ledger knows of
        # To be minimized: unknown ones first, known defects can wait; else as they came.
        self.queue = SortedKeyList(key=lambda entry: bool(entry[0].bucket.defect))
        self.new_inputs: deque[bytes] = deque()  # to run on the machine
        self.machine_inputs = 0
        self.machine_lost = ""  # why the machine is not used any more
        self.stats: dict[int, dict[str, Any]] = {}  # the last one of each fuzzing process
        self.failure: dict[str, Any] | None = None
        self.defects: set[str] = set()  # of this project, met while minimizing
        self.signal = 0  # that asked the run to stop
        self.started = time.monotonic()
        self.last_new: float | None = None
        self.speeds: deque[tuple[float, int]] = deque()
        self.next_corpus_count = 0.0
        self.next_pump = 0.0
        self.said: set[str] = set()
        self.child: Child | None = None

    def _chosen_geometries(self) -> list[Geometry]:
        """The geometries of the programs, those without a mark first."""
        if self.options.geometries is not None:
            return [geometry_named(name) for name in self.options.geometries]
        usual = next(iter(self.kernels.values())).geometry
        return [usual] if self.options.against else shared_out(usual)

    # The course of a run.

    def run(self) -> int:
        """The whole run.  Returns: the exit status."""
        with self._signals():
            for reason in self.skipped:
                self._say(f"skipped: {reason}")
            artifacts = set(self.crashes.iterdir())
            self._say(self._headline())
            status = self._fuzz()
            self._spell_out()
            self._flush_queue()
            self._report_failure(status, set(self.crashes.iterdir()) - artifacts)
            self.line.clear()
            self._say(self._table())
        if self.signal:
            return STOPPED + self.signal
        if self.failure or self.defects:
            return OUR_DEFECT
        fresh = any(
            not seen.old and (self.options.count_known or not seen.bucket.defect)
            for seen in self.findings.values()
        )
        return NEW_FINDINGS if fresh else NOTHING_FOUND

    def _fuzz(self) -> int:
        """Follow the child until it has ended and every finding is dealt with.

        Returns: its exit status.
        """
        self.child = self._start_child()
        try:
            while self.child.talking or ((self.queue or self.new_inputs) and not self.signal):
                self._pump(self.child, 0.0 if self.new_inputs else _POLL_SECONDS)
                self._run_on_machine()
                if self.queue and not self.signal:
                    first = seen, kernel = self.queue[0]
                    with contextlib.suppress(_Interrupted):
                        self._investigate(seen, kernel, self.child)
                        self.queue.remove(first)
        except BaseException:
            self.child.kill()
            raise
        finally:
            status = self.child.close()
        return status

    def _pump(self, child: Child, timeout: float = 0.0) -> None:
        """Read what the child has to say and redraw the status line."""
        if self.signal:
            child.stop()
        for event in child.events(timeout):
            self._handle(event)
        self._update_progress()
        self.line.update(self.progress)

    def _pump_now_and_then(self, child: Child) -> None:
        """Pump, unless that was done a moment ago: cheap enough to be called all the time."""
        now = time.monotonic()
        if now >= self.next_pump:
            self.next_pump = now + _POLL_SECONDS
            self._pump(child)

    def _handle(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "stats":
                self.stats[event["pid"]] = event
                for bucket, kernel, hits in event["hits"]:
                    self._record(event, Bucket(*bucket), kernel, hits)
            case "finding":
                self._found(event)
            case "new":
                if not self.machine_lost:
                    self.new_inputs.append(bytes.fromhex(event["input"]))
            case "crash":
                self.failure = event
            case "start":
                if not event["fixed_addresses"] and sys.version_info < (3, 13):
                    self._say("addresses are random here: the same seed may give another run")

    # Findings.

    def _found(self, event: dict[str, Any]) -> None:
        """A kernel violated a rule for the first time in the child."""
        bucket = Bucket(*event["bucket"])
        kernel = kernel_named(event["kernel"], event["geometry"])
        if bucket not in self.findings:
            case = replace(
                self._decode(bytes.fromhex(event["input"])),
                kernel=kernel.name,
                expects=(Expectation(kernel.name, bucket.rule),),
                found=(f"run seed={self.seed} executions={event['execs']}",),
            )
            self._first(bucket, _marked(case), kernel)
        self._record(event, bucket, kernel.name, 1)

    def _first(
        self, bucket: Bucket, case: Case, kernel: Kernel, divergence: Divergence | None = None
    ) -> None:
        """A finding that this run has not seen before."""
        old = self.ledger.cases.path(bucket).exists()
        seen = self.findings[bucket] = Seen(bucket, case, old, divergence)
        if not old:
            if not bucket.defect:
                self.last_new = time.monotonic()
            self._save(seen)  # as it is, so that nothing can lose it
            self.queue.add((seen, kernel))

    def _record(self, event: dict[str, Any], bucket: Bucket, kernel: str, hits: int) -> None:
        """Count the hits that are new since the last time; `hits` are all of one process."""
        key = (event["pid"], bucket, kernel)
        more = hits - self.recorded[key]
        if more <= 0:
            return
        self.recorded[key] = hits
        self.findings[bucket].hits[kernel] += more
        try:
            self.ledger.record(
                bucket, kernel, run_id=self.run_id, executions=event["execs"], count=more
            )
        except LedgerError as error:
            self._once(f"{error}\nThe run goes on; the cases of findings are kept all the same.")

    def _save(self, seen: Seen) -> None:
        """Keep the case of a new finding; show it if it cannot be kept."""
        try:
            write_atomic(self._path(seen), text.dump(seen.case))
        except WriteError as error:
            self._say(f"{error}\nNot kept, so here it is:\n{_indented(text.dump(seen.case))}")

    def _investigate(self, seen: Seen, kernel: Kernel, child: Child) -> None:
        """Minimize a new finding, save it and show it.

        Errors raised: _Interrupted; the unminimized case is on disk then.
        """

        if seen.divergence is not None:
            self._investigate_divergence(seen, seen.divergence, child)
            return

        def shows_on(kernel: Kernel) -> Callable[[Case], bool]:
            def same(case: Case) -> bool:
                self._breathe(child)
                try:
                    return finding(case, kernel) == seen.bucket
                except Exception as error:
                    # A candidate on which the project itself fails is no simpler form of it.
                    self._defect(case, kernel, error)
                    return False

            return same

        same = shows_on(kernel)
        if not same(seen.case):
            self.defects.add(seen.bucket.name)
            self._say(
                f"{seen.bucket.name} did not happen again when replayed, which is a defect of "
                f"pmdfuzz; its program is in {_shown(self._path(seen))}"
            )
            return
        budget = self.options.minimize_budget
        self.progress.doing = f"minimizing {seen.bucket.name}"
        try:
            case = minimize(seen.case, same, kernel.geometry, budget=budget)
            if kernel.geometry != self.geometry:
                # Of use is a program for a machine: what smaller tables show mostly shows there.
                there = self._named(transposed(case, kernel.geometry, self.geometry))
                same = shows_on(kernel.on(self.geometry))
                if same(there):
                    case = minimize(there, same, self.geometry, budget=budget)
                    kernel = kernel.on(self.geometry)
        finally:
            self.progress.doing = ""
        try:
            case = expecting(case, dict.fromkeys([kernel.name, *self.kernels]))
        except Exception as error:
            self._defect(case, kernel, error)
        seen.case = _marked(case)
        self._save(seen)
        self._say(
            self._told_known(seen, kernel) if seen.bucket.defect else self._told(seen, kernel)
        )

    def _told(self, seen: Seen, kernel: Kernel) -> str:
        """A new finding, once it is minimal."""
        outcomes = [f"{expected.kernel} {expected.outcome}" for expected in seen.case.expects]
        return "\n".join(
            (
                "",
                f"NEW FINDING {seen.bucket.name} on {self._ground(kernel)}",
                describe(seen.case, kernel, colour=wants_colour(sys.stdout)),
                f"Shows: {', '.join(outcomes)}",
                f"Reproduce with: pmdfuzz replay {_shown(self._path(seen))}",
                f"Promote with:   {self._promote(seen)}",
                "",
            )
        )

    def _told_known(self, seen: Seen, kernel: Kernel) -> str:
        """The same of a known defect, in short."""
        calls = map(text.format_call, seen.case.calls)
        known = DEFECTS[seen.bucket.defect]
        return "\n".join(
            (
                f"known: {known.id} on {self._ground(kernel)}, {known.text}",
                *(f"  {call}" for call in calls),
                f"  Look with: pmdfuzz show {_shown(self._path(seen))}",
            )
        )

    def _ground(self, kernel: Kernel) -> str:
        """The name of a kernel, with its geometry unless that is the one that is meant anyway."""
        usual = kernel.geometry == self.geometry
        return kernel.name if usual else f"{kernel.name} ({kernel.geometry.name})"

    def _breathe(self, child: Child) -> None:
        """See to everything else while something takes long.  Errors raised: _Interrupted."""
        self._pump_now_and_then(child)
        if self.signal:
            raise _Interrupted

    # The machine.

    def _run_on_machine(self) -> None:
        """Run inputs that are new on the machine, for a moment."""
        until = time.monotonic() + _POLL_SECONDS
        while self.new_inputs and time.monotonic() < until and not self.signal:
            assert self.against is not None
            case = self._decode(self.new_inputs.popleft())
            try:
                found = self.against.divergence(case)
                self.machine_inputs += 1
                if found is not None:
                    self._diverged(self.against, self.against.earliest(found))
            except MachineError as error:
                self._lose_machine(error)

    def _lose_machine(self, error: MachineError) -> None:
        """Go on without the machine."""
        self.machine_lost = str(error)
        self.new_inputs.clear()
        self._say(f"The run goes on without the machine: {error}")

    def _diverged(self, against: Against, found: Divergence) -> None:
        """Machine and model part on an input."""
        bucket, kernel = found.bucket, against.kernel
        execs = self.progress.execs
        if bucket not in self.findings:
            case = against.as_case(found, f"run seed={self.seed} executions={execs}")
            self._first(bucket, case, kernel, found)
        hits = self.findings[bucket].hits[kernel.name] + 1
        self._record({"pid": os.getpid(), "execs": execs}, bucket, kernel.name, hits)

    def _investigate_divergence(self, seen: Seen, found: Divergence, child: Child) -> None:
        """Minimize a new divergence on the machine, save it and show it.

        Errors raised: _Interrupted; the unminimized case is on disk then.
        """
        assert self.against is not None
        self.progress.doing = f"minimizing {seen.bucket.name}"
        try:
            small = self.against.minimized(
                found, self.options.minimize_budget, lambda: self._breathe(child)
            )
        except MachineError as error:
            self._lose_machine(error)
            return
        finally:
            self.progress.doing = ""
        where = _shown(self._path(seen))
        if small is None:
            self._say(f"{seen.bucket.name} did not happen again on the machine; see {where}")
            return
        seen.case = self.against.as_case(small, *seen.case.found)
        self._save(seen)
        lines = (
            "",
            f"NEW FINDING {seen.bucket.name}: Linux {release()} is not {self.against.kernel.name}",
            str(small.kind),
            _indented(small.told()),
            f"Reproduce with: pmdfuzz kernel check {where}",
            "",
        )
        self._say("\n".join(lines))

    def _defect(self, case: Case, kernel: Kernel, error: Exception) -> None:
        """Keep a case on which this project itself fails, once for each kind of failure."""
        why = f"{type(error).__name__}: {error}"
        if why in self.defects:
            return
        self.defects.add(why)
        name = f"defect-{hashlib.sha1(why.encode()).hexdigest()[:12]}.case"
        kept = self._keep_crash(self.crashes / name, case, kernel.name, why)
        self._say(f"A defect of pmdfuzz, met while minimizing: {why}\n{kept}")

    def _flush_queue(self) -> None:
        """Tell of the findings that the end of the run left unminimized."""
        for seen, _ in self.queue:
            where = _shown(self._path(seen))
            self._say(f"not minimized: {where}\n  pmdfuzz minimize {where} -o {where}")

    # The child.

    def _start_child(self) -> Child:
        setting = Setting(
            kernels=list(self.kernels),
            geometries=[geometry.name for geometry in self.geometries],
            calls=sorted(self.calls),
            max_calls=self.options.max_calls,
            runs=self.options.runs or 0,
            cells=self.options.cells,
            fed=FED,
            tell_new=self.against is not None,
            rules_after=self.options.rules_after,
        )
        return Child(setting, self._libfuzzer_arguments(), self.log)

    def _libfuzzer_arguments(self) -> list[str]:
        options = self.options
        flags = [
            f"-seed={self.seed}",
            # Longer inputs decode to the same; but libFuzzer would cut a longer seed.
            f"-max_len={max(wire.WIDTH * options.max_calls + 1, self.longest_seed)}",
            f"-timeout={INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={self.crashes}/",
            *LIBFUZZER,
            "-print_final_stats=1",
        ]
        if options.runs is not None:
            flags.append(f"-runs={options.runs}")
        if options.seconds is not None:
            flags.append(f"-max_total_time={options.seconds}")
        # libFuzzer heeds the last one of equal flags, so those of the user win.
        return [*flags, *options.libfuzzer, str(self.corpus), str(self.seeds)]

    def _report_failure(self, status: int, artifacts: set[Path]) -> None:
        """If the child died unexpectedly, explain why and keep what it died of."""
        if self.failure is None and (self.signal or status == 0):
            return
        if self.failure is None:
            why = _CHILD_STATUS.get(status, f"exit status {status}")
            if status < 0:
                why = f"killed by {signal.Signals(-status).name}"
            self.failure = {"error": why, "kernel": ""}
            details = f"The end of {_shown(self.log)}:\n{_indented(_tail(self.log))}"
        else:
            why = self.failure["error"]
            details = _indented(self.failure["traceback"].rstrip())
            data = bytes.fromhex(self.failure["input"])
            kept = self.crashes / f"crash-{hashlib.sha1(data).hexdigest()}"
            write_atomic(kept, data)
            artifacts.add(kept)
        lines = [f"The fuzzing process failed, which is a defect of pmdfuzz: {why}", details]
        kernel = self.failure["kernel"] or next(iter(self.kernels))
        for path in sorted(artifacts):
            if path.suffix != ".case" and not path.name.startswith("slow-unit"):
                case = self._decode(path.read_bytes())
                target = path.with_name(f"{path.name}.case")
                lines.append(self._keep_crash(target, case, kernel, why))
        self._say("\n".join(lines))

    def _keep_crash(self, path: Path, case: Case, kernel: str, why: str) -> str:
        """Write a case on which this project fails.  Returns: how to replay it."""
        comments = tuple(line.rstrip() for line in why.splitlines())
        case = _marked(replace(case.program(), comments=comments))
        case = replace(case, kernel=kernel)
        write_atomic(path, text.dump(case))
        return f"Replay with: pmdfuzz replay {_shown(path)}"

    def _decode(self, data: bytes) -> Case:
        """The program of an input; it says on which geometry it runs, but for the usual one."""
        number, case = self.inputs.decode(data)
        return self._named(replace(case, geometry=self.geometries[number].name))

    def _named(self, case: Case) -> Case:
        """The case without the name of its geometry if it is the one that kernels usually have."""
        usual = next(iter(self.kernels.values())).geometry
        return replace(case, geometry=None) if case.geometry == usual.name else case

    # Seeds.

    def _write_seeds(self) -> list[str]:
        """Encode the seeds.  Returns: a line for each file that could not be used.

        Cases for other geometries, or with calls that this run does not use, are left out.
        """
        places = self.options.seeds
        if places is None:
            places = tuple(place for place in SEEDS if place.is_dir())
        skipped = []
        names = {geometry.name: number for number, geometry in enumerate(self.geometries)}
        wanted: dict[str, bytes] = {}
        for path in (path for place in places for path in _files(place)):
            try:
                case = text.load(path)
                number = names.get(case.geometry or self.geometry.name)
                if number is not None and self.calls >= _names(case):
                    if len(case.calls) > self.options.max_calls:
                        raise ValueError(f"more than {self.options.max_calls} calls")
                    wanted[f"{path.parent.name}-{path.stem}"] = self.inputs.encode(case, number)
            except CaseError as error:
                skipped.append(str(error))
            except ValueError as error:
                skipped.append(f"{path}: {error}")
        for stale in self.seeds.iterdir():
            if stale.name not in wanted:
                stale.unlink()
        for name, data in wanted.items():
            (self.seeds / name).write_bytes(data)
        self.longest_seed = max(map(len, wanted.values()), default=0)
        return skipped

    # The corpus.

    def _spell_out(self) -> None:
        """Write down the programs of the corpus that are a plan and a seed: plans will change."""
        for path in _files(self.corpus):
            data = path.read_bytes()
            spelled = self.inputs.spelled_out(data)
            if spelled is not data:
                write_atomic(path.with_name(hashlib.sha1(spelled).hexdigest()), spelled)
                path.unlink()

    def _put_aside(self) -> list[str]:
        """See to what a run that was killed left unwritten.

        Returns: a line that tells of inputs whose plan has changed since: what they stood for, only
        the project as it was then can tell.
        """
        self._spell_out()
        old = [path for path in _files(self.corpus) if self.inputs.is_outdated(path.read_bytes())]
        if not old:
            return []
        self.outdated.mkdir(exist_ok=True)
        for path in old:
            path.rename(self.outdated / path.name)
        return [
            f"{len(old)} inputs of a run that was killed, made to plans that have changed since; "
            f"they are in {_shown(self.outdated)} now"
        ]

    # What is shown.

    def _say(self, message: str) -> None:
        self.line.write(message, sys.stdout)

    def _once(self, message: str) -> None:
        """Say something that would else be said over and over."""
        if message not in self.said:
            self.said.add(message)
            self._say(message)

    def _headline(self) -> str:
        limits = [duration(self.options.seconds)] if self.options.seconds is not None else []
        if self.options.runs is not None:
            limits.append(f"{self.options.runs} executions")
        until = " or ".join(limits) or "Ctrl-C"
        return (
            f"fuzzing {', '.join(self.kernels)} on {_joined(self.geometries)}, seed {self.seed}, "
            f"until {until}; everything is kept in {_shown(self.workdir)}\n"
            f"coverage of the model by {HOW} (Python {sys.version_info[0]}.{sys.version_info[1]})"
        )

    def _update_progress(self) -> None:
        now, progress = time.monotonic(), self.progress
        progress.seconds = now - self.started
        progress.execs = sum(stats["execs"] for stats in self.stats.values())
        progress.cells = max((stats["cells"] for stats in self.stats.values()), default=0)
        unknown = [seen for seen in self.findings.values() if not seen.bucket.defect]
        progress.findings = len(unknown)
        progress.old = sum(seen.old for seen in unknown)
        progress.known = len(self.findings) - len(unknown)
        if self.against is not None:
            progress.machine = self.machine_inputs
        progress.last_new = None if self.last_new is None else now - self.last_new
        if not self.speeds or progress.execs != self.speeds[-1][1]:
            self.speeds.append((now, progress.execs))
        while len(self.speeds) > 2 and self.speeds[0][0] < now - _SPEED_SECONDS:
            self.speeds.popleft()
        passed = self.speeds[-1][0] - self.speeds[0][0]
        if passed:
            progress.execs_per_second = (self.speeds[-1][1] - self.speeds[0][1]) / passed
        if now >= self.next_corpus_count:
            self.next_corpus_count = now + _CORPUS_SECONDS
            progress.corpus = sum(1 for _ in os.scandir(self.corpus))

    def _table(self) -> str:
        """The findings of the run, and what to do next."""
        self.next_corpus_count = 0.0
        self._update_progress()
        execs = max(self.progress.execs, _executed(self.log))
        lines = [
            "",
            f"{execs} executions in {duration(self.progress.seconds)}, "
            f"{self.progress.corpus} inputs in the corpus, {count(self.progress.cells)} cells",
        ]
        if self.against is not None:
            missed = f", {len(self.new_inputs)} new ones were not" if self.new_inputs else ""
            lost = f"; lost: {self.machine_lost.splitlines()[0]}" if self.machine_lost else ""
            lines.append(
                f"{self.machine_inputs} inputs were run on Linux {release()} and compared with "
                f"{self.against.kernel.name}{missed}{lost}"
            )
        if not self.findings:
            return "\n".join([*lines, "no findings"])
        rows = [("finding", "", "defect", "hits", "calls", "kernels", "case")]
        ordered = sorted(
            self.findings.values(),
            key=lambda seen: (bool(seen.bucket.defect), seen.old, seen.bucket),
        )
        for seen in ordered:
            case = seen.case
            if seen.old:
                with contextlib.suppress(CaseError):
                    case = text.load(self._path(seen))
            rows.append(
                (
                    seen.bucket.name,
                    "old" if seen.old else "new",
                    f"known: {seen.bucket.defect}" if seen.bucket.defect else "unknown",
                    str(seen.hits.total()),
                    str(len(case.calls)),
                    " ".join(name for name in self.kernels if seen.hits[name]),
                    _shown(self._path(seen)),
                )
            )
        lines += _columns(rows)
        if self.progress.known and not self.options.count_known:
            lines.append("Known defects do not count for the exit status (but with --count-known).")
        fresh = [seen for seen in ordered if not seen.old]
        if fresh:
            lines += [
                "",
                "Next:",
                f"  pmdfuzz show {_shown(self._path(fresh[0]))}",
                f"  {self._promote(fresh[0])}",
            ]
        return "\n".join(lines)

    def _path(self, seen: Seen) -> Path:
        return self.ledger.cases.path(seen.bucket)

    def _promote(self, seen: Seen) -> str:
        return f"pmdfuzz findings promote {seen.bucket.name} --workdir {_shown(self.workdir)}"

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """While the run lasts, Ctrl-C and SIGTERM ask it to end; a second one kills the child."""

        def ask(number: int, _: FrameType | None) -> None:
            if self.signal and self.child is not None:
                self.child.kill()
            self.signal = self.signal or number

        old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _joined(geometries: Sequence[Geometry]) -> str:
    return ", ".join(geometry.name for geometry in geometries)


def _names(case: Case) -> set[str]:
    """The calls that the case makes."""
    return {call.name for call in case.calls}


def _marked(case: Case) -> Case:
    """The case, marked as hypothetical if it is."""
    return replace(case, hypothetical="relocate" in _names(case))


def check_environment() -> None:
    """Errors raised: RunError if fuzzing is impossible here."""
    if not __debug__:
        raise RunError("python -O strips the assertions; run without it")
    if importlib.util.find_spec("atheris") is None:
        raise RunError(
            "fuzzing needs atheris, which is not installed here; install it with\n"
            "  pip install 'pmdfuzz[fuzz]'\n"
            "(replay, minimize, show and compare work without it)"
        )


def _make_writable(directories: Sequence[Path]) -> None:
    """Create the directories.  Errors raised: RunError if one cannot be made or written."""
    for directory in directories:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe = directory / f".{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunError(f"{directory}: cannot write here: {error.strerror}") from None


def _files(place: Path) -> list[Path]:
    """The files of a directory, or the file itself.  Errors raised: RunError if unreadable."""
    try:
        if place.is_dir():
            return sorted(path for path in place.iterdir() if path.is_file())
        place.stat()
    except OSError as error:
        raise RunError(f"{place}: cannot read seeds: {error.strerror}") from None
    return [place]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _executed(log: Path) -> int:
    """Executions as libFuzzer counted them, or 0 if it could not say."""
    prefix = "stat::number_of_executed_units:"
    found = [line for line in _tail(log).splitlines() if line.startswith(prefix)]
    return int(found[-1].split()[-1]) if found else 0


def _tail(log: Path) -> str:
    """The last lines of a file."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
    return ""


def _shown(path: Path) -> str:
    """A path as short as it can be written from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _indented(lines: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in lines.splitlines())
