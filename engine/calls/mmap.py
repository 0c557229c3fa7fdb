"""mmap and munmap: mapping memory or a file, and unmapping it."""

from engine.base.address import round_up
from engine.base.entry import ACCESSED, PRESENT, WRITE, leaf
from engine.base.failures import VmaRefused
from engine.base.geometry import PTE
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGE_MASK,
    MAP_HUGE_SHIFT,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_TYPE,
    Errno,
)
from engine.pages import uffd
from engine.pages.fault import populate_locked
from engine.pages.faulted import slots_of
from engine.pages.hugetlb import new_huge_file, reserve
from engine.pages.protect import access_flags
from engine.state.backing import BpfMap, File
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_DROPPABLE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MIXEDMAP,
    VM_NEVER_EXEC,
    VM_NEVER_WRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_SHARED,
    VM_WIPEONFORK,
    VM_WRITE,
    Vma,
)
from engine.vmas.merge import Proposal, merge_new
from engine.vmas.place import find_address
from engine.vmas.unmap import make_removable, unmap

_MAX_BYTES = (1 << 63) - 1  # of a file: MAX_LFS_FILESIZE
_INSERTED = PRESENT | WRITE | ACCESSED  # vm_insert_page()


def mmap(
    space: AddressSpace,
    addr: int,
    length: int,
    prot: int,
    flags: int,
    offset: int = 0,
    fd: int = -1,
) -> int | Errno:
    """Map anonymous memory, or an open file.

    Arguments: `addr` in bytes, the place with MAP_FIXED, else a hint (0: none); `length` in bytes;
    `offset` in the file, bytes: of anonymous memory only its alignment counts; `fd` counts without
    MAP_ANONYMOUS.
    Returns: the address, or the error.
    Source: ksys_mmap_pgoff(), do_mmap(), mmap_region(), Linux 6.1 to 7.3.
    """
    geometry = space.geometry
    page = geometry.page_bytes
    if offset & (page - 1):
        return Errno.EINVAL
    file = None
    if not flags & MAP_ANONYMOUS:
        file = space.files.get(fd)
        if file is None:
            return Errno.EBADF
        if flags & MAP_HUGETLB:
            return Errno.EINVAL
    size_log = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK
    if flags & MAP_HUGETLB and size_log and 1 << size_log != geometry.slot_bytes:
        return Errno.EINVAL  # hstate_sizelog(): no huge page has that size
    huge = geometry.slot_bytes if flags & MAP_HUGETLB else 0
    if huge:
        length = round_up(length, huge) & geometry.word_mask
    if not length:
        return Errno.EINVAL
    length = round_up(length, page) & geometry.word_mask
    if not length:
        return Errno.ENOMEM
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if len(space.vmas) > space.max_map_count:
        return Errno.ENOMEM
    if flags & MAP_FIXED:
        if huge and length <= geometry.user_top and addr & (huge - 1):
            return Errno.EINVAL
        if length > geometry.user_top or addr > geometry.user_top - length:
            return Errno.ENOMEM
        if addr & (page - 1):
            return Errno.EINVAL
        if addr < geometry.min_addr:
            return Errno.EPERM
        place: int | Errno = addr
    else:
        if page <= addr < geometry.min_addr:
            addr = geometry.min_addr  # round_hint_to_min()
        of_object = file is not None or _is_shared(flags, file)
        place = find_address(space, addr, length, of_object, huge)
    if isinstance(place, Errno):
        return place
    if flags & MAP_FIXED_NOREPLACE and space.vmas.intersection(place, place + length):
        return Errno.EEXIST
    if flags & MAP_LOCKED and not space.may_lock(length):
        return Errno.EAGAIN if space.limits.locked else Errno.EPERM
    if file is not None and offset > (_MAX_BYTES - length) & -page:
        return Errno.EOVERFLOW  # file_mmap_ok()
    error = _check_type(space, flags, file)
    if error:
        return error
    if huge and offset & (huge - 1):
        return Errno.EINVAL
    if isinstance(file, BpfMap) and prot & VM_EXEC and space.kernel.anon_inodes_noexec:
        return Errno.EPERM  # path_noexec()
    vm_flags = _vm_flags(access_flags(geometry, prot), flags, file)
    if flags & MAP_STACK and space.kernel.stacks_stay_small:
        vm_flags |= VM_NOHUGEPAGE
    space.pool.late = 0
    replaced = _charged(space, place, place + length) if isinstance(file, BpfMap) else 0
    error = _make_place(space, place, length, vm_flags, promises=file is None)
    if error:
        return error
    try:
        if isinstance(file, BpfMap):
            vma = _map_map(space, place, place + length, vm_flags, file, offset)
        elif file is not None:
            vma = _map_file(space, place, place + length, vm_flags, file, offset)
        else:
            vma = _map_region(space, place, place + length, vm_flags)
    except VmaRefused as refused:
        if vm_flags & VM_ACCOUNT and space.kernel.refused_mmap_leaks_charge:
            space.committed += replaced  # taken over, and forgotten: "charged" is only what is new
        return Errno(refused.error)
    space.account(vm_flags, length)
    if flags & MAP_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        populate_locked(space, vma, place, place + length)
    return place


