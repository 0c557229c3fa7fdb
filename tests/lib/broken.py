"""Which rules are broken by tests elsewhere than in tests/fuzz/rules/test_rules.py.

By the file there that has their tests.
"""

ENTRIES = {
    "entry-bits-kept",
    "huge-deposit",
    "migration-left",
    "rollback-keeps-wp",
    "soft-dirty",
    "table-not-leaf",
    "uffd-changing",
    "uffd-kept-elsewhere",
    "uffd-wp-stray",
    "writable-fits",
}
LAYOUT = {"vma-layout", "failure-strikes", "place-chosen"}
SHARED = {
    "tlb-unlock",
    "tlb-after",
    "table-move-locked",
    "rmap-order",
    "notifier-range",
    "anon-vma-linked",
    "merge-agrees",
    "pgoff-wrap",
    "vma-alive",
    "dontunmap-two-vmas",
    "high-water",
    "place-chosen",
    "allocation-asked",
    "emptied-table-freed",
}
