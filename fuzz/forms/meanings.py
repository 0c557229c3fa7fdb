"""What the bytes of the byte form can mean, and how likely each meaning is (see `fuzz.forms.wire`).

A table of weights says how many of the 256 values of a byte choose what, in proportion.
"""

from fuzz.case import (
    ADVICE,
    FAILURES,
    MAP_FLAGS,
    PROT_FLAGS,
    REMAP_FLAGS,
    UFFD_FEATURES,
    UFFD_MODES,
)

# Which call prepares memory for another.
PREPARED_BY = {
    "uffd_wp": "uffd_register",
    "migrate_begin": "touch",
    "migrate_end": "migrate_begin",
    "swapout": "touch",
    "touch_on": "touch",
    "exit_child": "fork",
}

# What can follow from nothing; other calls need a mapping to do anything of interest.
CREATORS = ("mmap", "execve_stack")
AT_ONCE = (*CREATORS, "@limit")

OPCODES = {  # weights; "" is a literal
    "mmap": 50,
    "touch": 50,
    "mremap": 66,
    "munmap": 12,
    "mprotect": 10,
    "madvise": 16,
    "execve_stack": 10,
    "peek": 8,
    "relocate": 6,
    "mlock": 5,
    "munlock": 3,
    "touch_on": 10,
    "uffd_register": 4,
    "uffd_wp": 9,
    "swapout": 5,
    "fork": 4,
    "exit_child": 3,
    "migrate_begin": 3,
    "migrate_end": 6,
    "soft_dirty_clear": 2,
    "mseal": 4,
    "@fail": 10,
    "@limit": 4,
    "": 4,
}

# Modes of an address.  Those below SPAN refer to an earlier mapping ("it").  The delta is not
# added where "exactly" is said: whole mappings and whole spans must not be rare.
(
    ORIGIN,  # exactly the start of it
    START,  # the start of it
    END,  # the end of it: adjacent above
    SLOT,  # a slot boundary inside it
    INSIDE,  # a page inside it
    BELOW,  # as far below it as the range is long: adjacent below
    USED,  # the start of a range an earlier call was given
    SHIFT,  # whole slots or PUD spans away from the first address of the call, or from it
    SPAN,  # exactly a PUD boundary
    PUD,  # a PUD boundary
    PMD,  # a PMD boundary
    ALIKE,  # at a PMD boundary plus the offset in its slot of the first address, or of it
    ALIKE_PUD,  # the same with PUD spans
    TOP,  # the range ends at the end of the arena, or a page below it
) = range(14)

# Modes of a length.
(
    PAGES,  # some pages
    FEW,  # a handful of pages
    SLOTS,  # whole slots
    QUARTERS,  # whole slots and quarters of one
    SPANS,  # exactly whole PUD spans
    PUDS,  # whole PUD spans
    SLOT_END,  # up to the end of a slot
    PUD_END,  # up to the end of the PUD span
    REST,  # exactly up to the end of the mapping that the address refers to
    REST_ABOUT,  # the same, plus a delta
    WHOLE,  # as long as that mapping
    NEXT,  # up to the next mapping above
    SIZE,  # exactly as long as the range before it in the same call
    SIZE_ABOUT,  # the same, plus a delta
    ODD,  # zero, huge, wrapping
) = range(15)

# How many of them, by index.
SLOT_COUNTS = (1, 1, 1, 2, 2, 3, 4, 8)
PUD_COUNTS = (1, 1, 1, 2)
PAGE_COUNTS = (1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 64, 100)
FEW_COUNTS = (1, 1, 1, 2, 2, 3, 4, 8)

# Weights of the modes by the role of the operand.
FRESH = {
    SPAN: 22,
    PMD: 22,
    PUD: 12,
    END: 12,
    ALIKE: 10,
    START: 6,
    SHIFT: 6,
    SLOT: 5,
    USED: 5,
}
EXISTING = {
    ORIGIN: 37,
    INSIDE: 26,
    SLOT: 16,
    START: 7,
    USED: 6,
    END: 4,
    PMD: 2,
    PUD: 1,
    SPAN: 1,
}
EARLIER = {USED: 52, ORIGIN: 22, START: 8, SLOT: 6, INSIDE: 12}  # what was prepared for it
TARGET = {
    ALIKE: 20,
    SPAN: 20,
    PMD: 12,
    SHIFT: 10,
    PUD: 10,
    END: 9,
    BELOW: 8,
    ALIKE_PUD: 6,
    USED: 9,
    START: 2,
    TOP: 1,
}
STACK_END = {TOP: 42, PMD: 38, PUD: 20}

FRESH_LEN = {
    SLOTS: 16,
    QUARTERS: 10,
    PAGES: 22,
    SPANS: 16,
    SLOT_END: 13,
    PUDS: 8,
    WHOLE: 8,
    NEXT: 5,
    PUD_END: 3,
    ODD: 1,
}
SOURCE_LEN = {
    REST: 40,
    PAGES: 18,
    REST_ABOUT: 12,
    SLOT_END: 11,
    SLOTS: 7,
    WHOLE: 5,
    SPANS: 3,
    PUDS: 2,
    PUD_END: 1,
    ODD: 1,
}
NEW_LEN = {
    SIZE: 56,
    SIZE_ABOUT: 16,
    SLOTS: 8,
    PAGES: 6,
    NEXT: 5,
    SLOT_END: 4,
    PUDS: 4,
    ODD: 1,
}
POPULATED_LEN = {FEW: 66, SLOT_END: 10, REST: 9, SLOTS: 8, REST_ABOUT: 4, WHOLE: 2, ODD: 1}
STACK_LEN = {QUARTERS: 50, SLOTS: 20, PAGES: 18, FEW: 12}
SHIFT_LEN = {SLOTS: 54, PAGES: 18, SIZE_ABOUT: 10, FEW: 6, PUDS: 4, ODD: 4, SPANS: 2}

