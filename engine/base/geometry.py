"""An architecture: the shape of its page-table tree, user address space, what its CPUs permit."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate

from engine.base.address import Range

GIB = 1 << 30
ARENA_BYTES = 512 * GIB
FAULT_AROUND_BYTES = 64 << 10

PTE = 1  # level of a PTE table; its entries map pages
PMD = 2  # level of a PMD table; its entries map PTE tables or huge pages
PUD = 3  # level of a PUD table


@dataclass(frozen=True)
class Geometry:
    """Tree shape, address limits and access rights of one architecture configuration.

    Folded levels do not exist here: `index_bits` lists the real levels only, the PTE table first,
    the root (PGD) last.  With three levels the root's entries are what the kernel calls both PGD
    and (folded) PUD entries; with two levels they are PMD entries as well.

    Arguments: `page_shift` log2 of the page size in bytes; `index_bits` log2 of the entries of a
    table, by level; `user_top` first byte above user space; `word_bits` size of `unsigned long`;
    `min_addr` lowest address a program may map (vm.mmap_min_addr), bytes; `prealloc_pmd_tables`
    PMD tables exist for all of user space from the start (i386 PAE); `exec_only_keys` the CPU has
    protection keys, by which the kernel lets nobody read what may only be executed (x86-64);
    `has_tags` the top byte of an address is a tag, which most calls leave off (arm64);
    `arena_bytes` how much of user space cases use, if it has as much.
    Errors raised: ValueError for a shape no machine has.
    Source: arch/*/include/asm/pgtable*types.h, arch/arm64/include/asm/pgtable-hwdef.h.
    """

    name: str
    page_shift: int
    index_bits: tuple[int, ...]
    user_top: int
    word_bits: int = 64
    min_addr: int = 0x10000
    prealloc_pmd_tables: bool = False
    exec_only_keys: bool = False
    has_tags: bool = False
    arena_bytes: int = ARENA_BYTES
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not 4 <= self.page_shift <= 20:
            raise ValueError(f"{self.name}: page_shift {self.page_shift} is not in 4..20")
        if not 2 <= len(self.index_bits) <= 5:
            raise ValueError(f"{self.name}: {len(self.index_bits)} levels; 2 to 5 are supported")
        if any(not 1 <= bits <= 13 for bits in self.index_bits):
            raise ValueError(f"{self.name}: index bits {self.index_bits} are not all in 1..13")
        if self.user_top % self.page_bytes:
            raise ValueError(f"{self.name}: user_top {self.user_top:#x} is not page aligned")
        if not 0 < self.user_top <= self.span_bytes[-1]:
            raise ValueError(f"{self.name}: user_top {self.user_top:#x} is beyond the tree")
        if self.user_top > 1 << self.word_bits:
            raise ValueError(f"{self.name}: user_top {self.user_top:#x} needs a wider word")
        if self.prealloc_pmd_tables and len(self.index_bits) != 3:
            raise ValueError(f"{self.name}: preallocated PMD tables need exactly three levels")

    @cached_property
    def levels(self) -> int:
        """Real levels of the tree; the root is a table of this level."""
        return len(self.index_bits)

    @cached_property
    def page_bytes(self) -> int:
        """Bytes of a page."""
        return 1 << self.page_shift

    @cached_property
    def span_bytes(self) -> tuple[int, ...]:
        """span_bytes[level]: bytes a whole table of that level covers; [0] is a page."""
        shifts = accumulate(self.index_bits, initial=self.page_shift)
        return tuple(1 << shift for shift in shifts)

    @cached_property
    def entry_shift(self) -> tuple[int, ...]:
        """entry_shift[level]: log2 of the bytes one entry of a table of that level covers."""
        return (0, *accumulate(self.index_bits[:-1], initial=self.page_shift))

    @cached_property
    def index_mask(self) -> tuple[int, ...]:
        """index_mask[level]: mask of an index into a table of that level."""
        return (0, *((1 << bits) - 1 for bits in self.index_bits))

    @cached_property
    def path(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """path[level]: shift and mask of each index on the way from the root to a table of `level`.

        path[0] ends with the index of a PTE entry.
        """
        steps = tuple(zip(self.entry_shift, self.index_mask, strict=True))[:0:-1]
        return tuple(steps[: self.levels - level] for level in range(self.levels + 1))

    @cached_property
    def slot_bytes(self) -> int:
        """Bytes one PMD entry covers: PMD_SIZE, the slot of the specification."""
        return self.span_bytes[1]

    @cached_property
    def slot_pages(self) -> int:
        """Pages of a slot: HPAGE_PMD_NR."""
        return 1 << self.index_bits[0]

    @cached_property
    def pud_bytes(self) -> int:
        """Bytes one PUD entry covers: PUD_SIZE.  Equal to `slot_bytes` on two levels (folded)."""
        return self.span_bytes[min(2, self.levels - 1)]

    @cached_property
    def word_mask(self) -> int:
        """Mask of an `unsigned long`: addresses are computed modulo 2^word_bits."""
        return (1 << self.word_bits) - 1

    @cached_property
    def arena(self) -> Range:
        """The part of user space that cases use; addresses in cases are offsets into it."""
        size = self.arena_bytes
        if self.user_top <= size:
            return Range(0, self.user_top)
        base = min(1 << 44, self.user_top // 2 // size * size)
        return Range(base, base + size)

    @cached_property
    def whole(self) -> "Geometry":
        """The same, its arena as large as it can be."""
        return replace(self, arena_bytes=ARENA_BYTES)

    def has_tables_of(self, other: "Geometry") -> bool:
        """Is it the same machine, but for the part of user space that cases use?"""
        return replace(other.whole, name=self.name) == self.whole

    @cached_property
    def choice(self) -> Range:
        """Where the kernel may put what a call names no place for: what is free of the arena.

        Source: mm/mmap.c generic_get_unmapped_area_topdown(), round_hint_to_min().
        """
        return Range(max(self.arena.start, self.min_addr), self.arena.end)

    @cached_property
    def contiguous_pages(self) -> int:
        """Pages of a block whose entries may have the contiguous bit (arm64); 1: there is none.

        Source: arch/arm64/include/asm/pgtable-hwdef.h CONT_PTES.
        """
        return {12: 16, 14: 128, 16: 32}[self.page_shift] if self.has_tags else 1

    @cached_property
    def bytes_at_first(self) -> int:
        """Bytes of page tables below the root that an empty address space has.

        A program on a machine sees VmPTE with those of its own, so only what a call adds or frees
        can be compared.
        """
        return (
            -(-self.user_top // self.span_bytes[PMD]) * self.page_bytes * self.prealloc_pmd_tables
        )

    @cached_property
    def fault_around_pages(self) -> int:
        """Pages of the aligned window that a read of shared memory maps at once; 1: none beside it.

        Source: mm/memory.c fault_around_bytes of 6.1, fault_around_pages since 6.6: 64 KiB.
        """
        return max(1, FAULT_AROUND_BYTES >> self.page_shift)

    @cached_property
    def top_counted(self) -> int:
        """Highest level whose tables count in VmPTE: PTE, PMD and PUD tables below the root.

        One that maps more than the arena is not a case's: the program that runs it needs it, too.
        """
        top = min(PUD, self.levels - 1)
        return top - (top == PUD and self.span_bytes[PUD] > ARENA_BYTES)

    @cached_property
    def swaps_large(self) -> bool:
        """Large folios go to swap as a whole: on x86-64, and arm64 of 4 KiB (CONFIG_THP_SWAP)."""
        return self.word_bits == 64 and self.page_shift == 12


def _arm64(name: str, page_shift: int, va_bits: int, description: str) -> Geometry:
    """arm64: a table holds 2^(page_shift - 3) entries; the root takes the bits that are left."""
    stride = page_shift - 3
    bits = []
    left = va_bits - page_shift
    while left > 0:
        bits.append(min(stride, left))
        left -= stride
    shape = tuple(bits)
    return Geometry(
        name,
        page_shift,
        shape,
        1 << va_bits,
        min_addr=4096,
        has_tags=True,
        description=description,
    )


GEOMETRIES: dict[str, Geometry] = {
    geometry.name: geometry
    for geometry in (
        Geometry(
            "x86-64",
            12,
            (9, 9, 9, 9),
            (1 << 47) - 4096,
            description="x86-64, 4 levels, 2 MiB slots",
        ),
        Geometry(
            "x86-64-pku",
            12,
            (9, 9, 9, 9),
            (1 << 47) - 4096,
            exec_only_keys=True,
            description="x86-64 with protection keys: what may only be executed cannot be read",
        ),
        Geometry(
            "x86-64-la57",
            12,
            (9, 9, 9, 9, 9),
            (1 << 56) - 4096,
            description="x86-64, 5 levels",
        ),
        Geometry("i386", 12, (10, 10), 0xC0000000, 32, description="i386, 2 levels, 4 MiB slots"),
        Geometry(
            "i386-pae",
            12,
            (9, 9, 2),
            0xC0000000,
            32,
            prealloc_pmd_tables=True,
            description="i386 PAE, 3 levels, preallocated PMD tables",
        ),
        Geometry(
            "i386-pae-2g",
            12,
            (9, 9, 2),
            0xC0000000,
            32,
            prealloc_pmd_tables=True,
            arena_bytes=2 * GIB,
            description="i386 PAE as a machine runs cases: below 2 GiB, the program lies above",
        ),
        _arm64("arm64-4k-39", 12, 39, "arm64, 4 KiB pages, 39 bits, 3 levels"),
        _arm64("arm64-4k-48", 12, 48, "arm64, 4 KiB pages, 48 bits, 4 levels"),
        _arm64("arm64-4k-52", 12, 52, "arm64, 4 KiB pages, 52 bits, 5 levels"),
        _arm64("arm64-16k-36", 14, 36, "arm64, 16 KiB pages, 36 bits, 2 levels"),
        _arm64("arm64-16k-47", 14, 47, "arm64, 16 KiB pages, 47 bits, 3 levels"),
        _arm64("arm64-16k-48", 14, 48, "arm64, 16 KiB pages, 48 bits, 4 levels"),
        _arm64("arm64-16k-52", 14, 52, "arm64, 16 KiB pages, 52 bits (LPA2), 4 levels"),
        _arm64("arm64-64k-42", 16, 42, "arm64, 64 KiB pages, 42 bits, 2 levels"),
        _arm64("arm64-64k-48", 16, 48, "arm64, 64 KiB pages, 48 bits, 3 levels"),
        _arm64("arm64-64k-52", 16, 52, "arm64, 64 KiB pages, 52 bits, 3 levels"),
        Geometry(
            "small",
            12,
            (5, 5, 9, 9),
            (1 << 39) - 4096,
            description="not a machine: x86-64 with 32 entries in PTE and PMD tables",
        ),
        Geometry(
            "tiny",
            12,
            (2, 2, 2, 2),
            1 << 20,
            min_addr=0,
            description="not a machine: 2 bits a level, 16 KiB slots, 256 pages",
        ),
    )
}


class UnknownName(ValueError):
    """A kernel, geometry, switch or rule that does not exist; the message lists those that do."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(kind, name, known)
        self.kind, self.name, self.known = kind, name, known

    def __str__(self) -> str:
        return f"unknown {self.kind} {self.name!r}; known: {', '.join(self.known)}"


def geometry_named(name: str) -> Geometry:
    """The preset of that name.  Errors raised: UnknownName."""
    try:
        return GEOMETRIES[name]
    except KeyError:
        raise UnknownName("geometry", name, list(GEOMETRIES)) from None
