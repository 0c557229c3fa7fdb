"""Every small program: some mappings, any set of their pages touched, then moves.

The mappings lie in a window of `pages` pages at the start of the arena, the last one of which is
mapped: what lies in a smaller window belongs to that.  Moves go anywhere in the window, or up to a
slot behind it, which is every offset in a slot that can be told apart there.  Left out is only what
does the same as a program that is there:

- the same a PUD higher or lower, as the window begins where a PUD does;
- mappings of a kind beside each other that are one VMA;
- mappings where huge pages are wanted but do not fit, and their pages one by one where they do;
- mappings made in another order;
- moves from where nothing was ever mapped, all of which the kernel refuses at first sight.

The stack that exec moves is a program of its own, without mappings, anywhere in a PUD, or as much
of it as there is time for where tables are large.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

from engine.base.geometry import Geometry
from engine.base.uapi import (
    MADV_HUGEPAGE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
    UFFDIO_REGISTER_MODE_WP,
)
from fuzz.calls.operand import FILES
from fuzz.calls.registry import call
from fuzz.case import Call, Case
from fuzz.exhaust.choices import Choose, every

PRIVATE, SHARED, FILE, WATCHED, HUGE = KINDS = "private", "shared", "file", "watched", "huge"
_FLAGS = {
    PRIVATE: MAP_PRIVATE | MAP_ANONYMOUS,
    SHARED: MAP_SHARED | MAP_ANONYMOUS,
    FILE: MAP_PRIVATE,  # of a file that ends with the window; what is touched is copied
    WATCHED: MAP_PRIVATE | MAP_ANONYMOUS,  # write-protected by a userfaultfd
    HUGE: MAP_PRIVATE | MAP_ANONYMOUS,  # with huge pages
}
_FILE = FILES["A"]
_STACK_PAGES = 64  # at most
_TO = MREMAP_MAYMOVE | MREMAP_FIXED


@dataclass(frozen=True, slots=True)
class Bound:
    """How small is small: at most `calls` calls that map or move, in a window of `pages` pages.

    At most `moves` of these calls move (None: all but one, which maps); `kinds` of memory that is
    mapped.
    """

    geometry: Geometry
    calls: int
    pages: int
    moves: int | None = None
    kinds: tuple[str, ...] = KINDS

    @property
    def slot(self) -> int:
        """Pages of what a PTE table maps."""
        return self.geometry.slot_bytes // self.geometry.page_bytes

    @property
    def stack_pages(self) -> int:
        """Pages of the window of a stack."""
        return min(self.geometry.pud_bytes // self.geometry.page_bytes, _STACK_PAGES)


class Mapping(NamedTuple):
    """Pages [start, end) of the window."""

    start: int
    end: int
    kind: str


class Layout(NamedTuple):
    """Mappings in the order of their addresses, and how many moves there are.

    Without mappings: a stack, which exec moves; `pages` are those of its window.
    """

    mappings: tuple[Mapping, ...]
    moves: int
    pages: int


def layouts(bound: Bound) -> Iterator[Layout]:
    """All layouts within the bound, the smaller ones first."""
    for pages in range(2, bound.stack_pages + 1):
        yield Layout((), 1, pages)
    for calls in range(2, bound.calls + 1):
        for pages in range(1, bound.pages + 1):
            for moves in range(1, min(calls, (bound.moves or calls) + 1)):
                yield from _of(bound, pages, calls - moves, moves)


def _of(bound: Bound, pages: int, count: int, moves: int) -> Iterator[Layout]:
    """Those of so many mappings, the last of which ends with the window."""
    if pages < count:
        return iter(())

    def layout(choose: Choose) -> Layout | None:
        mappings: list[Mapping] = []
        at = 0
        for left in range(count - 1, -1, -1):
            start = choose(range(at, pages - left))
            end = choose(range(start + 1, pages - left + 1)) if left else pages
            mapping = Mapping(start, end, choose(bound.kinds))
            if mappings and mappings[-1][1:] == (start, mapping.kind) and mapping.kind != SHARED:
                return None  # one VMA
            if mapping.kind == HUGE and len(_units(bound, mapping)) == end - start:
                return None  # no huge page fits
            mappings.append(mapping)
            at = end
        return Layout(tuple(mappings), moves, pages)

    return (one for one in every(layout) if one is not None)


def program(bound: Bound, layout: Layout, choose: Choose) -> Case:
    """A program of that layout."""
    page = bound.geometry.page_bytes
    if not layout.mappings:
        start = choose(range(1, layout.pages))
        shift = choose(range(1, start + 1))
        ends = (start * page, layout.pages * page, shift * page)
        return Case((call("execve_stack", *ends),))
    calls: list[Call] = []
    if any(mapping.kind == FILE for mapping in layout.mappings):
        calls.append(call("file", _FILE, layout.pages * page))
    for mapping in layout.mappings:
        calls += _mapped(mapping, page)
    for mapping in layout.mappings:
        units = _units(bound, mapping)
        calls += _touched(units, choose(range(1 << len(units))), page)
        if mapping.kind == WATCHED:
            calls.append(call("uffd_wp", *_bytes(mapping, page), 1))
    return Case((*calls, *_moves(bound, layout, choose)))


def _bytes(mapping: Mapping, page: int) -> tuple[int, int]:
    """Address and length of a mapping."""
    return mapping.start * page, (mapping.end - mapping.start) * page


def _mapped(mapping: Mapping, page: int) -> Iterator[Call]:
    """The calls that make a mapping, but for what has to come after its pages."""
    place, kind = _bytes(mapping, page), mapping.kind
    behind = (_FILE, place[0]) if kind == FILE else (-1, 0)
    yield call("mmap", *place, PROT_READ | PROT_WRITE, _FLAGS[kind] | MAP_FIXED, *behind)
    if kind == WATCHED:
        yield call("uffd_register", *place, UFFDIO_REGISTER_MODE_WP)
    elif kind == HUGE:
        yield call("madvise", *place, MADV_HUGEPAGE)


def _units(bound: Bound, mapping: Mapping) -> list[range]:
    """What can be touched or not: pages, and slots where a huge page comes with the first touch."""
    units, at = list[range](), mapping.start
    while at < mapping.end:
        whole = mapping.kind == HUGE and not at % bound.slot and at + bound.slot <= mapping.end
        units.append(range(at, at + (bound.slot if whole else 1)))
        at = units[-1].stop
    return units


def programs(bound: Bound, layout: Layout, part: int = 0, of: int = 1) -> Iterator[Case]:
    """All programs of a layout, or one of its `parts`."""
    return every(partial(program, bound, layout), part, of)


def parts(bound: Bound, layout: Layout) -> int:
    """Into how many parts, all of the same size but for a stack's, its programs divide."""
    if layout.mappings:
        return 1 << len(_units(bound, layout.mappings[0]))
    return layout.pages - 1  # a stack needs room below


