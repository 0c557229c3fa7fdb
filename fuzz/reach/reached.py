"""What programs reach of the model, file by file, as coverage.py says it."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.campaign.child import environment
from fuzz.lib.command import command
from fuzz.reach.measure import HOME, PROGRAMS, Ran, Task


class ReachError(Exception):
    """It cannot be measured; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What is reached of a file.

    `path` is below the project's directory.  Lines count from 1; each stands for the statement that
    begins there.  `run` are those that programs have run, `defined` those that only imports have,
    `never` those that nobody has.  `branches` is how many ways there are out of branches, and
    `untaken` those that were not taken: from a line to a line (below 0: out of the function that
    begins there).
    """

    path: str
    run: frozenset[int]
    defined: frozenset[int]
    never: frozenset[int]
    branches: int = 0
    untaken: tuple[tuple[int, int], ...] = ()

    @property
    def lines(self) -> int:
        """How many there are."""
        return len(self.run) + len(self.defined) + len(self.never)


def check_coverage() -> None:
    """Errors raised: ReachError if coverage.py is not installed."""
    if importlib.util.find_spec("coverage") is None:
        raise ReachError(
            "this needs coverage.py, which is not installed here; install it with\n"
            f"  {command('install', 'coverage', of='pip')}"
        )


def reached(
    cases: Sequence[Path],
    inputs: Sequence[tuple[Path, list[str]]],
    kernels: Sequence[str],
    geometry: str | None = None,
    html: Path | None = None,
) -> tuple[list[Reached], Ran]:
    """Run programs in a process of its own.

    Arguments: see `fuzz.reach.measure.Task`.
    Returns: what they reach of each file of the model, in order of their names; what ran.
    Errors raised: ReachError.
    """
    check_coverage()
    with tempfile.TemporaryDirectory(prefix="pmdfuzz-reach-") as scratch:
        report = Path(scratch) / "report.json"
        task = Task(
            [str(path.absolute()) for path in cases],
            [(str(path.absolute()), names) for path, names in inputs],
            list(kernels),
            geometry or "",
            str(report),
            str(html.absolute()) if html is not None else "",
        )
        done = subprocess.run(
            [sys.executable, "-m", "fuzz.reach.measure"],
            input=json.dumps(task._asdict()),
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(), "COVERAGE_CORE": _core()},
            check=False,
        )
        if done.returncode or not report.exists():
            raise ReachError(f"measuring failed, see above (exit status {done.returncode})")
        files = json.loads(report.read_text(encoding="utf-8"))["files"]
    found = [_of_file(path, told) for path, told in files.items()]
    return sorted(found, key=lambda one: one.path), Ran(*json.loads(done.stdout))


def _core() -> str:
    """How coverage.py is to measure.

    sys.monitoring would tell a line once, and not again when programs reach what imports have.
    """
    return "ctrace" if importlib.util.find_spec("coverage.tracer") else "pytrace"


def _of_file(path: str, told: Mapping[str, Any]) -> Reached:
    """What coverage.py says of a file (its JSON report)."""
    name = Path(path).resolve().relative_to(HOME).as_posix()
    contexts = told.get("contexts", {})
    executed = frozenset(told["executed_lines"])
    run = frozenset(line for line in executed if PROGRAMS in contexts.get(str(line), ()))
    return Reached(
        name,
        run,
        executed - run,
        frozenset(told["missing_lines"]),
        told["summary"]["num_branches"],
        tuple((start, end) for start, end in told["missing_branches"]),
    )
