"""pytest collects case files: one test for each kernel a case has an expectation for.

`pytest corpus/regressions/x.case` runs one file, `pytest 'corpus/regressions/x.case::linux-6.1'`
one kernel.  A failure prints what differed and what happened, not a Python traceback.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.base.geometry import UnknownName
from fuzz.case import Case, CaseError
from fuzz.forms.text import load
from fuzz.showing import Showing, expectations, replay
from fuzz.subjects.likeness import likeness
from fuzz.tell.story import story

RUNS = "runs"  # name of the one test of a case that expects nothing
PARSES = "parses"  # name of the one, failing test of a file that is not a case


class Unexpected(Exception):
    """A case that did not show what it should."""


class CorpusItem(pytest.Item):
    """A test whose expected failures are told in their own words, without a traceback."""

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str:
        if isinstance(excinfo.value, Unexpected | CaseError | UnknownName | OSError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}::{self.name}"


class CaseItem(CorpusItem):
    """A case on one kernel (None: its own, without an expectation)."""

    def __init__(self, *, kernel: str | None, case: Case, **fixed: Any) -> None:
        super().__init__(**fixed)
        self.kernel = kernel
        self.case = case

    def runtest(self) -> None:
        names = None if self.kernel is None else [self.kernel]
        for shown in replay(self.case, names):
            if not shown.as_expected:
                raise Unexpected(self._report(shown))

    def _report(self, shown: Showing) -> str:
        root = self.config.invocation_params.dir
        path = self.path.relative_to(root) if self.path.is_relative_to(root) else self.path
        told = story(self.case, shown.kernel)
        command = f"pmdfuzz replay {path} --kernel {shown.kernel.name}"
        return f"{shown}\n\n{told}\n\nReproduce with: {command}"


class LikeItem(CorpusItem):
    """A case whose kernel is to do what another does."""

    def __init__(self, *, case: Case, **fixed: Any) -> None:
        super().__init__(**fixed)
        self.case = case

    def runtest(self) -> None:
        shown = likeness(self.case)
        if shown is not None and shown.surprises:
            raise Unexpected(f"{shown}\n\n{shown.told()}")


class NotACase(CorpusItem):
    """A file that cannot be read as a case: fails, saying where and why."""

    def __init__(self, *, error: Exception, **fixed: Any) -> None:
        super().__init__(**fixed)
        self.error = error

    def runtest(self) -> None:
        raise self.error


class CaseFile(pytest.File):
    """A file of the corpus."""

    def collect(self) -> Iterator[pytest.Item]:
        try:
            case = load(self.path)
            kernels = expectations(case) if case.expects else {}
        except (CaseError, UnknownName, OSError) as error:
            yield NotACase.from_parent(self, name=PARSES, error=error)
            return
        for kernel in kernels:
            yield CaseItem.from_parent(self, name=kernel, kernel=kernel, case=case)
        if case.like:
            yield LikeItem.from_parent(self, name=f"{case.kernel}-like-{case.like}", case=case)
        elif not kernels:
            yield CaseItem.from_parent(self, name=RUNS, kernel=None, case=case)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseFile | None:
    if file_path.suffix != ".case":
        return None
    return CaseFile.from_parent(parent, path=file_path)
