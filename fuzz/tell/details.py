"""What a drawing shows besides VMAs and tables, where it changes or is what is wrong."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from engine.base import entry
from engine.base.address import Range
from engine.base.entry import PFN_SHIFT, PRESENT
from engine.pages.access import translation
from engine.pages.rmap import folio_of
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.tlb import Translation
from engine.state.vma import (
    VM_ACCESS,
    VM_ACCOUNT,
    VM_HUGEPAGE,
    VM_LOCKED,
    VM_NOHUGEPAGE,
    VM_PKEY_BIT0,
    VM_SHARED,
)
from fuzz.tell.signs import (
    CONTENTS,
    COUNTERS,
    FLAGS,
    MLOCKED,
    SOFT_DIRTY,
    STALE,
    SWAPPED,
    TLBS,
    UFFD_WP,
    Sign,
)

# Flags that are not shown as protection, behind a VMA, or as a counter.
_OTHERS = ~(
    VM_ACCESS | VM_SHARED | VM_LOCKED | VM_HUGEPAGE | VM_NOHUGEPAGE | VM_PKEY_BIT0 | VM_ACCOUNT
)


class Row(NamedTuple):
    """One line: the addresses that it is about (None: all), what is said of them."""

    where: Range | None
    text: str = ""
    label: str = ""  # before the range


class Detail(NamedTuple):
    """One kind of thing.

    `rules` are those that say that it is what is wrong; `matters` if a change of it is worth a
    look.
    """

    title: Sign
    rows: Callable[[AddressSpace], Iterable[Row]]
    rules: frozenset[str]
    matters: Callable[[AddressSpace], bool] = lambda space: True


def _contents(space: AddressSpace) -> Iterator[Row]:
    """Runs of pages whose contents count up."""
    tags, page, base = space.contents(), space.geometry.page_bytes, space.arena.start
    first = last = -2
    for number in sorted(tags):
        if number != last + 1 or tags[number] != tags[last] + 1:
            if first >= 0:
                yield _holding(tags, first, last, base, page)
            first = number
        last = number
    if first >= 0:
        yield _holding(tags, first, last, base, page)


def _holding(tags: dict[int, int], first: int, last: int, base: int, page: int) -> Row:
    what = str(tags[first]) if first == last else f"{tags[first]} to {tags[last]}"
    return Row(Range(base + first * page, base + (last + 1) * page), what)


def _entries(bits: int) -> Callable[[AddressSpace], Iterator[Row]]:
    """Entries with one of some bits."""
    return lambda space: _runs(space, lambda addr, held: bool(held & bits))


def _mlocked(space: AddressSpace) -> Iterator[Row]:
    """Pages that are locked themselves."""
    locked = space.frames.mlocked
    if not locked:
        return iter(())
    return _runs(
        space,
        lambda addr, held: (
            bool(held & PRESENT) and folio_of(space, held >> PFN_SHIFT).start in locked
        ),
    )


def _soft_dirty(space: AddressSpace) -> Iterator[Row]:
    """What /proc/PID/pagemap shows as soft-dirty: all of some VMAs, and entries in others."""
    for vma in space.vmas:
        if not vma.tracked:
            yield Row(vma.range, "all of it (VM_SOFTDIRTY)")

    def marked(addr: int, held: int) -> bool:
        vma = space.vmas.lookup(addr)
        return bool(held & entry.SOFT_DIRTY) and (vma is None or vma.tracked)

    yield from _runs(space, marked)


def _runs(space: AddressSpace, has: Callable[[int, int], bool]) -> Iterator[Row]:
    """Where entries, by address, follow each other of which something is true."""
    run: Range | None = None
    for addr, level, held in space.tree.leaves():
        if not has(addr, held):
            continue
        end = addr + space.geometry.span_bytes[level - 1]
        if run is not None and run.end == addr:
            run = Range(run.start, end)
            continue
        if run is not None:
            yield Row(run)
        run = Range(addr, end)
    if run is not None:
        yield Row(run)


class Kept(NamedTuple):
    """What the TLB of a CPU keeps of a page; `stale`: the page tables say something else by now.

    `tag` is what the frame holds.
    """

    cpu: int
    where: Range
    translation: Translation
    tag: int
    stale: bool


def kept(space: AddressSpace) -> Iterator[Kept]:
    """What each CPU keeps, and whether that is still true."""
    page, tags = space.geometry.page_bytes, space.frames.tag
    for (cpu, addr), one in sorted(space.tlb.cached.items()):
        found = translation(space, addr)
        now = found[2] if found else None
        stale = now is None or now.pfn != one.pfn or (one.writable and not now.writable)
        yield Kept(cpu, Range(addr, addr + page), one, tags[one.pfn], stale)


def _tlbs(space: AddressSpace) -> Iterator[Row]:
    for one in kept(space):
        holds = f" (content {one.tag})" if one.tag else ""
        text = terms.translation(one.translation).replace(",", f"{holds},", 1)
        yield Row(one.where, f"{text}, {STALE}" if one.stale else text, f"CPU {one.cpu} ")


def _counters(space: AddressSpace) -> Iterator[Row]:
    """The counters of a process, and what is accountable."""
    tree, shift = space.tree, space.geometry.page_shift
    for which, pages in (
        (terms.MAPPED, space.total_vm),
        (terms.PEAK, max(space.hiwater_vm, space.total_vm)),
        (terms.LOCKED, space.locked_vm),
        (terms.RSS_ANON, tree.rss_anon),
        (terms.RSS_SHMEM, tree.rss_shmem),
        (terms.RSS_SWAP, tree.rss_swap),
        (terms.RESERVED, space.pool.reserved),
        (terms.COMMITTED, space.committed),
    ):
        if pages:
            what, shown = which
            yield Row(None, f"{shown:<14}  {terms.count(pages, 'page')} {what}")
    for vma in space.vmas:
        if vma.flags & VM_ACCOUNT:
            yield Row(vma.range, f"VM_ACCOUNT, {terms.count(vma.range.length >> shift, 'page')}")


def _flags(space: AddressSpace) -> Iterator[Row]:
    """Flags of VMAs that are shown nowhere else."""
    for vma in space.vmas:
        if others := vma.flags & _OTHERS:
            yield Row(vma.range, terms.flags(others))


DETAILS = (
    Detail(
        FLAGS,
        _flags,
        frozenset(("flags-set", "mapping-kept", "dontunmap-source", "merge-agrees", "vma-layout")),
    ),
    Detail(
        CONTENTS,
        _contents,
        frozenset(
            (
                "oracle-contents",
                "pages-kept",
                "entries-at-new",
                "others-untouched",
                "fixed-exact",
                "rollback-restores",
                "rollback-complete",
                "moved-unmapped",
                "leaf-has-vma",
                "page-index",
                "stack-placed",
            )
        ),
    ),
    Detail(MLOCKED, _mlocked, frozenset(("left-locked",))),
    Detail(SWAPPED, _entries(entry.SWAP), frozenset(("entry-bits-kept", "rss-count"))),
    Detail(
        UFFD_WP,
        _entries(entry.UFFD_WP),
        frozenset(("uffd-wp-stray", "rollback-keeps-wp", "entry-bits-kept")),
    ),
    Detail(
        SOFT_DIRTY,
        _soft_dirty,
        frozenset(("soft-dirty", "tracking-kept")),
        lambda space: any(vma.tracked for vma in space.vmas),
    ),
    Detail(TLBS, _tlbs, frozenset(("tlb-unlock", "tlb-after"))),
    Detail(
        COUNTERS,
        _counters,
        frozenset(
            (
                "total-vm",
                "locked-vm",
                "committed",
                "high-water",
                "limits-hold",
                "lock-limit-holds",
                "rss-count",
                "hugetlb-reserve",
                "reservation-kept",
            )
        ),
        lambda space: False,
    ),
)
