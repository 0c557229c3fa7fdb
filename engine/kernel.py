"""Kernels as sets of feature switches, plus a geometry.

A kernel version is nothing but a set of behaviours.  `SWITCHES` describes each behaviour and the
release it started in; a named kernel is a setting of all of them.  A kernel bug, fixed or open, is
a setting too.  Sources: the table of section 10 of the specification, checked against Linux
6.1.192, 6.12.117 and 6.18.44.
"""

from dataclasses import dataclass, field, fields, replace

from engine.geometry import GEOMETRIES, Geometry, UnknownName, geometry_named


def _switch(since: str, text: str) -> bool:
    """A switch that is off unless a kernel names it; its metadata feeds `pmdfuzz kernels`."""
    value: bool = field(default=False, metadata={"since": since, "text": text})
    return value


@dataclass(frozen=True, slots=True)
class Kernel:
    """A geometry and the behaviours of one kernel."""

    name: str
    geometry: Geometry = GEOMETRIES["x86-64"]
    move_pmd: bool = _switch("5.0", "whole PTE tables move (move_normal_pmd)")
    move_pud: bool = _switch("5.11", "whole PMD tables move (move_normal_pud), above two levels")
    may_retry: bool = _switch(
        "6.5", "the movers expect a PTE table to come or go under them (pte_offset_map_lock)"
    )
    dontunmap: bool = _switch("5.7", "MREMAP_DONTUNMAP, on private anonymous memory")
    dontunmap_any: bool = _switch("5.13", "DONTUNMAP on shared mappings as well")
    realign: bool = _switch(
        "6.7", "lower both starts to a slot boundary if nothing is mapped below"
    )
    realign_stack: bool = _switch("6.7", "realignment inside the stack VMA (for_stack)")
    negative_result_is_zero: bool = _switch(
        "6.7", "a move that fails below its start moved nothing"
    )
    wrap_safe_result: bool = _switch(
        "6.12", "the result check compares old_addr with old_end - len"
    )
    pmd_recheck: bool = _switch("6.12", "the PMD mover re-reads the entry under its lock")
    merge_new_range: bool = _switch(
        "6.12", "mmap joins left and right neighbour if they fit each other (vma_merge_new_range)"
    )
    mprotect_uncharges: bool = _switch(
        "6.5", "mprotect drops VM_ACCOUNT of never faulted memory that becomes read-only"
    )
    dontunmap_no_self_merge: bool = _switch(
        "7.3, stable 2026", "DONTUNMAP does not merge the copy with its source"
    )
    dontunmap_resets_pgoff: bool = _switch(
        "7.3, stable 2026", "DONTUNMAP of a whole anonymous VMA resets its vm_pgoff"
    )
    dontunmap_splits_locked: bool = _switch(
        "7.3, stable 2026", "DONTUNMAP splits a locked VMA at the ends of the range"
    )
    dontunmap_counts_locked: bool = _switch(
        "6.15 to 7.2", "DONTUNMAP counts locked pages twice (B-34)"
    )
    shrink_charges_delta: bool = _switch(
        "6.17", "a FIXED move that shrinks charges the difference and keeps it"
    )
    check_before_unmap: bool = _switch("6.17", "the source is checked before FIXED unmaps anything")
    multi_vma_move: bool = _switch("6.17", "FIXED moves of equal size span several VMAs")
    merge_faulted_source: bool = _switch(
        "6.16", "a faulted range merges into an unfaulted neighbour"
    )
    warn_pte_occupied: bool = _switch("6.16", "the PTE mover warns of an occupied destination")
    thp_aligned_search: bool = _switch("6.7", "kernel-chosen addresses are aligned for huge pages")
    zero_pages_on_split: bool = _switch(
        "6.12", "splitting a large folio maps the zero page where nothing was written"
    )
    populate_passes_holes: bool = _switch("5.14 to 6.8", "MADV_POPULATE_* goes on behind a hole")
    guard_markers: bool = _switch("6.13", "MADV_GUARD_INSTALL and MADV_GUARD_REMOVE")
    huge_zero_write_allocates: bool = _switch(
        "6.14", "writing to the huge zero page makes a huge page, not one small page"
    )
    collapses_without_write: bool = _switch(
        "6.17", "MADV_COLLAPSE needs no writable page in the slot"
    )
    reclaims_tables: bool = _switch("6.14", "MADV_DONTNEED frees PTE tables it empties")

    def on(self, geometry: Geometry) -> "Kernel":
        """The same behaviours on another geometry."""
        return self if geometry == self.geometry else replace(self, geometry=geometry)

    def moves_puds(self) -> bool:
        """True if the PUD mover is compiled in: d6655dff2e25 (5.14) leaves it out on two levels."""
        return self.move_pud and self.geometry.levels > 2


@dataclass(frozen=True, slots=True)
class Switch:
    """One behaviour by which kernels differ."""

    name: str
    since: str
    text: str


SWITCHES: tuple[Switch, ...] = tuple(
    Switch(f.name, f.metadata["since"], f.metadata["text"]) for f in fields(Kernel) if f.metadata
)

_SINCE_5_0 = ("move_pmd",)
_SINCE_5_13 = (*_SINCE_5_0, "move_pud", "dontunmap", "dontunmap_any")
_FIXES_OF_2026 = ("dontunmap_no_self_merge", "dontunmap_resets_pgoff", "dontunmap_splits_locked")
_SINCE_6_7 = (
    *_SINCE_5_13,
    "may_retry",
    "realign",
    "realign_stack",
    "negative_result_is_zero",
    "thp_aligned_search",
    "mprotect_uncharges",
)
_SINCE_6_12 = (
    *_SINCE_6_7,
    "wrap_safe_result",
    "pmd_recheck",
    "merge_new_range",
    "zero_pages_on_split",
)
_SINCE_6_18 = (
    *_SINCE_6_12,
    "dontunmap_counts_locked",
    "shrink_charges_delta",
    "check_before_unmap",
    "multi_vma_move",
    "merge_faulted_source",
    "warn_pte_occupied",
    "guard_markers",
    "huge_zero_write_allocates",
    "collapses_without_write",
    "reclaims_tables",
)


def _named(name: str, *switches: str) -> Kernel:
    return Kernel(name, **dict.fromkeys(switches, True))  # type: ignore[arg-type]


KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        _named("linux-5.0", *_SINCE_5_0),
        _named("linux-6.1", *_SINCE_5_13, "populate_passes_holes", *_FIXES_OF_2026),
        _named("linux-6.7", *_SINCE_6_7, "populate_passes_holes"),
        _named("linux-6.12", *_SINCE_6_12, *_FIXES_OF_2026),
        _named("linux-6.18", *_SINCE_6_18),
    )
}


def kernel_named(name: str, geometry: str | None = None) -> Kernel:
    """The named kernel, on another geometry if one is named.

    Errors raised: UnknownName, which lists the known names.
    """
    try:
        kernel = KERNELS[name]
    except KeyError:
        raise UnknownName("kernel", name, list(KERNELS)) from None
    return kernel.on(geometry_named(geometry)) if geometry else kernel
