"""Two trees in turns: what is compared with what, and what is refused; never how fast it is."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.bench import run
from fuzz.bench.__main__ import main
from fuzz.bench.tree import THIS, BenchError, Job, Tree
from fuzz.bench.turns import Row, Trial, Unit, jobs_slices, of_jobs, overall, trial

SAMPLE = THIS / "corpus" / "truth" / "linux-6.18.jsonl.xz"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another checkout with the same code, whose path tells it apart."""
    home = tmp_path / "another checkout"
    home.mkdir()
    for name in ("engine", "fuzz", "corpus"):
        (home / name).symlink_to(THIS / name)
    return home


def test_ratios_are_of_pairs_and_their_means_geometric() -> None:
    row = Row(Unit("seconds", more_is_better=False))
    figures = {"this": ((1, 2.0), (1, 8.0), (2, 3.0)), "other": ((1, 1.0), (1, 1.0), (2, 6.0))}
    for tree, added in figures.items():
        for number, figure in added:
            row.add(tree, number, figure)
    assert row.of("this") == pytest.approx([4, 3])
    assert row.ratios("this", "other") == pytest.approx([4, 0.5])
    assert row.pairs("this", "other") == [[2, 8], [0.5]]


def test_a_slice_that_only_one_tree_has_done_gives_no_ratio() -> None:
    row = Row(Unit("seconds", more_is_better=False))
    for tree, number, figure in (("this", 1, 2.0), ("other", 1, 1.0), ("this", 1, 5.0)):
        row.add(tree, number, figure)
    assert row.ratios("this", "other") == [2]
    row.add("this", 2, 5.0)
    assert row.ratios("this", "other") == [2]
    row = Row(Unit("seconds", more_is_better=False))
    row.add("this", 1, 2.0)
    assert row.ratios("this", "other") == []


def test_more_processes_are_beside_the_fewest() -> None:
    rows = {of_jobs(many): Row(of_jobs(many)) for many in (1, 2)}
    for number, figures in enumerate(((100.0, 180.0), (50.0, 100.0)), 1):
        for many, figure in enumerate(figures, 1):
            rows[of_jobs(many)].add("this", number, figure)
    (line,) = run._of_jobs(rows, [2, 1], ["this"])
    assert line.split() == ["this:", "--jobs", "2", "/", "--jobs", "1", "1.800", "1.900", "2.000"]
    assert run._of_jobs({}, [1, 2], ["this"]) == []


def test_a_tree_without_jobs_runs_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "fuzz" / "cli").mkdir(parents=True)
    (tmp_path / "fuzz" / "cli" / "run.py").write_text("")
    (old_slice,) = jobs_slices(1, [1], 5)
    old, new = Tree("old", tmp_path, tmp_path), Tree("new", THIS, tmp_path)
    assert "--jobs=1" not in old_slice.job(old).commands[0]
    assert "--jobs=1" in old_slice.job(new).commands[0]
    (more,) = jobs_slices(1, [2], 5)
    with pytest.raises(BenchError, match="`run` has no --jobs"):
        more.job(old)


def test_a_mean_of_ratios_has_a_factor_for_its_error() -> None:
    assert overall([2, 0.5]) == pytest.approx((1, 2))
    assert overall([3, 3, 3]) == pytest.approx((3, 1))
    mean, error = overall([3])
    assert (mean, error) == (pytest.approx(3), math.inf)


def test_a_trial_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    table = tmp_path / "results.tsv"
    table.write_text(
        "# code 0123\n"
        "exhibit\tnew\tseed\tside\toutcome\texecutions\tseconds\n"
        "B-1\t\t1\tcorrect\tclean\t1\t1.00\n"
        "B-1\t\t1\tbug\tmissed\t77\t20.01\n"
        "B-1\t\t2\tbug\tfound\t5\t0.50\n"
    )
    assert trial(table, "B-1", 1) == Trial(False, 77, 20.01)
    assert trial(table, "B-1", 2) == Trial(True, 5, 0.5)
    with pytest.raises(BenchError, match="no result of B-1 with seed 3"):
        trial(table, "B-1", 3)


@pytest.mark.slow
def test_commands_run_with_the_code_of_their_tree(other: Path, tmp_path: Path) -> None:
    tree = Tree.open("other", other, tmp_path)
    ran = tree.run(Job([["rules", "I-01"], ["kernels"]], warm_up=[["kernels"]]))
    assert (ran.home, ran.rounds, list(ran.statuses)) == (str(other), 1, [0, 0, 0])
    assert ran.seconds > 0
    assert (ran.executions, ran.peak_bytes) == (0, 0)
    assert tree.run(Job([["rules", "I-01"]], least_seconds=0.2)).rounds > 1
    with pytest.raises(BenchError, match=r"'rules I-99' ended with status 2:\n.*I-99"):
        tree.run(Job([["rules", "I-99"]]))


