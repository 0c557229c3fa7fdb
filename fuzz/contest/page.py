"""A page of plots of a comparison, as SVG, PDF or PNG."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuzz.contest.figures import Axis, Row, cells, survival

# Told apart in black, too.
_STYLES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (6, 2)))
_COLORS = ("#0b5fa5", "#d1495b", "#66a182", "#8d6a9f", "#555555", "#c98a1b", "#3b8ea5")


def draw(rows: Sequence[Row], contestants: Mapping[str, str], path: Path) -> None:
    """Write the page; the ending of the name says how.  Errors raised: OSError, ValueError."""
    names = [name for name in contestants if any(task.contestant == name for task, _ in rows)]
    bugs = sorted({task.bug for task, _ in rows})
    with matplotlib.rc_context({"font.size": 8, "svg.hashsalt": "pmdfuzz"}):
        figure = Figure(figsize=(8.3, 5.2 + 0.16 * len(bugs)), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(4, 1.2 + 0.16 * len(bugs)))
        axes: tuple[Axis, Axis] = ("seconds", "executions")
        for column, axis in enumerate(axes):
            _curves(figure.add_subplot(grid[0, column]), rows, names, axis)
        _medians(figure.add_subplot(grid[1, :]), rows, names, bugs)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _curves(axes: Axes, rows: Sequence[Row], names: Sequence[str], axis: Axis) -> None:
    """The share of trials that have found their bug, over time."""
    for number, name in enumerate(names):
        curve = survival([row for row in rows if row[0].contestant == name], axis)
        found, low, high = ([1 - share for share in side] for side in (curve.left, *curve[2:]))
        color, style = _COLORS[number], _STYLES[number]
        axes.step(curve.times, found, where="post", label=name, color=color, linestyle=style)
        axes.fill_between(curve.times, low, high, step="post", color=color, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("CPU seconds" if axis == "seconds" else "executions")
    axes.set_ylabel("trials that have found their bug")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _medians(axes: Axes, rows: Sequence[Row], names: Sequence[str], bugs: Sequence[str]) -> None:
    """The median of executions of each bug and contestant, with its interval."""
    known = cells(rows)
    for number, name in enumerate(names):
        offset = 0.6 * (number / max(len(names) - 1, 1) - 0.5)
        for row, bug in enumerate(bugs):
            cell = known.get((bug, name))
            if cell is None or math.isinf(cell.executions.value):
                continue
            value, low, high = cell.executions
            right = high if math.isfinite(high) else value
            axes.plot([low, right], [row + offset] * 2, color=_COLORS[number], linewidth=0.8)
            axes.plot(
                value, row + offset, marker="osD^vxP"[number], color=_COLORS[number], markersize=3.5
            )
    axes.set_yticks(range(len(bugs)), bugs)
    axes.set_ylim(len(bugs) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel("executions until half of the trials have found it (95 %)")
    axes.grid(alpha=0.3)
