"""The stack move of execve(2): the caller that moves page tables inside one VMA, over itself.

The new program's arguments are written to a temporary stack at the top of user space; then the
stack goes down to where the binary format wants it.  Source and destination may overlap.
Source: fs/exec.c setup_arg_pages(), shift_arg_pages() in 6.1; mm/mmap.c relocate_vma_down() in
6.12; mm/vma_exec.c since 6.16.
"""

from engine.base.address import Range
from engine.base.entry import PFN_SHIFT
from engine.base.geometry import PTE
from engine.base.points import MMAP_WRITE, RELOCATE_VMA_DOWN
from engine.base.seam import seam
from engine.base.uapi import Errno
from engine.base.violation import Violation
from engine.move import Move, move_page_tables
from engine.pages.fault import populate
from engine.pages.rmap import begin_migration, end_migration
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import VM_ACCOUNT, VM_GROWSDOWN, VM_READ, VM_STACK_INCOMPLETE, VM_WRITE, Vma

STACK_FLAGS = VM_READ | VM_WRITE | VM_GROWSDOWN | VM_ACCOUNT


def execve_stack(space: AddressSpace, start: int, end: int, shift: int) -> Errno | None:
    """Replace the address space by a temporary stack and move it down.

    Arguments: bytes; the stack is [start, end), every page present; it goes down by `shift`.
    Returns: None; EINVAL if something is not page aligned or the stack is empty (nothing has
    changed then); E2BIG if it passes a limit (likewise); ENOMEM if the stack does not fit between
    vm.mmap_min_addr and its new top, or a page-table page could not be had: too late to go back, so
    nothing is mapped any more.
    """
    geometry = space.geometry
    if (start | end | shift) & (geometry.page_bytes - 1) or start >= end or end > geometry.user_top:
        return Errno.EINVAL  # mark: stack-unaligned
    if end - start > space.limits.largest_stack():
        return Errno.E2BIG  # mark: stack-too-large
    space.reset()
    vma = Vma(start, end, STACK_FLAGS | VM_STACK_INCOMPLETE, start >> geometry.page_shift)
    space.vmas.insert(vma)
    space.account(vma.flags, end - start)
    populate(space, vma, start, end)

    if fits(space, end - shift, end - start):
        # mark: stack-fits
        error = relocate_vma_down(space, vma, shift, compacting=True) if shift else None
    else:
        # mark: stack-does-not-fit
        error = Errno.ENOMEM  # CVE-2010-3858: without this check, a BUG
    if error:
        space.reset()  # mark: stack-given-up
    vma.flags &= ~VM_STACK_INCOMPLETE
    return error


@seam
def fits(space: AddressSpace, top: int, length: int) -> bool:
    """Is there room for a stack of `length` bytes below `top`?  Source: setup_arg_pages()."""
    return length < top - (space.arena.start + space.geometry.min_addr)


def relocate(space: AddressSpace, start: int, end: int, shift: int) -> Errno | None:
    """The same move in the present address space: no kernel caller does this with neighbours.

    Arguments: bytes; [start, end) must be exactly one private VMA that has pages.
    Returns: None; EINVAL for bad operands, EFAULT if the range is not such a VMA or something is
    mapped in the way, ENOMEM if a page-table page could not be had (everything is unmapped then).
    """
    geometry = space.geometry
    if (start | end | shift) & (geometry.page_bytes - 1) or start >= end:
        return Errno.EINVAL  # mark: relocate-unaligned
    if start - shift < space.arena.start:
        return Errno.EINVAL  # mark: relocate-below-arena
    vma = space.vmas.lookup(start)
    if vma is None or vma.range != Range(start, end) or vma.anon_vma is None:
        return Errno.EFAULT  # mark: relocate-no-such-vma
    if not shift:
        return None  # mark: relocate-by-nothing
    error = relocate_vma_down(space, vma, shift)
    if error is Errno.ENOMEM:
        space.reset()  # mark: relocate-given-up
    return error


def relocate_vma_down(
    space: AddressSpace, vma: Vma, shift: int, *, compacting: bool = False
) -> Errno | None:
    """Move a VMA and its pages down by `shift` bytes.

    Arguments: `compacting` memory compaction tries to migrate a page at the worst moment.
    Returns: None; EFAULT if another VMA is in the way (nothing has changed), ENOMEM if the move
    stopped half way: there is no way back, the caller gives the address space up.
    """
    vmas, old_start, old_end = space.vmas, vma.start, vma.end
    length = old_end - old_start
    new_start, new_end = old_start - shift, old_end - shift
    if new_start < 0:
        space.report(
            Violation(
                "stack-fits",
                vma.range,
                f"a shift by {terms.size(shift)}",
                "one that ends above address 0 (BUG_ON)",
            )
        )
        return Errno.EFAULT
    if vmas.find(new_start) is not vma:
        return Errno.EFAULT  # mark: stack-in-the-way

    space.announce(RELOCATE_VMA_DOWN, old_start, old_end, MMAP_WRITE)
    if compacting:
        _compaction_begins(space, old_start)  # mark: stack-compacted
    # Cover both places, with the page offset the pages will have at the new one.
    pgoff = vma.pgoff
    vmas.resize(vma, new_start, old_end)
    vma.pgoff = pgoff
    if compacting:
        for first in list(space.migrating):
            end_migration(space, first)
    move = Move(space, vma, vma, old_start, new_start, length, for_stack=True)
    if move_page_tables(move) != length:
        return Errno.ENOMEM  # mark: stack-half-moved

    above = vmas.after(old_end)
    ceiling = above.start if above else 0
    # When the two places are apart, the hole between them is left alone: it may not be ours.
    space.free_table_range(max(new_end, old_start), old_end, new_end, ceiling)
    vmas.resize(vma, new_start, new_end)
    return None


def _compaction_begins(space: AddressSpace, addr: int) -> None:
    """Memory compaction tries to migrate a page of the temporary stack.

    It begins before the page offset changes and ends after: it would not find the page again.
    Therefore it must leave such a stack alone (B-20).
    """
    table = space.tree.find(addr, PTE)
    assert table is not None, "the arguments have been written"
    entry = table.leaves[space.tree.index(addr, PTE)]
    begin_migration(space, entry >> PFN_SHIFT)
