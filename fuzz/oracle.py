"""What memory must hold: an independent reference, page number -> tag.

The oracle knows no tables, no entries and no kernel versions, and shares nothing with the engine.
It is told each call and its result, keeps a flat dictionary of contents, and says where the
implementation under test holds something else:

      page   2   3   4   5   6   7   8   9
  before  [  1   2   3 ]   .   .   .   .   .      three pages, tags 1 2 3
  mremap(page 2, 3 pages, 3 pages, MREMAP_MAYMOVE|MREMAP_FIXED, page 6) = page 6
  after      .   .   .     . [ 1   2   3 ]   .

Whether a call succeeds is the business of the implementation; what follows from the result is
the business of the oracle.  Where a kernel may or may not have done something before it failed,
the oracle lists every state it may have left and accepts the one it is shown, and no other.

All positions here are page numbers in the arena unless a name says bytes.  The cost of a call
follows the pages with a tag and the mappings, never the length of a range.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from engine.address import round_up
from fuzz.case import (
    ADVICE,
    FAILURES,
    MAP_FLAGS,
    PROT_FLAGS,
    REMAP_FLAGS,
    Call,
    Faults,
    Result,
)

_READ, _WRITE = PROT_FLAGS["PROT_READ"], PROT_FLAGS["PROT_WRITE"]
_FIXED, _NOREPLACE = MAP_FLAGS["MAP_FIXED"], MAP_FLAGS["MAP_FIXED_NOREPLACE"]
_SHARED, _GROWSDOWN = MAP_FLAGS["MAP_SHARED"], MAP_FLAGS["MAP_GROWSDOWN"]
_MOVE_FIXED = REMAP_FLAGS["MREMAP_MAYMOVE"] | REMAP_FLAGS["MREMAP_FIXED"]
_MAYMOVE, _DONTUNMAP = REMAP_FLAGS["MREMAP_MAYMOVE"], REMAP_FLAGS["MREMAP_DONTUNMAP"]
_REMAP_MASK = _MOVE_FIXED | _DONTUNMAP
_DONTNEED, _REMOVE = ADVICE["MADV_DONTNEED"], ADVICE["MADV_REMOVE"]
_GUARD, _COLLAPSE = ADVICE["MADV_GUARD_INSTALL"], ADVICE["MADV_COLLAPSE"]
_HUGETLB = MAP_FLAGS["MAP_HUGETLB"]
_VMA_FAILS = FAILURES["vma"]

_CHANGES_MAPPINGS = frozenset(("mmap", "munmap", "mremap", "execve_stack", "relocate"))
_NEEDS_MAPPINGS = frozenset(("mprotect", "madvise", "mlock", "munlock", "mseal"))
_CUTS_MAPPINGS = _NEEDS_MAPPINGS | {"uffd_register"}

Span = tuple[int, int]  # half-open, in pages unless a name says bytes


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

    def __str__(self) -> str:
        def shown(value: int | str | None) -> str:
            if not isinstance(value, int):
                return value or "nothing"
            return f"tag {value}" if self.count == 1 else f"tags {value}..{value + self.count - 1}"

        pages = f"page {self.start_page:#x}"
        if self.count > 1:
            pages = f"pages {self.start_page:#x}..{self.start_page + self.count - 1:#x}"
        return f"{self.kind}: {pages}: expected {shown(self.expected)}, found {shown(self.found)}"


@dataclass(slots=True, eq=False)
class _Object:
    """What shared mappings show: tags by page offset.  It lives as long as a mapping of it."""

    size: int  # pages; accesses beyond it end in SIGBUS
    tags: dict[int, int] = field(default_factory=dict)
    collapsed: bool = False  # may have a huge page, which goes on past its end


class _Area(NamedTuple):
    """Pages [start, end) that are mapped alike, by calls that named all of them or none.

    `object` None: private anonymous memory.
    """

    start: int
    end: int
    prot: int | None  # None: not known
    object: _Object | None = None
    offset: int = 0  # page of the object at `start`
    grows: bool = False  # downwards, when a page below it is accessed
    guarded: bool = False  # may hold guard pages, on which every access fails
    huge: bool = False  # of huge pages, which the pool may run out of

    def overlaps(self, lo: int, hi: int) -> bool:
        return max(self.start, lo) < min(self.end, hi)

    def at(self, page: int) -> int:
        """The page of the object that `page` shows."""
        return self.offset + page - self.start

    def clip(self, lo: int, hi: int) -> "_Area":
        """The part inside [lo, hi), which it overlaps."""
        if lo <= self.start and self.end <= hi:
            return self
        start = max(lo, self.start)
        return self._replace(start=start, end=min(hi, self.end), offset=self.at(start))

    def outside(self, lo: int, hi: int) -> "list[_Area]":
        """The parts that are not in [lo, hi)."""
        if not self.overlaps(lo, hi):
            return [self]
        spans = ((self.start, lo), (hi, self.end))
        return [self.clip(start, end) for start, end in spans if start < end]

    def placed(self, page: int, start: int, count: int) -> "_Area":
        """`count` pages at `start` that show what this area would show from `page` on."""
        return self._replace(start=start, end=start + count, offset=self.at(page), guarded=False)


@dataclass(slots=True)
class _Memory:
    """Contents, mappings and the tag counter.

    `pages` holds what is visible: tags of private pages, and those of an object through each of
    its mappings.  `areas` are disjoint and in address order.
    """

    pages: dict[int, int] = field(default_factory=dict)
    areas: list[_Area] = field(default_factory=list)
    next_tag: int = 1

    def copy(self) -> "_Memory":
        """A copy that can be remapped freely; objects are shared with the original."""
        return _Memory(self.pages.copy(), self.areas.copy(), self.next_tag)

    def inside(self, lo: int, hi: int) -> list[_Area]:
        """The mapped parts of [lo, hi)."""
        return [area.clip(lo, hi) for area in self.areas if area.overlaps(lo, hi)]

    def holes(self, lo: int, hi: int) -> list[Span]:
        """The parts of [lo, hi) that are not mapped."""
        return _minus((lo, hi), ((area.start, area.end) for area in self.areas))

    def mapped(self) -> list[Span]:
        """What is mapped: disjoint ranges with a gap between each two."""
        return _joined((area.start, area.end) for area in self.areas)

    def tagged(self, lo: int, hi: int) -> list[int]:
        """Pages of [lo, hi) with a tag, in order; the cost follows what there is less of."""
        if hi - lo <= len(self.pages):
            return [page for page in range(lo, hi) if page in self.pages]
        return sorted(page for page in self.pages if lo <= page < hi)

    def drop(self, lo: int, hi: int) -> None:
        """Nothing is visible in [lo, hi) any more."""
        for page in self.tagged(lo, hi):
            del self.pages[page]

    def unmap(self, lo: int, hi: int) -> None:
        """Remove every mapping of [lo, hi), and what it showed."""
        if any(area.overlaps(lo, hi) for area in self.areas):
            self.areas = [rest for area in self.areas for rest in area.outside(lo, hi)]
            self.drop(lo, hi)

    def map(self, area: _Area) -> None:
        """Add a mapping where there is none; an object shows its contents through it."""
        insort(self.areas, area)
        if area.object is not None:
            shift = area.start - area.offset
            for offset, tag in area.object.tags.items():
                if area.start <= offset + shift < area.end:
                    self.pages[offset + shift] = tag

    def move(self, lo: int, hi: int, to: int, keep: bool = False) -> None:
        """Move what is mapped in [lo, hi) to `to`, holes included: they keep what is behind them.

        Each mapped part evicts what is in its own way only.  `keep` leaves the source mapped,
        with no private page in it.  The two ranges may overlap if the move goes down.
        """
        for area in self.inside(lo, hi):
            shift = to - lo
            tags = {}
            if area.object is None:
                tags = {page: self.pages[page] for page in self.tagged(area.start, area.end)}
            self.unmap(area.start, area.end)
            if keep:
                self.map(area)
            target = area._replace(start=area.start + shift, end=area.end + shift)
            self.unmap(target.start, target.end)
            self.map(target)
            self.pages.update((page + shift, tag) for page, tag in tags.items())

    def change(self, lo: int, hi: int, change: Callable[[_Area], _Area]) -> None:
        """Replace the mapped parts of [lo, hi); contents stay."""
        if parts := self.inside(lo, hi):
            rest = [rest for area in self.areas for rest in area.outside(lo, hi)]
            self.areas = sorted(rest + [change(part) for part in parts])

    def cut(self, page: int) -> None:
        """A mapping ends at a page, and the next begins; those of huge pages stay whole."""
        for index, area in enumerate(self.areas):
            if area.start < page < area.end and not area.huge:
                halves = area.clip(area.start, page), area.clip(page, area.end)
                self.areas[index : index + 1] = halves
                return

    def store(self, shared: _Object, tags: Mapping[int, int]) -> None:
        """Write tags into an object, 0 to punch a hole: all its mappings show it."""
        for offset, tag in tags.items():
            _put(shared.tags, offset, tag)
        for area in self.areas:
            if area.object is shared:
                for offset, tag in tags.items():
                    if area.offset <= offset < area.at(area.end):
                        _put(self.pages, area.start + offset - area.offset, tag)

    def agrees(self, contents: Mapping[int, int] | None, mapped: list[Span] | None) -> bool:
        """True if the implementation holds this, as far as that is known (None: it is not)."""
        return (contents is None or self.pages == contents) and (
            mapped is None or self.mapped() == mapped
        )


class Oracle:
    """The contents of one case, call by call.

    `page_bytes`, `word_bits` and `huge_bytes` are those of the machine: operands are rounded up to
    pages modulo 2^word_bits, and to huge pages where those are mapped.
    """

    def __init__(
        self, page_bytes: int = 4096, word_bits: int = 64, huge_bytes: int = 1 << 21
    ) -> None:
        self._page_bytes = page_bytes
        self._huge_bytes = huge_bytes
        self._word_mask = (1 << word_bits) - 1
        self._memory = _Memory()
        self._certain = True  # the areas are known exactly
        self._scarce = False  # VMAs may be refused: what cannot be cut off stays mapped
        self._mismatches: list[Mismatch] = []
        self._effects: dict[str, Callable[[tuple[int, ...], int], None]] = {
            "mmap": self._mmap,
            "munmap": self._munmap,
            "mprotect": self._mprotect,
            "mremap": self._mremap,
            "madvise": self._madvise,
            "execve_stack": self._execve_stack,
            "relocate": self._relocate,
            "@fail": self._fail,
        }

    @property
    def contents(self) -> Mapping[int, int]:
        """The contents as predicted: page -> tag, for every tag but 0."""
        return self._memory.pages

    @property
    def mapped(self) -> list[Span]:
        """What is mapped as predicted: page ranges, disjoint and apart."""
        return self._memory.mapped()

    def apply(
        self,
        call: Call,
        result: Result,
        contents: Mapping[int, int] | None = None,
        mapped: Callable[[], Sequence[tuple[int, int]]] | None = None,
    ) -> list[Mismatch]:
        """Follow a call and compare; empty if the implementation agrees.

        `result` is what the implementation returned: an arena offset in bytes, 0, "-EINVAL" and
        the like, Faults, or "SKIP" for a call that was not executed.  `contents` is what it holds
        now: page number -> tag for every page with a tag other than 0 that some mapping shows,
        whatever its protection.  `mapped` gives the byte ranges of the arena that are mapped
        now, in address order; it is called after calls that can change mappings.

        Without `contents` the oracle trusts its prediction: a failed call did nothing.  Without
        `mapped` it cannot follow failures that may have unmapped something: from the first one
        on it checks contents only.  After a mismatch it goes on from what it was shown.

        A touch takes one tag for every page it attempts; execve_stack takes one for every page
        of the stack if the address space was replaced, in success and in failure; nothing else
        takes any.
        """
        self._mismatches = []
        now = None
        changes = call.name in _CHANGES_MAPPINGS or (
            call.name in ("touch", "peek") and any(area.grows for area in self._memory.areas)
        )
        if mapped is not None and changes:
            now = _joined(
                (start // self._page_bytes, end // self._page_bytes) for start, end in mapped()
            )
        if call.name in _CUTS_MAPPINGS and result != "SKIP":
            # What it names may be a mapping of its own from now on, which can move by itself.
            for page in self._range(call.args[0], call.args[1]):
                self._memory.cut(page)
        leftovers = self._leftovers(call) if self._scarce and call.name == "mremap" else []
        if call.name in ("touch", "peek"):
            if not isinstance(result, str):
                self._access(call, result if isinstance(result, Faults) else Faults(), now)
        elif isinstance(result, int):
            self._check_success(call, result)
            if call.name in self._effects:  # the other calls leave contents and mappings alone
                self._effects[call.name](call.args, result)
        elif result != "SKIP":
            self._follow_failure(call, str(result), contents, now)
        self._accept(leftovers, now)
        self._compare(contents, now)
        return self._mismatches

    def _leftovers(self, call: Call) -> list[_Area]:
        """What an mremap leaves mapped, without private pages, if it cannot be cut off.

        That is the source of a move, or the destination of one that failed: it shows what it would
        have shown, had the move gone well, if that is an object.
        """
        address, old_bytes, new_bytes, _, target = call.args
        old, new = self._page(address), self._page(target)
        huge = self._is_huge(old)
        old_count, new_count = self._pages(old_bytes, huge=huge), self._pages(new_bytes, huge=huge)
        source = self._memory.inside(old, old + old_count)
        copies = [
            area._replace(start=area.start - old + new, end=area.end - old + new) for area in source
        ]
        if new_count > old_count:
            copies += [
                area.placed(old + old_count, new + old_count, new_count - old_count)
                for area in self._memory.inside(old, old + 1)
            ]
        return [*source, *copies, _Area(new, new + new_count, None)]

    def _accept(self, leftovers: list[_Area], mapped: list[Span] | None) -> None:
        """Take over what the implementation has left mapped where it may have done so."""
        for area in leftovers:
            for span in self._memory.holes(area.start, area.end):
                for start, end in mapped or ():
                    if area.overlaps(start, end) and max(start, span[0]) < min(end, span[1]):
                        self._memory.map(area.clip(max(start, span[0]), min(end, span[1])))

    # Successful calls.

    def _check_success(self, call: Call, result: int) -> None:
        """Report what holds for no successful call."""
        if result % self._page_bytes:
            self._report("address", self._page(result), 1, "a page boundary", f"{result:#x}")
        if call.name in _NEEDS_MAPPINGS:
            self._expect_mapped(*self._range(call.args[0], call.args[1]))

    def _mmap(self, args: tuple[int, ...], result: int) -> None:
        address, length, prot, flags = args[:4]
        start = self._page(result)
        end = start + self._pages(length, huge=bool(flags & _HUGETLB))
        if flags & (_FIXED | _NOREPLACE):
            self._expect_address(address, result)
        if flags & _NOREPLACE or not flags & _FIXED:
            self._expect_free(start, end)
        shared = _Object(end - start) if flags & _SHARED else None
        self._memory.unmap(start, end)
        grows, huge = bool(flags & _GROWSDOWN), bool(flags & _HUGETLB)
        self._memory.map(_Area(start, end, prot, shared, grows=grows, huge=huge))

    def _munmap(self, args: tuple[int, ...], result: int) -> None:
        self._memory.unmap(*self._range(args[0], args[1]))

    def _mprotect(self, args: tuple[int, ...], result: int) -> None:
        address, length, prot = args
        self._protect(*self._range(address, length), prot)

    def _madvise(self, args: tuple[int, ...], result: int) -> None:
        address, length, advice = args
        self._advise(*self._range(address, length), advice)

    def _mremap(self, args: tuple[int, ...], result: int) -> None:
        address, old_bytes, new_bytes, flags, target = args
        memory = self._memory
        old, new = self._page(address), self._page(result)
        old_count, new_count = self._pages(old_bytes), self._pages(new_bytes)
        placed = flags & _MOVE_FIXED == _MOVE_FIXED
        keep = bool(flags & _DONTUNMAP)
        if placed and old_count == new_count:
            old_count = new_count = self._whole_huge(old + old_count) - old
        elif self._is_huge(old):
            old_count, new_count = (self._pages(n, huge=True) for n in (old_bytes, new_bytes))
        self._expect_mapped(old, old + 1)
        if placed:
            self._expect_address(target, result)
        elif not flags & _MAYMOVE or (new_count <= old_count and not keep):
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

        # The growth shows what follows the last old page in the same object.
        last = memory.inside(old + max(old_count, 1) - 1, old + max(old_count, 1))
        growth = [
            area.placed(old + old_count, new + old_count, new_count - old_count)
            for area in last
            if new_count > old_count
        ]
        if old_count == 0 and growth and growth[0].object is None:
            self._report("refusal", old, 1, "no second mapping of private memory", "success")
        if new_count != old_count and new != old:
            memory.unmap(new, new + new_count)
        memory.unmap(old + new_count, old + old_count)  # the tail that a shrink cuts off
        if new != old:
            memory.move(old, old + min(old_count, new_count), new, keep)
        for area in growth:
            memory.unmap(area.start, area.end)
            memory.map(area)

    def _fail(self, args: tuple[int, ...], result: int) -> None:
        self._scarce |= args[0] == _VMA_FAILS

    def _execve_stack(self, args: tuple[int, ...], result: int) -> None:
        start, end, shift = (self._page(operand) for operand in args)
        tag = self._memory.next_tag
        self._memory = _Memory(next_tag=tag + end - start)
        if start < end:
            lo, hi = start - shift, end - shift
            self._memory.map(_Area(lo, hi, _READ | _WRITE, grows=True))
            self._memory.pages = dict(
                zip(range(lo, hi), range(tag, tag + end - start), strict=True)
            )

    def _relocate(self, args: tuple[int, ...], result: int) -> None:
        start, end, shift = (self._page(operand) for operand in args)
        self._expect_mapped(start, end)
        self._expect_free(start - shift, min(end - shift, start))
        self._memory.move(start, end, start - shift)

    def _protect(self, lo: int, hi: int, prot: int | None) -> None:
        self._memory.change(lo, hi, lambda area: area._replace(prot=prot))

    def _advise(self, lo: int, hi: int, advice: int) -> None:
        """Do to [lo, hi) what an advice does to contents; most do nothing."""
        if advice not in (_DONTNEED, _REMOVE, _GUARD, _COLLAPSE):
            return
        for area in self._memory.inside(lo, hi):
            if advice == _COLLAPSE:
                if area.object is not None:
                    area.object.collapsed = True
            elif area.object is None:
                if advice != _REMOVE:
                    self._memory.drop(area.start, self._discardable(area))
            elif advice == _REMOVE and not area.huge:  # no holes in files of huge pages
                seen = self._memory.tagged(area.start, area.end)
                self._memory.store(area.object, {area.at(page): 0 for page in seen})
        if advice == _GUARD:
            self._memory.change(lo, hi, lambda area: area._replace(guarded=True))

    def _discardable(self, area: _Area) -> int:
        """Where that part of a mapping ends which can be thrown away: huge pages go whole."""
        pages = self._huge_bytes // self._page_bytes
        return max(area.end // pages * pages, area.start) if area.huge else area.end

    # Accesses.

    def _access(self, call: Call, faults: Faults, mapped: list[Span] | None) -> None:
        """Check who may access what; write the tags of a touch."""
        memory = self._memory
        address, length = call.args
        lo, hi = self._range(address, length) if length else (0, 0)
        granted = _minus((lo, hi), sorted((p, p + n) for p, n in (*faults.segv, *faults.bus)))
        for start, end in granted:
            self._grow_stack(start, end)
        self._follow_growth(lo, hi, mapped or [])
        outcomes = {
            "access": granted,
            "SIGSEGV": [(page, page + count) for page, count in faults.segv],
            "SIGBUS": [
                part
                for page, count in faults.bus
                for part in _minus((page, page + count), self._huge_spans())
            ],
        }
        for found, spans in outcomes.items():
            for start, end in spans:
                for first, last, expected in self._expected_access(call.name, start, end):
                    if first < last and expected not in ("", found) and self._certain:
                        self._report("access", first, last - first, expected, found)
        if call.name != "touch":
            return
        for start, end in granted:
            for area in memory.inside(start, end):
                pages = range(area.start, area.end)
                first_tag = memory.next_tag + area.start - lo
                tags = range(first_tag, first_tag + len(pages))
                if area.object is None:
                    memory.pages.update(zip(pages, tags, strict=True))
                else:
                    offsets = range(area.offset, area.at(area.end))
                    memory.store(area.object, dict(zip(offsets, tags, strict=True)))
        memory.next_tag += hi - lo

    def _expected_access(self, name: str, lo: int, hi: int) -> Iterator[tuple[int, int, str]]:
        """(first, end, what an access ends in; empty if either may be) for all of [lo, hi)."""
        for start, end in self._memory.holes(lo, hi):
            # What is below a stack may be let grow into or not; the growth is followed above.
            yield start, end, "SIGSEGV" if self._stack_above(end) is None else ""
        for area in self._memory.inside(lo, hi):
            if area.prot is None or area.guarded:
                continue
            if not area.prot & (_WRITE if name == "touch" else _READ | _WRITE):
                # Architectures differ in whether PROT_EXEC alone allows to read.
                readable = name == "peek" and area.prot
                yield area.start, area.end, "" if readable else "SIGSEGV"
            elif area.object is None:
                yield area.start, area.end, "access"
            else:
                limit = min(max(area.start + area.object.size - area.offset, area.start), area.end)
                yield area.start, limit, "access"
                yield limit, area.end, "" if area.object.collapsed else "SIGBUS"

    def _stack_above(self, page: int) -> _Area | None:
        """The growing area that is the next mapping from `page` upwards."""
        above = next((area for area in self._memory.areas if area.start >= page), None)
        return above if above is not None and above.grows else None

    def _grow_stack(self, lo: int, hi: int) -> None:
        """An access to a page below a stack that went well made the stack grow down to it."""
        for start, end in self._memory.holes(lo, hi):
            if (stack := self._stack_above(end)) is not None:
                self._memory.map(stack._replace(start=start, end=stack.start))

    def _follow_growth(self, lo: int, hi: int, mapped: list[Span]) -> None:
        """A stack may have grown for an access that its protection then refused."""
        for start, end in self._memory.holes(lo, hi):
            stack = self._stack_above(end)
            for first, last in mapped if stack is not None else []:
                assert stack is not None
                if first < stack.start <= last and max(first, start) < end:
                    grown = stack._replace(start=max(first, start), end=stack.start)
                    self._memory.map(grown)

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
        outcomes = self._outcomes(call, error, mapped or [])
        usual = next(outcomes)
        for memory in chain((usual,), outcomes):
            if memory.agrees(contents, mapped):
                self._memory = memory
                break
        else:
            self._memory = usual
        if mapped is None and next(outcomes, None) is not None:
            self._certain = False

    def _madvise_failed(
        self, args: tuple[int, ...], error: str, contents: Mapping[int, int] | None
    ) -> None:
        """Mappings are advised in address order, holes are noticed last (-ENOMEM)."""
        address, length, advice = args
        lo, hi = self._range(address, length)
        if contents is None:
            done = hi if error == "-ENOMEM" else lo
        else:
            concerned = (
                page
                for area in self._memory.inside(lo, hi)
                if (area.object is not None) == (advice == _REMOVE)
                for page in self._memory.tagged(area.start, self._discardable(area))
            )
            done = next((page for page in concerned if page in contents), hi)
        self._advise(lo, hi if advice == _COLLAPSE else done, advice)
        if advice == _GUARD:
            self._memory.change(lo, hi, lambda area: area._replace(guarded=True))

    def _mprotect_failed(self, args: tuple[int, ...], error: str) -> None:
        """What lies before the first hole has changed; other shortages of memory stop anywhere.

        A length that makes the end wrap around changes nothing.  Where that begins depends on the
        address of the arena, so that nothing is said about lengths beyond half the address space.
        """
        address, length, prot = args
        if error == "-ENOMEM":
            lo, hi = self._range(address, length)
            holes = self._memory.holes(lo, hi)
            known = holes and not self._scarce and length <= self._word_mask // 2
            self._protect(lo, holes[0][0] if holes else hi, prot if known else None)
        elif error == "-EPERM":  # sealed; what lies before that may have changed
            self._protect(*self._range(address, length), None)

    def _outcomes(self, call: Call, error: str, mapped: list[Span]) -> Iterator[_Memory]:
        """Every state a kernel may leave when the call fails, the usual one first.

        `mapped` gives hints where mappings begin and end.
        """
        memory = self._memory
        if call.name == "execve_stack":
            start, end, _ = (self._page(operand) for operand in call.args)
            replaced = _Memory(next_tag=memory.next_tag + max(end - start, 0))
            # -EINVAL and -E2BIG come before the point of no return, -ENOMEM and -EFAULT after it.
            late = error in ("-ENOMEM", "-EFAULT")
            yield from (replaced, memory) if late else (memory, replaced)
            return
        yield memory
        if call.name == "mmap":
            address, length, _, flags = call.args[:4]
            # Before 6.12 a MAP_FIXED mapping evicts before it is charged.
            if flags & _FIXED and not flags & _NOREPLACE and error == "-ENOMEM":
                start = self._page(address)
                pages = self._pages(length, huge=bool(flags & _HUGETLB))
                yield from _without(memory, (start, start + pages))
        elif call.name == "relocate":
            start, end, _ = (self._page(operand) for operand in call.args)
            yield from _without(memory, (start, end))
            yield _Memory(next_tag=memory.next_tag)  # half moved: the program is given up
        elif call.name == "mremap" and self._may_leave_traces(call.args):
            yield from self._half_done(call.args, mapped)

    def _may_leave_traces(self, args: tuple[int, ...]) -> bool:
        """True if no check that every kernel makes before it unmaps anything refuses the call."""
        address, old_bytes, new_bytes, flags, target = args
        old, new = self._page(address), self._page(target)
        huge = self._is_huge(old)
        old_count, new_count = self._pages(old_bytes, huge=huge), self._pages(new_bytes, huge=huge)
        # The test for overlap adds without care.  The address of the arena counts, too: lengths
        # beyond half the address space may or may not wrap around.
        old_end = (old + old_count) * self._page_bytes
        wraps = old_end > self._word_mask or old_bytes > self._word_mask // 2
        return (
            flags & ~_REMAP_MASK == 0
            and flags & _MOVE_FIXED == _MOVE_FIXED
            and not (flags & _DONTUNMAP and old_count != new_count)
            and address % self._page_bytes == 0
            and target % self._page_bytes == 0
            and new_count > 0
            and (wraps or not (old < new + new_count and new < old + old_count))
            and (bool(self._memory.inside(old, old + 1)) or not self._certain)
        )

    def _half_done(self, args: tuple[int, ...], mapped: list[Span]) -> Iterator[_Memory]:
        """What a FIXED mremap may have done before it failed.

        A move of equal size goes mapping by mapping (6.17+): those below `cut` have moved, and
        the target of the next, which ends at `end`, may have been evicted.  Before 6.17 nothing
        moves, and all of the target is evicted: `cut` is the start, `end` the end.
        """
        address, old_bytes, new_bytes, flags, target = args
        old, new = self._page(address), self._page(target)
        huge = self._is_huge(old)
        old_count, new_count = self._pages(old_bytes, huge=huge), self._pages(new_bytes, huge=huge)
        if new_count != old_count:
            evicted = (new, new + new_count)
            yield from _without(self._memory, evicted)
            if new_count < old_count:
                yield from _without(self._memory, evicted, (old + new_count, old + old_count))
            return
        old_end = old + old_count
        spans = [*((area.start, area.end) for area in self._memory.areas), *mapped]
        spans += [(start - new + old, end - new + old) for start, end in mapped]
        cuts = sorted({old, *(edge for span in spans for edge in span if old < edge < old_end)})
        for cut in cuts:
            moved = self._memory
            if cut > old:
                moved = self._memory.copy()
                moved.move(old, cut, new, bool(flags & _DONTUNMAP))
                yield moved
            for end in (*(edge for edge in cuts if edge > cut), old_end):
                yield from _without(moved, (cut + new - old, end + new - old))

    # Comparing and reporting.

    def _compare(self, contents: Mapping[int, int] | None, mapped: list[Span] | None) -> None:
        """Report where the implementation differs, and go on from what it holds."""
        memory = self._memory
        if mapped is not None and memory.mapped() != mapped:
            ours = memory.mapped()
            for start, end in (hole for span in ours for hole in _minus(span, mapped)):
                self._report("mapped", start, end - start, "a mapping", None)
                memory.unmap(start, end)
            for start, end in (hole for span in mapped for hole in _minus(span, ours)):
                self._report("mapped", start, end - start, None, "a mapping")
                memory.map(_Area(start, end, None))
        if contents is not None and memory.pages != contents:
            self._mismatches += _differences(memory.pages, contents)
            for area in memory.areas:
                if area.object is not None:
                    for page in {*memory.pages, *contents}:
                        if area.start <= page < area.end:
                            _put(area.object.tags, area.at(page), contents.get(page, 0))
            memory.pages = dict(contents)

    def _report(
        self, kind: str, start: int, count: int, expected: str | None, found: str | None
    ) -> None:
        self._mismatches.append(Mismatch(kind, start, count, expected, found))

    def _expect_address(self, expected: int, result: int) -> None:
        if result != expected & self._word_mask:
            self._report("address", self._page(result), 1, f"{expected:#x}", f"{result:#x}")

    def _expect_free(self, lo: int, hi: int) -> None:
        """Report mappings in [lo, hi), where a call placed something that may evict nothing."""
        if self._certain:
            for area in self._memory.inside(lo, hi):
                self._report(
                    "refusal", area.start, area.end - area.start, "a free place", "a mapping"
                )

    def _expect_mapped(self, lo: int, hi: int) -> None:
        """Report holes in [lo, hi), where a call succeeded that needs mappings."""
        if self._certain:
            for start, end in self._memory.holes(lo, hi):
                self._report("refusal", start, end - start, "an error: not mapped", "success")

    # Operands.

    def _page(self, address: int) -> int:
        return (address & self._word_mask) // self._page_bytes

    def _pages(self, length: int, *, huge: bool = False) -> int:
        """Pages of a length in bytes, rounded up as the machine does: it may wrap to 0."""
        unit = self._huge_bytes if huge else self._page_bytes
        return (round_up(length, unit) & self._word_mask) // self._page_bytes

    def _whole_huge(self, end: int) -> int:
        """Where a move of several mappings ends: the last one's huge pages go whole."""
        pages = self._huge_bytes // self._page_bytes
        return -(-end // pages) * pages if self._is_huge(end - 1) else end

    def _huge_spans(self) -> list[Span]:
        """Where huge pages lie: the pool may run out of them."""
        return [(area.start, area.end) for area in self._memory.areas if area.huge]

    def _is_huge(self, page: int) -> bool:
        """Do huge pages lie at `page`?"""
        return any(area.huge for area in self._memory.inside(page, page + 1))

    def _range(self, address: int, length: int) -> Span:
        """The pages that hold [address, address + length)."""
        start = self._page(address)
        return start, start + self._pages(address % self._page_bytes + length)


def _put(tags: dict[int, int], key: int, tag: int) -> None:
    """Set a tag; 0 removes it."""
    if tag:
        tags[key] = tag
    else:
        tags.pop(key, None)


def _without(memory: _Memory, *spans: Span) -> Iterator[_Memory]:
    """The same memory with ranges unmapped; nothing if they were not mapped anyway."""
    if any(memory.inside(*span) for span in spans):
        less = memory.copy()
        for span in spans:
            less.unmap(*span)
        yield less


def _minus(span: Span, taken: Iterable[Span]) -> list[Span]:
    """What is left of a range without others, which are disjoint and in order."""
    lo, hi = span
    left = []
    for start, end in taken:
        if start >= hi or lo >= hi:
            break
        if lo < start:
            left.append((lo, start))
        lo = max(lo, end)
    if lo < hi:
        left.append((lo, hi))
    return left


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Ranges in order, those that touch each other made one."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        elif start < end:
            joined.append((start, end))
    return joined


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
