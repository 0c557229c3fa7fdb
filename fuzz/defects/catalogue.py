"""The exhibits: bugs that the code which moves page tables has really had."""

from dataclasses import replace

from engine.base.geometry import UnknownName
from engine.base.kernel import kernel_named
from fuzz.defects import changes
from fuzz.defects.exhibit import Change, Exhibit

_612 = kernel_named("linux-6.12")
_612_UNCHARGING = replace(_612, uncharge_on_rollback=True)
_618 = kernel_named("linux-6.18")
_I386 = kernel_named("linux-6.12", "i386")
_PAE = kernel_named("linux-6.12", "i386-pae")

EXHIBITS: tuple[Exhibit, ...] = (
    # The walk and the movers
    Exhibit(
        "B-01",
        "stack-warning",
        "stack move hits an occupied PMD entry, 5.0 to 6.6",
        "exec moves the stack over itself; the PMD mover meets the table that the PTE mover has "
        "just emptied, and warns. Realignment ended it.",
        "dest-entry-none",
        _612,
        {"realign_stack": False},
    ),
    Exhibit(
        "B-09",
        "result-wraps",
        "CVE-2024-53111, 6.7 to 6.11",
        "The check of the result adds addresses; on 32 bits the sum wraps, and a move that is "
        "complete counts as none: its pages are unmapped.",
        "move-result",
        _I386,
        {"wrap_safe_result": False},
    ),
    Exhibit(
        "B-12",
        "own-head",
        "realignment takes what lies below in the same VMA, 6.7 series",
        "A move from the middle of a VMA is lowered to the slot boundary, and drags along pages "
        "that nobody asked to move.",
        "others-untouched",
        _612,
        change=Change("engine.move:_head_is_unused", changes.head_may_be_ours),
    ),
    Exhibit(
        "B-12",
        "old-head-only",
        "realignment looks at the source only, 6.7 series",
        "What lies below the destination in its slot is not looked at: a table is moved to where "
        "one is.",
        "dest-entry-none",
        _612,
        change=Change("engine.move:_head_is_unused", changes.only_old_head),
    ),
    Exhibit(
        "B-12",
        "new-head-only",
        "realignment looks at the destination only, 6.7 series",
        "What another VMA has below the source in its slot moves along.",
        "others-untouched",
        _612,
        change=Change("engine.move:_head_is_unused", changes.only_new_head),
    ),
    Exhibit(
        "B-13",
        "two-levels",
        "PUD mover on two levels, 5.11 to 5.13",
        "With two levels PUD entries are folded into what lies above, which is never none: the "
        "PUD mover warns of each slot it is tried on.",
        "dest-entry-none",
        _I386,
        change=Change("engine.move:_move_table", changes.pud_of_two_levels),
    ),
    Exhibit(
        "B-14",
        "counted-as-new",
        "a moved table is registered as a new one (Xen), 5.14",
        "The primitive that stores a table assumes one that was never used before, and accounts "
        "it a second time.",
        "table-count",
        _612,
        change=Change("engine.move:_move_table", changes.moved_counts_as_new),
    ),
    Exhibit(
        "B-14",
        "stored-as-leaf",
        "a table is stored as if it were a leaf (ppc64), 5.0 to 5.13",
        "The movers store tables with the primitive for huge leaves; what the table maps is lost.",
        "pages-kept",
        _612,
        change=Change("engine.move:_move_table", changes.table_stored_as_leaf),
    ),
    Exhibit(
        "B-63",
        "pae-gigabyte",
        "i386 PAE: preallocated PMD tables under the PUD mover, since 5.11, open",
        "PMD tables of PAE exist from the start; the PUD mover takes an empty one at its "
        "destination for a mistake, and warns.",
        "dest-entry-none",
        replace(_PAE, move_pud=False),
        {"move_pud": True},
    ),
    Exhibit(
        "B-11",
        "negative-result",
        "a result below zero, 6.7 series",
        "Realignment lowers the start; a move that fails in its first slot has then done less "
        "than nothing, which as an unsigned number passes for all.",
        "move-result",
        _612,
        {"negative_result_is_zero": False},
    ),
    Exhibit(
        "B-15",
        "leaf-as-table",
        "CVE-2020-10757, 4.5 to 5.7",
        "A huge page of DAX is not recognized and moves as if it were a page table: what the "
        "page holds is read as entries.",
        "table-not-leaf",
        _612,
        change=Change("engine.move:_is_huge", changes.always(False)),
    ),
    Exhibit(
        "B-16",
        "deposit",
        "a huge page moves without the table deposited for it",
        "The PTE table kept in store for the day a huge page is split belongs to its PMD "
        "table, and must move along.",
        "huge-deposit",
        _612,
        change=Change("engine.state.table:carry_deposit", changes.deposit_left_behind),
    ),
    Exhibit(
        "B-24",
        "pud-freed",
        "a PUD table in use is freed, about 2.6.38",
        "Without memory for a PMD table the PUD table above is freed as if this call had made it.",
        "failed-alloc-harmless",
        _612,
        change=Change("engine.state.table:TableTree.make", changes.pud_table_freed),
    ),
    Exhibit(
        "B-45",
        "hugetlb-skip",
        "hugetlb: the two cursors part, 5.16 to stable of 2025",
        "Over a missing table each address is rounded up by itself; the distance changes.",
        "cursor-lockstep",
        _612,
        change=Change("engine.move_hugetlb:_skip_hole", changes.skips_apart),
    ),
    # TLB flushes
    Exhibit(
        "B-02",
        "flush-at-end",
        "stale translations while dirty bits move, until 4.8",
        "The mover flushes at its very end only: another CPU writes through its TLB to a page "
        "that writeback has already found clean.",
        "tlb-unlock",
        _612,
        change=Change("engine.move:_flush_ptes", changes.no_flush),
    ),
    Exhibit(
        "B-03",
        "dirty-only",
        "CVE-2018-18281, 4.9 to 4.18",
        "Only dirty entries are flushed before the locks are dropped; a page that is unmapped "
        "at its new place is freed while another CPU still reads it at the old one.",
        "tlb-unlock",
        _612,
        change=Change("engine.move:_flush_ptes", changes.dirty_only),
    ),
    Exhibit(
        "B-04",
        "huge",
        "CVE-2018-18281 for huge pages, until 4.18",
        "The same for the entry of a huge page.",
        "tlb-unlock",
        _612,
        change=Change("engine.move:_flush_huge", changes.no_flush),
    ),
    Exhibit(
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
    Exhibit(
        "B-05",
        "table-unlocked",
        "CVE-2022-41222, 5.0 to 5.13.2",
        "Whole tables move without the rmap locks: who waits for the lock of a table then "
        "changes entries of another address, and flushes the wrong one.",
        "table-move-locked",
        _612,
        {"table_moves_lock_rmap": False},
    ),
    Exhibit(
        "B-18",
        "merged",
        "a merged destination breaks the order of the reverse map, until 3.1",
        "A copy that was merged may be visited before its source; without locks a walk misses "
        "the page at both.",
        "rmap-order",
        _612,
        change=Change("engine.mremap:copy_vma", changes.never_locked),
    ),
    Exhibit(
        "B-18",
        "rollback",
        "the rollback breaks the order of the reverse map, until 3.1",
        "On the way back the roles are swapped, so the order is always the wrong one.",
        "rmap-order",
        _612,
        change=Change("engine.mremap:_way_back", changes.rollback_unlocked),
    ),
    # What entries carry
    Exhibit(
        "B-07",
        "entries",
        "CVE-2025-21696, 5.7 to 6.12.10",
        "Memory that userfaultfd write-protects moves without it; its entries keep the mark, "
        "and become writable and marked at once.",
        "uffd-wp-stray",
        _612,
        {"uffd_wp_cleared": False, "uffd_checks_both": False},
    ),
    Exhibit(
        "B-07",
        "tables",
        "CVE-2025-21696: whole tables",
        "The mark is cleared from entries that move one by one, but whole tables still move.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_must_look_at_entries", changes.always(False)),
    ),
    Exhibit(
        "B-07",
        "marker",
        "CVE-2025-21696: markers",
        "The marker of a page that is not there moves along.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_as_moved", changes.wp_marker_kept),
    ),
    Exhibit(
        "B-07",
        "swap",
        "CVE-2025-21696: pages in swap",
        "The entry of a page in swap keeps the mark.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_as_moved", changes.wp_swap_kept),
    ),
    Exhibit(
        "B-07",
        "huge",
        "CVE-2025-21696: huge pages",
        "The entry of a huge page keeps the mark.",
        "uffd-wp-stray",
        _612,
        change=Change("engine.move:_move_huge", changes.wp_huge_kept),
    ),
    Exhibit(
        "B-08",
        "rollback-warns",
        "CVE-2025-39775, 6.13 to 6.17-rc2",
        "Whether tables may move is asked of the old VMA only. In a rollback that is the "
        "copy, which says yes: the table goes back to where an emptied one is.",
        "rollback-dest-none",
        _612,
        {"uffd_checks_both": False},
    ),
    Exhibit(
        "B-49",
        "write",
        "a batch spreads the writable bit, 6.17",
        "The entries of a batch are made from its first one, and the write bit was not looked "
        "at: a shared page becomes writable.",
        "entry-bits-kept",
        _618,
        {"batch_keeps_write": False},
    ),
    Exhibit(
        "B-49",
        "frame",
        "a batch of one frame",
        "The same, had the frame number not been stepped: a page is mapped twice, another is lost.",
        "pages-kept",
        _618,
        change=Change("engine.move:_as_batches", changes.batch_of_one_frame),
    ),
    Exhibit(
        "B-61",
        "soft-dirty",
        "moved entries are not soft-dirty",
        "Checkpointing takes a moved page for one that did not change.",
        "soft-dirty",
        _612,
        change=Change("engine.move:_bits_to_set", changes.always(0)),
    ),
    # Freeing tables
    Exhibit(
        "free-tables",
        "floor",
        "free_pgtables() without its floor",
        "The table that the neighbour below shares is freed under its pages.",
        "pages-kept",
        _612,
        change=Change("engine.state.table:TableTree.free_range", changes.without_floor),
    ),
    Exhibit(
        "free-tables",
        "ceiling",
        "free_pgtables() without its ceiling",
        "The table that the neighbour above shares is freed under its pages.",
        "pages-kept",
        _612,
        change=Change("engine.state.table:TableTree.free_range", changes.without_ceiling),
    ),
    # exec
    Exhibit(
        "B-21",
        "stack-fits",
        "CVE-2010-3858, until 2.6.35",
        "Nobody checks that the stack fits below its new top: its new start wraps, and an "
        "assertion kills the machine.",
        "stack-fits",
        _I386,
        change=Change("engine.stack:fits", changes.always(True)),
    ),
    # mremap's arguments and results
    Exhibit(
        "B-22",
        "overlap",
        "CVE-2010-0291: ranges that overlap, until 2.6.32",
        "Without the test for overlapping ranges the destination is unmapped from under the "
        "source.",
        "error-traceless",
        _612,
        change=Change("engine.mremap:Remap.overlaps", changes.property_always(False)),
    ),
    Exhibit(
        "B-22",
        "length",
        "CVE-2010-0291: a range longer than its VMA, until 2.6.32",
        "The length is not compared with the end of the VMA: pages of its neighbour go along.",
        "error-order",
        _612,
        change=Change("engine.mremap:_source", changes.any_length),
    ),
    Exhibit(
        "B-51",
        "late-refusal",
        "several VMAs: one is refused too late, 6.17-rc",
        "That a VMA may not move together with others is noticed when the next one is "
        "reached, after it has moved.",
        "error-traceless",
        _618,
        change=Change("engine.mremap:_move_several", changes.refused_too_late),
    ),
    Exhibit(
        "B-52",
        "stale-vma",
        "a VMA is used after it was merged away, 6.17-rc",
        "The copy was merged with its source; the pointer to the source is not replaced.",
        "vma-alive",
        _612,
        change=Change("engine.mremap:copy_vma", changes.stale_source),
    ),
    Exhibit(
        "B-56",
        "positive-errno",
        "an error with the wrong sign",
        "An error number is returned without its minus sign: the caller takes it for an address.",
        "fixed-address",
        _612,
        change=Change("engine.mremap:do_mremap", changes.positive_errno),
    ),
    Exhibit(
        "B-57",
        "map-count-late",
        "the VMA limit is looked at too late, until 5.0",
        "That there are too many VMAs is noticed when FIXED has unmapped the destination.",
        "error-traceless",
        _612,
        {"map_count_first": False},
    ),
    Exhibit(
        "B-62",
        "seal-late",
        "a seal is looked at too late",
        "The destination is unmapped before the source's seal refuses the call.",
        "error-traceless",
        _612,
        change=Change("engine.mremap:_check_vma", changes.unmapped_before_seal),
    ),
    Exhibit(
        "B-66",
        "hook-error",
        "an error of a driver's hook after the move",
        "The hook of a mapping refuses after all pages have moved, and nobody moves them back.",
        "error-traceless",
        _612,
        change=Change("engine.mremap:_move_back", changes.no_way_back_from_hook),
    ),
    Exhibit(
        "B-69",
        "overlap-wraps",
        "the test for overlapping ranges wraps, open",
        "Address plus length wraps for a huge length, so ranges that overlap pass; the error comes "
        "after something was unmapped.",
        "error-traceless",
        replace(_612, wrap_safe_overlap=True),
        {"wrap_safe_overlap": False},
    ),
    Exhibit(
        "B-70",
        "zero-length",
        "CVE-2003-0985, until 2.4.23",
        "A new length of 0 makes a VMA that covers nothing.",
        "vma-order",
        _612,
        change=Change("engine.mremap:do_mremap", changes.zero_length),
    ),
    Exhibit(
        "B-70",
        "unmap-ignored",
        "CVE-2004-0077, until 2.4.24",
        "With too many VMAs unmapping fails; the call goes on as if it had not.",
        "resize-exact",
        _612,
        change=Change("engine.mremap:_cut_tail", changes.unmap_error_ignored),
    ),
    # VMAs and accounting
    Exhibit(
        "B-31",
        "anon-vma-kept",
        "DONTUNMAP leaves the source linked to its anon_vma, 5.7 to 5.12",
        "A source that has given its pages away keeps their anon_vma, and later faults and "
        "merges go by it.",
        "anon-vma-linked",
        _612,
        {"dontunmap_unlinks_anon_vma": False},
    ),
    Exhibit(
        "B-32",
        "pgoff-kept",
        "DONTUNMAP keeps the page offset, until 7.3",
        "A source that DONTUNMAP has emptied counts as never faulted, but keeps the page offset "
        "of the time before an earlier move.",
        "unfaulted-pgoff",
        _612,
        {"dontunmap_resets_pgoff": False},
    ),
    Exhibit(
        "B-33",
        "account-cleared",
        "DONTUNMAP drops VM_ACCOUNT, 6.15 to 6.17",
        "The source loses the flag by which its commit charge is given back later.",
        "dontunmap-source",
        _612,
        {"dontunmap_keeps_account": False},
    ),
    Exhibit(
        "B-34",
        "locked-twice",
        "DONTUNMAP counts locked memory twice, 6.15 to 7.2",
        "The copy is counted as locked before the source's lock is taken away, which nobody "
        "counts.",
        "locked-vm",
        _612,
        {"dontunmap_counts_locked": True},
    ),
    Exhibit(
        "B-35",
        "self-merge",
        "DONTUNMAP merges the copy with its source, until 7.3",
        "Source and destination become one VMA, which then loses what only the source should.",
        "dontunmap-two-vmas",
        _612,
        {"dontunmap_no_self_merge": False},
    ),
    Exhibit(
        "B-36",
        "recharged",
        "a source that could not be unmapped is charged for, accountable or not, 6.15 to 7.1",
        "When the source cannot be cut out of its VMA it stays, and is charged for without "
        "looking at VM_ACCOUNT.",
        "committed",
        _612_UNCHARGING,
        change=Change("engine.mremap:_unmap_moved", changes.always_recharged),
    ),
    Exhibit(
        "B-37",
        "rollback-leaks",
        "a growing move that rolls back leaks commit charge, 5.16 to 7.2",
        "The charge for the growth is not given back when the move fails: Committed_AS stays "
        "too high for ever.",
        "committed",
        _612_UNCHARGING,
        {"uncharge_on_rollback": False},
    ),
    Exhibit(
        "B-39",
        "not-asked",
        "DONTUNMAP ignores the overcommit limit, 5.7 to 5.10",
        "A second accountable mapping appears without a question to the overcommit code.",
        "limits-hold",
        _612,
        {"dontunmap_asks_overcommit": False},
    ),
    Exhibit(
        "B-41",
        "pgoff-from-start",
        "growth in place from the middle of a VMA fails, 6.1 to 6.2",
        "The page offset of the extension is reckoned from the start of the VMA: no neighbour "
        "fits it.",
        "error-order",
        _612,
        change=Change("engine.mremap:_grow", changes.growth_from_start),
    ),
    Exhibit(
        "B-41",
        "uncharged",
        "growth in place that fails is given back, charged or not, 6.1 to 6.2",
        "Memory that is not accountable lowers the commit charge when it fails to grow.",
        "committed",
        _612_UNCHARGING,
        change=Change("engine.mremap:_grow", changes.growth_uncharged),
    ),
    Exhibit(
        "B-43",
        "unlinked",
        "CVE-2026-23077, 6.16 to 6.18.7",
        "A faulted range merges into an unfaulted neighbour without bringing its anon_vma "
        "along, which is freed while pages use it.",
        "anon-vma-linked",
        _618,
        {"merge_links_source": False},
    ),
    Exhibit(
        "B-46",
        "reservation",
        "hugetlb: reservations given back twice, until 6.15",
        "A copy that could not be completed releases reservations that belong to its source.",
        "hugetlb-reserve",
        _612,
        {"hugetlb_copy_keeps_reservation": False},
    ),
    Exhibit(
        "B-54",
        "changing",
        "userfaultfd: a failed mremap leaves its change pending, 4.17 to 6.16",
        "The count of changes is not given back, and the monitor's requests are refused for ever.",
        "uffd-changing",
        _612,
        change=Change("engine.pages.uffd:call_ended", changes.changing_kept),
    ),
    Exhibit(
        "B-55",
        "not-announced",
        "userfaultfd: what FIXED unmaps is not announced, 4.11 to 4.12",
        "The monitor cannot tell old pages of the destination from those that were moved there.",
        "uffd-changing",
        _612,
        change=Change("engine.mremap:_make_room", changes.destination_not_announced),
    ),
    Exhibit(
        "shrink-leak",
        "",
        "a FIXED move that shrinks leaks commit charge, 6.17 to 7.2",
        "The difference of the lengths is charged as if the mapping grew, and never given back.",
        "committed",
        _612_UNCHARGING,
        {"shrink_charges_delta": True},
    ),
)

BY_NAME = {exhibit.name.lower(): exhibit for exhibit in EXHIBITS}
assert len(BY_NAME) == len(EXHIBITS), "two exhibits have the same name"


def exhibit_named(name: str) -> Exhibit:
    """The exhibit of that full name.  Errors raised: UnknownName."""
    try:
        return BY_NAME[name.lower()]
    except KeyError:
        raise UnknownName("exhibit", name, [exhibit.name for exhibit in EXHIBITS]) from None


def exhibits_named(name: str) -> list[Exhibit]:
    """The exhibit of that name, or all variants of the bug with that id.

    Errors raised: UnknownName.
    """
    wanted = name.lower()
    return [e for e in EXHIBITS if e.id.lower() == wanted] or [exhibit_named(name)]
