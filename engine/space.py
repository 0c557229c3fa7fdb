"""An address space: the VMAs, the page tables under them, and the counters that describe both."""

import enum
from collections.abc import Iterator

from engine.address import Range
from engine.entry import ANON, HUGE, PFN_SHIFT, PRESENT, is_zero_page
from engine.frames import Frames
from engine.geometry import PMD, PTE
from engine.kernel import Kernel
from engine.observer import Observer
from engine.table import Table, TableTree
from engine.violation import Violation
from engine.vma import VM_ACCOUNT, VM_LOCKED, AnonVma, SharedObject, Vma, VmaTree

MAX_MAP_COUNT = 65530  # vm.max_map_count
STACK_LIMIT_BYTES = 8 << 20  # RLIMIT_STACK


class Errno(enum.Enum):
    """What a call returns when the kernel refuses it."""

    EBADF = "EBADF"
    EEXIST = "EEXIST"
    EFAULT = "EFAULT"
    EINVAL = "EINVAL"
    ENOMEM = "ENOMEM"
    EPERM = "EPERM"

    def __str__(self) -> str:
        return f"-{self.value}"


class AddressSpace:
    """One process's memory on one kernel.

    `rss_anon`, `rss_shmem` count mapped pages as the kernel's counters do, `total_vm`, `locked_vm`
    and `committed` the pages of VMAs: all, locked, charged (Committed_AS).  `next_tag` is the
    content the next touched page gets; `commit_limit_bytes` the largest request that is granted
    accountable memory (overcommit_memory 0: RAM and swap; None: 1, no limit).  Rules that find
    something wrong report it here.
    """

    def __init__(self, kernel: Kernel, observer: Observer | None = None) -> None:
        self.kernel = kernel
        self.geometry = kernel.geometry
        self.arena = kernel.geometry.arena
        self.observer = observer
        self.frames = Frames()
        self.violations: list[Violation] = []
        self.next_tag = 1
        self.max_map_count = MAX_MAP_COUNT
        self.commit_limit_bytes: int | None = None
        self._anon_vmas = 0
        self._objects = 0
        self.reset()

    def reset(self) -> None:
        """Start over with nothing mapped, as execve does; frames and tags go on counting."""
        self.vmas = VmaTree(self.geometry.page_shift)
        self.vmas.on_boundary = self.split_huge_at
        self.tree = TableTree(self.geometry)
        self.rss_anon = 0
        self.rss_shmem = 0
        self.total_vm = 0
        self.locked_vm = 0
        self.committed = 0

    def report(self, violation: Violation) -> None:
        """Note a rule that did not hold, and go on: the kernel's WARN_ON goes on, too."""
        self.violations.append(violation)

    def may_commit(self, length: int, flags: int) -> bool:
        """Is a request of `length` bytes for a mapping with these VM_ flags granted?

        Source: __vm_enough_memory() with overcommit_memory 0, which looks at one request only.
        """
        limit = self.commit_limit_bytes
        return limit is None or not flags & VM_ACCOUNT or length <= limit

    def new_anon_vma(self) -> AnonVma:
        """A fresh anon_vma."""
        self._anon_vmas += 1
        return AnonVma(self._anon_vmas)

    def new_object(self, size_pages: int) -> SharedObject:
        """A fresh, empty shared object."""
        self._objects += 1
        return SharedObject(self._objects, size_pages)

    def page_index(self, vma: Vma, addr: int) -> int:
        """Linear page index of `addr` in `vma`, pages (linear_page_index)."""
        return vma.pgoff + ((addr - vma.start) >> self.geometry.page_shift)

    def count_entry(self, entry: int, sign: int) -> None:
        """Account one leaf that appears (+1) or goes (-1)."""
        if entry & HUGE:
            sign *= self.geometry.index_mask[PTE] + 1
        if entry & ANON:
            self.rss_anon += sign
        elif entry & PRESENT and entry >> PFN_SHIFT:
            self.rss_shmem += sign

    def zap(self, start: int, end: int, keep: int = 0) -> None:
        """Remove every leaf in [start, end), except entries with one of the flags `keep`.

        Tables stay.  A huge page that lies only partly in the range is split.
        Source: mm/memory.c unmap_page_range().
        """
        for base, table, indices in self.tree.lowest(start, end):
            if table.level != PTE:
                self._zap_huge(base, table, indices[0], start, end)
                continue
            entries = table.entries
            for index in indices:
                if not keep or not entries[index] & keep:  # type: ignore[operator]
                    self.count_entry(entries.pop(index), -1)  # type: ignore[arg-type]

    def _zap_huge(self, base: int, table: Table, index: int, start: int, end: int) -> None:
        slot = self.geometry.slot_bytes
        first = base + index * slot
        if start <= first and first + slot <= end:
            self.count_entry(self.tree.clear_huge(table, index), -1)
        else:
            self.split_huge(table, index)
            self.zap(max(start, first), min(end, first + slot))

    def split_huge(self, table: Table, index: int) -> None:
        """Split the huge page at `index` of a PMD table into its pages.

        One of a shared object just disappears: its pages come back at the next access.
        """
        entry = table.entries[index]
        if self.tree.split_huge(table, index) is None:
            self.count_entry(entry, -1)  # type: ignore[arg-type]

    def split_huge_at(self, addr: int) -> None:
        """Split the huge page around `addr`, if there is one and it does not begin there."""
        if self.tree.huge and addr & (self.geometry.slot_bytes - 1):
            table = self.tree.find(addr, PMD)
            index = self.tree.index(addr, PMD)
            if table is not None and table.entries.get(index).__class__ is int:
                self.split_huge(table, index)

    def account(self, flags: int, length: int) -> None:
        """Count `length` bytes (negative: less) of memory mapped with these VM_ flags."""
        pages = length >> self.geometry.page_shift
        self.total_vm += pages
        if flags & VM_LOCKED:
            self.locked_vm += pages
        if flags & VM_ACCOUNT:
            self.committed += pages

    def unmap(self, start: int, end: int, *, keep_commit: bool = False) -> None:
        """Take [start, end) out of the address space: VMAs, pages, and tables nobody needs.

        Splits at both ends.  `keep_commit`: the charge stays, it belongs to a copy now.
        Precondition: the split limit was checked.
        Source: do_vmi_munmap(), unmap_region(), free_pgtables().
        """
        removed = self.detach(start, end)
        if not removed:
            return
        for vma in removed:
            self.account(vma.flags & ~(VM_ACCOUNT if keep_commit else 0), vma.start - vma.end)
            self.zap(vma.start, vma.end)
        below = self.vmas.before(start)
        above = self.vmas.after(start)
        self.free_tables(
            [vma.range for vma in removed], below.end if below else 0, above.start if above else 0
        )

    def split_at(self, addr: int) -> None:
        """Make `addr` a VMA boundary if a VMA lies around it."""
        vma = self.vmas.lookup(addr)
        if vma is not None and vma.start < addr:
            self.vmas.split(vma, addr)

    def detach(self, start: int, end: int) -> list[Vma]:
        """Split at both ends and take the VMAs of [start, end) out of the tree."""
        removed = self.vmas.intersecting(start, end)
        if not removed:
            return removed
        if removed[0].start < start:
            removed[0] = self.vmas.split(removed[0], start)
        if end < removed[-1].end:
            self.vmas.split(removed[-1], end)
        for vma in removed:
            self.vmas.remove(vma)
        return removed

    def free_tables(self, removed: list[Range], floor: int, ceiling: int) -> None:
        """Free the tables under removed VMAs.

        Arguments: `removed` in address order; `floor`, `ceiling` the surviving neighbours, bytes.
        Source: mm/memory.c free_pgtables(): VMAs at most one slot apart are freed as one group.
        """
        slot = self.geometry.slot_bytes
        first = 0
        while first < len(removed):
            last = first
            while last + 1 < len(removed) and removed[last + 1].start <= removed[last].end + slot:
                last += 1
            limit = removed[last + 1].start if last + 1 < len(removed) else ceiling
            self.free_table_range(removed[first].start, removed[last].end, floor, limit)
            first = last + 1

    def free_table_range(self, start: int, end: int, floor: int, ceiling: int) -> None:
        """Free tables over [start, end); one that still maps pages is a violation."""
        for base, table in self.tree.free_range(start, end, floor, ceiling):
            self.report(
                Violation(
                    "pages-kept",
                    Range(base, base + self.geometry.span_bytes[table.level]),
                    f"a table freed with {len(table.entries)} entries",
                    "an empty table",
                )
            )

    def map_count_exceeded(self, more: int) -> bool:
        """True if `more` further VMAs would pass vm.max_map_count."""
        return len(self.vmas) + more > self.max_map_count

    def contents(self) -> dict[int, int]:
        """Tag of every page that holds one: page number in the arena -> tag.

        Private pages where they are mapped; pages of a shared object at every mapping of it.
        """
        shift, base = self.geometry.page_shift, self.arena.start
        tags = self.frames.tag
        found: dict[int, int] = {}
        for table_base, table in self.tree.leaf_tables():
            first = (table_base - base) >> shift
            if table.level != PTE:
                self._huge_contents(found, first, table)
                continue
            for index, entry in table.entries.items():
                tag = tags[entry >> PFN_SHIFT]  # type: ignore[operator]
                if tag:
                    found[first + index] = tag
        for vma in self.vmas:
            if vma.file is not None:
                first = (vma.start - base) >> shift
                pages = (vma.end - vma.start) >> shift
                for index, pfn in vma.file.pages.items():
                    if 0 <= index - vma.pgoff < pages and tags[pfn]:
                        found[first + index - vma.pgoff] = tags[pfn]
        return found

    def _huge_contents(self, found: dict[int, int], first: int, table: Table) -> None:
        """Add the tags under the huge leaves of a PMD table that begins at page `first`."""
        pages = self.geometry.index_mask[PTE] + 1
        for index, entry in table.entries.items():
            if isinstance(entry, int) and not is_zero_page(entry):
                pfn, page = entry >> PFN_SHIFT, first + index * pages
                tags = self.frames.tag[pfn : pfn + pages]
                found.update((page + i, tag) for i, tag in enumerate(tags) if tag)

    def mapped(self) -> Iterator[Range]:
        """The mapped ranges as arena offsets, bytes, in address order."""
        base = self.arena.start
        return (Range(vma.start - base, vma.end - base) for vma in self.vmas)
