"""`status`: a run in progress, seen from elsewhere, and what the last one said."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.findings.history import About, Standing
from fuzz.findings.ledger import Ledger
from tests.lib.command import BUCKET, Output, refused

ABOUT = About("2026-11-28T17:32:14 seed 5", ("linux-6.1", "linux-7.3"), ("x86-64", "small"), "p")
STANDING = Standing(75.0, 42000, 560.0, 1234, 9876, 2, 3, None, "minimizing x--mremap")
STATUS = ["status", "--workdir", "work"]


@pytest.fixture
def running(workdir: Path) -> Iterator[Ledger]:
    """This process has a run in progress there."""
    with Ledger.open(workdir) as ledger:
        ledger.history.begin(ABOUT)
        ledger.history.tell(replace(STANDING, last_new=time.time() - 30), now=True)
        ledger.states.change(BUCKET._replace(defect="B-01"), "accepted")
        yield ledger


def lines(capsys: Output) -> dict[str, str]:
    out = capsys.readouterr().out
    return {line[:12].strip(): line[12:] for line in out.splitlines() if line[:1].strip()}


def test_a_run_in_progress(running: Ledger, capsys: Output) -> None:
    assert main(STATUS) == 0
    told = lines(capsys)
    assert told["run"].startswith("in progress for ")
    assert told["run"].endswith(f"; {ABOUT.name}, process {os.getpid()} on {os.uname().nodename}")
    assert told["fuzzes"] == "linux-6.1, linux-7.3 on x86-64, small"
    assert told["executions"] == "42.0k in 1m15s, 560 a second"
    assert told["corpus"] == "1234 inputs; 9876 cells"
    assert told["findings"] == "met: 2 unknown, 3 known"
    assert told["does"] == "minimizing x--mremap"
    assert told["in all"] == "1 run, 1m15s, 42.0k executions"
    assert told["last new"].endswith("s ago")


def test_a_run_that_is_over_or_has_died(running: Ledger, capsys: Output) -> None:
    dead = "UPDATE runs SET born = ?"
    running._database.write(dead, [("another",)])
    assert main(STATUS) == 0
    told = lines(capsys)
    assert told["run"].startswith("died without a word, ")
    assert "does" not in told
    running.history.end(143)
    assert main(STATUS) == 0
    told = lines(capsys)
    assert told["run"].startswith("over ") and ", exit status 143; " in told["run"]
    assert "does" not in told


def test_findings_are_counted_by_state(running: Ledger, capsys: Output) -> None:
    known = BUCKET._replace(defect="B-01")
    running.record(known, "linux-6.1", run_id="1", executions=1)
    running.flush()
    assert main(STATUS) == 0
    assert "kept: 1 unknown (1 new), 1 known (1 accepted)\n" in capsys.readouterr().out


def test_status_as_json(running: Ledger, capsys: Output) -> None:
    assert main([*STATUS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["is"], told["pid"], told["status"]) == ("in progress", os.getpid(), None)
    assert told["executions"] == 42000
    assert told["kept"] == {"unknown": {"new": 1}, "known": {}}
    assert told["in_all"] == {"runs": 1, "seconds": 75.0, "executions": 42000}
    assert told["kernels"] == list(ABOUT.kernels)


def test_the_history_as_far_back_as_there_is_one(running: Ledger, capsys: Output) -> None:
    now = int(time.time())
    rows = [(now - age, 0.0, age, 10, 20, 1, 2) for age in (90, 3700, 90000)]
    running._database.write("INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    assert main(STATUS) == 0
    out = capsys.readouterr().out
    history = [line.split() for line in out[out.index("            executions") :].splitlines()]
    assert history[1:] == [
        ["an", "hour", "ago", "3700", "10", "20", "1", "2"],
        ["a", "day", "ago", "90.0k", "10", "20", "1", "2"],
    ]


def test_a_run_that_writes_does_not_hinder_it(running: Ledger, capsys: Output) -> None:
    running._database.connection.execute("BEGIN EXCLUSIVE")
    assert main(STATUS) == 0
    running._database.connection.execute("ROLLBACK")
    assert lines(capsys)["run"].startswith("in progress")


def test_before_any_run(workdir: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["status"]) == 2
    assert refused(capsys) == "no run yet in .pmdfuzz; `pmdfuzz run` begins one\n"
    assert not (tmp_path / ".pmdfuzz").exists()
    assert main(STATUS) == 2
    assert refused(capsys) == "no run yet in work that says where it stands\n"
    (workdir / "ledger.sqlite").write_bytes(b"no database" * 100)
    assert main(STATUS) == 2
    assert refused(capsys).startswith("work/ledger.sqlite: not an SQLite database")
