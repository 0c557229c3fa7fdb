#!/bin/sh
# pytest 9 has subtests.  In a Hypothesis test, what do the examples make of one that fails?
#
# Guess: a failed subtest is a failure like any other: Hypothesis looks for the smallest example and
# keeps it for the next run, and `pytest -x` at most ends that earlier.
# Seen, pytest 9.2.0 with Hypothesis 6.170.15, CPython 3.11.7 and 3.13.0: Hypothesis notices nothing.
# It goes on to its 100 examples; each that fails is reported as it was drawn (about 50 failures, x of up
# to 39 digits), nothing is kept, the next run draws others.  With -x it does all of its work: the first
# failed subtest makes pytest set session.shouldfail, and from then on a failed subtest is raised, no
# longer swallowed.  So Hypothesis shrinks to 100, says so and keeps it, and the next run begins with it;
# "stop at the first failure" has then counted some 20 failures, all in the one test.  The health check
# that has to be switched off for such a test warns of fixtures that are not reset, not of this.
#
# usage: subtests-in-a-property.sh [PYTHON]        default: python3
set -eu
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip install -qq --disable-pip-version-check --no-deps --target "$folder/packages" \
    pytest==9.2.0 hypothesis==6.170.15 sortedcontainers==2.4.0 pluggy==1.7.0 iniconfig==2.3.1 \
    packaging==26.3 pygments==2.21.0
mkdir "$folder/tests"
cat > "$folder/tests/test_all.py" <<'PROGRAM'
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=DirectoryBasedExampleDatabase("kept"),
)
@given(st.integers())
def test_small(subtests, x):
    with subtests.test(x=x):
        assert x < 100
PROGRAM
cat > "$folder/seen.py" <<'PROGRAM'
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

tests = Path(sys.argv[1]) / "tests"
plain = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_") and k != "CI"}
print(f"pytest {pytest.__version__}, Hypothesis {hypothesis.__version__}, CPython {sys.version.split()[0]}")


def run(*options):
    """The x of each failed subtest in turn, and whether Hypothesis tells an example."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=tests, env=plain, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )
    assert done.returncode == 1, done
    failed = [int(x) for x in re.findall(r"^SUBFAILED ?\(x=(-?\d+)\)", done.stdout, re.M)]
    told = "Failing test case" in done.stdout
    kept = (tests / "kept").exists()
    print(f"  pytest {' '.join(options):2} {len(failed)} failed, last x={failed[-1]}, smallest {min(failed)};"
          f" told by Hypothesis: {told}, kept: {kept}")
    return failed, told, kept


draws = []
for _ in range(2):
    failed, told, kept = run()
    draws.append(failed)
    assert len(failed) > 20 and (told, kept) == (False, False), "Hypothesis notices subtests now"
assert draws[0] != draws[1], "the next run draws the same"
failed, told, kept = run("-x")
assert (failed[-1], min(failed), told, kept) == (100, 100, True, True), "-x does not shrink any more"
assert len(failed) > 1, "-x stops at the first failed subtest"
failed, told, kept = run("-x")
assert set(failed) == {100} and told, "the next run does not begin with it"
PROGRAM
PYTHONPATH=$folder/packages "$python" "$folder/seen.py" "$folder"
echo "as described"
