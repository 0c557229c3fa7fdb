"""The raw table of a comparison."""

from pathlib import Path

import pytest

from fuzz.contest.table import Table, TableError
from fuzz.contest.trial import Moment, Played, Task

TASK = Task("pmdfuzz", "B-12-own-head", 1, 5.0)
FOUND = Played(Moment(1, 0.5), Moment(7, 1.25), Moment(9, 1.5), Moment(9, 1.5))
MISSED = Played(None, None, None, Moment(800, 5.0))


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.put(TASK, FOUND)
    table.put(TASK._replace(seed=2), MISSED)
    again = Table(tmp_path)
    assert not again.notice
    assert list(again) == [(TASK, FOUND), (TASK._replace(seed=2), MISSED)]


def test_a_trial_that_missed_is_played_again_if_it_gets_longer(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.put(TASK, MISSED)
    table.put(TASK._replace(seed=2), FOUND)
    assert table.get(TASK) == MISSED
    assert table.get(TASK._replace(seconds=6.0)) is None
    assert table.get(TASK._replace(seed=2, seconds=6.0)) == FOUND
    assert table.get(TASK._replace(seed=3)) is None


def test_results_of_other_code_are_put_aside(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.put(TASK, FOUND)
    text = table.path.read_text()
    table.path.write_text(text.replace("# code ", "# code 0"))
    other = Table(tmp_path)
    assert not list(other)
    assert "trials.tsv.old-1" in other.notice
    other.put(TASK, MISSED)
    again = Table(tmp_path, fresh=True)
    assert "trials.tsv.old-2" in again.notice
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "trials.tsv.old-1",
        "trials.tsv.old-2",
    ]


@pytest.mark.parametrize("damage", [b"nothing of ours\n", b"\xff\x00\n", None])
def test_what_is_no_table_is_refused_and_kept(tmp_path: Path, damage: bytes | None) -> None:
    table = Table(tmp_path)
    table.put(TASK, FOUND)
    kept = damage or table.path.read_bytes().replace(b"\t9\t", b"\tnine\t")
    table.path.write_bytes(kept)
    with pytest.raises(TableError, match=r"trials\.tsv"):
        Table(tmp_path)
    assert table.path.read_bytes() == kept
