"""Defects that kernels are known to have: found again, they are reported by name.

A defect is recognised by the rule that breaks, the call, and the switches of the kernel it was
found on: a kernel that has the fix cannot be excused by it.  A whole run is judged by them in
`fuzz.showing`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.base.address import round_up
from engine.base.kernel import Kernel
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED
from fuzz.case import Call


@dataclass(frozen=True, slots=True)
class Known:
    """One defect, and the rules that it breaks.

    `has` says whether a kernel may show it through a call; `wrecks`, whether the state behind it is
    no longer sound, so that other rules break as a consequence; `spoils` names those that do where
    the rest stays sound; `everywhere`, whether about every move shows it, so that another defect is
    the better name for a run that shows both.
    """

    id: str
    rules: tuple[str, ...]
    calls: tuple[str, ...]
    text: str
    has: Callable[[Kernel, Call], bool]
    wrecks: bool = False
    spoils: tuple[str, ...] = ()
    everywhere: bool = False


def _stack_warning(kernel: Kernel, call: Call) -> bool:
    return kernel.move_pmd and not (kernel.realign and kernel.realign_stack)


def _pae_gigabyte(kernel: Kernel, call: Call) -> bool:
    return kernel.geometry.prealloc_pmd_tables and kernel.moves_puds()


def _wraps(kernel: Kernel, call: Call) -> bool:
    page, top = kernel.geometry.page_bytes, kernel.geometry.word_mask
    base = kernel.geometry.arena.start
    addr, new_addr = (base + call.args[0]) & top, (base + call.args[4]) & top
    old_len, new_len = call.args[1] & top, call.args[2] & top
    wraps = addr + round_up(old_len, page) > top or new_addr + round_up(new_len, page) > top
    return wraps and not kernel.wrap_safe_overlap


def _result_wraps(kernel: Kernel, call: Call) -> bool:
    return (
        kernel.negative_result_is_zero
        and not kernel.wrap_safe_result
        and kernel.geometry.word_bits == 32
    )


def _keeps_pgoff(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP) and not kernel.dontunmap_resets_pgoff


def _keeps_anon_vma(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP) and not kernel.dontunmap_unlinks_anon_vma


def _asks_nobody(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP) and not kernel.dontunmap_asks_overcommit


def _spreads_write(kernel: Kernel, call: Call) -> bool:
    return kernel.pte_batching and not kernel.batch_keeps_write


def _clears_account(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP) and not kernel.dontunmap_keeps_account


def _counts_locked(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP) and (
        kernel.dontunmap_counts_locked or not kernel.dontunmap_splits_locked
    )


def _unlocks_all(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP) and not kernel.dontunmap_splits_locked


def _shrink_leak(kernel: Kernel, call: Call) -> bool:
    return (
        bool(call.args[3] & MREMAP_FIXED)
        and call.args[1] > call.args[2]
        and kernel.shrink_charges_delta
    )


def _growth_leak(kernel: Kernel, call: Call) -> bool:
    return call.args[2] > call.args[1] and not kernel.uncharge_on_rollback


def _reservation_leak(kernel: Kernel, call: Call) -> bool:
    return kernel.hugetlb_moves


def _unlocked_tables(kernel: Kernel, call: Call) -> bool:
    return kernel.move_pmd and not kernel.table_moves_lock_rmap


def _merges_with_itself(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_DONTUNMAP) and not kernel.dontunmap_no_self_merge


def _forgets_anon_vma(kernel: Kernel, call: Call) -> bool:
    return kernel.merge_faulted_source and not kernel.merge_links_source


def _full_too_late(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & MREMAP_FIXED) and not kernel.map_count_first


def _keeps_wp(kernel: Kernel, call: Call) -> bool:
    return not kernel.uffd_wp_cleared


def _clears_wp(kernel: Kernel, call: Call) -> bool:
    return kernel.uffd_wp_cleared


def _rolls_tables_back(kernel: Kernel, call: Call) -> bool:
    return kernel.move_pmd and not kernel.uffd_checks_both


def _unlocks_its_copy(kernel: Kernel, call: Call) -> bool:
    return _unlocks_all(kernel, call) and _merges_with_itself(kernel, call)


def _open(kernel: Kernel, call: Call) -> bool:
    return True


def _no_caller(kernel: Kernel, call: Call) -> bool:
    return kernel.move_pmd


KNOWN: tuple[Known, ...] = (
    Known(
        "B-01",
        ("dest-entry-none",),
        ("execve_stack",),
        "the stack move meets the table it has just emptied; realignment ended it in 6.7",
        _stack_warning,
    ),
    Known(
        "B-05",
        ("table-move-locked",),
        ("mremap", "execve_stack", "relocate"),
        "CVE-2022-41222: whole tables move without the rmap locks, until 5.13.2",
        _unlocked_tables,
        everywhere=True,
    ),
    Known(
        "B-07",
        ("uffd-wp-stray",),
        ("mremap",),
        "CVE-2025-21696: what moves keeps the uffd-wp of the userfaultfd it leaves, 5.7 to 6.12",
        _keeps_wp,
    ),
    Known(
        "B-08",
        ("rollback-dest-none",),
        ("mremap",),
        "CVE-2025-39775: a rollback moves tables that were not moved as tables, until 6.17",
        _rolls_tables_back,
    ),
    Known(
        "B-09",
        ("move-result",),
        ("mremap", "execve_stack", "relocate"),
        "CVE-2024-53111: the result check wraps on 32 bits, 6.7 to 6.11",
        _result_wraps,
        wrecks=True,
    ),
    Known(
        "B-31",
        ("anon-vma-linked",),
        ("mremap",),
        "DONTUNMAP leaves its source linked to the anon_vma of its pages, 5.7 to 5.12",
        _keeps_anon_vma,
    ),
    Known(
        "B-32",
        ("unfaulted-pgoff",),
        ("mremap",),
        "DONTUNMAP leaves an unfaulted VMA with the page offset of its old place, until 7.3",
        _keeps_pgoff,
    ),
    Known(
        "B-33",
        ("dontunmap-source", "committed", "rollback-restores"),
        ("mremap",),
        "DONTUNMAP takes VM_ACCOUNT from its source, 6.15 to 6.17.5",
        _clears_account,
        spoils=("vma-layout", "committed"),
    ),
    Known(
        "B-34",
        ("locked-vm",),
        ("mremap",),
        "DONTUNMAP miscounts locked memory, 6.15 to 7.2",
        _counts_locked,
        spoils=("lock-limit-holds",),
    ),
    Known(
        "dontunmap-unlocks",
        ("lock-kept",),
        ("mremap",),
        "B-34's twin: DONTUNMAP unlocks the whole source VMA, even if the call then fails",
        _unlocks_all,
    ),
    Known(
        "B-35",
        ("dontunmap-two-vmas",),
        ("mremap",),
        "DONTUNMAP merges the copy with its source, until 7.3",
        _merges_with_itself,
    ),
    Known(
        "B-35-unlocked",
        ("mapping-kept",),
        ("mremap",),
        "a copy that was merged with its source (B-35) is unlocked with it",
        _unlocks_its_copy,
    ),
    Known(
        "B-39",
        ("limits-hold", "error-order"),
        ("mremap",),
        "DONTUNMAP asks nobody whether another accountable mapping is granted, 5.7 to 5.10",
        _asks_nobody,
    ),
    Known(
        "B-43",
        ("anon-vma-linked",),
        ("mremap",),
        "CVE-2026-23077: a merge forgets the anon_vma that a moved range brings, 6.16 to 6.18.7",
        _forgets_anon_vma,
        wrecks=True,
    ),
    Known(
        "B-49",
        ("entry-bits-kept",),
        ("mremap",),
        "a batch spreads the write bit of its first entry, 6.17 to 6.17.8",
        _spreads_write,
    ),
    Known(
        "B-57",
        ("error-traceless",),
        ("mremap",),
        "that there are too many VMAs is found when FIXED has unmapped the destination, until 5.0",
        _full_too_late,
    ),
    Known(
        "B-63",
        ("dest-entry-none",),
        ("mremap",),
        "i386 PAE has PMD tables where nothing was mapped yet; the PUD mover warns of them; open",
        _pae_gigabyte,
    ),
    Known(
        "B-69",
        ("error-traceless",),
        ("mremap",),
        "the overlap test wraps, so EINVAL comes after something was unmapped; open",
        _wraps,
    ),
    Known(
        "shrink-leak",
        ("committed",),
        ("mremap",),
        "a FIXED move that shrinks leaks commit charge, 6.17 to 7.2",
        _shrink_leak,
    ),
    Known(
        "uffd-neighbour",
        ("uffd-kept-elsewhere",),
        ("mremap",),
        "a copy that merges takes the userfaultfd from all of the VMA it merges with; open",
        _open,
    ),
    Known(
        "uffd-rollback",
        ("rollback-keeps-wp",),
        ("mremap",),
        "a move that is put back loses the uffd-wp of what had moved, since the fix of B-07; open",
        _clears_wp,
    ),
    Known(
        "B-37",
        ("committed",),
        ("mremap",),
        "a growing move that is put back leaks the charge for its growth, 5.16 to 7.2",
        _growth_leak,
    ),
    Known(
        "hugetlb-part",
        ("hugetlb-reserve",),
        ("mremap",),
        "moving a part of a hugetlb mapping leaks the reservations of the rest; open",
        _reservation_leak,
    ),
    Known(
        "rollback-short",
        ("rollback-complete",),
        ("mremap",),
        "the way back of a move that fails may need a page table, and loses pages without; open",
        _open,
        wrecks=True,
    ),
    Known(
        "not-cut-off",
        ("moved-unmapped",),
        ("mremap",),
        "what a move leaves stays mapped if there is no memory to split its VMA; open",
        _open,
        spoils=("limits-hold", "lock-limit-holds"),
    ),
    Known(
        "hypothetical",
        ("dest-entry-none",),
        ("relocate",),
        "the stack's move with neighbours, which no kernel caller makes",
        _no_caller,
    ),
)


DEFECTS = {known.id: known for known in KNOWN}


def known_defect(rule: str, call: Call, kernel: Kernel) -> Known | None:
    """The known defect that a violation of `rule` through `call` shows on `kernel`, if any."""
    for known in KNOWN:
        if rule in known.rules and call.name in known.calls and known.has(kernel, call):
            return known
    return None
