"""What fuzzing the exhibits has shown: a table that survives interruption, and its summary.

    WORKDIR/museum/results.tsv      a line for each exhibit and seed; written by rename
    WORKDIR/museum/found/*.case     the minimized programs
    WORKDIR/museum/broken/*/*.case  those that break a rule without the bug, by what they show

Results hold for one state of the code.  A table that another state has made is not mixed with new
results: it is put aside as `results.tsv.old`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from fuzz.lib.files import write_atomic
from fuzz.lib.fingerprint import fingerprint

QUANTILES = (0.5, 0.9)
# What decides a result: the fuzzing process, and how the program found is minimized.
DECIDES = (
    "engine",
    "fuzz/bounded.py",
    "fuzz/calls",
    "fuzz/campaign/child.py",
    "fuzz/campaign/coverage.py",
    "fuzz/campaign/feedback.py",
    "fuzz/campaign/harness.py",
    "fuzz/case.py",
    "fuzz/defects",
    "fuzz/execute.py",
    "fuzz/findings/bucket.py",
    "fuzz/forms",
    "fuzz/inputs",
    "fuzz/matrix.py",
    "fuzz/minimize",
    "fuzz/museum/run.py",
    "fuzz/museum/trial.py",
    "fuzz/noted.py",
    "fuzz/oracle",
    "fuzz/rules",
    "fuzz/asserted.py",
    "fuzz/showing.py",
    "fuzz/subjects/pair.py",
    "fuzz/subjects/state.py",
)
_COLUMNS = ("exhibit", "seed", "side", "outcome", "rule", "executions", "seconds", "calls", "other")
WITH_BUG, CORRECT = "bug", "correct"
FOUND, MISSED, CLEAN, BROKEN = "found", "missed", "clean", "broken"


class Result(NamedTuple):
    """One exhibit, fuzzed with one seed.

    `side` says whether with the bug or on the correct kernel.  `outcome` with the bug is FOUND or
    MISSED, on the correct kernel CLEAN or BROKEN.  `executions` and `seconds` (CPU time of the
    fuzzing process, without its start) until it was found, or until the fuzzing was stopped;
    `calls` of the minimized program, or 0.  `other` names what else was broken before: rules, and
    known open defects.
    """

    exhibit: str
    seed: int
    side: str
    outcome: str
    rule: str
    executions: int
    seconds: float
    calls: int
    other: str

    @property
    def key(self) -> tuple[str, int, str]:
        """What there is one result of."""
        return self.exhibit, self.seed, self.side


class ResultsError(Exception):
    """The table there cannot be used; the message says why."""


class Results:
    """The table of a working directory."""

    def __init__(self, path: Path, state: str, rows: Iterable[Result] = ()) -> None:
        self.path = path
        self._state = state
        self._rows = {row.key: row for row in rows}

    @classmethod
    def open(
        cls, directory: Path, *, fresh: bool = False, rules_after: str = "moving"
    ) -> tuple[Self, str]:
        """The table in a directory, which is made.

        Arguments: `fresh` begins a new one; `rules_after` see `fuzz.execute.execute`: results with
        another are results of other code.
        Returns: the table, and what the user should know of it, or nothing.
        Errors raised: ResultsError for a file that is no such table; OSError.
        """
        state = fingerprint(Path(__file__).resolve().parents[2], DECIDES, rules_after)
        path = directory / "results.tsv"
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return cls(path, state), ""
        first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        if not first.startswith("# code "):
            raise ResultsError(f"{path}: not a table of results; move it away")
        if fresh or first != f"# code {state}":
            path.replace(path.with_suffix(".tsv.old"))
            why = "" if fresh else "the results there are of other code; "
            return cls(path, state), f"{why}beginning anew, {path.name}.old has the old ones"
        try:
            return cls(path, state, map(_parsed, lines[1:])), ""
        except ValueError as error:
            raise ResultsError(
                f"{path}: {error}; move it away, or begin anew with --fresh"
            ) from None

    def get(self, exhibit: str, seed: int, side: str, seconds: float) -> Result | None:
        """The result that makes a trial of `seconds` unnecessary, if there is one."""
        row = self._rows.get((exhibit, seed, side))
        if row is None or (row.outcome == MISSED and row.seconds < seconds):
            return None
        return row

    def put(self, row: Result) -> None:
        """Keep a result.  Errors raised: WriteError."""
        self._rows[row.key] = row
        rows = sorted(self._rows.values(), key=lambda row: row.key)
        lines = [f"# code {self._state}", "\t".join(_COLUMNS)]
        lines += ["\t".join(_written(row)) for row in rows]
        write_atomic(self.path, "\n".join(lines) + "\n")


def _written(row: Result) -> list[str]:
    return [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row]


def _parsed(line: str) -> Result:
    """A line of the table.  Errors raised: ValueError."""
    words = line.split("\t")
    if len(words) != len(_COLUMNS):
        raise ValueError(f"{line!r} does not have the columns {' '.join(_COLUMNS)}")
    name, seed, side, outcome, rule, executions, seconds, calls, other = words
    return Result(
        name, int(seed), side, outcome, rule, int(executions), float(seconds), int(calls), other
    )


# --- Summary --------------------------------------------------------------------------------------


def quantile(times: Sequence[tuple[float, bool]], share: float) -> float | None:
    """The time until which that share is found, by the estimate of Kaplan and Meier.

    Arguments: `times` with false where nothing was found until then: how much longer it would have
    taken is unknown, but that it took longer counts.
    Returns: None if too little was found to say.
    """
    surviving = 1.0
    at_risk = len(times)
    for time, found in sorted(times, key=lambda entry: (entry[0], not entry[1])):
        if found:
            surviving *= 1 - 1 / at_risk
            if 1 - surviving >= share - 1e-9:
                return time
        at_risk -= 1
    return None


def summary(rows: Sequence[Result]) -> list[tuple[str, ...]]:
    """A line for each exhibit, with a heading: how often found, by which rule, when, how small."""
    table: list[tuple[str, ...]] = [
        ("exhibit", "found", "rule", "executions", "90%", "seconds", "90%", "calls")
    ]
    for name in dict.fromkeys(row.exhibit for row in rows):
        mine = [row for row in rows if row.exhibit == name]
        found = [row for row in mine if row.outcome == FOUND]
        table.append(
            (
                name,
                f"{len(found)}/{len(mine)}",
                mine[0].rule,
                *_quantiles([(row.executions, row.outcome == FOUND) for row in mine], "{:.0f}"),
                *_quantiles([(row.seconds, row.outcome == FOUND) for row in mine], "{:.1f}"),
                str(min(row.calls for row in found)) if found else "-",
            )
        )
    return table


def _quantiles(times: Sequence[tuple[float, bool]], form: str) -> list[str]:
    values = (quantile(times, share) for share in QUANTILES)
    return ["-" if value is None else form.format(value) for value in values]


def survival(rows: Sequence[Result]) -> list[str]:
    """How all trials together went, and which exhibits were found in all of theirs."""
    names = list(dict.fromkeys(row.exhibit for row in rows))
    found = {row.exhibit for row in rows if row.outcome == FOUND}
    missed = {row.exhibit for row in rows if row.outcome != FOUND}
    executions = _quantiles([(row.executions, row.outcome == FOUND) for row in rows], "{:.0f}")
    seconds = _quantiles([(row.seconds, row.outcome == FOUND) for row in rows], "{:.1f}")
    times = [row.seconds for row in rows if row.outcome == FOUND]
    within = ", ".join(
        f"{sum(time <= limit for time in times) / len(rows):.0%} within {limit} s"
        for limit in (2, 5, 10, 30, 60)
    )
    lines = [
        f"{len(found - missed)} of {len(names)} exhibits found with every seed, "
        f"{len(found & missed)} with some, {len(missed - found)} with none",
        f"{len(times)} of {len(rows)} trials found the bug: {within}",
        f"median {executions[0]} executions, {seconds[0]} s; "
        f"90% within {executions[1]} executions, {seconds[1]} s",
    ]
    return lines
