"""The machine under us: the agent runs cases, survives accidents, agrees with the model."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from fuzz.case import Case
from fuzz.cli.main import main
from fuzz.forms.text import dump, load, parse, parse_call
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from fuzz.subjects import against, host, shortage
from fuzz.subjects.against import Against, Divergence
from fuzz.subjects.agent import Agent
from fuzz.subjects.beside import beside_model
from fuzz.subjects.check import CheckOptions, check
from fuzz.subjects.difference import difference
from fuzz.subjects.host import (
    WITH_KEYS,
    Host,
    commit_limit_bytes,
    host_kernel,
    obstacles,
)
from fuzz.subjects.model import Model
from fuzz.subjects.program import build
from fuzz.subjects.subject import SubjectError
from tests.lib.boundaries import STAYS, calls_at_edges
from tests.lib.constants import ROOT


def why_not(*, model: bool) -> str:
    """Why this machine cannot be used here; empty if it can."""
    try:
        Host().close()
        if model:
            host_kernel()
    except SubjectError as error:
        return str(error)
    return "; ".join(obstacles())


NO_MACHINE, NO_MODEL = why_not(model=False), why_not(model=True)
needs_machine = pytest.mark.skipif(bool(NO_MACHINE), reason=NO_MACHINE)
needs_model = pytest.mark.skipif(bool(NO_MODEL), reason=NO_MODEL)

MOVE = parse(
    "mmap(0x501000, 0x300000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "touch(0x501000, 0x3000)\n"
    "mremap(0x501000, 0x300000, 0x300000, "
    "MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x40101000)\n"
)


@pytest.fixture
def case_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """x.case in a directory of its own, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.case"
    path.write_text(dump(MOVE))
    return path


@needs_machine
def test_a_move_does_on_the_machine_what_the_calls_say() -> None:
    with Host() as here:
        seen = here.observe(MOVE)
    assert seen["ret"] == [0x501000, 0, 0x40101000]
    assert seen["pages"] == [[0x40101, 3, "P", 1]]


HIDDEN = parse(
    "mmap(0x501000, 0x2000, PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "peek(0x501000, 0x2000)\n"
)


@needs_machine
def test_what_may_only_be_executed_can_be_read_whatever_the_cpu() -> None:
    with Host() as here:
        assert here.observe(HIDDEN)["ret"] == [0x501000, 0]


HAS_KEYS = " ospke" in Path("/proc/cpuinfo").read_text()


@needs_machine
def test_where_the_kernel_keeps_the_protection_keys_it_uses_them() -> None:
    if HAS_KEYS:
        with Host(keys=True) as here:
            assert here.observe(HIDDEN)["ret"] == [0x501000, {"segv": [[0x501, 2]]}]
    else:
        with pytest.raises(SubjectError, match="no protection keys"):
            Host(keys=True)


@needs_model
@pytest.mark.parametrize(("geometry", "which"), [(None, "without"), (WITH_KEYS, "with")], ids=str)
def test_a_check_says_whether_there_are_protection_keys(
    geometry: str | None,
    which: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(host, "release", lambda: "6.18.0")
    words = ["kernel", "check", "--cases", "2", "--seed", "1", "--workdir", str(tmp_path)]
    main([*words, *(["--geometry", geometry] if geometry else [])])
    said = capsys.readouterr()
    if geometry == WITH_KEYS and not HAS_KEYS:
        assert "no protection keys" in said.err
        return
    assert said.out.splitlines()[0].startswith(
        f"Linux 6.18.0 {which} protection keys beside linux-6.18.0, 2 programs, "
    )


def test_a_machine_is_of_no_other_geometry(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["kernel", "check", "--cases", "2", "--geometry", "tiny"], capsys)
    assert "host is x86-64, not tiny" in said


@needs_model
def test_model_and_machine_agree() -> None:
    kernel = host_kernel()
    with Host() as here:
        seen = here.observe(MOVE)
    model = Model(kernel, commit_limit_bytes=commit_limit_bytes()).observe(MOVE)
    assert difference(MOVE, seen, model) is None


@needs_model
def test_model_and_machine_agree_at_the_edges_of_the_arena() -> None:
    mapped = MOVE.calls[:2]
    calls = calls_at_edges(Random(1), 900)
    Random(1).shuffle(calls)
    cases = [Case((parse_call(line),)) for line in STAYS]
    cases += [Case((*mapped, *calls[at : at + 3])) for at in range(0, len(calls), 3)]
    model = Model(host_kernel(), commit_limit_bytes=commit_limit_bytes())
    with Host() as here:
        for case, seen in zip(cases, here.run(cases), strict=True):
            assert difference(case, seen, model.observe(case)) is None, dump(case)


@needs_machine
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("reboot 1", "unknown call"),
        ("skip 1", "wrong operands"),
        ("touch 100000000000", "wrong operands"),
        ("munmap 1 xyz", "wrong operands"),
        ("touch 100000000000 4001000", "an access outside the arena"),
        ("peek fffffffff000 1", "an access outside the arena"),
        ("touch fffffffff001 fff", "an access outside the arena"),
        ("unlocked 100000000000", "unknown call"),
    ],
)
def test_the_agent_refuses_what_it_was_not_made_for(line: str, error: str) -> None:
    command = [str(build())]
    sent = f"a\t{line}\nb\tskip;unlocked 100000000000 skip\n"
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=True)
    hello, *told, bye = [json.loads(text) for text in done.stdout.splitlines()]
    assert hello["hello"] == 1
    assert bye == {"bye": 2}
    assert told[0] == {"id": "a", "error": error}
    assert told[1]["ret"] == ["SKIP", "SKIP"]


