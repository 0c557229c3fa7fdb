"""Settings of all tests: random ones draw the same in every run, and long ones are marked `slow`.

A run must not fail on one machine and pass on another.  `--hypothesis-profile=explore` looks for
new examples each time.  What counts as slow is CPU time, that of child processes included, and in
terms of how fast the machine is at that moment: neither a busy machine nor an old one makes a test
fail.

A session that ran all tests fails if there is a rule that none of them has seen to fire and to be
silent (tests/lib/breaks.py), or a test that does not run what it explains (tests/lib/explains.py).
"""

import os
import time
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.lib import breaks, explains

settings.register_profile(
    "stable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("stable")

# A test is to be marked from one second on; it fails at two, since no measurement is exact.
LONGEST = 2.0
YARDSTICK_SECONDS = 0.004  # what `yardstick` takes where a second is a second


def cpu_seconds() -> float:
    """CPU time of this process and of the children that have ended."""
    return sum(os.times()[:4])


def yardstick() -> float:
    """CPU seconds that some fixed work takes here and now: the least of a few attempts."""
    took = []
    for _ in range(7):
        began = time.process_time()
        table: dict[int, tuple[int, object]] = {}
        for number in range(20_000):
            table[number * 7919 % 4099] = number, table.get(number % 4099, (0, 0))[0]
        took.append(time.process_time() - began)
    return min(took)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that takes long and does not say so, or breaks no rule and says so."""
    breaks.begin()
    began = cpu_seconds()
    with explains.watched(item) as amiss:
        yield
    if objections := [*amiss, *breaks.end(item)]:
        pytest.fail("; ".join(objections), pytrace=False)
    took = cpu_seconds() - began
    if took > LONGEST and item.get_closest_marker("slow") is None:
        slowness = max(1.0, yardstick() / YARDSTICK_SECONDS)
        if took > LONGEST * slowness:
            pytest.fail(
                f"took {took:.1f} s of CPU time on a machine {slowness:.1f} times as slow as usual:"
                " mark it slow, or make it cheaper",
                pytrace=False,
            )


def ran_all(session: pytest.Session) -> bool:
    """Were all tests to be run, but for those of a mark, and was each run that could be?"""
    config = session.config
    narrowed = ("keyword", "lf", "stepwise", "deselect", "ignore", "ignore_glob")
    not_run = ("collectonly", "setuponly", "setupplan")
    return (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and not any(config.getoption(name, None) for name in (*narrowed, *not_run))
        and config.getoption("markexpr") in ("", "not atheris", "not slow")
        and not session.shouldstop
        and not session.shouldfail
    )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """What the tests of a worker of pytest-xdist have seen."""
    output = getattr(node, "workeroutput", {})
    breaks.proven.update(output.get("proven", ()))
    explains.due.update(map(tuple, output.get("due", ())))
    explains.met.update(map(tuple, output.get("met", ())))


def amiss_in_all() -> list[str]:
    """What speaks against a session of all tests."""
    unproven = "no test marked `breaks` has seen it fire and be silent"
    return [*(f"{slug}: {unproven}" for slug in breaks.unproven()), *explains.unmet()]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if all tests were run and something was not seen, or tell the parent of a worker."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["proven"] = sorted(breaks.proven)
        output["due"], output["met"] = sorted(explains.due), sorted(explains.met)
    elif session.exitstatus == pytest.ExitCode.OK and ran_all(session) and amiss_in_all():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Name the rules that have no test, and the marks that theirs do not reach."""
    session = terminalreporter._session
    if session is not None and not session.testsfailed and ran_all(session):
        for wrong in amiss_in_all():
            terminalreporter.write_line(f"ERROR {wrong}", red=True)
