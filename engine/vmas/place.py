"""Where a mapping goes if the kernel may choose.

Source: mm/mmap.c, arch/x86/kernel/sys_x86_64.c, Linux 6.1 to 6.18.
"""

from engine.base.address import round_down, round_up
from engine.base.uapi import Errno
from engine.state.space import AddressSpace


def find_address(
    space: AddressSpace, hint: int, length: int, of_object: int, huge: int = 0
) -> int | Errno:
    """An address the kernel chooses: the hint if that is free, else the highest hole.

    Arguments: bytes; `of_object` not 0 for shared memory and files; `huge` the size of huge pages
    of hugetlb, or 0.
    Returns: the address, or ENOMEM.  Model: only the arena is free space.
    Source: mm/mmap.c __get_unmapped_area(), arch_get_unmapped_area_topdown(), 6.1 to 6.18; arm64
    always had the generic hugetlb_get_unmapped_area().
    """
    geometry = space.geometry
    up = huge and (geometry.has_tags or space.kernel.hugetlb_hint_rounds_up)
    hint = round_up(hint, huge) if up else round_down(hint, huge or geometry.page_bytes)
    if huge:
        if _is_free(space, hint, length):
            return hint  # mark: place-hugetlb-hint
        slack = huge - geometry.page_bytes
        padded = space.vmas.free_space(geometry.choice, length + slack)
        # mark: place-hugetlb
        return Errno.ENOMEM if padded is None else round_down(padded + slack, huge)
    found = (
        hint if _is_free(space, hint, length) else space.vmas.free_space(geometry.choice, length)
    )
    slot = geometry.slot_bytes
    if not of_object and length >= slot:
        aligned: int | None = hint
        if not _is_free(space, hint, length + slot):
            padded = space.vmas.free_space(geometry.choice, length + slot)
            aligned = found if padded is None else round_down(padded, slot) + slot
        if aligned != found and _may_be_aligned(space, hint, length):
            found = aligned  # mark: place-aligned
    return Errno.ENOMEM if found is None else found


def _is_free(space: AddressSpace, hint: int, length: int) -> bool:
    """May memory of that length go to the hint?  0 is none."""
    above, end = space.vmas.find(hint), hint + length
    free = above is None or end <= space.vmas.start_gap(above)
    room = space.geometry.choice
    return bool(hint) and free and room.start <= hint and end <= room.end


def _may_be_aligned(space: AddressSpace, hint: int, length: int) -> bool:
    """Is private memory, if there is room, to begin where a huge page does?

    Source: mm/mmap.c __get_unmapped_area() of 6.12.43 to 7.3.4, mm/huge_memory.c
    __thp_get_unmapped_area(); measured on 6.18.44, where a process of 32 bits stands for such a
    kernel.  What held from 6.7 to 6.12.42 is from the changes that ended it: d4148aeab412 (length),
    249608ee4713 (hint), d9592025000b (32 bits).
    """
    kernel, slot = space.kernel, space.geometry.slot_bytes
    if length % slot and not kernel.thp_aligns_any_length:
        return False
    if not kernel.thp_aligned_search or (hint and not kernel.thp_passes_tight_hint):
        return False
    return space.geometry.word_bits == 64 or kernel.thp_aligns_32_bit
