"""Files: made (memfd_create), cut off or lengthened, holes punched into them."""

from engine.base.address import round_down, round_up
from engine.base.uapi import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    Errno,
)
from engine.pages.rmap import settle_object
from engine.pages.swapin import swap_in
from engine.pages.truncate import punch_hole, truncate, zero_part
from engine.state.backing import BpfMap, File
from engine.state.space import AddressSpace

FIRST_FD = 200  # the descriptor of file A; the others follow
_MAX_BYTES = (1 << 63) - 1  # MAX_LFS_FILESIZE


def file(space: AddressSpace, fd: int, size: int) -> Errno | None:
    """Make a file of `size` bytes, all hole, with the descriptor `fd`; one that had it is closed.

    Returns: None or the error of ftruncate: then there is a file, of size 0.
    """
    name = chr(ord("A") + fd - FIRST_FD)
    space.files[fd] = File(space.new_number(), 0, name)
    return ftruncate(space, fd, size)


def bpf_map(space: AddressSpace, fd: int, size: int) -> Errno | None:
    """Make an array of BPF of `size` bytes, all zeroes, with the descriptor `fd`.

    Model: on all kernels, though none before 5.5 has BPF_F_MMAPABLE.
    Returns: None, or EINVAL without a size.  Source: array_map_alloc().
    """
    if not size:
        return Errno.EINVAL
    name = chr(ord("A") + fd - FIRST_FD)
    pages = -(-size >> space.geometry.page_shift)
    first = space.frames.allocate([0] * pages, range(pages), None)  # not in any reverse map
    frames, faults_in = range(first, first + pages), space.kernel.bpf_maps_fault
    space.files[fd] = BpfMap(space.new_number(), size, name, frames, faults_in=faults_in)
    return None


def ftruncate(space: AddressSpace, fd: int, length: int) -> Errno | None:
    """Give a file another size, bytes: what it loses is lost in all mappings, copies included.

    Returns: None, or the error.  Source: do_sys_ftruncate(), shmem_setattr().
    """
    if length > _MAX_BYTES:
        return Errno.EINVAL
    if fd not in space.files:
        return Errno.EBADF
    file = space.files[fd]
    if isinstance(file, BpfMap):
        return Errno.EINVAL
    truncate(space, file, length)
    return None


def fallocate(space: AddressSpace, fd: int, mode: int, offset: int, length: int) -> Errno | None:
    """Punch a hole of [offset, offset + length), bytes, into a file, or fill it with pages.

    Arguments: `mode` of FALLOC_FL_*.
    Returns: None, or the error.  Source: ksys_fallocate(), vfs_fallocate(), shmem_fallocate().
    """
    if fd not in space.files:
        return Errno.EBADF
    if offset > _MAX_BYTES or not 0 < length <= _MAX_BYTES:
        return Errno.EINVAL
    if mode not in (0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE):
        return Errno.EOPNOTSUPP
    backing, page = space.files[fd], space.geometry.page_bytes
    if isinstance(backing, BpfMap):
        return Errno.ENODEV  # not a regular file
    if offset + length > _MAX_BYTES:
        return Errno.EFBIG
    shift, end = space.geometry.page_shift, offset + length
    if not mode & FALLOC_FL_PUNCH_HOLE:
        _fill(space, backing, offset >> shift, -(-end >> shift))
        if not mode:
            backing.size_pages = max(backing.size_pages, -(-end >> shift))
        return None
    first, last = round_up(offset, page), round_down(end, page)
    punch_hole(space, backing, first >> shift, last >> shift)
    zero_part(space, backing, offset, min(first, end))
    if last >= first:
        zero_part(space, backing, last, end)
    return None


def _fill(space: AddressSpace, backing: File, low: int, high: int) -> None:
    """Let a file have the pages [low, high), dirty.  Source: shmem_get_folio(), SGP_FALLOC."""
    settle_object(space, backing, low, high)
    for index in range(low, high):
        swap_in(space, backing, index)
        backing.clean.discard(index)
    absent = [index for index in range(low, high) if index not in backing.pages]
    frame = space.frames.allocate([0] * len(absent), absent, backing)
    backing.pages.update(zip(absent, range(frame, frame + len(absent)), strict=True))
