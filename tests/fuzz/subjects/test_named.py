"""Subjects by name, and what is said of one that does not work."""

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from engine.base.geometry import UnknownName
from engine.base.kernel import kernel_named
from fuzz.forms.text import parse
from fuzz.subjects import named
from fuzz.subjects.agent import Agent
from fuzz.subjects.model import Model
from fuzz.subjects.named import subject_named, via_command
from fuzz.subjects.protocol import encode
from fuzz.subjects.serve import hello
from fuzz.subjects.subject import SubjectError
from tests.lib.constants import ROOT

MOVE = parse(
    "mmap(0x200000, 0x3000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "touch(0x200000, 0x3000)\n"
    "fork()\n"
    "mremap(0x200000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x800000)\n"
)
MODEL = Model(kernel_named("linux-6.18"))
AGENT = f"{sys.executable} -m fuzz agent"


def test_a_model_has_a_name() -> None:
    with subject_named("model:linux-6.1@tiny") as subject:
        assert isinstance(subject, Model)
        assert (subject.name, subject.geometry.name) == ("linux-6.1", "tiny")


@pytest.mark.parametrize(
    "name",
    [
        f"model-at:{ROOT}@linux-6.1",
        f"via:sh -c 'cd {shlex.quote(str(ROOT))}; {AGENT} --kernel linux-6.1'",
    ],
    ids=["checkout", "command"],
)
def test_a_model_behind_the_protocol_does_what_it_does_here(name: str) -> None:
    with subject_named(name) as subject, subject_named("model:linux-6.1") as model:
        assert subject.name == name
        assert subject.able == model.able
        assert subject.geometry == model.geometry
        for _ in range(2):
            assert subject.observe(MOVE) == {"id": "0", **model.observe(MOVE)}
        assert subject.seconds > 0


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("moon", "no subject is called 'moon'; there are: host, "),
        ("model:", "no subject is called 'model:'"),
        ("host@tiny", "no subject is called 'host@tiny'"),
        ("model-at:/nowhere", "no checkout of pmdfuzz in /nowhere"),
        ("via:'", "via:': No closing quotation"),
        ("via:no-such-program", "No such file or directory: 'no-such-program'"),
        ("via:true", "via:true: ended with exit code 0"),
        ("via:sh -c 'echo so what >&2; exit 3'", "ended with exit code 3: so what"),
        ("via:sh -c 'echo is broken >&2; exit 71'", ": is broken"),
        ("via:yes no", "it says no hello, but: no / no"),
        ("via:sh -c 'kill -9 $$'", "killed by SIGKILL"),
        ("""via:echo '{"hello": 7}'""", "it speaks version 7 of the protocol, this is 1"),
        ("""via:echo '{"hello"'""", """expected an answer, got: {"hello"$"""),
    ],
)
def test_what_does_not_work_says_why(name: str, why: str) -> None:
    with pytest.raises(SubjectError, match=why):
        subject_named(name)


def test_a_program_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_VIA_START", 0.2)
    with pytest.raises(SubjectError, match=r"no hello in 0.2 s: login:$"):
        subject_named("via:sh -c 'printf login:; exec sleep 60'")


def test_what_is_printed_before_the_hello_is_passed_over() -> None:
    command = f"echo welcome; cd {shlex.quote(str(ROOT))}; exec {AGENT}"
    with subject_named(f"via:sh -c {shlex.quote(command)}") as subject:
        assert subject.observe(MOVE)["ret"] == [0x200000, 0, 0, 0x800000]


def test_unknown_kernels_are_told() -> None:
    with pytest.raises(UnknownName):
        subject_named("model:linux-1.0")


def test_the_agent_stands_in_a_command_as_words_or_within_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(named, "build", lambda arch: Path(f"/a b/{arch or 'agent'}"))
    assert via_command("run {agent}", 2.5) == ["run", "/a b/agent", "-t", "2500"]
    assert via_command("sh -c 'exec {agent}'", 1) == ["sh", "-c", "exec '/a b/agent' -t 1000"]
    assert via_command("ssh box ./agent") == ["ssh", "box", "./agent"]
    assert via_command("run {agent:arm64}", 1) == ["run", "/a b/arm64", "-t", "1000"]
    with pytest.raises(SubjectError, match=r"no agent for vax; there are those for x86-64, "):
        via_command("run {agent:vax}")


# Answers each program by the length of its line.
ECHO = r"""
tab=$(printf '\t')
printf %s "$0"
while IFS= read -r line; do printf '{"id": "%s", "ret": [%d]}\n' "${line%%$tab*}" "${#line}"; done
"""


def echo() -> Agent:
    """A subject that is quick to start."""
    return Agent(["sh", "-c", ECHO, hello(kernel_named("linux-6.18")).line()])


SHORT = MOVE.with_calls(MOVE.calls[:1])
LENGTHS = [len(encode("0", case.calls, MODEL.geometry, MODEL.able)) - 1 for case in (MOVE, SHORT)]


def test_several_subjects_may_begin_before_any_is_waited_for() -> None:
    with echo() as one, echo() as other:
        begun = [subject.begin([MOVE, SHORT]) for subject in (one, other)]
        for observed in begun:
            assert [seen["ret"] for seen in observed] == [[length] for length in LENGTHS]
        assert one.observe(MOVE)["id"] == "0"


def test_what_was_begun_and_not_taken_is_forgotten() -> None:
    with echo() as subject:
        subject.begin([MOVE, MOVE])
        assert subject.observe(SHORT)["ret"] == [LENGTHS[1]]
        subject.begin([MOVE])
        assert [seen["ret"] for seen in subject.begin([SHORT])] == [[LENGTHS[1]]]
        taken = subject.begin([MOVE, MOVE])
        next(taken)
        taken.close()
        assert subject.observe(SHORT)["ret"] == [LENGTHS[1]]


def test_a_worker_that_dies_of_what_was_begun_is_followed_by_another() -> None:
    with echo() as subject:
        assert subject.worker is not None
        os.kill(subject.worker, signal.SIGKILL)
        begun = subject.begin([MOVE, SHORT])
        assert [seen["ret"] for seen in begun] == [[length] for length in LENGTHS]