_RW = PROT_FLAGS["PROT_READ"] | PROT_FLAGS["PROT_WRITE"]
PROTECTIONS = {_RW: 78, 1: 10, 0: 5, 7: 3, 2: 1, 5: 1, 4: 1, 8: 1}
_ANONYMOUS = MAP_FLAGS["MAP_ANONYMOUS"]
_PRIVATE, _SHARED = MAP_FLAGS["MAP_PRIVATE"] | _ANONYMOUS, MAP_FLAGS["MAP_SHARED"] | _ANONYMOUS
_FIXED, _NOREPLACE = MAP_FLAGS["MAP_FIXED"], MAP_FLAGS["MAP_FIXED_NOREPLACE"]
_POPULATE, _LOCKED = MAP_FLAGS["MAP_POPULATE"], MAP_FLAGS["MAP_LOCKED"]
MAPPINGS = {
    _PRIVATE | _FIXED: 54,
    _SHARED | _FIXED: 14,
    _PRIVATE: 4,
    _SHARED: 2,
    _PRIVATE | _NOREPLACE: 4,
    _SHARED | _NOREPLACE: 2,
    _PRIVATE | _FIXED | _POPULATE: 5,
    _SHARED | _FIXED | _POPULATE: 2,
    _PRIVATE | _FIXED | _LOCKED: 3,
    _PRIVATE | _FIXED | MAP_FLAGS["MAP_NORESERVE"]: 2,
    _PRIVATE | _FIXED | MAP_FLAGS["MAP_GROWSDOWN"]: 2,
    _PRIVATE | _FIXED | MAP_FLAGS["MAP_HUGETLB"]: 2,
    _SHARED | _FIXED | MAP_FLAGS["MAP_HUGETLB"]: 1,
    _PRIVATE | _FIXED | _NOREPLACE: 1,
    _PRIVATE | _SHARED | _FIXED: 1,
    _ANONYMOUS | _FIXED: 1,
    MAP_FLAGS["MAP_PRIVATE"] | _FIXED: 1,
}
_MAYMOVE, _MOVE_FIXED, _DONTUNMAP = REMAP_FLAGS.values()
REMAPPINGS = {
    _MAYMOVE | _MOVE_FIXED: 64,
    _MAYMOVE | _MOVE_FIXED | _DONTUNMAP: 14,
    _MAYMOVE: 10,
    _MAYMOVE | _DONTUNMAP: 5,
    0: 4,
    _MOVE_FIXED: 1,
    _MOVE_FIXED | _DONTUNMAP: 1,
    8 | _MAYMOVE: 1,
}
_LIKELY_ADVICE = {
    "MADV_DONTNEED": 8,
    "MADV_HUGEPAGE": 24,
    "MADV_NOHUGEPAGE": 3,
    "MADV_COLLAPSE": 6,
    "MADV_FREE": 4,
    "MADV_POPULATE_READ": 4,
    "MADV_POPULATE_WRITE": 4,
    "MADV_GUARD_INSTALL": 4,
    "MADV_GUARD_REMOVE": 3,
    "MADV_REMOVE": 2,
    "MADV_PAGEOUT": 2,
    "MADV_DONTFORK": 2,
}
ADVICES = {value: _LIKELY_ADVICE.get(name, 1) for name, value in ADVICE.items()} | {9999: 1}

_MISSING, _WP, _MINOR = UFFD_MODES.values()
LIKELY_MODES = {_WP: 12, _MISSING: 3, _WP | _MISSING: 3, _MINOR: 1, 0: 1, 8: 1}
_FORKS, _REMAPS, _REMOVES, _UNMAPS = UFFD_FEATURES.values()
LIKELY_FEATURES = {
    0: 8,
    _REMAPS: 6,
    _REMAPS | _UNMAPS: 2,
    _FORKS: 2,
    _FORKS | _REMAPS: 1,
    _UNMAPS: 1,
    _REMOVES: 1,
}
LIKELY_FAILURES = {
    FAILURES["pagetable"]: 8,
    FAILURES["vma"]: 4,
    FAILURES["commit"]: 2,
    FAILURES["maps"]: 2,
    FAILURES["hook"]: 2,
}
ATTEMPTS = {1: 8, 2: 6, 3: 4, 4: 3, 5: 2, 6: 2, 7: 1, 8: 1, 9: 1, 12: 1, 16: 1}
# A limit on VMAs counts them, the others bytes: one table serves both, as few as a program makes.
COUNTED = (4, 5, 6, 7, 8, 9, 10, 12, 16)
AMOUNT_SLOTS = (1, 2, 3, 4, 6, 8)  # besides these, 16 and 64 pages

# Values of a choice after which the length is kept to what may be populated.
POPULATING_ADVICE = frozenset((ADVICE["MADV_POPULATE_READ"], ADVICE["MADV_POPULATE_WRITE"]))
POPULATING_FLAGS = frozenset(flags for flags in MAPPINGS if flags & (_POPULATE | _LOCKED))
