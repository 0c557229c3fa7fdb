"""An address space: the VMAs, the page tables under them, and the counters that describe both."""

import weakref
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Protocol

from engine.base.address import Range
from engine.base.entry import (
    ANON,
    DIRTY,
    MARKER,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    SWAP,
    UFFD_WP,
)
from engine.base.failures import COMMIT, MAPS, Failures, VmaRefused
from engine.base.geometry import PMD, PTE
from engine.base.kernel import Kernel
from engine.base.limits import Limits
from engine.base.points import FREE_PGTABLES, MMAP_WRITE, UNMAP_VMAS, Point
from engine.base.violation import Violation
from engine.state import terms
from engine.state.backing import BpfMap, File, Shmem
from engine.state.frames import Frames
from engine.state.hugepool import HugePool
from engine.state.table import Table, TableTree
from engine.state.tlb import Tlb
from engine.state.vma import (
    VM_ACCOUNT,
    VM_LOCKED,
    VM_SHARED,
    VM_UFFD_WP,
    AnonVma,
    UffdContext,
    UffdEvent,
    Vma,
    VmaTree,
)

STACK_LIMIT_BYTES = 8 << 20  # RLIMIT_STACK


def _written(entries: list[int]) -> list[int]:
    return [entry | SOFT_DIRTY for entry in entries]


class Listener(Protocol):
    """Anything that can be called with points."""

    @property
    def hears(self) -> Collection[str]:
        """The names of the points that it wants to hear of."""

    def __call__(self, space: "AddressSpace", point: Point, /) -> None:
        """Take note of a point."""


