"""Files: made, mapped shared and private, cut off, with holes."""

import pytest

from engine.base.entry import ANON, PFN_SHIFT, PRESENT, WRITE
from engine.base.uapi import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_DONTNEED,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_WIPEONFORK,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    Errno,
)
from engine.calls.file import FIRST_FD, bpf_map, fallocate, file, ftruncate
from engine.calls.fork import fork
from engine.calls.madvise import madvise
from engine.calls.mmap import mmap
from engine.calls.mprotect import mprotect
from engine.mremap import mremap
from engine.pages.fault import peek, touch
from engine.state.space import AddressSpace
from engine.state.vma import VM_ACCOUNT, VM_SHARED
from fuzz.rules.judge import check_state
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE as P
from tests.lib.drawn import tags, tiny, vmas
from tests.lib.entries import RW, bits, entry, frame

A, B = FIRST_FD, FIRST_FD + 1
HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


def opened(pages: int = 4, kernel: str = "linux-6.12") -> AddressSpace:
    """File A of so many pages."""
    space = AddressSpace(tiny(kernel))
    assert file(space, A, pages * P) is None
    return space


def view(
    space: AddressSpace,
    page: int,
    pages: int,
    kind: int,
    first: int = 0,
    fd: int = A,
    prot: int = RW,
) -> None:
    """Map pages of a file from its page `first` on."""
    flags = kind | MAP_FIXED
    assert mmap(space, page * P, pages * P, prot, flags, first * P, fd) == page * P


def test_mappings_of_a_file_show_the_same_pages() -> None:
    space = opened()
    view(space, 16, 4, MAP_SHARED)
    view(space, 32, 2, MAP_SHARED, first=2)
    touch(space, 16 * P, 20 * P)
    assert tags(space) == {16: 1, 17: 2, 18: 3, 19: 4, 32: 3, 33: 4}
    assert not peek(space, 32 * P, 34 * P)
    assert frame(space, 32) == frame(space, 18)
    assert check_state(space) == []


def test_a_private_mapping_shows_the_file_until_it_is_written() -> None:
    space = opened()
    view(space, 16, 4, MAP_SHARED)
    view(space, 32, 4, MAP_PRIVATE)
    touch(space, 16 * P, 18 * P)
    assert not peek(space, 32 * P, 33 * P)
    shown = entry(space, 32)
    assert shown is not None
    assert shown & (PRESENT | WRITE | ANON) == PRESENT
    assert frame(space, 32) == frame(space, 16)
    touch(space, 32 * P, 33 * P)
    assert bits(space, 32) == "PWDSX"
    touch(space, 16 * P, 18 * P)
    assert tags(space) == {16: 4, 17: 5, 32: 3, 33: 5}
    assert check_state(space) == []


def test_a_write_to_what_nobody_has_read_makes_both_pages() -> None:
    space = opened()
    view(space, 16, 1, MAP_PRIVATE)
    touch(space, 16 * P, 17 * P)
    backing = space.files[A]
    assert backing.clean == {0}
    assert space.frames.tag[backing.pages[0]] == 0
    vma = space.vmas.lookup(16 * P)
    assert vma is not None
    assert space.frames.owner[frame(space, 16)] is vma.anon_vma


def test_a_page_of_zeroes_that_was_copied_hides_what_is_written_later() -> None:
    space = opened()
    view(space, 16, 1, MAP_SHARED)
    view(space, 32, 2, MAP_PRIVATE)
    assert madvise(space, 32 * P, P, MADV_POPULATE_WRITE) is None
    touch(space, 16 * P, 17 * P)
    assert tags(space) == {16: 1}
    assert madvise(space, 32 * P, P, MADV_DONTNEED) is None
    assert tags(space) == {16: 1, 32: 1}


@pytest.mark.parametrize("write", [False, True])
def test_behind_the_end_is_a_bus_error(*, write: bool) -> None:
    space = opened(2)
    view(space, 16, 4, MAP_PRIVATE)
    faulted = (touch if write else peek)(space, 16 * P, 20 * P)
    assert faulted.bus == [(18 * P, 2)]
    assert not faulted.segv


