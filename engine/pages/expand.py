"""A stack grows down to what is accessed below it (VM_GROWSDOWN).

Source: mm/mmap.c expand_downwards(), acct_stack_growth().
"""

from engine.base.address import round_down
from engine.pages.rmap import prepare_anon_vma
from engine.state.space import STACK_LIMIT_BYTES, AddressSpace
from engine.state.vma import STACK_GUARD_PAGES, VM_ACCESS, VM_ACCOUNT, VM_GROWSDOWN, Vma


def grow_down(space: AddressSpace, vma: Vma, start: int, end: int) -> None:
    """Let a stack grow down to the first page of [start, end) that it may grow to, if there is one.

    Not nearer than the guard gap to an accessible VMA below that is no stack itself, and not beyond
    RLIMIT_STACK and other limits.  Only the first is looked at before the stack gets an anon_vma.
    What it grows by is charged, also where its VMA is not, and will not give it back.
    """
    shift = space.geometry.page_shift
    below = space.vmas.before(vma.start)
    lowest, top = start, min(vma.start, end)
    if below is not None:
        guarded = below.flags & VM_ACCESS and not below.flags & VM_GROWSDOWN
        lowest = max(lowest, below.end + (STACK_GUARD_PAGES << shift if guarded else 0))
    if lowest < top:
        prepare_anon_vma(space, vma)
    lowest = max(lowest, vma.end - STACK_LIMIT_BYTES, vma.start - (vma.pgoff << shift))
    counted = vma.flags
    if not counted & VM_ACCOUNT and not space.kernel.stack_growth_charges_accountable:
        counted |= VM_ACCOUNT
    granted = space.growth_granted(counted)
    if granted is not None:
        lowest = max(lowest, vma.start - round_down(granted, space.geometry.page_bytes))
    if lowest < top:
        space.account(counted, vma.start - lowest)
        space.vmas.resize(vma, lowest, vma.end)
