"""A machine has accidents, and nothing is lost: reports are put down to the case that made them.

The machines are `tests/lib/fake_qemu.py`; real ones are in `test_machines.py`.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.case import Call, Case
from fuzz.cli.main import main
from fuzz.forms.text import load
from fuzz.lib.exits import BAD_INPUT, SURPRISES
from fuzz.subjects import vm as module
from fuzz.subjects.against import Against
from fuzz.subjects.difference import difference
from fuzz.subjects.model import Model
from fuzz.subjects.named import subject_named
from fuzz.subjects.subject import Observation, SubjectError
from fuzz.subjects.vm import Vm
from tests.lib import fake_qemu
from tests.lib.constants import ROOT
from tests.lib.fake_qemu import (
    DIES,
    FINE,
    GIVES_UP,
    HANGS,
    PANICS,
    PANICS_AT_END,
    WARNS,
    WARNS_AT_END,
    WARNS_NEXT,
)
from tests.lib.images import bzimage


def case(*does: int) -> Case:
    """A program that does these things, see `fake_qemu`."""
    return Case(tuple(Call("touch", (0, what * fake_qemu.PAGE)) for what in does))


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel that the stand-in for qemu boots."""
    folder = fake_qemu.installed(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage())
    return path


Boot = Callable[..., Vm]


@pytest.fixture
def boot(image: Path) -> Iterator[Boot]:
    """Boots machines, and ends them."""
    booted: list[Vm] = []

    def new(**options: int) -> Vm:
        booted.append(Vm(image, **options))
        return booted[-1]

    yield new
    for one in booted:
        one.close()


def told(observation: Observation) -> tuple[str, str]:
    """What a kernel reported: its kind, and what it is about."""
    report = observation.get("kernel", {})
    return report.get("kind", ""), report.get("what", "")


WARNING = ("warning", "WARNING in move_page_tables")
PANIC = ("panic", "Kernel panic - not syncing: Fatal exception")
AT_END = ("bug", "BUG: non-zero pgtables_bytes on freeing mm")
NOTHING = ("", "")


@pytest.mark.parametrize("recycle", [1, 2, 3, 100])
def test_reports_are_put_down_to_the_case_that_made_them(boot: Boot, recycle: int) -> None:
    programs = [FINE, WARNS, FINE, PANICS, FINE, WARNS_AT_END, DIES, WARNS_AT_END, FINE]
    found = list(boot(recycle=recycle).run(case(what) for what in programs))
    assert [one["id"] for one in found] == [str(number) for number in range(len(programs))]
    at_end = NOTHING if recycle > 2 else AT_END  # the agent had died before its end
    assert [told(one) for one in found] == [
        NOTHING,
        WARNING,
        NOTHING,
        PANIC,
        NOTHING,
        at_end,
        NOTHING,
        AT_END,
        NOTHING,
    ]
    assert [one.get("crash") for one in found if "crash" in one] == [PANIC[1], "killed by SIGSEGV"]


def test_what_comes_late_is_told_once(boot: Boot) -> None:
    machine = boot(recycle=3)
    programs = [case(what) for what in (FINE, WARNS_AT_END, FINE, FINE, WARNS_AT_END)]
    assert [told(machine.observe(one)) for one in programs] == [NOTHING] * 5
    assert [(one, told(found)) for one, found in machine.late()] == [(programs[1], AT_END)]
    assert [(one, told(found)) for one, found in machine.late(last=True)] == [(programs[4], AT_END)]
    assert list(machine.late(last=True)) == []


def test_to_the_end_it_is_told_at_once(boot: Boot) -> None:
    machine = boot()
    assert told(machine.observe(case(WARNS_AT_END))) == NOTHING
    machine.to_the_end = True
    assert told(machine.observe(case(FINE))) == NOTHING
    assert told(machine.observe(case(WARNS_AT_END))) == AT_END


def test_a_panic_at_an_agents_end_ends_nothing_else(boot: Boot) -> None:
    machine = boot()
    programs = [case(what) for what in (FINE, PANICS_AT_END, FINE)]
    assert [told(one) for one in machine.run(programs)] == [NOTHING, PANIC, NOTHING]
    machine.to_the_end = True
    assert [told(machine.observe(one)) for one in programs] == [NOTHING, PANIC, NOTHING]


def test_what_ran_on_a_machine_that_was_stopped_is_forgotten(boot: Boot) -> None:
    machine = boot()
    run = machine.run(case(FINE) for _ in range(1000))
    next(run)
    run.close()  # type: ignore[attr-defined]
    machine.to_the_end = True
    assert told(machine.observe(case(FINE))) == NOTHING
    assert list(machine.late(last=True)) == []


