"""Defects that kernels are known to have: found again, they are reported by name.

Each is told here once.  A kernel has it if switches have bad values there, and a finding is
recognised by the rule that breaks, the call, and the kernel it was found on: a kernel that has the
fix cannot be excused by it.  Put back into a kernel without it, a defect is an exhibit of the
museum (`fuzz.defects.catalogue`).  A whole run is judged in `fuzz.showing`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from engine.base.address import round_up
from engine.base.kernel import Kernel
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED
from fuzz.case import Call

Settings = Mapping[str, bool]  # values of switches of a kernel


def _always(kernel: Kernel, call: Call) -> bool:
    return True


def _narrow(kernel: Kernel, call: Call) -> bool:
    return kernel.geometry.word_bits == 32


def _preallocated(kernel: Kernel, call: Call) -> bool:
    return kernel.geometry.prealloc_pmd_tables and kernel.moves_puds()


def _dontunmap(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP)


def _fixed(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_FIXED)


def _shrinks(kernel: Kernel, call: Call) -> bool:
    return _fixed(kernel, call) and call.args[1] > call.args[2]


def _grows(kernel: Kernel, call: Call) -> bool:
    return call.args[2] > call.args[1]


def _wraps(kernel: Kernel, call: Call) -> bool:
    page, top = kernel.geometry.page_bytes, kernel.geometry.word_mask
    base = kernel.geometry.arena.start
    addr, new_addr = (base + call.args[0]) & top, (base + call.args[4]) & top
    old_len, new_len = call.args[1] & top, call.args[2] & top
    return addr + round_up(old_len, page) > top or new_addr + round_up(new_len, page) > top


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect of kernels.

    `title` says it in a line; `text`, if it is an exhibit, what happens.  `rules` are those that it
    breaks, first the one that must catch it, through `calls` that are as `when` says.  A kernel has
    it that has one of `bad`, which are switches and their values; no switch: it is open everywhere.
    `wrecks`: the state behind it is no longer sound, so that other rules break as a consequence;
    `spoils` names those that do where the rest stays sound; `everywhere`: about every move shows
    it, so that another defect is the better name for a run that shows both.
    """

    id: str
    title: str
    rules: tuple[str, ...]
    bad: tuple[Settings, ...] = ({},)
    calls: tuple[str, ...] = ("mremap",)
    when: Callable[[Kernel, Call], bool] = _always
    wrecks: bool = False
    spoils: tuple[str, ...] = ()
    everywhere: bool = False
    repair: Settings = field(default_factory=dict)
    reason: str = ""
    text: str = ""

    def shows(self, kernel: Kernel, call: Call) -> bool:
        """May the kernel show it through a call of one of the names?"""
        return self.when(kernel, call) and any(
            all(getattr(kernel, switch) is value for switch, value in settings.items())
            for settings in self.bad
        )

    def put_back(self, correct: Kernel) -> Settings:
        """What has to be set otherwise in a kernel that has it not."""
        settings = self.bad[0].items()
        return {switch: bad for switch, bad in settings if getattr(correct, switch) is not bad}

    def repaired_on(self, kernel: Kernel) -> Kernel:
        """The kernel with this defect alone put right; its name tells the switches."""
        return _with(kernel, self.repair)


