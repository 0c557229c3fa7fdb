"""What a case asserts about the state between its calls: VMAs, and the pages in them.

The words are those of the kernel's own files: `rw-p` of /proc/PID/maps, the two letters of VmFlags
in /proc/PID/smaps, the bits of /proc/PID/pagemap.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from engine.base.entry import MARKER, PFN_SHIFT, PRESENT, SOFT_DIRTY, SWAP, UFFD_WP, WRITE, is_guard
from engine.base.geometry import PTE
from engine.base.kernel import Kernel, base_of
from engine.state import terms
from engine.state import vma as vmas
from engine.state.space import AddressSpace
from engine.state.vma import Vma
from fuzz.case import Assertion, Case, CaseError
from fuzz.execute import execute
from fuzz.forms.assertions import NOT, PAGE, UNMAPPED, VMA, format_assertion

_SOFT_DIRTY_VMA = "sd"  # the model keeps the opposite of VM_SOFTDIRTY apart from the flags
VM_FLAGS = {
    "gd": vmas.VM_GROWSDOWN,
    "um": vmas.VM_UFFD_MISSING,
    "uw": vmas.VM_UFFD_WP,
    "ui": vmas.VM_UFFD_MINOR,
    "ur": vmas.VM_UFFD_RWP,
    "lo": vmas.VM_LOCKED,
    "lf": vmas.VM_LOCKONFAULT,
    "sr": vmas.VM_SEQ_READ,
    "rr": vmas.VM_RAND_READ,
    "dc": vmas.VM_DONTCOPY,
    "de": vmas.VM_DONTEXPAND,
    "ac": vmas.VM_ACCOUNT,
    "nr": vmas.VM_NORESERVE,
    "ht": vmas.VM_HUGETLB,
    "wf": vmas.VM_WIPEONFORK,
    "dd": vmas.VM_DONTDUMP,
    "mm": vmas.VM_MIXEDMAP,
    "hg": vmas.VM_HUGEPAGE,
    "nh": vmas.VM_NOHUGEPAGE,
    "mg": vmas.VM_MERGEABLE,
    "dp": vmas.VM_DROPPABLE,
    "sl": vmas.VM_SEALED,
}


class _Page(NamedTuple):
    """What is at a page: its VMA, its entry (0: none), the number written to it last."""

    vma: Vma | None
    entry: int
    huge: bool
    tag: int | None  # None: there is no page


PAGE_WORDS: dict[str, Callable[[_Page], bool]] = {
    "none": lambda page: not page.entry,
    "present": lambda page: bool(page.entry & PRESENT),
    "swapped": lambda page: bool(page.entry & SWAP),
    "guard": lambda page: is_guard(page.entry),
    "huge": lambda page: page.huge,
    "writable": lambda page: bool(page.entry & PRESENT and page.entry & WRITE),
    "uffd-wp": lambda page: bool(page.entry & UFFD_WP),
    # A page of a VMA with VM_SOFTDIRTY counts, whatever its entry (pte_to_pagemap_entry()).
    "soft-dirty": lambda page: bool(
        page.entry & SOFT_DIRTY or (page.vma is not None and not page.vma.tracked)
    ),
}


class Broken(NamedTuple):
    """An assertion that does not hold, and what there is instead."""

    assertion: Assertion
    found: str

    def __str__(self) -> str:
        after = self.assertion.after
        return f"after call {after}: {format_assertion(self.assertion)}: found {self.found}"


def broken(case: Case, kernel: Kernel) -> list[Broken]:
    """The assertions of a case that do not hold on a kernel, whose geometry counts.

    Errors raised: CaseError for one about what is not in the arena, where nothing ever is.
    """
    if not case.assertions:
        return []
    arena = kernel.geometry.arena.length
    for assertion in case.assertions:
        if max(assertion.start + 1, assertion.end) > arena:
            line = format_assertion(assertion)
            raise CaseError(f"{line}: reaches outside the arena of {arena:#x} bytes")
    watch = _Watch(case.assertions, kernel.name)
    execute(case, kernel, stop=False, check=False, on_step=watch.step)
    return watch.broken


class _Watch:
    """Looks at the state between calls: pass `step` as `on_step` of `fuzz.execute.execute`.

    `broken` are the assertions that did not hold, in order.
    """

    def __init__(self, assertions: Iterable[Assertion], kernel: str) -> None:
        self._due: dict[int, list[Assertion]] = {}
        for one in assertions:
            if one.kernel in (None, kernel, base_of(kernel)):
                self._due.setdefault(one.after - 1, []).append(one)
        self.broken: list[Broken] = []

    def step(self, index: int, space: AddressSpace) -> None:
        """After the call of that index; -1: before the first."""
        for assertion in self._due.get(index, ()):
            found = _LOOKS[assertion.kind](space, assertion)
            if found is not None:
                self.broken.append(Broken(assertion, found))


def _vma(space: AddressSpace, asserted: Assertion) -> str | None:
    """What there is instead of the VMA that is asserted; None: it is there."""
    base = space.arena.start
    start, end = base + asserted.start, base + asserted.end
    there = space.vmas.intersecting(start, end)
    if len(there) == 1 and (there[0].start, there[0].end) == (start, end):
        words = set(_vma_words(there[0]))
        if all(_holds(word, words) for word in asserted.words):
            return None
    return "; ".join(_told(vma, base) for vma in there) or "nothing is mapped"


def _unmapped(space: AddressSpace, asserted: Assertion) -> str | None:
    """What is mapped in the range; None: nothing."""
    base = space.arena.start
    there = space.vmas.intersecting(base + asserted.start, base + asserted.end)
    return "; ".join(_told(vma, base) for vma in there) or None


def _page(space: AddressSpace, asserted: Assertion) -> str | None:
    """How the page is, if not as asserted; None: it is."""
    page = _at(space, space.arena.start + asserted.start)
    words = {word for word, holds in PAGE_WORDS.items() if holds(page)}
    if page.tag is not None:
        words.add(str(page.tag))
    if all(_holds(word, words) for word in asserted.words):
        return None
    number = [] if page.tag is None else [str(page.tag)]
    return " ".join([*number, *(word for word in PAGE_WORDS if word in words)])


_LOOKS = {VMA: _vma, UNMAPPED: _unmapped, PAGE: _page}


def _holds(word: str, words: set[str]) -> bool:
    return word[1:] not in words if word.startswith(NOT) and word[1:] else word in words


def _vma_words(vma: Vma) -> Iterator[str]:
    """How a VMA is, in words: the access first, then flags."""
    yield terms.protection(vma.flags)
    for word, bit in VM_FLAGS.items():
        if vma.flags & bit:
            yield word
    if not vma.tracked:
        yield _SOFT_DIRTY_VMA


def _told(vma: Vma, base: int) -> str:
    return " ".join((f"{vma.start - base:#x}-{vma.end - base:#x}", *_vma_words(vma)))


def _at(space: AddressSpace, addr: int) -> _Page:
    """The page at an address, bytes."""
    vma = space.vmas.lookup(addr)
    place = space.tree.leaf_place(addr)
    if place is None:
        return _Page(vma, 0, huge=False, tag=None)
    table, index = place
    entry, pfn = table.leaves[index], table.leaves[index] >> PFN_SHIFT
    huge = table.level > PTE
    if entry & MARKER:
        return _Page(vma, entry, huge, tag=None)
    if not pfn:
        return _Page(vma, entry, huge, tag=0)
    if huge:
        pfn += addr % space.geometry.slot_bytes >> space.geometry.page_shift
    return _Page(vma, entry, huge, space.frames.tag[pfn])
