"""The exhibits: bugs that the code which moves page tables has really had.

What a released kernel has had since 5.0 is told among the known defects, and put back into a kernel
without it; the others are told here.
"""

from dataclasses import replace

from engine.base.geometry import UnknownName
from engine.base.kernel import Kernel, kernel_named
from fuzz.defects import changes
from fuzz.defects.defect import Change, Defect, Settings
from fuzz.defects.known import DEFECTS

_612 = kernel_named("linux-6.12")
_612_UNCHARGING = replace(_612, uncharge_on_rollback=True)
_618 = kernel_named("linux-6.18")
_I386 = kernel_named("linux-6.12", "i386")
_PAE = kernel_named("linux-6.12", "i386-pae")


def _known(
    id_: str, slug: str, correct: Kernel, also: Settings | None = None, rule: str = ""
) -> Defect:
    """A known defect, put back.

    Arguments: `also` what else is set as in its time; `rule` another one that is to catch it.
    """
    known = DEFECTS[id_]
    return replace(known, slug=slug, museum=correct, also=also or {}, rule=rule or known.rule)


def _past(
    id_: str,
    slug: str,
    title: str,
    text: str,
    rule: str,
    correct: Kernel,
    bad: Settings | None = None,
    change: Change | None = None,
    cve: str = "",
) -> Defect:
    """A bug of development, or of the time before 5.0."""
    bad = bad or {}
    repair = {switch: not value for switch, value in bad.items()}
    return Defect(
        id_,
        title,
        rule,
        bad=bad,
        repair=repair,
        cve=cve,
        text=text,
        change=change,
        slug=slug,
        museum=correct,
    )


