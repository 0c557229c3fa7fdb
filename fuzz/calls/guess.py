"""What a program has likely mapped, as far as that shows without running it.

The byte form's operands refer to earlier mappings, so it pays to know which calls fail and what
the others leave.  Only ranges are followed: not flags, limits, or what the kernel does in corners.
Offsets into the arena and lengths are in bytes.
"""

from engine.base.address import WORD_MASK, round_up
from engine.base.uapi import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)

Span = tuple[int, int]  # start and length


class Mapped:
    """Ranges by guess: `spans` are disjoint, the latest last; `files` are the descriptors made.

    Arguments: `arena` the bytes there are, `page` those of a page.
    """

    __slots__ = ("_arena", "_page", "files", "spans")

    def __init__(self, arena: int, page: int) -> None:
        self._arena, self._page = arena, page
        self.spans: list[Span] = []
        self.files: set[int] = set()

    def holding(self, addr: int) -> Span | None:
        """The range that `addr` lies in."""
        for span in reversed(self.spans):
            if span[0] <= addr < span[0] + span[1]:
                return span
        return None

    def add(self, start: int, length: int) -> None:
        """Something is mapped there now, in place of what was; nothing if it cannot be."""
        if 0 < length <= self._arena - start and not start % self._page:
            self.cut(start, length)
            self.spans.append((start, length))

    def cut(self, start: int, length: int) -> None:
        """Nothing is mapped there any more."""
        end = start + length
        if self._is_free(start, length):
            return
        left: list[Span] = []
        for low, size in self.spans:
            high = low + size
            if high <= start or end <= low:
                left.append((low, size))
                continue
            if low < start:
                left.append((low, start - low))
            if end < high:
                left.append((end, high - end))
        self.spans = left

    def _is_free(self, start: int, length: int) -> bool:
        return all(low + size <= start or start + length <= low for low, size in self.spans)

    def open(self, fd: int, size: int) -> None:
        """file(): from now on it can be mapped."""
        del size
        self.files.add(fd)

    def mmap(self, start: int, length: int, flags: int) -> None:
        """mmap(2); without an address of its own it is taken to get the one it asks for."""
        length = round_up(length, self._page)
        refused = flags & MAP_FIXED_NOREPLACE and not self._is_free(start, length)
        if not refused:
            if flags & MAP_FIXED or self._is_free(start, length):
                self.add(start, length)
            else:
                self._add_anywhere(length)

    def mremap(self, start: int, old_len: int, new_len: int, flags: int, target: int) -> None:
        """mremap(2), if it is not refused."""
        old_len, new_len = (round_up(n, self._page) & WORD_MASK for n in (old_len, new_len))
        source = self.holding(start)
        placed = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
        if source is None or not new_len or (placed and not flags & MREMAP_MAYMOVE):
            return
        end = source[0] + source[1]
        moves = placed or new_len > old_len
        if (moves and min(old_len, new_len) > end - start) or (
            flags & MREMAP_DONTUNMAP and old_len != new_len
        ):
            return
        if flags & MREMAP_FIXED and (
            target + new_len > self._arena
            or (start < target + new_len and target < start + old_len)
        ):
            return
        if not flags & MREMAP_DONTUNMAP and old_len > new_len:
            self.cut(start + new_len, old_len - new_len)
        if not moves:
            return
        kept = min(old_len, new_len)
        grows_in_place = (
            not placed and start + old_len == end and self._is_free(end, new_len - old_len)
        )
        if grows_in_place:
            self.spans[self.spans.index(source)] = (source[0], source[1] + new_len - old_len)
            return
        if not flags & MREMAP_MAYMOVE:
            return
        if not flags & MREMAP_DONTUNMAP:
            self.cut(start, kept)
        if flags & MREMAP_FIXED or (
            flags & MREMAP_DONTUNMAP and target and self._is_free(target, new_len)
        ):
            self.add(target, new_len)
        else:
            self._add_anywhere(new_len)

    def move_stack(self, start: int, end: int, shift: int) -> None:
        """A range goes down by `shift`."""
        self.cut(start, end - start)
        if start < end and shift <= start:
            self.add(start - shift, end - start)

    def _add_anywhere(self, length: int) -> None:
        """At the top of the highest hole."""
        top = self._arena
        for low, size in sorted(self.spans, reverse=True):
            if top - (low + size) >= length:
                break
            top = low
        if top >= length:
            self.add(top - length, length)
