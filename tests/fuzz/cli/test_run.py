"""`run`: what its options become."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.base.kernel import releases
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.result import Result
from fuzz.campaign.session import RunOptions
from fuzz.cli.main import main
from fuzz.lib.processes import cores
from tests.lib.command import BUCKET, Output, refused

RESULT = Result(1, "r", "w", ["linux-6.1"], ["small"], 1.5, 10, 2, 3, [])


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    """What `run` would have been started with."""
    seen: list[RunOptions] = []

    def record(options: RunOptions, hand: Callable[[Result], None] | None = None) -> int:
        seen.append(options)
        if hand is not None:
            print("what people read")
            hand(RESULT)
        return 1

    monkeypatch.setattr("fuzz.cli.run.run", record)
    return seen


def test_run_hands_its_options_on(chosen: list[RunOptions]) -> None:
    words = "run --kernel linux-6.1 --kernel linux-6.7 --geometry i386 --time 2m --runs 9 --seed 3"
    more = "--ops mmap,mremap --workdir w --no-seeds --count-known --count-old --jobs 3"
    flags = "-- -timeout=1 -shrink=1"
    assert main([*words.split(), *more.split(), *flags.split()]) == 1
    assert chosen == [
        RunOptions(
            workdir=Path("w"),
            kernels=("linux-6.1", "linux-6.7"),
            geometries=("i386",),
            seconds=120,
            runs=9,
            seed=3,
            calls=frozenset({"mmap", "mremap"}),
            seeds=(),
            count_known=True,
            count_old=True,
            jobs=3,
            libfuzzer=("-timeout=1", "-shrink=1"),
        )
    ]


def test_all_kernels_are_the_releases_that_differ(chosen: list[RunOptions]) -> None:
    assert main(["run", "--kernel", "linux-6.18+realign", "--kernel", "all"]) == 1
    names = [kernel.name for kernel in releases()]
    assert chosen[0].kernels == ("linux-6.18+realign", *names)
    assert {"linux-5.0", "linux-6.12.43", "linux-6.18", "linux-7.3"} <= set(names)


def test_run_by_default(chosen: list[RunOptions]) -> None:
    main(["run"])
    assert chosen == [RunOptions(workdir=Path(".pmdfuzz"), jobs=cores())]


@pytest.mark.parametrize(
    ("words", "seconds", "runs", "stops"),
    [
        ("--for code-change", 600, None, True),
        ("--for batch", 3600, None, False),
        ("--for code-change --time 90s", 90, None, True),
        ("--for batch --runs 7", None, 7, False),
    ],
)
def test_what_a_run_is_for(
    words: str, seconds: int | None, runs: int | None, stops: bool, chosen: list[RunOptions]
) -> None:
    main(["run", *words.split()])
    (options,) = chosen
    assert (options.seconds, options.runs, options.stop_at_first) == (seconds, runs, stops)


def test_a_baseline_and_a_report_are_handed_on(chosen: list[RunOptions]) -> None:
    main(["run", "--baseline", "b", "--update-baseline", "--junit", "j.xml"])
    (options,) = chosen
    assert (options.baseline, options.update_baseline) == (Path("b"), True)
    assert options.junit == Path("j.xml")


def test_json_is_alone_on_standard_output(chosen: list[RunOptions], capsys: Output) -> None:
    assert main(["run", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == RESULT.as_json()
    assert err == "what people read\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--update-baseline"], "--update-baseline: name the file with --baseline"),
        (
            ["--ops", "mmap,reboot,clone"],
            f"--ops: unknown reboot, clone; known: {', '.join(sorted(MODELLED_CALLS))}",
        ),
        (["--ops", ","], "--ops names no call; known: "),
        (["--", "-timeout=1", "corpus"], "'corpus' is no flag of libFuzzer, such as -max_len=500"),
        (["--", "-fork=1"], "-fork=1 does not work here: use `pmdfuzz run --jobs N`"),
        (["--kernel", "linux-9.9"], "unknown kernel 'linux-9.9'; known: "),
        (["--geometry", "vax"], "unknown geometry 'vax'; known: "),
    ],
)
def test_run_refuses(
    words: list[str], message: str, chosen: list[RunOptions], capsys: Output
) -> None:
    assert main(["run", *words]) == 2
    assert refused(capsys).startswith(message)
    assert chosen == []


def test_flags_of_libfuzzer_are_listed(
    chosen: list[RunOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--", "-help=1"]) == 0
    assert "-max_len=N" in capsys.readouterr().out
    assert chosen == []


def test_a_run_leaves_a_report(
    workdir: Path, chosen: list[RunOptions], tmp_path: Path, capsys: Output
) -> None:
    words = ["run", "--workdir", "work", "--json", "--report"]
    assert main([*words, "pages"]) == 1
    assert BUCKET.name in (tmp_path / "pages" / "index.html").read_text()
    assert json.loads(capsys.readouterr().out)["status"] == 1
    (tmp_path / "mine.html").write_text("<p>mine")
    assert main([*words, "mine.html"]) == 2
    assert "no report of ours" in refused(capsys)
    assert len(chosen) == 1
