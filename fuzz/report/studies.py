"""Studies of the cases of a working directory: made once, several at a time, and kept.

One holds as long as its case and this project stay what they are.  Where they cannot be kept, as in
a directory of somebody else, they are made again by the next report.
"""

import contextlib
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fuzz.case import Case
from fuzz.forms.text import dump
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.fingerprint import of_this_project
from fuzz.lib.plain import parsed, plain
from fuzz.lib.processes import forked
from fuzz.report.study import Study, study

STUDIES = "studies"  # folder in the working directory
_ENDING = ".json.z"
_MOST_SECONDS = 600.0  # a backstop; a study takes a fraction of one, mostly


class Subject(NamedTuple):
    """A case that is to be studied, and the finding that it is about."""

    name: str
    case: Case

    @property
    def key(self) -> str:
        """Differs wherever the study may."""
        told = "\0".join((of_this_project(), self.name, dump(self.case)))
        return hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class Studies:
    """The studies of a working directory."""

    def __init__(self, workdir: Path) -> None:
        self._directory = workdir / STUDIES
        self._made: dict[str, Study] = {}  # by key

    def get(self, subject: Subject) -> Study | None:
        """The study of a subject, if there is one."""
        key = subject.key
        if key not in self._made:
            with contextlib.suppress(OSError, zlib.error, ValueError):  # there is none, or spoilt
                told = json.loads(zlib.decompress(self._path(key).read_bytes()))
                self._made[key] = parsed(Study, told, "study")
        return self._made.get(key)

    def make(
        self,
        subjects: Iterable[Subject],
        jobs: int,
        tick: Callable[[], None] = lambda: None,
    ) -> Iterator[Subject]:
        """Make those that there are not yet, in so many processes.

        Arguments: `tick` is called about twice a second.
        Yields: each subject, as it is done.
        """
        left = [subject for subject in subjects if self.get(subject) is None]
        for ended in forked(left, _made, jobs=jobs, seconds=_MOST_SECONDS, tick=tick):
            case = ended.task.case
            found = ended.result or Study(
                case.kernel or "", case.geometry or "", trouble=f"it could not be run: {ended.how}"
            )
            self._keep(ended.task.key, found)
            yield ended.task

    def forget_others(self, subjects: Iterable[Subject]) -> None:
        """Remove what is kept of other cases, or of these as they were."""
        stay = {self._path(subject.key) for subject in subjects}
        for path in self._directory.glob(f"*{_ENDING}"):
            if path not in stay:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _keep(self, key: str, found: Study) -> None:
        self._made[key] = found
        with contextlib.suppress(OSError, WriteError):
            self._directory.mkdir(exist_ok=True)
            told = json.dumps(plain(found)).encode()
            write_atomic(self._path(key), zlib.compress(told), synced=False)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{_ENDING}"


def _made(subject: Subject) -> Study:
    return study(subject.case, subject.name)
