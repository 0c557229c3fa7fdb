"""Addresses, half-open ranges and rounding.

All quantities are in bytes unless a name says pages.  Arithmetic that may wrap says so: the
kernel computes with unsigned machine words, Python does not.
"""

from typing import NamedTuple

WORD_MASK = (1 << 64) - 1


class Range(NamedTuple):
    """Half-open byte range [start, end)."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes covered."""
        return self.end - self.start

    def overlaps(self, other: "Range") -> bool:
        """True if the two ranges share a byte."""
        return self.start < other.end and other.start < self.end

    def contains(self, other: "Range") -> bool:
        """True if `other` lies inside this range."""
        return self.start <= other.start and other.end <= self.end

    def __str__(self) -> str:
        return f"[{self.start:#x}, {self.end:#x})"


def round_down(value: int, unit: int) -> int:
    """Largest multiple of `unit` (a power of two, bytes) that is not above `value`."""
    return value & -unit


def round_up(value: int, unit: int) -> int:
    """Smallest multiple of `unit` (a power of two, bytes) not below `value`; never wraps."""
    return (value + unit - 1) & -unit