def test_a_failed_write_has_prepared_for_the_copy() -> None:
    space = opened(0)
    view(space, 16, 1, MAP_PRIVATE)
    (vma,) = space.vmas
    assert peek(space, 16 * P, 17 * P).bus
    assert vma.anon_vma is None
    assert touch(space, 16 * P, 17 * P).bus
    assert vma.anon_vma is not None


def test_cut_off_takes_copies_too() -> None:
    space = opened()
    view(space, 16, 4, MAP_SHARED)
    view(space, 32, 4, MAP_PRIVATE)
    touch(space, 32 * P, 36 * P)
    touch(space, 16 * P, 20 * P)
    assert ftruncate(space, A, 2 * P) is None
    assert tags(space) == {16: 5, 17: 6, 32: 1, 33: 2}
    assert peek(space, 32 * P, 36 * P).bus == [(34 * P, 2)]
    assert ftruncate(space, A, 4 * P) is None
    assert not peek(space, 32 * P, 36 * P)
    assert tags(space) == {16: 5, 17: 6, 32: 1, 33: 2}
    assert check_state(space) == []


@pytest.mark.parametrize(
    ("size", "tag"), [(8, 0x1234), (9, 0x1234), (1, 0x34), (2, 0x1234), (P, 0x1234)]
)
def test_part_of_a_page_is_zeroed(size: int, tag: int) -> None:
    space = opened(1)
    view(space, 16, 1, MAP_SHARED)
    space.next_tag = 0x1234
    touch(space, 16 * P, 17 * P)
    assert ftruncate(space, A, size) is None
    assert tags(space) == {16: tag}
    assert space.files[A].size_pages == 1


def test_copies_stay_over_a_hole() -> None:
    space = opened()
    view(space, 16, 4, MAP_SHARED)
    view(space, 32, 4, MAP_PRIVATE)
    touch(space, 16 * P, 20 * P)
    touch(space, 33 * P, 34 * P)
    assert not peek(space, 32 * P, 33 * P)
    assert fallocate(space, A, HOLE, 0, 2 * P) is None
    assert tags(space) == {18: 3, 19: 4, 33: 5, 34: 3, 35: 4}
    assert entry(space, 32) is entry(space, 16) is None
    assert check_state(space) == []


def test_a_hole_within_pages_zeroes_their_parts() -> None:
    space = opened()
    view(space, 16, 4, MAP_SHARED)
    space.next_tag = 0x101
    touch(space, 16 * P, 20 * P)
    assert fallocate(space, A, HOLE, 1, 2 * P) is None
    assert tags(space) == {16: 1, 18: 0x100, 19: 0x104}
    assert fallocate(space, A, HOLE, 3 * P, 1) is None
    assert tags(space) == {16: 1, 18: 0x100, 19: 0x100}
    assert fallocate(space, A, HOLE, 3 * P + 8, 8) is None
    assert tags(space)[19] == 0x100


def test_a_hole_is_made_through_shared_mappings_only() -> None:
    space = opened()
    view(space, 16, 4, MAP_SHARED)
    view(space, 32, 4, MAP_PRIVATE)
    assert madvise(space, 32 * P, P, MADV_REMOVE) is Errno.EACCES
    assert madvise(space, 16 * P, P, MADV_REMOVE) is None
    assert madvise(space, 32 * P, P, MADV_WIPEONFORK) is Errno.EINVAL


@pytest.mark.parametrize(("mode", "pages"), [(0, 6), (FALLOC_FL_KEEP_SIZE, 4)])
def test_a_file_is_filled(mode: int, pages: int) -> None:
    space = opened()
    assert fallocate(space, A, mode, P, 5 * P) is None
    backing = space.files[A]
    assert sorted(backing.pages) == [1, 2, 3, 4, 5]
    assert not backing.clean
    assert backing.size_pages == pages
    assert ftruncate(space, A, 4 * P) is None
    assert sorted(backing.pages) == [1, 2, 3]


