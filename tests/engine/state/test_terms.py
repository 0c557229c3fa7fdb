"""How what is in an address space is told."""

import pytest

from engine.base.address import Range
from engine.base.entry import (
    ANON,
    DIRTY,
    HUGE,
    MARKER,
    MIGRATION,
    PRESENT,
    SWAP,
    UFFD_WP,
    WP_MARKER,
    WRITE,
    ZERO_ENTRY,
    leaf,
)
from engine.base.geometry import PMD, PTE, geometry_named
from engine.base.uapi import UFFD_FEATURE_EVENT_REMAP
from engine.base.violation import Violation
from engine.state import terms
from engine.state.backing import ANONYMOUS, Shmem
from engine.state.vma import (
    VM_ACCOUNT,
    VM_LOCKED,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    AnonVma,
    UffdContext,
    Vma,
)

X86 = geometry_named("x86-64")
BASE = X86.arena.start
RANGE = Range(BASE + 0x200000, BASE + 0x204000)


def test_addresses_are_offsets_into_the_arena() -> None:
    assert terms.address(X86, BASE + 0x200000) == "0x200000"
    assert terms.address(X86, BASE - 0x1000) == "-0x1000"
    assert terms.span(X86, RANGE) == "[0x200000, 0x204000)"
    assert terms.spans(X86, [RANGE, RANGE]) == "[0x200000, 0x204000), [0x200000, 0x204000)"
    assert terms.spans(X86, []) == "nothing"


@pytest.mark.parametrize(
    ("length", "told"),
    [(0, "0 B"), (1, "1 B"), (4097, "4097 B"), (0x3000, "12 KiB"), (1 << 21, "2 MiB")],
)
def test_sizes_are_exact(length: int, told: str) -> None:
    assert terms.size(length) == told


def test_counts() -> None:
    assert terms.count(1, "page") == "1 page"
    assert terms.count(0, "page") == "0 pages"
    assert terms.count(2, "entry") == "2 entries"
    assert terms.counter(terms.LOCKED, 2) == "2 pages locked (VmLck)"


def test_flags_have_names() -> None:
    assert terms.flags(VM_READ | VM_LOCKED) == "VM_READ|VM_LOCKED"
    assert terms.flags(VM_READ | 0x10) == "VM_READ|0x10"
    assert terms.flags(0) == "no flags"
    assert terms.protection(VM_READ | VM_SHARED) == "r--s"


def test_vmas() -> None:
    flags, pgoff = VM_READ | VM_WRITE | VM_ACCOUNT, RANGE.start >> X86.page_shift
    private = terms.vma(X86, Vma(*RANGE, flags, pgoff))
    assert private == "[0x200000, 0x204000) rw-p VM_ACCOUNT, anonymous memory at page offset 0x200"
    shared = Vma(*RANGE, VM_READ | VM_SHARED, 2, backing=Shmem(3, 8))
    assert terms.vma(X86, shared) == "[0x200000, 0x204000) r--s, shared object 3 at page offset 0x2"
    assert terms.mapping(X86, RANGE, 0, ANONYMOUS) == "[0x200000, 0x204000) ---p, anonymous memory"
    assert terms.anon_vma(AnonVma(1)) == "anon_vma 1"
    assert terms.anon_vma(None) == "no anon_vma"


def test_userfaultfds() -> None:
    told = terms.userfaultfd(UffdContext(UFFD_FEATURE_EVENT_REMAP))
    assert told == "a userfaultfd with UFFD_FEATURE_EVENT_REMAP"
    assert terms.userfaultfd(UffdContext(0)) == "a userfaultfd with no features"
    assert terms.userfaultfd(None) == "no userfaultfd"


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (leaf(12, PRESENT | ANON | WRITE | DIRTY), "frame 12, writable, dirty"),
        (leaf(12, PRESENT), "frame 12 of an object"),
        (leaf(512, PRESENT | ANON | HUGE), "the huge page at frame 512"),
        (ZERO_ENTRY, "the zero page, accessed"),
        (ZERO_ENTRY | HUGE, "the huge zero page, accessed"),
        (leaf(3, SWAP | UFFD_WP), "swap slot 3, uffd-wp"),
        (leaf(3, MIGRATION | ANON), "a migration entry for frame 3"),
        (leaf(3, ANON), "an entry that is not present, frame 3"),
        (MARKER, "a guard marker"),
        (WP_MARKER, "a uffd-wp marker"),
    ],
)
def test_entries(held: int, told: str) -> None:
    assert terms.entry(held) == told


def test_tables() -> None:
    assert terms.table(PTE, 2) == "a PTE table with 2 entries"
    assert terms.table(PMD, 0) == "an emptied PMD table"


def test_what_holds_of_the_whole_space_has_no_place() -> None:
    somewhere = Violation("committed", RANGE, "this", "that")
    assert terms.violation(X86, somewhere) == (
        "committed at [0x200000, 0x204000)\n  found     this\n  expected  that"
    )
    everywhere = Violation("committed", X86.arena, "this", "that")
    assert terms.violation(X86, everywhere) == "committed\n  found     this\n  expected  that"