EXHIBITS: tuple[Defect, ...] = (
    # The walk and the movers
    _known("B-01", "stack-warning", _612),
    _known("B-09", "result-wraps", _I386),
    _past(
        "B-12",
        "own-head",
        "realignment does not check what lies below in the same VMA, 6.7 series",
        "A move from the middle of a VMA is lowered to the slot boundary, and drags along pages "
        "that nobody asked to move.",
        "others-untouched",
        _612,
        change=Change("engine.move:_head_is_unused", changes.head_may_be_ours),
    ),
    _past(
        "B-12",
        "old-head-only",
        "realignment looks at the source only, 6.7 series",
        "What lies below the destination in its slot is not looked at: a table is moved to where "
        "one is.",
        "dest-entry-none",
        _612,
        change=Change("engine.move:_head_is_unused", changes.only_old_head),
    ),
    _past(
        "B-12",
        "new-head-only",
        "realignment looks at the destination only, 6.7 series",
        "What another VMA has below the source in its slot moves along.",
        "others-untouched",
        _612,
        change=Change("engine.move:_head_is_unused", changes.only_new_head),
    ),
    _past(
        "B-13",
        "two-levels",
        "PUD mover on two levels, 5.11 to 5.13",
        "With two levels PUD entries are folded into what lies above, which is never none: the "
        "PUD mover warns of each slot it is tried on.",
        "dest-entry-none",
        _I386,
        change=Change("engine.move:_move_table", changes.pud_of_two_levels),
    ),
    _past(
        "B-14",
        "counted-as-new",
        "a moved table is registered as a new one (Xen), 5.14",
        "The primitive that stores a table assumes one that was never used before, and accounts "
        "it a second time.",
        "table-count",
        _612,
        change=Change("engine.move:_move_table", changes.moved_counts_as_new),
    ),
    _past(
        "B-14",
        "stored-as-leaf",
        "a table is stored as if it were a leaf (ppc64), 5.0 to 5.13",
        "The movers store tables with the primitive for huge leaves; what the table maps is lost.",
        "pages-kept",
        _612,
        change=Change("engine.move:_move_table", changes.table_stored_as_leaf),
    ),
    _known("B-63", "pae-gigabyte", replace(_PAE, swaps_empty_pmd_table=True)),
    _past(
        "B-11",
        "negative-result",
        "a result below zero, 6.7 series",
        "Realignment lowers the start; a move that fails in its first slot has then done less "
        "than nothing, which as an unsigned number passes for all.",
        "move-result",
        _612,
        {"negative_result_is_zero": False},
    ),
    _past(
        "B-15",
        "leaf-as-table",
        "a huge page of DAX moves as a table, 4.5 to 5.7",
        "A huge page of DAX is not recognized and moves as if it were a page table: what the "
        "page holds is read as entries.",
        "table-not-leaf",
        _612,
        change=Change("engine.move:_is_huge", changes.always(False)),
        cve="CVE-2020-10757",
    ),
    _past(
        "B-16",
        "deposit",
        "a huge page moves without the table deposited for it",
        "The PTE table kept in store for the day a huge page is split belongs to its PMD "
        "table, and must move along.",
        "huge-deposit",
        _612,
        change=Change("engine.state.table:carry_deposit", changes.deposit_left_behind),
    ),
    _past(
        "B-24",
        "pud-freed",
        "a PUD table in use is freed, about 2.6.38",
        "Without memory for a PMD table the PUD table above is freed as if this call had made it.",
        "failed-alloc-harmless",
        _612,
        change=Change("engine.state.table:TableTree.make", changes.pud_table_freed),
    ),
    _known("B-45", "hugetlb-skip", _612),
    # TLB flushes
    _past(
        "B-02",
        "flush-at-end",
        "stale translations while dirty bits move, until 4.8",
        "The mover flushes at its very end only: another CPU writes through its TLB to a page "
        "that writeback has already found clean.",
        "tlb-unlock",
        _612,
        change=Change("engine.move:_flush_ptes", changes.no_flush),
    ),
    _past(
        "B-03",
        "dirty-only",
        "only dirty entries are flushed under the locks, 4.9 to 4.18",
        "Only dirty entries are flushed before the locks are dropped; a page that is unmapped "
        "at its new place is freed while another CPU still reads it at the old one.",
        "tlb-unlock",
        _612,
        change=Change("engine.move:_flush_ptes", changes.dirty_only),
        cve="CVE-2018-18281",
    ),
    _past(
        "B-04",
        "huge",
        "huge pages are flushed behind the locks, until 4.18",
        "The same for the entry of a huge page.",
        "tlb-unlock",
        _612,
        change=Change("engine.move:_flush_huge", changes.no_flush),
        cve="CVE-2018-18281",
    ),
    _past(
        "B-28",
        "pending-flush",
        "the flush that reclaim has put off is missed, until 4.12",
        "Reclaim clears entries and flushes later; a mover in between finds them empty and "
        "lets go of its locks while old translations live.",
        "tlb-unlock",
        _612,
        change=Change("engine.move:_flush_pending", changes.no_flush),
    ),
    # The reverse map
    _known("B-05", "table-unlocked", _612),
    _known("B-05", "stale-tlb", _612, rule="tlb-after"),
    _known("B-06", "freed-table", _612),
    _past(
        "B-18",
        "merged",
        "a merged destination breaks the order of the reverse map, until 3.1",
        "A copy that was merged may be visited before its source; without locks a walk misses "
        "the page at both.",
        "rmap-order",
        _612,
        change=Change("engine.move_vma:copy_vma", changes.never_locked),
    ),
    _past(
        "B-18",
        "missed",
        "a merged destination breaks the order of the reverse map, until 3.1",
        "A migration that ends looks for the page at its new place, then it moves there, then at "
        "the old one: its entry is left for ever.",
        "migration-left",
        _612,
        change=Change("engine.move_vma:copy_vma", changes.never_locked),
    ),
    _past(
        "B-18",
        "rollback",
        "the rollback breaks the order of the reverse map, until 3.1",
        "On the way back the roles are swapped, so the order is always the wrong one.",
        "rmap-order",
        _612,
        change=Change("engine.move_vma:_way_back", changes.rollback_unlocked),
    ),
    # What entries carry
    _known("B-07", "entries", _612, {"uffd_checks_both": False}),
    _past(
        "B-07",
        "tables",
        "whole tables keep uffd-wp",
        "The mark is cleared from entries that move one by one, but whole tables still move.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_must_look_at_entries", changes.always(False)),
        cve="CVE-2025-21696",
    ),
    _past(
        "B-07",
        "marker",
        "markers keep uffd-wp",
        "The marker of a page that is not there moves along.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_as_moved", changes.wp_marker_kept),
        cve="CVE-2025-21696",
    ),
    _past(
        "B-07",
        "swap",
        "pages in swap keep uffd-wp",
        "The entry of a page in swap keeps the mark.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_as_moved", changes.wp_swap_kept),
        cve="CVE-2025-21696",
    ),
    _past(
        "B-07",
        "huge",
        "huge pages keep uffd-wp",
        "The entry of a huge page keeps the mark.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_move_huge", changes.wp_huge_kept),
        cve="CVE-2025-21696",
    ),
    _known("B-08", "rollback-warns", _612),
    _known("B-49", "write", _618),
    _past(
        "B-49",
        "frame",
        "a batch of one frame",
        "The same, had the frame number not been stepped: a page is mapped twice, another is lost.",
        "pages-kept",
        _618,
        change=Change("engine.move:_as_batches", changes.batch_of_one_frame),
    ),
    _past(
        "B-61",
        "soft-dirty",
        "moved entries are not soft-dirty",
        "Checkpointing takes a moved page for one that did not change.",
        "soft-dirty",
        _612,
        change=Change("engine.move:_bits_to_set", changes.always(0)),
    ),
    # Freeing tables
    _past(
        "free-tables",
        "floor",
        "free_pgtables() without its floor",
        "The table that the neighbour below shares is freed under its pages.",
        "pages-kept",
        _612,
        change=Change("engine.state.table:TableTree.free_range", changes.without_floor),
    ),
    _past(
        "free-tables",
        "ceiling",
        "free_pgtables() without its ceiling",
        "The table that the neighbour above shares is freed under its pages.",
        "pages-kept",
        _612,
        change=Change("engine.state.table:TableTree.free_range", changes.without_ceiling),
    ),
    # exec
    _past(
        "B-21",
        "stack-fits",
        "a stack need not fit below its new top, until 2.6.35",
        "Nobody checks that the stack fits below its new top: its new start wraps, and an "
        "assertion kills the machine.",
        "stack-fits",
        _I386,
        change=Change("engine.stack:fits", changes.always(True)),
        cve="CVE-2010-3858",
    ),
    # mremap's arguments and results
    _past(
        "B-22",
        "overlap",
        "ranges that overlap, until 2.6.32",
        "Without the test for overlapping ranges the destination is unmapped from under the "
        "source.",
        "error-traceless",
        _612,
        change=Change("engine.remap:Remap.overlaps", changes.property_always(False)),
        cve="CVE-2010-0291",
    ),
    _past(
        "B-22",
        "length",
        "a range longer than its VMA, until 2.6.32",
        "The length is not compared with the end of the VMA: pages of its neighbour go along.",
        "error-order",
        _612,
        change=Change("engine.mremap:_source", changes.any_length),
        cve="CVE-2010-0291",
    ),
    _past(
        "B-51",
        "late-refusal",
        "several VMAs: one is refused too late, 6.17-rc",
        "That a VMA may not move together with others is noticed when the next one is "
        "reached, after it has moved.",
        "error-traceless",
        _618,
        change=Change("engine.mremap:_move_several", changes.refused_too_late),
    ),
    _past(
        "B-52",
        "stale-vma",
        "a VMA is used after it was merged away, 6.17-rc",
        "The copy was merged with its source; the pointer to the source is not replaced.",
        "vma-alive",
        _612,
        change=Change("engine.move_vma:copy_vma", changes.stale_source),
    ),
    _past(
        "B-56",
        "positive-errno",
        "an error with the wrong sign",
        "An error number is returned without its minus sign: the caller takes it for an address.",
        "fixed-address",
        _612,
        change=Change("engine.mremap:do_mremap", changes.positive_errno),
    ),
    _known("B-57", "map-count-late", _612),
    _past(
        "B-62",
        "seal-late",
        "a seal is looked at too late",
        "The destination is unmapped before the source's seal refuses the call.",
        "error-traceless",
        _612,
        change=Change("engine.mremap:_check_vma", changes.unmapped_before_seal),
    ),
    _past(
        "B-66",
        "hook-error",
        "an error of a driver's hook after the move",
        "The hook of a mapping refuses after all pages have moved, and nobody moves them back.",
        "error-traceless",
        _612,
        change=Change("engine.move_vma:_move_back", changes.no_way_back_from_hook),
    ),
    _known("B-69", "overlap-wraps", replace(_612, wrap_safe_overlap=True)),
    _past(
        "B-70",
        "zero-length",
        "a new length of 0, until 2.4.23",
        "A new length of 0 makes a VMA that covers nothing.",
        "vma-order",
        _612,
        change=Change("engine.mremap:do_mremap", changes.zero_length),
        cve="CVE-2003-0985",
    ),
    _past(
        "B-70",
        "unmap-ignored",
        "unmapping fails, and nobody looks, until 2.4.24",
        "With too many VMAs unmapping fails; the call goes on as if it had not.",
        "resize-exact",
        _612,
        change=Change("engine.mremap:_cut_tail", changes.unmap_error_ignored),
        cve="CVE-2004-0077",
    ),
    # VMAs and accounting
    _known("B-31", "anon-vma-kept", _612),
    _known("B-32", "pgoff-kept", _612),
    _known("B-33", "account-cleared", _612),
    _known("B-34", "locked-twice", _612),
    _known("B-35", "self-merge", _612),
    _past(
        "B-36",
        "recharged",
        "a source that could not be unmapped is charged for, accountable or not, 6.15 to 7.1",
        "When the source cannot be cut out of its VMA it stays, and is charged for without "
        "looking at VM_ACCOUNT.",
        "committed",
        _612_UNCHARGING,
        change=Change("engine.move_vma:_unmap_moved", changes.always_recharged),
    ),
    _known("B-37", "rollback-leaks", _612_UNCHARGING),
    _known("B-39", "not-asked", _612),
    _past(
        "B-41",
        "pgoff-from-start",
        "growth in place from the middle of a VMA fails, 6.1 to 6.2",
        "The page offset of the extension is reckoned from the start of the VMA: no neighbour "
        "fits it.",
        "error-order",
        _612,
        change=Change("engine.mremap:_grow", changes.growth_from_start),
    ),
    _past(
        "B-41",
        "uncharged",
        "growth in place that fails is given back, charged or not, 6.1 to 6.2",
        "Memory that is not accountable lowers the commit charge when it fails to grow.",
        "committed",
        _612_UNCHARGING,
        change=Change("engine.mremap:_grow", changes.growth_uncharged),
    ),
    _known("B-43", "unlinked", _618),
    _known("B-46", "reservation", _612),
    _past(
        "B-54",
        "changing",
        "userfaultfd: a failed mremap leaves its change pending, 4.17 to 6.16",
        "The count of changes is not given back, and the monitor's requests are refused for ever.",
        "uffd-changing",
        _612,
        change=Change("engine.pages.uffd:call_ended", changes.changing_kept),
    ),
    _past(
        "B-55",
        "not-announced",
        "userfaultfd: what FIXED unmaps is not announced, 4.11 to 4.12",
        "The monitor cannot tell old pages of the destination from those that were moved there.",
        "uffd-changing",
        _612,
        change=Change("engine.mremap:_make_room", changes.destination_not_announced),
    ),
    _known("shrink-leak", "", _612_UNCHARGING),
)

BY_NAME = {exhibit.name.lower(): exhibit for exhibit in EXHIBITS}
assert len(BY_NAME) == len(EXHIBITS), "two exhibits have the same name"


def exhibit_named(name: str) -> Defect:
    """The exhibit of that full name.  Errors raised: UnknownName."""
    try:
        return BY_NAME[name.lower()]
    except KeyError:
        raise UnknownName("exhibit", name, [exhibit.name for exhibit in EXHIBITS]) from None


def exhibits_named(name: str) -> list[Defect]:
    """The exhibit of that name, or all variants of the bug with that id.

    Errors raised: UnknownName.
    """
    wanted = name.lower()
    return [e for e in EXHIBITS if e.id.lower() == wanted] or [exhibit_named(name)]
