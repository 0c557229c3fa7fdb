"""Curves: the time that all runs have fuzzed, without pauses; steps where something is found."""

import re

from fuzz.findings.history import About, Life, Minute, Run, Standing
from fuzz.report.curves import HEIGHT, LEFT, RIGHT, WIDTH, charts

ABOUT = About("r", ("linux-6.1",), ("x86-64",), "p")
# Two minutes, a pause of a day, two more.
MINUTES = [
    Minute(0, 60.0, 100, 1, 10, 0, 0),
    Minute(60, 120.0, 200, 2, 20, 0, 0),
    Minute(86400, 180.0, 300, 1, 5, 0, 0),
    Minute(86460, 240.0, 400, 3, 30, 0, 0),
]
RUNS = [
    Run(number, ABOUT, "h", 1, "", began, began + 120, began + 120, 0, Standing(120.0), before)
    for number, (began, before) in enumerate([(0, Life(0, 0, 0)), (86400, Life(1, 120.0, 200))])
]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_a_pause_takes_no_room() -> None:
    executions = charts(MINUTES, RUNS, [])[0].curves[0]
    xs = [x for x, _ in points(executions.path)]
    room = WIDTH - LEFT - RIGHT
    assert xs == [LEFT + room * share / 4 for share in (1, 2, 3, 4)]
    assert executions.last == "400"


def test_each_run_is_marked_where_it_begins() -> None:
    bands = charts(MINUTES, RUNS, [])[0].bands
    assert [(band.at, band.width, band.odd) for band in bands] == [
        (LEFT, (WIDTH - LEFT - RIGHT) / 2, False),
        (LEFT + (WIDTH - LEFT - RIGHT) / 2, (WIDTH - LEFT - RIGHT) / 2, True),
    ]


def test_findings_rise_in_steps_when_they_are_found() -> None:
    """One in the second minute of the second run, one known from the start."""
    unknown, known = charts(MINUTES, RUNS, [(86490.0, False), (0.0, True)])[3].curves
    assert (unknown.name, unknown.last, known.name, known.last) == ("unknown", "1", "known", "1")
    (_, low), (rise, still), (top, high), (end, last) = points(unknown.path)
    assert low == still > high == last
    assert rise == top == round(LEFT + (WIDTH - LEFT - RIGHT) * 210 / 240, 1) < end
    assert points(known.path)[0][0] == LEFT


def test_a_long_history_has_no_more_points_than_can_be_seen() -> None:
    minutes = [Minute(60 * n, 60.0 * n, n, n, n, 0, 0) for n in range(20_000)]
    path = charts(minutes, RUNS, [])[0].curves[0].path
    assert 100 < len(points(path)) < 500
    assert points(path)[-1][0] == WIDTH - RIGHT


def test_nothing_is_drawn_of_nothing() -> None:
    assert charts(MINUTES[:1], RUNS, []) == []
    flat = charts([one._replace(inputs=0) for one in MINUTES], [], [])[1]
    assert {y for _, y in points(flat.curves[0].path)} == {flat.values[0].at}
    assert flat.values[0].at < HEIGHT
