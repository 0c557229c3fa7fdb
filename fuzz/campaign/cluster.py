"""Tasks on the workers of a cluster (dask.distributed), which see no working directory.

A worker joins when it has told which program it has; one with another, or that cannot fuzz, is
refused by name, and so is one that reports what nobody can have found.  It does as many tasks at a
time as it has threads; half of them may be inquiries, which take the places of rounds.  In a run
against subjects a worker with the resource "vm" keeps as many threads for trials.  Each task
is for one worker: dask would hand what a worker has taken with it out again and again, and blame
what was only queued there (KilledWorker).  Here, the round of a worker that is gone is lost, and
the session begins another; an inquiry is made again.

The scheduler and whoever reaches it can run what they like on all machines of a cluster, this one
included: dask sends functions and errors pickled.  So what keeps strangers out is TLS, or a network
of one's own.  What is checked here (`Report.parsed`) is what comes back from workers: text.
"""

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distributed import Client, KilledWorker, LocalCluster, Security, Status

from fuzz.campaign import remote
from fuzz.campaign.afar import Afar
from fuzz.campaign.child import STOP_SECONDS, RunError
from fuzz.campaign.inquiry import Answer, Inquiry
from fuzz.campaign.round import End, Report, Round
from fuzz.campaign.session import PLAINLY, Tls
from fuzz.campaign.trial import Shown, Trial
from fuzz.lib.lines import several
from fuzz.lib.plain import PlainError
from fuzz.subjects.subject import SubjectError

ROUND_SECONDS = 60.0  # what a worker that dies may lose; others learn of new inputs after as long
_ROUNDS_A_SECOND = 15.0  # that a session takes in while it does the rest
CONNECT_SECONDS = 10.0
GONE_SECONDS = 60.0  # a scheduler that is gone may come back
_LOOK_SECONDS = 1.0  # who is there?
_MOST_BYTES = 1 << 26  # a report has some hundred kilobytes
_MOST_TOLD = 5  # workers by name
_TRIES = 3  # of an inquiry, or a trial, with which workers are lost
SUBJECT = "vm"  # the resource of those that can run subjects

T = TypeVar("T", Round, Inquiry, Trial)
R = TypeVar("R", Report, Answer, Shown)


@dataclass(slots=True, eq=False)
class _Member:
    """A worker that has joined; `tasks` are the ids of those that it does, one a thread.

    Of `trials` it does as many beside them as it has `subjects`.  Its `folder` is unlike that of
    another one that is at the same address later.  `refused` is true once it gets no more.
    """

    address: str
    name: str
    folder: str
    threads: int
    subjects: int
    refused: bool = False
    tasks: set[str] = field(default_factory=set)
    trials: set[str] = field(default_factory=set)

    def may_do(self, task: Round | Inquiry | Trial) -> bool:
        """Has it a place for that?"""
        if self.refused:
            return False
        if isinstance(task, Trial):
            return len(self.trials) < self.subjects
        return len(self.tasks) < self.threads

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.name != self.address else self.address


class _Lost(Exception):
    """Whoever did a task is gone, or nobody is there; the message says who."""


class _Nobody(_Lost):
    """The same before anybody has begun it."""


