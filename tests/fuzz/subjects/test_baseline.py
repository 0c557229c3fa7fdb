"""What a check has shown, kept: what the next one tells of it, and files that are none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fuzz.subjects.baseline import Baseline, BaselineError, Seen

BEFORE = Baseline(
    implementation="emulator 1.0",
    model="linux-6.18",
    geometry="x86-64",
    seed=7,
    cases=100,
    agree=90,
    unknown=["MREMAP_DONTUNMAP", "mseal"],
    calls={"mremap": (80, 90)},
    kinds={"ret": Seen(4, ["touch(0x0, 0x1000)"]), "vmas": Seen(6, [])},
)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    BEFORE.save(path := tmp_path / "x.json")
    assert Baseline.load(path) == BEFORE


def test_what_is_the_same_is_not_told() -> None:
    assert list(BEFORE.told(BEFORE)) == []
    assert not BEFORE.worse(BEFORE)


def test_what_is_better_and_what_is_worse_is_told() -> None:
    now = replace(
        BEFORE,
        implementation="emulator 1.1",
        agree=92,
        unknown=["MREMAP_DONTUNMAP", "MADV_FREE"],
        kinds={"ret": Seen(5, []), "crash": Seen(3, [])},
    )
    assert now.worse(BEFORE)
    assert list(now.told(BEFORE)) == [
        "the baseline is of emulator 1.0, this is emulator 1.1",
        "worse: it does not know MADV_FREE",
        "better: it knows mseal",
        "so other programs ran: numbers do not compare",
        "worse: crash, in 3 programs, is new",
        "worse: ret: 5 programs, were 4",
        "better: vmas, in 6 programs, is gone",
        "92 of 100 programs agree, were 90",
    ]


def test_what_it_no_longer_knows_is_worse() -> None:
    assert replace(BEFORE, unknown=[*BEFORE.unknown, "MADV_FREE"]).worse(BEFORE)
    assert not replace(BEFORE, unknown=[], kinds={}, agree=100).worse(BEFORE)


def test_what_cannot_be_counted_against_each_other_is_told() -> None:
    now = replace(BEFORE, model="linux-6.1", seed=8)
    assert list(now.told(BEFORE)) == [
        "the baseline has another model: linux-6.18, not linux-6.1",
        "the baseline has other programs: 100 of seed 7, not 100 of seed 8",
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain.update(baseline=2),
        lambda plain: plain.update(seed="7"),
        lambda plain: plain.update(more=1),
        lambda plain: plain.pop("kinds"),
        lambda plain: plain.update(unknown="mseal"),
        lambda plain: plain.update(kinds=[]),
        lambda plain: plain.update(calls={"mremap": [1]}),
    ],
)
def test_a_file_that_is_none_is_told(spoil: Callable[[Any], object], tmp_path: Path) -> None:
    BEFORE.save(path := tmp_path / "x.json")
    plain = json.loads(path.read_text())
    spoil(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(BaselineError, match=r"x\.json is no baseline of a check \("):
        Baseline.load(path)


def test_what_is_no_json_is_no_baseline(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff{")
    with pytest.raises(BaselineError):
        Baseline.load(tmp_path / "x.json")
