"""What a run knows: what it was asked for, where its files lie, what it has found so far."""

import contextlib
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from sortedcontainers import SortedKeyList

from engine.base.geometry import Geometry, UnknownName, geometry_named
from engine.base.kernel import Kernel, base_of, kernel_named
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.child import RunError
from fuzz.campaign.retest import counted, retest_all, summed_up
from fuzz.case import Case, CaseError, Expectation
from fuzz.findings.baseline import Baseline, BaselineError
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import FINDINGS, NOT_MINIMIZED, minimal
from fuzz.findings.database import LedgerError
from fuzz.findings.ledger import Ledger
from fuzz.findings.states import FIXED, NEW, OPEN, REOPENED
from fuzz.forms import text, wire
from fuzz.inputs.inputs import Inputs, shared_out
from fuzz.lib.files import WriteError
from fuzz.lib.fingerprint import of_this_project
from fuzz.lib.lines import indented, short
from fuzz.lib.status import Progress, StatusLine
from fuzz.rules.judge import RulesAfter
from fuzz.showing import DEFAULT_KERNEL
from fuzz.subjects.against import Divergence, of_machine
from fuzz.subjects.pair import Pair

MINIMIZE_BUDGET = 5_000  # executions


class Tls(NamedTuple):
    """The files of an encrypted connection, as dask calls them; None: as its configuration says."""

    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None


PLAINLY = Tls()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to run and for how long.

    `seconds` and `runs` (executions) end the run, whichever comes first; None: neither does.
    `seed` None: chosen at random, and shown.  `calls` are the only calls of the programs (None:
    all that are modelled).  `seeds` are directories of text cases, or files (None: the project's
    own).  Programs are shared out among `geometries` (None: as `fuzz.inputs.inputs.shared_out`
    says).  `max_calls` is the length of the longest program.  `cells` false counts no cells.
    `minimize_budget` is how many candidates are run to minimize a finding.  `against` are names of
    subjects that run new inputs as well, each beside the model of its kernel: the one of `kernels`
    that is of its release, or else the first; `machines` of each work side by side.  `like` is a
    kernel that the others must be like: where they differ from it, and nothing else, is found.
    `rules_after` see `fuzz.execute.execute`.  `count_known` true lets known defects of the kernels
    count for the exit status, `count_old` what earlier runs have found, see `Session.counts_old`.
    `jobs` fuzzing processes work side by side, or those of a `cluster`, reached as `tls` says, see
    `fuzz.campaign.cluster.Cluster`.  `baseline` is a file of findings that may be met
    (`fuzz.findings.baseline`), to which `update_baseline` adds the others; `junit` is one to be
    written (`fuzz.campaign.result`).  `stop_at_first` ends the run at the first finding that
    counts.  `libfuzzer` are flags passed on as they are.
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
    against: tuple[str, ...] = ()
    machines: int = 1
    count_known: bool = False
    count_old: bool = False
    rules_after: RulesAfter = "moving"
    like: str | None = None
    jobs: int = 1
    cluster: str | None = None
    tls: Tls = PLAINLY
    baseline: Path | None = None
    update_baseline: bool = False
    junit: Path | None = None
    stop_at_first: bool = False
    libfuzzer: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Seen:
    """A finding in this run.

    `case` is the simplest of this run so far, `kernel` the one on which it was met first; `old` is
    true if another run had found it, and `state` what it was in by then (`fuzz.findings.states`),
    REOPENED if it had been fixed.  `divergence` is set for one between machine and model.  `hits`
    are the executions that met it, by kernel; `left` is true if an earlier run was stopped before
    it was minimized.
    """

    bucket: Bucket
    case: Case
    kernel: Kernel
    old: bool
    divergence: Divergence | None = None
    hits: Counter[str] = field(default_factory=Counter)
    left: bool = False
    state: str = NEW