@needs_machine
def test_a_killed_worker_costs_nothing() -> None:
    with Host() as here:
        before = here.observe(MOVE)
        worker = here.worker
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        after = here.observe(MOVE)
        assert here.worker != worker
    assert after == before


@needs_machine
def test_a_worker_that_hangs_for_good_is_told_and_the_next_case_runs() -> None:
    with Host() as here:
        greeting = shlex.quote(here.hello.line())
    silent = ["sh", "-c", f"printf %s {greeting}; exec sleep 60"]
    with Agent(silent, time_limit=0.3, grace=0.2) as quick:
        assert list(quick.run([MOVE])) == [{"id": "0", "crash": "hangs: no answer in 0.5 s"}]
        quick.command = [str(build())]
        (seen,) = quick.run([MOVE])
        assert seen["ret"][0] == 0x501000


@needs_model
def test_a_check_goes_on_behind_a_worker_that_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, stopped = Agent._answers, []

    def stopping(self: Agent, *asked: Any) -> Iterator[bytes]:
        for number, line in enumerate(answers(self, *asked)):
            if number == 10 and not stopped:
                assert self.worker is not None
                stopped.append(self.worker)
                os.kill(self.worker, signal.SIGSTOP)
            yield line

    monkeypatch.setattr(Agent, "_answers", stopping)
    assert Agent.__init__.__kwdefaults__
    monkeypatch.setitem(Agent.__init__.__kwdefaults__, "grace", 0.2)
    # Many more than are under way at a time, which the worker may have answered already.
    assert check(CheckOptions(tmp_path, cases=600, seed=3, time_limit=0.5)) == FINE
    assert stopped
    assert not Path(f"/proc/{stopped[0]}").exists(), "the stopped worker is left behind"
    assert "600 of 600 programs" in capsys.readouterr().out


OBSERVE = Model.observe


def wrong(self: Model, case: Case, beside: dict[str, Any] | None = None) -> dict[str, Any]:
    """A model that forgets one page table of an mprotect."""
    seen = OBSERVE(self, case, beside)
    for index, call in enumerate(case.calls):
        if call.name == "mprotect" and seen["pt"][index]:
            seen["pt"][index] -= 4096
    return seen


@needs_model
def test_a_check_finds_minimizes_and_keeps_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Model, "observe", wrong)
    options = CheckOptions(tmp_path, cases=80, seed=1)
    assert check(options) == SURPRISES
    shown = capsys.readouterr().out
    kept = sorted((tmp_path / "divergences").iterdir())
    assert kept and all(path.name.startswith("pt-mprotect-") for path in kept)
    smallest = load(kept[0])
    assert len(smallest.calls) <= 3
    assert smallest.calls[-1].name == "mprotect"
    assert all(call.result is not None for call in smallest.calls)
    assert f"check {kept[0]}" in shown or len(kept) > 1
    assert main(["kernel", "check", *map(str, kept)]) == SURPRISES
    monkeypatch.undo()
    assert main(["kernel", "check", *map(str, kept)]) == FINE


