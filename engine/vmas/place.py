"""Where a mapping goes if the kernel may choose.

Source: mm/mmap.c, arch/x86/kernel/sys_x86_64.c, Linux 6.1 to 6.18.
"""

from engine.base.address import round_down, round_up
from engine.base.uapi import Errno
from engine.state.space import AddressSpace


def find_address(
    space: AddressSpace, hint: int, length: int, shared: int, huge: int = 0
) -> int | Errno:
    """An address the kernel chooses: the hint if that is free, else the highest hole.

    Arguments: bytes; `shared` not 0 for shared memory; `huge` the size of huge pages of hugetlb, or
    0.
    Returns: the address, or ENOMEM.  Model: only the arena is free space.
    Source: mm/mmap.c __get_unmapped_area(), arch_get_unmapped_area_topdown(), 6.1 to 6.18.
    """
    geometry, vmas = space.geometry, space.vmas
    hint = round_up(hint, huge) if huge else round_down(hint, geometry.page_bytes)
    if hint:
        above = vmas.find(hint)
        free = above is None or hint + length <= vmas.start_gap(above)
        if free and space.arena.start <= hint and hint + length <= space.arena.end:
            return hint
    if huge:
        slack = huge - geometry.page_bytes
        padded = vmas.free_space(space.arena, length + slack)
        return Errno.ENOMEM if padded is None else round_down(padded + slack, huge)
    slot = geometry.slot_bytes
    found = vmas.free_space(space.arena, length)
    if not hint and not shared and length % slot == 0:
        # Room for a huge page's alignment: thp_get_unmapped_area().
        padded = vmas.free_space(space.arena, length + slot)
        aligned = found if padded is None else round_down(padded, slot) + slot
        if aligned != found and space.kernel.thp_aligned_search:
            found = aligned
    return Errno.ENOMEM if found is None else found