class Session:
    """What a run knows; a context manager that closes the ledger.

    Several fuzzing processes may report to one session, and several sessions may have one working
    directory.
    """

    def __init__(self, options: RunOptions) -> None:
        """Check what is asked for, and make the working directory.

        Errors raised: RunError, UnknownName, LedgerError, WriteError.
        """
        if not options.kernels:
            raise RunError("no kernel to run on")
        unknown = (options.calls or frozenset()) - MODELLED_CALLS
        if unknown:
            known = ", ".join(sorted(MODELLED_CALLS))
            raise RunError(f"unknown calls: {', '.join(sorted(unknown))}; known: {known}")
        self.options = options
        self.calls = options.calls or MODELLED_CALLS
        self.kernels = {name: kernel_named(name) for name in options.kernels}
        self.like = kernel_named(options.like) if options.like is not None else None
        for kernel in self.kernels.values() if self.like is not None else ():
            self.pair(kernel)
        self.geometries = self._chosen_geometries()
        self.geometry = self.geometries[0]
        self.inputs = Inputs(self.geometries, self.calls, options.max_calls)
        if options.against and options.like:
            raise RunError("a run is against a subject or like another kernel, not both")
        if options.against and not options.cells:
            raise RunError("without cells nobody knows which inputs are new to run on the machine")
        if options.against and len(self.geometries) > 1:
            raise RunError("a subject has one geometry: name it, and no other, with --geometry")
        self.seed = options.seed if options.seed is not None else random.randrange(1, 1 << 31)

        self.baseline = self._baseline()
        self.workdir = options.workdir.absolute()
        self.corpus = self.workdir / "corpus" / self.geometry.name
        self.seeds = self.workdir / "seeds" / self.geometry.name
        self.crashes = self.workdir / "crashes"
        self.outdated = self.workdir / "outdated"
        _make_writable((self.corpus, self.seeds, self.crashes, self.workdir / FINDINGS))
        self.ledger, damage, kept = Ledger.renewed(self.workdir)
        damaged = self.ledger.cases.put_aside()
        self.repairs = [what for _, what in damaged]  # what was damaged, and where it is now
        if damage is not None:
            self.repairs.append(f"{damage.path}: {damage.why}\nMoved to {kept}; a new one is begun")
        self._put_aside = {bucket for bucket, _ in damaged}
        self.run_id = f"{time.strftime('%Y-%m-%dT%H:%M:%S')} seed {self.seed}"

        self.findings: dict[Bucket, Seen] = {}
        # To be minimized: unknown ones first, known defects can wait, and what was left, too; else
        # as they came.
        self.queue = SortedKeyList(key=lambda seen: (seen.left, bool(seen.bucket.defect)))
        self._left = {seen.bucket: seen for seen in self._left_by_others()}
        self.queue.update(self._left.values())
        self.reopened: list[Bucket] = []  # by the retest at the start
        self.last_new: float | None = None  # time.monotonic() of the last unknown one
        # Hits the ledger knows of, by who has them: a round, and then finding and kernel.
        self._recorded: dict[str, Counter[tuple[Bucket, str]]] = defaultdict(Counter)

        self.line = StatusLine(sys.stderr)
        self.progress = Progress()
        self._said: set[str] = set()

    def _baseline(self) -> Baseline | None:
        """The findings that may be met; a file that is to be written need not be there yet.

        Errors raised: RunError.
        """
        path = self.options.baseline
        if path is None:
            return None
        if self.options.update_baseline and not path.exists():
            return Baseline()
        try:
            return Baseline.load(path)
        except BaselineError as error:
            raise RunError(str(error)) from None

    def pair(self, kernel: Kernel) -> Pair:
        """A kernel and the one that it is to be like.  Errors raised: RunError."""
        assert self.like is not None
        try:
            return Pair(kernel, self.like, self.options.rules_after)
        except CaseError as error:
            raise RunError(str(error)) from None

    def _chosen_geometries(self) -> list[Geometry]:
        """The geometries of the programs, those without a mark first."""
        if self.options.geometries is not None:
            return [geometry_named(name) for name in self.options.geometries]
        return [self.usual] if self.options.against else shared_out(self.usual)

    @property
    def usual(self) -> Geometry:
        """The geometry of a case that names none."""
        return next(iter(self.kernels.values())).geometry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(LedgerError):  # which `keep_rest` has told
            self.ledger.close()

    # Findings.

    @property
    def counts_old(self) -> bool:
        """Does what earlier runs have found count for the exit status, too?

        A kernel of one's own keeps its name while it is edited: what it still shows is no success.
        """
        own = any(base_of(name) != name for name in self.kernels)
        return self.options.count_old or own or self.like is not None

    def found(self, bucket: Bucket, case: Case, kernel: Kernel, note: str, worst: str) -> None:
        """Take note of a finding of the model.

        Arguments: `note` on where it was found; `worst` what the case is to expect: until it is
        minimal, it may show other findings, too.
        """
        expects = (Expectation(kernel.name, worst),) if self.like is None else ()
        like = None if self.like is None else self.like.name
        case = replace(case, kernel=kernel.name, expects=expects, like=like, found=(note,))
        self.met(bucket, marked(case), kernel)

    def met(
        self, bucket: Bucket, case: Case, kernel: Kernel, divergence: Divergence | None = None
    ) -> None:
        """Take note of a finding: keep it, and queue it, if it is new or has fewer calls now."""
        case = replace(case, found=(*case.found, NOT_MINIMIZED))
        seen = self.findings.get(bucket)
        if seen is None:
            kept = self.path(bucket).exists()
            old = kept or bucket in self._put_aside
            seen = self._left.get(bucket) or Seen(bucket, case, kernel, old, divergence)
            seen.state = self._state(bucket, old=old)
            self.findings[bucket] = seen
            if not kept:
                if not old and not bucket.defect:
                    self.last_new = time.monotonic()
                self._save(bucket, case, None)  # as it is, so that nothing can lose it
                self.queue.add(seen)
                return
            with contextlib.suppress(CaseError):  # somebody may be editing it
                seen.case = self.ledger.cases.load(bucket) or case
        shorter = divergence is None and len(case.calls) < len(seen.case.calls)
        if shorter and seen not in self.queue:
            seen.case, seen.kernel = case, kernel
            self._save(bucket, case, None)
            self.queue.add(seen)

    def _state(self, bucket: Bucket, *, old: bool) -> str:
        """The state of a finding that is met for the first time; fixed ones are reopened."""
        try:
            change = self.ledger.states.last().get(bucket)
            if change is None:
                return OPEN if old else NEW
            if change.state != FIXED:
                return change.state
            self.ledger.states.change(bucket, REOPENED)
        except LedgerError as error:
            self.once(str(error))
            return OPEN if old else NEW
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(change.at))
        self.say(f"\nREOPENED {bucket.name}, fixed since {since}; {short(self.path(bucket))}\n")
        return REOPENED

    def retest(self) -> None:
        """See whether findings still show, unless this very program did that last.

        Errors raised: LedgerError.
        """
        program = of_this_project()
        if self.ledger.states.last_retest() == program:
            return
        done = []
        for one in retest_all(self.ledger, program):
            done.append(one)
            if one.change is not None:
                self.say(str(one))
            if one.change == REOPENED:
                self.reopened.append(one.bucket)
        if done:
            self.say(summed_up(counted(done)))

    def _left_by_others(self) -> Iterator[Seen]:
        """The findings whose cases earlier runs have not minimized, as far as this one can."""
        like = None if self.like is None else self.like.name
        for path, case in self.ledger.cases.load_all().cases.items():
            if NOT_MINIMIZED in case.found and case.kernel and case.like == like:
                with contextlib.suppress(ValueError, UnknownName):
                    bucket = Bucket.named(path.stem)
                    kernel = kernel_named(case.kernel, case.geometry)
                    if not of_machine(bucket):
                        yield Seen(bucket, case, kernel, old=True, left=True)

    def record(
        self, bucket: Bucket, kernel: str, hits: int, *, by: str, execs: int, machine: str = ""
    ) -> None:
        """Count the hits of a finding on a kernel that are new since the last time.

        `hits` and `execs`, executions, are all that it has had so far `by` whom it is, a round or
        a subject; `machine` is that subject, if it is one.
        """
        recorded = self._recorded[by]
        more = hits - recorded[bucket, kernel]
        if more <= 0:
            return
        recorded[bucket, kernel] = hits
        self.findings[bucket].hits[kernel] += more
        try:
            self.ledger.record(
                bucket,
                kernel,
                run_id=self.run_id,
                executions=execs,
                count=more,
                machine=machine,
            )
        except LedgerError as error:
            self.once(f"{error}\nThe run goes on; the cases of findings are kept all the same.")

    def forget(self, by: str) -> None:
        """A round has ended: it has no more hits to record."""
        self._recorded.pop(by, None)

    def minimized(self, seen: Seen, case: Case) -> None:
        """Keep the minimal case of a finding, unless another run has kept a simpler one."""
        case = minimal(case)
        earlier, seen.case = seen.case, case
        self._save(seen.bucket, case, earlier)

    def leads_to(self, seen: Seen, case: Case) -> None:
        """Keep the harm that a finding leads to, beside it."""
        try:
            self.ledger.cases.save_harm(seen.bucket, case)
        except WriteError as error:
            self._show(case, error)

    def keep_rest(self) -> list[str]:
        """Try once more to keep what could not be kept, as on a full disk.

        Returns: what still cannot be kept, and why.
        """
        problems: list[str] = []
        for bucket, case in list(self.ledger.cases.unsaved.items()):
            try:
                self.ledger.cases.save(bucket, case)
            except WriteError as error:
                problems.append(f"{bucket.name} is not kept: {error}")
        try:
            self.ledger.flush()
        except LedgerError as error:
            problems.append(str(error))
        return problems

    def _save(self, bucket: Bucket, case: Case, earlier: Case | None) -> None:
        """Keep the case of a finding in place of ours before; show it if it cannot be kept."""
        try:
            self.ledger.cases.save(bucket, case, instead_of=earlier)
        except WriteError as error:
            self._show(case, error)

    def _show(self, case: Case, error: WriteError) -> None:
        """Print a case that cannot be kept, so that it is not lost."""
        self.say(f"{error}\nNot kept, so here it is:\n{indented(text.dump(case))}")

    def path(self, bucket: Bucket) -> Path:
        """The file of a finding."""
        return self.ledger.cases.path(bucket)

    def harm_path(self, bucket: Bucket) -> Path:
        """The file of the harm that it leads to."""
        return self.ledger.cases.harm_path(bucket)

    # Programs.

    def decode(self, data: bytes) -> Case:
        """The program of an input; it says on which geometry it runs, but for the usual one."""
        number, case = self.inputs.decode(data)
        return self.named(replace(case, geometry=self.geometries[number].name))

    def named(self, case: Case) -> Case:
        """The case without the name of its geometry if it is the one that kernels usually have."""
        return replace(case, geometry=None) if case.geometry == self.usual.name else case

    # What is said.

    def say(self, message: str) -> None:
        """Print lines, out of the way of the status line."""
        self.line.write(message, sys.stdout)

    def once(self, message: str) -> None:
        """Say something that would else be said over and over."""
        if message not in self._said:
            self._said.add(message)
            self.say(message)


def marked(case: Case) -> Case:
    """The case, marked as hypothetical if it is."""
    return replace(case, hypothetical=any(call.name == "relocate" for call in case.calls))


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
