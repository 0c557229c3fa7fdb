"""Defects that kernels are known to have: found again, they are reported by name.

A defect is recognised by the rule that breaks, the call, and the switches of the kernel it was
found on: a kernel that has the fix cannot be excused by it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.address import round_up
from engine.kernel import Kernel
from fuzz.case import REMAP_FLAGS, Call

_FIXED, _DONTUNMAP = REMAP_FLAGS["MREMAP_FIXED"], REMAP_FLAGS["MREMAP_DONTUNMAP"]


@dataclass(frozen=True, slots=True)
class Known:
    """One defect.  `has` says whether a kernel may show it through a call."""

    id: str
    rule: str
    call: str
    text: str
    has: Callable[[Kernel, Call], bool]


def _stack_warning(kernel: Kernel, call: Call) -> bool:
    return kernel.move_pmd and not (kernel.realign and kernel.realign_stack)


def _pae_gigabyte(kernel: Kernel, call: Call) -> bool:
    return kernel.geometry.prealloc_pmd_tables and kernel.moves_puds()


def _wraps(kernel: Kernel, call: Call) -> bool:
    geometry = kernel.geometry
    addr, old_len, new_len = (geometry.arena.start + call.args[0], *call.args[1:3])
    page, top = geometry.page_bytes, geometry.word_mask
    new_addr = geometry.arena.start + call.args[4]
    return addr + round_up(old_len, page) > top or new_addr + round_up(new_len, page) > top


def _result_wraps(kernel: Kernel, call: Call) -> bool:
    return (
        kernel.negative_result_is_zero
        and not kernel.wrap_safe_result
        and kernel.geometry.word_bits == 32
    )


def _keeps_pgoff(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & _DONTUNMAP) and not kernel.dontunmap_resets_pgoff


def _counts_locked(kernel: Kernel, call: Call) -> bool:
    return bool(call.args[3] & _DONTUNMAP) and (
        kernel.dontunmap_counts_locked or not kernel.dontunmap_splits_locked
    )


def _shrink_leak(kernel: Kernel, call: Call) -> bool:
    return (
        kernel.shrink_charges_delta and bool(call.args[3] & _FIXED) and call.args[1] > call.args[2]
    )


def _no_caller(kernel: Kernel, call: Call) -> bool:
    return kernel.move_pmd


KNOWN: tuple[Known, ...] = (
    Known(
        "B-01",
        "dest-entry-none",
        "execve_stack",
        "the stack move meets the table it has just emptied; realignment ended it in 6.7",
        _stack_warning,
    ),
    Known(
        "B-09",
        "move-result",
        "mremap",
        "CVE-2024-53111: the result check wraps on 32 bits, 6.7 to 6.11",
        _result_wraps,
    ),
    Known(
        "B-32",
        "unfaulted-pgoff",
        "mremap",
        "DONTUNMAP leaves an unfaulted VMA with the page offset of its old place, until 7.3",
        _keeps_pgoff,
    ),
    Known(
        "B-34",
        "locked-vm",
        "mremap",
        "DONTUNMAP miscounts locked memory, 6.15 to 7.2",
        _counts_locked,
    ),
    Known(
        "B-63",
        "dest-entry-none",
        "mremap",
        "i386 PAE has PMD tables where nothing was mapped yet; the PUD mover warns of them; open",
        _pae_gigabyte,
    ),
    Known(
        "B-69",
        "error-traceless",
        "mremap",
        "the overlap test wraps, so EINVAL comes after something was unmapped; open",
        _wraps,
    ),
    Known(
        "shrink-leak",
        "committed",
        "mremap",
        "a FIXED move that shrinks leaks commit charge, 6.17 and 6.18 at least; open",
        _shrink_leak,
    ),
    Known(
        "hypothetical",
        "dest-entry-none",
        "relocate",
        "the stack's move with neighbours, which no kernel caller makes",
        _no_caller,
    ),
)


def known_defect(rule: str, call: Call, kernel: Kernel) -> Known | None:
    """The known defect that a violation of `rule` through `call` shows on `kernel`, if any."""
    for known in KNOWN:
        if (known.rule, known.call) == (rule, call.name) and known.has(kernel, call):
            return known
    return None
