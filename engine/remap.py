"""One request of mremap(2): what its caller wants, and whether there may be more VMAs for that.

Source: struct vma_remap_struct, mm/mremap.c, 6.16.
"""

from dataclasses import dataclass, field

from engine.base.failures import MAPS
from engine.base.seam import seam
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED
from engine.state.space import AddressSpace


@dataclass(slots=True)
class Remap:
    """One request.  Addresses and lengths in bytes; the lengths become page multiples."""

    space: AddressSpace
    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int
    asked: int = field(init=False)  # the old length before anything is cut off
    delta: int = field(init=False)  # as requested: growth, or negative

    def __post_init__(self) -> None:
        self.asked = self.old_len
        self.delta = self.new_len - self.old_len

    @property
    def implies_new_addr(self) -> bool:
        """FIXED or DONTUNMAP: the call moves, whatever the lengths."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))

    @property
    @seam
    def overlaps(self) -> bool:
        """Do old and new range overlap?  The sums wrap, so a huge range may pass (B-69)."""
        top = self.space.geometry.word_mask
        old_end, new_end = self.addr + self.old_len, self.new_addr + self.new_len
        if (old_end > top or new_end > top) and not self.space.kernel.wrap_safe_overlap:
            old_end, new_end = old_end & top, new_end & top
        return old_end > self.new_addr and new_end > self.addr


def too_many_maps(remap: Remap, more: int, *, isolates: bool) -> bool:
    """Would `more` VMAs leave too little room for those that a move makes?

    Arguments: `isolates` the source may be made a VMA of its own before (DONTUNMAP).
    Source: move_vma(), mremap_to(), until 7.0; __check_map_count_against_split(), since 7.1.
    """
    space = remap.space
    if space.failures.fails(MAPS):
        return True
    room = space.limits.map_count - len(space.vmas) - more
    if room >= 4 or room < 2:  # the same on all kernels
        return room < 2
    if not space.kernel.map_count_before_all:
        return True
    return room == 2 and isolates and space.kernel.dontunmap_splits_locked
