"""The file of what has been tried: whatever its folder is called, and whatever lies beside it."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fuzz.exhaust.programs import Layout
from fuzz.exhaust.store import Store
from fuzz.exhaust.trial import Task, Tried

TASK = Task(Layout((), 1, 2), 0, 1, 1)
TRIED = Tried(7, 8, frozenset((b"12345678",)), {})


@pytest.mark.parametrize("name", ["plain", "a?mode=rwc", "100%41", "a#b", "ä b"])
def test_a_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for again in (False, True):
        store = Store(tmp_path / name, "this")
        assert store.notice == ""
        assert store.done(TASK) is again
        if not again:
            store.put(TASK, TRIED, 0.5)
        assert store.totals()[:4] == (1, 7, 8, 1)
        store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_killed_session_left_does_not_get_into_the_next_file(tmp_path: Path) -> None:
    """Its journal belongs to the old file, and goes with it."""
    killed = tmp_path / "killed"
    killed.mkdir()
    store = Store(killed, "this")
    store.put(TASK, TRIED, 0.5)
    shutil.copytree(killed, tmp_path / "left")  # as it is without a last word
    store.close()
    store = Store(tmp_path / "left", "that")
    assert store.totals().tasks == 0
    store.close()
    (old,) = (tmp_path / "left").glob("*.sqlite.*[!lm]")
    with closing(sqlite3.connect(old)) as file:
        assert file.execute("SELECT programs, runs FROM tried").fetchall() == [(7, 8)]


def test_a_file_that_nobody_came_to_fill_is_filled(tmp_path: Path) -> None:
    (tmp_path / "exhaust.sqlite").touch()
    with closing(Store(tmp_path, "this")) as store:
        assert (store.notice, store.totals().tasks) == ("", 0)
