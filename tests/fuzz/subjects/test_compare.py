"""`pmdfuzz compare` and `observe`: the model beside recordings, good, wrong and broken ones."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.cli.main import main
from fuzz.forms.text import load
from fuzz.subjects.model import Model
from tests.lib.constants import ROOT

SAMPLE = ROOT / "corpus" / "truth" / "linux-6.12.jsonl.xz"


def sample(number: int) -> list[str]:
    """The first recordings of the sample."""
    return lzma.decompress(SAMPLE.read_bytes()).decode().splitlines()[:number]


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
    out, err = capsys.readouterr()
    assert f"{truth}:3" in err
    assert "2 programs before that were compared" in err
    assert "2 of 2 programs agree" in out


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("ret", [-22], "ret[0] is no result: -22; an error is written by its name, here '-EINVAL'"),
        ("ret", [1.5], "ret[0] is no result: 1.5; an error is written by its name"),
        ("ret", [None], "ret[0] is no result: None"),
        ("ret", ["EINVAL"], "ret[0] is no result: 'EINVAL'"),
        ("ret", [{"segv": []}], "ret[0] is no result"),
        ("ret", [{"segv": [[1]]}], "ret[0] is no result"),
        ("ret", [{"fault": [[1, 1]]}], "ret[0] is no result"),
        ("ret", [1 << 64], "ret[0] is no result"),
        ("ret", "0", "'ret' must have an entry for each of the calls"),
        ("pt", [1.5], "'pt' must be made of numbers"),
        ("pt", [True], "'pt' must be made of numbers"),
        ("rss_pages", -1, "'rss_pages' must be made of numbers"),
        ("rss_pages", "many", "'rss_pages' must be made of numbers"),
        ("vmas", 1, "'vmas' must be a list of lists"),
        ("pages", ["P"], "'pages' must be a list of lists"),
        ("warn", 0, "'warn' must be true or false"),
    ],
)
def test_a_recording_of_another_form_is_named(
    field: str, value: object, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sample(1)
    row = json.loads(lines[0]) | {"ops": ["munmap(0x0, 0x1000)"], "ret": [0], "pt": [0]}
    lines.append(json.dumps(row | {field: value}))
    assert main(["compare", written(tmp_path / "t.jsonl", lines), "--kernel", "linux-6.12"]) == 2
    out, err = capsys.readouterr()
    assert f"t.jsonl:2: {why}" in err
    assert "1 of 1 programs agree" in out


def test_there_must_be_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lines in ([], ["", "  "]):
        truth = written(tmp_path / "t.jsonl", lines)
        assert main(["compare", truth, "--kernel", "linux-6.12"]) == 2
        assert "there is nothing in this file" in capsys.readouterr().err


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, "gz"), (lzma.compress, "xz")])
def test_recordings_may_be_compressed(
    pack: Callable[[bytes], bytes], ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / f"t.jsonl.{ending}"
    truth.write_bytes(pack("\n".join(sample(5)).encode()))
    assert main(["compare", str(truth), "--kernel", "linux-6.12"]) == 0
    assert "5 of 5 programs agree" in capsys.readouterr().out
    assert main(["observe", str(truth), "--kernel", "linux-6.12"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize(
    ("ending", "spoil", "message"),
    [
        ("gz", lambda data: data[: len(data) // 2], "the file is cut off here"),
        ("gz", lambda data: data[:-8] + bytes(4) + data[-4:], "damaged: CRC check failed"),
        ("gz", lambda data: data[:10] + b"\xff" + data[11:], "damaged: Error -3 while"),
        ("gz", lambda data: b"no gzip" + data, "the file is damaged"),
        ("xz", lambda data: data[: len(data) // 2], "the file is cut off here"),
        ("xz", lambda data: data[:1000] + b"\xff" + data[1001:], "damaged: Corrupt input data"),
        ("xz", lambda data: b"no xz" + data, "damaged: Input format not supported"),
    ],
)
def test_a_spoilt_file_keeps_what_was_read_before(
    ending: str,
    spoil: Callable[[bytes], bytes],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = tmp_path / f"t.jsonl.{ending}"
    pack = {"gz": gzip.compress, "xz": lzma.compress}[ending]
    truth.write_bytes(spoil(pack("\n".join(sample(60)).encode())))
    assert main(["observe", str(truth), "--kernel", "linux-6.12"]) == 2
    assert message in capsys.readouterr().err
    assert main(["compare", str(truth), "--kernel", "linux-6.12"]) == 2
    out, err = capsys.readouterr()
    assert message in err
    agree, _, compared = out.split(": ", 1)[1].split()[:3]
    assert agree == compared
    assert f"{compared} programs before that were compared" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pages": None}, "another format: no pages"),
        ({"pt": [4096]}, "'pt' must have an entry for each of the calls"),
        ({"ops": ["clone(0x0)"]}, "unknown call 'clone'"),
        ({"ops": "mmap"}, "'ops' a list of calls"),
    ],
)
def test_a_recording_of_another_format_says_what_is_wrong(
    change: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sample(2)
    recording = json.loads(lines[1]) | change
    lines[1] = json.dumps({name: value for name, value in recording.items() if value is not None})
    assert main(["compare", written(tmp_path / "t.jsonl", lines), "--kernel", "linux-6.12"]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert "1 of 1 programs agree" in out


def test_what_observe_prints_compares_as_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = written(tmp_path / "t.jsonl", sample(5))
    assert main(["observe", truth, "--kernel", "linux-6.1"]) == 0
    observed = tmp_path / "o.jsonl"
    observed.write_text(capsys.readouterr().out)
    assert len(observed.read_text().splitlines()) == 5
    assert main(["compare", str(observed), "--kernel", "linux-6.1"]) == 0


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        ("remove-leaves-what-follows", [[1, 511, "S", 0], [512, 512, "T", 0]]),
        ("remove-splits-at-both-ends", [[514, 1, "S", 2]]),
    ],
)
def test_a_hole_punched_into_an_object_takes_what_it_should(name: str, pages: object) -> None:
    """As seen on 6.18.44; no result shows it."""
    case = load(ROOT / "corpus" / "regressions" / f"{name}.case")
    assert Model(kernel_named("linux-6.18")).observe(case)["pages"] == pages