def _charged(space: AddressSpace, start: int, end: int) -> int:
    """Pages of [start, end) that are charged for."""
    lost = [vma for vma in space.vmas.intersecting(start, end) if vma.flags & VM_ACCOUNT]
    total = sum(min(vma.end, end) - max(vma.start, start) for vma in lost)
    return total >> space.geometry.page_shift


def _is_shared(flags: int, file: File | BpfMap | None) -> bool:
    """Is it shared memory?  MAP_SHARED_VALIDATE is for what has a file, as hugetlb has."""
    kind = flags & MAP_TYPE
    validates = file is not None or bool(flags & MAP_HUGETLB)
    return kind == MAP_SHARED or (kind == MAP_SHARED_VALIDATE and validates)


def _check_type(space: AddressSpace, flags: int, file: File | BpfMap | None) -> Errno | None:
    """Is there such a type of mapping, and may it have these flags?

    Model: where there is no bit for VM_DROPPABLE the error is the one that was meant; at first it
    was 524, which is no error that programs know.
    """
    kind = flags & MAP_TYPE
    if kind == MAP_DROPPABLE and file is None and space.kernel.map_droppable:
        if space.geometry.word_bits < 64 and not flags & MAP_HUGETLB:
            return Errno.EOPNOTSUPP
        refused = MAP_LOCKED | MAP_HUGETLB | MAP_GROWSDOWN
    elif _is_shared(flags, file):
        if kind == MAP_SHARED_VALIDATE and flags & MAP_FIXED_NOREPLACE:
            return Errno.EOPNOTSUPP  # not in LEGACY_MAP_MASK
        refused = MAP_GROWSDOWN
    elif kind == MAP_PRIVATE:
        refused = MAP_GROWSDOWN if flags & MAP_HUGETLB or file is not None else 0
    else:
        return Errno.EINVAL
    return Errno.EINVAL if flags & refused else None


def _vm_flags(access: int, flags: int, file: File | BpfMap | None) -> int:
    """The VM_ flags of a new mapping, which permits `access`."""
    vm_flags = access
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_NORESERVE:
        vm_flags |= VM_NORESERVE
    if _is_shared(flags, file):
        vm_flags |= VM_SHARED
    elif flags & MAP_TYPE == MAP_DROPPABLE:
        vm_flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
    if flags & MAP_HUGETLB:
        return vm_flags | VM_HUGETLB  # never charged, and not locked: it stays anyway
    if isinstance(file, BpfMap):  # not locked either
        vm_flags |= VM_DONTEXPAND | VM_DONTDUMP | VM_NEVER_EXEC
        vm_flags |= 0 if file.faults_in else VM_MIXEDMAP
        vm_flags |= 0 if vm_flags & VM_WRITE else VM_NEVER_WRITE
    elif flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if not vm_flags & VM_SHARED and vm_flags & VM_WRITE and not vm_flags & VM_NORESERVE:
        vm_flags |= VM_ACCOUNT  # accountable_mapping()
    return vm_flags


def _make_place(
    space: AddressSpace, start: int, length: int, vm_flags: int, *, promises: bool
) -> Errno | None:
    """Unmap what is in the way of a new mapping, and have it charged.

    Arguments: `promises`: shared memory is charged for now, which that of a file never is.

    Until 6.11 a charge that is refused comes too late for what was mapped there.  Since 6.12 the
    old mappings are cut off first, then private memory is charged, then they go; userfaultfds are
    told that they do, also if the charge is refused and they stay.
    Source: mmap_region(); vms_gather_munmap_vmas() in 6.12.
    """
    end = start + length
    lost = space.vmas.intersecting(start, end)
    replaced = 0
    for vma in lost:
        replaced += min(vma.end, end) - max(vma.start, start)
    shared = vm_flags & VM_SHARED and promises
    charged = vm_flags | (VM_ACCOUNT if shared and not vm_flags & VM_NORESERVE else 0)
    if vm_flags & VM_HUGETLB:
        charged = 0
    may_fail = lost and (
        space.failures.armed
        or not space.limits.unbounded
        or (lost[0].start < start and not lost[0].backing.may_split(start))
        or (end < lost[-1].end and not lost[-1].backing.may_split(end))
        or space.vmas.sealed(start, end)
    )
    if not may_fail or not space.kernel.merge_new_range:
        if not space.may_expand(length, replaced):
            return Errno.ENOMEM
        if replaced and (error := _replace(space, start, length)):
            return error if error is Errno.EPERM else Errno.ENOMEM
        return None if space.may_commit(length, charged) else Errno.ENOMEM
    error = _cut_off(space, start, end)
    if not error and not (
        space.may_expand(length, replaced) and (shared or space.may_commit(length, charged))
    ):
        space.tell_unmapped(space.vmas.intersecting(start, end), start, end)  # though they stay
        error = Errno.ENOMEM
    if error:
        if space.uffds:
            uffd.call_ended(space, failed=False)
        return error
    if error := _replace(space, start, length):
        return error
    return None if not shared or space.may_commit(length, charged) else Errno.ENOMEM


