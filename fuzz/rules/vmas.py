"""What holds of VMAs whenever no call is in progress."""

from collections.abc import Iterator

from engine.base.violation import Violation
from engine.state import terms
from fuzz.rules.rule import CONTRACT, ENGINE, HARM, STATE, Rule, elsewhere, on, unchecked
from fuzz.rules.view import State

VMA_ORDER = Rule(
    "V-01",
    "vma-order",
    "VMAs are sorted, disjoint, not empty, page aligned, inside user space",
    "validate_mm(); CVE-2003-0985",
    HARM,
)

MAP_COUNT = Rule(
    "V-02",
    "map-count",
    "the number of VMAs does not pass vm.max_map_count",
    "sysctl_max_map_count; B-57",
    CONTRACT,
)

UNFAULTED_PGOFF = Rule(
    "V-03",
    "unfaulted-pgoff",
    "an unfaulted anonymous VMA has the page offset of its address",
    "copy_vma(), dontunmap_complete(); B-32",
    CONTRACT,
)

ANON_VMA_LINKED = Rule(
    "V-05",
    "anon-vma-linked",
    "a VMA is linked to its anon_vma, and its pages belong to that",
    "anon_vma_clone(), dup_anon_vma(), unlink_anon_vmas(); B-31, CVE-2026-23077 (B-43)",
    HARM,
)

MERGE_AGREES = Rule(
    "V-06",
    "merge-agrees",
    "what merges agrees in flags, object, page offset, userfaultfd and anon_vma",
    "can_vma_merge_before(), can_vma_merge_after(); B-41, B-42",
    HARM,
)

PGOFF_WRAP = Rule(
    "V-07",
    "pgoff-wrap",
    "the page offsets of a VMA do not wrap",
    "vma_to_resize(); B-23",
    CONTRACT,
)

FILE_TREE = Rule(
    "V-08",
    "file-tree",
    "every VMA of a file is in the tree of the file once, at its page offset",
    "vma_interval_tree_insert()",
    HARM,
    needs="a tree apart from the VMAs: here an object's VMAs are looked up among all",
)

unchecked(FILE_TREE)
elsewhere(ENGINE, MERGE_AGREES)


@on(STATE, VMA_ORDER)
def vma_order(state: State) -> Iterator[Violation]:
    """One after another, in user space, of whole pages."""
    geometry = state.space.geometry
    page, top, floor = geometry.page_bytes, geometry.user_top, 0
    for vma in state.vmas:
        if not floor <= vma.start < vma.end <= top or (vma.start | vma.end) & (page - 1):
            yield VMA_ORDER.broken(
                vma.range,
                f"{terms.vma(geometry, vma)}, after {terms.address(geometry, floor)}",
                "VMAs of whole pages, sorted, in user space",
            )
        floor = vma.end


@on(STATE, MAP_COUNT)
def map_count(state: State) -> Iterator[Violation]:
    """There is one to spare: a split is allowed at the limit before anything is taken away."""
    if len(state.vmas) > state.space.max_map_count + 1:
        yield MAP_COUNT.broken(
            state.space.arena,
            terms.count(len(state.vmas), "VMA"),
            f"at most {state.space.max_map_count + 1} (vm.max_map_count, and one to spare)",
        )


@on(STATE, UNFAULTED_PGOFF)
def unfaulted_pgoff(state: State) -> Iterator[Violation]:
    """Memory that never had a page counts its pages from 0."""
    geometry = state.space.geometry
    for vma in state.vmas:
        due = vma.start >> geometry.page_shift
        if vma.is_anonymous and vma.anon_vma is None and vma.pgoff != due:
            yield UNFAULTED_PGOFF.broken(
                vma.range,
                f"page offset {terms.page_offset(geometry, vma.backing, vma.pgoff)}",
                f"{terms.page_offset(geometry, vma.backing, due)}, as its address says",
            )


@on(STATE, ANON_VMA_LINKED)
def anon_vma_linked(state: State) -> Iterator[Violation]:
    """VMAs point to the anon_vma that they are linked to; `leaves` has the pages.

    Trees of the reverse map keep those of one page offset in the order they were put in.
    """
    for vma in state.vmas:
        if vma.anon_vma is not vma.link:
            yield ANON_VMA_LINKED.broken(
                vma.range,
                f"{terms.anon_vma(vma.anon_vma)}, in the tree of {terms.anon_vma(vma.link)}",
                "the same",
            )
    if len({vma.age for vma in state.vmas} - {0}) != len(state.vmas):
        ages = ", ".join(str(vma.age) for vma in state.vmas)
        yield ANON_VMA_LINKED.broken(
            state.space.arena,
            f"VMAs that are number {ages} in the trees of the reverse map",
            "each with a number of its own, from 1",
        )


@on(STATE, PGOFF_WRAP)
def pgoff_wrap(state: State) -> Iterator[Violation]:
    """The last page of a VMA has a page offset, too."""
    geometry = state.space.geometry
    mask, shift = geometry.word_mask, geometry.page_shift
    for vma in state.vmas:
        if vma.pgoff < 0 or vma.pgoff + ((vma.end - vma.start) >> shift) > mask:
            yield PGOFF_WRAP.broken(
                vma.range,
                f"page offset {terms.page_offset(geometry, vma.backing, vma.pgoff)}",
                "one that does not wrap",
            )
