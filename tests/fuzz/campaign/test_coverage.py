"""Coverage of the model: each arm is told once, beside other tools; lines stay what they are."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from fuzz.campaign import coverage
from tests.lib.constants import ROOT

monitored = pytest.mark.skipif(
    not coverage.MONITORED, reason="sys.monitoring came with Python 3.12; Atheris covers this one"
)

ARMS = """\
def otherwise(x):
    if x:
        x = 1
    x = 2

def nested(a, b):
    if a:
        if b:
            a = 3
    a = 4

def both(a, b):
    return a and b

def either(a, b):
    return 1 if a else b

def loop(n):
    for i in range(n):
        if i == 1:
            break
    while n:
        n -= 1

def fails(x):
    if x:
        pass
    raise ValueError(
        x
    )

def tried(x):
    try:
        return 1 // x
    except ZeroDivisionError:
        return 0

def handled(x, y):
    try:
        if x:
            y = 1 // y
        else:
            y = 2
        return y
    except ZeroDivisionError:
        return 0

def matched(x):
    match x:
        case 1:
            x = 2
        case _:
            pass

def made(n):
    return [i for i in range(n) if i % 2]
"""


class Counters:
    """What coverage uses of Atheris."""

    def __init__(self) -> None:
        self.reserved = 0
        self.told: list[int] = []

    def _reserve_counter(self) -> int:
        self.reserved += 1
        return self.reserved - 1

    def _trace_branch(self, number: int) -> None:
        self.told.append(number)


class Watched:
    """Functions that are covered."""

    def __init__(self, source: str) -> None:
        self.counters = Counters()
        self.code = coverage.compiled(source, "arms.py")
        self.names: dict[str, Any] = {}
        exec(self.code, self.names)
        self.codes: list[CodeType] = list(coverage.inside(self.code))
        coverage.watch(self.counters, self.codes)

    def told_by(self, name: str, *args: object) -> int:
        """How many places a call reaches for the first time."""
        before = len(self.counters.told)
        self.names[name](*args)
        return len(self.counters.told) - before


@pytest.fixture
def watched() -> Iterator[Watched]:
    before = tools()
    yield Watched(ARMS)
    for tool in tools() - before:
        sys.monitoring.free_tool_id(tool)


def tools() -> set[int]:
    return {tool for tool in range(6) if sys.monitoring.get_tool(tool) is not None}


@monitored
@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("otherwise", [(1,), (0,)]),
        ("nested", [(1, 1), (1, 0), (0, 0)]),
        ("both", [(1, 1)]),
        ("either", [(1, 2), (0, 2)]),
        ("loop", [(0,), (1,), (2,)]),
        ("tried", [(1,), (0,)]),
        ("handled", [(1, 0), (0, 0)]),
        ("matched", [(1,), (2,)]),
        ("made", [(0,), (1,), (2,)]),
    ],
)
def test_each_arm_is_told_once(watched: Watched, name: str, calls: list[tuple[object]]) -> None:
    assert all(watched.told_by(name, *args) for args in calls)
    assert not any(watched.told_by(name, *args) for args in calls)


@monitored
def test_no_counter_is_told_twice_and_the_last_one_is_not_used(watched: Watched) -> None:
    for args in ((1, 1), (1, 0), (0, 1)):
        for name in ("nested", "both", "either"):
            watched.told_by(name, *args)
    told = watched.counters.told
    assert len(told) == len(set(told))
    assert max(told) < watched.counters.reserved - 1


@monitored
def test_another_tool_sees_all_lines_and_revives_nothing_that_was_told(watched: Watched) -> None:
    monitoring, other = sys.monitoring, 1
    lines: list[int] = []

    def line(code: CodeType, number: int) -> object:
        lines.append(number)
        return monitoring.DISABLE

    first = watched.told_by("loop", 3)
    monitoring.use_tool_id(other, "another")
    try:
        monitoring.register_callback(other, monitoring.events.LINE, line)
        for code in watched.codes:
            monitoring.set_local_events(other, code, monitoring.events.LINE)
        assert first and not watched.told_by("loop", 3)
        assert sorted(set(lines)) == [19, 20, 21, 22, 23]
        lines.clear()
        monitoring.restart_events()
        assert not watched.told_by("loop", 3)
        assert sorted(set(lines)) == [19, 20, 21, 22, 23]
    finally:
        monitoring.free_tool_id(other)
    assert watched.told_by("otherwise", 0)


@monitored
def test_tracebacks_and_tracers_see_the_lines_of_the_file(watched: Watched) -> None:
    plain: dict[str, Any] = {}
    exec(compile(ARMS, "arms.py", "exec"), plain)

    def seen(function: Callable[[int], object]) -> tuple[list[int], list[int | None]]:
        traced: list[int] = []

        def trace(frame: Any, event: str, _: object) -> Any:
            if frame.f_code.co_filename == "arms.py":
                traced.append(frame.f_lineno)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function(0)
        except ValueError as error:
            frames = traceback.extract_tb(error.__traceback__)
            return traced, [frame.lineno for frame in frames]
        finally:
            sys.settrace(before)
        raise AssertionError("it did not fail")

    traced, lines = seen(watched.names["fails"])
    assert (sorted(set(traced)), lines) == (
        sorted(set(seen(plain["fails"])[0])),
        seen(plain["fails"])[1],
    )


@monitored
def test_it_is_said_when_every_tool_id_is_taken() -> None:
    taken = [tool for tool in range(5) if sys.monitoring.get_tool(tool) is None]
    for tool in taken:
        sys.monitoring.use_tool_id(tool, f"tool{tool}")
    try:
        with pytest.raises(coverage.CoverageError, match="4: tool4"):
            coverage.watch(Counters(), [])
    finally:
        for tool in taken:
            sys.monitoring.free_tool_id(tool)


def test_annotations_have_no_places() -> None:
    code = coverage.compiled("def f(x: int) -> int: return x\nclass C:\n    x: int\n", "c.py")
    assert [inner.co_name for inner in coverage.inside(code)] == ["f", "C"]


@monitored
def test_the_model_is_covered_and_its_rules_are_not(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from fuzz.campaign import coverage\n"
        "with coverage.covered(None) as codes:\n"
        "    from fuzz import execute\n"
        "files = {'/'.join(code.co_filename.split('/')[-2:]) for code in codes}\n"
        "print('engine/move.py' in files, 'rules/move.py' in files, len(codes))\n"
    )

    def said() -> str:
        return subprocess.run(
            [sys.executable, "-X", f"pycache_prefix={tmp_path}", "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first = said()
    kept = list(tmp_path.rglob("move.*arms*.pyc"))
    assert first.startswith("True False") and len(kept) == 1
    assert said() == first  # from what was compiled
    kept[0].write_bytes(kept[0].read_bytes()[:40] + b"\0")  # cut off: as if it were not there
    assert said() == first