def size(bound: Bound, layout: Layout) -> int:
    """How many programs a layout has."""
    if not layout.mappings:
        return sum(range(layout.pages))
    touched = 1 << sum(len(_units(bound, mapping)) for mapping in layout.mappings)
    return touched * _ways(bound, layout.pages, frozenset(_mapped_pages(layout)), layout.moves)


@cache
def _ways(bound: Bound, pages: int, mapped: frozenset[int], moves: int) -> int:
    """In how many ways so many moves can follow each other, from where these pages are mapped."""
    if not moves:
        return 1

    def behind(choose: Choose) -> frozenset[int]:
        """What has been mapped behind a move."""
        after = set(mapped)
        _move(bound, pages, after, choose)
        return frozenset(after)

    return sum(
        number * _ways(bound, pages, after, moves - 1)
        for after, number in Counter(every(behind)).items()
    )


def _touched(units: Sequence[range], some: int, page: int) -> Iterator[Call]:
    """Touch a set of units, a call for those beside each other; bit 0 is the first one."""
    touched = [unit for number, unit in enumerate(units) if some >> number & 1]
    while touched:
        start = end = touched[0].start
        while touched and touched[0].start == end:
            end = touched.pop(0).stop
        yield call("touch", start * page, (end - start) * page)


def _mapped_pages(layout: Layout) -> set[int]:
    return {number for start, end, _ in layout.mappings for number in range(start, end)}


def _moves(bound: Bound, layout: Layout, choose: Choose) -> tuple[Call, ...]:
    mapped = _mapped_pages(layout)
    return tuple([_move(bound, layout.pages, mapped, choose) for _ in range(layout.moves)])


def _move(bound: Bound, pages: int, mapped: set[int], choose: Choose) -> Call:
    """A move from where something has been mapped; where it goes to is added to that."""
    page = bound.geometry.page_bytes
    start = choose(sorted(mapped))
    most = max(max(mapped) + 1, pages) - start
    old = choose(range(most + 1))
    how = choose(
        (_TO, _TO | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE, 0)
        if old
        else (_TO, MREMAP_MAYMOVE)  # a second mapping of what is shared
    )
    resizes = not old or not how & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    new = choose(range(1, most + 1)) if resizes else old
    target = choose(range(pages + bound.slot)) if how & MREMAP_FIXED else 0
    if how & MREMAP_FIXED:
        mapped |= set(range(target, target + new))
    else:
        mapped |= set(range(start, start + new))
    return call("mremap", start * page, old * page, new * page, how, target * page)
