"""One state that memory may be in, and what is found wrong with it."""

from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field

from fuzz.oracle.memory import Area, Memory, Span, minus, put
from fuzz.oracle.mismatch import Mismatch, differences
from fuzz.oracle.units import Units


@dataclass(slots=True, eq=False)
class World:
    """One state that memory may be in; all positions are page numbers in the arena.

    `twins` are the others that it may be in as well after the last call: they look like it.
    `mismatches` are those of the last call.
    """

    units: Units
    exec_only: bool
    whole_holes: Callable[[], bool]
    maps_refill: Callable[[], bool]
    memory: Memory = field(default_factory=Memory)
    twins: "list[World]" = field(default_factory=list)
    certain: bool = True  # the areas are known exactly
    scarce: bool = False  # a VMA or a charge may be refused
    mismatches: list[Mismatch] = field(default_factory=list)

    def may_copy(self, lo: int, hi: int) -> None:
        """Pages of private mappings of files may be brought in: then they are copies."""
        if any(area.copies for area in self.memory.inside(lo, hi)):
            self.memory.change(lo, hi, lambda area: area._replace(copied=area.copies))

    def twin(self, memory: Memory) -> "World":
        """This world with another memory, which shares nothing with it."""
        twin = copy(self)
        twin.memory = deepcopy(memory)
        return twin

    def compare(self, contents: Mapping[int, int] | None, mapped: list[Span] | None) -> None:
        """Report where the implementation differs, and go on from what it holds."""
        memory = self.memory
        if mapped is not None and memory.mapped() != mapped:
            ours = memory.mapped()
            for start, end in (hole for span in ours for hole in minus(span, mapped)):
                self.report("mapped", start, end - start, "a mapping", None)
                memory.unmap(start, end)
            for start, end in (hole for span in mapped for hole in minus(span, ours)):
                self.report("mapped", start, end - start, None, "a mapping")
                memory.map(Area(start, end, None))
        if contents is not None and (memory.doubtful or memory.unsure):
            memory.settle(contents)
        if contents is not None and memory.pages != contents:
            self.mismatches += differences(memory.pages, contents)
            for area in memory.areas:
                if not area.private:
                    for page in {*memory.pages, *contents}:
                        if area.start <= page < area.end:
                            put(area.origin.tags, area.at(page), contents.get(page, 0))
            memory.pages = dict(contents)

    def report(
        self, kind: str, start: int, count: int, expected: str | None, found: str | None
    ) -> None:
        """Note a mismatch of `count` pages from `start` on; fields as of Mismatch."""
        self.mismatches.append(Mismatch(kind, start, count, expected, found))

    def expect_address(self, expected: int, result: int) -> None:
        """Report a result that is not the address that was asked for, bytes."""
        if result != expected & self.units.word_mask:
            self.report("address", self.units.page(result), 1, f"{expected:#x}", f"{result:#x}")

    def expect_free(self, lo: int, hi: int) -> None:
        """Report mappings in [lo, hi), where a call placed something that may evict nothing."""
        if self.certain:
            for area in self.memory.inside(lo, hi):
                self.report(
                    "refusal", area.start, area.end - area.start, "a free place", "a mapping"
                )

    def expect_mapped(self, lo: int, hi: int) -> None:
        """Report holes in [lo, hi), where a call succeeded that needs mappings."""
        if self.certain:
            for start, end in self.memory.holes(lo, hi):
                self.report("refusal", start, end - start, "an error: not mapped", "success")

    def huge_spans(self) -> list[Span]:
        """Where huge pages lie: the pool may run out of them."""
        return [(area.start, area.end) for area in self.memory.areas if area.huge]
