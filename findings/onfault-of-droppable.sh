#!/bin/sh
# MLOCK_ONFAULT: "lock pages that are resident, and others once they are touched; do not fault any in".
# For one kind of memory Linux does the opposite of each: it faults everything in and locks nothing.
#
# Guess: mlock2(MLOCK_ONFAULT) of MAP_DROPPABLE memory (Linux 6.11), which the kernel may always take
# back, is refused, or does nothing.
# Seen, Linux 6.18.44, x86-64; the call also on Debian's 6.12.43, 6.17.13 and 7.3.4: it returns 0, all
# pages are resident, none is locked (VmLck stays 0, no "lo" in VmFlags).  For private and shared memory
# the same call leaves all as it was, and locks as pages are touched.  mlockall(MCL_FUTURE | MCL_ONFAULT),
# then mmap, does the same.  The kernel leaves the flags of droppable memory alone, VM_LOCKONFAULT with
# the others (mlock_fixup), then populates the range, and skips only areas with that flag
# (populate_vma_page_range).  So a program that locks "on fault" to spare memory, once for its whole
# address space, pays for all that may be dropped, in full.
#
# usage: onfault-of-droppable.sh [PYTHON]          default: python3
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import ctypes
import os
import platform
import re
import sys
from pathlib import Path

PAGES = 8  # few: an unprivileged process may lock little
KIB = PAGES * os.sysconf("SC_PAGE_SIZE") // 1024
KINDS = {"private": 0x02, "shared": 0x01, "droppable": 0x08}  # MAP_…
MLOCK_ONFAULT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mlock2.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def done(result):
    if result in (-1, None, ctypes.c_void_p(-1).value):
        sys.exit(f"cannot tell here: {os.strerror(ctypes.get_errno())}")
    return result


def mapped(kind):
    return done(libc.mmap(None, KIB * 1024, 3, KINDS[kind] | 0x20, -1, 0))  # read, write; anonymous


def state(address):
    """KiB resident, KiB that the process has locked, whether the area counts as locked."""
    area = re.search(rf"^{address:x}-.*?VmFlags:[^\n]*", Path("/proc/self/smaps").read_text(), re.M | re.S)
    locked = re.search(r"VmLck:\s+(\d+)", Path("/proc/self/status").read_text())[1]
    return int(re.search(r"Rss:\s+(\d+)", area[0])[1]), int(locked), " lo" in area[0].splitlines()[-1]


print(f"{platform.system()} {platform.release()}, {platform.machine()}")
for kind in KINDS:
    address = mapped(kind)
    before = state(address)
    done(libc.mlock2(address, KIB * 1024, MLOCK_ONFAULT))
    after = state(address)
    libc.munmap(address, KIB * 1024)
    done(libc.mlockall(MCL_FUTURE | MCL_ONFAULT))
    address = mapped(kind)
    future = state(address)
    libc.munlockall()
    libc.munmap(address, KIB * 1024)
    print(f"  {kind:9} resident, process locks, area locked: {before}, mlock2 {after}, mlockall {future}")
    assert before == (0, 0, False)
    assert after == future == ((KIB, 0, False) if kind == "droppable" else (0, KIB, True)), kind
PROGRAM
"${1:-python3}" "$folder/seen.py"
echo "as described"
