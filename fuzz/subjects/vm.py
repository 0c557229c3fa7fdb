"""A kernel in a virtual machine as a subject: the agent runs in it, and its console is heard.

The machine boots once and gets cases as they come; after a panic, when it hangs or has too little
memory left, another takes its place.  What its kernel reports is a part of the observation of the
case in whose course it came: `kernel`, with `kind`, `title` and `lines` (`fuzz.vm.console.Report`),
and `among` if it came when the agent ended: so many programs, this one the last, may have led to
it.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from fuzz.case import Case
from fuzz.subjects.agent import TIME_LIMIT, Agent, agent_command
from fuzz.subjects.program import build
from fuzz.subjects.subject import Observation, SubjectError
from fuzz.vm.console import Report, plain, reports
from fuzz.vm.errors import MachineError
from fuzz.vm.image import image_at
from fuzz.vm.initramfs import initramfs
from fuzz.vm.machine import Machine
from fuzz.vm.qemu import KVM, TCG, Setup, cpu_for, may_have_kvm

RECYCLE = 200  # cases that an agent runs
_INIT = Path(__file__).parents[1] / "vm" / "init.c"
_START, _START_KVM = 180.0, 20.0  # seconds to the hello; emulated, on a busy machine, it takes long
_GRACE = 60.0  # seconds beyond its time limit that a case may take
_LAST_WORDS = 12  # lines of the console that are told of a machine that does not boot
# As init says it, behind what the kernel said.
_MARK = re.compile(r"^.*init: case (\S+?)(, and the agent's end)?\r?\n", re.MULTILINE)
_GIVES_UP = re.compile(r"init: cannot go on: ([^\r\n]*)")

_without_kvm: set[Path] = set()  # images that do not boot under it


class Vm(Agent):
    """A kernel in a virtual machine: of what `image`, and by which `accelerator` it runs."""

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
        self._recycle = recycle
        self._since = 0  # cases since an agent began
        name = f"vm:{path}" + (f"@{geometry}" if geometry else "")
        try:
            self.image = image_at(path)
            self._setup = setup or Setup(cpu=cpu_for(self.image, geometry))
            init, agent = build(self.image.arch, _INIT), build(self.image.arch)
            command = agent_command(Path("/agent"), time_limit=time_limit)
            self._archive = initramfs(self.image, init, agent, command, recycle)
        except (MachineError, SubjectError) as error:
            raise SubjectError(f"{name}: {error}") from None
        self._boot(name, time_limit)
        if geometry not in ("", self.geometry.name):
            self.close()
            raise SubjectError(f"{name}: it boots as {self.geometry.name}")

    def _boot(self, name: str, time_limit: float) -> None:
        """Hear the first hello: under KVM, if the kernel really boots there."""
        ways = [(TCG, _START)]
        if may_have_kvm(self.image) and self.image.path not in _without_kvm:
            ways.insert(0, (KVM, _START_KVM))
        for self.accelerator, start in ways:
            try:
                super().__init__([], name, time_limit=time_limit, grace=_GRACE, start_limit=start)
                return
            except SubjectError:
                if self.accelerator == TCG:
                    raise
                _without_kvm.add(self.image.path)

    def spawn(self, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        """See `Agent`."""
        if self._machine is not None:
            self._machine.close()
        self._heard = ""
        self._since = 0
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
        """See `Agent.run`, and above of `kernel`."""
        for observation in super().run(cases):
            self._since += 1
            report, at_end = self._report(observation["id"])
            if report is not None:
                observation["kernel"] = {
                    "kind": report.kind,
                    "title": report.title,
                    "lines": list(report.lines),
                } | ({"among": self._since} if at_end else {})
            if self._since == self._recycle or "crash" in observation:
                self._since = 0
            yield observation

    def _report(self, case: str) -> tuple[Report | None, bool]:
        """What the kernel reported in the course of a case, and whether at its agent's end."""
        if self._reported is not None:  # it ended the machine that the case was tried on first
            report, self._reported = self._reported, None
            return report, False
        found, at_end = None, False
        self._listen()
        while (mark := _MARK.search(self._heard)) and mark[1] == case:
            said, self._heard = self._heard[: mark.start()], self._heard[mark.end() :]
            if found is None and (found := next(reports(said), None)):
                at_end = mark[2] is not None
        return found, at_end

    def lost(self, how: str) -> str:
        """See `Agent`: why init gave up, or what the kernel reported."""
        self._listen()
        said, self._heard = self._heard, ""
        if gave_up := _GIVES_UP.search(said):
            return gave_up[1]
        hangs = how.startswith("hangs")
        *_, last = None, *reports(said)
        words = plain(said)[-_LAST_WORDS:]
        if last is not None:
            self._reported = last
            return f"{how}: {last.title}" if hangs else last.title
        if hangs:
            self._reported = Report("hang", how, tuple(words))
        return "\n  ".join((f"{how}; the last lines of its console:", *words)) if words else how

    def _listen(self) -> None:
        """Hear what the console has said since."""
        if self._machine is not None:
            self._heard += self._machine.console()