@pytest.mark.parametrize(
    ("fd", "mode", "offset", "length", "error"),
    [
        (B, HOLE, 0, P, Errno.EBADF),
        (A, HOLE, 0, 0, Errno.EINVAL),
        (A, HOLE, 1 << 63, P, Errno.EINVAL),
        (A, HOLE, 0, 1 << 63, Errno.EINVAL),
        (A, FALLOC_FL_PUNCH_HOLE, 0, P, Errno.EOPNOTSUPP),
        (A, HOLE, (1 << 63) - P, P, Errno.EFBIG),
    ],
)
def test_what_fallocate_refuses(fd: int, mode: int, offset: int, length: int, error: Errno) -> None:
    assert fallocate(opened(), fd, mode, offset, length) is error


def test_what_ftruncate_refuses() -> None:
    space = opened()
    assert ftruncate(space, B, P) is Errno.EBADF
    assert ftruncate(space, A, 1 << 63) is Errno.EINVAL


@pytest.mark.parametrize(
    ("fd", "flags", "offset", "error"),
    [
        (B, MAP_SHARED, 0, Errno.EBADF),
        (-1, MAP_PRIVATE, 0, Errno.EBADF),
        (A, MAP_PRIVATE, 1, Errno.EINVAL),
        (A, MAP_PRIVATE | MAP_HUGETLB, 0, Errno.EINVAL),
        (A, MAP_PRIVATE | MAP_GROWSDOWN, 0, Errno.EINVAL),
        (A, 0, 0, Errno.EINVAL),
        (A, MAP_PRIVATE, (1 << 63) - P, Errno.EOVERFLOW),
    ],
)
def test_what_mmap_refuses(fd: int, flags: int, offset: int, error: Errno) -> None:
    assert mmap(opened(), 16 * P, P, RW, flags | MAP_FIXED, offset, fd) is error


def test_the_kernel_checks_its_own_flags_of_a_file() -> None:
    space = opened()
    assert mmap(space, 16 * P, P, RW, MAP_SHARED_VALIDATE | MAP_FIXED, 0, A) == 16 * P
    (vma,) = space.vmas
    assert vma.flags & VM_SHARED


@pytest.mark.parametrize(
    ("first", "fd", "kind", "one"),
    [
        (2, A, MAP_SHARED, True),
        (1, A, MAP_SHARED, False),
        (2, B, MAP_SHARED, False),
        (2, A, MAP_PRIVATE, False),
    ],
)
def test_what_goes_on_in_the_file_is_one_mapping(first: int, fd: int, kind: int, one: bool) -> None:
    space = opened()
    file(space, B, 4 * P)
    view(space, 16, 2, MAP_SHARED)
    view(space, 18, 2, kind, first, fd)
    assert vmas(space) == ([(16, 20)] if one else [(16, 18), (18, 20)])


def test_a_private_mapping_is_charged_for_and_a_shared_one_not() -> None:
    space = opened()
    view(space, 16, 2, MAP_PRIVATE)
    view(space, 32, 2, MAP_SHARED)
    assert [bool(vma.flags & VM_ACCOUNT) for vma in space.vmas] == [True, False]
    assert space.committed == 2


def test_copies_move_and_the_file_shows_where_they_were() -> None:
    space = opened(kernel="linux-6.18")
    view(space, 16, 4, MAP_SHARED)
    view(space, 32, 4, MAP_PRIVATE)
    touch(space, 16 * P, 20 * P)
    touch(space, 32 * P, 34 * P)
    assert mremap(space, 32 * P, 4 * P, 4 * P, MOVE | MREMAP_DONTUNMAP, 48 * P) == 48 * P
    shown = {16: 1, 17: 2, 18: 3, 19: 4}
    assert tags(space) == {
        **shown,
        **{page + 16: tag for page, tag in shown.items()},
        **{48: 5, 49: 6, 50: 3, 51: 4},
    }
    assert check_state(space) == []


def test_a_private_mapping_has_no_second_view() -> None:
    space = opened()
    view(space, 16, 2, MAP_PRIVATE)
    assert mremap(space, 16 * P, 0, 2 * P, MOVE, 32 * P) is Errno.EINVAL


def test_growth_goes_on_in_the_file() -> None:
    space = opened()
    view(space, 16, 2, MAP_SHARED)
    view(space, 32, 4, MAP_SHARED)
    touch(space, 32 * P, 36 * P)
    assert mremap(space, 16 * P, 2 * P, 5 * P, 0) == 16 * P
    assert peek(space, 16 * P, 21 * P).bus == [(20 * P, 1)]
    assert tags(space)[19] == 4


