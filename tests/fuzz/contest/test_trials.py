"""Contestants play: the same bug, the same judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.bench.__main__ import main
from fuzz.campaign.child import environment
from fuzz.contest.bugs import mutants
from fuzz.contest.table import Table
from fuzz.contest.trial import CONTESTANTS, PROVIDER, Task
from fuzz.contest.trials import play

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring"),
    pytest.mark.atheris,
    pytest.mark.slow,
]


def test_each_contestant_looks_for_the_bug(tmp_path: Path) -> None:
    """An easy one, so that most find it; the plain harness may need longer."""
    table = Table(tmp_path)
    tasks = [Task(who, "B-12-own-head", 2, 4.0) for who in CONTESTANTS if who != PROVIDER]
    tasks.append(Task(PROVIDER, "B-12-own-head", 1, 0.2))
    assert play(tasks, table, 1) == []
    for task in tasks:
        played = table.get(task)
        assert played is not None, task
        stages = [moment for moment in played[:3] if moment is not None]
        assert stages == sorted(stages), "reached, then triggered, then found"
        assert played.spent.executions >= 1
        assert (played.found is not None) or played.spent.seconds >= task.seconds
    found = {task.contestant for task, played in table if played.found}
    assert {"pmdfuzz", "no-feedback", "no-plans", "random", "bytes"} <= found


def test_trials_that_are_there_are_not_played_again(tmp_path: Path) -> None:
    table = Table(tmp_path)
    task = Task("random", "B-12-own-head", 2, 4.0)
    play([task], table, 1)
    was = table.get(task)
    play([task], table, 1)
    assert table.get(task) == was


def test_a_mutant_is_covered_and_found(tmp_path: Path) -> None:
    table = Table(tmp_path)
    mutant = next(name for name in mutants(40) if name.startswith("mremap-"))
    tasks = [Task(who, mutant, 1, 3.0) for who in ("pmdfuzz", "no-plans")]
    assert play(tasks, table, 1) == []
    assert all(played.reached is not None for _, played in table)


def test_a_player_ends_with_whoever_has_started_it(tmp_path: Path) -> None:
    receive, tell = os.pipe()
    told = {"task": Task("random", "B-07-swap", 1, 3600.0)._asdict(), "tell": tell}
    player = subprocess.Popen(
        [sys.executable, "-m", "fuzz.contest.player", json.dumps(told)],
        cwd=tmp_path,
        env=environment(),
        pass_fds=(tell,),
    )
    os.close(tell)
    os.close(receive)
    assert player.wait(60) == 1


@pytest.mark.parametrize("words", [["--bugs", "B-99"], ["--contestants", "nobody"]])
def test_bad_words(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["find", *words, "--workdir", str(tmp_path)]) == 2
    assert words[1] in capsys.readouterr().err
