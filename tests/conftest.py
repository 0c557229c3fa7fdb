"""Settings of all tests: random ones draw the same in every run, and long ones are marked `slow`.

A run must not fail on one machine and pass on another.  `--hypothesis-profile=explore` looks for
new examples each time.  What counts as slow is CPU time, that of child processes included, and in
terms of how fast the machine is at that moment: neither a busy machine nor an old one makes a test
fail.
"""

import os
import time
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

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
    """Fail a test that takes long and does not say so."""
    began = cpu_seconds()
    yield
    took = cpu_seconds() - began
    if took > LONGEST and item.get_closest_marker("slow") is None:
        slowness = max(1.0, yardstick() / YARDSTICK_SECONDS)
        if took > LONGEST * slowness:
            pytest.fail(
                f"took {took:.1f} s of CPU time on a machine {slowness:.1f} times as slow as usual:"
                " mark it slow, or make it cheaper",
                pytrace=False,
            )
