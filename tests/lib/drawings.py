"""Memory as it is drawn, and programs whose every step says what memory holds after it.

A drawing has one cell a page, from page 0 up: `.` not mapped, `_` mapped without a tag, a number
is a tag.
"""

from dataclasses import dataclass

from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.calls.madvise import ADVICE
from fuzz.calls.registry import call
from fuzz.case import Call, Result
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE

READ, WRITE, EXEC = PROT_READ, PROT_WRITE, PROT_EXEC
RW = READ | WRITE
SEM = 0x8  # PROT_SEM
ANON = MAP_ANONYMOUS
FIXED = MAP_FIXED
NOREPLACE = MAP_FIXED_NOREPLACE
GROWSDOWN = MAP_GROWSDOWN
PRIVATE, SHARED = MAP_PRIVATE | ANON, MAP_SHARED | ANON
DROPPABLE = MAP_DROPPABLE | ANON
MAYMOVE = MREMAP_MAYMOVE
TO = MAYMOVE | MREMAP_FIXED
DONTUNMAP = MREMAP_DONTUNMAP


def mmap(page: int, pages: int, *, prot: int = RW, flags: int = PRIVATE | FIXED) -> Call:
    return call("mmap", page * PAGE, pages * PAGE, prot, flags)


def mremap(page: int, old: int, new: int, flags: int = 0, to: int = 0) -> Call:
    return call("mremap", page * PAGE, old * PAGE, new * PAGE, flags, to * PAGE)


def on(name: str, page: int, pages: int, *more: int) -> Call:
    return call(name, page * PAGE, pages * PAGE, *more)


def advise(page: int, pages: int, advice: str) -> Call:
    return on("madvise", page, pages, ADVICE.names[f"MADV_{advice}"])


def stack(name: str, start: int, end: int, shift: int) -> Call:
    return call(name, start * PAGE, end * PAGE, shift * PAGE)


def undrawn(drawing: str) -> tuple[dict[int, int], list[tuple[int, int]]]:
    """Contents and mapped byte ranges (page by page, as an implementation may give them)."""
    cells = drawing.split()
    contents = {page: int(cell) for page, cell in enumerate(cells) if cell not in "._"}
    return contents, [(p * PAGE, (p + 1) * PAGE) for p, cell in enumerate(cells) if cell != "."]


def drawn(oracle: Oracle, pages: int) -> str:
    cells = ["."] * pages
    for start, end in oracle.mapped:
        cells[start:end] = ["_"] * (end - start)
    for page, tag in oracle.contents.items():
        assert cells[page] == "_", "a tag where nothing is mapped"
        cells[page] = str(tag)
    return " ".join(cells)


@dataclass
class Program:
    """A case in the making; every step says what memory holds after it."""

    oracle: Oracle

    def step(self, op: Call, result: Result, after: str) -> None:
        """The oracle predicts `after` from call and result, and has nothing to object to."""
        contents, mapped = undrawn(after)
        assert self.oracle.apply(op, result, contents, lambda: mapped) == []
        assert drawn(self.oracle, len(after.split())) == " ".join(after.split())

    def mmap(
        self, page: int, pages: int, after: str, *, flags: int = PRIVATE, prot: int = RW
    ) -> None:
        self.step(mmap(page, pages, flags=flags | FIXED, prot=prot), page * PAGE, after)

    def touch(self, page: int, pages: int, after: str) -> None:
        self.step(on("touch", page, pages), 0, after)

    def move(self, page: int, old: int, new: int, to: int, after: str, more: int = 0) -> None:
        self.step(mremap(page, old, new, TO | more, to), to * PAGE, after)

    def objects(self, op: Call, result: Result, held: str) -> list[str]:
        """What the oracle objects to when the implementation holds this after the call."""
        contents, mapped = undrawn(held)
        return [str(found) for found in self.oracle.apply(op, result, contents, lambda: mapped)]
