"""`pmdfuzz run` from end to end: short runs on model kernels with known bugs."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from engine.base.geometry import GEOMETRIES
from fuzz.campaign import run as run_module
from fuzz.campaign.result import Result
from fuzz.campaign.run import LOCK, run
from fuzz.case import Expectation
from fuzz.defects.known import told
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import NOT_MINIMIZED
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import load
from fuzz.inputs.inputs import PLANNED_BYTES, PLANS, Inputs
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from fuzz.lib.lock import Lock
from fuzz.showing import replay
from tests.lib.constants import ROOT
from tests.lib.machine import CALLS
from tests.lib.rounds import Planned
from tests.lib.runs import (
    SEED,
    WARNING,
    alive,
    fuzzing_processes,
    fuzzing_test,
    needs_atheris,
    options,
    processes,
)

# Nobody knows it of a kernel: a switch turned over that no release has so.
UNKNOWN = Bucket("entries-at-new", "mremap")
STRANGE = "linux-6.12-negative_result_is_zero"
HARMLESS = "mmap(0x200000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"


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
    assert executions is not None and 600 <= int(executions[1]) < 700
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
def test_a_run_that_nobody_works_for_any_more_ends_with_what_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(tmp_path, kernels=("linux-6.1",))
    left = load(ROOT / "corpus" / "regressions" / "thread-c-overlapping.case")
    left = replace(left, kernel="linux-6.1", found=(NOT_MINIMIZED,))
    with Ledger.open(chosen.workdir) as ledger:
        ledger.cases.save(Bucket.named("dest-entry-none--execve_stack--B-01"), left)
    executor = Planned(0, remote=True)
    executor.over = "all workers are gone"
    monkeypatch.setattr(run_module, "_here", lambda _: executor)
    assert run(chosen) == BAD_INPUT
    told = capfd.readouterr()
    assert "pmdfuzz run: all workers are gone" in told.err and "not minimized: " in told.out
