"""`pmdfuzz run` from end to end: short runs on model kernels with known bugs."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest

from engine.base.geometry import GEOMETRIES
from fuzz.campaign.child import Child, Setting
from fuzz.campaign.differential import Differential
from fuzz.campaign.result import Result
from fuzz.campaign.run import LOCK, _Run, run
from fuzz.campaign.session import RunOptions
from fuzz.case import Case, Expectation, Faults
from fuzz.defects.defect import Change
from fuzz.defects.known import told
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import NOT_MINIMIZED
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import load
from fuzz.inputs.inputs import PLANNED_BYTES, PLANS, Inputs
from fuzz.lib.exits import BAD_INPUT, FINE, OUR_DEFECT, SURPRISES
from fuzz.lib.lock import Lock
from fuzz.showing import replay
from fuzz.subjects.beside import beside_model
from fuzz.subjects.model import Model
from fuzz.subjects.subject import SubjectError
from tests.lib.constants import ROOT
from tests.lib.machine import CALLS

# The bug of 2023: a stack that moves down by less than its length meets a table it has emptied.
WARNING = Bucket("dest-entry-none", "execve_stack", "B-01")
SEED = """\
@kernel linux-6.1
execve_stack(0xbfb00000, 0xc0000000, 0x400000)
"""
# Nobody knows it of a kernel: a switch turned over that no release has so.
UNKNOWN = Bucket("entries-at-new", "mremap")
STRANGE = "linux-6.12-negative_result_is_zero"
# Found by the fuzzing process, and nobody else, as it starts.
PLANTED = """\
import sys
from importlib.abc import MetaPathFinder

def fail(*_, **__):
    {0}

