"""What is behind a VMA: where pages come from that it has not mapped yet, and what it refuses.

There is always something: anonymous memory, the same for all VMAs of it, or an object, which has
pages of its own.  Whether the pages of an object are copied before they are written is for the VMA
to say (`Vma.makes_copies`).  An object of shared memory ends with its last mapping, a file has a
descriptor as well.  Files of hugetlbfs are in hugepool.py.
Source: struct vm_operations_struct, struct address_space; mm/shmem.c.
"""

import sys
from collections.abc import Iterable
from typing import ClassVar, Protocol

from engine.base.kernel import Kernel
from engine.base.uapi import UFFDIO_REGISTER_MODE_MINOR, UFFDIO_REGISTER_MODE_WP


class Mapping(Protocol):
    """As much of a VMA as what is behind it looks at."""

    start: int
    end: int
    flags: int
    pgoff: int
    reserves: bool


class Backing:
    """What is behind a VMA.

    `pages[index]` is the frame of each page that the object has (address_space->i_pages); `clean`
    are those that were never written, so that reclaim just drops them, `swapped` those that are in
    swap; `size_pages` its size, which a file may change: access beyond it is SIGBUS.
    `is_anonymous` says that there is no object (vma_is_anonymous: no vm_ops); `huge_bytes` is the
    size of its pages if it is of hugetlbfs, else 0.
    """

    __slots__ = ("clean", "number", "pages", "size_pages", "swapped")

    is_anonymous: ClassVar[bool] = False
    faults_in: bool = True  # a fault finds its pages
    faults_around: ClassVar[bool] = True  # and maps those beside it (vm_ops->map_pages)
    on_lru: ClassVar[bool] = True  # reclaim sees its pages
    may_be_part: ClassVar[bool] = True  # a VMA of it may move together with others
    huge_bytes: int = 0
    name: str = ""  # that it has in cases

    def __init__(self, number: int, size_pages: int) -> None:
        self.number = number
        self.size_pages = size_pages
        self.pages: dict[int, int] = {}
        self.clean: set[int] = set()
        self.swapped: set[int] = set()

    def may_split(self, addr: int) -> bool:
        """May a VMA of it be cut in two at `addr`, bytes?  Source: vm_ops->may_split()."""
        return True

    def close(self, vma: Mapping, pages: Iterable[int], elsewhere: Iterable[object]) -> None:
        """A VMA of it is about to be unmapped; with the last one the object goes.

        Arguments: the frames of the `pages` that the VMA maps still; the VMAs that map the object
        `elsewhere`.
        Source: vm_ops->close(), evict_inode().
        """

    def can_userfault(self, kernel: Kernel, mode: int) -> bool:
        """May userfaultfd have its faults?

        Arguments: `mode` of UFFDIO_REGISTER_MODE_*.  Source: vma_can_userfault().
        """
        return False

    def charge(self, *, promised: bool) -> int:
        """What it adds to the commit charge, pages: those it has, or all that were `promised`."""
        return 0

    @property
    def inode(self) -> object:
        """What /proc tells objects apart by."""
        return self

    def __repr__(self) -> str:
        return f"shared object {self.number}"


class Anonymous(Backing):
    """Private anonymous memory: it has no pages but those of the VMA's anon_vma, and no end."""

    __slots__ = ()

    is_anonymous = True

    def __init__(self) -> None:
        super().__init__(0, sys.maxsize)

    def can_userfault(self, kernel: Kernel, mode: int) -> bool:
        """There are no pages elsewhere that a minor fault could find."""
        return not mode & UFFDIO_REGISTER_MODE_MINOR

    def __repr__(self) -> str:
        return "anonymous memory"


class Shmem(Backing):
    """The shmem file behind a shared anonymous mapping."""

    __slots__ = ()

    def charge(self, *, promised: bool) -> int:
        """What it adds to the commit charge, pages: those it has, or all that were `promised`.

        Source: shmem_acct_blocks(), shmem_acct_size().
        """
        return self.size_pages if promised else len(self.pages.keys() | self.swapped)

    def can_userfault(self, kernel: Kernel, mode: int) -> bool:
        """It could at first only be missing."""
        if mode & UFFDIO_REGISTER_MODE_WP and not kernel.uffd_wp_objects:
            return False
        return not mode & UFFDIO_REGISTER_MODE_MINOR or kernel.uffd_minor_shared


class File(Shmem):
    """A file of shmem that a program has opened (memfd_create), and may map as often as it likes.

    `name` is that of its descriptor in cases.
    """

    __slots__ = ("name",)

    def __init__(self, number: int, size_pages: int, name: str) -> None:
        super().__init__(number, size_pages)
        self.name = name

    def charge(self, *, promised: bool) -> int:
        """To a file nothing is promised."""
        return super().charge(promised=False)

    def __repr__(self) -> str:
        return f"file {self.name}"


class BpfMap(Backing):
    """An array of BPF: memory of the kernel that a program may map, and share.

    Reclaim and migration never see its pages, and a mapping does not become longer (VM_DONTEXPAND).
    Until 7.2 who maps it is given all of them at once, and no fault brings one back: for a fault
    its size is 0.  `name` is that of its descriptor in cases, `length` its size, bytes.
    Source: kernel/bpf/syscall.c bpf_map_mmap(), kernel/bpf/arraymap.c, remap_vmalloc_range(), 6.18;
    measured on 7.2.13 and 7.3.4.
    """

    __slots__ = ("faults_in", "length", "name")

    faults_around = False
    on_lru = False
    may_be_part = False  # it has get_unmapped_area()

    def __init__(
        self, number: int, length: int, name: str, frames: range, *, faults_in: bool
    ) -> None:
        super().__init__(number, len(frames) if faults_in else 0)
        self.pages = dict(enumerate(frames))
        self.faults_in = faults_in
        self.length = length
        self.name = name

    @property
    def inode(self) -> object:
        """All maps have one (anon_inode)."""
        return BpfMap

    def __repr__(self) -> str:
        return f"map {self.name}"


ANONYMOUS = Anonymous()
