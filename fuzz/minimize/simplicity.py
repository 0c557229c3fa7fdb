"""Which of two programs is simpler: an order that is total and well founded.

The first difference decides (`simplicity`):

1. fewer calls;
2. flags nearer to the ordinary ones (`Operand.ordinary`), counted in bits that differ, optional
   operands left at their defaults, and an earlier attempt that fails;
3. shorter lengths, 4. lower addresses and file offsets: by the sum of their digits, then the sum
   of their values.  Digits are the hex digits left without the trailing zeroes: 0 has none, every
   boundary (0x1000, 0x200000, 0x40000000) has one, 0x201000 has three, and a number that is not a
   multiple of 4 KiB, the smallest page there is, counts `UNALIGNED` digits more;
5. the operands themselves, so that no two programs are equally simple.

Lengths come before addresses because a short range at an odd address says more about a bug than
a long one at address 0.
"""

from functools import lru_cache
from typing import NamedTuple

from fuzz.case import Call, Case
from fuzz.minimize.ranges import KINDS, Program, to_search_form

UNALIGNED = 16  # more digits than any number has
SMALLEST_PAGE = 4096


class Simplicity(NamedTuple):
    """Rank of a program; less is simpler.  The fields are those of the module's docstring."""

    calls: int
    flags: int
    length_digits: int
    length_bytes: int
    address_digits: int
    address_bytes: int
    operands: Program


def simplicity(case: Case) -> Simplicity:
    """The rank of a case among all cases; what its header and its results say does not count."""
    return rank(to_search_form(case.calls))


def rank(program: Program) -> Simplicity:
    """Simplicity of a program in search form."""
    flags, length_digits, length_bytes, address_digits, address_bytes = map(
        sum, zip((0, 0, 0, 0, 0), *map(_call_rank, program), strict=True)
    )
    return Simplicity(
        len(program), flags, length_digits, length_bytes, address_digits, address_bytes, program
    )


@lru_cache(maxsize=1 << 14)
def _call_rank(call: Call) -> tuple[int, int, int, int, int]:
    """What a call adds to the fields of `Simplicity` between the first and the last."""
    flags = length_digits = length_bytes = address_digits = address_bytes = 0
    for kind, value in zip(KINDS[call.name], call.args, strict=True):
        match kind.counts_as:
            case "length":
                length_digits += digits_of(value)
                length_bytes += value
            case "address":
                address_digits += digits_of(value)
                address_bytes += value
            case "flags":
                flags += kind.strangeness(value)
    return flags, length_digits, length_bytes, address_digits, address_bytes


def digits_of(value: int) -> int:
    """Significant hex digits without trailing zeroes, and `UNALIGNED` more within a page."""
    if not value:
        return 0
    trailing = (value & -value).bit_length() - 1
    digits = (value.bit_length() + 3) // 4 - trailing // 4
    return digits + UNALIGNED if value % SMALLEST_PAGE else digits