class Planter(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "fuzz.subjects.pair":  # imported once all else is
            sys.modules["{1}"].{2} = fail

if "fuzz.campaign.harness" in sys.orig_argv:
    sys.meta_path.insert(0, Planter())
"""
HARMLESS = "mmap(0x200000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"


def needs_atheris(function: Callable[..., None]) -> Callable[..., None]:
    """A test that starts a fuzzing process, or is refused to."""
    absent = importlib.util.find_spec("atheris") is None
    skipped = pytest.mark.skipif(absent, reason="atheris is not installed")
    return pytest.mark.atheris(skipped(function))


def fuzzing_test(function: Callable[..., None]) -> Callable[..., None]:
    """A test that fuzzes, which takes seconds."""
    return pytest.mark.slow(needs_atheris(function))


def failing(*_: object, **__: object) -> None:
    """A function of the engine that does not do what it should."""
    raise AssertionError("planted")


Plant = Callable[[str, str], None]  # what to do in place of a function, which is named


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Plants a bug in the fuzzing processes that are started from now on."""

    def do(what: str, name: str) -> None:
        module = next(
            one for one in sorted(sys.modules, reverse=True) if name.startswith(f"{one}.")
        )
        program = PLANTED.format(what, module, name.removeprefix(f"{module}."))
        (tmp_path / "sitecustomize.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return do


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """A directory with one seed, which shows the bug on linux-6.1."""
    directory = tmp_path / "seeds"
    directory.mkdir()
    (directory / "stack.case").write_text(SEED)
    return directory


def options(tmp_path: Path, *places: Path, **more: object) -> RunOptions:
    """A run of a few dozen executions on the kernel with the bug and on one without."""
    fixed: dict[str, object] = {"kernels": ("linux-6.1", "linux-6.18"), "runs": 30, "seed": 1}
    return RunOptions(tmp_path / "work", seeds=places, **fixed | more)  # type: ignore[arg-type]


@fuzzing_test
def test_a_finding_is_minimized_kept_and_shown(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seed = ROOT / "corpus" / "museum" / "b-11-negative-result.case"
    (seeds / "stack.case").write_bytes(seed.read_bytes())
    assert run(options(tmp_path, seeds, kernels=("linux-6.12", STRANGE))) == SURPRISES
    shown = capfd.readouterr().out
    path = tmp_path / "work" / "findings" / f"{UNKNOWN.name}.case"
    case = load(path)
    assert case.calls[-1].name == "mremap"
    assert case.found[0].startswith("run seed=1 executions=")
    shows = {one.kernel.name: one.bucket for one in replay(case) if one.as_expected}
    assert shows == {"linux-6.12": None, STRANGE: UNKNOWN}
    assert f"NEW FINDING {UNKNOWN.name} on {STRANGE}" in shown
    assert f"when {UNKNOWN.rule} is broken:" in shown
    assert f"pmdfuzz replay {path}" in shown
    assert f"pmdfuzz findings promote {UNKNOWN.name}" in shown
    with Ledger.open(tmp_path / "work") as ledger:
        found = {entry.bucket: entry for entry in ledger.list()}
        last = ledger.history.last_run()
    assert list(found[UNKNOWN].kernels) == [STRANGE]
    assert found[UNKNOWN].count >= 1
    assert last is not None and (last.status, last.about.name) == (
        SURPRISES,
        found[UNKNOWN].first.run_id,
    )
    assert (last.standing.executions, last.standing.unknown) == (30, 1)
    assert last.about.kernels == ("linux-6.12", STRANGE)


@fuzzing_test
@pytest.mark.parametrize(("count_known", "status"), [(False, FINE), (True, SURPRISES)])
def test_a_known_defect_is_kept_and_named_and_counts_if_asked(
    count_known: bool,
    status: int,
    tmp_path: Path,
    seeds: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    only = frozenset(("execve_stack",))
    assert run(options(tmp_path, seeds, calls=only, count_known=count_known)) == status
    shown = capfd.readouterr().out
    case = load(tmp_path / "work" / "findings" / f"{WARNING.name}.case")
    assert case.calls[0].args[2] < 0x400000  # the seed's shift is not minimal
    assert f"known: {told('B-01')} (linux-6.1); " in shown
    assert "NEW FINDING" not in shown
    (row,) = [line for line in shown.splitlines() if line.startswith(WARNING.name)]
    assert row.split()[1:3] == ["new", "known"]


@fuzzing_test
def test_the_first_finding_that_counts_may_end_the_run(tmp_path: Path, seeds: Path) -> None:
    results: list[Result] = []
    junit, baseline = tmp_path / "junit.xml", tmp_path / "baseline"
    first = options(
        tmp_path, seeds, runs=None, seconds=600, stop_at_first=True, count_known=True, junit=junit
    )
    assert run(first, results.append) == SURPRISES
    (result,) = results
    assert WARNING.name in {one.name for one in result.findings if one.pardon is None}
    assert result.seconds < 600
    assert NOT_MINIMIZED not in load(Path(result.findings[0].case)).found
    assert f'name="{WARNING.name}"' in junit.read_text()
    only = frozenset(("execve_stack",))
    more: dict[str, object] = {"calls": only, "count_known": True, "baseline": baseline}
    assert run(options(tmp_path, seeds, **more, update_baseline=True)) == FINE
    assert WARNING.name in baseline.read_text()
    assert run(options(tmp_path, seeds, **more)) == FINE


@fuzzing_test
def test_an_old_finding_is_counted_and_left_alone(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "work" / "findings" / f"{WARNING.name}.case"
    path.parent.mkdir(parents=True)
    path.write_text(SEED)
    only = frozenset(("execve_stack",))
    again = options(tmp_path, seeds, runs=5, calls=only, count_known=True)
    assert run(again) == FINE
    shown = capfd.readouterr().out
    assert path.read_text() == SEED
    assert "known: B-01 on" not in shown
    (row,) = [line for line in shown.splitlines() if line.startswith(WARNING.name)]
    assert row.split()[1:3] == ["old", "known"]
    with Ledger.open(tmp_path / "work") as ledger:
        assert ledger.list()[0].count == int(row.split()[3])
    assert run(replace(again, count_old=True)) == SURPRISES
    own = ("linux-6.1-may_retry",)
    assert run(replace(again, kernels=own)) == SURPRISES, "its name stays while it is edited"


OWN = "linux-6.18-realign-realign_stack"
DIFFERS = Bucket(f"differs-{WARNING.rule}-realign-realign_stack", "execve_stack")


@fuzzing_test
def test_like_another_kernel_only_what_differs_is_found(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    only = {"kernels": (OWN,), "like": "linux-6.18", "calls": frozenset(("execve_stack",))}
    assert run(options(tmp_path, seeds, **only)) == SURPRISES
    shown = capfd.readouterr().out
    assert f"fuzzing {OWN} beside linux-6.18 on" in shown
    assert f"NEW FINDING {DIFFERS.name}: {OWN} is not linux-6.18\n" in shown
    assert "~ linux-6.18 on x86-64: " in shown and f"~ {OWN} on x86-64: " in shown
    findings = tmp_path / "work" / "findings"
    assert [path.stem for path in findings.iterdir()] == [DIFFERS.name], "known ones are no news"
    case = load(findings / f"{DIFFERS.name}.case")
    assert (case.kernel, case.like, len(case.calls)) == (OWN, "linux-6.18", 1)
    assert case.expects == (Expectation("linux-6.18", "ok"),)
    assert [call.result for call in case.calls] == [0]
    with Ledger.open(tmp_path / "work") as ledger:
        assert [list(entry.kernels) for entry in ledger.list()] == [[OWN]]
    # What is still so when the change was edited is no success, though it is old.
    assert run(options(tmp_path, seeds, **only)) == SURPRISES
    assert "NEW FINDING" not in capfd.readouterr().out


@fuzzing_test
def test_like_a_kernel_that_does_the_same_nothing_is_found(tmp_path: Path, seeds: Path) -> None:
    only = {"kernels": ("linux-6.18+uffd_write_protects-map_count_first",), "like": "linux-6.18"}
    assert run(options(tmp_path, seeds, calls=frozenset(("execve_stack",)), **only)) == FINE


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"like": "linux-6.18", "kernels": ("linux-6.18",)}, "has every switch as linux-6.18"),
        ({"like": "linux-6.18", "kernels": (OWN,), "against": ("host",)}, "not both"),
        ({"like": "linux-9.9", "kernels": (OWN,)}, "unknown kernel 'linux-9.9'"),
    ],
)
@needs_atheris
def test_a_kernel_to_be_like_that_cannot_be_is_refused(
    more: dict[str, object], why: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(options(tmp_path, **more)) == BAD_INPUT
    assert why in capfd.readouterr().err


@fuzzing_test
def test_files_that_are_no_cases_are_told_and_skipped(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (seeds / "broken.case").write_text("mremap(1, 2\n")
    (seeds / "binary.case").write_bytes(b"\xff\xfe\x00")
    (seeds / "long.case").write_text(HARMLESS * 30)
    assert run(options(tmp_path, seeds, calls=CALLS | {"execve_stack"})) == FINE
    shown = capfd.readouterr().out
    for name in ("broken", "binary", "long"):
        assert f"skipped: {seeds / name}.case" in shown
    encoded = tmp_path / "work" / "seeds" / "x86-64"
    assert [path.name for path in encoded.iterdir()] == ["seeds-stack"]
    assert (seeds / "broken.case").read_text() == "mremap(1, 2\n"


@fuzzing_test
def test_the_same_seed_gives_the_same_run(tmp_path: Path, seeds: Path) -> None:
    corpora = []
    for attempt in ("first", "second"):
        quick = options(tmp_path / attempt, seeds, runs=300, minimize_budget=1)
        run(quick)
        corpus = quick.workdir / "corpus" / "x86-64"
        corpora.append({path.name: path.read_bytes() for path in corpus.iterdir()})
    assert corpora[0] == corpora[1]
    assert len(corpora[0]) > 1


@fuzzing_test
def test_two_jobs_share_kernels_executions_and_what_they_find(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    both = options(tmp_path, seeds, jobs=2, runs=600, minimize_budget=1, calls=CALLS)
    assert run(both) in (FINE, SURPRISES)
    executions = re.search(r"^(\d+) executions in ", capfd.readouterr().out, re.M)
    assert executions is not None and 600 <= int(executions[1]) <= 620
    logs = [both.workdir / name for name in ("libfuzzer.log", "libfuzzer-1.log")]
    shown = [log.read_text() for log in logs]
    assert all(re.search(r"^stat::number_of_executed_units: 3\d\d$", log, re.M) for log in shown)
    seeds_used = [re.search(r"^INFO: Seed: (\d+)$", log, re.M) for log in shown]
    assert [found and found[1] for found in seeds_used] == ["1", "2"]
    kept = list((both.workdir / "corpus" / "x86-64").iterdir())
    assert len(kept) > 5


@fuzzing_test
def test_a_geometry_has_its_own_corpus(tmp_path: Path, seeds: Path) -> None:
    (seeds / "stack.case").write_text(HARMLESS)
    run(options(tmp_path, seeds, geometries=("tiny",), runs=50))
    corpus = tmp_path / "work" / "corpus"
    assert [path.name for path in corpus.iterdir()] == ["tiny"]
    assert list((corpus / "tiny").iterdir())


@fuzzing_test
def test_the_corpus_outlives_its_plans(
    tmp_path: Path, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs are kept as calls; a plan and a seed that a killed run left are put aside."""
    chosen = options(tmp_path, seeds, runs=300)
    corpus, outdated = tmp_path / "work" / "corpus" / "x86-64", tmp_path / "work" / "outdated"
    corpus.mkdir(parents=True)
    inputs = Inputs([GEOMETRIES["x86-64"], GEOMETRIES["small"]])
    left = inputs.planned(PLANS[0], 1, Random(2))
    old = bytes((left[0] ^ 1,)) + left[1:]
    (corpus / "left").write_bytes(left)
    (corpus / "old").write_bytes(old)
    run(chosen)
    assert "1 inputs of a run that was killed" in capsys.readouterr().out
    assert (outdated / "old").read_bytes() == old
    kept = [path.read_bytes() for path in corpus.iterdir()]
    assert inputs.spelled_out(left) in kept
    assert len(kept) > 5
    assert all(len(data) != PLANNED_BYTES for data in kept)
    run(chosen)
    assert "killed" not in capsys.readouterr().out


@fuzzing_test
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_and_loses_nothing(
    tmp_path: Path, seeds: Path, number: signal.Signals
) -> None:
    work = tmp_path / "work"
    program = [
        *(sys.executable, "-m", "fuzz", "run", "--kernel", "linux-6.1", "--seed", "1"),
        *("--workdir", str(work), "--ops", "execve_stack", "--no-seeds"),
    ]
    (corpus := work / "corpus" / "x86-64").mkdir(parents=True)
    process = subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        # Once there are inputs the fuzzer listens; what it writes before that starts with a dot.
        while not any(corpus.glob("[!.]*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        shown, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number, errors
    assert " executions in " in shown
    assert "Traceback" not in shown + errors
    for path in (work / "findings").glob("*.case"):
        assert load(path).calls


@needs_atheris
def test_a_second_run_in_a_working_directory_is_refused(
    tmp_path: Path, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = options(tmp_path, seeds)
    chosen.workdir.mkdir()
    with Lock(chosen.workdir / LOCK):
        assert run(chosen) == BAD_INPUT
    said = capsys.readouterr().err
    assert f"work: a run is under way there (process {os.getpid()}, since 20" in said
    assert "--workdir" in said


@fuzzing_test
def test_a_killed_run_loses_nothing_and_is_followed_by_another(tmp_path: Path) -> None:
    """Its fuzzing processes and what minimizes end with it; what was found is there."""
    work = tmp_path / "work"
    words = [
        *(sys.executable, "-m", "fuzz", "run", "--kernel", "linux-6.1", "--seed", "1"),
        *("--workdir", str(work), "--ops", "execve_stack,mmap,mremap", "--jobs", "2"),
    ]
    corpus, findings = work / "corpus" / "x86-64", work / "findings"
    first = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.05)
            if any(findings.glob("*.case")) and len(fuzzing_processes(first.pid)) == 2:
                break
        children = processes(first.pid)
        inputs, cases = set(corpus.glob("[!.]*")), set(findings.glob("*.case"))
    finally:
        first.kill()
        first.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))
    done = subprocess.run(
        [*words, "--runs", "200"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (FINE, SURPRISES), done.stdout + done.stderr
    assert re.search(r"^\d+ executions in \d\S+ with the run before$", done.stdout, re.M)
    assert cases and cases <= set(findings.glob("*.case"))
    for path in cases:
        assert load(path).calls and NOT_MINIMIZED not in load(path).found
    assert len(set(corpus.glob("[!.]*"))) >= len(inputs) > 0


def alive(pid: int) -> bool:
    """Is there a process of that number, which has not ended?"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def processes(parent: int) -> list[int]:
    """All that a process has started."""
    return [
        int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    ]


def fuzzing_processes(parent: int) -> list[int]:
    """The processes that a run has started."""
    children = processes(parent)
    arguments = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, those in arguments.items() if b"fuzz.campaign.harness" in those]


@fuzzing_test
def test_a_killed_fuzzing_process_is_followed_by_another(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (corpus := work / "corpus" / "x86-64").mkdir(parents=True)
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "fuzz", "run", "--kernel", "linux-6.18", "--seed", "1"),
            *("--workdir", str(work), "--ops", "mmap,mremap", "--no-seeds", "--runs", "1500"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = set()
    try:
        deadline = time.monotonic() + 60
        while len(killed) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
            for child in fuzzing_processes(run.pid):
                if child not in killed and len(list(corpus.glob("[!.]*"))) > 10 * len(killed):
                    killed.add(child)
                    os.kill(child, signal.SIGKILL)
        shown, errors = run.communicate(timeout=120)
    finally:
        run.kill()
        run.wait()
    assert run.returncode in (FINE, SURPRISES), shown + errors
    assert shown.count("ended from outside (killed by SIGKILL); another one goes on") == 2
    executions = re.search(r"^(\d+) executions in ", shown, re.M)
    assert executions is not None and int(executions[1]) >= 1500
    assert "defect of pmdfuzz" not in shown + errors


@fuzzing_test
def test_a_fuzzing_process_that_dies_is_told(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str], plant: Plant
) -> None:
    plant("import os; os._exit(5)", "fuzz.rules.judge.StateRules.check")
    assert run(options(tmp_path, seeds, runs=None)) == OUR_DEFECT
    shown = capfd.readouterr().out
    assert shown.count("a defect of pmdfuzz: exit status 5; another one goes on") == 4
    assert shown.count("a defect of pmdfuzz: exit status 5; the run ends") == 1
    assert "5 fuzzing processes in a row have died before they had executed anything" in shown
    assert "libfuzzer.log" in shown


@fuzzing_test
def test_a_failed_assertion_of_the_engine_is_a_finding(
    tmp_path: Path,
    seeds: Path,
    capfd: pytest.CaptureFixture[str],
    plant: Plant,
) -> None:
    plant('raise AssertionError("planted")', "engine.stack.relocate_vma_down")
    with Change("engine.stack:relocate_vma_down", lambda _: failing).applied():
        assert run(options(tmp_path, seeds, kernels=("linux-6.18",))) == SURPRISES
        case = load(tmp_path / "work" / "findings" / "exception--execve_stack.case")
        (again,) = replay(case)
    shown = capfd.readouterr().out
    assert "NEW FINDING exception--execve_stack on linux-6.18" in shown
    assert re.search(r"AssertionError: planted in \w+, engine/stack\.py:\d+", shown)
    assert [call.name for call in case.calls] == ["execve_stack"]
    assert again.as_expected and again.rule == "exception"


def endless(*_: object, **__: object) -> None:
    while True:
        pass


def eater(*_: object, **__: object) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 20))


@fuzzing_test
@pytest.mark.parametrize(
    ("rule", "does", "here"),
    [
        ("timeout", "while True: pass", endless),
        ("memory", "eaten = [bytearray(1 << 20) for _ in iter(int, 1)]", eater),
    ],
)
def test_a_call_that_does_not_end_is_a_finding(
    rule: str,
    does: str,
    here: Callable[..., None],
    tmp_path: Path,
    seeds: Path,
    capfd: pytest.CaptureFixture[str],
    plant: Plant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(does, "engine.stack.relocate_vma_down")
    monkeypatch.setattr("fuzz.bounded.MOST_STEPS", 400_000)
    monkeypatch.setattr("fuzz.campaign.inquiry._NARROW_STEPS", 40_000)
    monkeypatch.setattr("fuzz.lib.processes.MEMORY_BYTES", 1 << 29)
    chosen = options(tmp_path, seeds, kernels=("linux-6.18",), runs=3, geometries=("x86-64",))
    with Change("engine.stack:relocate_vma_down", lambda _: here).applied():
        assert run(chosen) == SURPRISES
        case = load(tmp_path / "work" / "findings" / f"{rule}--execve_stack.case")
        (again,) = replay(case)
    shown = capfd.readouterr().out
    assert f"NEW FINDING {rule}--execve_stack on linux-6.18" in shown
    assert "defect of pmdfuzz" not in shown
    assert [call.name for call in case.calls] == ["execve_stack"]
    assert case.calls[0].args[2] < 0x400000  # the seed's shift is not minimal
    assert again.as_expected and again.rule == rule
    assert re.search(rf"^{rule}--execve_stack +new +unknown +[1-9]", shown, re.M)


@fuzzing_test
def test_an_exception_of_a_rule_does_not_end_the_run(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str], plant: Plant
) -> None:
    plant('raise AssertionError("planted")', "fuzz.rules.judge.StateRules.check")
    assert run(options(tmp_path, seeds, kernels=("linux-6.18",))) == OUR_DEFECT
    shown = capfd.readouterr().out
    assert shown.count("A defect of pmdfuzz; the input is set aside, and the run goes on: ") == 1
    assert re.search("^30 executions in ", shown, re.M)
    assert "AssertionError: planted" in shown
    (kept,) = (tmp_path / "work" / "crashes").glob("crash-*.case")
    assert f"pmdfuzz replay {kept}" in shown
    case = load(kept)
    assert case.kernel == "linux-6.18"
    assert case.comments == ("AssertionError: planted",)
    assert any(call.name == "execve_stack" for call in case.calls)


@fuzzing_test
def test_an_exception_of_the_mutator_is_told_and_does_not_end_the_run(
    tmp_path: Path, seeds: Path, capfd: pytest.CaptureFixture[str], plant: Plant
) -> None:
    plant('raise AssertionError("planted")', "fuzz.inputs.mutator.Mutator.mutate")
    only = {"kernels": ("linux-6.18",), "calls": frozenset(("execve_stack",))}
    assert run(options(tmp_path, seeds, **only)) == OUR_DEFECT
    shown = capfd.readouterr().out
    assert shown.count("the input is set aside, and the run goes on: AssertionError: planted") == 1
    assert "self._mutator.mutate(" in shown  # where it is
    assert re.search("^30 executions in ", shown, re.M)
    for case in (tmp_path / "work" / "crashes").glob("*.case"):
        assert load(case).calls, "there is nothing to replay"


def the_machine() -> tuple[str, ...]:
    """The model of this machine's kernel; skips the test where cases cannot run."""
    try:
        with beside_model() as pair:
            return (pair.model.name,)
    except SubjectError as error:
        pytest.skip(str(error))


@fuzzing_test
def test_new_inputs_run_on_the_machine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    both = {"kernels": the_machine(), "against": ("host",), "runs": 100, "calls": CALLS}
    assert run(options(tmp_path, ROOT / "corpus/seeds", **both)) == FINE
    found = re.search(
        r"^(\d+) inputs were run on Linux \S+ and compared", capfd.readouterr().out, re.M
    )
    assert found is not None and int(found[1]) >= 10


@fuzzing_test
def test_a_divergence_from_the_machine_is_minimized_and_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = Model.observe

    def wrong(self: Model, case: Case, beside: Any = None) -> dict[str, Any]:
        """A model in which peek tells nothing of faults."""
        seen = observe(self, case, beside)
        for index, call in enumerate(case.calls):
            if call.name == "peek":
                seen["ret"][index] = 0
        return seen

    kernels = the_machine()
    monkeypatch.setattr(Model, "observe", wrong)
    only = frozenset(("peek",))
    status = run(options(tmp_path, kernels=kernels, against=("host",), runs=20, calls=only))
    assert status == SURPRISES
    shown = capfd.readouterr().out
    assert "NEW FINDING machine-differs--peek: Linux" in shown
    assert f"peek.case --on host --kernel {kernels[0]}\n" in shown  # how to reproduce it
    case = load(tmp_path / "work" / "findings" / "machine-differs--peek.case")
    (call,) = case.calls
    assert isinstance(call.result, Faults)  # what the machine did


@fuzzing_test
def test_a_run_goes_on_without_a_machine_that_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Model, cases: object) -> None:
        raise SubjectError("the agent gave up")

    monkeypatch.setattr(Model, "begin", lost)
    both = {"kernels": (), "against": ("model:linux-6.1",), "runs": 100, "calls": CALLS}
    assert run(options(tmp_path, **both)) == FINE
    shown = capfd.readouterr().out
    assert shown.count("The run goes on without linux-6.1: the agent gave up") == 1
    assert re.search(r"^100 executions in ", shown, re.M)
    assert "; lost: the agent gave up" in shown


@fuzzing_test
def test_a_run_is_against_several_subjects(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is what its model says; the other is another kernel, and so a finding."""
    few = Model.able._replace(calls=Model.able.calls - {"fork"})
    monkeypatch.setattr(Model, "able", few)
    against = ("model:linux-6.12", f"model-at:{ROOT}@linux-6.18")
    two = {"kernels": ("linux-6.12",), "against": against, "machines": 2, "jobs": 2}
    status = run(options(tmp_path, **two, runs=300, seed=5))
    assert status == SURPRISES
    shown = capfd.readouterr().out
    assert re.search(r"^against linux-6.12, beside linux-6.12; it has no fork$", shown, re.M)
    assert re.search(r"^against model-at:\S+@linux-6.18, beside linux-6.12$", shown, re.M)
    assert re.search(
        r"^\d+ inputs were run on linux-6.12 and compared with linux-6.12; left out: fork \d+$",
        shown,
        re.M,
    )
    (other, *_) = re.findall(r"^NEW FINDING machine-differs--\w+: (\S+) is not (\S+)$", shown, re.M)
    assert other == (against[1], "linux-6.12")
    assert f"--on {against[1]} --kernel linux-6.12\n" in shown  # how to reproduce it


@fuzzing_test
def test_a_subject_that_is_too_slow_is_not_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Differential, "batch", lambda _: [])  # it never gets round to any
    monkeypatch.setattr(_Run, "_time_is_up", lambda _: True)  # once its process has ended
    run(options(tmp_path, kernels=(), against=("model:linux-6.1",)))
    shown = capfd.readouterr().out
    assert re.search(r"^0 inputs were run on linux-6.1 .*, \d+ new ones were not$", shown, re.M)


def test_subjects_with_different_page_tables_need_a_run_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = ("model:linux-6.12", "model:linux-6.12@tiny")
    assert run(options(tmp_path, kernels=(), against=against)) == BAD_INPUT
    said = capsys.readouterr().err
    assert "each needs its own run: linux-6.12 (x86-64), linux-6.12 (tiny)" in said


def test_fuzzing_without_atheris_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert run(options(tmp_path)) == BAD_INPUT
    assert "pip install atheris" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_fuzzing_without_assertions_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-O", "-m", "fuzz", "run", "--workdir", str(tmp_path / "work")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == BAD_INPUT
    assert "-O" in done.stderr


@needs_atheris
def test_bad_input_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    for wrong, message in (
        (options(occupied), "cannot write here"),
        (options(tmp_path, tmp_path / "nowhere"), "nowhere"),
        (options(tmp_path, kernels=()), "no kernel"),
        (options(tmp_path, kernels=("linux-0.1",)), "linux-6.18"),
        (options(tmp_path, calls=frozenset(("reboot",))), "unknown calls: reboot"),
    ):
        assert run(wrong) == BAD_INPUT
        assert message in capsys.readouterr().err


@fuzzing_test
def test_the_child_reports_what_it_did(tmp_path: Path) -> None:
    setting = Setting(["linux-6.18"], ["x86-64"], ["mmap", "mremap"], 4, runs=200)
    child = Child(setting, ["-runs=200", "-seed=1"], tmp_path / "log")
    last = {}
    while child.talking:
        for event in child.events(0.1):
            last[event["event"]] = event
    assert child.close() == 0
    assert last["stats"]["execs"] == 200
    assert last["stats"]["cells"]["linux-6.18"] > 20
    assert last["start"]["fixed_addresses"] == (sys.platform == "linux")


@fuzzing_test
def test_the_child_outlives_the_thread_that_has_started_it(tmp_path: Path) -> None:
    setting = Setting(["linux-6.18"], ["x86-64"], ["mmap"], 4, runs=200)
    started: list[Child] = []
    thread = Thread(target=lambda: started.append(Child(setting, ["-runs=200"], tmp_path / "log")))
    thread.start()
    thread.join()
    (child,) = started
    while child.talking:
        child.events(0.1)
    assert child.close() == 0


@needs_atheris
def test_handlers_of_python_do_not_keep_a_signal_from_libfuzzer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONFAULTHANDLER", "PYTHONDEVMODE"):
        monkeypatch.setenv(name, "1")
    child = Child(Setting(["linux-6.18"], ["x86-64"], ["mmap"], 4), [], tmp_path / "log")
    while not any(event["event"] == "stats" for event in child.events(0.1)):
        assert child.talking
    os.kill(child._process.pid, signal.SIGSEGV)
    assert child.close() == 77


@needs_atheris
def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from fuzz.campaign.child import Child, Setting\n"
        "child = Child(Setting(['linux-6.18'], ['x86-64'], ['mmap'], 4), [], Path(sys.argv[1]))\n"
        "while not child.events(0.1): pass\n"
        "print(child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    pid = int(parent.stdout)
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)
    assert os.path.exists(tmp_path / "log")
