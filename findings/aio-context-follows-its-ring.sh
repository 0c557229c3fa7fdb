#!/bin/sh
# A context of Linux' asynchronous I/O (io_setup) has an identifier, and a ring of events that the kernel
# maps into the process.  What becomes of the identifier when mremap(2) moves the ring?
#
# Guess: the identifier is a handle like a file descriptor, and stays; or the ring cannot be moved.
# Seen, Linux 6.18.44, x86-64: the ring can be moved, and the identifier is its address: io_getevents with
# the one that io_setup gave fails with EINVAL from then on, with the new address, which no call has ever
# given out as an identifier, it works, and io_destroy of that unmaps the ring at its new place
# (aio_ring_mremap).  It can neither grow (EFAULT) nor leave its old place mapped
# (MREMAP_DONTUNMAP: EINVAL).  So what a program holds in its hand is changed from outside by whoever
# moves its memory about, as checkpoint tools do.
#
# usage: aio-context-follows-its-ring.sh [PYTHON]          default: python3
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import ctypes
import errno
import platform
import re
import sys
from pathlib import Path

CALLS = {"x86_64": (206, 207, 208), "aarch64": (0, 1, 4)}  # io_setup, io_destroy, io_getevents
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
if platform.machine() not in CALLS:
    sys.exit(f"cannot tell here: {platform.machine()}")
SETUP, DESTROY, GETEVENTS = CALLS[platform.machine()]

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.syscall.restype = ctypes.c_long


def told(result):
    """"done", or the name of the error."""
    return errno.errorcode[ctypes.get_errno()] if result in (-1, ctypes.c_void_p(-1).value) else "done"


def rings():
    """Start and bytes of what is mapped of rings."""
    found = re.findall(r"^(\w+)-(\w+) .*\[aio\]", Path("/proc/self/maps").read_text(), re.M)
    return [(int(start, 16), int(end, 16) - int(start, 16)) for start, end in found]


def events(context):
    """What a look for events, which waits for none, says of a context."""
    wait = (ctypes.c_long * 2)(0, 0)
    place = ctypes.create_string_buffer(32)
    return told(libc.syscall(GETEVENTS, ctypes.c_ulong(context), ctypes.c_long(0), ctypes.c_long(1), place, wait))


print(f"{platform.system()} {platform.release()}, {platform.machine()}")
given = ctypes.c_ulong(0)
if libc.syscall(SETUP, 8, ctypes.byref(given)):
    sys.exit(f"cannot tell here: io_setup: {told(-1)}")
context = given.value
[(ring, length)] = rings()
assert ring == context and events(context) == "done"
room = libc.mmap(None, 4 * length, 0, 0x22, -1, 0)  # private, anonymous
libc.munmap(room, 4 * length)
moved = libc.mremap(ring, length, length, MAYMOVE | FIXED, room + length)
assert moved == room + length and rings() == [(moved, length)]
seen = events(context), events(moved)
print(f"  io_getevents after the move, as io_setup said: {seen[0]}, with the new address: {seen[1]}")
assert seen == ("EINVAL", "done")
grown = told(libc.mremap(moved, length, 2 * length, MAYMOVE, None))
left = told(libc.mremap(moved, length, length, MAYMOVE | DONTUNMAP, None))
print(f"  growing: {grown}; MREMAP_DONTUNMAP: {left}")
assert (grown, left) == ("EFAULT", "EINVAL")
ends = told(libc.syscall(DESTROY, ctypes.c_ulong(context))), told(libc.syscall(DESTROY, ctypes.c_ulong(moved)))
print(f"  io_destroy, as io_setup said: {ends[0]}, with the new address: {ends[1]}")
assert ends == ("EINVAL", "done") and not rings()
PROGRAM
"${1:-python3}" "$folder/seen.py"
echo "as described"
