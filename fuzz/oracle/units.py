"""Operands of calls in pages of the arena."""

from typing import NamedTuple

from engine.base.address import round_up
from fuzz.oracle.memory import Span


class Units(NamedTuple):
    """How a machine counts: bytes of a page and of a huge page, bits of an address."""

    page_bytes: int
    word_bits: int
    huge_bytes: int

    @property
    def word_mask(self) -> int:
        """All bits of an address."""
        return (1 << self.word_bits) - 1

    def page(self, address: int) -> int:
        """The page that holds an address, bytes."""
        return (address & self.word_mask) // self.page_bytes

    def pages(self, length: int, *, huge: bool = False) -> int:
        """Pages of a length in bytes, rounded up as the machine does: it may wrap to 0."""
        unit = self.huge_bytes if huge else self.page_bytes
        return (round_up(length, unit) & self.word_mask) // self.page_bytes

    def range(self, address: int, length: int) -> Span:
        """The pages that hold [address, address + length), bytes."""
        start = self.page(address)
        return start, start + self.pages(address % self.page_bytes + length)
