"""Settings of all tests: Hypothesis draws the same examples in every run.

A run must not fail on one machine and pass on another.  `--hypothesis-profile=explore` looks for
new examples each time.
"""

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
