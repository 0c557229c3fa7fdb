"""Which statements a change has touched."""

import subprocess
from pathlib import Path

import pytest

from fuzz.reach.changed import changed_lines, statements
from fuzz.reach.reached import ReachError

BEFORE = "A = 1\n\n\ndef f(x):\n    return x\n"
AFTER = BEFORE.replace(
    "    return x\n",
    "    # why\n    if x:\n        g(\n            x,\n            1,\n        )\n    return x\n",
)


def git(home: Path, *words: str) -> None:
    named = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *named, *words], cwd=home, check=True, capture_output=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout with a model of one module, and one beside it."""
    (tmp_path / "engine").mkdir()
    for name in ("engine/move.py", "engine/gone.py", "other.py"):
        (tmp_path / name).write_text(BEFORE)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def test_lines_that_differ_from_a_revision(home: Path) -> None:
    assert changed_lines("HEAD", home) == {}
    (home / "engine" / "move.py").write_text(AFTER)
    (home / "engine" / "gone.py").unlink()
    (home / "engine" / "näher.py").write_text("B = 1\n\n")
    (home / "engine" / "notes.txt").write_text("not Python\n")
    (home / "other.py").write_text("")
    expected = {"engine/move.py": {5, 6, 7, 8, 9, 10}, "engine/näher.py": {1, 2}}
    assert changed_lines("HEAD", home) == expected
    git(home, "add", ".")
    assert changed_lines("HEAD", home) == expected
    git(home, "commit", "-q", "-m", "two")
    assert changed_lines("HEAD", home) == {}
    assert changed_lines("HEAD~1", home) == expected


def test_a_line_that_is_gone_is_none(home: Path) -> None:
    (home / "engine" / "move.py").write_text(BEFORE.replace("A = 1\n", ""))
    assert changed_lines("HEAD", home) == {}


def test_what_is_no_revision_is_refused(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(ReachError, match="'corpus' is no revision of this checkout"):
        changed_lines("corpus", home)
    with pytest.raises(ReachError, match="is no git checkout"):
        changed_lines("HEAD", tmp_path_factory.mktemp("plain"))


def test_a_line_is_part_of_a_statement() -> None:
    assert statements(AFTER, {5}) == set()  # a comment
    assert statements(AFTER, {8, 9}) == {7}
    assert statements(AFTER, {4, 6, 11}) == {4, 6, 11}
    branches = "try:\n    f()\nexcept (\n    ValueError,\n):\n    pass\nelse:\n    g()\n"
    assert statements(branches, {4, 7, 8}) == {3, 8}
    cases = "match x:\n    case [\n        1\n    ]:\n        pass\n"
    assert statements(cases, {3, 5}) == {2, 5}
    decorated = "@one(\n    2\n)\ndef f(\n    x,\n): return x\n"
    assert statements(decorated, {5, 6}) == {4, 6}