def test_a_kernel_that_does_not_survive_its_boot_boots_again(
    boot: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = tmp_path / "failures"
    failures.write_text("xx")
    monkeypatch.setenv("FAKE_BOOTS", str(failures))
    machine = boot()
    assert told(machine.observe(case(FINE))) == NOTHING
    failures.write_text("x")
    found = machine.run([case(PANICS), case(FINE)])
    assert [told(one) for one in found] == [PANIC, NOTHING]
    failures.write_text("x" * 9)
    with pytest.raises(SubjectError, match=PANIC[1]):
        boot()


def test_a_machine_that_hangs_is_ended(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 2.0)  # enough for what does not hang, on a busy machine
    machine = boot(time_limit=1)
    first, second, third = machine.run(map(case, (FINE, HANGS, FINE)))
    assert told(second) == ("hang", "hangs")
    assert second["crash"].startswith("hangs: no answer in")
    assert told(first) == told(third) == NOTHING
    assert "ret" in third


def test_a_machine_without_memory_is_no_finding(boot: Boot) -> None:
    (found,) = boot().run([case(GIVES_UP)])  # twice: it does not recover
    assert told(found) == NOTHING
    assert found["crash"] == "too little memory is left"


def against(machine: Vm) -> Against:
    return Against(Model(kernel_named("linux-6.12")), machine)


@pytest.mark.parametrize(
    ("programs", "bucket", "minimal"),
    [
        ([(FINE, WARNS, FINE)], "kernel-warning--munmap", [WARNS]),
        ([(FINE, FINE, PANICS)], "kernel-panic--touch", [PANICS]),
        ([(WARNS_AT_END, FINE)], "kernel-bug--exit", [WARNS_AT_END]),
        ([(FINE, WARNS_NEXT), (FINE,)], "kernel-warning--munmap", None),
    ],
)
def test_a_report_is_a_finding_and_is_minimized(
    boot: Boot, programs: list[tuple[int, ...]], bucket: str, minimal: list[int] | None
) -> None:
    pair = against(boot(recycle=len(programs)))
    cases = [case(*does) for does in programs]
    observed = list(pair.subject.run(cases))
    judged = [pair.judge(one, seen) for one, seen in zip(cases, observed, strict=True)]
    (found,) = filter(None, judged)
    assert found.bucket.name == bucket
    small = pair.minimized(found, 1000)
    assert small is not None
    assert small.bucket.name == bucket
    does = [call.args[1] // fake_qemu.PAGE for call in small.case.calls if call.name == "touch"]
    if minimal is None:  # that the next program shows: both are needed
        assert WARNS_NEXT in does
    else:
        assert does == minimal
    assert any("machine's console" in line for line in pair.as_case(small).comments)


def test_a_warning_that_the_model_has_too_is_no_difference(boot: Boot) -> None:
    pair = against(boot())
    warns = case(WARNS)
    seen, modelled = pair.subject.observe(warns), pair.model.observe(warns)
    assert seen["warn"] is False
    kinds = [
        difference(warns, seen | {"warn": on_machine}, modelled | {"warn": on_model})
        for on_machine, on_model in ((True, True), (True, False))
    ]
    assert [kind is not None and kind.kind.field for kind in kinds] == [False, "kernel-warning"]


@pytest.mark.atheris
@pytest.mark.slow
@pytest.mark.parametrize(
    ("accidents", "names"),
    [
        (
            {"FAKE_ACCIDENTS": f"{WARNS} {PANICS}"},
            ["kernel-warning--munmap", "kernel-panic--touch"],
        ),
        ({"FAKE_ACCIDENTS": "", "FAKE_AT_END": "1"}, ["kernel-bug--exit"]),
    ],
    ids=["at once", "at the end"],
)
def test_a_run_finds_what_a_kernel_reports(
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accidents: dict[str, str],
    names: list[str],
) -> None:
    pytest.importorskip("atheris")
    for name, value in accidents.items():
        monkeypatch.setenv(name, value)
    workdir = image.parent / "work"
    where = ["--kernel", "linux-6.12", "--geometry", "x86-64", "--workdir", str(workdir)]
    how = ["--ops", "touch,munmap", "--no-seeds", "--runs", "3000", "--jobs", "1"]
    run = ["run", "--against", f"vm:{image}", *where, *how]
    # What one run does not come to in so few executions, another one does, with any Python.
    assert SURPRISES in {main([*run, "--seed", seed]) for seed in ("2", "3", "5")}
    output = capsys.readouterr().out
    for name in names:
        assert f"NEW FINDING {name}" in output, output
        kept = workdir / "findings" / f"{name}.case"
        assert len(load(kept).calls) == 1
        assert "console" in kept.read_text()
        assert main(["findings", "promote", name, "--workdir", str(workdir)]) == BAD_INPUT
        assert "stays where it is" in capsys.readouterr().err


PARENT = """
import sys
from pathlib import Path
from fuzz.subjects.vm import Vm
machine = Vm(Path(sys.argv[1]))
print(machine.worker, flush=True)
sys.stdin.read()
"""


def test_a_machine_ends_with_whoever_started_it(image: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(image)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    machine = int(parent.stdout.readline())
    watched = os.pidfd_open(machine)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    try:
        assert select.select([watched], [], [], 30)[0], "it still runs"
    finally:
        os.close(watched)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vm:/no/such/image", "vm:/no/such/image: /no/such/image: there is no such file or folder"),
        ("vm:{image}@i386-pae", "a kernel for x86-64 may have x86-64, x86-64-la57, not i386-pae"),
        ("vm:{image}@x86-64-la57", "it boots as x86-64"),
    ],
)
def test_a_machine_that_cannot_be_is_told(image: Path, name: str, said: str) -> None:
    with pytest.raises(SubjectError, match=said):
        subject_named(name.format(image=image))


def test_without_qemu_it_is_said_what_to_install(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image.parent / "bin" / "qemu-system-x86_64").unlink()
    monkeypatch.setenv("PATH", str(image.parent / "bin"))
    monkeypatch.setattr(module, "build", lambda *_: image)  # which needs a compiler
    with pytest.raises(SubjectError, match="qemu-system-x86_64 is not installed: apt install"):
        Vm(image)


def test_what_qemu_says_is_told(image: Path) -> None:
    program = image.parent / "bin" / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\necho 'qemu: cannot set up guest memory' >&2\nexit 1\n")
    with pytest.raises(SubjectError, match="exit code 1: qemu: cannot set up guest memory"):
        Vm(image)