def _cut_off(space: AddressSpace, start: int, end: int) -> Errno | None:
    """Make VMAs of their own of what is to be unmapped, if it may be."""
    error = make_removable(space, start, end)
    if error:
        return error
    try:
        space.split_at(start)
        space.split_end(space.vmas.intersecting(start, end), start, end)
    except VmaRefused as refused:
        return Errno(refused.error)
    return None


def _replace(space: AddressSpace, start: int, length: int) -> Errno | None:
    """Unmap what is in the way of a new mapping."""
    error = unmap(space, start, length)
    if space.uffds:
        uffd.call_ended(space, failed=False)
    return error


def _map_region(space: AddressSpace, start: int, end: int, flags: int) -> Vma:
    """Put a VMA over a free range, merged with its neighbours where possible.

    Errors raised: VmaRefused; also if the pool of huge pages cannot reserve as many: what has come
    about is unmapped then, also page tables that were there before, as PAE has them.
    Source: __mmap_new_file_vma(), 6.12; mmap_region(), 6.1, where i386 with PAE was measured.
    """
    shift = space.geometry.page_shift
    if flags & (VM_SHARED | VM_HUGETLB):
        space.vmas.claim(None)
        huge = flags & VM_HUGETLB
        pages = (end - start) >> shift
        backing = new_huge_file(space, end - start) if huge else space.new_shmem(pages)
        vma = Vma(start, end, flags, 0, backing=backing)
        if huge and not reserve(space, vma):
            _leave_gap(space, vma)
            raise VmaRefused
    else:
        proposal = Proposal(start, end, flags, start >> shift)
        merged = merge_new(space.kernel, space.vmas, proposal, mmap=True)
        if merged is not None:
            merged.tracked = False  # what was expanded counts as written: VM_SOFTDIRTY
            return merged
        space.vmas.claim(None)
        vma = Vma(start, end, flags, start >> shift)
    space.vmas.insert(vma)
    return vma


def _map_file(
    space: AddressSpace, start: int, end: int, flags: int, file: File, offset: int
) -> Vma:
    """Put a VMA of a file over a free range, merged with neighbours that show what is beside it.

    Arguments: `offset` in the file, bytes.
    Errors raised: VmaRefused.
    """
    proposal = Proposal(start, end, flags, offset >> space.geometry.page_shift, backing=file)
    merged = merge_new(space.kernel, space.vmas, proposal, mmap=True)
    if merged is not None:
        merged.tracked = False  # as in _map_region()
        return merged
    space.vmas.claim(None)
    vma = Vma(start, end, flags, proposal.pgoff, backing=file)
    space.vmas.insert(vma)
    return vma


def _map_map(
    space: AddressSpace, start: int, end: int, flags: int, file: BpfMap, offset: int
) -> Vma:
    """Put a VMA of a map of BPF over a free range, with all its pages if no fault finds them.

    Arguments: `offset` in the map, bytes.
    Errors raised: VmaRefused, also if it is not to be shared, or reaches beyond the map.
    Source: bpf_map_mmap(), array_map_mmap(), remap_vmalloc_range_partial(), vm_insert_page().
    """
    geometry = space.geometry
    space.vmas.claim(None)
    first = offset >> geometry.page_shift
    vma = Vma(start, end, flags, first, backing=file)
    inside = offset + end - start <= round_up(file.length, geometry.page_bytes)
    if not flags & VM_SHARED or not inside:
        _leave_gap(space, vma)
        raise VmaRefused("EINVAL")
    space.vmas.insert(vma)
    for low, high in () if file.faults_in else slots_of(space, start, end):
        index, linear = space.tree.index(low, PTE), space.page_index(vma, low)
        pages = range((high - low) >> geometry.page_shift)
        entries = [leaf(file.pages[linear + i], _INSERTED) for i in pages]
        if not flags & VM_WRITE:
            entries = [entry & ~WRITE for entry in entries]
        space.tree.put_all(space.tree.make(low, PTE), [index + i for i in pages], entries)
    return vma


def _leave_gap(space: AddressSpace, vma: Vma) -> None:
    """A VMA that has failed to be goes, and page tables that were there before, as PAE has them."""
    below, above = space.vmas.before(vma.start), space.vmas.after(vma.start)
    space.free_tables([vma], below.end if below else 0, above.start if above else 0)


def munmap(space: AddressSpace, addr: int, length: int) -> Errno | None:
    """Unmap whole pages of [addr, addr + length), bytes.  Source: do_vmi_munmap()."""
    error = unmap(space, addr, length)
    if space.uffds:
        uffd.call_ended(space, failed=False)
    return error
