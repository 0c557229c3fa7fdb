"""The raw results: a line a trial, in a file that survives interruption.

Results hold for one state of the code; a table that another state has made is put aside.
"""

from collections.abc import Iterator
from pathlib import Path

from fuzz.contest.trial import Moment, Played, Task
from fuzz.lib.files import put_aside, write_atomic
from fuzz.lib.fingerprint import fingerprint
from fuzz.museum.results import DECIDES

_COLUMNS = (
    *Task._fields,
    *(f"{what} after {unit}" for what in Played._fields for unit in Moment._fields),
)


class TableError(Exception):
    """The table there cannot be used; the message says why."""


class Table:
    """The table of a directory.  `notice` is what the user should know of it."""

    def __init__(self, directory: Path, *, fresh: bool = False) -> None:
        """Arguments: `fresh` begins a new one.  Errors raised: TableError; WriteError; OSError."""
        self.path = directory / "trials.tsv"
        self.notice = ""
        self._state = fingerprint(
            Path(__file__).resolve().parents[2],
            (*DECIDES, "fuzz/contest", "fuzz/mutants/mutate.py"),
        )
        self._rows: dict[tuple[str, str, int], tuple[Task, Played]] = {}
        if self.path.exists():
            self._read(fresh)

    def _read(self, fresh: bool) -> None:
        first, *lines = self.path.read_text("utf-8", "replace").splitlines() or [""]
        if not first.startswith("# code "):
            raise TableError(f"{self.path}: not a table of trials; move it away")
        if fresh or first != f"# code {self._state}":
            (old,) = put_aside([self.path])
            why = "" if fresh else "the results there are of other code; "
            self.notice = f"{why}beginning anew, {old.name} has the old ones"
            return
        for number, line in enumerate(lines[1:], 3):
            try:
                task, played = _parsed(line)
            except ValueError as error:
                raise TableError(
                    f"{self.path}:{number}: {error}; move it away, or begin anew with --fresh"
                ) from None
            self._rows[task[:3]] = task, played

    def __iter__(self) -> Iterator[tuple[Task, Played]]:
        """All that were played, in order."""
        return iter([row for _, row in sorted(self._rows.items())])

    def get(self, task: Task) -> Played | None:
        """What came of a trial, if it need not be played (again)."""
        row = self._rows.get(task[:3])
        if row is None or (row[1].found is None and row[0].seconds < task.seconds):
            return None
        return row[1]

    def put(self, task: Task, played: Played) -> None:
        """Keep what came of a trial.  Errors raised: WriteError."""
        self._rows[task[:3]] = task, played
        lines = [f"# code {self._state}", "\t".join(_COLUMNS)]
        lines += ["\t".join(_written(*row)) for row in self]
        write_atomic(self.path, "\n".join(lines) + "\n")


def _written(task: Task, played: Played) -> list[str]:
    words = [task.contestant, task.bug, str(task.seed), f"{task.seconds:g}"]
    for moment in played:
        words += ["", ""] if moment is None else [str(moment.executions), f"{moment.seconds:.3f}"]
    return words


def _parsed(line: str) -> tuple[Task, Played]:
    """A line of the table.  Errors raised: ValueError."""
    words = line.split("\t")
    if len(words) != len(_COLUMNS):
        raise ValueError(f"{line!r} does not have the {len(_COLUMNS)} columns")
    contestant, bug, seed, seconds, *moments = words
    reached, triggered, found, spent = (
        Moment(int(count), float(time)) if count else None
        for count, time in zip(moments[::2], moments[1::2], strict=True)
    )
    if spent is None:
        raise ValueError(f"{line!r} does not say how long it took")
    return Task(contestant, bug, int(seed), float(seconds)), Played(
        reached, triggered, found, spent
    )
