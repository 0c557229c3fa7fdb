"""A kernel in a virtual machine as a subject: the agent runs in it, and its console is heard.

The machine boots once and gets cases as they come; after a panic, when it hangs or has too little
memory left, another takes its place.  What its kernel reports is a part of the observation of the
case in whose course it came: `kernel`, a report as `fuzz.vm.console` reads it, with `kind`, `what`
and `lines`.

Some reports come only when an address space goes.  So the agent ends behind every so many cases;
which of them it was is found out on another machine, by running each to its end.  `end` is true in
`kernel` then.  If none shows it alone, it is put down to the last one; `among` says of how many.
Others come with the next program only.  For both `after` are programs before, as lists of calls.
"""

import contextlib
import errno
import os
import re
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from fuzz.case import Case
from fuzz.forms.text import format_call
from fuzz.subjects.agent import TIME_LIMIT, Agent, agent_command
from fuzz.subjects.program import build
from fuzz.subjects.subject import Observation, SubjectError
from fuzz.vm.console import KINDS, Report, plain, reports
from fuzz.vm.errors import MachineError
from fuzz.vm.image import image_at
from fuzz.vm.initramfs import initramfs
from fuzz.vm.machine import Machine
from fuzz.vm.qemu import KVM, TCG, Setup, may_have_kvm, setup_for

RECYCLE = 100  # cases that an agent runs
_INIT = Path(__file__).parents[1] / "vm" / "init.c"
_START, _START_KVM = 180.0, 20.0  # seconds to the hello; emulated, on a busy machine, it takes long
_GRACE = 60.0  # seconds beyond its time limit that a case may take
_BOOTS = 4  # of which one has to succeed: under emulation kernels fail at it now and then
_BEFORE = 8  # programs that are told of
_LAST_WORDS = 12  # lines of the console that are told of a machine that does not boot
# As init says it, behind what the kernel said.
_MARK = re.compile(r"^.*init: ((?:the end behind )?case \S+)\r?\n", re.MULTILINE)
_END = "the end behind case {}"
_GIVES_UP = re.compile(r"init: cannot go on: ([^\r\n]*)")

_CLEAR_WARN_ONCE = "/sys/kernel/debug/clear_warn_once"

_without_kvm: set[Path] = set()  # images that do not boot under it


class _Ran(NamedTuple):
    """A case that an agent has run, and whether its observation was told already."""

    case: Case
    observation: Observation
    told: bool = False

    @property
    def name(self) -> str:
        """What it is called between us and the machine."""
        return str(self.observation["id"])