class AddressSpace:
    """One process's memory on one kernel.

    `total_vm`, `locked_vm` and `committed` count the pages of VMAs: all, locked, charged
    (Committed_AS), `hiwater_vm` the most that `total_vm` was before it went down (VmPeak is the
    larger of the two).  `next_tag` is the content the next touched page gets.  `held` are the
    frames that children map, too, `migrating` the folios under migration (first frame -> pages),
    `uffds` the userfaultfds by their features, `uffd_events` what they were told so far, `files`
    the open ones by their descriptor, and maps of BPF; `endless`: there was a call that the kernel
    does not return from.  `limits`
    and `failures` may refuse what a call asks for; `has_swap`: pages can go to a swap device.
    `listeners` are called at points, by name (`listen`).  Rules that find something wrong report it
    here.  `write_locked` are VMAs that a fault under their own lock waits for, until the mmap lock
    is dropped; `acting` says that what happens is done by somebody else, in the middle of a call,
    `walking` that one of these walks the reverse map and has stopped before the lock of a table.
    """

    def __init__(self, kernel: Kernel, listeners: Iterable[Listener] = ()) -> None:
        self.kernel = kernel
        self.geometry = kernel.geometry
        self.arena = kernel.geometry.arena
        self.listeners: dict[str, list[Listener]] = {}
        for listener in listeners:
            self.listen(listener)
        self.frames = Frames()
        self.violations: list[Violation] = []
        self.next_tag = 1
        self.limits = Limits()
        self.has_swap = False
        self.failures = Failures()
        self.write_locked: list[Vma] = []
        self.acting = self.walking = False
        self._anon_vmas = 0
        self._objects = 0
        self.reset()

    def reset(self) -> None:
        """Start over with nothing mapped, as execve does; frames and tags go on counting."""
        self.vmas = VmaTree(self.geometry.page_shift, self.failures, self.limits)
        self.tlb = Tlb()
        # A circle of references would keep what a program leaves until the collector comes.
        this = weakref.proxy(self)
        self.vmas.on_boundary = partial(AddressSpace.split_huge_at, this)
        self.vmas.report = partial(AddressSpace.report, this)
        self.tree = TableTree(self.geometry, self.failures)
        self.pool = HugePool(self.kernel)
        self.held: set[int] = set()
        self.migrating: dict[int, int] = {}
        self.uffds: dict[int, UffdContext] = {}
        self.uffd_events: list[UffdEvent] = []
        self.files: dict[int, File | BpfMap] = {}
        self.endless = False
        self.total_vm = 0
        self.hiwater_vm = 0
        self.locked_vm = 0
        self.committed = 0

    @property
    def max_map_count(self) -> int:
        """How many VMAs there may be (vm.max_map_count)."""
        return self.limits.map_count

    @max_map_count.setter
    def max_map_count(self, count: int) -> None:
        self.limits.map_count = count

    def flush_tlb(self, start: int, end: int) -> None:
        """Make every CPU forget its translations of [start, end), bytes."""
        if self.tlb.cached:
            self.tlb.flush_pending()
            self.tlb.flush(start, end)

    def report(self, violation: Violation) -> None:
        """Note a rule that did not hold, and go on: the kernel's WARN_ON goes on, too."""
        self.violations.append(violation)

    def listen(self, listener: Listener) -> None:
        """Call `listener` at the points that it hears, after those that listen already."""
        for name in listener.hears:
            self.listeners.setdefault(name, []).append(listener)

    def announce(self, name: str, start: int, end: int, held: int) -> None:
        """Tell who listens to the point, if anybody does.  Arguments: as of a `Point`."""
        if hearing := self.listeners.get(name):
            point = Point(name, start, end, held)
            for listener in hearing:
                listener(self, point)

    def may_commit(self, length: int, flags: int) -> bool:
        """Is a request of `length` bytes for a mapping with these VM_ flags granted?

        Source: __vm_enough_memory(); overcommit_memory 0 looks at one request only, 2 at them all.
        """
        if not flags & VM_ACCOUNT or not length:
            return True
        if self.failures.armed and self.failures.fails(COMMIT):
            return False
        request, commit = self.limits.request, self.limits.commit
        return (request is None or length <= request) and (
            commit is None or (self.committed << self.geometry.page_shift) + length <= commit
        )

    def may_expand(self, length: int, replaced: int = 0) -> bool:
        """May `length` bytes be mapped, where `replaced` bytes go?  Source: may_expand_vm()."""
        limit = self.limits.address_space
        in_use = self.total_vm << self.geometry.page_shift
        return limit is None or in_use + length - replaced <= limit

    def growth_granted(self, flags: int) -> int | None:
        """How many bytes a mapping with these VM_ flags may grow by; None: any number.

        Source: acct_stack_growth().
        """
        limits, shift = self.limits, self.geometry.page_shift
        left = [
            limit - (in_use << shift)
            for limit, in_use, counts in (
                (limits.address_space, self.total_vm, True),
                (limits.locked, self.locked_vm, flags & VM_LOCKED),
                (limits.commit, self.committed, flags & VM_ACCOUNT),
                (limits.request, 0, flags & VM_ACCOUNT),
            )
            if limit is not None and counts
        ]
        return max(min(left), 0) if left else None

    def may_lock(self, length: int) -> bool:
        """May `length` more bytes be locked?  Source: mlock_future_ok()."""
        limit = self.limits.locked
        return limit is None or (self.locked_vm << self.geometry.page_shift) + length <= limit

    def new_anon_vma(self) -> AnonVma:
        """A fresh anon_vma."""
        self._anon_vmas += 1
        return AnonVma(self._anon_vmas)

    def new_shmem(self, size_pages: int) -> Shmem:
        """A fresh, empty object of shared memory."""
        return Shmem(self.new_number(), size_pages)

    def new_number(self) -> int:
        """The number of a fresh object."""
        self._objects += 1
        return self._objects

    def page_index(self, vma: Vma, addr: int) -> int:
        """Linear page index of `addr` in `vma`, pages (linear_page_index)."""
        return vma.pgoff + ((addr - vma.start) >> self.geometry.page_shift)

    def zap(self, start: int, end: int, keep: int = 0) -> None:
        """Remove every leaf in [start, end), except entries with one of the flags `keep`.

        Precondition: with `keep` the range lies in one VMA.
        Tables stay.  A huge page that lies only partly in the range is split.
        Source: mm/memory.c unmap_page_range().
        """
        vma = self.vmas.lookup(start) if self.uffds else None
        for base, table, indices in self.tree.lowest(start, end):
            if table.level != PTE:
                self._zap_huge(base, table, indices[0], start, end)
                continue
            if keep:
                indices = [i for i in indices if not table.leaves[i] & keep]
                self.unmap_pages(vma, table, indices)
            else:
                self.tree.take_all(table, indices)
        self.flush_tlb(start, end)

    def unmap_pages(self, vma: Vma | None, table: Table, indices: list[int]) -> None:
        """Take pages of a VMA out of a PTE table, not their mapping: they may come back there.

        A page that userfaultfd write-protects leaves a mark in its place where there is an object.
        Source: pte_install_uffd_wp_if_needed().
        """
        marked = []
        if vma is not None and vma.flags & VM_UFFD_WP and not vma.is_anonymous:
            marked = [i for i in indices if table.leaves[i] & UFFD_WP]
        self.tree.take_all(table, indices)
        self.tree.put_all(table, marked, [MARKER | UFFD_WP] * len(marked))

    def _zap_huge(self, base: int, table: Table, index: int, start: int, end: int) -> None:
        slot = self.geometry.slot_bytes
        first = base + index * slot
        if start <= first and first + slot <= end:
            self.tree.clear_huge(table, index)
        else:
            self.split_huge(table, index)  # mark: zap-splits-huge
            self.zap(max(start, first), min(end, first + slot))

    def split_huge(self, table: Table, index: int, *, freeze: bool = False) -> None:
        """Split the huge page at `index` of a PMD table into its pages.

        One of a shared object just disappears: its pages come back at the next access.
        A private one that was written makes its folio dirty, and its entries, which on x86 makes
        them soft-dirty.  Arguments: `freeze`: not these, as the folio is split, too, and they are
        under migration meanwhile.
        Source: mm/huge_memory.c __split_huge_pmd_locked(), pte_mkdirty().
        """
        entry = table.leaves[index]
        ptes = self.tree.split_huge(table, index)
        if ptes is None:
            # mark: split-drops-shared
            self.tlb.flush_frames(entry >> PFN_SHIFT, self.geometry.slot_pages)
        elif entry & DIRTY:
            self.frames.dirty.add(entry >> PFN_SHIFT)
            cleared = entry & (PRESENT | SOFT_DIRTY) == PRESENT
            if cleared and not freeze and self.kernel.split_soft_dirty:
                self.tree.change(ptes, list(ptes.leaves), _written)  # mark: split-soft-dirties

    def split_huge_at(self, addr: int) -> None:
        """Split the huge page around `addr`, if there is one and it does not begin there."""
        if self.tree.huge and addr & (self.geometry.slot_bytes - 1):
            self.split_huge_leaf(addr)

    def split_huge_leaf(self, addr: int) -> None:
        """Split the huge page that covers `addr`, if there is one."""
        if self.tree.huge:
            table = self.tree.find(addr, PMD)
            index = self.tree.index(addr, PMD)
            if table is not None and index in table.leaves:
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
        Precondition: the split limit was checked.  Errors raised: VmaRefused.
        Source: do_vmi_munmap(), unmap_region(), free_pgtables().
        """
        removed = self.detach(start, end)
        if not removed:
            return
        self.hiwater_vm = max(self.hiwater_vm, self.total_vm)
        self.tell_unmapped(removed, start, end)
        self.announce(UNMAP_VMAS, start, end, MMAP_WRITE)
        for vma in removed:
            self.account(vma.flags & ~(VM_ACCOUNT if keep_commit else 0), vma.start - vma.end)
            if not (backing := vma.backing).is_anonymous:
                leaves = self.tree.leaves(vma.start, vma.end)
                pages = (entry >> PFN_SHIFT for _, _, entry in leaves if entry & PRESENT)
                backing.close(vma, pages, elsewhere=self.vmas.mapping(backing))
            self.zap(vma.start, vma.end)
        below = self.vmas.before(start)
        above = self.vmas.after(start)
        self.free_tables(removed, below.end if below else 0, above.start if above else 0)

    def tell_unmapped(self, vmas: Iterable[Vma], start: int, end: int) -> None:
        """Tell the userfaultfds of some VMAs, once each, that [start, end) is unmapped."""
        if self.uffds:
            for context in dict.fromkeys(vma.uffd for vma in vmas if vma.uffd):
                context.unmap(Range(start, end))

    def split_at(self, addr: int) -> None:
        """Make `addr` a VMA boundary if a VMA lies around it."""
        vma = self.vmas.lookup(addr)
        if vma is not None and vma.start < addr:
            self.vmas.split(vma, addr)

    def split_end(self, removed: list[Vma], start: int, end: int) -> None:
        """Make the end of [start, end) a boundary of the last of the VMAs to be removed.

        Since 6.12 the monitors of those before it are told even if that fails: one VMA is gathered
        after the other.
        Errors raised: VmaRefused.  Source: vms_gather_munmap_vmas().
        """
        if end < removed[-1].end:
            try:
                self.vmas.split(removed[-1], end)
            except VmaRefused:
                if self.kernel.merge_new_range:
                    self.tell_unmapped(removed[:-1], start, end)
                raise  # mark: unmap-end-refused

    def detach(self, start: int, end: int) -> list[Vma]:
        """Split at both ends and take the VMAs of [start, end) out of the tree.

        Errors raised: VmaRefused; boundaries may have come about, but nothing is gone.
        """
        removed = self.vmas.intersecting(start, end)
        if not removed:
            return removed
        if removed[0].start < start:
            removed[0] = self.vmas.split(removed[0], start)
        self.split_end(removed, start, end)
        for vma in removed:
            self.vmas.remove(vma)
        return removed

    def free_tables(self, removed: list[Vma], floor: int, ceiling: int) -> None:
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
        self.announce(FREE_PGTABLES, start, end, MMAP_WRITE)
        for base, table in self.tree.free_range(start, end, floor, ceiling):
            self.report(
                Violation(
                    "pages-kept",
                    Range(base, base + self.geometry.span_bytes[table.level]),
                    f"{terms.table(table.level, table.count)}, which is freed",
                    "an empty table",
                )
            )

    def map_count_exceeded(self, more: int) -> bool:
        """True if `more` further VMAs would pass vm.max_map_count."""
        if self.failures.armed and self.failures.fails(MAPS):
            return True
        return len(self.vmas) + more > self.limits.map_count

    def contents(self) -> dict[int, int]:
        """Tag of every page that holds one: page number in the arena -> tag.

        Private pages where they are mapped; pages of an object at every mapping that has no copy.
        """
        shift, base = self.geometry.page_shift, self.arena.start
        tags = self.frames.tag
        found: dict[int, int] = {}
        for table_base, table in self.tree.leaf_tables():
            first = (table_base - base) >> shift
            if table.level != PTE:
                self._huge_contents(found, first, table)
                continue
            for index, entry in table.leaves.items():
                tag = tags[entry >> PFN_SHIFT]
                if tag:
                    found[first + index] = tag
        for vma in self.vmas:
            if vma.backing.faults_in and (vma.flags & VM_SHARED or vma.copies_object):
                first = (vma.start - base) >> shift
                pages = (vma.end - vma.start) >> shift
                low, high, ahead = vma.pgoff, vma.pgoff + pages, first - vma.pgoff
                shown = {
                    ahead + index: tag
                    for index, pfn in vma.backing.pages.items()
                    if low <= index < high and (tag := tags[pfn])
                }
                if vma.copies_object:
                    shown = {page: tag for page, tag in shown.items() if not self._has_copy(page)}
                found |= shown
        return found

    def _has_copy(self, page: int) -> bool:
        """Is a private page of its own, or a page of zeroes, at page number `page` of the arena?"""
        place = self.tree.leaf_place(self.arena.start + (page << self.geometry.page_shift))
        if place is None:
            return False
        entry = place[0].leaves[place[1]]
        return not entry & MARKER and (entry & (ANON | SWAP) != 0 or not entry >> PFN_SHIFT)

    def _huge_contents(self, found: dict[int, int], first: int, table: Table) -> None:
        """Add the tags under the huge leaves of a PMD table that begins at page `first`."""
        pages = self.geometry.slot_pages
        for index, entry in table.leaves.items():
            if entry >> PFN_SHIFT:
                pfn, page = entry >> PFN_SHIFT, first + index * pages
                tags = self.frames.tag[pfn : pfn + pages]
                found |= {page + i: tag for i, tag in enumerate(tags) if tag}

    def mapped(self) -> Iterator[Range]:
        """The mapped ranges as arena offsets, bytes, in address order."""
        base = self.arena.start
        return (Range(vma.start - base, vma.end - base) for vma in self.vmas)
