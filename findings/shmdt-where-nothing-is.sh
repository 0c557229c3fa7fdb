#!/bin/sh
# A segment of System V shared memory is attached once; then its pages are moved with mremap(2), or
# protected with mprotect(2).  Where is it detached, and how often is it attached (shm_nattch)?
#
# Guess: shmdt(2) takes the address where memory of the segment begins, wherever mremap has moved it;
# shm_nattch counts what shmat did and shmdt has not undone: 1.
# Seen, Linux 6.18.44, x86-64: shmdt of the address where a moved page lies fails (EINVAL); shmdt of the
# address where the segment's first byte would be, if all of it lay beside that page, succeeds and unmaps
# the page, though nothing at all is mapped at the address that it is given.  The kernel looks, from that
# address on, for areas that lie as far behind it as they lie behind the start of the segment (ksys_shmdt).
# And shm_nattch counts areas, not attachments: one page with another protection makes it 3, and the same
# protection again leaves it 3, because areas with a close operation do not merge; a page moved
# out makes it 4.  So "nobody else has it attached", nattch == 1, is never true again.
#
# usage: shmdt-where-nothing-is.sh [PYTHON]          default: python3
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import ctypes
import errno
import os
import platform
import struct
import sys

PAGE = os.sysconf("SC_PAGE_SIZE")
IPC_RMID, IPC_STAT, IPC_CREAT = 0, 2, 0o1000
READ, WRITE, MAYMOVE, FIXED = 1, 2, 1, 2

libc = ctypes.CDLL(None, use_errno=True)
for name in ("mmap", "mremap", "shmat"):
    getattr(libc, name).restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.shmdt.argtypes = [ctypes.c_void_p]
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]


def done(result):
    if result in (-1, None, ctypes.c_void_p(-1).value):
        sys.exit(f"cannot tell here: {os.strerror(ctypes.get_errno())}")
    return result


def attached():
    """shm_nattch of the segment."""
    told = ctypes.create_string_buffer(256)
    done(libc.shmctl(segment, IPC_STAT, told))
    return struct.unpack_from("=Q", told, 88)[0]  # struct shmid64_ds of 64-bit machines


def mapped(address):
    return libc.mincore(address, PAGE, ctypes.create_string_buffer(1)) == 0


def detach(address):
    """What shmdt says."""
    return "done" if libc.shmdt(address) == 0 else errno.errorcode[ctypes.get_errno()]


print(f"{platform.system()} {platform.release()}, {platform.machine()}")
if platform.architecture()[0] != "64bit":
    sys.exit("cannot tell here: written for 64-bit machines")
segment = done(libc.shmget(0, 4 * PAGE, 0o600 | IPC_CREAT))
try:
    start = done(libc.shmat(segment, None, 0))
    counts = [attached()]
    for protection in (READ, READ | WRITE):
        done(libc.mprotect(start + PAGE, PAGE, protection))
        counts.append(attached())
    room = done(libc.mmap(None, 64 * PAGE, 0, 0x22, -1, 0))  # private, anonymous
    done(libc.munmap(room, 64 * PAGE))
    elsewhere = room + 16 * PAGE
    moved = elsewhere + 3 * PAGE  # the last page of the segment goes there, and nothing else
    done(libc.mremap(start + 3 * PAGE, PAGE, PAGE, MAYMOVE | FIXED, moved))
    counts.append(attached())
    print(f"  attached, protected, protected as before, a page moved: shm_nattch {counts}")
    assert counts == [1, 3, 3, 4]
    at_page = detach(moved)
    assert mapped(moved) and not mapped(elsewhere)
    at_nothing = detach(elsewhere)
    print(f"  shmdt where the page lies: {at_page}; three pages below, where nothing is: {at_nothing}")
    assert (at_page, at_nothing) == ("EINVAL", "done")
    assert not mapped(moved) and attached() == 3
finally:
    libc.shmctl(segment, IPC_RMID, None)
PROGRAM
"${1:-python3}" "$folder/seen.py"
echo "as described"