def broken_trees(home: Path) -> Iterator[tuple[str, str]]:
    yield "missing", "no checkout of pmdfuzz: fuzz/ and engine/ are not there"
    for name in ("empty", "spoilt"):
        for package in ("fuzz", "engine"):
            (home / name / package).mkdir(parents=True)
            (home / name / package / "__init__.py").touch()
    yield "empty", "'kernels' cannot be run:"
    (home / "spoilt" / "fuzz" / "child.py").write_text("class Child: events = None\n")
    (home / "spoilt" / "fuzz" / "__main__.py").write_text("raise SystemExit('no more')\n")
    yield "spoilt", "'kernels' ended with status 1:"


@pytest.mark.slow
def test_what_is_no_tree_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, why in broken_trees(tmp_path):
        assert main(["run", "--only", "compare", "--against", str(tmp_path / name)]) == 2
        output = capsys.readouterr()
        assert f"fuzz.bench run: {tmp_path / name}: {why}" in output.err
        assert output.out == ""


def test_recordings_are_named_found_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (truth,) = run.truths_of([SAMPLE])
    assert (truth.path, truth.kernel) == (SAMPLE, "linux-6.18")
    assert truth.recordings > 300
    monkeypatch.setenv("PMDFUZZ_TRUTH", str(SAMPLE.parent))
    assert truth in run.truths_of(None)
    assert len(run.truths_of(None)) == 4
    with pytest.raises(BenchError, match="no recordings there"):
        run.truths_of([tmp_path])
    with pytest.raises(BenchError, match="must be that of a kernel"):
        run.truths_of([tmp_path / "x.jsonl"])


def short_truth(directory: Path, *, spoilt: bool = False) -> Path:
    """A file with one recording, perhaps one that no model agrees with."""
    recorded = {
        "id": "x",
        "ops": ["munmap(0x0, 0x1000)"],
        "ret": [1 if spoilt else 0],
        "pt": [0],
        "vmas": [],
        "pages": [],
        "pgtable_bytes": 0,
        "rss_pages": 0,
        "warn": False,
    }
    path = directory / "linux-6.12.jsonl"
    path.write_text(json.dumps(recorded) + "\n")
    return path


@pytest.mark.slow
def test_two_trees_in_turns(
    other: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fuzz.bench.turns._COMPARE_SECONDS", 0.0)
    words = ["run", "--only", "compare", "--truth", str(short_truth(tmp_path)), "--repeat", "2"]
    assert main([*words, "--against", str(other)]) == 0
    output = capsys.readouterr()
    assert "2 slices" in output.err
    assert output.out.startswith(f"this:  {THIS}")
    assert f"other: {other}\n" in output.out
    *_, row, _ = output.out.split("\n")
    assert row.startswith("recordings a CPU second of `compare` ")
    assert row.endswith("  more")
    this, that, *ratios = map(float, row.partition("`compare`")[2].split()[:-1])
    assert this > 0 < that
    assert ratios == sorted(ratios)
    assert len(ratios) == 3


@pytest.mark.slow
def test_without_another_tree_the_figures_are_absolute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.bench.turns._COMPARE_SECONDS", 0.0)
    words = ["run", "--only", "compare", "--truth"]
    assert main([*words, str(short_truth(tmp_path)), "--repeat", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-2].split() == ["least", "median", "most"]
    assert main([*words, str(short_truth(tmp_path, spoilt=True))]) == 2
    assert "ended with status 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.atheris
def test_runs_and_trials_are_measured(other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--repeat=1", "--runs=20", "--seeds=1", "--exhibits=B-13-two-levels"]
    parts = ["--only=rate", "--only=memory", "--only=find"]
    assert main([*words, *parts, "--against", str(other)]) == 0
    output = capsys.readouterr().out
    rows = [line.split("  ")[0] for line in output.splitlines()]
    for what in (
        "executions a CPU second of `run`, x86-64 alone",
        "executions a CPU second of `run`, as `make fuzz`",
        "peak MiB of the fuzzing process, x86-64 alone",
        "executions to find an exhibit",
        "CPU seconds to find an exhibit",
        "this: 0 trials found nothing",
    ):
        assert what in rows
