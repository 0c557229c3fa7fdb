"""The pool of huge pages, and the files of hugetlbfs that take theirs from it (mm/hugetlb.c)."""

from engine.state.vma import VM_SHARED, SharedObject, Vma

POOL_PAGES = 32  # vm.nr_hugepages; there are no surplus pages


class HugeFile(SharedObject):
    """The file behind a mapping of huge pages.

    `huge_page` is the size of a huge page in pages.  `faulted` are those, by number, that were ever
    faulted in, by who had reservations in private memory; `reserved` says whether a shared file has
    reservations for the others.  A private mapping has its own (`Vma.reserves`).
    """

    __slots__ = ("faulted", "huge_page", "reserved")

    def __init__(self, number: int, size_pages: int, huge_page: int, page_bytes: int) -> None:
        super().__init__(number, size_pages, huge_page * page_bytes)
        self.huge_page = huge_page
        self.faulted: set[int] = set()
        self.reserved = False


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

    def close(self, vma: Vma, mapped: int, *, last: bool) -> None:
        """A mapping goes, with its reservations; private pages go back to the pool at once.

        Arguments: `mapped` how many huge pages it maps; `last` if nothing else maps its file, so
        that a shared file goes, too.
        """
        file = file_of(vma)
        if not vma.flags & VM_SHARED:
            self.reserved -= reservations(vma)
            self.free += mapped
        elif last:
            self.reserved -= file_reservations(file)
            self.free += len(file.faulted)


def file_of(vma: Vma) -> HugeFile:
    """The file of a mapping of huge pages."""
    assert isinstance(vma.file, HugeFile)
    return vma.file


def huge_pages(vma: Vma) -> int:
    """How many huge pages a mapping covers."""
    return (vma.end - vma.start) // file_of(vma).huge_bytes


def reservations(vma: Vma) -> int:
    """How many reservations a private mapping owns: for those of its pages never faulted in.

    Source: hugetlb_vm_op_close(), region_count().
    """
    if not vma.reserves:
        return 0
    file, pages = file_of(vma), huge_pages(vma)
    first = vma.pgoff // file.huge_page
    return pages - sum(first <= number < first + pages for number in file.faulted)


def file_reservations(file: HugeFile) -> int:
    """How many reservations a shared file has: for those of its pages that it does not have."""
    return file.size_pages // file.huge_page - len(file.faulted) if file.reserved else 0
