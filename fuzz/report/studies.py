"""Studies of the cases of a working directory: made once, several at a time, and kept.

One holds as long as its case and this project stay what they are.  What an index needs of it is a
file of its own, as it is read for all findings each time; the views are read for a page that is
made.  Where they cannot be kept, as in a directory of somebody else, they are made again by the
next report.
"""

import contextlib
import hashlib
import json
import zlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from fuzz.bounded import Unjudged
from fuzz.case import Case, CaseError
from fuzz.export.helpers import of_parts
from fuzz.forms.text import dump
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.fingerprint import of_this_project
from fuzz.lib.plain import parsed, plain
from fuzz.lib.processes import forked
from fuzz.report.study import Study, study
from fuzz.report.views import Views, views
from fuzz.showing import kernel_for

T = TypeVar("T")

STUDIES = "studies"  # folder in the working directory
_STUDY, _VIEWS = ".study.z", ".views.z"  # files of one: deflated JSON
_MOST_SECONDS = 600.0  # a backstop; a study takes a fraction of one, mostly


@dataclass(frozen=True)
class Subject:
    """A case that is to be studied, and the finding that it is about."""

    name: str
    case: Case

    @cached_property
    def key(self) -> str:
        """Differs wherever the study may."""
        told = "\0".join((of_this_project(), of_parts(), self.name, dump(self.case)))
        return hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class Made(NamedTuple):
    """What is kept of a case."""

    study: Study
    views: Views


class Studies:
    """The studies of a working directory."""

    def __init__(self, workdir: Path) -> None:
        self._directory = workdir / STUDIES
        self._studies: dict[str, Study] = {}  # by key
        self._views: dict[str, Views] = {}  # those that could not be kept

    def get(self, subject: Subject) -> Study | None:
        """The study of a subject, if there is one."""
        key = subject.key
        if key not in self._studies and (found := self._read(Study, self._path(key, _STUDY))):
            self._studies[key] = found
        return self._studies.get(key)

    def views(self, subject: Subject) -> Views:
        """The views of a subject; empty ones if there are none."""
        kept = self._views.get(subject.key)
        return kept or self._read(Views, self._path(subject.key, _VIEWS)) or Views()

    def make(
        self,
        subjects: Collection[Subject],
        jobs: int,
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> int:
        """Make those that there are not yet, in so many processes.

        Arguments: `told` is called about twice a second with how many there are of how many.
        Returns: how many have been made.
        """
        left = [subject for subject in subjects if self.get(subject) is None]
        had, made = len(subjects) - len(left), 0

        def tick() -> None:
            told(had + made, len(subjects))

        for ended in forked(left, made_of, jobs=jobs, seconds=_MOST_SECONDS, tick=tick):
            case = ended.task.case
            trouble = f"it could not be run: {ended.how}"
            failed = Study(case.kernel or "", case.geometry or "", trouble=trouble)
            self.keep(ended.task, ended.result or Made(failed, Views()))
            made += 1
        return made

    def forget_others(self, subjects: Iterable[Subject]) -> None:
        """Remove what is kept of other cases, or of these as they were."""
        stay = {subject.key for subject in subjects}
        for path in self._directory.glob("*.z"):
            if path.name.partition(".")[0] not in stay:
                with contextlib.suppress(OSError):
                    path.unlink()

    def keep(self, subject: Subject, made: Made) -> None:
        """Keep what was made of a subject; here alone, if its directory cannot be written."""
        key = subject.key
        self._studies[key] = made.study
        try:
            self._directory.mkdir(exist_ok=True)
            # Where there is a study, its views are there, too.
            for ending, one in ((_VIEWS, made.views), (_STUDY, made.study)):
                told = json.dumps(plain(one)).encode()
                write_atomic(self._path(key, ending), zlib.compress(told), synced=False)
        except (OSError, WriteError):
            self._views[key] = made.views

    def _path(self, key: str, ending: str) -> Path:
        return self._directory / f"{key}{ending}"

    def _read(self, kind: type[T], path: Path) -> T | None:
        """What a file holds; None if there is none, or it is spoilt."""
        with contextlib.suppress(OSError, zlib.error, ValueError):
            return parsed(kind, json.loads(zlib.decompress(path.read_bytes())), "study")
        return None


def made_of(subject: Subject) -> Made:
    """Run the case of a subject, and look at it."""
    case, found = subject.case, study(subject.case, subject.name)
    if found.trouble:
        return Made(found, Views())
    try:
        return Made(found, views(case, kernel_for(case, found.kernel), subject.name))
    except (CaseError, Unjudged):
        return Made(found, Views())
