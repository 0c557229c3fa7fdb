"""Results hold as long as nothing has changed that decides them."""

from pathlib import Path

import pytest

from fuzz.lib.fingerprint import fingerprint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of two folders."""
    for name in ("model/move.py", "model/deep/table.py", "cli/main.py", "corpus/a.case", "one.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


PLACES = ("model", "corpus", "one.py")


@pytest.mark.parametrize(
    "name", ["model/move.py", "model/deep/table.py", "corpus/a.case", "one.py"]
)
def test_what_decides_counts(root: Path, name: str) -> None:
    before = fingerprint(root, PLACES)
    (root / name).write_text("changed")
    assert fingerprint(root, PLACES) != before


def test_what_does_not_decide_does_not_count(root: Path) -> None:
    before = fingerprint(root, PLACES)
    (root / "cli/main.py").write_text("another word")
    (root / "model/README.md").write_text("another word")
    assert fingerprint(root, PLACES) == before


def test_names_and_more_count_and_the_order_of_places_does_not(root: Path) -> None:
    before = fingerprint(root, PLACES, "moving", 3)
    assert fingerprint(root, (*PLACES[::-1], "model/deep"), "moving", 3) == before
    assert fingerprint(root, PLACES, "moving", 4) != before
    (root / "model/move.py").rename(root / "model/moved.py")
    assert fingerprint(root, PLACES, "moving", 3) != before


def test_a_place_that_is_gone_is_an_error(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"two\.py"):
        fingerprint(root, (*PLACES, "two.py"))
