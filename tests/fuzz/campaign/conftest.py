"""What the tests of runs have in common."""

from pathlib import Path

import pytest

from tests.lib.runs import SEED


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """A directory with one seed, which shows the bug on linux-6.1."""
    directory = tmp_path / "seeds"
    directory.mkdir()
    (directory / "stack.case").write_text(SEED)
    return directory
