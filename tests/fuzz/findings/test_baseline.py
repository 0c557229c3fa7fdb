"""Baselines: readable, sorted, with reasons that stay; nonsense is told by its line."""

from pathlib import Path

import pytest

from fuzz.findings.baseline import Baseline, BaselineError
from fuzz.findings.bucket import Bucket

ONE, OTHER, KNOWN = Bucket("a", "mmap"), Bucket("b", "mremap"), Bucket("a", "m", "B-1")


def test_what_is_written_is_read_again_sorted(tmp_path: Path) -> None:
    path = tmp_path / "baseline"
    baseline = Baseline({OTHER: "reported # twice", KNOWN: "", ONE: "it is so"})
    baseline.save(path)
    head, *lines = path.read_text().splitlines()
    assert head.startswith("# ")
    assert lines == ["a--m--B-1", "a--mmap  # it is so", "b--mremap  # reported # twice"]
    assert Baseline.load(path) == baseline


def test_reasons_and_what_stands_at_the_head_stay(tmp_path: Path) -> None:
    path = tmp_path / "baseline"
    lines = ("# Ours.", "# See the list.", "", "  b--mremap   #  so", "# lost", "", "a--mmap")
    path.write_text("\n".join(lines))
    more = Baseline.load(path).updated([OTHER, KNOWN], "found today")
    more.save(path)
    assert path.read_text() == (
        "# Ours.\n# See the list.\na--m--B-1  # found today\na--mmap\nb--mremap  # so\n"
    )
    assert more.updated([], "", [OTHER, ONE]).reasons == {KNOWN: "found today"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a--mmap\nno name\n", r":2: 'no name' is not the name of a finding"),
        (b"a--mmap\n\na--mmap # why\n", r":3: a--mmap is there twice"),
        (b"\xff\xfe", "not a text in UTF-8"),
    ],
)
def test_nonsense_is_told_by_its_line(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "baseline"
    path.write_bytes(content)
    with pytest.raises(BaselineError, match=why) as caught:
        Baseline.load(path)
    assert str(caught.value).startswith(str(path))
    assert path.read_bytes() == content


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="No such file"):
        Baseline.load(tmp_path / "none")
