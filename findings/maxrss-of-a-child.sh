#!/bin/sh
# How much memory did a child process have at most?  wait4(2) answers with what its parent had.
#
# Guess: ru_maxrss of a finished child is the peak of the program that it ran.
# Seen, Linux 6.18.44, CPython 3.13.0: `true`, started by a process that has touched 256 MiB, is said to
# have had over 256 MiB, started by vfork or by fork.  exec keeps the peak that the process had before it,
# and that is the parent's.  VmHWM of /proc/PID/status belongs to the new program alone.
#
# usage: maxrss-of-a-child.sh [PYTHON]             default: python3
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

print(f"{platform.system()} {platform.release()}, CPython {sys.version.split()[0]}")
held = bytearray(256 << 20)
for how, more in (("vfork", {}), ("fork", {"preexec_fn": lambda: None})):
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
    child.stdin.write(b"x")
    child.stdin.flush()
    child.stdout.read(1)  # exec is over
    status = Path(f"/proc/{child.pid}/status").read_text()
    own = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024
    child.stdin.close()
    told = os.wait4(child.pid, 0)[2].ru_maxrss // 1024
    print(f"  by {how}: ru_maxrss {told} MiB, VmHWM {own} MiB")
    assert told >= 256, "ru_maxrss is the child's own now"
    assert own < 64, "VmHWM is not the child's own any more"
PROGRAM
"${1:-python3}" "$folder/seen.py"
echo "as described"
