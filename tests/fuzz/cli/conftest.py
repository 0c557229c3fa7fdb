"""What tests of the commands start from."""

from pathlib import Path

import pytest

from fuzz.findings.cases import CaseStore
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import parse
from tests.lib.command import BUCKET, MAP, RULE, STACK, Write


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a directory of its own, and nothing of the environment's colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Makes a case file x.case."""

    def make(text: str) -> str:
        (tmp_path / "x.case").write_text(text)
        return "x.case"

    return make


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A working directory with one finding, seen three times."""
    directory = tmp_path / "work"
    with Ledger.open(directory, clock=lambda: 1.7e9) as ledger:
        ledger.record(BUCKET, "linux-6.1", run_id="1", executions=7, count=3)
    case = parse(f"@kernel linux-6.1\n@expect {RULE}\n@found run seed=1\n{MAP}{STACK}")
    CaseStore(directory).save(BUCKET, case)
    return directory
