"""`pmdfuzz compare` and `observe`: the model beside recordings, good, wrong and broken ones."""

import gzip
import json
from pathlib import Path

import pytest

from fuzz.cli import main

SAMPLE = Path(__file__).parent / "data" / "truth-linux-6.12.jsonl.gz"


def sample(number: int) -> list[str]:
    """The first recordings of the sample."""
    return gzip.decompress(SAMPLE.read_bytes()).decode().splitlines()[:number]


def written(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_recordings_of_the_kernel_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = written(tmp_path / "t.jsonl", sample(40))
    assert main(["compare", truth, "--kernel", "linux-6.12"]) == 0
    assert "40" in capsys.readouterr().out


def test_a_wrong_page_table_count_is_a_disagreement(tmp_path: Path) -> None:
    lines = sample(5)
    recording = json.loads(lines[2])
    recording["pt"][-1] += 4096
    lines[2] = json.dumps(recording)
    assert main(["compare", written(tmp_path / "t.jsonl", lines), "--kernel", "linux-6.12"]) == 1


@pytest.mark.parametrize("broken", ['{"id": "x", "ops": ["mm', "[1, 2]", '{"id": "x"}'])
def test_a_line_that_is_no_recording_is_named(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "t.jsonl"
    truth.write_text("\n".join([*sample(2), broken]))
    assert main(["compare", str(truth), "--kernel", "linux-6.12"]) == 2
    assert f"{truth}:3" in capsys.readouterr().err


def test_what_observe_prints_compares_as_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = written(tmp_path / "t.jsonl", sample(5))
    assert main(["observe", truth, "--kernel", "linux-6.1"]) == 0
    observed = tmp_path / "o.jsonl"
    observed.write_text(capsys.readouterr().out)
    assert len(observed.read_text().splitlines()) == 5
    assert main(["compare", str(observed), "--kernel", "linux-6.1"]) == 0
