"""How many programs reach each mark of the model (`fuzz.reach.marks`)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz.noted import Noted
from fuzz.reach.marks import Mark, explaining, marks, of_switches
from fuzz.reach.measure import Ran, Task, run
from fuzz.reach.watch import Watch


@dataclass(frozen=True, slots=True)
class Met:
    """A mark, how many programs have reached it, and the tests that explain it."""

    mark: Mark
    programs: int
    tests: tuple[str, ...]

    @property
    def missing(self) -> bool:
        """Has none reached it, though one should?"""
        return not self.programs and not self.mark.unreachable

    @property
    def refuted(self) -> bool:
        """Has one reached it, though the mark says that none does?"""
        return bool(self.programs and self.mark.unreachable)

    def as_json(self) -> dict[str, object]:
        """The same as plain data."""
        return {
            "mark": self.mark.name,
            "where": self.mark.where,
            "programs": self.programs,
            "unreachable": self.mark.unreachable or None,
            "tests": list(self.tests),
        }


def met(
    cases: Sequence[Path],
    inputs: Sequence[tuple[Path, list[str]]],
    kernels: Sequence[str],
    geometry: str | None = None,
) -> tuple[list[Met], Ran]:
    """Run programs, here.

    Arguments: see `fuzz.reach.measure.Task`.
    Returns: all marks, those first that are missing, then those that nobody can reach, then the
    others, from the rarest on; what ran.
    """
    places = {(mark.path, mark.line): mark.name for mark in marks()}
    programs: Counter[str] = Counter()
    asked: set[str] = set()  # arms of switches that the present program has taken
    with Watch(places) as watch:

        def note() -> None:
            programs.update(places[place] for place in watch.ran)
            programs.update(asked)
            watch.ran.clear()
            asked.clear()

        task = Task(
            [str(path) for path in cases],
            [(str(path), names) for path, names in inputs],
            list(kernels),
            geometry or "",
            "",
            "",
        )
        ran = run(task, lambda kernel: asked.update(_arms(kernel)), note)
    every = (*marks(), *of_switches())
    return sorted(
        (Met(mark, programs[mark.name], explaining(mark)) for mark in every), key=_order
    ), ran


def _arms(kernel: Noted) -> list[str]:
    """The marks of the switches that were read; other fields, which have none, do no harm."""
    return [("+" if value else "-") + name for name, value in kernel.settings.items()]


def _order(one: Met) -> tuple[bool, bool, int, str]:
    return not one.missing, not one.mark.unreachable, one.programs, one.mark.where
