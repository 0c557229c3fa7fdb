"""The catalogue of rules: what the kernel promises, one entry a promise.

The slug is what a violation carries and what `@expect` names.  Where a rule is checked: in the
engine itself (at the kernel's own warnings), on a whole state (`rules_state.py`), around one
page-table move (`rules_move.py`), around one call (`rules_call.py`), or against the independent
oracle.  Numbers like B-01 are bugs of Linux, see `pmdfuzz museum`.
"""

from dataclasses import dataclass

from engine.geometry import UnknownName


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise: `source` what makes it in the kernel, and which bugs broke it; `checkpoint` when
    it is checked, at what `cost`, `where` it is checked."""

    id: str
    slug: str
    statement: str
    source: str
    checkpoint: str
    cost: str
    where: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A promise that the model cannot break: `needs` is what it would take to."""

    id: str
    slug: str
    statement: str
    source: str
    checkpoint: str
    needs: str


RULES: tuple[Rule, ...] = (
    Rule(
        "I-01",
        "dest-entry-none",
        "a destination entry is none when something is stored there",
        "WARN_ON in move_normal_pmd(), move_normal_pud(), move_huge_pmd(); B-01, B-48, B-63",
        "each store",
        "O(1)",
        "move",
    ),
    Rule(
        "I-02",
        "table-linked-once",
        "every table has exactly one parent entry",
        "mm/pgtable-generic.c; B-05, B-06, B-14",
        "after a call",
        "O(tables)",
        "rules_state",
    ),
    Rule(
        "I-03",
        "table-has-vma",
        "a table's span holds part of a VMA (but for preallocated PMD tables)",
        "free_pgtables(): it should have released it; B-01, B-63, B-65",
        "after a call",
        "O(tables)",
        "rules_state",
    ),
    Rule(
        "I-04",
        "leaf-has-vma",
        "every leaf, huge or not, lies inside one VMA of its kind",
        "vm_normal_page(), print_bad_pte(), vma_adjust_trans_huge(); B-12",
        "after a call",
        "O(pages)",
        "rules_state",
    ),
    Rule(
        "I-05",
        "pages-kept",
        "a move loses no page and maps none twice",
        "check_mm(), the rss counters; B-64",
        "end of a move",
        "O(pages)",
        "rules_move",
    ),
    Rule(
        "I-06",
        "entries-at-new",
        "after a move the entry for old + x is at new + x",
        "selftests/mm/mremap_test.c; B-09, B-45",
        "end of a move",
        "O(pages)",
        "rules_move",
    ),
    Rule(
        "I-07",
        "others-untouched",
        "no entry outside the requested range changes place",
        "can_align_down(); B-12",
        "end of a move",
        "O(pages)",
        "rules_move",
    ),
    Rule(
        "I-08",
        "extent-bounds",
        "an extent is 1 page to what is left and crosses no boundary of its level",
        "get_extent(); B-10",
        "each extent",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "I-09",
        "cursor-lockstep",
        "both cursors keep their distance and always go up",
        "move_page_tables(); B-09, B-10, B-45",
        "each iteration",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "I-10",
        "move-result",
        "a move's result is 0 to its length, and the length only if the loop ran to the end",
        "the end of move_page_tables(); B-11",
        "end of a move",
        "O(1)",
        "move, rules_move",
    ),
    Rule(
        "I-11",
        "rollback-restores",
        "a move that fails puts every entry back, and its destination is gone",
        "the error path of move_vma(); B-08",
        "after a call",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "I-12",
        "rollback-dest-none",
        "moving back never finds a destination table entry occupied",
        "as I-01, on the way back; B-08, B-68",
        "each store",
        "O(1)",
        "move",
    ),
    Rule(
        "I-13",
        "tlb-unlock",
        "no TLB translates a moved page's old address when a lock of its entry is dropped",
        "move_ptes(), flush_tlb_range(), eb66ae030829; CVE-2018-18281, B-02 to B-04, B-28",
        "each bite",
        "O(TLB)",
        "rules_tlb",
    ),
    Rule(
        "I-14",
        "tlb-after",
        "what a TLB translates is what the tables say, with no more permission",
        "flush_tlb_range() of every change of an entry; B-29",
        "after a call",
        "O(TLB)",
        "rules_tlb",
    ),
    Rule(
        "I-15",
        "migration-left",
        "a migration that ends finds every entry it has put somewhere",
        "remove_migration_ptes(); B-20, B-71",
        "end of a migration",
        "O(pages)",
        "rmap",
    ),
    Rule(
        "I-16",
        "table-move-locked",
        "a whole table moves under the rmap locks of the source",
        "take_rmap_locks(), 97113eb39fa7 (5.14); CVE-2022-41222, B-05",
        "each bite",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "I-17",
        "rmap-order",
        "without the rmap locks the destination comes after the source in the reverse map",
        "need_rmap_locks of copy_vma(), take_rmap_locks(); B-18, B-19",
        "start of a move, each bite",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "I-18",
        "table-not-leaf",
        "what moves as a table is a table, what moves as a leaf is a leaf",
        "move_normal_pmd(), 6fa1066fc5d0; B-15",
        "each bite",
        "O(1)",
        "move",
    ),
    Rule(
        "I-20",
        "huge-deposit",
        "each huge page of private memory has a PTE table in store, with its own PMD table",
        "pgtable_trans_huge_deposit(); B-16",
        "after a call",
        "O(tables)",
        "rules_entry",
    ),
    Rule(
        "I-21",
        "soft-dirty",
        "what moved alone is soft-dirty, what moved in its table is as it was",
        "move_soft_dirty_pte(); B-61",
        "end of a move",
        "O(pages)",
        "rules_entry",
    ),
    Rule(
        "I-22",
        "uffd-wp-stray",
        "no entry is write-protected for a userfaultfd that its mapping is not registered with",
        "move_ptes(), 0cef0bb836e3; B-07",
        "after a call",
        "O(pages)",
        "rules_entry",
    ),
    Rule(
        "I-23",
        "entry-bits-kept",
        "a move changes no permission, no exclusiveness, no swap slot; a batch is dirty as a whole",
        "move_ptes(), 04d1c9d60c6e; B-49",
        "end of a move",
        "O(pages)",
        "rules_entry",
    ),
    Rule(
        "I-24",
        "notifier-range",
        "old addresses change inside a range announced to secondary MMUs, which then ends",
        "mmu_notifier_invalidate_range_start(), mmu_notifier_invalidate_range_end()",
        "each bite, end of a move",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "I-26",
        "largest-bite",
        "a move starts at a slot boundary if it may, and takes whole tables where it can",
        "try_realign_addr(), 6.7",
        "each bite",
        "O(VMAs)",
        "rules_walk",
    ),
    Rule(
        "I-28",
        "writable-fits",
        "no entry permits more than its VMA",
        "change_protection()",
        "after a call",
        "O(pages)",
        "rules_entry",
    ),
    Rule(
        "I-27",
        "failed-alloc-harmless",
        "a table that cannot be allocated costs nobody else theirs",
        "alloc_new_pmd(); B-24",
        "each failed allocation",
        "O(pages)",
        "rules_limits",
    ),
    Rule(
        "V-01",
        "vma-order",
        "VMAs are sorted, disjoint, not empty, page aligned, inside user space",
        "validate_mm(); CVE-2003-0985",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "V-02",
        "map-count",
        "the number of VMAs does not pass vm.max_map_count",
        "sysctl_max_map_count; B-57",
        "after a call",
        "O(1)",
        "rules_state",
    ),
    Rule(
        "V-03",
        "unfaulted-pgoff",
        "an unfaulted anonymous VMA has the page offset of its address",
        "copy_vma(), dontunmap_complete(); B-32",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "V-04",
        "page-index",
        "a page's index is its VMA's page offset plus its distance from the start",
        "__page_set_anon_rmap(), linear_page_index(); B-41, B-42",
        "after a call",
        "O(pages)",
        "rules_state",
    ),
    Rule(
        "V-05",
        "anon-vma-linked",
        "a VMA is linked to its anon_vma, and its pages belong to that",
        "anon_vma_clone(), dup_anon_vma(), unlink_anon_vmas(); B-31, CVE-2026-23077 (B-43)",
        "after a call",
        "O(pages)",
        "rules_state, rules_call",
    ),
    Rule(
        "V-06",
        "merge-agrees",
        "what merges agrees in flags, object, page offset, userfaultfd and anon_vma",
        "can_vma_merge_before(), can_vma_merge_after(); B-41, B-42",
        "each merge",
        "O(1)",
        "merge",
    ),
    Rule(
        "V-07",
        "pgoff-wrap",
        "the page offsets of a VMA do not wrap",
        "vma_to_resize(); B-23",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "V-09",
        "vma-alive",
        "a move works on VMAs of the address space",
        "remap_move(), copy_vma(); B-43, B-52",
        "start of a move",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "V-11",
        "dontunmap-two-vmas",
        "the source of DONTUNMAP and its copy are two VMAs",
        "copy_vma(); B-35",
        "each DONTUNMAP",
        "O(1)",
        "mremap",
    ),
    Rule(
        "A-01",
        "total-vm",
        "total_vm equals the pages of all VMAs",
        "vm_stat_account()",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "A-02",
        "locked-vm",
        "locked_vm equals the pages of all locked VMAs",
        "mm->locked_vm; B-34, B-35",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "A-03",
        "committed",
        "the commit charge equals the pages of all accountable VMAs",
        "security_vm_enough_memory_mm(), vm_unacct_memory(); B-33, B-36 to B-40",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "A-04",
        "table-count",
        "the table counters equal the tables that are linked; at first only preallocated ones are",
        "mm_inc_nr_ptes(), check_mm(), pgd_alloc(); B-06, B-13",
        "start, after a call",
        "O(tables)",
        "rules_state",
    ),
    Rule(
        "A-05",
        "rss-count",
        "the rss counters equal the pages that are mapped",
        "add_mm_rss_vec(), check_mm(); B-48",
        "after a call",
        "O(pages)",
        "rules_state",
    ),
    Rule(
        "A-06",
        "high-water",
        "a move does not raise the peak of mapped memory by counting its pages twice",
        "hiwater_vm in move_vma()",
        "after mremap",
        "O(1)",
        "rules_call",
    ),
    Rule(
        "A-07",
        "hugetlb-reserve",
        "each reserved huge page of hugetlb belongs to one mapping or file, and none is missing",
        "hugetlb_reserve_pages(), hugetlb_vm_op_close(); B-46",
        "after a call",
        "O(VMAs)",
        "rules_limits",
    ),
    Rule(
        "S-01",
        "error-order",
        "a call is granted, or refused with the error of the first check that fails",
        "do_mremap(), mremap_to(), vma_to_resize(), check_prep_vma()",
        "after mremap, execve_stack and relocate",
        "O(VMAs)",
        "rules_errors",
    ),
    Rule(
        "S-02",
        "error-traceless",
        "an error found before anything is unmapped leaves everything as it was",
        "as S-01; B-53, B-69",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-03",
        "fixed-address",
        "with MREMAP_FIXED success returns the new address",
        "mremap_to(); B-52",
        "after mremap",
        "O(1)",
        "rules_call",
    ),
    Rule(
        "S-04",
        "fixed-exact",
        "after a FIXED move the destination holds exactly what was moved",
        "mremap_to()",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-05",
        "dontunmap-source",
        "DONTUNMAP leaves the source mapped, empty, unlocked, else with its flags",
        "dontunmap_complete(); B-33, B-35",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-06",
        "resize-exact",
        "a no-op changes nothing, a shrink unmaps the tail and nothing else",
        "do_mremap(); B-53",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-07",
        "duplicate-keeps-source",
        "old_len 0 leaves the source unchanged",
        "vma_to_resize(), copy_vma()",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-08",
        "multi-gaps",
        "a move of several VMAs keeps their gaps, and what was mapped at a gap's destination",
        "remap_move(), 6.17; B-51",
        "after mremap",
        "O(VMAs)",
        "rules_call",
    ),
    Rule(
        "S-09",
        "uffd-changing",
        "userfaultfd hears of what happened where it watches and of nothing else, then may go on",
        "mremap_userfaultfd_prep(), mmap_changing; B-54",
        "after a call",
        "O(VMAs)",
        "rules_entry, rules_state",
    ),
    Rule(
        "S-10",
        "populate-on-success",
        "a call that failed has brought no page in",
        "mm_populate() in mremap(); B-58",
        "after mremap",
        "O(pages)",
        "rules_limits",
    ),
    Rule(
        "S-11",
        "mapping-kept",
        "a mapping that moves or grows keeps its flags, its object and its place in that",
        "copy_vma(), vma_merge()",
        "after mremap and execve_stack",
        "O(VMAs)",
        "rules_mapping",
    ),
    Rule(
        "S-12",
        "uffd-kept-elsewhere",
        "a move leaves the registrations of other memory with userfaultfd alone",
        "mremap_userfaultfd_prep(), vma_merge()",
        "after mremap",
        "O(VMAs)",
        "rules_entry",
    ),
    Rule(
        "X-01",
        "exec-alone",
        "while exec moves the stack nothing else is mapped",
        "setup_arg_pages(); B-20",
        "start of a move",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "X-02",
        "stack-placed",
        "after exec the stack is at its new place, every page readable, no table outside its slots",
        "relocate_vma_down(), shift_arg_pages(); B-01",
        "after execve_stack",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "X-03",
        "stack-warn-count",
        "the stack move finds an occupied entry exactly as often as its geometry predicts",
        "as I-01; B-01",
        "after execve_stack",
        "O(1)",
        "rules_call",
    ),
    Rule(
        "X-04",
        "stack-pgoff",
        "the stack's page offset is constant while it moves",
        "relocate_vma_down()",
        "after execve_stack",
        "O(1)",
        "rules_call",
    ),
    Rule(
        "X-05",
        "stack-fits",
        "a stack that does not fit is an error, not an assertion; one that does is none",
        "setup_arg_pages(), acct_stack_growth(); CVE-2010-3858, B-21",
        "execve_stack",
        "O(1)",
        "stack, rules_limits",
    ),
    Rule(
        "O-01",
        "oracle-contents",
        "the contents of memory equal those of the independent oracle",
        "the oracle: a dictionary and a list of intervals",
        "after a call",
        "O(pages)",
        "fuzz.oracle",
    ),
)

