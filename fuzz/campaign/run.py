"""`pmdfuzz run`: the session, which has rounds of fuzzing done and takes in what they find.

Atheris runs in processes of their own (`fuzz.campaign.harness`).  The session does all the rest: it
encodes the seeds, says what is done next (`rounds`), keeps and counts findings, and has each looked
into (`investigate`).  It alone writes the working directory, but for the corpus that fuzzing
processes of the same machine write themselves.

What lies in the working directory: README.md here.  One run at a time has it (`fuzz.lib.lock`);
other commands, `ab` too, may use it meanwhile.

With `against` every input that is new to the model, because it reaches a cell for the first time,
runs on the subjects of that name, too.  A program on which one and the model of its kernel part is
a finding of its own: machine-differs, with the call after which they do.

A finding is a rule, the call that broke it, and the known defect of the kernel that it is put down
to, if any (`fuzz.defects.attribute`); on how many kernels does not matter.  One whose case the
working directory already holds when the run meets it is old: it is counted, but neither minimized
again nor replaced, even if the new case is shorter.  Known defects are kept as cases like all
findings, and told of by name; unless asked, they do not count for the exit status.

A round whose process dies, killed or not, is followed by another with the same corpus and another
seed; only processes that die before they have executed anything, five in a row, end the run.

Exit status: 0 nothing new found; 1 new findings; 2 bad input or environment; 3 this project itself
failed (a rule raised something, a fuzzing process died of itself); 130 stopped by Ctrl-C, 143 by
SIGTERM and 129 by SIGHUP, after everything was saved and shown.
"""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.base.geometry import UnknownName
from engine.base.kernel import kernel_named
from fuzz import bounded
from fuzz.campaign.child import RunError, check_environment
from fuzz.campaign.chronicle import Chronicle
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.differential import Differential, run_all
from fuzz.campaign.executor import Executor, parted
from fuzz.campaign.investigate import Interrupted, Investigations, doing
from fuzz.campaign.local import Local
from fuzz.campaign.meter import Meter
from fuzz.campaign.report import (
    headline,
    machine_line,
    summary,
    told_subject,
)
from fuzz.campaign.result import Result, hand_over
from fuzz.campaign.round import Met, Report, Round
from fuzz.campaign.rounds import Rounds
from fuzz.campaign.seeds import spell_out, take_up, write_seeds
from fuzz.campaign.session import RunOptions, Seen, Session
from fuzz.campaign.suspects import Suspects
from fuzz.campaign.verdict import any_counts
from fuzz.findings.database import LedgerError
from fuzz.lib.command import command
from fuzz.lib.exits import BAD_INPUT, FINE, OUR_DEFECT, STOPPED, SURPRISES
from fuzz.lib.files import WriteError
from fuzz.lib.lines import short
from fuzz.lib.lock import Lock, Locked
from fuzz.lib.signals import on_request
from fuzz.subjects.against import Against
from fuzz.subjects.beside import against_model, beside_model
from fuzz.subjects.subject import SubjectError

if TYPE_CHECKING:
    from fuzz.campaign.cluster import Cluster

LOCK = "run.lock"  # file in the working directory
_POLL_SECONDS = 0.1


def run(options: RunOptions, hand: Callable[[Result], None] = lambda result: None) -> int:
    """Fuzz until the limits of `options`, Ctrl-C, SIGTERM or SIGHUP.

    Arguments: `hand` gets the result, if the run has begun.
    Returns: the exit status; see the module.
    """
    with contextlib.ExitStack() as stack:
        try:
            check_environment()
            cluster = _cluster(options)
            if cluster is not None:
                stack.callback(cluster.close)
            names = dict.fromkeys(options.against)
            pairs = [stack.enter_context(_beside(name, options, cluster)) for name in names]
            session = stack.enter_context(Session(_for_subjects(options, pairs)))
            stack.enter_context(_alone(session.workdir))
            inputs = session.inputs
            seeds = write_seeds(
                session.seeds, options.seeds, inputs, session.calls, options.max_calls
            )
            put_aside = take_up(session.corpus, session.outdated, inputs)
            machines = [Differential(session, pair) for pair in pairs]
            executor = cluster or _here(session)
        except (RunError, UnknownName, WriteError, LedgerError, SubjectError) as error:
            print(f"pmdfuzz run: {error}", file=sys.stderr)
            return BAD_INPUT
        for repair in session.repairs:
            session.say(repair)
        for reason in (*seeds.skipped, *put_aside):
            session.say(f"skipped: {reason}")
        try:
            session.retest()
        except LedgerError as error:  # the next run will have to do it
            session.say(str(error))
        result = _Run(session, machines, executor).run(seeds.longest)
        hand(result)
        return result.status


