"""The values that strace writes: numbers, flags by name, results; in its abbreviated, raw and
verbose forms, with names of operands (-N) or without.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from engine.base import uapi
from engine.base.address import WORD_MASK
from fuzz.calls.madvise import ADVICE
from fuzz.calls.mlock import ONFAULT
from fuzz.calls.mmap import MAP
from fuzz.calls.mremap import REMAP
from fuzz.calls.operand import PROT
from fuzz.calls.uffd import FEATURES, MODE
from fuzz.forms.lexical import Wrong

_DIGITS = r"-?(?:0x[0-9a-f]+|0|[1-9]\d{0,19})"
_NUMBER = re.compile(_DIGITS)
_SHIFTED = re.compile(r"([1-9]\d?)<<MAP_HUGE_SHIFT")
_NAMED = re.compile(r"[a-z_0-9]+=")
_FAILED = re.compile(r"-1 (E[A-Z0-9]+) \(.*?\)")
_RESULT = re.compile(rf"({_DIGITS})(?:<.*>)?(?: \(.*\))?")

# What strace has names for, and a case has not.
_MAP_TYPES = {"MAP_FILE": 0, "MAP_SHARED_VALIDATE": uapi.MAP_SHARED_VALIDATE}
_MAP_OTHERS = {
    "MAP_ABOVE4G": uapi.MAP_ABOVE4G,
    "MAP_SYNC": uapi.MAP_SYNC,
}
PROTS = {"PROT_NONE": 0, **PROT.names}
MAPS = {**MAP.names, **MAP.numbers, **_MAP_TYPES, **_MAP_OTHERS}
REMAPS = REMAP.names
ADVICES = {
    **ADVICE.names,
    "MADV_HWPOISON": uapi.MADV_HWPOISON,
    "MADV_SOFT_OFFLINE": uapi.MADV_SOFT_OFFLINE,
}
LOCKS = ONFAULT.names
MODES = MODE.names
FEATURE_NAMES = FEATURES.names
WP_MODES = uapi.values("UFFDIO_WRITEPROTECT_MODE_WP", "UFFDIO_WRITEPROTECT_MODE_DONTWAKE")


class Unknown(Exception):
    """A name that nobody here knows: newer than this program, perhaps."""


class Value(NamedTuple):
    """What a call returned: a value, or the name of an error, or neither (`?`).

    `injected`: strace put it there, and the kernel has not run the call.
    """

    value: int | None
    error: str = ""
    injected: bool = False

    @property
    def failed(self) -> bool:
        """Did the kernel refuse it?"""
        return bool(self.error)


def result(text: str) -> Value:
    """What stands behind the `=` of a call, its time apart.  Errors raised: Wrong."""
    injected = text.endswith("(INJECTED)")
    if text.startswith("?"):
        return Value(None, injected=injected)
    if match := _FAILED.match(text):
        return Value(None, f"-{match[1]}", injected)
    if text.startswith("-1 ("):  # an errno without a name
        return Value(None, "-E?", injected)
    match = _RESULT.fullmatch(text)
    if match is None:
        raise Wrong(f"expected a result, found {text[:40]!r}", 0)
    return Value(int(match[1], 0), injected=injected)


def without_comments(text: str) -> str:
    """Text without `/* … */`, which may lie in each other.

    `0x22 /* MAP_PRIVATE|MAP_ANONYMOUS */` says the same twice, and `0x8 /* MAP_??? */` that there
    is no name.
    """
    kept, depth, at = [], 0, 0
    while at < len(text):
        two = text[at : at + 2]
        if two == "/*":
            depth += 1
            at += 2
        elif two == "*/" and depth:
            depth -= 1
            at += 2
        else:
            if not depth:
                kept.append(text[at])
            at += 1
    return "".join(kept).replace(" ", "")


def number(text: str) -> int:
    """An address, a length or an offset, modulo 2^64.  Errors raised: Wrong."""
    if text == "NULL":
        return 0
    if _NUMBER.fullmatch(text) is None:
        raise Wrong(f"expected a number, found {text[:40]!r}", 0)
    return int(text, 0) & WORD_MASK


def file_descriptor(text: str) -> int:
    """A file descriptor; strace writes -1 as 0xffffffff or with 64 bits where it writes hex."""
    match = _NUMBER.match(text)
    if match is None:
        raise Wrong(f"expected a file descriptor, found {text[:40]!r}", 0)
    value = int(match[0], 0) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def flags(text: str, names: Mapping[str, int]) -> int:
    """A set of flags, or one of several values.

    Errors raised: Unknown for a name that is not among `names`; Wrong.
    """
    return _flags(text, tuple(names.items()))


@lru_cache(maxsize=1024)
def _flags(text: str, items: tuple[tuple[str, int], ...]) -> int:
    names = dict(items)
    value = 0
    for part in (without_comments(text) if "/*" in text else text).split("|"):
        if part in names:
            value |= names[part]
        elif match := _SHIFTED.fullmatch(part):
            value |= int(match[1]) << uapi.MAP_HUGE_SHIFT
        elif _NUMBER.fullmatch(part):
            value |= int(part, 0)
        elif re.fullmatch(r"[A-Z][A-Za-z0-9_]*", part):
            raise Unknown(part)
        else:
            raise Wrong(f"expected flags, found {text[:40]!r}", 0)
    return value


def operands(text: str, fewest: int, most: int) -> list[str]:
    """The operands of a call that has neither structures nor file names, without their names.

    Errors raised: Wrong.
    """
    found = text.split(", ")
    if not fewest <= len(found) <= most:
        raise Wrong(f"{len(found)} operands where there are {fewest} to {most}", 0)
    return [unnamed(each) for each in found]


def first_two(text: str) -> list[str]:
    """The first two operands of a call.  Errors raised: Wrong."""
    found = text.split(", ", 2)
    if len(found) < 2:
        raise Wrong("fewer than two operands", 0)
    return [unnamed(each) for each in found[:2]]


def of_mmap(text: str) -> list[str]:
    """The six operands of mmap; the file's name, with -y, may hold anything.

    Errors raised: Wrong.
    """
    found = text.split(", ", 4)
    if len(found) != 5 or ", " not in found[4]:
        raise Wrong("mmap with fewer than six operands", 0)
    return [unnamed(each) for each in (*found[:4], *found[4].rsplit(", ", 1))]


def unnamed(text: str) -> str:
    """An operand without the name that -N writes before it."""
    match = _NAMED.match(text) if "=" in text else None
    return text[match.end() :] if match else text
