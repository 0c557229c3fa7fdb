"""Leaves, huge or not: where they belong, which page they map, how many there are."""

from collections.abc import Collection, Iterator

from engine.base.address import Range
from engine.base.entry import (
    ANON,
    HUGE,
    MARKER,
    MIGRATION,
    PFN_SHIFT,
    PRESENT,
    SWAP,
    is_zero_page,
)
from engine.base.geometry import PTE
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_HUGETLB,
    VM_SHARED,
)
from fuzz.rules.rule import HARM, STATE, Rule, on
from fuzz.rules.view import Part, State
from fuzz.rules.vmas import ANON_VMA_LINKED

LEAF_HAS_VMA = Rule(
    "I-04",
    "leaf-has-vma",
    "every leaf, huge or not, lies inside one VMA of its kind",
    "vm_normal_page(), print_bad_pte(), vma_adjust_trans_huge(); B-12",
    HARM,
)

PAGE_INDEX = Rule(
    "V-04",
    "page-index",
    "a page's index is its VMA's page offset plus its distance from the start",
    "__page_set_anon_rmap(), linear_page_index(); B-41, B-42",
    HARM,
)

RSS_COUNT = Rule(
    "A-05",
    "rss-count",
    "the rss counters equal the pages that are mapped",
    "add_mm_rss_vec(), check_mm(); B-48",
    HARM,
)


_MAPPED_ANON = PRESENT | ANON


_ANON = ANON | SWAP


@on(STATE, LEAF_HAS_VMA, PAGE_INDEX, ANON_VMA_LINKED, RSS_COUNT)
def leaves(state: State) -> Iterator[Violation]:
    """Place, kind and number, in one pass over all leaves.

    Most leaves are the plain pages of their VMA; what is not is looked at more closely.
    """
    space = state.space
    anon = shared = swap = 0
    for base, table in state.holders:
        if not table.leaves:
            continue
        if table.level == PTE and (known := state.still_sound(base, table)):
            anon += known.plain
            continue
        for part in state.parts(base, table):
            odd = _not_plain(state, part)
            plain = len(part.leaves) - len(odd)
            if part.vma is not None:
                odd = odd and [(i, e) for i, e in odd if e != MARKER]  # a guard fits everywhere
                if not part.vma.is_anonymous:
                    shared += plain
                else:
                    anon += plain
                    if not odd and part.reach:
                        state.remember(part, plain)
            if odd:
                yield from _odd_leaves(space, part._replace(leaves=odd))
                for _, entry in odd:
                    pages = 1 << space.geometry.index_bits[0] if entry & HUGE else 1
                    if entry & ANON:
                        anon += pages
                    elif entry & (PRESENT | MIGRATION) and entry >> PFN_SHIFT:
                        shared += pages
                    elif entry & SWAP:
                        swap += pages
    tree = space.tree
    if (anon, shared, swap) != (tree.rss_anon, tree.rss_shmem, tree.rss_swap):
        yield RSS_COUNT.broken(
            space.arena,
            _rss(tree.rss_anon, tree.rss_shmem, tree.rss_swap),
            f"{_rss(anon, shared, swap)}, which the tables hold",
        )


def _rss(anon: int, shmem: int, swap: int) -> str:
    """The three counters."""
    which = ((terms.RSS_ANON, anon), (terms.RSS_SHMEM, shmem), (terms.RSS_SWAP, swap))
    return ", ".join(terms.counter(*each) for each in which)


def _not_plain(state: State, part: Part) -> Collection[tuple[int, int]]:
    """The leaves that are not simply the pages that belong where they are."""
    base, table, items, vma, reach = part
    if table.level != PTE or vma is None:
        return items
    offset = state.offset(base, vma)
    if vma.is_anonymous:
        frame_index, owner, link = state.space.frames.index, state.space.frames.owner, vma.link
        odd = [
            (i, e)
            for i, e in items
            if e & _MAPPED_ANON != _MAPPED_ANON
            or frame_index[pfn := e >> PFN_SHIFT] != i + offset
            or owner[pfn] is not link
        ]
    else:
        page_of = vma.backing.pages.get
        odd = [
            (i, e)
            for i, e in items
            if page_of(i + offset) != e >> PFN_SHIFT or e & _MAPPED_ANON != PRESENT
        ]
    if reach and reach.length < state.space.geometry.slot_bytes:
        odd.sort()
    return odd


def _odd_leaves(space: AddressSpace, part: Part) -> Iterator[Violation]:
    """The same for leaves that are not plainly right."""
    base, table, items, vma, _ = part
    shifts = space.geometry.entry_shift
    shift, scale = shifts[table.level], shifts[table.level] - shifts[PTE]
    if vma is None:
        yield _wrong(base, shift, items, "a VMA around it")
        return
    if table.level > PTE:
        slot, held = 1 << shift, vma.range
        crossing = [
            (i, e)
            for i, e in items
            if not held.contains(Range(base + i * slot, base + (i + 1) * slot))
        ]
        if crossing:
            yield _wrong(
                base, shift, crossing, f"a huge page inside {terms.vma(space.geometry, vma)}"
            )
            return
    offset = vma.pgoff + ((base - vma.start) >> shifts[PTE])
    if vma.is_anonymous:
        # Anonymous pages, the zero page and markers fit private anonymous memory.
        wrong = [(i, e) for i, e in items if not e & (_ANON | MARKER) and e >> PFN_SHIFT]
        wanted = "private memory"
    else:
        pages, frames = vma.backing.pages, space.frames
        private = (
            vma.flags & (VM_HUGETLB | VM_SHARED) == VM_HUGETLB
        )  # has its own pages of the file
        if vma.copies_object:  # has copies, or a page of zeroes that userfaultfd has put there
            items = [(i, e) for i, e in items if e & _ANON or not is_zero_page(e)]
        wrong = [
            (i, e)
            for i, e in items
            if not e & MARKER
            and not (vma.copies_object and e & _ANON)
            and (
                (frames.owner[e >> PFN_SHIFT], frames.index[e >> PFN_SHIFT])
                != (vma.backing, (i << scale) + offset)
                if private
                else pages.get((i << scale) + offset) != e >> PFN_SHIFT
            )
        ]
        wanted = f"the page of {vma.backing} that belongs there"
    if wrong:
        yield _wrong(base, shift, wrong, wanted)
    for index, entry in items:
        if entry & _ANON:
            place = Range(base + (index << shift), base + ((index + 1) << shift))
            found, due = space.frames.index[entry >> PFN_SHIFT], (index << scale) + offset
            if found != due:
                yield PAGE_INDEX.broken(
                    place,
                    f"a page with index {terms.page_offset(space.geometry, vma.backing, found)}",
                    f"{terms.page_offset(space.geometry, vma.backing, due)}, as in its VMA",
                )
                return
            owner = space.frames.owner[entry >> PFN_SHIFT]
            if owner is not vma.link:
                yield ANON_VMA_LINKED.broken(
                    place,
                    f"a page of {owner} in {terms.vma(space.geometry, vma)}",
                    f"pages of {terms.anon_vma(vma.link)}, to which it is linked",
                )
                return


def _wrong(base: int, shift: int, items: Collection[tuple[int, int]], wanted: str) -> Violation:
    """Leaves of one table that do not belong there."""
    indices = [i for i, _ in items]
    first = min(indices)
    place = Range(base + (first << shift), base + ((max(indices) + 1) << shift))
    return LEAF_HAS_VMA.broken(place, terms.entry(dict(items)[first]), wanted)