class Vm(Agent):
    """A kernel in a virtual machine: at which `path`, of what `image`, by which `accelerator`."""

    def __init__(
        self,
        path: Path,
        geometry: str = "",
        *,
        time_limit: float = TIME_LIMIT,
        setup: Setup | None = None,
        recycle: int = RECYCLE,
    ) -> None:
        """Boot it.

        Arguments: `path` of an image, of a folder with an unpacked package, or of a kernel's build
        directory; `geometry` that its CPU is to have, "": the usual one; `time_limit` seconds that
        a case may take; `setup` of the machine; `recycle` cases that an agent runs before another
        takes its place.
        Errors raised: SubjectError if there is no such kernel, it does not boot, or something that
        this needs is not installed.
        """
        self._machine: Machine | None = None
        self._heard = ""  # what the console has said, and was not put down to a case yet
        self._reported: Report | None = None  # what ended the last machine
        self._ran: list[_Ran] = []  # by the present agent
        self._late: list[tuple[Case, Observation]] = []
        self._recycle = recycle
        self._geometry = geometry
        self.path = path
        name = f"vm:{path}" + (f"@{geometry}" if geometry else "")
        try:
            self.image = image_at(path)
            self._setup = setup or setup_for(self.image, geometry)
            init, agent = build(self.image.arch, _INIT), build(self.image.arch)
            command = agent_command(Path("/agent"), time_limit=time_limit)
            self._archive = initramfs(self.image, init, agent, command, recycle)
        except (MachineError, SubjectError) as error:
            raise SubjectError(f"{name}: {error}") from None
        self._boot(name, time_limit)
        try:
            # With debugfs, init makes the kernel warn again of what it warns of once only.
            self._warns_again = "error" not in self.ask(f"!write {_CLEAR_WARN_ONCE} 1")
            if geometry not in ("", self.geometry.name):
                raise SubjectError(f"{name}: it boots as {self.geometry.name}")
        except SubjectError:
            self.close()
            raise

    def _boot(self, name: str, time_limit: float) -> None:
        """Hear the first hello: under KVM, if the kernel really boots there."""
        ways = [(TCG, _START)]
        if may_have_kvm(self.image) and self.image.path not in _without_kvm:
            ways.insert(0, (KVM, _START_KVM))
        for self.accelerator, start in ways:
            try:
                super().__init__(
                    [],
                    name,
                    time_limit=time_limit,
                    grace=_GRACE,
                    start_limit=start,
                    window=2 * self._recycle,  # while some are held, others are run
                )
                return
            except SubjectError as error:
                if self.accelerator == TCG:
                    if os.strerror(errno.ENOMEM) in str(error):
                        needs = f"a machine takes {self._setup.memory_mib} MiB"
                        raise SubjectError(f"{error}; {needs}: free some") from None
                    raise
                _without_kvm.add(self.image.path)

    def _start(self) -> subprocess.Popen[bytes]:
        """See `Agent`: a machine whose kernel does not survive its boot is followed by another."""
        reported = self._reported  # of what ran before
        boots = 1 if self.accelerator == KVM else _BOOTS
        for left in reversed(range(boots)):
            try:
                return super()._start()
            except SubjectError:
                at_boot, self._reported = self._reported, reported
                if at_boot is reported or not left:
                    raise
        raise AssertionError("a kernel boots once at least")

    def spawn(self, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        """See `Agent`."""
        if self._machine is not None:
            self._machine.close()
        self._heard = ""
        self._ran = []
        try:
            self._machine = Machine(
                self.image, self._setup, self.accelerator, self._archive, complaints
            )
        except MachineError as error:
            raise SubjectError(str(error)) from None
        return self._machine.process

    def close(self) -> None:
        """See `Subject`."""
        super().close()
        if self._machine is not None:
            self._machine.close()

    # --- What its kernel says ---------------------------------------------------------------------

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        """See `Agent.run`, and above of `kernel`: so observations wait for the end of an agent."""
        asked: deque[Case] = deque()
        held: list[Observation] = []

        def noted() -> Iterator[Case]:
            for case in cases:
                asked.append(case)
                yield case

        for observation in super().run(noted()):
            held.append(observation)
            if self._note(_Ran(asked.popleft(), observation)):
                yield from held
                held.clear()
        self._end_agent()
        yield from held

    def begin(self, cases: Sequence[Case]) -> Iterator[Observation]:
        """See `Subject`."""
        return self._noting(cases, super().begin(cases))

    def _noting(
        self, cases: Sequence[Case], observations: Iterator[Observation]
    ) -> Iterator[Observation]:
        for case, observation in zip(cases, observations, strict=True):
            self._note(_Ran(case, observation, told=True))
            yield observation

    def observe(self, case: Case) -> Observation:
        """See `Subject`."""
        if self.to_the_end:
            self._end_agent()
        (observation,) = super().run((case,))
        ended = self._note(_Ran(case, observation, told=not self.to_the_end))
        if self.to_the_end and not ended:
            self._end_agent()
        if self.to_the_end and "kernel" in observation and not self._warns_again:
            self._stop()
        return observation

    def late(self, *, last: bool = False) -> Iterator[tuple[Case, Observation]]:
        """See `Subject`."""
        if last:
            self._end_agent()
        late, self._late = self._late, []
        yield from late

    def _end_agent(self) -> None:
        """Have the agent end, if it has run anything, and hear what comes of it."""
        if self.worker is None:
            self._ran = []  # it has gone with its machine
        if not self._ran:
            return
        last = self._ran[-1].name
        try:
            self.ask(f"!end {last}")
        except SubjectError:
            report, self._reported = self._reported, None
            if report is None:
                raise
        else:
            report = self._said_until(_END.format(last))
        self._ended(report)

    def _note(self, ran: "_Ran") -> bool:
        """Put down what the kernel reported in the course of a case.

        Returns: whether the agent that ran it has ended.
        """
        self._ran.append(ran)
        report = self._said_until(f"case {ran.name}")
        if self._reported is not None:
            report, self._reported = self._reported, None
        if report is not None:
            before = _programs(self._ran[-_BEFORE - 1 : -1])
            ran.observation["kernel"] = report.told() | ({"after": before} if before else {})
        ended = "crash" in ran.observation or len(self._ran) == self._recycle
        if ended:
            self._ended(self._said_until(_END.format(ran.name)))
        return ended

    def _ended(self, report: Report | None) -> None:
        """An agent has ended: put down what the kernel reported then, if it did."""
        ran, self._ran = self._ran, []
        if report is not None:
            guilty, more = self._guilty(ran, report)
            guilty.observation.setdefault("kernel", report.told() | {"end": True} | more)
            if guilty.told:
                self._late.append((guilty.case, guilty.observation))

    def _guilty(self, ran: Sequence["_Ran"], report: Report) -> tuple["_Ran", dict[str, object]]:
        """Which of an agent's cases its end is put down to, and what more is to be said."""
        if len(ran) == 1:
            return ran[0], {}
        with (
            contextlib.suppress(SubjectError),  # another may not boot, or be lost
            Vm(self.path, self._geometry, time_limit=self._time_limit, setup=self._setup) as other,
        ):
            other.to_the_end = True
            for one in ran:
                if other.observe(one.case).get("kernel", {}).get("what") == report.what:
                    return one, {}
        return ran[-1], {"among": len(ran), "after": _programs(ran[:-1])}

    def _said_until(self, mark: str) -> Report | None:
        """What the kernel reported before init's next mark, if it is that one; the worst of it.

        That it has to wait is no report: an emulated machine is slow when others are busy, and
        whoever really hangs comes to no mark.
        """
        self._listen()
        next_mark = _MARK.search(self._heard)
        if next_mark is None or next_mark[1] != mark:
            return None
        said, self._heard = self._heard[: next_mark.start()], self._heard[next_mark.end() :]
        return _worst(report for report in reports(said) if report.kind != "hang")

    def lost(self, how: str) -> str:
        """See `Agent`: why init gave up, or what the kernel reported."""
        self._listen()
        said, self._heard = self._heard, ""
        self.certain = False
        if gave_up := _GIVES_UP.search(said):
            return gave_up[1]
        words = [line for line in plain(said) if line][-_LAST_WORDS:]
        hangs = how.startswith("hangs")
        if found := _worst(report for report in reports(said) if hangs or report.kind != "hang"):
            self.certain = True
            self._reported = found
            return f"{how}: {found.title}" if hangs else found.title
        if hangs:
            self._reported = Report("hang", "hangs", tuple(words))
        return "\n  ".join((f"{how}; the last lines of its console:", *words)) if words else how

    def _listen(self) -> None:
        """Hear what the console has said since."""
        if self._machine is not None:
            self._heard += self._machine.console()


def _programs(ran: Iterable[_Ran]) -> list[list[str]]:
    """Cases that were run, as lists of calls."""
    return [list(map(format_call, one.case.calls)) for one in ran]


def _worst(found: Iterable[Report]) -> Report | None:
    """The worst of some reports, and the first of these; None if there are none."""
    return min(found, key=lambda report: KINDS.index(report.kind), default=None)
