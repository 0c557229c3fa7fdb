"""What a table of trials comes to, where it is known."""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fuzz.contest.trial import CONTESTANTS, Moment, Played, Task

pytest.importorskip("scipy", reason="pip install pmdfuzz[bench]")

from fuzz.contest.figures import a12, cells, duel, median_of, survival, tables


def trial(who: str, seed: int, at: int | None, bug: str = "B") -> tuple[Task, Played]:
    spent = Moment(1000, 10.0)
    found = None if at is None else Moment(at, at / 100)
    return Task(who, bug, seed, 10.0), Played(Moment(1, 0.01), found, found, found or spent)


def trials(who: str, *times: int | None, bug: str = "B") -> list[tuple[Task, Played]]:
    return [trial(who, seed, at, bug) for seed, at in enumerate(times, 1)]


def test_a_median_counts_those_that_found_nothing() -> None:
    assert median_of(trials("a", 10, 20, 30), "executions").value == 20
    assert median_of(trials("a", 10, 20, None, None, 30), "executions").value == 30
    assert median_of(trials("a", 10, None, None), "executions").value == math.inf
    assert median_of(trials("a", None), "seconds") == (math.inf,) * 3


def test_survival_is_the_estimate_of_kaplan_and_meier() -> None:
    early = (trial("a", 9, None)[0], Played(None, None, None, Moment(15, 0.15)))  # given up early
    curve = survival([*trials("a", 10, 20, 30), early], "executions")
    left = dict(zip(curve.times, curve.left, strict=True))
    assert left[10] == pytest.approx(3 / 4)
    assert left[20] == pytest.approx(3 / 4 * 1 / 2), "two were left, not three"
    assert left[30] == 0
    assert curve.low[0] <= curve.left[0] <= curve.high[0]


def test_a12() -> None:
    assert a12(trials("a", 1, 2), trials("b", 3, None)) == 1
    assert a12(trials("a", None), trials("b", 3)) == 0
    assert a12(trials("a", None), trials("b", None)) == 0.5
    assert math.isnan(a12([], trials("b", 1)))


def test_two_contestants_beside_each_other() -> None:
    rows = [*trials("a", 10, 10, 10), *trials("b", 40, 40, None)]
    one = duel(rows, "a", "b")
    assert (one.both, one.ratio, one.seconds_ratio, one.a12) == (1, 0.25, 0.25, 1)
    assert (one.late, math.isnan(one.late_ratio)) == (0, True), "the other finds it soon"
    rows += [*trials("a", 10, 10, 10, bug="C"), *trials("b", 200, 200, 200, bug="C")]
    two = duel(rows, "a", "b")
    assert (two.both, two.ratio, two.late, two.late_ratio) == (2, 0.15, 1, 0.05)
    none = duel([*trials("a", None), *trials("b", 1)], "a", "b")
    assert none.both == 0
    assert math.isnan(none.ratio)


def test_what_is_printed() -> None:
    rows = [*trials("pmdfuzz", 10, 20, 30), *trials("random", None, None, 7)]
    each, whole, beside = tables(rows, CONTESTANTS)
    assert each == [("bug", "pmdfuzz", "random"), ("B", "3/3 20", "1/3 -")]
    assert whole[1:] == [
        ("pmdfuzz", "3", "3", "3", "3", "1 of 1", "1"),
        ("random", "3", "3", "1", "1", "1 of 1", "0"),
    ]
    assert beside[1][:2] == ("random", "0")
    assert cells(rows)["B", "random"].found == 1


def test_the_page_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install pmdfuzz[bench]")
    from fuzz.contest.page import draw

    rows = [*trials("pmdfuzz", 10, 20, 30), *trials("random", None, None, 7)]
    rows += trials("atheris", None)
    draw(rows, CONTESTANTS, tmp_path / "page.svg")
    svg = (tmp_path / "page.svg").read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "<image" not in svg
