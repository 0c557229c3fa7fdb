#!/bin/sh
# How large may a number in a flag of Atheris be, and what happens beyond that?
#
# Guess: flags are libFuzzer's, so one rule holds for all: what does not fit is refused.
# Seen, Atheris 3.1.0, CPython 3.13.0, x86-64: three rules.  -runs and -max_total_time keep the lower 32
# bits without a word: -runs=4294967297 ends after two runs, -runs=3000000000 never ends.  -timeout, which Atheris
# reads itself beside libFuzzer, ends in an IndexError that says "stoi" and names no flag, out of
# atheris.Fuzz().  -seed keeps the lower 32 bits as well, but more than 64 bits are an IndexError "stoul"; and
# what those bits make 0 of, 4294967296 as well as 0x10, is no seed: every run gets another one.  Who lets
# users choose such numbers has to check them.
#
# usage: flags-of-atheris.sh [PYTHON]        default: python3
set -eu
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip install -qq --disable-pip-version-check --target "$folder/packages" atheris==3.1.0
cat > "$folder/target.py" <<'PROGRAM'
import sys

import atheris

atheris.Setup(sys.argv, lambda data: None)
atheris.Fuzz()
PROGRAM
cat > "$folder/seen.py" <<'PROGRAM'
import os
import re
import subprocess
import sys
from importlib.metadata import version

folder = sys.argv[1]
print("Atheris", version("atheris"), "CPython", sys.version.split()[0])


def said(*flags, seconds=30):
    """What a run with these flags says; None: it had not ended by then."""
    try:
        done = subprocess.run(
            [sys.executable, f"{folder}/target.py", *flags],
            env=os.environ | {"PYTHONPATH": f"{folder}/packages"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout


def runs(number, seconds=30):
    text = said(f"-runs={number}", seconds=seconds)
    return text and int(re.search(r"Done (\d+) runs", text)[1])


def seed(number):
    text = said(f"-seed={number}", "-runs=1")
    found = re.search(r"Seed: (\d+)", text)
    return int(found[1]) if found else text.splitlines()[-1]


few = runs(1)
assert runs(2**32 + 1) == few, "-runs does not keep the lower 32 bits"
assert runs(3_000_000_000, seconds=5) is None
print(f"-runs=4294967297 is -runs=1: {few} runs; -runs=3000000000 goes on")
timeout = said("-timeout=4294967296", "-runs=1").splitlines()[-1]
assert timeout == "IndexError: stoi", timeout
print(f"-timeout=4294967296: {timeout}")
assert seed(2**32 + 7) == seed(7) == 7
assert seed(2**70) == "IndexError: stoul", seed(2**70)
for none in (2**32, "0x10"):
    assert seed(none) != seed(none), f"-seed={none} is a seed"
print("-seed=4294967303 is 7; -seed=4294967296 and -seed=0x10 are another one each time; 2**70 is stoul")
PROGRAM
PYTHONPATH="$folder/packages" "$python" "$folder/seen.py" "$folder"
echo "as described"
