#!/bin/sh
# Whom does os.isatty() call a terminal when that has hung up?
#
# Guess: it stays one, so that a program told by SIGHUP can see which of its outputs to leave alone.
# Seen, CPython 3.11.7 and 3.13.0, Linux 6.18.44, x86-64: os.isatty() is False from the hang-up on, for
# it asks by ioctl(TCGETS), which is EIO then.  The descriptor is the same character device as before,
# os.ttyname() fails, reading is an end of file, and writing raises OSError EIO: what looks like a file or a
# pipe is the one output that cannot be written to.  Ask before the signal, or go by os.fstat().
#
# usage: isatty-after-a-hangup.sh [PYTHON]        default: python3
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import errno
import json
import os
import platform
import pty
import signal
import stat
import sys

told, tell = os.pipe()
child, terminal = pty.fork()
if child == 0:
    os.close(told)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])  # it may come before we wait

    def tried(function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno]

    def looks():
        return {
            "isatty": os.isatty(1),
            "character device": stat.S_ISCHR(os.fstat(1).st_mode),
            "ttyname": isinstance(tried(os.ttyname, 1), str) and tried(os.ttyname, 1)[0] == "/",
        }

    before = looks()
    os.write(1, b"x")
    os.write(tell, b"\n")
    signal.sigwait([signal.SIGHUP])
    after = looks() | {"read": len(os.read(0, 1)), "write": tried(os.write, 1, b"x")}
    os.write(tell, json.dumps([before, after]).encode())
    os._exit(0)
os.close(tell)
assert os.read(told, 1) == b"\n" and os.read(terminal, 1) == b"x"
os.close(terminal)
before, after = json.loads(os.read(told, 4096))
print(f"CPython {sys.version.split()[0]}, {platform.system()} {platform.release().split('-')[0]}")
print("  before the hang-up:", before)
print("  behind it:         ", after)
assert before == {"isatty": True, "character device": True, "ttyname": True}
assert after == {
    "isatty": False, "character device": True, "ttyname": False, "read": 0, "write": "EIO",
}
PROGRAM
"${1:-python3}" "$folder/seen.py"
echo "as described"
