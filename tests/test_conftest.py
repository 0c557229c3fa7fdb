"""What takes long says so, or fails; a session of all tests fails if a rule has none."""

from pathlib import Path

import pytest

from tests.lib import breaks

pytest_plugins = ["pytester"]

SOME_TESTS = """
import subprocess, sys, time
import pytest

BURN = "import time\\nwhile time.process_time() < 0.15: pass"

def burn():
    subprocess.run([sys.executable, "-c", BURN], check=True)

@pytest.mark.slow
def test_marked():
    burn()

def test_in_a_child():
    burn()

def test_waiting():
    time.sleep(0.3)

def test_failing():
    burn()
    assert 0
"""


def test_a_test_that_takes_long_is_marked_or_fails(pytester: pytest.Pytester) -> None:
    ours = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(ours + "\nLONGEST = 0.02\n")
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makepyfile(SOME_TESTS)
    result = pytester.runpytest()
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*test_in_a_child*", "took * s of CPU time*mark it slow*"])
    # Told of one test alone; the summary may tell it again, where it is not cut to a width.
    told = result.stdout.str().partition("short test summary")[0]
    assert told.count("s of CPU time") == 1


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 1),
        (("-m", "not slow"), 1),
        (("-m", "slow or not slow"), 0),
        (("-k", "one"), 0),
        (("--lf",), 0),
        (("--setup-plan",), 0),
        (("--collect-only",), 0),
        (("test_one.py",), 0),
    ],
)
def test_a_session_of_all_tests_fails_if_a_rule_has_none(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    status: int,
) -> None:
    monkeypatch.setattr(breaks, "proven", set())
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers = slow\ntestpaths = .")
    pytester.makepyfile(test_one="def test_one(): pass")
    assert pytester.runpytest(*options).ret == status