@needs_model
def test_minimizing_ends_in_time_even_if_every_run_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Model, "observe", wrong)
    protect = parse("mprotect(0x501000, 0x1000, PROT_READ)\n").calls
    long = MOVE.with_calls((*MOVE.calls[:2], *protect, *MOVE.calls, *MOVE.calls))
    with beside_model() as pair:
        found = pair.divergence(long)
        assert found is not None
        best = pair.minimized(found, 1000)
        clock = count(step=50)  # seconds that every look at the clock takes
        monkeypatch.setattr(against, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        assert isinstance(pair.subject, Host)
        before = pair.subject.cases
        soon = pair.minimized(found, 1000)
        assert pair.subject.cases - before <= 6
    assert best is not None and soon is not None
    assert len(best.case.calls) < len(soon.case.calls)


@needs_model
def test_a_machine_that_is_lost_on_the_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, judged = Against.judge, []

    def judging(self: Against, case: Case, observed: dict[str, Any]) -> Divergence | None:
        judged.append(case)
        if len(judged) == 20:  # /proc goes away, say
            raise SubjectError("agent: /proc/self/status: Permission denied")
        return judge(self, case, observed)

    monkeypatch.setattr(Against, "judge", judging)
    assert check(CheckOptions(tmp_path, cases=100, seed=1)) == BAD_INPUT
    out, err = capsys.readouterr()
    assert "the machine is lost: agent: /proc/self/status" in err
    assert "19 of 100 programs" in out


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that cannot run here."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return err


USES = pytest.mark.parametrize(
    "words",
    [["kernel", "check", "--cases", "5"], ["observe", "--on", "host", "x.case"]],
    ids=["check", "observe"],
)


@USES
def test_without_a_compiler_the_error_says_so(
    words: list[str],
    case_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(host, "release", lambda: "6.18.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(case_file.parent / "cache"))
    monkeypatch.setenv("PATH", str(case_file.parent))
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler found (tried cc, gcc, clang)" in refused(words, capsys)
    monkeypatch.setenv("CC", "no-such-cc")
    assert "tried no-such-cc" in refused(words, capsys)


@USES
def test_a_compiler_that_fails_is_quoted(
    words: list[str],
    case_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compiler = case_file.parent / "cc"
    compiler.write_text("#!/bin/sh\necho cannot find -lc >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(host, "release", lambda: "6.18.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(case_file.parent / "cache"))
    monkeypatch.setenv("CC", str(compiler))
    said = refused(words, capsys)
    assert "is there a static libc?" in said
    assert "cannot find -lc" in said


@USES
def test_another_architecture_is_refused(
    words: list[str],
    case_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(host, "release", lambda: "6.18.0")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "x86-64, arm64, i386 only; this is Linux riscv64" in refused(words, capsys)


@pytest.mark.parametrize(
    ("release", "version", "name"),
    [
        ("6.18.44-fc-v509", "#1 SMP PREEMPT_DYNAMIC", "linux-6.18.44"),
        ("6.12.117+deb13-amd64", "#1 SMP Debian 6.12.117-1 (2026-11-02)", "linux-6.12.117"),
        ("6.1.0-50-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-08-02)", "linux-6.1.176"),
        ("6.8.0-45-generic", "#45-Ubuntu SMP PREEMPT_DYNAMIC", "linux-6.8"),
        ("6.11.10-300.fc41.x86_64", "#1 SMP PREEMPT_DYNAMIC", "linux-6.11.10"),
        ("6.18.0", "#1", "linux-6.18.0"),
        ("6.18.0-rc3", "#1", "linux-6.18.0"),
        ("7.3", "#1", "linux-7.3"),
    ],
)
def test_the_machine_is_the_release_that_uname_tells(
    release: str, version: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "release", lambda: release)
    monkeypatch.setattr("platform.version", lambda: version)
    assert host_kernel().name == name


def test_a_kernel_without_a_model_names_those_that_have_one(
    case_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "release", lambda: "4.19.1")
    said = refused(["kernel", "check", "--cases", "5"], capsys)
    assert "no model of its kernel, 4.19.1; known: linux-5.0 to " in said
    assert "--kernel K" in said


def without_proc(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a program where nothing is mounted on /proc."""
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    return subprocess.run(
        [*hide, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or without_proc("true").returncode != 0,
    reason="needs mount namespaces (root)",
)


@needs_namespaces
@needs_machine
def test_without_proc_commands_say_so_and_what_needs_no_machine_works(case_file: Path) -> None:
    pmdfuzz = (sys.executable, "-m", "fuzz")
    for words in (("kernel", "check", "--cases", "5"), ("observe", "--on", "host", str(case_file))):
        done = without_proc(*pmdfuzz, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "pmdfuzz: /proc is not mounted, or has no pagemap\n"
    done = without_proc(*pmdfuzz, "observe", "--kernel", "linux-6.18", str(case_file))
    assert (done.returncode, done.stderr) == (0, "")


@needs_namespaces
@needs_machine
def test_an_agent_without_proc_gives_up_with_a_reason() -> None:
    done = without_proc(str(build()))
    assert done.returncode == 71
    assert done.stderr.startswith("agent: /proc/self/")
    assert done.stderr.endswith(": No such file or directory\n")


@needs_model
def test_what_only_the_model_has_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "mmap(0x0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    stack = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
    for name, case in (
        ("begin", text + "migrate_begin(0x0)\n"),
        ("huge", text.replace("FIXED", "FIXED|MAP_HUGETLB")),
        ("stack", text + stack),
    ):
        (tmp_path / f"{name}.case").write_text(case)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    why = [
        "begin: not run: it has no migrate_begin",
        "huge: not run: it has no MAP_HUGETLB",
        "stack: not run: execve_stack is not there",
    ]
    for command in (["kernel", "check"], ["observe", "--on", "host"]):
        assert main([*command, *files]) == BAD_INPUT
        said = capsys.readouterr()
        assert not said.out
        assert [line.split(": ", 1)[1] for line in said.err.splitlines()] == why


# Running out of memory.


def test_the_machine_has_the_defects_of_running_out_that_the_model_has() -> None:
    try:
        with shortage.cgroup():
            kernel = host_kernel()
    except SubjectError as error:
        pytest.skip(str(error))
    answers = list(shortage.ask(kernel))
    assert [answer.defect for answer in answers] == list(shortage.NAMES)
    assert all(answer.agrees for answer in answers), answers


def pretending(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> Path:
    """The program is a script, and the controller a directory.  Returns: that directory."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    group = tmp_path / "memory"
    group.mkdir()
    monkeypatch.setattr(shortage, "build", lambda **_: program)
    monkeypatch.setattr(shortage, "_controller", lambda: group)
    rmdir = Path.rmdir

    def remove(path: Path) -> None:
        """A cgroup's own files go with it, but for what is in use."""
        (path / "memory.oom_control").unlink(missing_ok=True)
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", remove)
    return group


def test_a_machine_that_does_not_have_a_defect_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = '[ "$2" = rollback-short ] || echo it failed'
    group = pretending(monkeypatch, tmp_path, script)
    assert main(["kernel", "shortage", "--kernel", "linux-6.18"]) == 1
    _, wp, short, left = capsys.readouterr().out.splitlines()
    assert wp.split(maxsplit=1) == ["uffd-rollback", "it failed"]
    assert short.split(maxsplit=1) == ["rollback-short", "not shown; the model has it"]
    assert left.split(maxsplit=1) == ["not-cut-off", "it failed"]
    assert list(group.iterdir()) == []


def test_a_machine_that_cannot_run_out_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group = pretending(monkeypatch, tmp_path, "echo no userfaultfd >&2; exit 71")
    words = ["kernel", "shortage", "--kernel", "linux-6.18"]
    assert "no userfaultfd" in refused(words, capsys)
    assert list(group.iterdir()) == []
    group.rmdir()
    assert f"cannot make {group}" in refused(words, capsys)


def test_a_defect_that_takes_too_long_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shortage, "_SECONDS", 0.2)
    group = pretending(monkeypatch, tmp_path, "exec sleep 60")
    words = ["kernel", "shortage", "--kernel", "linux-6.18"]
    assert "no end of uffd-rollback" in refused(words, capsys)
    assert list(group.iterdir()) == []


def test_a_cgroup_that_is_in_use_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shortage, "_PATIENCE", 0.1)
    pretending(monkeypatch, tmp_path, 'touch "$1/process"')
    words = ["kernel", "shortage", "--kernel", "linux-6.18"]
    assert "cannot remove" in refused(words, capsys)
