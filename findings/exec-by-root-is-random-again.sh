#!/bin/sh
# A program without address space randomization (personality(ADDR_NO_RANDOMIZE), `setarch -R`): do those that
# it starts have none either?  A personality is inherited by fork and kept by execve.
#
# Guess: yes, but for programs with the set-user-ID bit.
# Seen, Linux 6.18.44, x86-64, in a process of root; likewise an i386 program on Debian's 6.1.176: not if the process
# has given up a capability.  An exec by root gives that back, which makes it one that gains privileges, and these lose
# the flag (PER_CLEAR_ON_SETID; cap_bprm_creds_from_file()).  Nothing is said: the layout is random again.  It is kept if
# the capability is taken from the bounding set, too (PR_CAPBSET_DROP); no_new_privs does not help.
#
# usage: exec-by-root-is-random-again.sh [PYTHON]          default: python3; needs root
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import ctypes
import os
import platform
import subprocess
import sys

ADDR_NO_RANDOMIZE, CAP_SYS_RAWIO = 0x0040000, 17
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
VERSION = 0x20080522  # of capabilities: two words each of effective, permitted, inheritable
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid():
    sys.exit("cannot tell here: this needs root")


def give_up(capability):
    header, data = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        sys.exit("cannot tell here: capget")
    for word in (0, 1):
        data[word] &= ~(1 << capability)
    if libc.capset(header, data):
        sys.exit("cannot tell here: capset")


def personality_after(*steps):
    """Of a program that is exec'ed after the steps, by a process without randomization."""

    def prepare():
        libc.personality(ADDR_NO_RANDOMIZE)
        for step in steps:
            step()

    done = subprocess.run(
        ["cat", "/proc/self/personality"], preexec_fn=prepare, capture_output=True, text=True, check=True
    )
    return int(done.stdout, 16) & ADDR_NO_RANDOMIZE


drop = lambda: give_up(CAP_SYS_RAWIO)
bound = lambda: libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RAWIO, 0, 0, 0)
no_more = lambda: libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
WANTED = {
    "as root": ((), True),
    "without CAP_SYS_RAWIO": ((drop,), False),
    "and not in the bounding set": ((drop, bound), True),
    "and with no_new_privs": ((drop, no_more), False),
}
print(f"{platform.system()} {platform.release()}, {platform.machine()}")
changed = False
for name, (steps, wanted) in WANTED.items():
    kept = bool(personality_after(*steps))
    print(f"{name:30} {'kept' if kept else 'lost'}")
    changed |= kept is not wanted
sys.exit("this has changed" if changed else 0)
PROGRAM
"${1:-python3}" "$folder/seen.py"