KNOWN: tuple[Defect, ...] = (
    Defect(
        "B-01",
        "the stack move meets the table it has just emptied; realignment ended it in 6.7",
        ("dest-entry-none",),
        bad=({"move_pmd": True, "realign_stack": False},),
        repair={"realign_stack": True, "negative_result_is_zero": True},
        calls=("execve_stack",),
        text=(
            "exec moves the stack over itself; the PMD mover meets the table that the PTE mover "
            "has just emptied, and warns. Realignment ended it."
        ),
    ),
    Defect(
        "B-05",
        "CVE-2022-41222: whole tables move without the rmap locks, until 5.13.2",
        ("table-move-locked",),
        bad=({"move_pmd": True, "table_moves_lock_rmap": False},),
        repair={"table_moves_lock_rmap": True},
        calls=("mremap", "execve_stack", "relocate"),
        everywhere=True,
        text=(
            "Whole tables move without the rmap locks: who waits for the lock of a table then "
            "changes entries of another address, and flushes the wrong one."
        ),
    ),
    Defect(
        "B-07",
        "CVE-2025-21696: what moves keeps the uffd-wp of the userfaultfd it leaves, 5.7 to 6.12",
        ("uffd-wp-stray",),
        bad=({"uffd_wp_cleared": False},),
        repair={"uffd_wp_cleared": True},
        text=(
            "Memory that userfaultfd write-protects moves without it; its entries keep the mark, "
            "and become writable and marked at once."
        ),
    ),
    Defect(
        "B-08",
        "CVE-2025-39775: a rollback moves tables that were not moved as tables, until 6.17",
        ("rollback-dest-none",),
        bad=({"move_pmd": True, "uffd_checks_both": False},),
        repair={"uffd_checks_both": True},
        text=(
            "Whether tables may move is asked of the old VMA only. In a rollback that is the "
            "copy, which says yes: the table goes back to where an emptied one is."
        ),
    ),
    Defect(
        "B-09",
        "CVE-2024-53111: the result check wraps on 32 bits, 6.7 to 6.11",
        ("move-result",),
        bad=({"negative_result_is_zero": True, "wrap_safe_result": False},),
        repair={"wrap_safe_result": True},
        calls=("mremap", "execve_stack", "relocate"),
        when=_narrow,
        wrecks=True,
        text=(
            "The check of the result adds addresses; on 32 bits the sum wraps, and a move that is "
            "complete counts as none: its pages are unmapped."
        ),
    ),
    Defect(
        "B-31",
        "DONTUNMAP leaves its source linked to the anon_vma of its pages, 5.7 to 5.12",
        ("anon-vma-linked",),
        bad=({"dontunmap_unlinks_anon_vma": False},),
        repair={"dontunmap_unlinks_anon_vma": True},
        when=_dontunmap,
        text=(
            "A source that has given its pages away keeps their anon_vma, and later faults and "
            "merges go by it."
        ),
    ),
    Defect(
        "B-32",
        "DONTUNMAP leaves an unfaulted VMA with the page offset of its old place, until 7.3",
        ("unfaulted-pgoff",),
        bad=({"dontunmap_resets_pgoff": False},),
        repair={"dontunmap_resets_pgoff": True},
        when=_dontunmap,
        text=(
            "A source that DONTUNMAP has emptied counts as never faulted, but keeps the page "
            "offset of the time before an earlier move."
        ),
    ),
    Defect(
        "B-33",
        "DONTUNMAP takes VM_ACCOUNT from its source, 6.15 to 6.17.5",
        ("dontunmap-source", "committed", "rollback-restores"),
        bad=({"dontunmap_keeps_account": False},),
        repair={"dontunmap_keeps_account": True},
        when=_dontunmap,
        spoils=("vma-layout", "committed"),
        text="The source loses the flag by which its commit charge is given back later.",
    ),
    Defect(
        "B-34",
        "DONTUNMAP miscounts locked memory, 6.15 to 7.2",
        ("locked-vm",),
        bad=({"dontunmap_counts_locked": True},),
        repair={"dontunmap_counts_locked": False},
        when=_dontunmap,
        spoils=("lock-limit-holds",),
        text=(
            "The copy is counted as locked before the source's lock is taken away, which nobody "
            "counts."
        ),
    ),
    Defect(
        "dontunmap-unlocks",
        "B-34's twin: DONTUNMAP unlocks the whole source VMA, even if the call then fails",
        ("lock-kept", "mapping-kept", "locked-vm"),
        bad=({"dontunmap_splits_locked": False},),
        repair={"dontunmap_splits_locked": True},
        when=_dontunmap,
        spoils=("lock-limit-holds",),
    ),
    Defect(
        "B-35",
        "DONTUNMAP merges the copy with its source, until 7.3",
        ("dontunmap-two-vmas",),
        bad=({"dontunmap_no_self_merge": False},),
        repair={"dontunmap_no_self_merge": True},
        when=_dontunmap,
        text="Source and destination become one VMA, which then loses what only the source should.",
    ),
    Defect(
        "B-39",
        "DONTUNMAP asks nobody whether another accountable mapping is granted, 5.7 to 5.10",
        ("limits-hold", "error-order"),
        bad=({"dontunmap_asks_overcommit": False},),
        repair={"dontunmap_asks_overcommit": True},
        when=_dontunmap,
        text="A second accountable mapping appears without a question to the overcommit code.",
    ),
    Defect(
        "B-43",
        "CVE-2026-23077: a merge forgets the anon_vma that a moved range brings, 6.16 to 6.18.7",
        ("anon-vma-linked",),
        bad=({"merge_faulted_source": True, "merge_links_source": False},),
        repair={"merge_links_source": True},
        wrecks=True,
        text=(
            "A faulted range merges into an unfaulted neighbour without bringing its anon_vma "
            "along, which is freed while pages use it."
        ),
    ),
    Defect(
        "B-49",
        "a batch spreads the write bit of its first entry, 6.17 to 6.17.8",
        ("entry-bits-kept",),
        bad=({"pte_batching": True, "batch_keeps_write": False},),
        repair={"batch_keeps_write": True},
        text=(
            "The entries of a batch are made from its first one, and the write bit was not looked "
            "at: a shared page becomes writable."
        ),
    ),
    Defect(
        "B-57",
        "that there are too many VMAs is found when FIXED has unmapped the destination, until 5.0",
        ("error-traceless",),
        bad=({"map_count_first": False},),
        repair={"map_count_first": True},
        when=_fixed,
        text="That there are too many VMAs is noticed when FIXED has unmapped the destination.",
    ),
    Defect(
        "B-63",
        "the PUD mover warns of a PMD table that is empty: PAE has them from the start; open",
        ("dest-entry-none",),
        bad=({"move_pud": True, "swaps_empty_pmd_table": False},),
        when=_preallocated,
        text=(
            "PMD tables of PAE exist from the start; the PUD mover takes an empty one at its "
            "destination for a mistake, and warns."
        ),
        repair={"swaps_empty_pmd_table": True},
        reason=(
            "An empty PMD table stands for nothing. The two tables can change places: then none is "
            "freed under PAE, where each entry must have one."
        ),
    ),
    Defect(
        "B-69",
        "the overlap test wraps, so EINVAL comes after something was unmapped; open",
        ("error-traceless",),
        bad=({"wrap_safe_overlap": False},),
        repair={"wrap_safe_overlap": True},
        reason="A range that wraps overlaps: check_add_overflow() says so at the price of a flag.",
        when=_wraps,
        text=(
            "Address plus length wraps for a huge length, so ranges that overlap pass; the error "
            "comes after something was unmapped."
        ),
    ),
    Defect(
        "shrink-leak",
        "a FIXED move that shrinks leaks commit charge, 6.17 to 7.2",
        ("committed",),
        bad=({"shrink_charges_delta": True},),
        repair={"shrink_charges_delta": False},
        when=_shrinks,
        text=(
            "The difference of the lengths is charged as if the mapping grew, and never given back."
        ),
    ),
    Defect(
        "uffd-neighbour",
        "a copy that merges takes the userfaultfd from all of the VMA it merges with; open",
        ("uffd-kept-elsewhere",),
        bad=({"uffd_copy_unmerged": False},),
        repair={"uffd_copy_unmerged": True},
        reason=(
            "The copy leaves its userfaultfd anyway; as a VMA of its own it takes nobody along."
        ),
    ),
    Defect(
        "uffd-rollback",
        "a move that is put back loses the uffd-wp of what had moved, since the fix of B-07; open",
        ("rollback-keeps-wp",),
        bad=({"uffd_wp_cleared": True, "uffd_wp_cleared_last": False},),
        repair={"uffd_wp_cleared_last": True},
        reason=(
            "Nobody faults while the mmap lock is held, so the marks may go when nothing can fail "
            "any more. A way back takes them along."
        ),
    ),
    Defect(
        "B-37",
        "a growing move that is put back leaks the charge for its growth, 5.16 to 7.2",
        ("committed",),
        bad=({"uncharge_on_rollback": False},),
        repair={"uncharge_on_rollback": True},
        when=_grows,
        text=(
            "The charge for the growth is not given back when the move fails: Committed_AS stays "
            "too high for ever."
        ),
    ),
    Defect(
        "B-46",
        "a copy of hugetlb that cannot be completed gives back its source's reservations, to 6.15",
        ("hugetlb-reserve",),
        bad=({"hugetlb_moves": True, "hugetlb_copy_keeps_reservation": False},),
        repair={"hugetlb_copy_keeps_reservation": True},
        text="A copy that could not be completed releases reservations that belong to its source.",
    ),
    Defect(
        "hugetlb-part",
        "moving a part of a hugetlb mapping leaks the reservations of the rest; open",
        ("hugetlb-reserve",),
        bad=({"hugetlb_moves": True, "hugetlb_rest_keeps_reservation": False},),
        repair={"hugetlb_rest_keeps_reservation": True},
        reason=(
            "If what has moved is cut off first, clear_vma_resv_huge_pages() is done to that "
            "part alone."
        ),
    ),
    Defect(
        "rollback-short",
        "the way back of a move that fails may need a page table, and loses pages without; open",
        ("rollback-complete",),
        wrecks=True,
        bad=({"rollback_nofail": False},),
        repair={"rollback_nofail": True},
        reason=("There is no other way out, and a table is one page: what __GFP_NOFAIL is for."),
    ),
    Defect(
        "not-cut-off",
        "what a move leaves stays mapped if there is no memory to split its VMA; open",
        ("moved-unmapped",),
        spoils=("limits-hold", "lock-limit-holds"),
        bad=({"unmap_moved_nofail": False},),
        repair={"unmap_moved_nofail": True},
        reason=(
            "There is no other way out once pages have moved, and two VMAs are small objects: "
            "what __GFP_NOFAIL is for."
        ),
    ),
    Defect(
        "hypothetical",
        "the stack's move with neighbours, which no kernel caller makes",
        ("dest-entry-none",),
        bad=({"move_pmd": True, "stack_expects_emptied": False},),
        calls=("relocate",),
        repair={"stack_expects_emptied": True},
        reason=(
            "The fallback is right, the warning is not: what neighbours keep from realigning "
            "leaves its first table where it has to go."
        ),
    ),
)


DEFECTS = {defect.id: defect for defect in KNOWN}
_REPAIRS = {switch: right for defect in KNOWN for switch, right in defect.repair.items()}


@lru_cache(maxsize=256)
def repaired(kernel: Kernel) -> Kernel:
    """The kernel with all known defects put right; its name tells the switches."""
    return _with(kernel, _REPAIRS)


def _with(kernel: Kernel, settings: Settings) -> Kernel:
    """The kernel with these settings, under the name by which `kernel_named` knows it."""
    changes = {name: on for name, on in settings.items() if getattr(kernel, name) is not on}
    switches = "".join(f"{'+' if on else '-'}{name}" for name, on in changes.items())
    more: dict[str, Any] = {"name": kernel.name + switches, **changes}
    return replace(kernel, **more)


def known_defect(rule: str, call: Call, kernel: Kernel) -> Defect | None:
    """The known defect that a violation of `rule` through `call` shows on `kernel`, if any."""
    for known in KNOWN:
        if rule in known.rules and call.name in known.calls and known.shows(kernel, call):
            return known
    return None
