"""Subjects by name, as commands take them: `host`, `vm:IMAGE`, `via:COMMAND`, `model:KERNEL`, …"""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from engine.base.kernel import kernel_named
from fuzz.showing import DEFAULT_KERNEL
from fuzz.subjects.agent import TIME_LIMIT, Agent, agent_command
from fuzz.subjects.host import GEOMETRY, WITH_KEYS, Host
from fuzz.subjects.model import Model
from fuzz.subjects.program import ARCHES, build
from fuzz.subjects.several import Several
from fuzz.subjects.subject import Subject, SubjectError
from fuzz.subjects.vm import Vm

AGENT = "{agent}"  # stands for the agent in a command
FORMS = {
    "host": "this machine; host@x86-64-pku: its CPU's protection keys are left to the kernel",
    "vm:IMAGE[@GEOMETRY]": "a kernel in a virtual machine: an image, an unpacked package, a build",
    "via:COMMAND": f"a program that runs the agent, such as 'via:qemu-x86_64 {AGENT}', or is one",
    "model:KERNEL[@GEOMETRY]": "the model of a kernel",
    "model-at:DIR[@KERNEL[@GEOMETRY]]": "the model of another checkout of this project",
}
_AGENTS = re.compile(r"\{agent(?::([^{}\s]+))?\}")
_VIA_START = 120.0  # seconds to the hello: it may boot, or connect, first


def subject_named(text: str, *, time_limit: float = TIME_LIMIT, jobs: int = 1) -> Subject:
    """The subject of that name; whoever asks for it has to close it.

    Arguments: `time_limit` seconds a case may take; `jobs` are to work side by side.
    Errors raised: SubjectError if there is none of that name, or it cannot work; UnknownName for a
    kernel or a geometry.
    """
    if jobs > 1:
        return Several(lambda: subject_named(text, time_limit=time_limit), jobs)
    kind, _, rest = text.partition(":")
    if kind in _BEHIND and rest:
        return _BEHIND[kind](rest, time_limit)
    host, _, geometry = text.partition("@")
    if host == "host" and geometry in ("", GEOMETRY, WITH_KEYS):
        return Host(time_limit=time_limit, keys=geometry == WITH_KEYS)
    raise SubjectError(f"no subject is called {text!r}; there are: {', '.join(FORMS)}")


def _model(rest: str, time_limit: float) -> Subject:
    del time_limit  # its steps are counted
    name, _, geometry = rest.partition("@")
    return Model(kernel_named(name, geometry or None))


def _model_at(rest: str, time_limit: float) -> Subject:
    directory, _, more = rest.partition("@")
    if Path(rest).is_dir():  # whatever its name
        directory, more = rest, ""
    kernel, _, geometry = more.partition("@")
    where = Path(directory).resolve()
    if not (where / "fuzz" / "__main__.py").is_file():
        raise SubjectError(f"model-at:{rest}: no checkout of pmdfuzz in {directory}")
    command = [sys.executable, "-m", "fuzz", "agent", "--kernel", kernel or DEFAULT_KERNEL]
    if geometry:
        command += ["--geometry", geometry]
    return Agent(command, f"model-at:{rest}", cwd=where, time_limit=time_limit)


def _via(rest: str, time_limit: float) -> Subject:
    return Agent(
        via_command(rest, time_limit),
        f"via:{rest}",
        time_limit=time_limit,
        start_limit=_VIA_START,
    )


def via_command(text: str, time_limit: float = TIME_LIMIT) -> list[str]:
    """The words of a command in which `{agent}` stands for the agent, which is built if it does.

    `{agent:arm64}` is that of another architecture, one of `fuzz.subjects.program.ARCHES`.
    Errors raised: SubjectError.
    """

    def agent(found: re.Match[str]) -> list[str]:
        if found[1] and found[1] not in ARCHES:
            known = ", ".join(ARCHES)
            raise SubjectError(f"via:{text}: no agent for {found[1]}; there are those for {known}")
        return agent_command(build(found[1]), time_limit=time_limit)

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SubjectError(f"via:{text}: {error}") from None
    command: list[str] = []
    for word in words:
        if whole := _AGENTS.fullmatch(word):
            command += agent(whole)
        else:
            command.append(_AGENTS.sub(lambda found: shlex.join(agent(found)), word))
    return command


def _vm(rest: str, time_limit: float) -> Subject:
    path, _, geometry = rest.rpartition("@")
    if not path or Path(rest).exists():  # whatever its name
        path, geometry = rest, ""
    return Vm(Path(path), geometry, time_limit=time_limit)


_BEHIND: dict[str, Callable[[str, float], Subject]] = {
    "vm": _vm,
    "via": _via,
    "model": _model,
    "model-at": _model_at,
}