class Cluster:
    """An executor (`fuzz.campaign.executor`); all but its methods runs in a thread of its own."""

    remote = True

    def __init__(
        self,
        where: str,
        tls: Tls = PLAINLY,
        gone_seconds: float = GONE_SECONDS,
        *,
        with_subjects: bool = False,
    ) -> None:
        """Connect to a cluster, or start one here.

        Arguments: `where` the address of a scheduler (`tcp://HOST:PORT`, `tls://HOST:PORT`), or
        `local:N`, N processes of this machine, reached from it alone; `tls` the files of ours to
        reach it by; `gone_seconds`: so long a scheduler that is gone may take to come back, before
        the run ends; `with_subjects` keeps threads for trials.
        Errors raised: RunError if nobody answers.
        """
        self.over = ""
        self._where = where
        self._gone_seconds = gone_seconds
        self._with_subjects = with_subjects
        self._members: dict[str, _Member] = {}  # by address
        self._strangers: dict[str, str] = {}  # folders of those that could not join, by address
        self._futures: dict[str, Any] = {}  # by the id of the task
        self._rounds: set[str] = set()  # under way
        self._own = 0  # workers that we have started, and that are ours to keep
        self._threads = 0  # of all that have joined, but for those that are kept for trials
        self._subjects = 0  # so many trials can be done at a time
        self._had_subjects = time.monotonic()
        self._inquiries = 0  # that are not answered
        self._stopping = False  # no more rounds
        self._ending = False  # nothing more
        self._heard: queue.SimpleQueue[Report | Answer] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._background: set[asyncio.Task[None]] = set()
        for name in ("distributed", "distributed.client"):  # what matters of it is told here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._wait_for(self._connect(where, tls), None)
        except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
            self.close()
            raise RunError(f"--cluster {where}: {_first_line(error)}") from None

    # What a session calls.

    @property
    def standing(self) -> str:
        """See `Executor`."""
        return several(sum(not one.refused for one in self._members.values()), "worker")

    @property
    def round_seconds(self) -> float:
        """See `Executor`; longer where there are many, so that the session can follow."""
        return max(ROUND_SECONDS, self._threads / _ROUNDS_A_SECOND)

    @property
    def places(self) -> int:
        """See `Executor`."""
        return max(self._threads - self._inquiries, 0)

    @property
    def helpers(self) -> int:
        """See `Executor`."""
        return self._threads if self._stopping else -(-self._threads // 2)

    def begin(self, task: Round | Inquiry) -> None:
        """See `Executor`."""
        if isinstance(task, Inquiry):
            self._inquiries += 1
            self._in_loop(self._inquire(task))
        else:
            self._in_loop(self._fuzz(task))

    def subject(self, name: str) -> Afar:
        """A subject that workers have.

        Errors raised: SubjectError if none has, or it cannot work there.
        """
        try:
            return Afar(name, self._ask, lambda: self._subjects)
        except SubjectError as error:
            raise SubjectError(f"--cluster {self._where}: {error}") from None

    def _ask(self, task: Trial) -> "Future[Shown]":
        """Let a trial be done."""
        return asyncio.run_coroutine_threadsafe(self._try(task), self._loop)

    def heard(self, timeout: float) -> Sequence[Report | Answer]:
        """See `Executor`."""
        found: list[Report | Answer] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._heard.get(timeout=timeout) if timeout else self._heard.get_nowait())
            while True:
                found.append(self._heard.get_nowait())
        self._inquiries -= sum(isinstance(one, Answer) for one in found)
        return found

    def news(self) -> Sequence[str]:
        """See `Executor`."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._told.get_nowait())
        return found

    def stop(self) -> None:
        """See `Executor`."""
        if not self._stopping:
            self._stopping = True
            self._in_loop(self._stop())

    def kill(self) -> None:
        """See `Executor`."""
        self._stopping = self._ending = True
        self._in_loop(self._cancel(list(self._futures)))

    def close(self) -> None:
        """See `Executor`."""
        if self._loop.is_running():
            with contextlib.suppress(Exception):
                self._wait_for(self._close(), 2 * STOP_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_SECONDS)

    def _wait_for(self, work: Coroutine[Any, Any, None], timeout: float | None) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def _in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop)

    # The cluster and its workers.

    async def _connect(self, where: str, tls: Tls) -> None:
        self._freed = asyncio.Condition()
        self._client: Any = None
        self._cluster: Any = None
        security = _security(tls)
        if where.startswith("local:"):
            self._own = int(where.removeprefix("local:"))
            self._cluster = await LocalCluster(
                n_workers=self._own,
                threads_per_worker=2 if self._with_subjects else 1,
                resources={SUBJECT: 1},
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                security=security,
                silence_logs=logging.CRITICAL,
                asynchronous=True,
            )
        scheduler = self._cluster.scheduler_address if self._cluster else where
        # The client tries to come back to a scheduler for as long as to reach it in the beginning.
        self._client = Client(
            scheduler, security=security, timeout=self._gone_seconds, asynchronous=True
        )
        try:
            await asyncio.wait_for(self._client, CONNECT_SECONDS)
        except TimeoutError:
            raise OSError(f"nobody has answered within {CONNECT_SECONDS:.0f} s") from None
        await self._look()
        if not self._members and not self._strangers:
            self._told.put(f"nobody works at {where} yet; waiting for workers")
        watching = asyncio.create_task(self._watch())
        self._background.add(watching)

    async def _close(self) -> None:
        self._ending = True
        for task in self._background:
            task.cancel()
        await self._cancel(list(self._futures))
        if self._with_subjects:
            with contextlib.suppress(OSError):
                await self._client.run(remote.let_go, on_error="ignore")
        for one in (self._client, self._cluster):
            if one is not None:
                await one.close()

    async def _watch(self) -> None:
        """See who comes and goes, until the scheduler is gone, or all who could do the rest."""
        gone = False
        left = time.monotonic()  # the last of them
        while self._client.status != "closed":
            await asyncio.sleep(_LOOK_SECONDS)
            self._replace()
            if self._subjects:
                self._had_subjects = time.monotonic()
            try:
                await self._look()
                gone = False
            except OSError:
                if not gone:
                    gone = True
                    self._told.put(f"the scheduler {self._where} is gone; waiting for it")
                await self._leave(self._members.values())
            async with self._freed:
                self._freed.notify_all()  # some may wait for what does not come
            # Others may yet join a cluster that is not ours, while there is time.
            if self._threads or not (self._own or self._stopping):
                left = time.monotonic()
            elif time.monotonic() - left > self._gone_seconds:
                break
        alone = self._client.status != "closed"
        gone_are = "all workers are" if alone else f"the scheduler {self._where} is"
        self.over = (
            f"{gone_are} gone, and nobody has come back within {self._gone_seconds:.0f} s; "
            "what had been reported is kept"
        )
        async with self._freed:
            self._freed.notify_all()

    def _replace(self) -> None:
        """Start others in place of workers of ours that are gone.

        A worker that its nanny has not brought back within 15 s is closed by dask
        (distributed.deploy.lost-worker-timeout), and not replaced until somebody asks for as many
        as there were; one that could not start even counts as there.
        """
        if self._cluster is None:
            return
        for name, one in list(self._cluster.workers.items()):
            if one.status in (Status.failed, Status.closed):
                del self._cluster.workers[name]
        self._cluster.scale(self._own)

    async def _look(self) -> None:
        """Compare with who was there before.  Errors raised: OSError."""
        if self._client.status != "running":
            raise ConnectionError("not connected")
        there = (await self._client.scheduler.identity(n_workers=-1))["workers"]
        here = {address: info["local_directory"] for address, info in there.items()}
        await self._leave(
            one for one in self._members.values() if here.get(one.address) != one.folder
        )
        known = {address: one.folder for address, one in self._members.items()} | self._strangers
        new = [address for address in here if known.get(address) != here[address]]
        if not new:
            return
        answers = await self._client.run(remote.who, workers=new, on_error="return")
        joined = []
        for address in new:
            if isinstance(answers.get(address), OSError):
                continue  # it is gone, or will be asked again
            info = there[address]
            one = self._member(address, info)
            if why := _objection(answers.get(address)):
                self._strangers[address] = one.folder
                self._told.put(f"worker {one} is refused: {why}")
            else:
                self._members[address] = one
                joined.append(one)
        if joined:
            self._told.put(f"{_listed(joined)} joined: {self.standing}")
        await self._count()

    def _member(self, address: str, info: Mapping[str, Any]) -> _Member:
        """Arguments: what the scheduler says of a worker."""
        threads, subjects = info["nthreads"], 0
        if self._with_subjects:
            subjects = min(int(info["resources"].get(SUBJECT, 0)), threads)
        return _Member(
            address, str(info["name"]), info["local_directory"], threads - subjects, subjects
        )

    async def _leave(self, members: Iterable[_Member]) -> None:
        """Workers are gone: what they were doing is lost."""
        gone = list(members)
        lost = several(sum(len(one.tasks | one.trials) for one in gone), "task")
        for one in gone:
            del self._members[one.address]
            await self._cancel(one.tasks | one.trials)
        if gone:
            self._told.put(f"{_listed(gone)} left, {lost} lost: {self.standing}")
            await self._count()

    async def _count(self) -> None:
        members = [one for one in self._members.values() if not one.refused]
        self._threads = sum(one.threads for one in members)
        self._subjects = sum(one.subjects for one in members)
        async with self._freed:
            self._freed.notify_all()

    # The tasks.

    async def _fuzz(self, task: Round) -> None:
        """Let a round be done, and report its end, whatever happens."""
        self._rounds.add(task.id)
        try:
            report = await self._done(
                task, remote.fuzz, Report.parsed, lambda: self._stopping or bool(self.over)
            )
        except _Lost as lost:
            report = Report(task.id, task.program, end=End(str(lost), outside=True, lost=True))
        except Exception as error:  # raised by this program over there
            report = Report(task.id, task.program, end=End(f"{type(error).__name__}: {error}"))
        self._rounds.discard(task.id)
        self._heard.put(report)

    async def _inquire(self, task: Inquiry) -> None:
        """Let an inquiry be answered, and answer it whatever happens."""
        why = ""
        for _ in range(_TRIES):
            try:
                self._heard.put(
                    await self._done(
                        task, remote.inquire, Answer.parsed, lambda: self._ending or bool(self.over)
                    )
                )
                return
            except _Lost as lost:
                why = str(lost)
            except Exception as error:  # raised by this program over there
                why = f"{type(error).__name__}: {error}"
                break
        self._heard.put(Answer.none(task, why))

    async def _try(self, task: Trial) -> Shown:
        """Let a trial be done; whoever begins with one that is not there waits less long."""
        patience = CONNECT_SECONDS if task.nature is None else self._gone_seconds
        why = ""

        def over() -> bool:
            alone = not self._subjects and time.monotonic() - self._had_subjects > patience
            return self._ending or bool(self.over) or alone

        for _ in range(_TRIES):
            try:
                return await self._done(task, remote.observe, Shown.parsed, over)
            except _Nobody:
                hint = (
                    f'no worker has the resource "{SUBJECT}", which {task.subject} needs; start '
                    f"one where that can run:\n  dask worker {self._where} --nthreads 1 "
                    f'--resources "{SUBJECT}=1"'
                )
                why = f"{why}; now {hint}" if why else hint
                break
            except _Lost as lost:
                why = str(lost)
            except Exception as error:  # raised by this program over there
                why = f"{type(error).__name__}: {error}"
        return Shown.none(task, why)

    async def _done(
        self,
        task: T,
        work: Callable[[str], str],
        parsed: Callable[[object, T], R],
        over: Callable[[], bool],
    ) -> R:
        """What a worker says to a task, once one has a place for it.

        Arguments: `work` is done there; `over` says whether it is too late to begin.
        Errors raised: _Lost, and what the work raises.
        """
        async with self._freed:
            await self._freed.wait_for(lambda: over() or self._free(task) is not None)
            member = self._free(task)
            if over() or member is None:
                raise _Nobody("nobody could do it")
            doing = member.trials if isinstance(task, Trial) else member.tasks
            doing.add(task.id)
        try:
            future = self._futures[task.id] = self._client.submit(
                work,
                json.dumps(task.plain()),
                key=task.id,
                workers=[member.address],
                allow_other_workers=False,
                resources={SUBJECT: 1} if isinstance(task, Trial) else None,
                pure=False,
            )
            answer = await future
        except (CancelledError, KilledWorker):
            raise _Lost(f"worker {member} is gone") from None
        finally:
            self._futures.pop(task.id, None)
            doing.discard(task.id)
            async with self._freed:
                self._freed.notify_all()
        try:
            if not isinstance(answer, str) or len(answer) > _MOST_BYTES:
                raise PlainError("no text, or too much of it")
            found = parsed(json.loads(answer), task)
        except ValueError as error:  # PlainError, or no JSON
            member.refused = True
            self._told.put(f"worker {member} is refused: {error}")
            await self._count()
            raise _Lost(f"worker {member} is refused") from None
        if isinstance(found, Shown) and found.why:
            member.subjects = 0
            self._told.put(f"worker {member} gets no more programs to observe: {found.why}")
            await self._count()
            raise _Lost(f"worker {member}: {found.why}")
        return found

    def _free(self, task: Round | Inquiry | Trial) -> _Member | None:
        """A worker that can begin it."""
        return next((one for one in self._members.values() if one.may_do(task)), None)

    async def _stop(self) -> None:
        """Ask the workers to end their rounds; those that do not answer have lost them."""
        busy = [one.address for one in self._members.values() if one.tasks]
        async with self._freed:
            self._freed.notify_all()
        if not busy:
            return
        with contextlib.suppress(OSError):
            await self._client.run(remote.stop, list(self._rounds), workers=busy, on_error="ignore")
        await asyncio.sleep(2 * STOP_SECONDS)
        await self._cancel(self._rounds)

    async def _cancel(self, tasks: Iterable[str]) -> None:
        async with self._freed:
            self._freed.notify_all()
        for name in list(tasks):
            if (future := self._futures.get(name)) is not None:
                await future.cancel()


def _security(tls: Tls) -> Security:
    """What dask calls it.  Errors raised: OSError for a file that cannot be read."""
    given = {name: str(path) for name, path in tls._asdict().items() if path is not None}
    for path in given.values():
        open(path).close()
    if not given:
        return Security()
    roles = ("client", "scheduler", "worker")
    own = {f"tls_{role}_{what}": given.get(what) for role in roles for what in ("cert", "key")}
    return Security(require_encryption=True, tls_ca_file=given.get("ca_file"), **own)


def _objection(answer: object) -> str:
    """Why a worker cannot join, or nothing.  Arguments: what it said, or the error in its place."""
    if isinstance(answer, BaseException):
        return f"it does not know what to do ({_first_line(answer)})"
    if not isinstance(answer, str):
        return f"it says {answer!r:.80}"
    try:
        return remote.Presence.parsed(json.loads(answer)).objection
    except ValueError as error:
        return str(error)


def _listed(members: Sequence[_Member]) -> str:
    """The workers by name, if they are few, and what begins a sentence on them."""
    told = ", ".join(str(one) for one in members[:_MOST_TOLD])
    if len(members) == 1:
        return f"worker {told} has"
    more = f" and {len(members) - _MOST_TOLD} more" if len(members) > _MOST_TOLD else ""
    return f"workers {told}{more} have"


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