UNCHECKED: tuple[Unchecked, ...] = (
    Unchecked(
        "I-19",
        "table-still-linked",
        "a PTE table is worked on only while its PMD entry points to it",
        "pte_offset_map_rw_nolock(), 6.5; B-25",
        "each bite",
        "a collapse by another process while the mover waits for a lock",
    ),
    Unchecked(
        "I-25",
        "locks-ordered",
        "every lock is taken once, in order, and released",
        "lockdep",
        "always",
        "locks and who else takes them",
    ),
    Unchecked(
        "V-08",
        "file-tree",
        "every VMA of a file is in the tree of the file once, at its page offset",
        "vma_interval_tree_insert()",
        "after a call",
        "a tree apart from the VMAs: here an object's VMAs are looked up among all",
    ),
    Unchecked(
        "V-10",
        "vma-write-locked",
        "source and destination are write-locked while their entries move",
        "vma_start_write(), 6.4",
        "each bite",
        "faults that run at the same time",
    ),
)

BY_SLUG = {rule.slug: rule for rule in RULES}


def rule_named(name: str) -> Rule:
    """The rule with that slug or id.  Errors raised: UnknownName, which lists the known slugs."""
    for rule in RULES:
        if name in (rule.slug, rule.id):
            return rule
    raise UnknownName("rule", name, list(BY_SLUG))


def promise_named(name: str) -> Rule | Unchecked:
    """The promise with that slug or id, checked or not.  Errors raised: UnknownName."""
    for promise in UNCHECKED:
        if name in (promise.slug, promise.id):
            return promise
    return rule_named(name)