def _here(session: Session) -> Executor:
    """Processes of this machine, which do the rounds."""
    jobs = session.options.jobs
    return Local(session.corpus, session.seeds, session.crashes, session.workdir, jobs)


def _cluster(options: RunOptions) -> "Cluster | None":
    """Who does the rounds in their place, if somebody does.  Errors raised: RunError."""
    if options.cluster is None:
        return None
    if importlib.util.find_spec("distributed") is None:
        raise RunError(
            "--cluster needs dask.distributed, which is not installed here; install it with\n"
            f"  {command('install', 'distributed', of='pip')}"
        )
    from fuzz.campaign.cluster import Cluster  # an extra, and slow to load

    return Cluster(options.cluster, options.tls, with_subjects=bool(options.against))


def _alone(workdir: Path) -> Lock:
    """Keeps other runs out of a working directory.  Errors raised: RunError, WriteError."""
    try:
        return Lock(workdir / LOCK)
    except Locked as error:
        raise RunError(
            f"{short(workdir)}: a run is under way there ({error.who or 'by another process'}); "
            "wait for it or end it, or name another directory with --workdir"
        ) from None
    except OSError as error:
        raise WriteError(workdir / LOCK, error.strerror or str(error)) from None


def _beside(name: str, options: RunOptions, cluster: "Cluster | None") -> Against:
    """A subject beside its model; on a cluster, workers have it.

    Errors raised: SubjectError, UnknownName.
    """
    only = options.geometries[0] if options.geometries and len(options.geometries) == 1 else None
    if cluster is not None:
        return against_model(cluster.subject(name), options.kernels, only, on=name)
    return beside_model(options.kernels, only, on=name, jobs=options.machines)


def _for_subjects(options: RunOptions, pairs: Sequence[Against]) -> RunOptions:
    """The options; what they do not say of kernels and geometries, the subjects do.

    Errors raised: RunError if they cannot have the same programs.
    """
    if not pairs:
        return options
    grounds = {pair.model.geometry.name: pair.subject.name for pair in pairs}
    if len(grounds) > 1:
        told = ", ".join(f"{name} ({geometry})" for geometry, name in grounds.items())
        raise RunError(f"these have different page tables, so each needs its own run: {told}")
    kernels = options.kernels or tuple(dict.fromkeys(pair.model.name for pair in pairs))
    return replace(options, kernels=kernels, geometries=options.geometries or tuple(grounds))


