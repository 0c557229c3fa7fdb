"""What happens to one mutant: run the inputs until a rule or the oracle notices, run the tests.

Everything here imports the mutant, so it runs in a process of its own.  A mutant is killed by what
a fuzzing run would report: a rule that breaks, contents that the oracle does not expect, an
exception, an endless loop.  That its results differ from those of the engine as it is does not
kill it; it is noted, for then a rule is missing.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fuzz.lib.processes import CpuLimit, TooLong
from fuzz.mutants.hook import import_mutant
from fuzz.mutants.inputs import Baseline, Input, broken, digest, news, traces
from fuzz.mutants.mutate import Mutant

if TYPE_CHECKING:  # what a mutant runs in is imported once it is in place
    from fuzz.execute import Outcome

INPUT_SECONDS = 4.0  # CPU time of one program; they take milliseconds
TEST_SECONDS = 120.0  # CPU time of all tests

RULE, ORACLE, ASSERTION, CRASH, TIMEOUT = "rule", "oracle", "assertion", "crash", "timeout"
KINDS = (RULE, ORACLE, ASSERTION, CRASH, TIMEOUT)


class Fate(NamedTuple):
    """What rules and oracle said: `kind` empty and `what` empty if nothing was noticed.

    `runs` are the executions it took, `at` the number of the input that killed it; `differs` the
    number of the first input that left other traces than the engine as it is, None if none did.
    """

    kind: str
    what: str
    runs: int
    at: int | None
    differs: int | None


def judge(
    mutant: Mutant, root: Path, inputs: Sequence[tuple[Input, Baseline]], order: Sequence[int]
) -> Fate:
    """Run the inputs with these numbers, in this order, until one kills the mutant."""
    limit = CpuLimit(INPUT_SECONDS)
    runs, differs, at = 0, None, None
    limit.begin()
    try:
        import_mutant(root, mutant)
        from engine.base.kernel import kernel_named
        from fuzz.execute import execute

        for at in order:
            one, known = inputs[at]
            limit.begin()
            runs += 1
            kernel = kernel_named(one.kernel, one.geometry)
            outcome = execute(one.case, kernel, stop=not known.broken)
            if outcome.violations:
                rule = news(known.broken, broken(outcome))
                if rule is not None:
                    return Fate(_kind(rule, outcome), rule, runs, at, differs)
            if differs is None and digest(outcome) != known.digest:
                differs = at
    except TooLong:
        return Fate(TIMEOUT, "", runs, at, differs)
    except Exception as error:
        kind = ASSERTION if isinstance(error, AssertionError) else CRASH
        return Fate(kind, type(error).__name__, runs, at, differs)
    finally:
        limit.end()
    return Fate("", "", runs, None, differs)


def _kind(rule: str, outcome: "Outcome") -> str:
    """What killed a mutant, by the rule that it broke."""
    if rule == TIMEOUT:
        return TIMEOUT
    ending = outcome.ending
    if ending is not None and rule == ending.rule:
        return ASSERTION if ending.found.startswith("AssertionError") else CRASH
    return ORACLE if rule.startswith("oracle") else RULE


def shown(mutant: Mutant | None, root: Path, one: Input) -> dict[str, Any] | str:
    """What a run of one input shows on the mutant (None: on the engine as it is); or its error."""
    limit = CpuLimit(INPUT_SECONDS)
    try:
        limit.begin()
        if mutant is not None:
            import_mutant(root, mutant)
        from engine.base.kernel import kernel_named
        from fuzz.execute import execute

        found = traces(execute(one.case, kernel_named(one.kernel, one.geometry), stop=False))
        limit.end()
        return {name: repr(value) if name == "results" else value for name, value in found.items()}
    except TooLong:
        return "it does not end"
    except Exception as error:
        limit.end()
        return f"{type(error).__name__}: {error}"


def run_tests(mutant: Mutant | None, root: Path, selection: Sequence[str]) -> str:
    """Run pytest on the mutant (None: the engine as it is) until a test fails.

    Returns: its name, "timeout" if they take too long, or nothing if all pass.
    """
    import pytest

    class FirstFailure:
        """A plugin that remembers it."""

        by = ""

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed and not self.by:
                self.by = str(report.nodeid)

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed and not self.by:
                self.by = str(report.nodeid)

    plugin = FirstFailure()
    limit = CpuLimit(TEST_SECONDS)
    os.chdir(root)
    arguments = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *selection]
    with _silent():
        limit.begin()
        try:
            if mutant is not None:
                import_mutant(root, mutant)
            status = int(pytest.main(arguments, plugins=[plugin]))
        except TooLong:
            status = 1
        limit.end()
    if limit.passed:
        return "timeout"
    return plugin.by or "pytest" if status else ""


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing that is printed inside gets out."""
    sys.stdout.flush()
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