def test_a_child_has_the_pages_that_its_parent_copied_beside() -> None:
    space = opened()
    view(space, 16, 2, MAP_PRIVATE)
    peek(space, 16 * P, 17 * P)
    touch(space, 17 * P, 18 * P)
    fork(space)
    assert space.held == {frame(space, 16), frame(space, 17)}


def test_a_descriptor_gets_another_file_and_the_old_one_stays_mapped() -> None:
    space = opened()
    view(space, 16, 1, MAP_SHARED)
    touch(space, 16 * P, 17 * P)
    assert file(space, A, P) is None
    view(space, 17, 1, MAP_SHARED)
    assert tags(space) == {16: 1}
    first, second = space.vmas
    assert first.backing is not second.backing
    assert repr(second.backing) == "file A"


def test_an_exec_closes_files() -> None:
    space = opened()
    space.reset()
    assert not space.files


def test_the_size_may_be_refused() -> None:
    space = AddressSpace(tiny())
    assert file(space, A, 1 << 63) is Errno.EINVAL
    assert space.files[A].size_pages == 0


def test_frames_of_a_file_are_its_own() -> None:
    space = opened()
    view(space, 16, 1, MAP_SHARED)
    touch(space, 16 * P, 17 * P)
    found = entry(space, 16)
    assert found is not None
    assert space.frames.owner[found >> PFN_SHIFT] is space.files[A]


def with_map(kernel: str = "linux-6.12", prot: int = RW) -> AddressSpace:
    """A space with a map of BPF of two pages, mapped at page 4."""
    space = AddressSpace(tiny(kernel))
    assert bpf_map(space, A, 2 * P) is None
    assert mmap(space, 4 * P, 2 * P, prot, MAP_SHARED | MAP_FIXED, 0, A) == 4 * P
    return space


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-7.3"])
def test_a_map_is_there_at_once_until_7_2(kernel: str) -> None:
    space, later = with_map(kernel), kernel == "linux-7.3"
    assert (space.tree.leaf_place(4 * P) is None) is later
    assert not touch(space, 4 * P, 6 * P)
    assert madvise(space, 4 * P, P, MADV_DONTNEED) is None
    assert (not peek(space, 4 * P, 5 * P)) is later, "what is thrown away comes back since 7.3"
    assert not peek(space, 5 * P, 6 * P)


def test_a_mapping_of_a_map_stays_as_large_as_it_is() -> None:
    space = with_map()
    assert mremap(space, 4 * P, 2 * P, 3 * P, MOVE) is Errno.EFAULT
    assert mremap(space, 4 * P, 0, P, MOVE) is Errno.EFAULT
    assert mremap(space, 4 * P, 2 * P, 2 * P, MOVE | MREMAP_DONTUNMAP, 9 * P) is Errno.EINVAL
    assert mremap(space, 5 * P, P, P, MOVE | MREMAP_FIXED, 9 * P) == 9 * P
    assert mremap(space, 9 * P, P, P, MOVE | MREMAP_FIXED, 5 * P) == 5 * P
    assert len(space.vmas) == 2, "what fits is not merged"
    check_state(space)


def test_who_maps_a_map_to_read_does_not_write() -> None:
    space = with_map(prot=1)
    assert mprotect(space, 4 * P, P, RW) is Errno.EACCES
    assert madvise(space, 4 * P, P, MADV_REMOVE) is Errno.EACCES
    assert mprotect(space, 4 * P, P, 0) is None


def test_a_map_is_no_file() -> None:
    space = with_map()
    assert bpf_map(space, B, 0) is Errno.EINVAL
    assert ftruncate(space, A, P) is Errno.EINVAL
    assert fallocate(space, A, HOLE, 0, P) is Errno.ENODEV
    assert madvise(space, 4 * P, P, MADV_REMOVE) is Errno.ENODEV
    assert mmap(space, 4 * P, P, RW, MAP_PRIVATE | MAP_FIXED, 0, A) is Errno.EINVAL
    assert len(space.vmas) == 1, "what was in its place is gone"