class _Run:
    """The course of a run: rounds are listened to while new findings are seen to."""

    def __init__(
        self, session: Session, machines: Sequence[Differential], executor: Executor
    ) -> None:
        self.session = session
        self.machines = machines
        self.executor = executor
        self.rounds: Rounds | None = None
        self.crashes = Crashes(session)
        self.suspects = Suspects(session, self.crashes)
        self.meter = Meter(session)
        self.chronicle = Chronicle(session)
        self.investigations = Investigations(session, self.crashes, executor)
        self.signal = 0  # that asked the run to stop
        self.next_pump = 0.0

    def run(self, longest_seed: int) -> Result:
        """The whole run; `longest_seed` in bytes."""
        result = hand_over(self.session, self._course(longest_seed))
        self.chronicle.end(result.status)
        return result

    def _course(self, longest_seed: int) -> int:
        session = self.session
        with on_request(self._stop), bounded.ticking(self._breathe):
            session.say(headline(session))
            for machine in self.machines:
                session.say(told_subject(machine.against))
            self._fuzz(longest_seed)
            unkept: list[str] = []
            try:
                spell_out(session.corpus, session.inputs)
            except WriteError as error:  # the next run will have to do it
                unkept.append(str(error))
            self.investigations.cut_short()
            session.line.clear()
            session.say(self._summary())
            unkept += session.keep_rest()
        if unkept:
            print("\n".join(("pmdfuzz run: not all could be kept:", *unkept)), file=sys.stderr)
            return BAD_INPUT
        if self.signal:
            return STOPPED + self.signal
        if self.executor.over:
            print(f"pmdfuzz run: {self.executor.over}", file=sys.stderr)
            return BAD_INPUT
        if self.crashes.any:
            return OUR_DEFECT
        return SURPRISES if any_counts(session) else FINE

    def _stop(self, number: int) -> None:
        """A signal: the first asks the run to end, a second one ends everything at once."""
        if self.signal:
            self.executor.kill()
        self.signal = self.signal or number

    def _fuzz(self, longest_seed: int) -> None:
        """Listen to the rounds until they have ended and every finding is dealt with."""
        session = self.session
        try:
            self.rounds = Rounds(session, self.crashes, self.executor, longest_seed)
            while self.rounds.talking or (self._busy() and not self._cut_short):
                if not self.rounds.talking and self._time_is_up():
                    for machine in self.machines:
                        machine.give_up()
                busy = any(machine.ready for machine in self.machines)
                self._pump(0.0 if busy else _POLL_SECONDS)
                if not self.signal:
                    run_all(self.machines, _POLL_SECONDS, last=not self.rounds.talking)
                if self.suspects.waiting and not self.signal:
                    with contextlib.suppress(Interrupted), doing(session, "counting steps"):
                        self.suspects.judge()
                of_machine = next((seen for seen in session.queue if seen.divergence), None)
                if of_machine is not None and not self.signal:
                    with contextlib.suppress(Interrupted):
                        self._investigate(of_machine)
                        session.queue.remove(of_machine)
        except BaseException:
            self.executor.kill()
            raise
        finally:
            self.executor.close()

    @property
    def _cut_short(self) -> bool:
        """Is what is left to do to be left?"""
        return bool(self.signal or self.executor.over)

    def _busy(self) -> bool:
        """Is there something left to do when the rounds have ended?"""
        busy = self.session.queue or self.investigations.busy or self.suspects.waiting
        return bool(busy) or self._behind()

    def _behind(self) -> bool:
        """Do subjects have something left to do?"""
        assert self.rounds is not None
        last = not self.rounds.talking
        return any(machine.behind(last=last) for machine in self.machines)

    def _time_is_up(self) -> bool:
        limit = self.session.options.seconds
        return limit is not None and self.session.progress.seconds >= limit

    def _has_enough(self) -> bool:
        """Is there a finding that counts, where the first one is to end the run?"""
        return self.session.options.stop_at_first and any_counts(self.session)

    def _pump(self, timeout: float = 0.0) -> None:
        """Take in what rounds report, waiting for it at most so long; redraw the status line."""
        assert self.rounds is not None
        if self.signal or self._has_enough():
            self.rounds.stop()
        reports, answers = parted(self.executor.heard(timeout))
        for task, report in self.rounds.take(reports):
            self._handle(task, report)
        for answer in answers:
            self.investigations.take(answer)
        if not self.signal:
            self.investigations.begin()
        self.meter.read(self.rounds, self.machines)
        self.session.progress.standing = self.executor.standing
        self.session.line.update(self.session.progress)
        self.chronicle.tell()

    def _breathe(self) -> None:
        """See to everything else while something takes long; cheap enough to be called always.

        Errors raised: Interrupted.
        """
        now = time.monotonic()
        if now >= self.next_pump:
            self.next_pump = now + _POLL_SECONDS
            self._pump()
        if self.signal:
            raise Interrupted

    def _handle(self, task: Round, report: Report) -> None:
        """What a round reports, but for what `Rounds` sees to."""
        session = self.session
        for met in report.findings:
            self._met(task, met)
        for hit in report.hits:
            if hit.bucket in session.findings:  # else nobody has said what it is
                session.record(hit.bucket, hit.kernel, hit.times, by=task.id, execs=report.execs)
        for suspect in report.suspects:
            self.suspects.add(task, suspect)
        for crash in report.crashes:
            self.crashes.of_input(crash)
        for data in report.new:
            for machine in self.machines:
                machine.add(data)
        if report.random_addresses and sys.version_info < (3, 13):
            session.once("addresses are random here: the same seed may give another run")

    def _met(self, task: Round, met: Met) -> None:
        """A kernel violated a rule for the first time in a round, or with the fewest calls."""
        session = self.session
        kernel = kernel_named(met.kernel, met.geometry)
        note = f"run seed={task.seed} executions={met.execs}"
        session.found(met.bucket, session.decode(met.input), kernel, note, met.worst)
        session.record(met.bucket, kernel.name, 1, by=task.id, execs=met.execs)

    def _investigate(self, seen: Seen) -> None:
        """Minimize a difference between machine and model.  Errors raised: Interrupted."""
        assert seen.divergence is not None
        machine = next(one for one in self.machines if seen.bucket in one.found)
        machine.investigate(seen, seen.divergence, self._breathe)

    def _summary(self) -> str:
        """What is shown at the end."""
        assert self.rounds is not None
        self.meter.read(self.rounds, self.machines, exact=True)
        said = [
            machine_line(
                machine.against,
                machine.done,
                machine.left_out,
                machine.missed + len(machine.waiting),
                machine.lost,
            )
            for machine in self.machines
        ]
        return summary(self.session, self.rounds.execs, said)
