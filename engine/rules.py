"""The catalogue of rules: what the kernel promises, one entry a promise.

The ids are those of the specification's section 9; the slug is what a violation carries and what
`@expect` names.  Where a rule is checked: in the mover itself (`move.py`, at the kernel's own
warnings), on a whole state (`rules_state.py`), around one page-table move (`rules_move.py`), around
one call (`rules_call.py`), or against the independent oracle.
"""

from dataclasses import dataclass

from engine.geometry import UnknownName


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise: `checkpoint` when it is checked, at what `cost`, `where` it is checked."""

    id: str
    slug: str
    statement: str
    checkpoint: str
    cost: str
    where: str


RULES: tuple[Rule, ...] = (
    Rule(
        "I-01",
        "dest-entry-none",
        "a destination entry is none when something is stored there",
        "each store",
        "O(1)",
        "move",
    ),
    Rule(
        "I-02",
        "table-linked-once",
        "every table has exactly one parent entry",
        "after a call",
        "O(tables)",
        "rules_state",
    ),
    Rule(
        "I-03",
        "table-has-vma",
        "a table's span holds part of a VMA (but for preallocated PMD tables)",
        "after a call",
        "O(tables)",
        "rules_state",
    ),
    Rule(
        "I-04",
        "leaf-has-vma",
        "every leaf lies inside a VMA of its kind",
        "after a call",
        "O(pages)",
        "rules_state",
    ),
    Rule(
        "I-05",
        "pages-kept",
        "a move loses no page and maps none twice",
        "end of a move",
        "O(pages)",
        "rules_move",
    ),
    Rule(
        "I-06",
        "entries-at-new",
        "after a move the entry for old + x is at new + x",
        "end of a move",
        "O(pages)",
        "rules_move",
    ),
    Rule(
        "I-07",
        "others-untouched",
        "no entry outside the requested range changes place",
        "end of a move",
        "O(pages)",
        "rules_move",
    ),
    Rule(
        "I-08",
        "extent-bounds",
        "an extent is 1 page to what is left and crosses no boundary of its level",
        "each extent",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "I-09",
        "cursor-lockstep",
        "both cursors keep their distance and always go up",
        "each iteration",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "I-10",
        "move-result",
        "a move's result is 0 to its length, and the length only if the loop ran to the end",
        "end of a move",
        "O(1)",
        "move, rules_move",
    ),
    Rule(
        "I-11",
        "rollback-restores",
        "a move that fails puts every entry back, and its destination is gone",
        "after a call",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "I-12",
        "rollback-dest-none",
        "moving back never finds a destination table entry occupied",
        "each store",
        "O(1)",
        "move",
    ),
    Rule(
        "V-01",
        "vma-order",
        "VMAs are sorted, disjoint, not empty, page aligned, inside user space",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "V-02",
        "map-count",
        "the number of VMAs does not pass vm.max_map_count",
        "after a call",
        "O(1)",
        "rules_state",
    ),
    Rule(
        "V-03",
        "unfaulted-pgoff",
        "an unfaulted anonymous VMA has the page offset of its address",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "V-04",
        "page-index",
        "a page's index is its VMA's page offset plus its distance from the start",
        "after a call",
        "O(pages)",
        "rules_state",
    ),
    Rule(
        "A-01",
        "total-vm",
        "total_vm equals the pages of all VMAs",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "A-02",
        "locked-vm",
        "locked_vm equals the pages of all locked VMAs",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "A-03",
        "committed",
        "the commit charge equals the pages of all accountable VMAs",
        "after a call",
        "O(VMAs)",
        "rules_state",
    ),
    Rule(
        "A-04",
        "table-count",
        "the table counters equal the tables that are linked",
        "after a call",
        "O(tables)",
        "rules_state",
    ),
    Rule(
        "A-05",
        "rss-count",
        "the rss counters equal the pages that are mapped",
        "after a call",
        "O(pages)",
        "rules_state",
    ),
    Rule(
        "S-02",
        "error-traceless",
        "an error found before anything is unmapped leaves everything as it was",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-03",
        "fixed-address",
        "with MREMAP_FIXED success returns the new address",
        "after mremap",
        "O(1)",
        "rules_call",
    ),
    Rule(
        "S-04",
        "fixed-exact",
        "after a FIXED move the destination holds exactly what was moved",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-05",
        "dontunmap-source",
        "DONTUNMAP leaves the source mapped, empty, unlocked, else with its flags",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-06",
        "resize-exact",
        "a no-op changes nothing, a shrink unmaps the tail and nothing else",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-07",
        "duplicate-keeps-source",
        "old_len 0 leaves the source unchanged",
        "after mremap",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "S-08",
        "multi-gaps",
        "a move of several VMAs keeps their gaps, and what was mapped at a gap's destination",
        "after mremap",
        "O(VMAs)",
        "rules_call",
    ),
    Rule(
        "X-01",
        "exec-alone",
        "while exec moves the stack nothing else is mapped",
        "start of a move",
        "O(1)",
        "rules_move",
    ),
    Rule(
        "X-02",
        "stack-placed",
        "after exec the stack is at its new place, every page readable, no table outside its slots",
        "after execve_stack",
        "O(pages)",
        "rules_call",
    ),
    Rule(
        "X-03",
        "stack-warn-count",
        "the stack move finds an occupied entry exactly as often as its geometry predicts",
        "after execve_stack",
        "O(1)",
        "rules_call",
    ),
    Rule(
        "X-04",
        "stack-pgoff",
        "the stack's page offset is constant while it moves",
        "after execve_stack",
        "O(1)",
        "rules_call",
    ),
    Rule(
        "X-05",
        "stack-fits",
        "a stack that does not fit is an error, not an assertion",
        "execve_stack",
        "O(1)",
        "stack",
    ),
    Rule(
        "O-01",
        "oracle-contents",
        "the contents of memory equal those of the independent oracle",
        "after a call",
        "O(pages)",
        "fuzz.oracle",
    ),
)

BY_SLUG = {rule.slug: rule for rule in RULES}


def rule_named(name: str) -> Rule:
    """The rule with that slug or id.  Errors raised: UnknownName, which lists the known slugs."""
    for rule in RULES:
        if name in (rule.slug, rule.id):
            return rule
    raise UnknownName("rule", name, list(BY_SLUG))
