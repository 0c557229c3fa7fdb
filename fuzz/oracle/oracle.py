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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from engine.base.uapi import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_PAGEOUT,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_SHARED,
    MAP_TYPE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_READ,
    PROT_WRITE,
    UFFD_FEATURE_SIGBUS,
)
from fuzz.case import (
    Between,
    Call,
    Faults,
    Result,
)
from fuzz.oracle.failed import outcomes_of
from fuzz.oracle.memory import ZEROES, Area, Memory, Origin, Span, joined, minus, put
from fuzz.oracle.units import Units

_ANY = PROT_READ | PROT_WRITE | PROT_EXEC
_MOVE_FIXED = MREMAP_MAYMOVE | MREMAP_FIXED
# Advice after which memory may hold something else, or be accessible otherwise.
_TOUCHING = frozenset(
    (MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_REMOVE, MADV_GUARD_INSTALL, MADV_COLLAPSE)
)
# Advice whose failure leaves no trace in contents of how far it has come.
_GOES_ON = (MADV_COLLAPSE, MADV_FREE, MADV_PAGEOUT, MADV_POPULATE_WRITE)
_TAG_BYTES = 8  # at the beginning of a page

_MOST_WORLDS = 16


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A run of pages where the implementation and the oracle disagree.

    `kind`: "contents" (tags; consecutive inside a run), "mapped" (is there a mapping), "access"
    (may the page be touched), "address" (the result of a call), "refusal" (a call that no kernel
    grants).  `start_page` is a page number in the arena.
    """

    kind: str
    start_page: int
    count: int
    expected: int | str | None
    found: int | str | None

    def told(self, value: int | str | None) -> str:
        """What was expected or found, for people."""
        if isinstance(value, int):
            last = value + self.count - 1
            return f"content {value}" if last == value else f"contents {value} to {last}"
        if value and value.startswith("0x"):
            return f"address {value}"
        return value or ("no content" if self.kind == "contents" else "nothing mapped")

    def __str__(self) -> str:
        pages = f"page {self.start_page:#x}"
        if self.count > 1:
            pages = f"pages {self.start_page:#x}..{self.start_page + self.count - 1:#x}"
        expected, found = self.told(self.expected), self.told(self.found)
        return f"{self.kind}: {pages}: expected {expected}, found {found}"


class Oracle:
    """The contents of one case, call by call.

    `page_bytes`, `word_bits` and `huge_bytes` are those of the machine: operands are rounded up to
    pages modulo 2^word_bits, and to huge pages where those are mapped.  `exec_only` says that
    PROT_EXEC alone does not permit to read; else any right does.  `whole_holes`, asked when that
    matters: a hole in a file of huge pages takes whole ones only, else a part of one reads as
    zeroes, too.
    """

    def __init__(
        self,
        page_bytes: int = 4096,
        word_bits: int = 64,
        huge_bytes: int = 1 << 21,
        *,
        exec_only: bool = False,
        whole_holes: Callable[[], bool] = lambda: False,
    ) -> None:
        # States that have looked alike so far; the likeliest first.
        self._worlds = [_World(Units(page_bytes, word_bits, huge_bytes), exec_only, whole_holes)]
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
        for made in between:
            for world in self._worlds:
                world.follow_between(call, result, made)
        if len(self._worlds) == 1:
            (world,) = self._worlds
            mismatches = world.follow(call, result, contents, now)
            if world.twins:
                self._worlds += world.twins[: _MOST_WORLDS - 1]
            return mismatches
        told = [(world, world.follow(call, result, contents, now)) for world in self._worlds]
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


class _World:
    """One state that memory may be in.

    `twins` are the others that it may be in as well after the last call: they look like it.
    """

    def __init__(
        self,
        units: Units,
        exec_only: bool,
        whole_holes: Callable[[], bool],
    ) -> None:
        self._units = units
        self._exec_only = exec_only
        self._whole_holes = whole_holes
        self.memory = Memory()
        self.twins: list[_World] = []
        self._certain = True  # the areas are known exactly
        self._scarce = False  # a VMA or a charge may be refused
        self._mismatches: list[Mismatch] = []

    def follow(
        self,
        call: Call,
        result: Result,
        contents: Mapping[int, int] | None,
        mapped: list[Span] | None,
    ) -> list[Mismatch]:
        """Follow a call and compare; arguments as of Oracle.apply, `mapped` in pages."""
        self.twins, self._mismatches = [], []
        meaning = MEANINGS[call.name]
        if meaning.cuts and result != "SKIP":
            # What it names may be a mapping of its own from now on, which can move by itself.
            for page in self._units.range(call.args[0], call.args[1]):
                self.memory.cut(page)
        if meaning.fills and result != "SKIP":
            self._may_copy(*self._units.range(call.args[0], call.args[1]))
        if meaning.accesses:
            if not isinstance(result, str):
                self._access(call, result if isinstance(result, Faults) else Faults(), mapped)
        elif isinstance(result, int):
            self._check_success(call, result)
            if meaning.effect is not None:
                meaning.effect(self, call.args, result)
        elif result != "SKIP":
            self._follow_failure(call, str(result), contents, mapped)
        self._compare(contents, mapped)
        return self._mismatches

    def follow_between(self, call: Call, result: Result, made: Between) -> None:
        """Follow what somebody else did in the middle of a call, before the call itself.

        Memory is still where the call finds it: what was done to a page at its new place is done to
        it at the old one.
        """
        memory, name, args = self.memory, made.call.name, made.call.args
        if name == "touch":
            lo, hi = self._units.range(*args) if args[1] else (0, 0)
            faults = made.call.result if isinstance(made.call.result, Faults) else Faults()
            refused = sorted([(p, p + n) for p, n in (*faults.segv, *faults.bus)])
            for start, end in minus((lo, hi), refused):
                for page in range(start, end):
                    home = self._home(call, result, page) if made.moving else page
                    for area in memory.inside(home, home + 1):
                        tag = memory.next_tag + page - lo
                        memory.write(area, range(tag, tag + 1))
            memory.next_tag += hi - lo
        elif name == "swapout":
            lo, hi = self._units.range(*args)
            memory.doubt(lo, hi)
            if made.moving:
                memory.doubt(self._home(call, result, lo), self._home(call, result, hi - 1) + 1)
        elif name == "collapse_file":
            for page in {
                args[0],
                self._home(call, result, self._units.page(args[0])) * self._units.page_bytes,
            }:
                self._collapse_file((page,), 0)
        elif name in ("ftruncate", "fallocate") and made.call.result == 0:
            effect = MEANINGS[name].effect
            assert effect is not None
            effect(self, args, 0)

    def _home(self, call: Call, result: Result, page: int) -> int:
        """Where a page was before the call that moves it, by where it is in the middle of that."""
        if call.name != "mremap":
            return page
        address, old_bytes, new_bytes, _, target = call.args
        new = self._units.page(result if isinstance(result, int) else target)
        count = max(self._units.pages(old_bytes), self._units.pages(new_bytes))
        return page - new + self._units.page(address) if new <= page < new + count else page

    # Successful calls.

    def _check_success(self, call: Call, result: int) -> None:
        """Report what holds for no successful call."""
        if result % self._units.page_bytes:
            self._report("address", self._units.page(result), 1, "a page boundary", f"{result:#x}")
        if MEANINGS[call.name].needs:
            lo, hi = self._units.range(call.args[0], call.args[1])
            if call.name == "mprotect" and call.args[2] & PROT_GROWSDOWN:
                lo = next((area.start for area in self.memory.inside(lo, hi)), lo)
            self._expect_mapped(lo, hi)

    def _mmap(self, args: tuple[int, ...], result: int) -> None:
        address, length, prot, flags, fd, offset = args
        start = self._units.page(result)
        end = start + self._units.pages(length, huge=bool(flags & MAP_HUGETLB))
        if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
            self._expect_address(address, result)
        if flags & MAP_FIXED_NOREPLACE or not flags & MAP_FIXED:
            self._expect_free(start, end)
        private = not flags & MAP_SHARED
        first = 0
        if not flags & MAP_ANONYMOUS:
            origin, first = self.memory.files[fd], self._units.page(offset)
        else:
            origin = ZEROES if private else Origin(end - start)
        self.memory.unmap(start, end)
        grows = bool(flags & MAP_GROWSDOWN)
        huge = self._units.pages(1, huge=True) if flags & MAP_HUGETLB else 0
        droppable = flags & MAP_TYPE == MAP_DROPPABLE
        area = Area(start, end, prot, origin, private, first, grows, False, huge, droppable)
        self.memory.map(area)
        if flags & (MAP_POPULATE | MAP_LOCKED):
            self._may_copy(start, end)

    def _may_copy(self, lo: int, hi: int) -> None:
        """Pages of private mappings of files may be brought in: then they are copies."""
        if any(area.copies for area in self.memory.inside(lo, hi)):
            self.memory.change(lo, hi, lambda area: area._replace(copied=area.copies))

    # Files.

    def _file(self, args: tuple[int, ...], result: int) -> None:
        fd, size = args
        self.memory.files[fd] = Origin(self._units.pages(size))

    def _ftruncate(self, args: tuple[int, ...], result: int) -> None:
        fd, size = args
        file, pages = self.memory.files[fd], self._units.pages(size)
        if pages < file.size:
            self.memory.truncate(file, pages)
        file.size = pages
        self._zero(file, size, pages * self._units.page_bytes)

    def _fallocate(self, args: tuple[int, ...], result: int) -> None:
        fd, mode, offset, length = args
        file, end = self.memory.files[fd], offset + length
        if mode & FALLOC_FL_PUNCH_HOLE:
            self._zero(file, offset, end)
        elif not mode & FALLOC_FL_KEEP_SIZE:
            file.size = max(file.size, self._units.pages(end))

    def _zero(self, file: Origin, start: int, end: int) -> None:
        """Zero the bytes [start, end) of a file, of which tags are made."""
        page, changed = self._units.page_bytes, {}
        for at, tag in file.tags.items():
            first, last = max(start - at * page, 0), min(end - at * page, _TAG_BYTES)
            if first < last:
                zeroed = (1 << 8 * last) - (1 << 8 * first)
                changed[at] = tag & ~zeroed
        self.memory.store(file, changed)

    def _munmap(self, args: tuple[int, ...], result: int) -> None:
        self.memory.unmap(*self._units.range(args[0], args[1]))

    def _mprotect(self, args: tuple[int, ...], result: int) -> None:
        address, length, prot = args
        lo, hi = self._units.range(address, length)
        if prot & PROT_GROWSDOWN and lo < hi:
            # From where the first mapping begins.  That may lie lower, if it is a stack: how much
            # of what lies side by side is one mapping is not known.
            self._protect(self._stack_start(lo), lo, None)
            prot &= ~PROT_GROWSDOWN
        self._protect(lo, hi, prot)

    def _stack_start(self, page: int) -> int:
        """Where the growing areas begin that reach from below to `page`, without a hole."""
        for area in reversed(self.memory.areas):
            if area.grows and area.start < page <= area.end:
                page = area.start
        return page

    def _madvise(self, args: tuple[int, ...], result: int) -> None:
        address, length, advice = args
        self._advise(*self._units.range(address, length), advice)

    def _swapout(self, args: tuple[int, ...], result: int) -> None:
        self.memory.doubt(*self._units.range(*args))

    def _collapse_file(self, args: tuple[int, ...], result: int) -> None:
        page = self._units.page(args[0])
        for area in self.memory.inside(page, page + 1):
            area.origin.collapsed = True

    def _uffd_register(self, args: tuple[int, ...], result: int) -> None:
        address, length, _, features = args
        span = self._units.range(address, length)
        self._may_copy(*span)
        if features & UFFD_FEATURE_SIGBUS:
            self.memory.change(*span, lambda area: area._replace(watched=True))

    def _mremap(self, args: tuple[int, ...], result: int) -> None:
        address, old_bytes, new_bytes, flags, target = args
        memory = self.memory
        old, new = self._units.page(address), self._units.page(result)
        old_count, new_count = self._units.pages(old_bytes), self._units.pages(new_bytes)
        placed = flags & _MOVE_FIXED == _MOVE_FIXED
        keep = bool(flags & MREMAP_DONTUNMAP)
        if placed and old_count == new_count:
            old_count = new_count = self.memory.whole_huge(old + old_count) - old
        elif self.memory.is_huge(old):
            old_count, new_count = (self._units.pages(n, huge=True) for n in (old_bytes, new_bytes))
        self._expect_mapped(old, old + 1)
        if placed:
            self._expect_address(target, result)
        elif not flags & MREMAP_MAYMOVE or (new_count <= old_count and not keep):
            self._expect_address(address, result)
        if not memory.inside(old, old + 1):
            return  # reported; there is nothing to move
        if new_count <= old_count and not placed and not keep:
            memory.unmap(old + new_count, old + old_count)  # in place: equal, or a shrink
            return
        if new_count != old_count or not placed:  # only a FIXED move of equal size spans holes
            self._expect_mapped(old, old + min(old_count, new_count))
        if new == old:
            self._expect_free(old + old_count, old + new_count)
        elif not placed:
            self._expect_free(new, new + new_count)

        # The growth shows what follows the last old page in the same origin.
        last = memory.inside(old + max(old_count, 1) - 1, old + max(old_count, 1))
        growth = [
            area.placed(old + old_count, new + old_count, new_count - old_count)
            for area in last
            if new_count > old_count
        ]
        if old_count == 0 and growth and growth[0].private:
            self._report("refusal", old, 1, "no second mapping of private memory", "success")
        if new_count != old_count and new != old:
            memory.unmap(new, new + new_count)
        memory.unmap(old + new_count, old + old_count)  # the tail that a shrink cuts off
        if new != old:
            memory.move(old, old + min(old_count, new_count), new, keep)
        for area in growth:
            memory.unmap(area.start, area.end)
            memory.map(area)

    def _run_short(self, args: tuple[int, ...], result: int) -> None:
        self._scarce = True

    def _execve_stack(self, args: tuple[int, ...], result: int) -> None:
        start, end, shift = (self._units.page(operand) for operand in args)
        tag = self.memory.next_tag
        self.memory = Memory(next_tag=tag + end - start)
        if start < end:
            lo, hi = start - shift, end - shift
            self.memory.map(Area(lo, hi, PROT_READ | PROT_WRITE, grows=True))
            self.memory.pages = dict(zip(range(lo, hi), range(tag, tag + end - start), strict=True))

    def _relocate(self, args: tuple[int, ...], result: int) -> None:
        start, end, shift = (self._units.page(operand) for operand in args)
        self._expect_mapped(start, end)
        self._expect_free(start - shift, min(end - shift, start))
        self.memory.move(start, end, start - shift)

    def _protect(self, lo: int, hi: int, prot: int | None) -> None:
        self.memory.change(lo, hi, lambda area: area._replace(prot=prot))

    def _advise(self, lo: int, hi: int, advice: int) -> None:
        """Do to [lo, hi) what an advice does to contents; most do nothing."""
        if advice == MADV_FREE:
            self.memory.give_up(lo, hi)
        elif advice == MADV_PAGEOUT:
            self.memory.doubt(lo, hi)
        elif advice == MADV_POPULATE_WRITE:
            self._may_copy(lo, hi)
        if advice not in _TOUCHING:
            return
        for area in self.memory.inside(lo, hi):
            if advice == MADV_COLLAPSE:
                if area.origin is not ZEROES:
                    area.origin.collapsed = True
            elif advice != MADV_REMOVE:
                self.memory.discard(area.start, self._discardable(area))
            elif not area.private:
                seen = self.memory.tagged(*self._removable(area))
                self.memory.store(area.origin, {area.at(page): 0 for page in seen})
        if advice == MADV_GUARD_INSTALL:
            self.memory.change(lo, hi, lambda area: area._replace(guarded=True))

    def _removable(self, area: Area) -> Span:
        """That part of a mapping of which a hole can be made."""
        if not (area.huge and self._whole_holes()):
            return area.start, area.end
        return -(-area.start // area.huge) * area.huge, area.end // area.huge * area.huge

    def _discardable(self, area: Area) -> int:
        """Where that part of a mapping ends which can be thrown away: huge pages go whole."""
        return max(area.end // area.huge * area.huge, area.start) if area.huge else area.end

    # Accesses.

    def _access(self, call: Call, faults: Faults, mapped: list[Span] | None) -> None:
        """Check who may access what; write the tags of a touch."""
        memory = self.memory
        address, length = call.args
        lo, hi = self._units.range(address, length) if length else (0, 0)
        refused = sorted([(p, p + n) for p, n in (*faults.segv, *faults.bus)])
        granted = minus((lo, hi), refused)
        if memory.holes(lo, hi):
            for start, end in granted:
                self._grow_stack(start, end)
            self._follow_growth(lo, hi, mapped or [])
        outcomes = [("access", span) for span in granted]
        outcomes += [("SIGSEGV", (page, page + count)) for page, count in faults.segv]
        outcomes += [
            ("SIGBUS", part)
            for page, count in faults.bus
            for part in minus((page, page + count), self._huge_spans())
        ]
        for found, span in outcomes if self._certain else ():
            for first, last, expected in self._expected_access(call.name, *span):
                if first < last and expected not in ("", found):
                    self._report("access", first, last - first, expected, found)
        if call.name != "touch":
            return
        for start, end in granted:
            for area in memory.inside(start, end):
                first_tag = memory.next_tag - lo
                memory.write(area, range(first_tag + area.start, first_tag + area.end))
        memory.next_tag += hi - lo

    def _expected_access(self, name: str, lo: int, hi: int) -> Iterator[tuple[int, int, str]]:
        """(first, end, what an access ends in; empty if either may be) for all of [lo, hi)."""
        for start, end in self.memory.holes(lo, hi):
            # What is below a stack may be let grow into or not; the growth is followed above.
            yield start, end, "SIGSEGV" if self._stack_above(end) is None else ""
        for area in self.memory.inside(lo, hi):
            if area.prot is None or area.guarded:
                continue
            hidden = self._exec_only and area.prot == PROT_EXEC
            if hidden or not area.prot & (PROT_WRITE if name == "touch" else _ANY):
                yield area.start, area.end, "SIGSEGV"
                continue
            if area.watched:
                yield area.start, area.end, ""
                continue
            limit = area.start + area.origin.size - area.offset
            if area.end <= limit:
                yield area.start, area.end, "access"
            else:
                limit = max(limit, area.start)
                yield area.start, limit, "access"
                yield limit, area.end, "" if area.origin.collapsed else "SIGBUS"

    def _stack_above(self, page: int) -> Area | None:
        """The growing area that is the next mapping from `page` upwards."""
        above = next((area for area in self.memory.areas if area.start >= page), None)
        return above if above is not None and above.grows else None

    def _grow_stack(self, lo: int, hi: int) -> None:
        """An access to a page below a stack that went well made the stack grow down to it."""
        for start, end in self.memory.holes(lo, hi):
            if (stack := self._stack_above(end)) is not None:
                self.memory.map(stack._replace(start=start, end=stack.start))

    def _follow_growth(self, lo: int, hi: int, mapped: list[Span]) -> None:
        """A stack may have grown for an access that its protection then refused."""
        for start, end in self.memory.holes(lo, hi):
            stack = self._stack_above(end)
            for first, last in mapped if stack is not None else []:
                assert stack is not None
                if first < stack.start <= last and max(first, start) < end:
                    grown = stack._replace(start=max(first, start), end=stack.start)
                    self.memory.map(grown)

    # Failed calls.

    def _follow_failure(
        self, call: Call, error: str, contents: Mapping[int, int] | None, mapped: list[Span] | None
    ) -> None:
        """Take over the one of the states a failure may leave that the implementation is in."""
        if call.name == "madvise":
            self._madvise_failed(call.args, error, contents)
            return
        if call.name == "mprotect":
            self._mprotect_failed(call.args, error)
            return
        if call.name == "file":  # there is one, whatever became of its size
            self._file((call.args[0], 0), 0)
        if call.name == "uffd_register":  # what lies before the VMA that could not be cut is
            self._uffd_register(call.args, 0)
        if error == "-EPERM" and call.name in ("munmap", "mmap", "mremap"):
            # A seal: what was to go may have been cut where it begins.
            address = self._units.page(call.args[0])
            starts = [address]
            if call.name == "mremap":
                starts = [address + self._units.pages(call.args[2]), self._units.page(call.args[4])]
            for start in starts:
                self.memory.cut(start)
        outcomes = outcomes_of(
            call, error, self.memory, self._units, mapped or [], certain=self._certain
        )
        usual = next(outcomes)
        alike = (memory for memory in chain((usual,), outcomes) if memory.agrees(contents, mapped))
        chosen = next(alike, usual)
        twins = []
        if mapped is None:
            self._certain &= next(outcomes, None) is None
        elif call.name == "mremap" and call.args[3] & MREMAP_DONTUNMAP:
            # A source that stays mapped does not show that it has moved.
            twins = [memory for memory in alike if memory.areas != chosen.areas]
        self.memory = chosen  # after all that is made from what was there before
        self.twins = [self._twin(memory) for memory in twins]

    def _twin(self, memory: Memory) -> "_World":
        """This world with another memory, which shares nothing with it."""
        twin = copy(self)
        twin.memory = deepcopy(memory)
        return twin

    def _madvise_failed(
        self, args: tuple[int, ...], error: str, contents: Mapping[int, int] | None
    ) -> None:
        """Mappings are advised in address order, holes are noticed last (-ENOMEM)."""
        address, length, advice = args
        lo, hi = self._units.range(address, length)
        if contents is None:
            done = hi if error == "-ENOMEM" else lo
        else:
            remove = advice == MADV_REMOVE
            concerned = (
                page
                for area in self.memory.inside(lo, hi)
                if area.private != remove
                for page in self.memory.tagged(
                    *self._removable(area) if remove else (area.start, self._discardable(area))
                )
            )
            done = next((page for page in concerned if page in contents), hi)
        self._advise(lo, hi if advice in _GOES_ON else done, advice)
        if advice == MADV_GUARD_INSTALL:
            self.memory.change(lo, hi, lambda area: area._replace(guarded=True))

    def _mprotect_failed(self, args: tuple[int, ...], error: str) -> None:
        """What lies before the first hole has changed; what else is refused stops anywhere.

        A length that makes the end wrap around changes nothing.  Where that begins depends on the
        address of the arena, so that nothing is said about lengths beyond half the address space.
        """
        address, length, prot = args
        lo, hi = self._units.range(address, length)
        refused = error in ("-ENOMEM", "-EPERM")  # EPERM: sealed
        if error == "-EINVAL":  # a huge page would be cut
            refused = any(area.huge for area in self.memory.inside(lo, hi))
        holes = self.memory.holes(lo, hi)
        if refused and prot & PROT_GROWSDOWN:
            self._protect(self._stack_start(lo), hi, None)
        elif error == "-ENOMEM" and holes:
            known = not self._scarce and length <= self._units.word_mask // 2
            self._protect(lo, holes[0][0], prot if known else None)
        elif refused:
            self._protect(lo, hi, None)

    # Comparing and reporting.

    def _compare(self, contents: Mapping[int, int] | None, mapped: list[Span] | None) -> None:
        """Report where the implementation differs, and go on from what it holds."""
        memory = self.memory
        if mapped is not None and memory.mapped() != mapped:
            ours = memory.mapped()
            for start, end in (hole for span in ours for hole in minus(span, mapped)):
                self._report("mapped", start, end - start, "a mapping", None)
                memory.unmap(start, end)
            for start, end in (hole for span in mapped for hole in minus(span, ours)):
                self._report("mapped", start, end - start, None, "a mapping")
                memory.map(Area(start, end, None))
        if contents is not None and (memory.doubtful or memory.unsure):
            memory.settle(contents)
        if contents is not None and memory.pages != contents:
            self._mismatches += _differences(memory.pages, contents)
            for area in memory.areas:
                if not area.private:
                    for page in {*memory.pages, *contents}:
                        if area.start <= page < area.end:
                            put(area.origin.tags, area.at(page), contents.get(page, 0))
            memory.pages = dict(contents)

    def _report(
        self, kind: str, start: int, count: int, expected: str | None, found: str | None
    ) -> None:
        self._mismatches.append(Mismatch(kind, start, count, expected, found))

    def _expect_address(self, expected: int, result: int) -> None:
        if result != expected & self._units.word_mask:
            self._report("address", self._units.page(result), 1, f"{expected:#x}", f"{result:#x}")

    def _expect_free(self, lo: int, hi: int) -> None:
        """Report mappings in [lo, hi), where a call placed something that may evict nothing."""
        if self._certain:
            for area in self.memory.inside(lo, hi):
                self._report(
                    "refusal", area.start, area.end - area.start, "a free place", "a mapping"
                )

    def _expect_mapped(self, lo: int, hi: int) -> None:
        """Report holes in [lo, hi), where a call succeeded that needs mappings."""
        if self._certain:
            for start, end in self.memory.holes(lo, hi):
                self._report("refusal", start, end - start, "an error: not mapped", "success")

    def _huge_spans(self) -> list[Span]:
        """Where huge pages lie: the pool may run out of them."""
        return [(area.start, area.end) for area in self.memory.areas if area.huge]


class Meaning(NamedTuple):
    """What a call does to memory.

    `effect`: what its success changes, told by the operands and the result; `maps`: there may be
    other mappings after it; `needs`: it cannot succeed unless all it names is mapped; `cuts`: what
    it names may be a mapping of its own from then on; `accesses`: it is no call but an access;
    `fills`: it may bring pages in, in failure, too.
    """

    effect: Callable[[_World, tuple[int, ...], int], None] | None = None
    maps: bool = False
    needs: bool = False
    cuts: bool = False
    accesses: bool = False
    fills: bool = False


UNMOVED = Meaning()  # contents and mappings stay as they are, and nothing is asked of them
_MARKS = Meaning(needs=True, cuts=True)
_LOCKS = _MARKS._replace(fills=True)
# Every call has an entry: what the oracle was not told of, it could not check.
MEANINGS: dict[str, Meaning] = {
    "mmap": Meaning(_World._mmap, maps=True),
    "munmap": Meaning(_World._munmap, maps=True),
    "mprotect": Meaning(_World._mprotect, needs=True, cuts=True),
    "mremap": Meaning(_World._mremap, maps=True),
    "madvise": Meaning(_World._madvise, needs=True, cuts=True),
    "mlock": _LOCKS,
    "munlock": _MARKS,
    "mlock2": _LOCKS,
    "touch": Meaning(accesses=True),
    "peek": Meaning(accesses=True),
    "execve_stack": Meaning(_World._execve_stack, maps=True),
    "relocate": Meaning(_World._relocate, maps=True),
    "mseal": _MARKS,
    "uffd_register": Meaning(_World._uffd_register, cuts=True),
    "uffd_wp": UNMOVED,
    "uffd_rwp": UNMOVED,
    "fork": UNMOVED,
    "exit_child": UNMOVED,
    "swapout": Meaning(_World._swapout),
    "migrate_begin": UNMOVED,
    "migrate_end": UNMOVED,
    "soft_dirty_clear": UNMOVED,
    "touch_on": UNMOVED,
    "file": Meaning(_World._file),
    "ftruncate": Meaning(_World._ftruncate),
    "fallocate": Meaning(_World._fallocate),
    "collapse_file": Meaning(_World._collapse_file),
    "@fail": Meaning(_World._run_short),
    "@limit": Meaning(_World._run_short),
    # That somebody is to do this in the middle of a call; `follow_between` says what it does then.
    "@at touch": UNMOVED,
    "@at peek": UNMOVED,
    "@at touch_on": UNMOVED,
    "@at swapout": UNMOVED,
    "@at migrate_begin": UNMOVED,
    "@at migrate_end": UNMOVED,
    "@at collapse_file": UNMOVED,
    "@at ftruncate": UNMOVED,
    "@at fallocate": UNMOVED,
}


def _differences(expected: Mapping[int, int], found: Mapping[int, int]) -> Iterator[Mismatch]:
    """Where two contents differ, in runs of pages whose tags go up by one on both sides."""
    run: tuple[int, int | None, int | None] | None = None  # first page, its expected and found tag
    end = 0
    for page in sorted({*expected, *found}):
        ours, theirs = expected.get(page), found.get(page)
        if ours == theirs:
            continue
        if run is not None:
            count = page - run[0]
            if end == page and (ours, theirs) == (_plus(run[1], count), _plus(run[2], count)):
                end = page + 1
                continue
            yield Mismatch("contents", run[0], end - run[0], *run[1:])
        run, end = (page, ours, theirs), page + 1
    if run is not None:
        yield Mismatch("contents", run[0], end - run[0], *run[1:])


def _plus(tag: int | None, count: int) -> int | None:
    return None if tag is None else tag + count
