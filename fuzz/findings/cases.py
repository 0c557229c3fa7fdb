"""The cases of what runs have found: one text file for each finding.

    WORKDIR/findings/BUCKET.case       the record of a finding (see `bucket`)
    WORKDIR/findings/BUCKET.harm.case  what it leads to, if that is harm and its case shows none

What cannot be read is never deleted or replaced: a run puts it aside (`CaseStore.put_aside`).
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fuzz.case import Case, CaseError
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import dump, load
from fuzz.lib.files import WriteError, put_aside, write_atomic
from fuzz.minimize.simplicity import simplicity

FINDINGS = "findings"
CASE, HARM = ".case", ".harm"  # how the names of files end; those of harm with both

NOT_MINIMIZED = "not minimized"  # a note in `found`, as long as that is so


class Loaded(NamedTuple):
    """The cases of a directory by path, and what was wrong with the files that are none."""

    cases: dict[Path, Case]
    errors: list[CaseError]


def load_all(directory: Path) -> Loaded:
    """All `*.case` files below a directory, in the order of their paths.

    A file that is not a case does not keep the others from being read.
    """
    loaded = Loaded({}, [])
    if not directory.is_dir():
        loaded.errors.append(CaseError("not a directory", file=str(directory)))
    for path in sorted(directory.rglob(f"*{CASE}")):
        try:
            loaded.cases[path] = load(path)
        except CaseError as error:
            loaded.errors.append(error)
    return loaded


def minimal(case: Case) -> Case:
    """The case without the note that it is not."""
    return replace(case, found=tuple(note for note in case.found if note != NOT_MINIMIZED))


class CaseStore:
    """The case files of a working directory.  Beside that of a finding may lie one of its harm.

    `unsaved` holds the cases that could not be written, by bucket: the caller can still print
    them, and every `save` of the same bucket tries again.
    """

    def __init__(self, workdir: Path) -> None:
        self.directory = workdir / FINDINGS
        self.unsaved: dict[Bucket, Case] = {}

    def path(self, bucket: Bucket) -> Path:
        """The file of a finding, which need not exist."""
        return self.directory / f"{Bucket.named(bucket.name).name}{CASE}"

    def harm_path(self, bucket: Bucket) -> Path:
        """The file of the harm that a finding leads to, which need not exist."""
        return self.path(bucket).with_suffix(HARM + CASE)

    def load(self, bucket: Bucket) -> Case | None:
        """The case of a finding; None without one.  Errors raised: CaseError."""
        path = self.path(bucket)
        return load(path) if path.exists() else None

    def load_harm(self, bucket: Bucket) -> Case | None:
        """The harm that a finding leads to; None if none is known.  Errors raised: CaseError."""
        path = self.harm_path(bucket)
        return load(path) if path.exists() else None

    def load_all(self) -> Loaded:
        """The cases of all findings; empty before the first one."""
        found = load_all(self.directory) if self.directory.exists() else Loaded({}, [])
        own = {path: case for path, case in found.cases.items() if not _is_harm(path)}
        return Loaded(own, found.errors)

    def save_harm(self, bucket: Bucket, case: Case) -> None:
        """Keep the harm that a finding leads to, unless a simpler case of it is there.

        Errors raised: WriteError; the file is then what it was.
        """
        path = self.harm_path(bucket)
        with self.locked():
            if path.exists() and simplicity(self._present(path)) <= simplicity(case):
                return
            write_atomic(path, dump(case))

    def save(self, bucket: Bucket, case: Case, *, instead_of: Case | None = None) -> bool:
        """Keep `case` if it is the first of its bucket or simpler than the one there is.

        Arguments: `instead_of` is a case that the caller has saved before: as long as nobody else
        has replaced that, the new one takes its place in any case.
        Returns: True if the file was written.
        Errors raised: WriteError; the file is then what it was, and the case is in `unsaved`.
        ValueError for a bucket or case that cannot be written as text.
        """
        path = self.path(bucket)
        text = dump(case)
        waiting = self.unsaved.get(bucket)
        if waiting not in (None, instead_of) and simplicity(waiting) <= simplicity(case):
            case, text = waiting, dump(waiting)
        self.unsaved[bucket] = case  # unless all goes well
        with self.locked():
            present = self._present(path) if path.exists() else None
            better = present in (None, instead_of) or simplicity(case) < simplicity(present)
            if better:
                write_atomic(path, text)
        del self.unsaved[bucket]
        return better

    def _present(self, path: Path) -> Case:
        """The case that is there.  Errors raised: WriteError if it is none."""
        try:
            return load(path)
        except CaseError as error:
            # Perhaps somebody is editing it: theirs to repair or remove, not ours.
            raise WriteError(path, f"the file there is not a case ({error.why})") from error

    def put_aside(self) -> list[tuple[Bucket, str]]:
        """Rename the files of findings that are no cases, so that they can be found anew.

        Returns: each with what was wrong, and where the file is now.
        Errors raised: WriteError if one cannot be renamed.
        """
        aside = []
        with self.locked():
            for error in self.load_all().errors:
                path = Path(error.file)
                with contextlib.suppress(ValueError):  # one that we did not name is not ours
                    bucket = Bucket.named(path.stem)
                    (target,) = put_aside([path])
                    aside.append((bucket, f"{error}\nMoved to {target}"))
        return aside

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from saving between our look at a file and our rename.

        Errors raised: WriteError if there cannot be a directory.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.directory, os.O_RDONLY)
        except OSError as error:
            raise WriteError(self.directory, error.strerror or str(error)) from error
        try:
            # Some network file systems cannot lock a directory.  Then the last writer wins, which
            # may not be the one with the simplest case; files are whole all the same.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_harm(path: Path) -> bool:
    return path.name.endswith(HARM + CASE)
