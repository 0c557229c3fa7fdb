"""What memory must hold: an independent reference, page number -> tag.

The oracle knows no tables, no entries and no kernel versions, and shares nothing with the engine:
what each call does to memory is all told here once more.
It is told each call and its result, keeps a flat dictionary of contents, and says where the
implementation under test holds something else:

      page   2   3   4   5   6   7   8   9
  before  [  1   2   3 ]   .   .   .   .   .      three pages, tags 1 2 3
  mremap(page 2, 3 pages, 3 pages, MREMAP_MAYMOVE|MREMAP_FIXED, page 6) = page 6
  after      .   .   .     . [ 1   2   3 ]   .

Whether a call succeeds is the business of the implementation; what follows from the result is
the business of the oracle.  Where a kernel may or may not have done something before it failed,
the oracle lists every state it may have left and accepts the one it is shown, and no other; those
that look alike it follows all, until what is shown later tells them apart.  Pages of MAP_DROPPABLE
may be gone after reclaim, each by itself, and so may those that MADV_FREE was called for until they
are written again: the oracle learns which when it is shown contents.

All positions here are page numbers in the arena unless a name says bytes.  The cost of a call
follows the pages with a tag and the mappings, never the length of a range.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from engine.base.uapi import PROT_GROWSDOWN
from fuzz.case import Between, Call, Faults, Result
from fuzz.oracle.access import access
from fuzz.oracle.between import follow_between
from fuzz.oracle.failed import follow_failure
from fuzz.oracle.meanings import MEANINGS
from fuzz.oracle.memory import Span, joined
from fuzz.oracle.mismatch import Mismatch
from fuzz.oracle.units import Units
from fuzz.oracle.world import World

_MOST_WORLDS = 16


class Oracle:
    """The contents of one case, call by call.

    `page_bytes`, `word_bits` and `huge_bytes` are those of the machine: operands are rounded up to
    pages modulo 2^word_bits, and to huge pages where those are mapped.  `exec_only` says that
    PROT_EXEC alone does not permit to read; else any right does.  `whole_holes`, asked when that
    matters: a hole in a file of huge pages takes whole ones only, else a part of one reads as
    zeroes, too.  `maps_refill`, asked when one is made: a page of a map of BPF that a mapping has
    thrown away comes back.
    """

    def __init__(
        self,
        page_bytes: int = 4096,
        word_bits: int = 64,
        huge_bytes: int = 1 << 21,
        *,
        exec_only: bool = False,
        whole_holes: Callable[[], bool] = lambda: False,
        maps_refill: Callable[[], bool] = lambda: True,
    ) -> None:
        # States that have looked alike so far; the likeliest first.
        units = Units(page_bytes, word_bits, huge_bytes)
        self._worlds = [World(units, exec_only, whole_holes, maps_refill)]
        self._page_bytes = page_bytes

    @property
    def contents(self) -> Mapping[int, int]:
        """The contents as predicted: page -> tag, for every tag but 0."""
        return self._worlds[0].memory.pages

    @property
    def mapped(self) -> list[Span]:
        """What is mapped as predicted: page ranges, disjoint and apart."""
        return self._worlds[0].memory.mapped()

    def apply(
        self,
        call: Call,
        result: Result,
        contents: Mapping[int, int] | None = None,
        mapped: Callable[[], Iterable[tuple[int, int]]] | None = None,
        between: Sequence[Between] = (),
    ) -> list[Mismatch]:
        """Follow a call and compare; empty if the implementation agrees.

        `result` is what the implementation returned: an arena offset in bytes, 0, "-EINVAL" and
        the like, Faults, or "SKIP" for a call that was not executed.  `contents` is what it holds
        now: page number -> tag for every page with a tag other than 0 that some mapping shows,
        whatever its protection.  `mapped` gives the byte ranges of the arena that are mapped
        now, in address order; it is called after calls that can change mappings.  `between` is what
        others did in the middle of the call.

        Without `contents` the oracle trusts its prediction: a failed call did nothing.  Without
        `mapped` it cannot follow failures that may have unmapped something: from the first one
        on it checks contents only.  After a mismatch it goes on from what it was shown.

        A touch takes one tag for every page it attempts; execve_stack takes one for every page
        of the stack if the address space was replaced, in success and in failure; nothing else
        takes any.
        """
        now = None
        if mapped is not None and self._may_change_mappings(call):
            page = self._page_bytes
            now = joined([(start // page, end // page) for start, end in mapped()])
        behind = [made for made in between if made.behind]  # the call has succeeded
        for world in self._worlds:
            for made in between:
                if not made.behind:
                    follow_between(world, made)
        if len(self._worlds) == 1:
            (world,) = self._worlds
            mismatches = _follow(world, call, result, contents, now, behind)
            if world.twins:
                self._worlds += world.twins[: _MOST_WORLDS - 1]
            return mismatches
        told = [
            (world, _follow(world, call, result, contents, now, behind)) for world in self._worlds
        ]
        likeliest, mismatches = told[0]
        agreeing = [world for world, wrong in told if not wrong]
        self._worlds = agreeing or [likeliest]
        twins = [twin for world in self._worlds for twin in world.twins]
        self._worlds += twins[: _MOST_WORLDS - len(self._worlds)]
        return [] if agreeing else mismatches

    def _may_change_mappings(self, call: Call) -> bool:
        """May there be others after the call?  An access may let a stack grow."""
        meaning = MEANINGS[call.name]
        return meaning.maps or (
            meaning.accesses
            and any(area.grows for world in self._worlds for area in world.memory.areas)
        )


def _follow(
    world: World,
    call: Call,
    result: Result,
    contents: Mapping[int, int] | None,
    mapped: list[Span] | None,
    behind: Sequence[Between],
) -> list[Mismatch]:
    """Follow a call and compare.

    Arguments: as of Oracle.apply, `mapped` in pages; `behind` what others did once it was over.
    """
    world.twins, world.mismatches = [], []
    meaning = MEANINGS[call.name]
    if meaning.cuts and result != "SKIP":
        # What it names may be a mapping of its own from now on, which can move by itself.
        for page in world.units.range(call.args[0], call.args[1]):
            world.memory.cut(page)
    if meaning.fills and result != "SKIP":
        world.may_copy(*world.units.range(call.args[0], call.args[1]))
    if meaning.accesses:
        if not isinstance(result, str):
            access(world, call, result if isinstance(result, Faults) else Faults(), mapped)
    elif isinstance(result, int):
        _check_success(world, call, result)
        if meaning.effect is not None:
            meaning.effect(world, call.args, result)
    elif result != "SKIP":
        follow_failure(world, call, str(result), contents, mapped)
    for made in behind:
        follow_between(world, made)
    world.compare(contents, mapped)
    return world.mismatches


def _check_success(world: World, call: Call, result: int) -> None:
    """Report what holds for no successful call."""
    if result % world.units.page_bytes:
        world.report("address", world.units.page(result), 1, "a page boundary", f"{result:#x}")
    if MEANINGS[call.name].needs:
        lo, hi = world.units.range(call.args[0], call.args[1])
        if call.name == "mprotect" and call.args[2] & PROT_GROWSDOWN:
            lo = next((area.start for area in world.memory.inside(lo, hi)), lo)
        world.expect_mapped(lo, hi)
