"""The pool of huge pages, and the files of hugetlbfs that take theirs from it (mm/hugetlb.c)."""

from collections.abc import Iterable

from engine.base.kernel import Kernel
from engine.base.uapi import UFFDIO_REGISTER_MODE_WP
from engine.state.backing import Backing, Mapping
from engine.state.vma import VM_SHARED, Vma

POOL_PAGES = 32  # vm.nr_hugepages; there are no surplus pages


class HugePool:
    """Counters in huge pages: `free` are those that no file has, `reserved` of them promised."""

    __slots__ = ("free", "reserved")

    def __init__(self) -> None:
        self.free = POOL_PAGES
        self.reserved = 0

    def reserve(self, pages: int) -> bool:
        """Promise `pages` pages.  Returns: False if there are not as many left."""
        if pages > self.free - self.reserved:
            return False
        self.reserved += pages
        return True

    def take(self, *, promised: bool) -> bool:
        """Take a page out, one that was promised or any other.  Returns: False if there is none."""
        if promised:
            self.reserved -= 1
        elif self.free <= self.reserved:
            return False
        self.free -= 1
        return True


class HugeFile(Backing):
    """The file behind a mapping of huge pages, which come from `pool`.

    `huge_page` is the size of a huge page in pages.  `faulted` are those, by number, that were ever
    faulted in, by who had reservations in private memory; `reserved` says whether a shared file has
    reservations for the others, but for those that were `punched` out of it.  A private mapping has
    its own (`Vma.reserves`).
    """

    __slots__ = ("faulted", "huge_bytes", "huge_page", "pool", "punched", "reserved")

    def __init__(
        self, number: int, size_pages: int, huge_page: int, page_bytes: int, pool: HugePool
    ) -> None:
        super().__init__(number, size_pages)
        self.huge_page = huge_page
        self.huge_bytes = huge_page * page_bytes
        self.pool = pool
        self.faulted: set[int] = set()
        self.punched: set[int] = set()
        self.reserved = False

    def huge_pages(self, vma: Mapping) -> int:
        """How many huge pages a mapping covers."""
        return (vma.end - vma.start) // self.huge_bytes

    def promised_to(self, vma: Mapping) -> int:
        """How many reservations a private mapping owns: for those of its pages never faulted in.

        Source: hugetlb_vm_op_close(), region_count().
        """
        if not vma.reserves:
            return 0
        first, pages = vma.pgoff // self.huge_page, self.huge_pages(vma)
        return pages - sum(first <= number < first + pages for number in self.faulted)

    @property
    def promised(self) -> int:
        """How many reservations a shared file has: for those of its pages that it never had."""
        pages = self.size_pages // self.huge_page
        return pages - len(self.faulted | self.punched) if self.reserved else 0

    def punch(self, number: int) -> None:
        """A page leaves a shared file; nothing is promised in its place.

        Source: hugetlb_unreserve_pages(), of remove_inode_hugepages().
        """
        first = number * self.huge_page
        for index in range(first, first + self.huge_page):
            del self.pages[index]
        self.faulted.remove(number)
        self.punched.add(number)
        self.pool.free += 1

    def may_split(self, addr: int) -> bool:
        """Only between huge pages.  Source: hugetlb_vm_op_split()."""
        return not addr % self.huge_bytes

    def close(self, vma: Mapping, pages: Iterable[object], elsewhere: Iterable[object]) -> None:
        """What was promised comes back, and pages do: private ones now, others with the file.

        Source: hugetlb_vm_op_close(), hugetlbfs_evict_inode().
        """
        if not vma.flags & VM_SHARED:
            self.pool.reserved -= self.promised_to(vma)
            self.pool.free += sum(1 for _ in pages)
        elif not any(True for _ in elsewhere):
            self.pool.reserved -= self.promised
            self.pool.free += len(self.faulted)
            self.reserved = False
            self.faulted.clear()

    def can_userfault(self, kernel: Kernel, mode: int) -> bool:
        """It could not be write-protected at first."""
        return not mode & UFFDIO_REGISTER_MODE_WP or kernel.uffd_wp_objects


def file_of(vma: Vma) -> HugeFile:
    """The file of a mapping of huge pages."""
    assert isinstance(vma.backing, HugeFile)
    return vma.backing
