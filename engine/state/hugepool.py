"""The pool of huge pages, and the files of hugetlbfs that take theirs from it (mm/hugetlb.c)."""

from collections.abc import Container, Iterable

from engine.base.kernel import Kernel
from engine.base.uapi import UFFDIO_REGISTER_MODE_WP
from engine.state.backing import Backing, Mapping
from engine.state.vma import VM_SHARED, Vma

POOL_PAGES = 32  # vm.nr_hugepages; there are no surplus pages


class HugePool:
    """Counters in huge pages: `free` are those that no file has, `reserved` of them promised.

    Private pages, by first frame, and files that children of a fork map as well are `lent`, and
    `files`.  `orphans` are the pages that only children map: free when they exit, and, if so it
    says, promised again.  `late` are those that files had, or were promised, which have gone in
    this mmap: nobody else can be promised them before it ends (fput() leaves that to task_work).
    """

    __slots__ = ("files", "free", "kernel", "late", "lent", "orphans", "reserved")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.free = POOL_PAGES
        self.reserved = 0
        self.late = 0
        self.lent: set[int] = set()
        self.orphans: dict[int, bool] = {}
        self.files: set[HugeFile] = set()

    def reserve(self, pages: int) -> bool:
        """Promise `pages` pages.  Returns: False if there are not as many left.

        Source: gather_surplus_pages(), allowed_mems_nr(): children may have more than is promised.
        """
        if pages > min(self.free, self.free - self.reserved - self.late):
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

    def reserves_again(self, pfn: int) -> bool:
        """Is the private page at `pfn` promised again when its owner does not map it any more?

        Source: __unmap_hugepage_range(); since 7.2 only if nobody maps it then.
        """
        return self.kernel.hugetlb_dontneed_reserves and (
            pfn not in self.lent or self.kernel.hugetlb_reserves_mapped
        )

    def put(self, pfn: int, *, promised: bool) -> None:
        """A private page is unmapped: it is free, and promised again, when no child maps it."""
        if pfn in self.lent:
            self.orphans[pfn] = promised
        else:
            self.free += 1
            self.reserved += promised

    def left_to_children(self, mapped: Container[Backing]) -> tuple[int, int]:
        """What comes back when all children exit: free pages, and how many more are promised.

        Arguments: `mapped` the files that live on.
        """
        files = [file for file in self.files if file not in mapped]
        free = len(self.orphans) + sum(len(file.faulted) for file in files)
        return free, sum(self.orphans.values()) - sum(file.promised for file in files)

    def end_children(self, mapped: Container[Backing]) -> None:
        """All children exit; the files that are `mapped` live on."""
        free, promised = self.left_to_children(mapped)
        self.free += free
        self.reserved += promised
        self.lent.clear()
        self.orphans.clear()
        self.files.clear()


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

    def close(self, vma: Mapping, pages: Iterable[int], elsewhere: Iterable[object]) -> None:
        """What was promised comes back, and pages do: private ones now, others with the file.

        A private page that is promised again is so no more when its VMA is gone.
        Source: hugetlb_vm_op_close(), hugetlbfs_evict_inode().
        """
        if not vma.flags & VM_SHARED:
            self.pool.reserved -= self.promised_to(vma)
            for pfn in pages:
                promised = vma.reserves and self.pool.reserves_again(pfn)
                self.pool.put(pfn, promised=promised)
                self.pool.reserved -= promised
        elif self not in self.pool.files and not any(True for _ in elsewhere):
            self.pool.reserved -= self.promised
            self.pool.free += len(self.faulted)
            self.pool.late += self.promised + len(self.faulted)
            self.reserved = False
            self.faulted.clear()

    def can_userfault(self, kernel: Kernel, mode: int) -> bool:
        """It could not be write-protected at first."""
        return not mode & UFFDIO_REGISTER_MODE_WP or kernel.uffd_wp_objects


def file_of(vma: Vma) -> HugeFile:
    """The file of a mapping of huge pages."""
    assert isinstance(vma.backing, HugeFile)
    return vma.backing
