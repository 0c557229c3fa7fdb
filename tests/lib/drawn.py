"""Address spaces from drawings, for tests: one character a page; and drawings of them.

    space = scene("AAAA aa.. ..bb")

A run of one letter is a VMA, upper case a page with an entry; dots are holes, blanks only for the
eye (a slot of the tiny geometry is 4 pages, a PUD entry 16).  Neighbours with different letters are
different VMAs although they look alike; every VMA that has a page has an anon_vma of its own.
"""

import string
from collections.abc import Iterable
from itertools import groupby

from engine.base.address import Range
from engine.base.geometry import PMD, PTE
from engine.base.kernel import Kernel, kernel_named
from engine.pages.fault import touch
from engine.state.space import AddressSpace, Listener
from engine.state.vma import VM_ACCOUNT, VM_READ, VM_WRITE, Vma
from tests.lib.constants import PAGE

SLOT = 4 * PAGE  # of the tiny geometry
FLAGS = VM_READ | VM_WRITE | VM_ACCOUNT  # as mmap gives them to private writable memory


def tiny(kernel: str | Kernel = "linux-6.12") -> Kernel:
    """A kernel on the tiny geometry."""
    named = kernel_named(kernel) if isinstance(kernel, str) else kernel
    return named.on(kernel_named("linux-6.12", "tiny").geometry)


def scene(
    picture: str, kernel: str | Kernel = "linux-6.12", listeners: Iterable[Listener] = ()
) -> AddressSpace:
    """The space that is drawn, from page 0 of the tiny geometry on; tags count up from 1."""
    space = AddressSpace(tiny(kernel), listeners)
    page = 0
    for letter, run in groupby(picture.replace(" ", ""), key=str.lower):
        pages = "".join(run)
        start, end = page * PAGE, (page + len(pages)) * PAGE
        page += len(pages)
        if letter == ".":
            continue
        vma = Vma(start, end, FLAGS, start // PAGE)
        space.vmas.insert(vma)
        space.account(vma.flags, end - start)
        if not pages.islower():
            vma.link_to(space.new_anon_vma())
        for offset, drawn in enumerate(pages):
            if drawn.isupper():
                assert not touch(space, start + offset * PAGE, start + (offset + 1) * PAGE)
    return space


def shown(space: AddressSpace, slots: int) -> str:
    """The first `slots` slots, as `scene` takes them."""
    pages = strip(space, 0, 4 * slots)
    return " ".join(pages[i : i + 4] for i in range(0, len(pages), 4))


def vmas(space: AddressSpace) -> list[tuple[int, int]]:
    """The first page of each VMA, and the one behind its last."""
    return [(vma.start // PAGE, vma.end // PAGE) for vma in space.vmas]


def tags(space: AddressSpace) -> dict[int, int]:
    """Page number in the arena -> content."""
    return dict(sorted(space.contents().items()))


def strip(space: AddressSpace, first: int = 0, count: int | None = None) -> str:
    """One character a page, `count` pages of the arena from page `first` on (default: all).

    `.` not mapped; a lower-case letter a VMA (in address order) without a page there, upper case
    with a page or marker; `!` an entry outside every VMA.
    """
    page_bytes = space.geometry.page_bytes
    total = space.arena.length // page_bytes
    pages = ["."] * total
    for number, vma in enumerate(space.vmas):
        letter = string.ascii_lowercase[number % len(string.ascii_lowercase)]
        for page in _units(space, vma.range, page_bytes):
            pages[page] = letter
    for address, level, _ in space.tree.leaves():
        leaf = Range(address, address + space.geometry.span_bytes[level - 1])
        for page in _units(space, leaf, page_bytes):
            pages[page] = "!" if pages[page] == "." else pages[page].upper()
    return "".join(pages[first : total if count is None else first + count])


def strip_tables(space: AddressSpace, first: int = 0, count: int | None = None) -> str:
    """One character a slot, `count` slots of the arena from slot `first` on (default: all).

    `.` no PTE table; `o` an emptied one; `T` one with entries; `H` a huge page or other leaf.
    """
    slot_bytes = space.geometry.slot_bytes
    total = -(-space.arena.length // slot_bytes)
    slots = ["."] * total
    for address, table in space.tree.tables():
        if table.level == PTE:
            slots[(address - space.arena.start) // slot_bytes] = "T" if table.leaves else "o"
    for address, level, _ in space.tree.leaves():
        if level >= PMD:
            leaf = Range(address, address + space.geometry.span_bytes[level - 1])
            for slot in _units(space, leaf, slot_bytes):
                slots[slot] = "H"
    return "".join(slots[first : total if count is None else first + count])


def _units(space: AddressSpace, where: Range, unit: int) -> range:
    """Numbers of the arena's units of `unit` bytes that `where` intersects."""
    low = max(where.start, space.arena.start) - space.arena.start
    high = min(where.end, space.arena.end) - space.arena.start
    return range(low // unit, -(-high // unit))
