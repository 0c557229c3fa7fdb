"""A report made: the directory is read, cases that have not been run yet are, pages are written."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fuzz.report.directory import Directory
from fuzz.report.studies import Studies
from fuzz.report.write import refuse_others, write


class Made(NamedTuple):
    """A report: the file to open, what could not be read; is a run in progress?"""

    path: Path
    errors: tuple[str, ...]
    in_progress: bool


def make(
    workdir: Path,
    out: Path,
    jobs: int = 1,
    told: Callable[[int, int], None] = lambda done, total: None,
    studies: Studies | None = None,
) -> Made:
    """Make the report of a working directory.

    Arguments: `jobs` how many cases are run side by side; `told` is called about twice a second
    with how many of how many have been; `studies` are those of the directory, if at hand.
    Errors raised: WriteError, OSError.
    """
    refuse_others(out)
    directory, studies = Directory.read(workdir), studies or Studies(workdir)
    subjects = directory.subjects
    studies.make(subjects, jobs, told)
    path = write(directory, studies, out)
    studies.forget_others(subjects)
    return Made(path, directory.errors, directory.in_progress)
